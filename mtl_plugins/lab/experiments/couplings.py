"""Values that stand for several entries of a config: ``function(value, config)`` gives overrides by dotted key."""

import functools
from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from mtl_plugins.errors import ArgumentError


def batch_size_with_epochs(value: int, config: Config) -> dict[str, Any]:
    """The batch size, with epochs in proportion, so that the number of steps stays that of ``config``.

    The schedulers that count epochs and end with the training end with it again.

    Raises:
        ArgumentError: If the config counts iterations, or the epochs would not be whole.
    """
    epochs = config.train_cfg.get('max_epochs')
    if epochs is None:
        raise ArgumentError('`train_cfg` should count epochs for batch_size_with_epochs. Found iterations.')
    scaled, rest = divmod(epochs * value, config.train_dataloader.batch_size)
    if rest or scaled < 1:
        raise ArgumentError(
            f'`train_dataloader.batch_size` should give whole epochs, {epochs} being those of batch '
            f'{config.train_dataloader.batch_size}. Found {value}.'
        )
    ends = {
        f'param_scheduler.{index}.end': scaled
        for index, scheduler in enumerate(config.param_scheduler)
        if scheduler.get('by_epoch', True) and scheduler.get('end') == epochs
    }
    interval = max(1, config.train_cfg.get('val_interval', 1) * scaled // epochs)
    return {
        'train_dataloader.batch_size': value,
        'train_cfg.max_epochs': scaled,
        'train_cfg.val_interval': interval,
        **ends,
    }


def task_weight(task: str, value: float, config: Config) -> dict[str, Any]:
    """The weight of one task in the loss; the others share the rest of 1 equally."""
    place = 'model.task_balancing.weights'
    others = [name for name in config.model.tasks if name != task]
    return {f'{place}.{task}': value, **{f'{place}.{name}': round((1 - value) / len(others), 12) for name in others}}


def couplings_of(config: Config) -> dict[str, Callable[[Any, Config], dict[str, Any]]]:
    """The functions by the names that sweeps call them: :func:`task_weight` is ``<task>_weight`` for each task of the model."""
    tasks = config.model.get('tasks') or {}
    weights = {f'{task}_weight': functools.partial(task_weight, task) for task in tasks} if len(tasks) > 1 else {}
    return dict(batch_size_with_epochs=batch_size_with_epochs, **weights)
