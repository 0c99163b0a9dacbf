"""Backbones, heads, tasks and losses; importing the package registers them."""

from mtl_plugins.models import (
    backbones,
    class_attention,
    data_preprocessors,
    decode_heads,
    dino,
    losses,
    necks,
    segmentors,
    tasks,
    test_time_augs,
)
