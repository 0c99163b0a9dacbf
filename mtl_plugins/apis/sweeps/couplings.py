"""Values that stand for several entries of a config: ``function(value, config)`` gives overrides by dotted key."""

from typing import Any

from mmengine.config import Config


def batch_size_with_epochs(value: int, config: Config) -> dict[str, Any]:
    """The batch size, with epochs in proportion, so that the number of steps stays that of ``config``.

    The schedulers that count epochs and end with the training end with it again.

    Raises:
        ValueError: If the config counts iterations, or the epochs would not be whole.
    """
    epochs = config.train_cfg.get('max_epochs')
    if epochs is None:
        raise ValueError('`train_cfg` should count epochs for batch_size_with_epochs. Found iterations.')
    scaled, rest = divmod(epochs * value, config.train_dataloader.batch_size)
    if rest or scaled < 1:
        raise ValueError(
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


def semseg_weight(value: float, config: Config) -> dict[str, Any]:
    """The weight of segmentation in the loss; depth gets the rest of 1."""
    place = 'model.task_balancing.weights'
    return {f'{place}.semseg': value, f'{place}.depth': round(1 - value, 12)}
