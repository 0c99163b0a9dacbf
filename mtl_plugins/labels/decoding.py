"""Files to arrays, with the checks that keep broken files out of a training run."""

import io
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import PurePath

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from mtl_plugins.errors import CorruptFileError, DataNotFoundError
from mtl_plugins.labels.png_codec import COLOUR_TYPES, END, GREY, PALETTE, RGB, SIGNATURE, palette_to_grey, read_header
from mtl_plugins.utils.data_files import import_extra, open_regular, refusing

_JPEG_START, _JPEG_SCAN, _JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
# Neither a byte of pixel data nor a restart within it.
_JPEG_MARKER = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]', re.DOTALL)
# A progressive JPEG has ten or so.
_MAX_SCANS = 100
_TIFF_STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_PICTURE_STARTS = (SIGNATURE, _JPEG_START, *_TIFF_STARTS)
_TIFF_WIDTH, _TIFF_HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323
_LARGE_TILE = 2**22
# Of those that both OpenCV and PIL know, by PIL's names.
_QUICK_FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF')
_OTHER_FORMATS = ('PPM', 'SUN', 'JPEG2000', 'AVIF')
_ARRAYS = ('.npy', '.npz')
_ID_SUFFIXES = ('.gif', '.bmp', '.tif', '.tiff')
_NPY_START = b'\x93NUMPY'
# What else is found where an image or a label should be, by how it starts.
_CONTENTS = {
    SIGNATURE: 'a PNG file',
    _JPEG_START: 'a JPEG file',
    b'II*\0': 'a TIFF file',
    b'MM\0*': 'a TIFF file',
    _NPY_START: 'a NumPy file',
    b'PK': 'a zip archive',
    b'\x1f\x8b': 'a gzip file: unpack it',
    b'version https://git-lfs': 'a pointer of Git LFS: run `git lfs pull`',
    b'<': 'a text of HTML or XML, such as the page of a download that failed',
}
# Suffixes of the files that `decode_image` reads, in lower case.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.tif', '.tiff', *_ARRAYS)
_ORIENTATION = 0x0112
# Quarter turns to the left that make an image upright, and whether it is mirrored afterwards, by its EXIF orientation; those that
# keep its size as well would change no size by which labels are told apart.
QUARTER_TURNS = {5: (-1, True), 6: (-1, False), 7: (1, True), 8: (1, False)}
# 16384x16384: of the data sets that are known, none has images a tenth as large.
_MAX_PIXELS = 2**28
_MAX_ARRAY_BYTES = 2**30

Size = tuple[int, int]


def decode_image(path: str) -> np.ndarray:
    """Read an image as ``(H, W, 3)`` uint8 RGB, upright: a file of :func:`decode_photograph`, or an array ``(H, W, 3)``.

    Arrays are uint8, or floating point on 0..1.

    Raises:
        DataNotFoundError: If the file does not exist.
        CorruptFileError: If it is something else or damaged. A JPEG has no checksum: damage between its ends may go unnoticed.
    """
    if is_array(path):
        return _to_bytes(_read_array(path, 'image'), path)
    data = read_bytes(path)
    if not data.startswith((SIGNATURE, _JPEG_START)):
        return decode_photograph(data, path)
    _check_complete(data, path)
    return _decode(data, cv2.IMREAD_COLOR_RGB, 'image', path)


