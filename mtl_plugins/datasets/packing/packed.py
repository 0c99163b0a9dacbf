"""A split decoded once into memory-mapped arrays, so that loading a sample costs no decoding.

``<root>/<split>/packed/`` holds ``rgb.npy`` ``(N, H, W, 3)`` uint8, the stored maps of each label that the split has in
``<label>.npy`` ``(N, H, W)`` or ``(N, H, W, C)``, and ``index.json``: what they were made from, and a checksum of each sample.
MiniScapes costs 5 bytes per pixel. A sample without a label has a map of the value that does not count.

The files of the split are read instead where anything differs: the names of the samples, the content of a file, the labels'
configs, the type or shape of an array, or a sample's checksum, which is checked when a process first reads it. Files that were
touched, copied or moved since are compared once, and ``compared`` remembers when.
"""

import json
import logging
import mmap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log

from mtl_plugins.datasets.multitask.split_listing import SplitListing
from mtl_plugins.errors import ConfigError, CorruptFileError, DataError, UserError
from mtl_plugins.labels.decoding import QUARTER_TURNS, decode_image, read_orientation, turn
from mtl_plugins.labels.label_kind import LabelKind, results_key
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.data_files import shorten
from mtl_plugins.utils.files import describe_os_error, replace_folder, replacing, scratch_folder
from mtl_plugins.utils.threads import map_in_order

FORMAT_VERSION = 2
FOLDER_NAME = 'packed'
COMPARED_NAME = 'compared'
_COMPARING_THREADS = 4
# For file systems whose clock is coarse, or a little wrong.
_CLOCK_NS = 2_000_000_000
Sample = dict[str, np.ndarray]


def _key(name: str) -> str:
    return 'img' if name == 'rgb' else results_key(name)


class PackedSplit:
    """Read-only access to the samples of a packed split, with their checksums ``(N,)`` by the name of the label, or ``'rgb'``.

    A copy or a pickle holds the path, not the data. ``packed[position]`` raises `CorruptFileError` if a sample is not what was
    packed.
    """

    def __init__(self, folder: Path, checksums: Mapping[str, np.ndarray]):
        self._folder = folder
        self._checksums = dict(checksums)
        # The base class of a memmap slices several times faster than memmap itself.
        self._arrays = {_key(name): np.load(folder / f'{name}.npy', mmap_mode='r').view(np.ndarray) for name in checksums}
        # Which samples were checked: in memory that forked workers share.
        self._checked = mmap.mmap(-1, max(len(self), 1))

    def __getitem__(self, position: int) -> Sample:
        """``img`` and the stored maps of the labels of one sample, by key: views."""
        sample = {key: array[position] for key, array in self._arrays.items()}
        if not self._checked[position]:
            for name, expected in self._checksums.items():
                if _checksum(sample[_key(name)]) != expected[position]:
                    raise CorruptFileError(f"sample {position} of '{name}.npy' is not what was packed: the file is damaged")
            self._checked[position] = 1
        return sample

    def __len__(self) -> int:
        return len(self._arrays['img'])

    def __reduce__(self):
        return PackedSplit, (self._folder, self._checksums)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array))


def decode_sample(image_path: str, label_paths: Mapping[str, Sequence[str]], labels: Mapping[str, LabelKind]) -> Sample:
    """``img`` ``(H, W, 3)`` uint8 RGB and the stored map of each label with a path, by its key, all of one size and upright.

    A photograph is turned as its EXIF data say. Its labels are those of the upright picture, as viewers and labelling tools show
    it; a map whose size tells that it lies as the file does is turned with the image.
    """
    image = decode_image(image_path)
    sample = dict(img=image)
    for name, paths in label_paths.items():
        sample[labels[name].key] = _decode_label(labels[name], paths, image, image_path)
    return sample


def decode_map(kind: LabelKind, paths: Sequence[str], size: tuple[int, int] | None = None) -> np.ndarray:
    """The stored map of the files of a label; raise `ConfigError` if a kind of a plug-in gives no array."""
    stored = kind.decode(*paths) if size is None else kind.decode(*paths, size=size)
    if not isinstance(stored, np.ndarray) or stored.ndim < 2:
        raise ConfigError(
            f'`decode` of {type(kind).__name__} should return an array (H, W) or (H, W, C) of {paths[0]}. '
            f'Found {shorten(stored)}.'
        )
    return stored


