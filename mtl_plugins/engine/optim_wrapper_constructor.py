"""Parameter-wise settings without a group, and a line of log, per parameter."""

import logging

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mtl_plugins.registry import OPTIM_WRAPPER_CONSTRUCTORS


def _is_relevant(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not (message.startswith('paramwise_options') or 'since its requires_grad=False' in message)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with the same ``paramwise_cfg``, whose parameters of equal settings share a group.

    Optimizers then update them together. Parameters without gradient are left out, and nothing is said of that: a teacher is
    nothing but them.
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
