"""A tiny data set in plain folders as users of mmseg have them: five classes, depth in 16-bit millimetres."""

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CLASSES = ['floor', 'wall', 'chair', 'table', 'lamp']
LABELS = dict(
    semseg=dict(type='ClassMap', classes=CLASSES),
    depth=dict(type='DepthMap', encoding='metres', scale=0.001, depth_range=[0.5, 10]),
)


def write_fake_folders(
    root: str | Path, splits: Mapping[str, int] | None = None, size: tuple[int, int] = (48, 80), seed: int = 0
) -> Path:
    """Write ``images``, ``annotations`` and ``depth`` with ``<split>/room-<number>``, and ``dataset.json``; return ``root``."""
    root = Path(root)
    for split_id, (split, count) in enumerate((dict(train=3, val=2) if splits is None else splits).items()):
        for folder in ('images', 'annotations', 'depth'):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([seed, split_id, index])
            name = f'{split}/room-{index}'
            blocks = rng.choice([0, 1, 2, 3, 4, 255], size=(size[0] // 8, size[1] // 8)).astype(np.uint8)
            Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(root / 'annotations' / f'{name}.png')
            millimetres = rng.integers(500, 10_001, size=size).astype(np.uint16)
            # Nothing measured, too near, the ends of the range, too far.
            millimetres[:6] = rng.choice([0, 300, 500, 10_000, 20_000], size=(6, size[1]))
            cv2.imwrite(str(root / 'depth' / f'{name}.png'), millimetres)
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / 'images' / f'{name}.jpg')
    (root / 'dataset.json').write_text(json.dumps(dict(labels=LABELS)))
    return root
