"""From COCO's images and annotations to an image and a label map."""

import numpy as np
from mmcv.transforms import BaseTransform

from mtl_plugins.datasets.coco.annotations import CocoObject, annotated_orientation
from mtl_plugins.datasets.coco.masks import to_mask
from mtl_plugins.errors import CorruptFileError
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.decoding import decode_image, turn
from mtl_plugins.registry import TRANSFORMS


def rasterise(objects: list[CocoObject], size: tuple[int, int], path: str) -> np.ndarray:
    """The label map ``(H, W)``, uint8: 0 background, ``label + 1`` for an object, 255 where only a crowd lies.

    COCO does not say what lies in front. Where objects overlap, the one with fewer pixels in all is taken, so that none vanishes
    under a larger one; among equal ones the later annotation. An object always wins against a crowd.

    Raises:
        CorruptFileError: If an outline is damaged; ``path`` is the image's, for the message.
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


@TRANSFORMS.register_module()
class LoadCOCOSubset(BaseTransform):
    """Decode the image and draw its objects.

    Reads ``img_path``, ``img_size`` and ``objects``. Adds ``img`` ``(H, W, 3)`` uint8 RGB, ``gt_seg_map`` ``(H, W)`` uint8 as
    `rasterise` makes it, and ``ori_shape`` ``(H, W)``.

    Raises:
        DataNotFoundError: If the image does not exist.
        CorruptFileError: If the image is damaged or of another size, or an outline is damaged.
    """

    def transform(self, results: dict) -> dict:
        path, size = results['img_path'], results['img_size']
        results['img'] = decode_image(path)
        orientation = annotated_orientation(results['img'], size, path)
        label_map = rasterise(results.pop('objects'), size, path)
        results['gt_seg_map'] = np.ascontiguousarray(turn(label_map, orientation))
        results['ori_shape'] = results['img'].shape[:2]
        return results
