"""Trained models on one's own images: where the images come from, what runs the model, what is made of its predictions."""

from mtl_plugins.apis.inference.inferencer import MultiTaskInferencer
from mtl_plugins.apis.inference.prediction import Prediction
from mtl_plugins.deployment import Runtime

__all__ = ['MultiTaskInferencer', 'Prediction', 'Runtime']
