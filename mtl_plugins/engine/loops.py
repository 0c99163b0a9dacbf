"""Loops: training by epochs, and validation and test with BatchNorm folded into the convolutions."""

import math
from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import TestLoop, ValLoop

from mtl_plugins.datasets.loading.samplers import refuse_endless
from mtl_plugins.engine.prediction_tap import ValidationLosses, compares_predictions
from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.evaluation.scores import reaches
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import LOOPS, MODELS


@LOOPS.register_module()
class EpochBasedTrainLoop(MMEngineEpochBasedTrainLoop):
    """mmengine's loop of this name, with its arguments, that a checkpoint from the middle of an epoch continues.

    Args:
        val_iters: Validate after every so many iterations of the training instead of after epochs.
        stop_at: With ``val_iters``, the scores by name, as ``{'metrics_summary/semseg': 30.0}``, at which the training ends: when
            one validation has reached all of them.

    Raises:
        ArgumentError: If ``val_iters`` is less than 1, or ``stop_at`` is without it or holds something else than numbers.

    Attributes:
        first_batch: Batches of the next epoch that are already done; a sampler without ``skip`` has them loaded and dropped.
    """

    first_batch = 0

    def __init__(
        self,
        runner,
        dataloader,
        max_epochs: int,
        *,
        val_iters: int | None = None,
        stop_at: Mapping[str, float] | None = None,
        **kwargs,
    ) -> None:
        if val_iters is not None and val_iters < 1:
            raise ArgumentError(f'`val_iters` should be at least 1. Found {val_iters}.')
        counting_epochs = [name for name, value in kwargs.items() if value not in (1, None)]
        if val_iters is not None and counting_epochs:
            raise ArgumentError(f'`val_iters` cannot be combined with `{counting_epochs[0]}`, which counts epochs.')
        if stop_at and val_iters is None:
            raise ArgumentError('`stop_at` needs `val_iters`, the iterations between validations.')
        for name, value in (stop_at or {}).items():
            if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value):
                raise ArgumentError(f'`stop_at` should give a number for {name}. Found {value!r}.')
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        refuse_endless(self.dataloader, 'A training by epochs', '`EpochSampler`, or be one by iterations (`train_cfg.max_iters`)')
        self.val_iters = val_iters
        self.stop_at = dict(stop_at or {})
        if val_iters is not None:
            self.val_begin = max_epochs + 1

    def has_reached(self, metrics: Mapping[str, float]) -> bool:
        rules: dict[str, str | None] = {}
        for metric in self.runner.val_loop.evaluator.metrics:
            rules |= metric.score_rules() if hasattr(metric, 'score_rules') else {}
        return bool(self.stop_at) and reaches(metrics, self.stop_at, rules)

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self.first_batch = self.first_batch, 0
        for index, batch in enumerate(self._batches_from(first), first):
            self.run_iter(index, batch)
            if self.val_iters is not None and self._iter % self.val_iters == 0:
                metrics = self.runner.val_loop.run()
                self.runner.model.train()
                self.stop_training |= self.has_reached(metrics)
                if self.stop_training:
                    return
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_from(self, first: int) -> Iterator[dict]:
        sampler = self.dataloader.sampler
        if self.dataloader.batch_size is not None and hasattr(sampler, 'skip'):
            sampler.skip(first * self.dataloader.batch_size)
            return iter(self.dataloader)
        return islice(self.dataloader, first, None)


class _InferenceCopy:
    """Run each iteration with a frozen, folded copy of the model, made at the first one, after the hooks that swap weights."""

    def __init__(self, *, dtype: str = 'float32', **kwargs) -> None:
        super().__init__(**kwargs)
        check_choice('dtype', dtype, ('float32', 'bfloat16', 'float16'))
        refuse_endless(self.dataloader, type(self).__name__, '`EpochSampler(shuffle=False)`')
        self.dtype = getattr(torch, dtype)
        # The copy, from the first batch to the end of the hooks after the last one.
        self.inference_model: torch.nn.Module | None = None

    def run(self) -> dict:
        try:
            return super().run()
        finally:
            self.inference_model = None

    def make_copy(self, model: torch.nn.Module) -> torch.nn.Module:
        return prepare_for_inference(model, dtype=self.dtype)

    def run_iter(self, idx: int, data_batch: dict) -> None:
        model = self.runner.model
        if self.inference_model is None:
            self.inference_model = self.make_copy(unwrap(model))
        self.runner.model = self.inference_model
        try:
            super().run_iter(idx, data_batch)
        finally:
            self.runner.model = model


@LOOPS.register_module()
class InferenceValLoop(_InferenceCopy, ValLoop):
    """mmengine's ``ValLoop`` on an inference copy of the model, with the losses of the validation split next to its scores.

    The losses, ``val/loss`` and ``val/<task>/loss_<name>``, are those of :class:`MultiTaskSegmentor`; models with losses of their
    own have none here.

    Args:
        dtype: Precision of the weights; ``'float32'`` gives the model's own predictions to rounding.
    """

    _losses: ValidationLosses | None = None

    def make_copy(self, model: torch.nn.Module) -> torch.nn.Module:
        copy = super().make_copy(model)
        if compares_predictions(copy):
            self._losses = ValidationLosses(copy)
        return copy

    def run(self) -> dict:
        runner = self.runner
        try:
            runner.call_hook('before_val')
            runner.call_hook('before_val_epoch')
            runner.model.eval()
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
            metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
            if self._losses is not None:
                metrics.update(self._losses.means())
            runner.call_hook('after_val_epoch', metrics=metrics)
            runner.call_hook('after_val')
            return metrics
        finally:
            self.inference_model = self._losses = None


@LOOPS.register_module()
class InferenceTestLoop(_InferenceCopy, TestLoop):
    """mmengine's ``TestLoop``, with its arguments, on an inference copy of the model, with or without test-time augmentation.

    Args:
        dtype: As in :class:`InferenceValLoop`.
        tta_model: Config of :class:`MultiTaskTTAModel` without ``model``; None predicts each image once.
    """

    def __init__(self, *, tta_model: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.tta_model = tta_model

    def make_copy(self, model: torch.nn.Module) -> torch.nn.Module:
        copy = super().make_copy(model)
        if self.tta_model is None:
            return copy
        augmented = MODELS.build({**self.tta_model, 'model': copy})
        self.runner.logger.info(f'Test-time augmentation: {augmented.describe()}')
        return augmented
