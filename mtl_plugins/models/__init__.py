"""Backbones, heads, tasks and losses; importing the package registers them."""

from mtl_plugins.models import (
    backbones,
    data_preprocessors,
    decode_heads,
    losses,
    necks,
    segmentors,
    self_supervised,
    tasks,
    test_time_augs,
)

__all__ = [
    'backbones',
    'data_preprocessors',
    'decode_heads',
    'losses',
    'necks',
    'segmentors',
    'self_supervised',
    'tasks',
    'test_time_augs',
]
