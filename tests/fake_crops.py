"""A folder of object crops whose classes differ by texture: stripes across, stripes along, blobs."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ('across', 'along', 'blob')


def make_crop(rng: np.random.Generator, label: int, size: int = 32) -> np.ndarray:
    """``(size, size, 3)`` uint8 RGB of random colours and phase."""
    y, x = np.mgrid[:size, :size] / size
    phase = rng.uniform(0, 2 * np.pi)
    wave = (np.sin(25 * y + phase), np.sin(25 * x + phase), np.cos(9 * np.hypot(x - 0.5, y - 0.5) + phase / 4))[label]
    dark, bright = rng.uniform(0, 110, 3), rng.uniform(145, 255, 3)
    return (dark + (bright - dark) * (wave[..., None] + 1) / 2 + rng.normal(0, 6, (size, size, 3))).clip(0, 255).astype(np.uint8)


def write_fake_crops(root: Path, train: int = 12, val: int = 6) -> Path:
    """``<root>/crops/<split>/<class>/<number>.jpg``, so many of each class."""
    rng = np.random.default_rng(0)
    for split, count in dict(train=train, val=val).items():
        for label, name in enumerate(CLASSES):
            folder = root / 'crops' / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(make_crop(rng, label)).save(folder / f'{number}.jpg', quality=95)
    return root