def _decode_label(kind: LabelKind, paths: Sequence[str], image: np.ndarray, image_path: str) -> np.ndarray:
    size = image.shape[:2]
    try:
        stored = decode_map(kind, paths, size)
        if stored.shape[:2] != size:
            sizes = [f'{width}x{height}' for height, width in (size, stored.shape[:2])]
            raise CorruptFileError(
                f"The image '{image_path}' and its label '{paths[0]}' should have the same size (width x height). "
                f'Found {sizes[0]} and {sizes[1]}.'
            )
        return stored
    except CorruptFileError:
        orientation = read_orientation(image_path)
        if orientation not in QUARTER_TURNS or size[0] == size[1]:
            raise
        with suppress(CorruptFileError):
            turns, mirrored = QUARTER_TURNS[orientation]
            stored = turn(kind.decode(*paths, size=size[::-1]), orientation)
            stored = kind.move(np.ascontiguousarray(stored), mirrored, 90.0 * turns)
            if stored.shape[:2] == size:
                return stored
        raise


def open_packed(listing: SplitListing) -> PackedSplit | None:
    """The packed folder of a split, or None, with a warning, where it is stale, damaged or of another version."""
    folder = listing.folder / FOLDER_NAME
    if not folder.is_dir():
        return None
    try:
        index = json.loads((folder / 'index.json').read_bytes())
        reason = _mismatch(index, listing, folder)
        if reason is None:
            checksums = {name: np.array(index['checksums'][name], np.uint32) for name in ('rgb', *listing.labels)}
            packed = PackedSplit(folder, checksums)
            reason = _wrong_array(packed, listing, checksums)
        if reason is None:
            return packed
    except Exception as error:
        # Whatever damaged files make JSON and NumPy say.
        reason = f'it cannot be read ({type(error).__name__}: {error})'
    warn_unused(folder, reason)
    return None


def warn_unused(folder: Path, reason: str) -> None:
    """Say that a packed folder is not used."""
    reason = ' '.join(reason.split())
    print_log(
        f"Not using '{folder}': {reason}. Reading the files instead; renew it with `mtl data pack`, which "
        'packs the labels as dataset.json describes them.',
        logger='current',
        level=logging.WARNING,
    )


def _mismatch(index: dict, listing: SplitListing, folder: Path) -> str | None:
    """In what the record of a packed folder differs from the split."""
    if index['version'] != FORMAT_VERSION:
        return f'its format version should be {FORMAT_VERSION}, found {index["version"]}'
    if index['stems'] != listing.stems or index['image'] != listing.image:
        return 'files were added or removed'
    for name, kind in listing.labels.items():
        if name not in index['labels']:
            return f"it lacks '{name}'"
        before, now = index['labels'][name], _decoding(kind)
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if changed:
            # Private attributes follow from public ones.
            key = min(changed, key=lambda key: key.startswith('_'))
            return f"`{key}` of '{name}' was {shorten(before.get(key))} when it was packed and is {shorten(now.get(key))}"
    return _changed_file(index, listing, folder)


def _decoding(kind: LabelKind) -> dict[str, Any]:
    """Return the settings that the stored maps of a kind depend on, as JSON holds them."""
    return json.loads(
        json.dumps(kind.decoding(), default=lambda value: value.tolist() if hasattr(value, 'tolist') else repr(value))
    )


def _changed_file(index: dict, listing: SplitListing, folder: Path) -> str | None:
    def changed(place: tuple[str, int]) -> str | None:
        name, position = place
        with suppress(OSError):
            if _file_stamps(listing.files[name][position]) == index['files'][name][position]:
                return None
        return f"'{name}/{listing.stems[position]}' was changed"

    compared = [index['compared_ns']]
    with suppress(OSError, ValueError):
        compared.append(int((folder / COMPARED_NAME).read_bytes()))
    touched = []
    for name in ('rgb', *listing.labels):
        for position, (now, packed) in enumerate(zip(listing.stamps(name), index['files'][name], strict=True)):
            if [size for size, _ in now] != [size for size, _ in packed]:
                return f"'{name}/{listing.stems[position]}' was changed"
            if any(changed_ns >= max(compared) for _, changed_ns in now):
                touched.append((name, position))
    if not touched:
        return None
    reason = None
    # A folder that cannot be written is compared each time.
    with suppress(UserError), replacing(folder / COMPARED_NAME) as mark:
        started = 0
        with suppress(OSError):
            mark.touch()
            started = mark.stat().st_mtime_ns - _CLOCK_NS
        reason = next(filter(None, map_in_order(changed, touched, _COMPARING_THREADS)), None)
        mark.write_text(str(started if reason is None else 0), encoding='utf-8')
    return reason


