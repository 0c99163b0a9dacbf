"""MiniScapes: street scenes with a class and a depth for every pixel."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
from mmengine.dataset import BaseDataset

from mtl_plugins.datasets.loading.sample_key import SampleKey
from mtl_plugins.datasets.multitask.split_listing import TASKS, check_tasks, list_split
from mtl_plugins.datasets.packing.packed import open_packed
from mtl_plugins.datasets.transforms.foreign import build_transform
from mtl_plugins.labels.cityscapes_classes import CLASSES, PALETTE
from mtl_plugins.registry import DATASETS


@DATASETS.register_module()
class MiniScapesDataset(BaseDataset):
    """Images with semantic labels (Cityscapes' 19 classes, 255 = ignore) and 8-bit disparity codes (0 = no depth known).

    Files: ``<data_root>/<split>/{rgb/<index>.jpg, semseg/<index>.png, depth/<index>.png}``; any number of samples, any image
    size. A folder ``packed`` beside them (``tools/dataset_tools/pack_dataset.py``) is used instead of the files as long as it
    matches them.

    ``dataset[key]`` takes an int or a `SampleKey` and runs the pipeline on ``img_path``, ``seg_map_path`` and
    ``depth_map_path`` (each only if its task is asked for and labelled), ``sample_idx`` and ``rng``, the sample's own random
    generator; from a packed folder also on ``img``, ``gt_seg_map`` and ``gt_depth_map`` (read-only).

    Args:
        data_root: Folder that holds the splits.
        split: ``'train'``, ``'val'``, ``'test'`` or another folder name. Only ``'test'`` may go without labels.
        tasks: Which labels to read.
        pipeline: Transforms.
        metainfo: Replaces entries of ``METAINFO``.
        indices: Keep the first (or, negative, last) so many samples, or those at the given positions.
        use_packed: Whether a packed folder may be used.
        test_mode: As in mmengine: never replace a sample by another one.
        lazy_init: List the files on first use instead of now.

    Raises:
        ValueError: If ``tasks`` holds an unknown name.
        DataNotFoundError: If the root, the split, its images or a label file is missing.
        CorruptFileError: From ``dataset[key]``, if a file cannot be used.
    """

    METAINFO = dict(classes=CLASSES, palette=[list(colour) for colour in PALETTE])

    def __init__(
        self,
        data_root: str | Path,
        split: str = 'train',
        tasks: Sequence[str] = TASKS,
        pipeline: Sequence[dict | Callable] = (),
        metainfo: Mapping | None = None,
        indices: int | Sequence[int] | None = None,
        use_packed: bool = True,
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        self.split = split
        self.tasks = check_tasks(tasks)
        self.use_packed = use_packed
        self.packed = None
        super().__init__(
            data_root=str(data_root),
            data_prefix={},
            pipeline=[build_transform(step) for step in pipeline],
            metainfo=metainfo,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        listing = list_split(self.data_root, self.split, self.tasks)
        self.packed = open_packed(listing) if self.use_packed else None
        data_list = []
        for position in range(len(listing.stems)):
            info = dict(img_path=listing.image_path(position), split_position=position)
            if 'semseg' in listing.tasks:
                info['seg_map_path'] = listing.label_path('semseg', position)
            if 'depth' in listing.tasks:
                info['depth_map_path'] = listing.label_path('depth', position)
            data_list.append(info)
        return data_list

    def prepare_data(self, idx: int | SampleKey) -> Any:
        # The maps are small and samples run in parallel already: OpenCV's own threads would only get in the way. The setting
        # does not survive the start of a worker process on every platform, hence the place.
        if cv2.getNumThreads() > 1:
            cv2.setNumThreads(0)
        key = idx if isinstance(idx, SampleKey) else SampleKey(int(idx))
        results = self.get_data_info(key.index)
        results['rng'] = key._replace(index=results['sample_idx']).rng()
        if self.packed is not None:
            results.update(self.packed[results['split_position']])
        return self.pipeline(results)
