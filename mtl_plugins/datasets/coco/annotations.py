"""COCO's instance annotations of some categories, checked and compact, and the pixels of their outlines."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image

from mtl_plugins.datasets.multitask.split_listing import HOW_TO_MAKE
from mtl_plugins.errors import ArgumentError, CorruptFileError, DataError, DataNotFoundError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.decoding import QUARTER_TURNS, read_orientation

# A polygon as the bytes of its float64 coordinates x, y, x, y, ..., which keeps a large split small; or COCO's RLE.
Segmentation = list[bytes] | dict


def import_pycocotools() -> ModuleType:
    """Import ``pycocotools.mask``."""
    try:
        from pycocotools import mask
    except ImportError:
        raise DataError('pycocotools is not installed, but COCO annotations need it. Install the extra `coco`.') from None
    return mask


def pack_segmentation(segmentation: list | dict, size: tuple[int, int]) -> Segmentation:
    """Check the ``segmentation`` of an annotation and make it compact; raise ValueError if it is neither polygons nor RLE.

    Polygons of fewer than three points cover nothing and are left out. Points may lie out of the image by as much as its longer
    side; what is out of it is cut off when the mask is made.
    """
    if isinstance(segmentation, dict):
        if list(segmentation['size']) != list(size):
            raise ValueError(f'its RLE is of size {segmentation["size"]}, but its image of {list(size)}')
        if not isinstance(segmentation['counts'], (list, str)):
            raise ValueError('its RLE counts are no list or string')
        return dict(size=tuple(size), counts=segmentation['counts'])
    polygons = [np.asarray(polygon, np.float64) for polygon in segmentation]
    for polygon in polygons:
        if polygon.ndim != 1 or len(polygon) % 2:
            raise ValueError('a polygon of it is no list of x, y, x, y, ...')
        # NaN fails the comparison.
        if len(polygon) and not (-max(size) <= polygon.min() and polygon.max() <= 2 * max(size)):
            raise ValueError('a polygon of it is far outside its image')
    return [polygon.tobytes() for polygon in polygons if len(polygon) >= 6]


def to_mask(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """The pixels ``(H, W)``, boolean, of what `pack_segmentation` gives; polygons by the rule of COCO's own tools."""
    if isinstance(segmentation, dict):
        counts = segmentation['counts']
    elif segmentation:
        pycocotools = import_pycocotools()
        polygons = [np.frombuffer(polygon).tolist() for polygon in segmentation]
        counts = pycocotools.merge(pycocotools.frPyObjects(polygons, *size))['counts'].decode()
    else:
        return np.zeros(size, bool)
    runs = decode_counts(counts)
    if runs.min(initial=0) < 0 or runs.sum() != size[0] * size[1]:
        raise ArgumentError(f'the runs of its RLE should add up to {size[0]}x{size[1]} pixels, and add up to {runs.sum()}')
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T


