"""From the working dictionary of a pipeline to the item that a batch is made of."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from mtl_plugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackMultiTaskInputs(BaseTransform):
    """Keep what a batch needs.

    Gives ``inputs`` ``(H, W, 3)`` uint8 RGB, ``semseg`` ``(H, W)`` uint8 and ``depth`` ``(H, W)`` uint8 codes or float32
    metres (each absent without label), ``depth_scale``, ``sample_idx`` and ``metainfo``, all of it NumPy or plain Python:
    `multitask_collate` makes the tensors.

    Args:
        meta_keys: What ``metainfo`` holds. Empty leaves it out, as training does: the sample index says everything.
    """

    def __init__(self, meta_keys: Sequence[str] = ('img_path', 'ori_shape', 'sample_idx')):
        if isinstance(meta_keys, str):
            raise ValueError(f'`meta_keys` should be a sequence of names. Found {meta_keys!r}.')
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        item = dict(inputs=results['img'])
        if 'gt_seg_map' in results:
            item['semseg'] = results['gt_seg_map']
        if 'gt_depth_map' in results:
            item['depth'] = results['gt_depth_map']
        item['depth_scale'] = results.get('depth_scale', 1.0)
        item['sample_idx'] = results['sample_idx']
        if self.meta_keys:
            item['metainfo'] = {key: results[key] for key in self.meta_keys}
        return item
