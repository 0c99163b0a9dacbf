"""Scores of the training split next to those of the validation."""

import copy

import numpy as np
import torch
from mmengine.hooks import Hook

from mtl_plugins.engine.prediction_tap import ValidationLosses, compares_predictions
from mtl_plugins.engine.state import is_training
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class TrainingScoresHook(Hook):
    """Score a fixed part of the training split with every validation: the same losses and scores, named ``train/...``.

    ``train/loss`` is to ``val/loss`` what ``train/metrics_summary/semseg`` is to ``metrics_summary/semseg``: evenly chosen
    training images, seen through the pipeline of the validation by the model that was just validated. The training takes the same
    steps as without the hook.

    Args:
        num_images: Training images at most; None for all.

    Raises:
        ArgumentError: If ``num_images`` is below 1.
        ConfigError: At the first validation, if the training split is no list of samples with a pipeline.
    """

    # Before the hooks that log metrics and write `metrics.csv`.
    priority = 'HIGHEST'

    def __init__(self, *, num_images: int | None = 250) -> None:
        if num_images is not None and num_images < 1:
            raise ArgumentError(f'`num_images` of TrainingScoresHook should be at least 1. Found {num_images}.')
        self.num_images = num_images
        self._loader = None

    def _build(self, runner) -> None:
        dataset = runner.train_dataloader.dataset
        if not hasattr(dataset, 'pipeline') or not hasattr(dataset, 'get_subset'):
            raise ConfigError(
                f'TrainingScoresHook needs a training split with a pipeline and `get_subset`. Found {type(dataset).__name__}: '
                'set `default_hooks.training_scores=None`.'
            )
        dataset = copy.copy(dataset)
        dataset.pipeline, dataset.test_mode = runner.val_dataloader.dataset.pipeline, True
        if self.num_images is not None and self.num_images < len(dataset):
            dataset = dataset.get_subset(np.linspace(0, len(dataset) - 1, self.num_images).round().astype(int).tolist())
        self._loader = runner.build_dataloader({**runner.cfg.val_dataloader, 'dataset': dataset}, runner.seed)
        self._evaluator = runner.build_evaluator(runner.cfg.val_evaluator)
        self._evaluator.dataset_meta = dataset.metainfo

    @torch.no_grad()
    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if not is_training(runner):
            return
        if self._loader is None:
            self._build(runner)
        model = getattr(runner.val_loop, 'inference_model', None) or runner.model
        losses = ValidationLosses(model) if compares_predictions(model) else None
        with torch.autocast(next(model.parameters()).device.type, enabled=getattr(runner.val_loop, 'fp16', False)):
            for batch in self._loader:
                self._evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
        scores = self._evaluator.evaluate(len(self._loader.dataset))
        scores |= {name.removeprefix('val/'): value for name, value in (losses.means() if losses else {}).items()}
        metrics.update({f'train/{name}': value for name, value in scores.items()})
