"""COCO's objects as label maps and as crops."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_plugins.datasets.coco.annotations import (
    CLASSES,
    CocoImage,
    annotated_orientation,
    check_classes,
    rasterise,
    read_instances,
)
from mtl_plugins.datasets.loading.labelled_dataset import KeyedDataset, class_names
from mtl_plugins.datasets.multitask.split_listing import tell_left_out, walk_files
from mtl_plugins.errors import ArgumentError, DataNotFoundError
from mtl_plugins.labels.class_map import make_palette
from mtl_plugins.labels.decoding import IMAGE_SUFFIXES, decode_image, turn, turn_back
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.registry import DATASETS


@DATASETS.register_module()
class COCOSubsetDataset(KeyedDataset):
    """The images of a COCO split that hold at least one object of the classes.

    Files: ``<data_root>/annotations/instances_<split>.json`` in COCO's format for object instances, and the images
    ``<data_root>/<split>/<file_name>``. Or, of the splits ``'train'`` and ``'val'``,
    ``<data_root>/aggregated_annotations_<split>_5classes.json``, a list of images with ``file_name`` and ``annotations``, objects
    by COCO's category id, and ``<data_root>/imgs/<split>2014/<file_name>``. ``metainfo['classes']`` is
    ``('background', *classes)``.

    ``dataset[key]`` takes an int or a `SampleKey` and runs the pipeline on ``img`` ``(H, W, 3)`` uint8 RGB, ``gt_seg_map`` ``(H,
    W)`` uint8 as :func:`rasterise` makes it, ``img_path``, ``img_size`` (height, width), ``sample_idx`` and ``rng``. The
    annotations are read once and kept compact; pixels are made of them per sample.

    Args:
        data_root: Folder that holds ``annotations`` and the splits.
        split: ``'train'``, ``'val'``, ``'train2017'`` and so on.
        classes: Categories by name; class ``k + 1`` is the ``k``-th.
        **kwargs: Of the parent: ``pipeline``, ``metainfo``, ``indices``, ``test_mode`` and ``lazy_init``.

    Raises:
        ArgumentError: If ``classes`` names an unknown category.
        DataError: If files are missing or damaged, or no image is left; from ``dataset[key]``, if a file cannot be used.
    """

    def __init__(self, data_root: str | Path, split: str = 'train', classes: Sequence[str] = CLASSES, **kwargs: Any):
        self.split = split
        self.classes = check_classes(classes)
        configs = self.offered_labels(dict(classes=classes))
        self.labels = build_labels(configs)
        super().__init__(dict(labels=configs, **class_names(self.labels)), data_root, **kwargs)

    @classmethod
    def offered_labels(cls, config: Mapping[str, Any]) -> dict[str, dict]:
        classes = check_classes(config.get('classes', CLASSES))
        palette = [[0, 0, 0], *make_palette(len(classes))]
        return dict(semseg=dict(type='ClassMap', classes=('background', *classes), palette=palette))

    def load_data_list(self) -> list[dict]:
        images = read_instances(self.data_root, self.split, self.classes)
        return [dict(img_path=image.path, img_size=image.size, objects=image.objects) for image in images]

    def load_sample(self, results: dict) -> None:
        path, size = results['img_path'], results['img_size']
        results['img'] = decode_image(path)
        orientation = annotated_orientation(results['img'], size, path)
        results['gt_seg_map'] = np.ascontiguousarray(turn(rasterise(results.pop('objects'), size, path), orientation))

    def read_labels(self, position: int) -> dict[str, np.ndarray]:
        """Return the label map ``(H, W)`` uint8 of one sample by its name; the file of the image stays closed."""
        info = self.get_data_info(position)
        return dict(semseg=rasterise(info['objects'], info['img_size'], info['img_path']))


def crop_box(box: Sequence[float], image_size: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
    """The area ``(x0, y0, x1, y1)`` of whole pixels around a box ``(x, y, width, height)``, within the image.

    ``margin`` is added on each side, as a share of the box's width and height.
    """
    x, y, width, height = box
    left, top = int(np.floor(x - margin * width)), int(np.floor(y - margin * height))
    right, bottom = int(np.ceil(x + (1 + margin) * width)), int(np.ceil(y + (1 + margin) * height))
    return max(left, 0), max(top, 0), min(right, image_size[1]), min(bottom, image_size[0])


def find_crops(images: Sequence[CocoImage], margin: float, min_size: int) -> list[dict]:
    """``img_path``, ``img_size``, ``area`` (as of `crop_box`), ``label`` and ``annotation_id`` of each object that is no crowd
    and, within the image and without margin, at least ``min_size`` pixels wide and high."""
    crops = []
    for image in images:
        for item in image.objects:
            x0, y0, x1, y1 = crop_box(item.box, image.size, 0.0)
            if not item.is_crowd and min(x1 - x0, y1 - y0) >= max(min_size, 1):
                area = crop_box(item.box, image.size, margin)
                crops.append(dict(img_path=image.path, img_size=image.size, area=area, label=item.label, annotation_id=item.id))
    return crops


def cut(image: np.ndarray, crop: Mapping) -> np.ndarray:
    """Return the area of a crop of :func:`find_crops` in its upright image ``(H, W, 3)``."""
    orientation = annotated_orientation(image, crop['img_size'], crop['img_path'])
    x0, y0, x1, y1 = crop['area']
    return turn(turn_back(image, orientation)[y0:y1, x0:x1], orientation)


@DATASETS.register_module()
class ObjectCropDataset(KeyedDataset):
    """One object per sample, with its class where it is known.

    By default the boxes of a COCO split (see `COCOSubsetDataset`), crowds left out. With ``folder`` the images in
    ``<folder>/<split>/<class>``, or, if there are no sub-folders, those in ``<folder>/<split>``, whose class is unknown.
    Without a folder each crop costs the decoding of its whole image; ``mtl data prepare-coco`` makes one.

    ``dataset[key]`` takes an int or a `SampleKey` and runs the pipeline on ``img`` ``(H, W, 3)`` uint8 RGB, ``label`` (position
    in ``metainfo['classes']``, -1 = unknown), ``img_path``, ``sample_idx`` and ``rng``.

    Args:
        data_root: COCO's folder; ``folder`` is relative to it.
        split: ``'train'``, ``'val'``, ``'train2017'`` and so on.
        classes: Categories, or sub-folders, by name. By default COCO's person, car, bicycle, cat and dog, or all sub-folders.
        margin: What is added on each side of a box, as a share of its width and height; 0.1 by default.
        min_size: Objects whose box, within the image, is narrower or lower than so many pixels are left out; 32 by default.
        folder: Folder of crops, taken as they are: without ``margin`` and ``min_size``.
        **kwargs: Of the parent: ``pipeline``, ``metainfo``, ``indices``, ``test_mode`` and ``lazy_init``.

    Raises:
        ArgumentError: If ``margin`` or ``min_size`` is negative or comes with ``folder``, or a category is unknown.
        DataError: If files are missing or damaged, or no crop is left; from ``dataset[key]``, if an image cannot be used.
    """

    def __init__(
        self,
        data_root: str | Path = '',
        split: str = 'train',
        classes: Sequence[str] | None = None,
        margin: float | None = None,
        min_size: int | None = None,
        folder: str | Path | None = None,
        **kwargs: Any,
    ):
        if folder is not None and (margin, min_size) != (None, None):
            raise ArgumentError(
                f'`margin` and `min_size` should be left out with `folder`, whose crops are whole. Found {margin} and {min_size}.'
            )
        margin, min_size = 0.1 if margin is None else margin, 32 if min_size is None else min_size
        if margin < 0 or min_size < 0:
            raise ArgumentError(f'`margin` and `min_size` should not be negative. Found {margin} and {min_size}.')
        self.split = split
        self.margin, self.min_size = margin, min_size
        self.folder = None if folder is None else Path(data_root) / folder / split
        if classes is None:
            classes = CLASSES if self.folder is None else _sub_folders(self.folder)
        self.classes = check_classes(classes) if classes else ()
        super().__init__(dict(classes=self.classes), data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        if self.folder is not None:
            return _list_folder(self.folder, self.classes)
        crops = find_crops(read_instances(self.data_root, self.split, self.classes), self.margin, self.min_size)
        if not crops:
            raise DataNotFoundError(f"'{self.data_root}' has no object of at least {self.min_size} pixels in '{self.split}'.")
        return crops

    def load_sample(self, results: dict) -> None:
        image = decode_image(results['img_path'])
        if 'area' in results:
            image = cut(image, results)
        results['img'] = image


def _sub_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataNotFoundError(f"The folder of crops '{folder}' does not exist. `mtl data prepare-coco` makes one from COCO.")
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith('.'))


def _list_folder(folder: Path, classes: Sequence[str]) -> list[dict]:
    known = _sub_folders(folder)
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise ArgumentError(
            f"`classes` should be folders of '{folder}': {', '.join(known)}. Found {', '.join(map(repr, unknown))}."
        )
    places = [(folder / name, label) for label, name in enumerate(classes)] or [(folder, -1)]
    crops = []
    for place, label in places:
        names = sorted(name for name in walk_files(Path(place), deep=False) if name.lower().endswith(IMAGE_SUFFIXES))
        crops += [dict(img_path=f'{place}/{name}', label=label) for name in names]
    if not crops:
        raise DataNotFoundError(f"The folder of crops '{folder}' holds no images.")
    taken = {crop['img_path'] for crop in crops}
    tell_left_out(f"'{folder}'", len(crops), {'files': [path for path in walk_files(folder) if f'{folder}/{path}' not in taken]})
    return crops
