"""From views to the item that a batch of views is made of."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from mtl_plugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Keep what `view_collate` needs: ``inputs`` (the views), ``label`` (-1 if there is none), ``sample_idx`` and ``metainfo``.

    Args:
        meta_keys: What ``metainfo`` holds. Empty leaves it out, as training does: the sample index says everything.
    """

    def __init__(self, meta_keys: Sequence[str] = ('img_path', 'sample_idx')):
        if isinstance(meta_keys, str):
            raise ValueError(f'`meta_keys` should be a sequence of names. Found {meta_keys!r}.')
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        item = dict(inputs=results['views'], label=results.get('label', -1), sample_idx=results['sample_idx'])
        if self.meta_keys:
            item['metainfo'] = {key: results[key] for key in self.meta_keys}
        return item
