"""A tiny MiniScapes data set of random content in the real format, for tests."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.cityscapes_classes import PALETTE
from mtl_plugins.labels.presets import MINISCAPES_LABELS, MINISCAPES_TASKS, build_labels

LABELS = build_labels(MINISCAPES_LABELS, MINISCAPES_TASKS)


def _random_blocks(rng: np.random.Generator, values: np.ndarray, size: tuple[int, int], block: int = 8) -> np.ndarray:
    """A ``size`` map of constant ``block`` x ``block`` tiles, so that neighbouring pixels mostly agree as in a real label."""
    height, width = size
    tiles = rng.choice(values, size=(-(-height // block), -(-width // block)))
    return tiles.repeat(block, 0).repeat(block, 1)[:height, :width].astype(np.uint8)


def save_label(path: Path, label: np.ndarray, mode: str = 'P') -> None:
    """Write class ids as a palette (``'P'``) or grey (``'L'``) PNG."""
    image = Image.fromarray(label)
    if mode == 'P':
        image.putpalette(np.array(PALETTE, dtype=np.uint8).tobytes())
    image.save(path)


def write_fake_miniscapes(
    root: str | Path, splits: Mapping[str, int] | None = None, size: tuple[int, int] = (64, 96), seed: int = 0
) -> Path:
    """Write random images, labels (even indices as 'P', odd ones as 'L') and depth codes; return ``root``.

    The split ``test`` gets images only, its labels go to ``root/grader/test/{semseg,depth}``. Same seed, same files.
    """
    root = Path(root)
    splits = dict(train=4, val=2, test=2) if splits is None else splits
    for split_id, (split, count) in enumerate(splits.items()):
        label_root = root / 'grader' / split if split == 'test' else root / split
        (root / split / 'rgb').mkdir(parents=True, exist_ok=True)
        for folder in ('semseg', 'depth'):
            (label_root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            rng = np.random.default_rng([seed, split_id, index])
            label = _random_blocks(rng, np.array([*range(19), IGNORE_LABEL]), size)
            depth = _random_blocks(rng, np.arange(256), size)
            colours = np.vstack([np.array(PALETTE, dtype=np.uint8), np.zeros((256 - len(PALETTE), 3), np.uint8)])
            noise = rng.integers(0, 40, size=(*size, 3))
            image = (colours[label] * 0.8 + noise).astype(np.uint8)
            Image.fromarray(image).save(root / split / 'rgb' / f'{index}.jpg', quality=90)
            save_label(label_root / 'semseg' / f'{index}.png', label, 'L' if index % 2 else 'P')
            Image.fromarray(depth).save(label_root / 'depth' / f'{index}.png')
    return root
