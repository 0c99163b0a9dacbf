"""Tiny data sets of random content in the layouts of the official downloads."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

# Cityscapes' published table: class by id, what is not evaluated left out.
TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16,
    32: 17, 33: 18,
}  # fmt: skip
BASELINE, FOCAL = 0.209313, 2262.52
FRAMES = dict(
    train=('aachen/aachen_000000_000019', 'aachen/aachen_000001_000019', 'ulm/ulm_000000_000019', 'ulm/ulm_000002_000019'),
    val=('lindau/lindau_000000_000019', 'munster/munster_000003_000019'),
    test=('berlin/berlin_000000_000019',),
)


def expect(error, *words):
    """One sentence that names everything in ``words``."""
    return pytest.raises(error, match='.*'.join(re.escape(str(word)) for word in words))


def save_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """PIL turns an array as it would turn a picture."""
    image = Image.fromarray(array)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def with_orientation(path: Path, orientation: int) -> np.ndarray:
    """Make a file claim an orientation; its pixels stay. Gives the upright picture by PIL."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).copy().save(path, exif=exif, quality=95)
    return np.asarray(ImageOps.exif_transpose(Image.open(path)))


def save_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def random_image(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def write_cityscapes(root: Path, size: tuple[int, int] = (32, 64)) -> Path:
    """The four official folders; the test split has labels that say nothing, and depth like the others."""
    rng = np.random.default_rng(0)
    for split, stems in FRAMES.items():
        for stem in stems:
            save_png(root / f'leftImg8bit/{split}/{stem}_leftImg8bit.png', random_image(rng, size))
            ids = rng.integers(0, 4 if split == 'test' else 34, size, dtype=np.uint8)
            save_png(root / f'gtFine/{split}/{stem}_gtFine_labelIds.png', ids)
            save_png(root / f'gtFine/{split}/{stem}_gtFine_instanceIds.png', ids.astype(np.uint16) * 1000)
            save_png(root / f'disparity/{split}/{stem}_disparity.png', rng.integers(0, 32258, size, dtype=np.uint16))
            camera = root / f'camera/{split}/{stem}_camera.json'
            camera.parent.mkdir(parents=True, exist_ok=True)
            intrinsic = dict(fx=FOCAL, fy=2265.3, u0=1096.98, v0=513.137)
            camera.write_text(json.dumps(dict(extrinsic=dict(baseline=BASELINE, pitch=0.038), intrinsic=intrinsic)))
    return root


def write_nyuv2_arrays(root: Path, size: tuple[int, int] = (32, 48)) -> Path:
    """LibMTL's folders: float64 images, float labels with -1, depth with an axis of one, unit normals with holes."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for index in range(count):
            save_npy(root / split / 'image' / f'{index}.npy', random_image(rng, size) / 255)
            save_npy(root / split / 'label' / f'{index}.npy', rng.integers(-1, 13, size).astype(np.float32))
            save_npy(root / split / 'depth' / f'{index}.npy', rng.uniform(0.7, 9.9, (*size, 1)).astype(np.float32))
            normals = rng.normal(size=(*size, 3))
            normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
            normals[:2] = 0
            save_npy(root / split / 'normal' / f'{index}.npy', normals.astype(np.float32))
    return root


def write_nyuv2_mat(root: Path, size: tuple[int, int] = (32, 48), frames: int = 6) -> dict[str, np.ndarray]:
    """MATLAB's files: arrays ``(H, W, 3, N)`` there are ``(N, 3, W, H)`` in HDF5. Gives them as ``(N, H, W, ...)``."""
    import h5py
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    content = dict(
        images=rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8),
        labels=rng.integers(0, 895, (frames, *size), dtype=np.uint16),
        depths=rng.uniform(0.7, 9.9, (frames, *size)).astype(np.float32),
    )
    content['rawDepths'] = np.where(rng.random((frames, *size)) < 0.2, 0, content['depths']).astype(np.float32)
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / 'nyu_depth_v2_labeled.mat', 'w', userblock_size=512) as file:
        for name, array in content.items():
            axes = (0, 3, 2, 1) if array.ndim == 4 else (0, 2, 1)
            file.create_dataset(name, data=array.transpose(axes), compression='gzip')
        file.create_group('#refs#')
    # MATLAB's columns of doubles; frames of both splits are mixed.
    splits = dict(trainNdxs=np.array([[2.0], [3], [5], [6]]), testNdxs=np.array([[1.0], [4]]))
    savemat(root / 'splits.mat', splits)
    content['mapClass'] = rng.permutation(np.arange(894) % 40 + 1)
    savemat(root / 'classMapping40.mat', dict(mapClass=content['mapClass'][None].astype(np.uint8)))
    return content
