"""Tiny data sets of other kinds: plain folders, crops of objects, and COCO's annotations."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CLASSES = ['floor', 'wall', 'chair', 'table', 'lamp']
LABELS = dict(
    semseg=dict(type='ClassMap', classes=CLASSES),
    depth=dict(type='DepthMap', encoding='metres', scale=0.001, depth_range=[0.5, 10]),
)
CROP_CLASSES = ('across', 'along', 'blob')
CATEGORIES = {1: 'person', 2: 'bicycle', 3: 'car', 17: 'cat', 18: 'dog', 62: 'chair'}


def write_fake_folders(
    root: str | Path, splits: Mapping[str, int] | None = None, size: tuple[int, int] = (48, 80), seed: int = 0
) -> Path:
    """Write ``images``, ``annotations`` and ``depth`` with ``<split>/room-<number>``, and ``dataset.json``; return ``root``.

    There are five classes, and depth in 16-bit millimetres.
    """
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


def make_crop(rng: np.random.Generator, label: int, size: int = 32) -> np.ndarray:
    """``(size, size, 3)`` uint8 RGB of random colours and phase; a class is a texture: stripes across, stripes along, blobs."""
    y, x = np.mgrid[:size, :size] / size
    phase = rng.uniform(0, 2 * np.pi)
    wave = (np.sin(25 * y + phase), np.sin(25 * x + phase), np.cos(9 * np.hypot(x - 0.5, y - 0.5) + phase / 4))[label]
    dark, bright = rng.uniform(0, 110, 3), rng.uniform(145, 255, 3)
    return (dark + (bright - dark) * (wave[..., None] + 1) / 2 + rng.normal(0, 6, (size, size, 3))).clip(0, 255).astype(np.uint8)


def write_fake_crops(root: Path, train: int = 12, val: int = 6) -> Path:
    """``<root>/crops/<split>/<class>/<number>.jpg``, so many of each class."""
    rng = np.random.default_rng(0)
    for split, count in dict(train=train, val=val).items():
        for label, name in enumerate(CROP_CLASSES):
            folder = root / 'crops' / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(make_crop(rng, label)).save(folder / f'{number}.jpg', quality=95)
    return root


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def annotation(category_id: int, segmentation, image_id: int = 1, iscrowd: int = 0, bbox=(0, 0, 8, 8), **entries) -> dict:
    return dict(
        image_id=image_id, category_id=category_id, segmentation=segmentation, iscrowd=iscrowd, bbox=list(bbox), area=1, **entries
    )


def write_fake_coco(
    root: Path, annotations: Sequence[dict], sizes: Sequence[tuple[int, int]] = ((24, 32),), split: str = 'train'
) -> Path:
    """Images of random pixels, with ids from 1, and the given annotations, whose ids are 101, 102, ...; return ``root``."""
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    (root / split).mkdir()
    images = []
    for number, (height, width) in enumerate(sizes, 1):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / split / f'{number:012d}.jpg', quality=95)
        images.append(dict(id=number, file_name=f'{number:012d}.jpg', height=height, width=width))
    content = dict(
        images=images,
        annotations=[dict(id=101 + k, **entry) for k, entry in enumerate(annotations)],
        categories=[dict(id=id_, name=name, supercategory='') for id_, name in CATEGORIES.items()],
    )
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return root
