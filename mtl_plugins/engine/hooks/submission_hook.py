"""Predictions written to disk while the test loop runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS
from mtl_plugins.submission.writer import SubmissionWriter


@HOOKS.register_module()
class SubmissionHook(Hook):
    """Hand every prediction of the test loop to a :class:`SubmissionWriter`, which encodes it in the background.

    Each process writes its share of the images into the same folder.

    Args:
        out_dir: Folder that gets ``predictions/<task>/<stem>.png``.
        tasks: Tasks to write.
        rounding: How a depth becomes a code: ``'nearest'`` or the course's ``'truncate'``.
        num_threads: Encoding threads.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str, tasks: Sequence[str], rounding: str = 'nearest', num_threads: int = 2) -> None:
        self.out_dir = Path(out_dir)
        self.tasks = tuple(tasks)
        self.rounding = rounding
        self.num_threads = num_threads
        self._writer: SubmissionWriter | None = None

    def before_test_epoch(self, runner) -> None:
        self._writer = SubmissionWriter(self.out_dir, self.tasks, rounding=self.rounding, num_threads=self.num_threads)

    def after_test_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None) -> None:
        for sample in outputs:
            maps = {task: _prediction(sample, field) for task, field in _FIELDS.items() if task in self.tasks}
            self._writer.add(Path(sample.img_path).stem, **maps)

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._writer.close()


_FIELDS = {'semseg': 'pred_sem_seg', 'depth': 'pred_depth_map'}


def _prediction(sample, field: str) -> np.ndarray:
    return sample.get(field).data[0].cpu().numpy()
