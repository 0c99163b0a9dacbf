"""MiniScapes files to arrays, with the checks that keep broken files out of a training run."""

import io
import struct
from zlib import crc32

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mtl_plugins.errors import CorruptFileError, DataNotFoundError
from mtl_plugins.labels.cityscapes_classes import CLASSES, IGNORE_LABEL

_JPEG_START, _JPEG_SCAN, _JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
_PNG_START, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'
_PNG_COLOURS = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey with alpha', 6: 'RGB with alpha'}
_GREY, _PALETTE = 0, 3


def decode_image(path: str) -> np.ndarray:
    """Read a JPEG as ``(H, W, 3)`` uint8 in RGB order, whatever orientation its EXIF data claims.

    Raises:
        DataNotFoundError: If the file does not exist.
        CorruptFileError: If it is no JPEG, truncated or cannot be decoded. Damage that leaves both ends of the file in
            place may go unnoticed: the format has no checksum.
    """
    data = _read(path)
    if not data.startswith(_JPEG_START):
        raise CorruptFileError(f"The image '{path}' should be a JPEG file. Found other content ({len(data)} bytes).")
    # Some decoders fill the missing rows of a truncated file with grey and report success. Inside a scan an end marker cannot
    # occur, and an embedded thumbnail has its own before the last scan starts.
    if not data.endswith(_JPEG_END) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise CorruptFileError(f"The image '{path}' is truncated: its JPEG data ends early, after {len(data)} bytes.")
    return _decode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, 'image', path)


def decode_label(path: str) -> np.ndarray:
    """Read class ids from a palette or grey PNG as ``(H, W)`` uint8: 0..18, or 255 = ignore.

    Raises:
        DataNotFoundError: If the file does not exist.
        CorruptFileError: If it is truncated, cannot be decoded, is no 8-bit palette or grey PNG, or holds other ids.
    """
    data = _read(path)
    bit_depth, colour_type = _png_header(data, 'label', path)
    if colour_type == _GREY and bit_depth == 8:
        label = _decode(data, cv2.IMREAD_UNCHANGED, 'label', path)
    elif colour_type == _PALETTE and bit_depth == 8:
        label = _decode(_palette_to_grey(data), cv2.IMREAD_UNCHANGED, 'label', path)
    elif colour_type == _PALETTE:
        label = _decode_with_pil(data, 'label', path)
    else:
        found = f'{bit_depth}-bit {_PNG_COLOURS.get(colour_type, "data")}'
        raise CorruptFileError(f"The label '{path}' should be an 8-bit palette or grey PNG. Found {found}.")
    # Adding 1 wraps 255 to 0, so that one maximum answers for both ranges.
    if (label + np.uint8(1)).max() > len(CLASSES):
        unknown = [int(value) for value in np.unique(label) if len(CLASSES) <= value != IGNORE_LABEL]
        raise CorruptFileError(
            f"The label '{path}' should hold class ids 0..{len(CLASSES) - 1} and {IGNORE_LABEL}. Found {unknown}."
        )
    return label


def decode_depth_code(path: str) -> np.ndarray:
    """Read disparity codes from a grey PNG as ``(H, W)`` uint8, 0 = no depth known.

    Raises:
        DataNotFoundError: If the file does not exist.
        CorruptFileError: If it is truncated, cannot be decoded or is no 8-bit grey PNG.
    """
    data = _read(path)
    bit_depth, colour_type = _png_header(data, 'depth map', path)
    if (bit_depth, colour_type) != (8, _GREY):
        found = f'{bit_depth}-bit {_PNG_COLOURS.get(colour_type, "data")}'
        raise CorruptFileError(f"The depth map '{path}' should be an 8-bit grey PNG. Found {found}.")
    return _decode(data, cv2.IMREAD_UNCHANGED, 'depth map', path)


def check_same_size(image: np.ndarray, label: np.ndarray, image_path: str, label_path: str) -> None:
    """Raise `CorruptFileError` if a label map does not cover its image pixel by pixel."""
    if image.shape[:2] != label.shape[:2]:
        sizes = [f'{width}x{height}' for height, width in (image.shape[:2], label.shape[:2])]
        raise CorruptFileError(
            f"The image '{image_path}' and its label '{label_path}' should have the same size (width x height). "
            f'Found {sizes[0]} and {sizes[1]}.'
        )


def _read(path: str) -> bytes:
    try:
        with open(path, 'rb') as file:
            return file.read()
    except FileNotFoundError:
        raise DataNotFoundError(f"The file '{path}' does not exist.") from None
    except OSError as error:
        raise CorruptFileError(f"The file '{path}' cannot be read: {error.strerror}.") from error


def _png_header(data: bytes, what: str, path: str) -> tuple[int, int]:
    """Bit depth and colour type."""
    if not data.startswith(_PNG_START) or len(data) < 33:
        raise CorruptFileError(f"The {what} '{path}' should be a PNG file. Found other content ({len(data)} bytes).")
    if not data.endswith(_PNG_END) and _PNG_END not in data:
        raise CorruptFileError(f"The {what} '{path}' is truncated: its PNG data ends early, after {len(data)} bytes.")
    return data[24], data[25]


def _palette_to_grey(data: bytes) -> bytes:
    """The same pixel data declared as grey, because OpenCV replaces palette indices by their colours.

    The chunks before the pixel data (palette, transparency, resolution) mean nothing for indices and are dropped.
    """
    position = 33
    while data[position + 4 : position + 8] != b'IDAT' and position + 8 < len(data):
        position += 12 + struct.unpack_from('>I', data, position)[0]
    header = data[12:25] + bytes([_GREY]) + data[26:29]
    return data[:12] + header + struct.pack('>I', crc32(header)) + data[position:]


def _decode(data: bytes, flags: int, what: str, path: str) -> np.ndarray:
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise CorruptFileError(f"The {what} '{path}' cannot be decoded: {error.err or error}.") from error
    if array is None:
        raise CorruptFileError(f"The {what} '{path}' cannot be decoded: its content is damaged.")
    return array


def _decode_with_pil(data: bytes, what: str, path: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image)
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise CorruptFileError(f"The {what} '{path}' cannot be decoded: {error}.") from error
