"""A split decoded once into memory-mapped arrays, so that loading a sample costs no decoding.

``<root>/<split>/packed/`` holds ``rgb.npy`` ``(N, H, W, 3)`` uint8, the stored maps of each label that the split has in
``<label>.npy`` ``(N, H, W)`` or ``(N, H, W, C)``, and ``index.json``: the format version and size and modification time of each
file they came from. MiniScapes costs 5 bytes per pixel. A sample without a label has a map of the value that does not count. A
split whose files differ from that record is read from its files again.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log

from mtl_plugins.datasets.multitask.split_listing import SplitListing
from mtl_plugins.errors import CorruptFileError, DataError
from mtl_plugins.labels.decoding import check_same_size, decode_image
from mtl_plugins.labels.label_kind import LabelKind, results_key
from mtl_plugins.utils.files import describe_os_error
from mtl_plugins.utils.threads import map_in_order

FORMAT_VERSION = 1
FOLDER_NAME = 'packed'
Sample = dict[str, np.ndarray]


def _key(name: str) -> str:
    return 'img' if name == 'rgb' else results_key(name)


class PackedSplit:
    """Read-only access to the samples of a packed split. A copy or a pickle holds the path, not the data."""

    def __init__(self, folder: Path, modalities: tuple[str, ...]):
        self._folder = folder
        self._modalities = modalities
        # The base class of a memmap slices several times faster than memmap itself.
        self._arrays = {_key(name): np.load(folder / f'{name}.npy', mmap_mode='r').view(np.ndarray) for name in modalities}

    def __getitem__(self, position: int) -> Sample:
        """``img`` and the stored maps of the labels of one sample, by key: views, nothing is read yet."""
        return {key: array[position] for key, array in self._arrays.items()}

    def __len__(self) -> int:
        return len(self._arrays['img'])

    def __reduce__(self):
        return PackedSplit, (self._folder, self._modalities)


def read_sample(listing: SplitListing, position: int) -> Sample:
    """Decode and check one sample from its files, with the keys of `PackedSplit`; a label that it lacks is absent."""
    image_path = listing.image_path(position)
    paths = {name: listing.label_paths(name, position) for name in listing.labels}
    return decode_sample(image_path, {name: files for name, files in paths.items() if files}, listing.labels)


def decode_sample(image_path: str, label_paths: Mapping[str, Sequence[str]], labels: Mapping[str, LabelKind]) -> Sample:
    """``img`` ``(H, W, 3)`` uint8 RGB and the stored map of each label with a path, by its key, all of one size."""
    image = decode_image(image_path)
    sample = dict(img=image)
    for name, paths in label_paths.items():
        stored = sample[labels[name].key] = labels[name].decode(*paths, size=image.shape[:2])
        check_same_size(image, stored, image_path, paths[0])
    return sample


def iterate_samples(listing: SplitListing, num_workers: int) -> Iterator[Sample]:
    """All samples in order, decoded by a few threads; memory stays flat."""
    cv2.setNumThreads(0)
    return map_in_order(lambda position: read_sample(listing, position), range(len(listing.stems)), num_workers)


def open_packed(listing: SplitListing) -> PackedSplit | None:
    """The packed folder of a split, or None, with a warning, where it is stale, damaged or of another version."""
    folder = listing.folder / FOLDER_NAME
    if not folder.is_dir():
        return None
    modalities = ('rgb', *listing.labels)
    try:
        index = json.loads((folder / 'index.json').read_bytes())
        reason = _mismatch(index, listing, modalities)
        if reason is None:
            return PackedSplit(folder, modalities)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f'it cannot be read ({error})'
    print_log(
        f"Not using '{folder}': {reason}. Reading the files instead; renew it with tools/dataset_tools/pack_dataset.py.",
        logger='current',
        level=logging.WARNING,
    )
    return None


def _mismatch(index: dict, listing: SplitListing, modalities: tuple[str, ...]) -> str | None:
    if index['version'] != FORMAT_VERSION:
        return f'its format version should be {FORMAT_VERSION}, found {index["version"]}'
    if index['stems'] != listing.stems:
        return 'files were added or removed'
    for name in modalities:
        if name not in index['stamps']:
            return f"it lacks '{name}'"
        for stem, stamp, packed_stamp in zip(listing.stems, listing.stamps(name), index['stamps'][name], strict=True):
            if packed_stamp != (None if stamp is None else list(stamp)):
                return f"'{name}/{stem}' was changed"
    return None


def write_packed(
    listing: SplitListing, num_workers: int = 2, progress: Callable[[Iterator[Sample]], Iterator[Sample]] = iter
) -> Path:
    """Pack a split into ``<root>/<split>/packed``, which appears, or replaces an older one, only when complete.

    Args:
        listing: The split; its tasks say what is packed.
        num_workers: Decoding threads.
        progress: Wraps the iterator over samples, to show a progress bar.

    Raises:
        CorruptFileError: If a file cannot be used, or if the images differ in size.
        DataError: If writing fails, for instance on a full disk.

    On any error an older packed folder stays as it was, and nothing else is left behind.
    """
    folder = listing.folder / FOLDER_NAME
    partial = listing.folder / f'{FOLDER_NAME}.{os.getpid()}.partial'
    # The stamps are taken first: a file that changes while it is being packed makes the result stale, not wrong.
    modalities = ('rgb', *listing.labels)
    index = dict(version=FORMAT_VERSION, stems=listing.stems, stamps={name: listing.stamps(name) for name in modalities})
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        _write_arrays(partial, listing, modalities, progress(iterate_samples(listing, num_workers)))
        (partial / 'index.json').write_text(json.dumps(index), encoding='utf-8')
        _replace_folder(partial, folder)
    except OSError as error:
        raise DataError(f'{describe_os_error(error, folder)} Nothing was changed.') from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_arrays(folder: Path, listing: SplitListing, modalities: tuple[str, ...], samples: Iterator[Sample]) -> None:
    """Write through ordinary files: a full disk is an `OSError` there, but kills the process on a memory map."""
    files = {_key(name): open(folder / f'{name}.npy', 'wb') for name in modalities}
    try:
        first_shape = None
        for position, sample in enumerate(samples):
            shape = sample['img'].shape
            if first_shape is None:
                first_shape = shape
                blanks = dict(img=sample['img'], **{kind.key: kind.blank(shape[:2]) for kind in listing.labels.values()})
                for key, file in files.items():
                    descr = np.lib.format.dtype_to_descr(blanks[key].dtype)
                    full_shape = (len(listing.stems), *blanks[key].shape)
                    np.lib.format.write_array_header_1_0(file, dict(descr=descr, fortran_order=False, shape=full_shape))
            if shape != first_shape:
                raise CorruptFileError(
                    f'Packing needs images of one size. Found {shape[1]}x{shape[0]} (width x height) in '
                    f"'{listing.image_path(position)}' and {first_shape[1]}x{first_shape[0]} in '{listing.image_path(0)}'."
                )
            for key, file in files.items():
                file.write(np.ascontiguousarray(sample.get(key, blanks[key])).data)
    finally:
        for file in files.values():
            file.close()


def _replace_folder(source: Path, target: Path) -> None:
    if not target.exists():
        source.rename(target)
        return
    old = target.with_name(f'{source.name}.old')
    target.rename(old)
    try:
        source.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)
