"""A progress bar for validation and test."""

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show how far validation and test are; nothing where the output is no terminal, and only on the main process."""

    # Gone before any other hook writes the scores: removing the bar would take their line with it.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def _before_epoch(self, runner, mode: str = 'train') -> None:
        console = Console(stderr=True)
        if mode == 'train' or not console.is_terminal or not is_main_process():
            return
        loader = runner.val_dataloader if mode == 'val' else runner.test_dataloader
        columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._progress.add_task({'val': 'Validating', 'test': 'Predicting'}[mode], total=len(loader))
        self._progress.start()

    def _after_iter(self, runner, batch_idx: int, data_batch=None, outputs=None, mode: str = 'train') -> None:
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])

    def _after_epoch(self, runner, mode: str = 'train') -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
