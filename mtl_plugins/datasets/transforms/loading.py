"""From paths to arrays."""

from mmcv.transforms import BaseTransform

from mtl_plugins.datasets.packing.packed import decode_sample
from mtl_plugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadLabelledImage(BaseTransform):
    """Decode the image and the labels that the data set names and has not taken from a packed folder.

    Reads ``img_path``, ``label_paths`` and ``labels``. Adds ``img`` ``(H, W, 3)`` uint8 RGB, the stored map of each label by the
    key of its kind, ``ori_shape`` ``(H, W)`` and ``length_scale`` 1.0. Arrays already there are kept and may be read-only.

    Raises:
        DataNotFoundError: If a file does not exist.
        CorruptFileError: If a file is truncated, damaged, of another type or size, or holds an unknown class id.
    """

    def transform(self, results: dict) -> dict:
        if 'img' not in results:
            results.update(decode_sample(results['img_path'], results['label_paths'], results['labels']))
        results['ori_shape'] = results['img'].shape[:2]
        results['length_scale'] = 1.0
        return results


@TRANSFORMS.register_module()
class LoadMiniScapes(LoadLabelledImage):
    """:class:`LoadLabelledImage` by the name that configs of MiniScapes know."""
