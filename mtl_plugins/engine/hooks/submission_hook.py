"""Predictions written to disk while the test loop runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.hooks import Hook

from mtl_plugins.evaluation.metrics import to_values
from mtl_plugins.labels.label_kind import LabelKind, sample_field
from mtl_plugins.registry import HOOKS
from mtl_plugins.submission.writer import SubmissionWriter


@HOOKS.register_module()
class SubmissionHook(Hook):
    """Hand every prediction of the test loop to a :class:`SubmissionWriter`; each process writes its share into one folder.

    Args:
        out_dir: Folder that gets ``predictions/<task>/<stem>.png``.
        labels: The kinds of what is predicted, by name.
        rounding: As in :meth:`LabelKind.encode`: ``'nearest'`` or the course's ``'truncate'``.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str, labels: Mapping[str, LabelKind], rounding: str = 'nearest') -> None:
        self.out_dir = Path(out_dir)
        self.labels = dict(labels)
        self.rounding = rounding
        self._writer: SubmissionWriter | None = None

    def before_test_epoch(self, runner) -> None:
        self._writer = SubmissionWriter(self.out_dir, self.labels, rounding=self.rounding)

    def after_test_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None) -> None:
        for sample in outputs:
            predictions = {name: to_values(sample.get(f'pred_{sample_field(name)}').data) for name in self.labels}
            self._writer.add(Path(sample.img_path).stem, predictions)

    def after_test_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._writer.close()