def decode_counts(counts: Sequence[int] | str) -> np.ndarray:
    """Lengths of the runs of 0, 1, 0, ... down the columns, int64.

    In the compressed form each run is a number of 5-bit digits, the least first, each as the character ``48 + digit``, plus 32
    if another one follows; bit 4 of the last is the sign. From the fourth run on the difference to the one before the last is
    stored. pycocotools is not used because it returns memory that nobody wrote where a string ends early.
    """
    if not isinstance(counts, str):
        return np.array(counts, np.int64).reshape(-1)
    codes = np.frombuffer(counts.encode('latin-1', 'replace'), np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise ValueError('its RLE counts are damaged')
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 7:
        raise ValueError('its RLE counts are damaged')
    digits = (codes & 31) << (5 * (np.arange(len(codes)) - np.repeat(starts, lengths)))
    runs = np.add.reduceat(digits, starts) - np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


CLASSES = ('person', 'car', 'bicycle', 'cat', 'dog')
# COCO's ids of the classes above, by which the aggregated annotations name them.
CATEGORY_IDS = {1: 'person', 2: 'bicycle', 3: 'car', 17: 'cat', 18: 'dog'}


class CocoObject(NamedTuple):
    """An annotation: its id, position of its category in the classes, box ``(x, y, width, height)`` in pixels, and outline."""

    id: int
    label: int
    is_crowd: bool
    box: tuple[float, float, float, float]
    segmentation: Segmentation


class CocoImage(NamedTuple):
    """An image with those of its objects that belong to the classes, in the order of the file; ``size`` is (height, width)."""

    id: int
    file_name: str
    path: str
    size: tuple[int, int]
    objects: list[CocoObject]


def annotation_path(data_root: str | Path, split: str) -> Path:
    """``<data_root>/annotations/instances_<split>.json``."""
    return Path(data_root) / 'annotations' / f'instances_{split}.json'


def image_folder(data_root: str | Path, split: str) -> Path:
    """``<data_root>/<split>``, or ``<data_root>/imgs/<split>2014`` where there are aggregated annotations."""
    if find_aggregated(data_root, split) is None:
        return Path(data_root) / split
    return Path(data_root) / 'imgs' / f'{split}2014'


def find_aggregated(data_root: str | Path, split: str) -> Path | None:
    """``<data_root>/aggregated_annotations_<split>_5classes.json``, if it is there and COCO's own file is not."""
    path = Path(data_root) / f'aggregated_annotations_{split}_5classes.json'
    return path if path.is_file() and not annotation_path(data_root, split).is_file() else None


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return ``classes`` as a tuple, of 1 to 254 different names."""
    if isinstance(classes, str) or not 0 < len(classes) < 255 or len(set(classes)) != len(classes):
        raise ArgumentError(f'`classes` should be a sequence of 1 to 254 different names. Found {classes!r}.')
    return tuple(classes)


def read_json(data_root: str | Path, split: str) -> dict:
    """The annotations of a split as they are; aggregated ones in COCO's format."""
    aggregated = find_aggregated(data_root, split)
    path = aggregated or annotation_path(data_root, split)
    if not path.is_file():
        raise DataNotFoundError(f"The annotations '{path}' do not exist. {HOW_TO_MAKE}")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"The annotations '{path}' are damaged or no JSON: {error}.") from error
    if aggregated is not None:
        return _spread_aggregated(content, image_folder(data_root, split), path)
    if not isinstance(content, dict):
        raise CorruptFileError(f"The annotations '{path}' should hold a JSON object. Found a {type(content).__name__}.")
    return content


