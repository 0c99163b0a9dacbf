"""Trained models in files that other programs run: writing them, running them, and proof that both compute the same."""

from mtl_plugins.deployment.exported_runtimes import load_runtime
from mtl_plugins.deployment.runtime import Runtime

__all__ = ['Runtime', 'load_runtime']
