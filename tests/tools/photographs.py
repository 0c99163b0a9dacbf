"""A folder of photographs as people have them, hostile files, a video, and checkpoints with their configs inside."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from mtl_plugins.config.load import load_config
from mtl_plugins.registry import MODELS
from tests.tiny import CONFIGS, shrink_head

JOINT = CONFIGS / 'joint/joint_r18-d16_1xb16-32e_miniscapes-256x256.py'
SIZES = {
    '1_rotated': (48, 32),
    '2_grey': (33, 47),
    '3_clear': (40, 40),
    '4_deep': (17, 90),
    '5_plain': (32, 64),
    '10_plain': (32, 64),
}


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A smooth RGB picture, so that JPEG keeps it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def _many_scans() -> bytes:
    """A small JPEG that takes long: its last refinement once more and once more."""
    buffer = io.BytesIO()
    Image.new('L', (64, 64), 128).save(buffer, 'JPEG', progressive=True)
    data = buffer.getvalue()
    return data[:-2] + data[data.rindex(b'\xff\xda') : -2] * 200 + data[-2:]


def tiff(tags: dict[int, int]) -> bytes:
    """A TIFF file of a header alone."""
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items())
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4)


def _large_tile() -> bytes:
    """A TIFF of 8x8 pixels whose only tile has 10000x10000, for which its decoder makes room."""
    tags = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 10_000, 323: 10_000, 324: 512, 325: 99}
    return tiff(tags).ljust(512, b'\0') + bytes(99)


def _two_headers() -> bytes:
    """A PNG whose first header says 30000x30000, and a second one 8x8."""
    small = cv2.imencode('.png', picture((8, 8)))[1].tobytes()
    large = b'IHDR' + struct.pack('>2I', 30_000, 30_000) + small[24:29]
    return small[:8] + struct.pack('>I', 13) + large + struct.pack('>I', zlib.crc32(large)) + small[8:]


# Files, and what is said of them.
HEAVY_FILES = dict(
    scans=(_many_scans(), 'at most 100 scans. Found 206'),
    tile=(_large_tile(), 'at most 4194304 pixels. Found 10000x10000'),
    header=(_two_headers(), 'pixels. Found 30000x30000'),
)


def write_photographs(folder: Path) -> dict[str, np.ndarray]:
    """Six images, three files that are none, a hidden one and a subfolder. Gives the upright RGB pixels of each image by stem.

    The pixels are those of the lossless formats as they were written, and of the JPEGs as PIL decodes them.
    """
    folder.mkdir(parents=True)
    images = {stem: picture(size, seed) for seed, (stem, size) in enumerate(SIZES.items())}
    exif = Image.Exif()
    exif[0x0112] = 6  # The upper edge of the picture is at the right of the file's.
    turned = Image.fromarray(np.rot90(images['1_rotated']).copy())
    turned.save(folder / '1_rotated.jpg', exif=exif, quality=95)
    images['1_rotated'] = np.rot90(np.asarray(Image.open(folder / '1_rotated.jpg')), -1)
    grey = images['2_grey'][..., 0]
    Image.fromarray(grey).save(folder / '2_grey.png')
    images['2_grey'] = np.stack([grey] * 3, axis=-1)
    alpha = np.random.default_rng(0).integers(0, 256, (*SIZES['3_clear'], 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([images['3_clear'], alpha], axis=-1)).save(folder / '3_clear.png')
    deep = images['4_deep'].astype(np.uint16) * 256 + 77
    cv2.imwrite(str(folder / '4_deep.png'), deep[..., ::-1])
    Image.fromarray(images['5_plain']).save(folder / '5_plain.webp', lossless=True)
    Image.fromarray(images['10_plain']).save(folder / '10_plain.bmp')
    whole = (folder / '1_rotated.jpg').read_bytes()
    (folder / '6_broken.jpg').write_bytes(whole[: len(whole) // 2])
    (folder / '7_notes.txt').write_text('Not an image.')
    (folder / '8_empty.png').write_bytes(b'')
    (folder / '.hidden').write_bytes(b'')
    (folder / 'more').mkdir()
    return images


def write_video(path: Path) -> Path:
    """Nine different frames of 48x64 pixels, ten a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10.0, (64, 48))
    for seed in range(9):
        writer.write(picture((48, 64), seed))
    writer.release()
    return path


def save_checkpoint(path: Path, config: Path = JOINT, *, whole: bool = False) -> Path:
    """Random weights of a config, whose network is small unless ``whole``, and its text as mmengine's runner stores it."""
    resolved = load_config(str(config))
    if not whole:
        resolved = load_config(str(config), shrink_head(resolved.model.decode_head, 'model.decode_head'))
        resolved.model.backbone = dict(type='TinyBackbone')
    torch.manual_seed(0)
    model = MODELS.build(resolved.model)
    for name, parameter in model.named_parameters():
        # Predictions that differ from place to place without training.
        if name.endswith('predictor.weight'):
            parameter.data *= 50
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=resolved.pretty_text)), path)
    return path