def _spread_aggregated(content: list[dict], folder: Path, path: Path) -> dict:
    """Annotations in COCO's format of a list of images, each with its objects by category id.

    An image is ``{'file_name': ..., 'annotations': {'17': [{'segmentation': [polygon, ...]}, ...], ...}}``. Its size comes from
    its file, a box from the polygons, and objects with run lengths are crowds.
    """
    images, annotations = [], []
    try:
        for image_id, entry in enumerate(content):
            with Image.open(folder / entry['file_name']) as image:
                width, height = image.size
            images.append(dict(id=image_id, file_name=entry['file_name'], width=width, height=height))
            for category_id, objects in entry['annotations'].items():
                for item in objects:
                    outline = item['segmentation']
                    is_crowd = isinstance(outline, dict)
                    points = np.concatenate([[0, 0]] if is_crowd else outline).reshape(-1, 2)
                    box = [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()]
                    found = dict(segmentation=outline, bbox=box, iscrowd=int(is_crowd))
                    annotations.append(dict(found, id=len(annotations), image_id=image_id, category_id=int(category_id)))
    except OSError as error:
        raise DataNotFoundError(f"An image that '{path}' names cannot be read: {error}.") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptFileError(
            f"The annotations '{path}' should list images with `file_name` and `annotations`. Found a bad entry: {error!r}."
        ) from error
    categories = [dict(id=id_, name=name) for id_, name in CATEGORY_IDS.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def read_instances(data_root: str | Path, split: str, classes: Sequence[str] = CLASSES) -> list[CocoImage]:
    """The images of ``<data_root>/<split>`` that hold at least one object, no crowd, of the classes, in the order of the file."""
    return select_instances(read_json(data_root, split), data_root, split, classes)


def select_instances(content: dict, data_root: str | Path, split: str, classes: Sequence[str]) -> list[CocoImage]:
    """`read_instances` of annotations that `read_json` gave."""
    path, folder = find_aggregated(data_root, split) or annotation_path(data_root, split), image_folder(data_root, split)
    try:
        names = {entry['id']: entry['name'] for entry in content['categories']}
        classes = check_classes(classes)
        unknown = [name for name in classes if name not in names.values()]
        if unknown:
            known = ', '.join(sorted(names.values()))
            raise ArgumentError(f"`classes` should be categories of '{path}': {known}. Found {', '.join(map(repr, unknown))}.")
        labels = {id_: classes.index(name) for id_, name in names.items() if name in classes}
        images = {entry['id']: _image(entry, folder, path) for entry in content['images']}
        for entry in content['annotations']:
            label = labels.get(entry['category_id'])
            if label is not None:
                image = images[entry['image_id']]
                image.objects.append(_object(entry, label, image.size, path))
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CorruptFileError(
            f"The annotations '{path}' should be in COCO's format for object instances. Found a bad entry: {error!r}."
        ) from error
    kept = [image for image in images.values() if not all(item.is_crowd for item in image.objects)]
    if not kept:
        raise DataNotFoundError(f"The annotations '{path}' hold no object of the classes {', '.join(classes)}.")
    missing = [image.path for image in kept if not Path(image.path).is_file()]
    if missing:
        raise DataNotFoundError(
            f"The image '{missing[0]}' does not exist ({len(missing)} of the {len(kept)} that '{path}' names are missing)."
        )
    return kept


def _image(entry: dict, folder: Path, path: Path) -> CocoImage:
    name = PurePosixPath(entry['file_name'])
    if name.is_absolute() or '..' in name.parts:
        raise CorruptFileError(f"The annotations '{path}' name an image out of its folder: '{name}'.")
    size = int(entry['height']), int(entry['width'])
    if min(size) < 1:
        raise CorruptFileError(f"The annotations '{path}' give the image '{name}' the size {size[1]}x{size[0]} (width x height).")
    return CocoImage(entry['id'], str(name), f'{folder}/{name}', size, [])


def _object(entry: dict, label: int, size: tuple[int, int], path: Path) -> CocoObject:
    try:
        x, y, width, height = (float(value) for value in entry['bbox'])
        segmentation = pack_segmentation(entry['segmentation'], size)
    except ValueError as error:
        raise CorruptFileError(f"The annotation {entry['id']} in '{path}' cannot be used: {error}.") from error
    return CocoObject(entry['id'], label, bool(entry.get('iscrowd', 0)), (x, y, width, height), segmentation)


def annotated_orientation(image: np.ndarray, size: tuple[int, int], path: str) -> int:
    """Return 1 where annotations are of the upright image, and its EXIF orientation where they are of the file as it is stored.

    The height and width ``size`` in the annotations decide; if they fit neither, it is a `CorruptFileError`.
    """
    if image.shape[:2] == tuple(size):
        return 1
    orientation = read_orientation(path)
    if orientation in QUARTER_TURNS and image.shape[1::-1] == tuple(size):
        return orientation
    sizes = [f'{width}x{height}' for height, width in (size, image.shape[:2])]
    raise CorruptFileError(
        f"The image '{path}' should be of the size that the annotations give, {sizes[0]} (width x height). Found {sizes[1]}."
    )


def rasterise(objects: list[CocoObject], size: tuple[int, int], path: str) -> np.ndarray:
    """The label map ``(H, W)``, uint8: 0 background, ``label + 1`` for an object, 255 where only a crowd lies.

    COCO does not say what lies in front. Where objects overlap, the one with fewer pixels in all is taken, so that none vanishes
    under a larger one; among equal ones the later annotation. An object always wins against a crowd. Errors name the image
    ``path``.
    """
    masks = []
    for item in objects:
        try:
            masks.append(to_mask(item.segmentation, size))
        except ValueError as error:
            raise CorruptFileError(f"The annotation {item.id} cannot be used: {error} (image '{path}').") from error
    areas = [int(mask.sum()) for mask in masks]
    label_map = np.zeros(size, np.uint8)
    for k in sorted(range(len(objects)), key=lambda k: (not objects[k].is_crowd, -areas[k], k)):
        label_map[masks[k]] = IGNORE_LABEL if objects[k].is_crowd else objects[k].label + 1
    return label_map
