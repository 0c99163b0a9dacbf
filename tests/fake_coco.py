"""A COCO folder with annotations written by hand, for tests."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = {1: 'person', 2: 'bicycle', 3: 'car', 17: 'cat', 18: 'dog', 62: 'chair'}


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