def _file_stamps(paths: Sequence[str]) -> list[list[int]]:
    """Size and checksum of each file."""
    contents = [Path(path).read_bytes() for path in paths]
    return [[len(content), zlib.crc32(content)] for content in contents]


def _blanks(listing: SplitListing, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Empty maps of the type and shape that the array of each name holds."""
    return dict(rgb=np.zeros((*size, 3), np.uint8), **{name: kind.blank(size) for name, kind in listing.labels.items()})


def _wrong_array(packed: PackedSplit, listing: SplitListing, checksums: Mapping[str, np.ndarray]) -> str | None:
    for name, blank in _blanks(listing, packed._arrays['img'].shape[1:3]).items():
        array, shape = packed._arrays[_key(name)], (len(listing.stems), *blank.shape)
        if array.dtype != blank.dtype or array.shape != shape or checksums[name].shape != shape[:1]:
            return f"'{name}.npy' should hold {blank.dtype} {shape}, with a checksum each. Found {array.dtype} {array.shape}"
    return None


def write_packed(listing: SplitListing, num_workers: int = 2) -> Path:
    """Pack a split into ``<root>/<split>/packed``, which appears, or replaces an older one, only when complete.

    Raises:
        DataError: If a file cannot be used, the images differ in size or writing fails. An older packed folder stays as it was.
    """
    folder = listing.folder / FOLDER_NAME
    names = ('rgb', *listing.labels)
    index = dict(
        version=FORMAT_VERSION,
        image=listing.image,
        stems=listing.stems,
        labels={name: _decoding(kind) for name, kind in listing.labels.items()},
        files={name: [] for name in names},
        checksums={name: [] for name in names},
    )

    def read(info: dict) -> tuple[dict[str, list], Sample]:
        # A file that changes between the two makes the result stale, not wrong.
        stamps = {name: _file_stamps(listing.files[name][info['split_position']]) for name in names}
        return stamps, decode_sample(info['img_path'], info['label_paths'], listing.labels)

    cv2.setNumThreads(0)
    samples = track(map_in_order(read, listing.samples(), num_workers), len(listing.stems), listing.folder.name)
    try:
        with scratch_folder(folder) as partial:
            index['compared_ns'] = partial.stat().st_mtime_ns - _CLOCK_NS
            _write_arrays(partial, listing, samples, index)
            (partial / 'index.json').write_text(json.dumps(index), encoding='utf-8')
            replace_folder(partial, folder)
    except OSError as error:
        raise DataError(f'{describe_os_error(error, folder)} Nothing was changed.') from error
    return folder


def _write_arrays(folder: Path, listing: SplitListing, samples: Iterator, index: dict) -> None:
    """Write through ordinary files: a full disk is an `OSError` there, but kills the process on a memory map."""
    first = None
    with ExitStack() as stack:
        files = {name: stack.enter_context(open(folder / f'{name}.npy', 'wb')) for name in index['files']}
        for position, (stamps, sample) in enumerate(samples):
            shape = sample['img'].shape
            if first is None:
                first, blanks = shape, _blanks(listing, shape[:2])
                for name, blank in blanks.items():
                    descr, full_shape = np.lib.format.dtype_to_descr(blank.dtype), (len(listing.stems), *blank.shape)
                    header = dict(descr=descr, fortran_order=False, shape=full_shape)
                    np.lib.format.write_array_header_1_0(files[name], header)
            if shape != first:
                paths = [listing.files['rgb'][number][0] for number in (position, 0)]
                raise CorruptFileError(
                    f'Packing needs images of one size. Found {shape[1]}x{shape[0]} (width x height) in '
                    f"'{paths[0]}' and {first[1]}x{first[0]} in '{paths[1]}'."
                )
            for name, blank in blanks.items():
                stored = sample.get(_key(name), blank)
                if stored.dtype != blank.dtype or stored.shape != blank.shape:
                    raise DataError(
                        f"The maps of the label '{name}' should be {blank.dtype} {blank.shape}, as its `blank` says. Found "
                        f'{stored.dtype} {stored.shape}.'
                    )
                stored = np.ascontiguousarray(stored)
                files[name].write(stored.data)
                index['checksums'][name].append(_checksum(stored))
                index['files'][name].append(stamps[name])
