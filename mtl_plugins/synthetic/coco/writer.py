"""Writes generated pictures as a COCO data root with instance annotations in the real JSON format."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mtl_plugins.datasets.coco.annotations import import_pycocotools, pack_segmentation, to_mask
from mtl_plugins.errors import DataError
from mtl_plugins.synthetic.coco.scenes import CATEGORIES, OVERSAMPLING, SPLITS, Visible, render_picture
from mtl_plugins.synthetic.generation import encode_jpeg, generating
from mtl_plugins.utils.files import replacing

_RLE_EVERY = 8  # One annotation in so many is compressed RLE even where a polygon would do.


def encode_object(visible: Visible, number: int) -> dict | None:
    """The entries of an annotation that follow from a mask; None if no pixel of the image is covered.

    A crowd has uncompressed RLE, as in COCO. Other objects have polygons, in pixels from the corner of the image, with two
    decimals; but compressed RLE where the mask has a hole, which polygons cannot tell, and for one ``number`` in eight.
    """
    height, width = size = tuple(side // OVERSAMPLING for side in visible.mask.shape)
    fine = visible.mask.astype(np.uint8)
    mask = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA).astype(bool)
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes = [contour for contour, links in zip(contours, hierarchy[0], strict=True) if links[3] >= 0]
    segmentation: dict | list
    if visible.is_crowd:
        segmentation = dict(counts=run_lengths(mask), size=[height, width])
    elif number % _RLE_EVERY == 0 or any(cv2.contourArea(hole) > OVERSAMPLING**2 for hole in holes):
        rle = import_pycocotools().encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = dict(counts=rle['counts'].decode(), size=[height, width])
    else:
        segmentation = _polygons(contours)
        mask = to_mask(pack_segmentation(segmentation, size), size)
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return dict(
        segmentation=segmentation,
        area=int(mask.sum()),
        bbox=[x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        iscrowd=int(visible.is_crowd),
    )


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed RLE: lengths of the runs of 0, 1, 0, ... down the columns, the first one possibly 0."""
    flat = np.concatenate([[False], mask.ravel(order='F')])
    borders = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], borders, [mask.size]])).tolist()


def _polygons(contours: list[np.ndarray]) -> list[list[float]]:
    polygons = []
    for contour in contours:
        outline = cv2.approxPolyDP(contour, 0.3 * OVERSAMPLING, True)[:, 0]
        if len(outline) >= 3 and cv2.contourArea(outline) >= OVERSAMPLING**2:
            polygons.append(np.round((outline + 0.5) / OVERSAMPLING, 2).ravel().tolist())
    return polygons


def _make_sample(index: int, folder: Path, seed: int, split: str, size: tuple[int, int]) -> list[dict]:
    """Write an image; its annotations, without the ids."""
    picture = render_picture(seed, split, index, size)
    (folder / _file_name(index)).write_bytes(encode_jpeg(picture.image))
    annotations = []
    for number, visible in enumerate(picture.objects):
        entries = encode_object(visible, index + number)
        if entries is not None:
            annotations.append(dict(category_id=visible.category.id, **entries))
    return annotations


def _file_name(index: int) -> str:
    return f'{index + 1:012d}.jpg'


def write_coco(
    out: str | os.PathLike,
    num_train: int,
    num_val: int,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    workers: int = 1,
) -> Path:
    """Generate ``<out>/annotations/instances_<split>.json`` and ``<out>/<split>/<id>.jpg`` for ``train`` and ``val``.

    Arguments, errors and what a sample depends on are those of :func:`write_miniscapes`. The annotations of a split are written
    when its images are there: an interrupted run leaves none.
    """
    counts = dict(zip(SPLITS, (num_train, num_val), strict=True))
    import_pycocotools()
    with generating(out, counts, size, seed, workers) as (root, render):
        (root / 'annotations').mkdir(parents=True)
        for split in filter(counts.get, counts):
            folder = root / split
            folder.mkdir()
            make = partial(_make_sample, folder=folder, seed=seed, split=split, size=tuple(size))
            content = _instances(render(make, split), size)
            with replacing(root / 'annotations' / f'instances_{split}.json', DataError) as temporary:
                temporary.write_text(json.dumps(content), encoding='utf-8')
    return root


def _instances(samples: Iterator[list[dict]], size: tuple[int, int]) -> dict:
    """COCO's object instance format; image ids from 1, annotation ids from 1 in the order of the images."""
    images, annotations = [], []
    for index, sample in enumerate(samples):
        images.append(dict(id=index + 1, file_name=_file_name(index), height=size[0], width=size[1], license=1))
        for entries in sample:
            annotations.append(dict(id=len(annotations) + 1, image_id=index + 1, **entries))
    categories = [dict(id=item.id, name=item.name, supercategory=item.supercategory) for item in CATEGORIES]
    info = dict(description='Generated pictures in the format of COCO', version='1.0')
    licenses = [dict(id=1, name='generated, free of rights', url='')]
    return dict(info=info, licenses=licenses, images=images, annotations=annotations, categories=categories)
