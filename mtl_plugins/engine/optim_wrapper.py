"""The optimizer step with a watch on its gradients, and parameters of equal settings in one group."""

import contextlib
import logging
from collections.abc import Iterator

import torch
from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import nn

from mtl_plugins.errors import check_choice
from mtl_plugins.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_OptimWrapper):
    """mmengine's ``OptimWrapper`` that leaves the norm of the gradients of each step where hooks find it: on the device.

    A norm that is NaN or infinite, after clipping by value and before clipping by norm, means broken gradients:

    * ``'stop'``: :class:`IntervalRuntimeInfoHook` reads the norms together with the losses, ends the run, and lets no checkpoint
      be written after such a step. The step costs no synchronisation.
    * ``'skip'``: neither weights nor the optimizer's state change. Fused optimizers (``optimizer.fused=True``) decide that on
      the device; for others the norm is read in every step. A loss that is not finite still ends the run.

    Args:
        non_finite: ``'stop'`` or ``'skip'``.
    """

    def __init__(self, *args, non_finite: str = 'stop', **kwargs) -> None:
        check_choice('non_finite', non_finite, ('stop', 'skip'))
        super().__init__(*args, **kwargs)
        self.non_finite = non_finite
        self.last_norm: torch.Tensor | None = None

    def step(self, **kwargs) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if not parameters:
            return self.optimizer.step(**kwargs)
        norm = self.clip_func(parameters, **self.clip_grad_kwargs) if self.clip_grad_kwargs is not None else None
        if self.clip_grad_kwargs is None or self.clip_func is not torch.nn.utils.clip_grad_norm_:
            norm = torch.stack(torch._foreach_norm([parameter.grad for parameter in parameters])).norm()
        self.last_norm = norm.detach()
        if self.non_finite == 'stop':
            self.optimizer.step(**kwargs)
        elif getattr(self.optimizer, '_step_supports_amp_scaling', False):
            # The protocol by which torch's GradScaler tells fused optimizers to leave everything as it is.
            self.optimizer.grad_scale = None
            self.optimizer.found_inf = (~norm.isfinite()).float()
            try:
                self.optimizer.step(**kwargs)
            finally:
                del self.optimizer.grad_scale, self.optimizer.found_inf
        elif norm.isfinite():
            self.optimizer.step(**kwargs)


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """The :class:`OptimWrapper` whose forward pass runs under bfloat16 autocast, on a GPU or a CPU.

    bfloat16 has the range of float32, so that gradients need no scaling. mmengine's ``AmpOptimWrapper`` refuses CPUs.
    """

    @contextlib.contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        device_type = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device_type, dtype=torch.bfloat16):
            yield


def _is_relevant(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not (message.startswith('paramwise_options') or 'since its requires_grad=False' in message)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with the same ``paramwise_cfg``, whose parameters of equal settings share a group.

    Optimizers then update them together. Parameters without gradient, such as a teacher's, are left out without a word.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        logger = MMLogger.get_current_instance()
        logger.addFilter(_is_relevant)
        try:
            return super().__call__(model)
        finally:
            logger.removeFilter(_is_relevant)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module: int | float | None = None
    ) -> None:
        super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)
        if prefix:
            return  # within the recursion
        groups: dict[tuple, dict] = {}
        for group in params:
            settings = {name: value for name, value in group.items() if name != 'params'}
            merged = groups.setdefault(tuple(sorted(settings.items())), {'params': [], **settings})
            merged['params'] += group['params']
        params[:] = groups.values()
