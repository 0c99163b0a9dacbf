"""The log of a run: one readable line per validation, how far it is, and what the labels hold."""

from collections.abc import Mapping

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import LogProcessor
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtl_plugins.datasets.packing.statistics import describe_labels
from mtl_plugins.engine.state import is_training
from mtl_plugins.evaluation.scores import SUMMARY, SUMMARY_MULTITASK, SUMMARY_UNCLIPPED, title_of
from mtl_plugins.registry import HOOKS, LOG_PROCESSORS
from mtl_plugins.utils.memory import peak_memory


@LOG_PROCESSORS.register_module()
class SummaryLogProcessor(LogProcessor):
    """mmengine's ``LogProcessor`` whose validation line shows the summary; all metrics still reach the log backends.

    Validation times are logged as ``val/time`` and ``val/data_time``: mmengine mixes them with the training's. ``memory`` is the
    peak in MiB: what torch had allocated on the GPU, or, without one, what the process had resident.
    """

    def get_log_after_iter(self, runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        peak = peak_memory()
        if peak is not None:
            tag.setdefault('memory', peak // 2**20)
        return tag, line

    def get_log_after_epoch(self, runner, batch_idx: int, mode: str, with_non_scalar: bool = False) -> tuple[dict, str]:
        tag, _ = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        for name in ('time', 'data_time'):
            if name in tag:
                tag[f'{mode}/{name}'] = tag.pop(name)
        parts = [_show(name, value, tag) for name, value in tag.items() if name.startswith(SUMMARY)]
        parts = [part for part in parts if part]
        if mode == 'val' and is_training(runner):
            tag['epoch'] = runner.epoch
            header = f'Iteration {runner.iter}/{runner.max_iters}'
            if self.by_epoch:
                header = f'Epoch {runner.epoch}/{runner.max_epochs}'
            losses = {
                name.removeprefix('train/'): history.current()
                for name, history in runner.message_hub.log_scalars.items()
                if name.startswith('train/') and 'loss' in name
            }
            total_loss = losses.pop('loss', None)
            if total_loss is not None:
                each = ', '.join(f'{name} {value:.3f}' for name, value in losses.items())
                parts.append(f'loss {total_loss:.3f}' + (f' ({each})' if each else ''))
        else:
            header = {'val': 'Validation', 'test': 'Test'}[mode]
        if f'{mode}/time' in tag:
            parts.append(f'{tag[f"{mode}/time"] * batch_idx:.1f} s')
        return tag, ' | '.join([header, *parts])


def _show(name: str, value: float, tag: Mapping[str, float]) -> str:
    """Format a summary; '' for the multitask score of a single task, and for its unclipped sum unless that decides alone."""
    unclipped = tag.get(SUMMARY_UNCLIPPED)
    if name == SUMMARY_UNCLIPPED or (name == SUMMARY_MULTITASK and unclipped is None):
        return ''
    note = f' (unclipped {unclipped:.2f})' if name == SUMMARY_MULTITASK and value == 0 else ''
    return f'{title_of(name, name.removeprefix(SUMMARY))} {value:.2f}{note}'


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show the progress of validation and test in the terminal of the main process."""

    # Gone before any other hook writes the scores: removing the bar would take their line with it.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def before_val_epoch(self, runner) -> None:
        self._start('Validating', runner.val_dataloader)

    def before_test_epoch(self, runner) -> None:
        self._start('Predicting', runner.test_dataloader)

    def _start(self, title: str, loader) -> None:
        console = Console(stderr=True)
        if console.is_terminal and is_main_process():
            columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=console, transient=True)
            self._progress.add_task(title, total=len(loader))
            self._progress.start()

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    after_test_iter, after_test_epoch = after_val_iter, after_val_epoch


@HOOKS.register_module()
class LabelSummaryHook(Hook):
    """Log which classes or metres each label has, and warn of likely mistakes.

    Such as masks of 0 and 255, a class without a pixel, ``reduce_zero_label`` on ids that start with the first class, or depth in
    millimetres. Looks at 100 samples from all over the training split, within a second. Data sets without labels pass.
    """

    priority = 'LOW'

    @master_only
    def before_train(self, runner) -> None:
        lines, doubts = describe_labels(runner.train_dataloader.dataset)
        for line in lines:
            runner.logger.info(line)
        for doubt in doubts:
            runner.logger.warning(doubt)
