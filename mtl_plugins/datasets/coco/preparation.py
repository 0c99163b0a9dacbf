"""A COCO folder reduced to some classes: annotations, images and a folder of object crops."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePath

import cv2

from mtl_plugins.datasets.coco.annotations import (
    CocoImage,
    annotation_path,
    check_classes,
    find_aggregated,
    image_folder,
    read_json,
    select_instances,
)
from mtl_plugins.datasets.coco.datasets import cut, find_crops
from mtl_plugins.errors import ArgumentError, DataNotFoundError
from mtl_plugins.labels.decoding import decode_image
from mtl_plugins.utils.cli import track
from mtl_plugins.utils.files import new_folder
from mtl_plugins.utils.threads import map_in_order

CROP_FOLDER = 'crops'
JPEG_QUALITY = 95


def find_splits(root: str | Path) -> list[str]:
    """Splits for which there are both annotations and images, sorted by name."""
    names = [path.stem.removeprefix('instances_') for path in Path(root, 'annotations').glob('instances_*.json')]
    names += [name for name in ('train', 'val') if find_aggregated(root, name)]
    splits = sorted(name for name in names if image_folder(root, name).is_dir())
    if not splits:
        raise DataNotFoundError(
            f"'{root}' holds no split of COCO. It should have annotations/instances_<split>.json and <split>/*.jpg, or "
            'aggregated_annotations_<split>_5classes.json and imgs/<split>2014/*.jpg.'
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
) -> dict[str, tuple[int, int]]:
    """Make a COCO folder ``out``, new or empty, that holds the classes only; return the numbers of images and crops per split.

    ``<out>/annotations/instances_<split>.json`` has the images with at least one object, no crowd, of the classes, their
    annotations of the classes, crowds included, and those categories, all entries as they were. ``<out>/<split>`` has the
    images, linked unless ``copy``, ``<out>/crops/<split>/<class>/<annotation id>.jpg`` the objects, as `ObjectCropDataset` cuts
    them out.

    Raises:
        UserError: If a class is unknown or cannot be a folder, something is missing or damaged, ``out`` is not empty, or writing
            fails.
    """
    classes = check_classes(classes)
    for name in classes:
        if PurePath(name).name != name:
            raise ArgumentError(f'`classes` should be names that a folder can have. Found {name!r}.')
    counts = {}
    with new_folder(Path(out)) as folder:
        for split in splits:
            content = read_json(root, split)
            images = select_instances(content, root, split, classes)
            (folder / split).mkdir()
            for name in classes:
                (folder / CROP_FOLDER / split / name).mkdir(parents=True)

            def make_image(image: CocoImage, split: str = split) -> int:
                # A name in the annotations may hold folders.
                target = folder / split / image.file_name
                target.parent.mkdir(parents=True, exist_ok=True)
                if copy:
                    shutil.copyfile(image.path, target)
                else:
                    target.symlink_to(os.path.abspath(image.path))
                crops = find_crops([image], margin, min_size)
                pixels = decode_image(image.path) if crops else None
                for crop in crops:
                    bgr = cv2.cvtColor(cut(pixels, crop), cv2.COLOR_RGB2BGR)
                    path = folder / CROP_FOLDER / split / classes[crop['label']] / f'{crop["annotation_id"]:012d}.jpg'
                    path.write_bytes(cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
                return len(crops)

            num_crops = sum(track(map_in_order(make_image, images, workers), len(images), split))
            _write_annotations(content, images, classes, annotation_path(folder, split))
            counts[split] = (len(images), num_crops)
    return counts


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
    path.write_text(json.dumps(reduced), encoding='utf-8')
