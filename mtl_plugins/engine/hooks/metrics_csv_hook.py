"""``metrics.csv`` in the work dir."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mtl_plugins.engine.state import is_training
from mtl_plugins.records.metrics_file import FILE_NAME, format_metrics, rows_up_to
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.files import replacing


@HOOKS.register_module()
class MetricsCsvHook(Hook):
    """Keep ``metrics.csv`` in the work dir: epoch, iteration and every metric, a row per validation of this run.

    With its row a validation is done: a resumed run whose checkpoint has none does the validation again. So the best checkpoint
    is written before the row, and what follows from the row, as the removal of the earlier best one, after it.

    A run begins with the rows up to the checkpoint that it resumes, and without it with none.
    """

    # Between the hook of the checkpoints and that of the record.
    priority = 95

    def before_train(self, runner) -> None:
        if runner.resumed_validation is not None:
            runner.message_hub.update_info('validated_iter', runner.iter)
        path = Path(runner.work_dir) / FILE_NAME
        if is_main_process() and rows_up_to(path, sys.maxsize) != list(runner.earlier_validations):
            if runner.earlier_validations:
                self._write(path, runner.earlier_validations)
            else:
                path.unlink()

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        # A stand-alone validation has no training to report on.
        if not metrics or not is_training(runner):
            return
        if is_main_process():
            path = Path(runner.work_dir) / FILE_NAME
            self._write(path, [*rows_up_to(path, runner.iter - 1), {'epoch': runner.epoch, 'iter': runner.iter, **metrics}])
        runner.message_hub.update_info('validated_iter', runner.iter)

    @staticmethod
    def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        with replacing(path) as temporary:
            temporary.write_text(format_metrics(rows), encoding='utf-8')
