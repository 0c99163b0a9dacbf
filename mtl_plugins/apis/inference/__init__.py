"""Trained models on your own images: sources of images, the inferencer, and files of its predictions."""

from mtl_plugins.apis.inference.inferencer import MultiTaskInferencer, Prediction
from mtl_plugins.deployment import Runtime

__all__ = ['MultiTaskInferencer', 'Prediction', 'Runtime']
