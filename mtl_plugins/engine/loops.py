"""Validation and test with BatchNorm folded into the convolutions."""

import torch
from mmengine.runner import TestLoop, ValLoop

from mtl_plugins.datasets.loading.samplers import refuse_endless
from mtl_plugins.engine.prediction_tap import PredictionTap
from mtl_plugins.engine.state import unwrap
from mtl_plugins.engine.validation_losses import ValidationLosses
from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.utils.inference import prepare_for_inference
from mtl_plugins.registry import LOOPS, MODELS


class _InferenceCopy:
    """Runs each iteration with a frozen, folded copy of the model, made at the first one (after the hooks that swap weights)."""

    def __init__(self, *, dtype: str, **kwargs) -> None:
        super().__init__(**kwargs)
        if dtype not in ('float32', 'bfloat16', 'float16'):
            raise ArgumentError(f"`dtype` should be 'float32', 'bfloat16' or 'float16'. Found {dtype!r}.")
        refuse_endless(self.dataloader, type(self).__name__, '`EpochSampler(shuffle=False)`')
        self.dtype = getattr(torch, dtype)
        self._copy: torch.nn.Module | None = None

    @property
    def inference_model(self) -> torch.nn.Module | None:
        """The copy, from the first batch to the end of the hooks after the last one."""
        return self._copy

    def run(self) -> dict:
        try:
            return super().run()
        finally:
            self._copy = None

    def make_copy(self, model: torch.nn.Module) -> torch.nn.Module:
        return prepare_for_inference(model, dtype=self.dtype)

    def begin(self) -> None:
        """Called when the copy is made."""

    def run_iter(self, idx: int, data_batch: dict) -> None:
        model = self.runner.model
        if self._copy is None:
            self._copy = self.make_copy(unwrap(model))
            self.begin()
        self.runner.model = self._copy
        try:
            super().run_iter(idx, data_batch)
        finally:
            self.runner.model = model


@LOOPS.register_module()
class InferenceValLoop(_InferenceCopy, ValLoop):
    """mmengine's ``ValLoop`` on an inference copy of the model, with the losses of the validation split beside its scores.

    The losses, ``val/loss`` and ``val/<task>/loss_<name>``, are computed from the predictions, see :class:`ValidationLosses`.
    Models with losses of their own, :class:`MMSegSegmentor` and :class:`ClassConditionalSegmentor`, have none here.

    Args:
        runner: The runner.
        dataloader: A data loader or its config.
        evaluator: An evaluator or its config.
        dtype: Precision of the weights; ``'float32'`` gives the model's own predictions to rounding.
        losses: Whether to compute the losses.
    """

    def __init__(self, runner, dataloader, evaluator, dtype: str = 'float32', losses: bool = True) -> None:
        super().__init__(runner=runner, dataloader=dataloader, evaluator=evaluator, dtype=dtype)
        self.losses = losses
        self._losses: ValidationLosses | None = None

    def begin(self) -> None:
        if self.losses and PredictionTap.fits(self._copy):
            self._losses = ValidationLosses(self._copy)

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
            self._copy = self._losses = None


@LOOPS.register_module()
class InferenceTestLoop(_InferenceCopy, TestLoop):
    """mmengine's ``TestLoop`` on an inference copy of the model, with or without test-time augmentation.

    Args:
        runner: The runner.
        dataloader: A data loader or its config.
        evaluator: An evaluator or its config.
        dtype: As in :class:`InferenceValLoop`.
        tta_model: Config of :class:`MultiTaskTTAModel` without ``model``; None predicts each image once.
    """

    def __init__(self, runner, dataloader, evaluator, dtype: str = 'float32', tta_model: dict | None = None) -> None:
        super().__init__(runner=runner, dataloader=dataloader, evaluator=evaluator, dtype=dtype)
        self.tta_model = tta_model

    def make_copy(self, model: torch.nn.Module) -> torch.nn.Module:
        copy = super().make_copy(model)
        if self.tta_model is None:
            return copy
        augmented = MODELS.build({**self.tta_model, 'model': copy})
        self.runner.logger.info(f'Test-time augmentation: {augmented.describe()}')
        return augmented
