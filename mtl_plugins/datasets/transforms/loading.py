"""From paths to arrays."""

from mmcv.transforms import BaseTransform

from mtl_plugins.labels.decoding import check_same_size, decode_depth_code, decode_image, decode_label
from mtl_plugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadMiniScapes(BaseTransform):
    """Decode what the dataset names and has not taken from a packed folder.

    Reads ``img_path`` and, where present, ``seg_map_path`` and ``depth_map_path``. Adds ``img`` ``(H, W, 3)`` uint8 RGB,
    ``gt_seg_map`` ``(H, W)`` uint8 with 255 = ignore, ``gt_depth_map`` ``(H, W)`` uint8 disparity codes with 0 = no depth
    known, ``ori_shape`` ``(H, W)`` and ``depth_scale`` 1.0. Arrays already there are kept and may be read-only.

    Raises:
        DataNotFoundError: If a file does not exist.
        CorruptFileError: If a file is truncated, damaged, of another type or size, or holds an unknown class id.
    """

    def transform(self, results: dict) -> dict:
        if 'img' not in results:
            image_path = results['img_path']
            image = results['img'] = decode_image(image_path)
            for path_key, key, decode in (
                ('seg_map_path', 'gt_seg_map', decode_label),
                ('depth_map_path', 'gt_depth_map', decode_depth_code),
            ):
                if path_key in results:
                    results[key] = decode(results[path_key])
                    check_same_size(image, results[key], image_path, results[path_key])
        results['ori_shape'] = results['img'].shape[:2]
        results['depth_scale'] = 1.0
        return results
