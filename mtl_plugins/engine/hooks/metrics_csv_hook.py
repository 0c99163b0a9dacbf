"""``metrics.csv`` in the work dir."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.evaluation.metrics_file import FILE_NAME, format_metrics, read_metrics
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.files import replacing


@HOOKS.register_module()
class MetricsCsvHook(Hook):
    """Keep ``metrics.csv`` in the work dir: epoch, iteration and every metric, a row per validation of this run.

    A resumed run drops the rows after the checkpoint it continues from and goes on below the others.
    """

    priority = 'LOW'

    @master_only
    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        # A stand-alone validation has no training to report on.
        if not metrics or runner._train_loop is None or isinstance(runner._train_loop, dict):
            return
        path = Path(runner.work_dir) / FILE_NAME
        rows = [row for row in read_metrics(path) if int(row['iter']) < runner.iter]
        rows.append({'epoch': runner.epoch, 'iter': runner.iter, **metrics})
        with replacing(path) as temporary:
            temporary.write_text(format_metrics(rows), encoding='utf-8')
