"""The first and the last steps of a pipeline: from paths to arrays, and from arrays to what a batch needs."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from mtl_plugins.datasets.packing.packed import decode_sample
from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadLabelledImage(BaseTransform):
    """Decode the image and the labels that the data set names and has not taken from a packed folder.

    Reads ``img_path``, ``label_paths`` and ``labels``. Adds ``img`` ``(H, W, 3)`` uint8 RGB, the stored map of each label by the
    key of its kind, ``ori_shape`` ``(H, W)`` and ``length_scale`` 1.0. Arrays already there are kept and may be read-only.

    Raises:
        DataError: If a file does not exist, is damaged, of another type or size, or holds an unknown class id.
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


@TRANSFORMS.register_module()
class LoadCOCOSubset(LoadLabelledImage):
    """:class:`LoadLabelledImage` by the name that configs of COCO know; the data set decodes the image."""


@TRANSFORMS.register_module()
class PackMultiTaskInputs(BaseTransform):
    """Keep what a batch needs.

    Gives ``inputs`` ``(H, W, 3)`` uint8 RGB, ``targets``, the stored map of each label that the sample has, by name,
    ``labels`` (the kinds), ``length_scale``, ``sample_idx`` and ``metainfo``, all of it NumPy or plain Python:
    `multitask_collate` makes the tensors.

    Args:
        meta_keys: What ``metainfo`` holds. Empty leaves it out, as training does: the sample index says everything.
    """

    def __init__(self, meta_keys: Sequence[str] = ('img_path', 'ori_shape', 'sample_idx')):
        if isinstance(meta_keys, str):
            raise ArgumentError(f'`meta_keys` should be a sequence of names. Found {meta_keys!r}.')
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        item = self.pack(results)
        if self.meta_keys:
            item['metainfo'] = {key: results[key] for key in self.meta_keys}
        return item

    def pack(self, results: dict) -> dict:
        labels = results['labels']
        return dict(
            inputs=results['img'],
            targets={name: results[kind.key] for name, kind in labels.items() if kind.key in results},
            labels=labels,
            length_scale=results.get('length_scale', 1.0),
            sample_idx=results['sample_idx'],
        )


@TRANSFORMS.register_module()
class PackViews(PackMultiTaskInputs):
    """Keep what `view_collate` needs: ``inputs`` (the views), ``label`` (-1 if there is none), ``sample_idx`` and ``metainfo``.

    Args:
        meta_keys: What ``metainfo`` holds. Empty leaves it out, as training does: the sample index says everything.
    """

    def __init__(self, meta_keys: Sequence[str] = ('img_path', 'sample_idx')):
        super().__init__(meta_keys)

    def pack(self, results: dict) -> dict:
        return dict(inputs=results['views'], label=results.get('label', -1), sample_idx=results['sample_idx'])