def decode_photograph(
    data: bytes, name: str, max_pixels: int | None = None, check: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Decode a JPEG, PNG, WebP, BMP, TIFF, GIF or other picture as ``(H, W, 3)`` uint8 RGB, upright as its EXIF data say.

    Grey becomes RGB, transparency is left out, of 16 bits the upper 8 are kept, of several pictures the first.

    Arguments and errors are those of :func:`read_photograph_size`. ``check`` is called with height and width before the picture
    is decoded; it raises what is too large.
    """
    size = read_photograph_size(data, name, max_pixels)
    if check is not None:
        check(*size)
    return _decode(data, cv2.IMREAD_COLOR_RGB, 'image', name)


def read_photograph_size(data: bytes, name: str, max_pixels: int | None = None) -> Size:
    """Return the height and width of a picture by its header, before it is turned upright, and refuse what must not be decoded.

    With ``max_pixels``, of a file from a stranger, it must be a JPEG, PNG, WebP, BMP, TIFF or GIF: others take long to decode.

    Raises:
        CorruptFileError: If it is something else, is truncated, has more than ``max_pixels`` or 179 million, or is made so that
            decoding takes more memory or time than a picture of its size needs.
    """
    formats = _QUICK_FORMATS if max_pixels is not None else _QUICK_FORMATS + _OTHER_FORMATS
    _check_complete(data, name, max_pixels)
    if data.startswith(_TIFF_STARTS):
        _check_tiff(data, 'image', name)
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            if image.mode == 'F':
                raise CorruptFileError(
                    f"The image '{name}' should be a TIFF file of 8 or 16 bits, grey or RGB. Found numbers with fractions."
                )
    except CorruptFileError:
        raise
    except Image.DecompressionBombError as error:
        raise CorruptFileError(f"The image '{name}' is too large: {error}.") from error
    except Exception as error:
        # PIL has many ways to say no to a header that someone made up.
        found = 'an image of another sort, or one with a damaged header' if data.startswith(_PICTURE_STARTS) else _content(data)
        expected = 'should be a JPEG, PNG, WebP, BMP or TIFF file, of 8 or 16 bits, grey or RGB'
        raise CorruptFileError(f"The image '{name}' {expected}. Found {found}.") from error
    if max_pixels is not None and width * height > max_pixels:
        raise CorruptFileError(f"The image '{name}' should have at most {max_pixels} pixels. Found {width}x{height}.")
    if data.startswith(_JPEG_START) and (scans := _count_scans(data)) > _MAX_SCANS:
        raise CorruptFileError(f"The image '{name}' should have at most {_MAX_SCANS} scans. Found {scans}.")
    return height, width


def _count_scans(data: bytes) -> int:
    """Number of scans that refine the pixels of a JPEG: each takes a pass over all of them, however few bytes it has."""
    scans, position = 0, 2
    while (match := _JPEG_MARKER.search(data, position)) and (marker := match[0]) != _JPEG_END:
        scans += marker == _JPEG_SCAN
        position = match.end() + max(int.from_bytes(data[match.end() : match.end() + 2], 'big'), 2)
    return scans


def read_orientation(path: str) -> int:
    """The EXIF orientation of an image file, 1 (as it is) to 8; 1 where it says none."""
    return 1 if is_array(path) else _exif_orientation(read_bytes(path))


def _exif_orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data)) as image:
            exif = Image.Exif()
            exif.load(image.info.get('exif') or b'')
            found = exif.get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError):
        return 1
    return found if found in range(1, 9) else 1


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array ``(H, W, ...)`` in the orientation of the file upright; only quarter turns move anything."""
    turns, mirrored = QUARTER_TURNS.get(orientation, (0, False))
    array = np.rot90(array, turns)
    return array[:, ::-1] if mirrored else array


def turn_back(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an upright array ``(H, W, ...)`` in the orientation of the file: the inverse of :func:`turn`."""
    turns, mirrored = QUARTER_TURNS.get(orientation, (0, False))
    return np.rot90(array[:, ::-1] if mirrored else array, -turns)


def is_array(path: str) -> bool:
    """Return True if the suffix is that of a NumPy file."""
    return path.lower().endswith(_ARRAYS)


def _check_complete(data: bytes, path: str, max_pixels: int | None = None) -> None:
    """Refuse a truncated PNG or JPEG, and a PNG with more pixels than that in its first header; other formats pass."""
    if data.startswith(SIGNATURE):
        _png_header(data, 'image', path, max_pixels=max_pixels or _MAX_PIXELS)
    # Some decoders fill the missing rows of a truncated file with grey and report success. Inside a scan an end marker cannot
    # occur, and an embedded thumbnail has its own before the last scan starts.
    elif data.startswith(_JPEG_START) and not data.endswith(_JPEG_END) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise CorruptFileError(f"The image '{path}' is truncated: its JPEG data ends early, after {len(data)} bytes.")


def read_ids(path: str, size: Size | None = None) -> np.ndarray:
    """Read ids from a palette or grey PNG, GIF, BMP or TIFF, or an array of whole numbers: ``(H, W)``, uint8, uint16 or int64.

    Those of a picture of 1 bit are 0 and 1. A PNG of another height and width than ``size`` is refused by its header. Errors are
    those of :func:`decode_image`.
    """
    if is_array(path):
        array = _check_map(_read_array(path, 'label'), 'label', path)
        if array.dtype.kind == 'f' and not np.isfinite(array).all():
            raise CorruptFileError(f"The label '{path}' should hold whole numbers. Found NaN or infinity.")
        ids = array.astype(np.int64)
        if (ids != array).any():
            raise CorruptFileError(f"The label '{path}' should hold whole numbers. Found fractions.")
        return ids
    data = read_bytes(path)
    if path.lower().endswith(_ID_SUFFIXES):
        return _read_other_ids(data, path)
    bit_depth, colour_type = _label_header(data, 'label', path, size)
    if colour_type == GREY and bit_depth in (8, 16):
        return _decode(data, cv2.IMREAD_UNCHANGED, 'label', path)
    if colour_type == PALETTE and bit_depth == 8:
        return _decode(palette_to_grey(data), cv2.IMREAD_UNCHANGED, 'label', path)
    if colour_type == PALETTE or (colour_type == GREY and bit_depth == 1):
        with refusing(f"The label '{path}' cannot be decoded"), Image.open(io.BytesIO(data)) as image:
            return np.array(image).astype(np.uint8)
    found = f'{bit_depth}-bit {COLOUR_TYPES.get(colour_type, "data")}'
    raise CorruptFileError(f"The label '{path}' should be a palette PNG or a grey one of 1, 8 or 16 bits. Found {found}.")


def _read_other_ids(data: bytes, path: str) -> np.ndarray:
    if data.startswith(_TIFF_STARTS):
        _check_tiff(data, 'label', path)
    with refusing(f"The label '{path}' cannot be decoded"), Image.open(io.BytesIO(data), formats=('GIF', 'BMP', 'TIFF')) as image:
        _check_size(*image.size, 'label', path)
        if image.mode not in ('1', 'L', 'P', 'I;16'):
            raise CorruptFileError(f"The label '{path}' should hold ids, as a grey or palette picture. Found mode {image.mode}.")
        ids = np.array(image)
        return ids if ids.dtype == np.uint16 else ids.astype(np.uint8)


def read_grey(path: str, what: str, size: Size | None = None) -> np.ndarray:
    """Read an 8-bit grey PNG, called ``what`` in errors, as ``(H, W)`` uint8; ``size`` and errors as in :func:`read_ids`."""
    return _read_png(path, what, GREY, (8,), size)


def read_rgb(path: str, what: str, size: Size | None = None) -> np.ndarray:
    """Read an 8-bit RGB PNG as ``(H, W, 3)`` uint8, as :func:`read_grey` does; transparency is left out."""
    return cv2.cvtColor(_read_png(path, what, RGB, (8,), size)[..., :3], cv2.COLOR_BGR2RGB)


def read_numbers(path: str, what: str, size: Size | None = None) -> np.ndarray:
    """Read numbers ``(H, W)``: a grey PNG of 8 or 16 bits, ``.npy``, ``.npz`` with one array, or an EXR or TIFF of one channel.

    Of an EXR it is the only channel, or the first of Z, depth, V, Y, R. Arguments and errors as in :func:`read_grey`.
    """
    if is_array(path):
        return _check_map(_read_array(path, what), what, path)
    suffix = PurePath(path).suffix.lower()
    if suffix == '.exr':
        return _check_map(_read_exr(path, what, ('Z', 'depth', 'V', 'Y', 'R'))[0], what, path)
    if suffix in ('.tif', '.tiff'):
        data = read_bytes(path)
        _check_tiff(data, what, path)
        return _check_map(_decode(data, cv2.IMREAD_UNCHANGED, what, path), what, path)
    return _read_png(path, what, GREY, (8, 16), size)


def read_vectors(path: str, what: str) -> np.ndarray:
    """Read vectors ``(H, W, 3)`` from ``.npy``, ``.npz`` with one array, or EXR (R, G, B); errors as :func:`read_grey`."""
    array = _read_array(path, what) if is_array(path) else np.stack(_read_exr(path, what, ('R', 'G', 'B')), axis=-1)
    if array.ndim != 3 or array.shape[-1] != 3:
        raise CorruptFileError(f"The {what} '{path}' should have the shape (H, W, 3). Found {array.shape}.")
    return array.astype(np.float32)


def _content(data: bytes) -> str:
    """Name the kind of a file by its first bytes."""
    kind = next((kind for start, kind in _CONTENTS.items() if data.lstrip(b'\r\n ').startswith(start)), 'other content')
    return f'{kind} ({len(data)} bytes)'


def read_bytes(path: str) -> bytes:
    """Return the content of a file; raise `DataNotFoundError` or `CorruptFileError` if it cannot be read."""
    try:
        with open(path, 'rb', opener=open_regular) as file:
            return file.read()
    except FileNotFoundError:
        raise DataNotFoundError(f"The file '{path}' does not exist.") from None
    except OSError as error:
        raise CorruptFileError(f"The file '{path}' cannot be read: {error.strerror}.") from error


def _read_array(path: str, what: str) -> np.ndarray:
    data = read_bytes(path)
    if not data.startswith((_NPY_START, b'PK')):
        # NumPy takes it for a pickle.
        raise CorruptFileError(f"The {what} '{path}' should be a NumPy file. Found {_content(data)}.")
    with refusing(f"The {what} '{path}' cannot be read"):
        if zipfile.is_zipfile(io.BytesIO(data)):
            members = zipfile.ZipFile(io.BytesIO(data)).infolist()
            # Before anything is unpacked.
            if len(members) != 1 or members[0].file_size > _MAX_ARRAY_BYTES:
                found = f'{len(members)}' if len(members) != 1 else f'one of {members[0].file_size} bytes'
                raise CorruptFileError(f"The {what} '{path}' should hold one array of at most 1 GiB. Found {found}.")
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        array = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
        if not isinstance(array, np.ndarray):
            raise ValueError('its one file is no array')
    if array.dtype.kind not in 'buif':
        raise CorruptFileError(f"The {what} '{path}' should hold numbers. Found {array.dtype}.")
    return array


def _read_exr(path: str, what: str, names: tuple[str, ...]) -> list[np.ndarray]:
    """Return those of the named channels that an EXR has, in this order; its only channel whatever its name."""
    read_bytes(path)
    openexr = import_extra('OpenEXR', 'exr', path)
    with refusing(f"The {what} '{path}' cannot be decoded"):
        with openexr.File(path, header_only=True) as file:
            (left, top), (right, bottom) = file.header()['dataWindow']
        _check_size(int(right) - int(left) + 1, int(bottom) - int(top) + 1, what, path)
        with openexr.File(path, separate_channels=True) as file:
            channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    found = list(channels.values()) if len(channels) == 1 else [channels[name] for name in names if name in channels]
    if not found:
        raise CorruptFileError(f"The {what} '{path}' should have one of the channels {names}. Found {sorted(channels)}.")
    return found


def _check_map(array: np.ndarray, what: str, path: str) -> np.ndarray:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
        array = array.squeeze(0 if array.shape[0] == 1 else -1)
    if array.ndim != 2 or not array.size:
        raise CorruptFileError(f"The {what} '{path}' should have the shape (H, W). Found {array.shape}.")
    return array


def _to_bytes(image: np.ndarray, path: str) -> np.ndarray:
    if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise CorruptFileError(f"The image '{path}' should have the shape (H, W, 3). Found {image.shape}.")
    if image.dtype == np.uint8:
        return image
    if not (image.min() >= 0 and image.max() <= 1):
        raise CorruptFileError(f"The image '{path}' should be uint8, or numbers in 0..1. Found {image.min()}..{image.max()}.")
    return (image * 255).round().astype(np.uint8)


def _read_png(path: str, what: str, colour_type: int, bit_depths: tuple[int, ...], size: Size | None) -> np.ndarray:
    data = read_bytes(path)
    found = _label_header(data, what, path, size)
    if found[1] not in (colour_type, 6 if colour_type == RGB else colour_type) or found[0] not in bit_depths:
        bits = ' or '.join(map(str, bit_depths))
        raise CorruptFileError(
            f"The {what} '{path}' should be an {bits}-bit {COLOUR_TYPES[colour_type]} PNG. "
            f'Found {found[0]}-bit {COLOUR_TYPES.get(found[1], "data")}.'
        )
    return _decode(data, cv2.IMREAD_UNCHANGED, what, path)


def _label_header(data: bytes, what: str, path: str, size: Size | None) -> tuple[int, int]:
    """:func:`_png_header` of a map, which lies as it is stored."""
    found = _png_header(data, what, path, size)
    if b'eXIf' in data and (orientation := _exif_orientation(data)) != 1:
        raise CorruptFileError(
            f"The {what} '{path}' should have no EXIF orientation. Found {orientation}: write it upright, without EXIF data."
        )
    return found


def _png_header(data: bytes, what: str, path: str, size: Size | None = None, max_pixels: int = _MAX_PIXELS) -> tuple[int, int]:
    """Bit depth and colour type; refuses another size than ``size``, and a larger one than ``max_pixels``."""
    header = read_header(data)
    if header is None:
        raise CorruptFileError(f"The {what} '{path}' should be a PNG file. Found {_content(data)}.")
    if END not in data:
        raise CorruptFileError(f"The {what} '{path}' is truncated: its PNG data ends early, after {len(data)} bytes.")
    height, width, bit_depth, colour_type = header
    if size is not None and (height, width) != tuple(size):
        raise CorruptFileError(
            f"The {what} '{path}' should have the same size as its image, {size[1]}x{size[0]} (width x height). "
            f'Found {width}x{height}.'
        )
    _check_size(width, height, what, path, max_pixels)
    return bit_depth, colour_type


def _check_size(width: int, height: int, what: str, path: str, max_pixels: int = _MAX_PIXELS) -> None:
    if width * height > max_pixels:
        raise CorruptFileError(f"The {what} '{path}' should have at most {max_pixels} pixels. Found {width}x{height}.")


def _check_tiff(data: bytes, what: str, path: str) -> None:
    """Refuse a TIFF whose size, or that of its tiles, is too large to decode: the header says it, before any memory is taken."""
    try:
        file = io.BytesIO(data)
        # BigTIFF has twice the header.
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if data[2:3] == b'+' or data[3:4] == b'+' else 8))
        file.seek(tags.next)
        tags.load(file)
        sizes = [int(tags.get(tag, 0)) for tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TILE_WIDTH, _TILE_HEIGHT)]
    except Exception as error:
        found = 'a damaged header' if data.startswith(_TIFF_STARTS) else _content(data)
        raise CorruptFileError(f"The {what} '{path}' should be a TIFF file. Found {found}.") from error
    _check_size(*sizes[:2], what, path)
    # Decoders make room for a whole tile, however small the picture.
    _check_size(*sizes[2:], f'{what}, and each tile of it,', path, max(4 * sizes[0] * sizes[1], _LARGE_TILE))


def _decode(data: bytes, flags: int, what: str, path: str) -> np.ndarray:
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise CorruptFileError(f"The {what} '{path}' cannot be decoded: {error.err or error}.") from error
    if array is None:
        raise CorruptFileError(f"The {what} '{path}' cannot be decoded: its content is damaged.")
    return array
