"""Trained models in files that other programs run: writing them, running them, and proof that both compute the same."""

from mtl_plugins.deployment.runtimes import Runtime, load_runtime

__all__ = ['Runtime', 'load_runtime']
