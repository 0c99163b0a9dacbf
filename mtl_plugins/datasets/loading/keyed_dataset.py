"""The part that data sets with `SampleKey` share."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
from mmengine.dataset import BaseDataset

from mtl_plugins.datasets.loading.sample_key import SampleKey
from mtl_plugins.datasets.transforms.foreign import build_transform
from mtl_plugins.labels.label_kind import LabelKind


class KeyedDataset(BaseDataset):
    """mmengine's data set, asked by an int or a `SampleKey`.

    The pipeline gets the sample's own generator as ``rng`` and the kinds of the data's labels by name as ``labels``.

    Args:
        data_root: Folder of the data.
        pipeline: Transforms.
        metainfo: Entries of ``metainfo``.
        indices: Keep the first (or, negative, last) so many samples, or those at the given positions.
        test_mode: As in mmengine: never replace a sample by another one.
        lazy_init: List the samples on first use instead of now.
    """

    labels: Mapping[str, LabelKind] = MappingProxyType({})

    def __init__(
        self,
        data_root: str | Path,
        pipeline: Sequence[dict | Callable],
        metainfo: Mapping | None,
        indices: int | Sequence[int] | None,
        test_mode: bool,
        lazy_init: bool,
    ):
        super().__init__(
            data_root=str(data_root),
            data_prefix={},
            pipeline=[build_transform(step) for step in pipeline],
            metainfo=metainfo,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def prepare_data(self, idx: int | SampleKey) -> Any:
        # Samples run in parallel already: OpenCV's own threads would only get in the way. The setting does not survive the
        # start of a worker process on every platform, hence the place.
        if cv2.getNumThreads() > 1:
            cv2.setNumThreads(0)
        key = idx if isinstance(idx, SampleKey) else SampleKey(int(idx))
        results = self.get_data_info(key.index)
        if key.position is not None:
            results['sample_idx'] = key.position
        results['labels'] = self.labels
        results['rng'] = key._replace(index=results['sample_idx']).rng()
        self.load_sample(results)
        return self.pipeline(results)

    def load_sample(self, results: dict) -> None:
        """What a data set adds to ``results`` before the pipeline; by default nothing."""
