"""A COCO folder reduced to some classes: annotations, images and a folder of object crops."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePath

import cv2

from mtl_plugins.datasets.coco.annotations import (
    CocoImage,
    annotation_path,
    check_classes,
    read_json,
    select_instances,
)
from mtl_plugins.datasets.coco.object_crops import cut, find_crops
from mtl_plugins.errors import ArgumentError, DataError, DataNotFoundError
from mtl_plugins.labels.decoding import decode_image
from mtl_plugins.utils.files import describe_os_error, replacing, scratch_folder

CROP_FOLDER = 'crops'
JPEG_QUALITY = 95


def find_splits(root: str | Path) -> list[str]:
    """Splits for which there are both annotations and images, sorted by name."""
    names = [path.stem.removeprefix('instances_') for path in Path(root, 'annotations').glob('instances_*.json')]
    splits = sorted(name for name in names if Path(root, name).is_dir())
    if not splits:
        raise DataNotFoundError(
            f"'{root}' should hold annotations/instances_<split>.json and <split>/*.jpg. Found no such split."
        )
    return splits


def prepare_coco(
    root: str | Path,
    out: str | Path,
    splits: Sequence[str],
    classes: Sequence[str],
    min_size: int = 32,
    margin: float = 0.1,
    copy: bool = False,
    workers: int = 2,
    progress: Callable[[Iterator[int], str, int], Iterable[int]] = lambda counts, split, total: counts,
) -> dict[str, tuple[int, int]]:
    """Make a COCO folder ``out`` that holds the classes only.

    ``<out>/annotations/instances_<split>.json`` has the images with at least one object, no crowd, of the classes, their
    annotations of the classes, crowds included, and those categories, all entries as they were. ``<out>/<split>`` has the
    images, ``<out>/crops/<split>/<class>/<annotation id>.jpg`` the objects, as `ObjectCropDataset` cuts them out. The annotations
    of a split are written when its images and crops are there.

    Args:
        out: Folder to make; it may exist if it is empty.
        min_size, margin: As in `ObjectCropDataset`.
        copy: Copy the images instead of linking to them.
        progress: Wraps the iterator over the images (it yields the number of crops of each), to show a progress bar; it also
            gets the split and the number of images.

    Returns:
        Number of images and of crops per split.

    Raises:
        ArgumentError: If ``classes`` names an unknown category, or one that cannot be a folder.
        DataError: If something is missing or damaged, ``out`` is not empty, or writing fails.
    """
    classes, out = check_classes(classes), Path(out)
    for name in classes:
        if PurePath(name).name != name:
            raise ArgumentError(f'`classes` should be names that a folder can have. Found {name!r}.')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f'{out} is not an empty folder; choose a new one.')
    counts = {}
    try:
        for split in splits:
            content = read_json(root, split)
            images = select_instances(content, root, split, classes)
            (out / split).mkdir(parents=True)
            (out / CROP_FOLDER).mkdir(exist_ok=True)
            # A folder of crops is a data set by itself, and so appears whole.
            with scratch_folder(out / CROP_FOLDER / split) as crops:
                for name in classes:
                    (crops / name).mkdir()
                options = dict(classes=classes, min_size=min_size, margin=margin, copy=copy)
                make = partial(_make_image, images=out / split, crop_folder=crops, **options)
                with ThreadPoolExecutor(max(workers, 1)) as pool:
                    num_crops = sum(progress(pool.map(make, images), split, len(images)))
                crops.rename(out / CROP_FOLDER / split)
            _write_annotations(content, images, classes, annotation_path(out, split))
            counts[split] = (len(images), num_crops)
    except OSError as error:
        raise DataError(f'{describe_os_error(error, out)} Free space, remove the folder and run again.') from error
    return counts


def _make_image(
    image: CocoImage, images: Path, crop_folder: Path, classes: Sequence[str], min_size: int, margin: float, copy: bool
) -> int:
    """Link or copy an image and write its crops; returns their number."""
    # A name in the annotations may hold folders.
    target = images / image.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        with replacing(target, DataError) as temporary:
            shutil.copyfile(image.path, temporary)
    else:
        os.symlink(os.path.abspath(image.path), target)
    crops = find_crops([image], margin, min_size)
    if crops:
        pixels = decode_image(image.path)
    for crop in crops:
        bgr = cv2.cvtColor(cut(pixels, crop), cv2.COLOR_RGB2BGR)
        path = crop_folder / classes[crop['label']] / f'{crop["annotation_id"]:012d}.jpg'
        path.write_bytes(cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
    return len(crops)


def _write_annotations(content: dict, images: list[CocoImage], classes: Sequence[str], path: Path) -> None:
    kept = {image.id for image in images}
    categories = [entry for entry in content['categories'] if entry['name'] in classes]
    ids = {entry['id'] for entry in categories}
    reduced = {key: content[key] for key in ('info', 'licenses') if key in content}
    reduced['images'] = [entry for entry in content['images'] if entry['id'] in kept]
    reduced['annotations'] = [
        entry for entry in content['annotations'] if entry['image_id'] in kept and entry['category_id'] in ids
    ]
    reduced['categories'] = categories
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, DataError) as temporary:
        temporary.write_text(json.dumps(reduced), encoding='utf-8')
