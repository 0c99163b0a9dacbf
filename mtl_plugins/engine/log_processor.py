"""The log of a run: one readable line per validation, how far it is, and what the labels hold."""

import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, LogProcessor
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from mtl_plugins.datasets.packing.statistics import describe_labels
from mtl_plugins.engine.state import is_training
from mtl_plugins.evaluation.scores import SUMMARY, SUMMARY_MULTITASK, SUMMARY_UNCLIPPED, title_of
from mtl_plugins.registry import HOOKS, LOG_PROCESSORS
from mtl_plugins.utils.files import shorten_paths
from mtl_plugins.utils.memory import peak_memory


@LOG_PROCESSORS.register_module()
class SummaryLogProcessor(LogProcessor):
    """mmengine's ``LogProcessor`` whose validation line shows the summary; all metrics still reach the log backends.

    Validation times are logged as ``val/time`` and ``val/data_time``: mmengine mixes them with the training's. ``memory`` is the
    peak in MiB: what torch had allocated on the GPU, or, without one, what the process had resident.
    """

    def get_log_after_iter(self, runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        tag.setdefault('memory', peak_memory() // 2**20)
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


# Of a terminal's lines: what the bar shows.
_LEFT_OUT = re.compile(r'^(Epoch|Iter)\((train|val|test)\)|^(Saving checkpoint|The best checkpoint)')


class TerminalFormatter(logging.Formatter):
    """Messages alone, the line of a validation without what is in brackets; warnings with their level."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if message.startswith(('Epoch ', 'Iteration ')):
            message = re.sub(r' \([^)]*\)', '', message)
        return message if record.levelno < logging.WARNING else f'{record.levelname.lower()}: {message}'


# What mmengine tells of itself in every run: a file client that it deprecates and builds itself, among others.
_NOISE = re.compile(r'^(Exp name:|Distributed training is not used|Loads checkpoint by)|will be deprecated in future')


def _is_told(record: logging.LogRecord) -> bool:
    record.msg, record.args = shorten_paths(record.getMessage()), ()
    return _NOISE.search(record.msg) is None


def tidy(logger: logging.Logger) -> None:
    """Let a logger leave out noise, write files in UTF-8 and single lines to the terminal, short ones if it is one."""
    logger.addFilter(_is_told)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # mmengine opens it in the encoding of the locale, which may lack the names of classes.
            handler.stream.reconfigure(encoding='utf-8')
            continue
        handler.addFilter(lambda record: '\n' not in record.getMessage())
        if handler.stream.isatty():
            handler.setFormatter(TerminalFormatter())
            handler.addFilter(lambda record: _LEFT_OUT.search(record.getMessage()) is None)


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show the progress of training, validation and test in the terminal of the main process.

    The bar of a training tells epoch, iterations, their rate, the time left, losses and learning rate.
    """

    # Gone before any other hook writes the scores: removing the bar would take their line with it.
    priority = 'VERY_HIGH'
    # Seconds between two looks at the losses, which wait for a GPU.
    every = 0.5

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._looked = 0.0
        self._streams: list[tuple[logging.StreamHandler, Any]] = []

    def before_train(self, runner) -> None:
        self._start(runner, 'Training', runner.max_iters, runner.iter)
        if self._progress is not None:
            self._progress.console.print('Ctrl-C stops the training; --resume continues it from its last checkpoint.')

    def before_val_epoch(self, runner) -> None:
        self._start(runner, 'Validating', len(runner.val_dataloader))

    def before_test_epoch(self, runner) -> None:
        self._start(runner, 'Predicting', len(runner.test_dataloader))

    def _start(self, runner, title: str, total: int, completed: int = 0) -> None:
        if self._progress is None:
            console = Console(stderr=True)
            if not (console.is_terminal and is_main_process()):
                return
            rest = TextColumn('{task.fields[facts]}', table_column=Column(ratio=1, no_wrap=True, overflow='ellipsis'))
            columns = (
                TextColumn('{task.description}'),
                BarColumn(8),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                rest,
            )
            both = sys.stdout.isatty()
            self._progress = Progress(*columns, console=console, transient=True, expand=True, redirect_stdout=both)
            before = sys.stdout
            self._progress.start()
            # Lines of the log go above the bar.
            for handler in runner.logger.handlers:
                if getattr(handler, 'stream', None) is before:
                    self._streams.append((handler, before))
                    handler.setStream(sys.stdout)
        self._tasks[title] = self._progress.add_task(title, total=total, completed=completed, facts='')

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        if 'Training' not in self._tasks:
            return
        fields = {}
        if time.monotonic() - self._looked > self.every:
            self._looked = time.monotonic()
            known = {name: float(value) for name, value in (outputs or {}).items() if 'loss' in name}
            tasks = Counter(name.partition('/')[0] for name in known)
            short = {name: task for name in known if tasks[task := name.partition('/')[0]] == 1}
            losses = [f'{short.get(name, name.replace("loss_", ""))} {value:.2f}' for name, value in known.items()]
            rate = next(iter(runner.optim_wrapper.get_lr().values()), [0.0])
            speed = self._progress.tasks[0].speed
            facts = [*losses, *([f'{speed:.2g} it/s'] if speed else []), f'lr {rate[0]:.1e}']
            fields = dict(facts=' '.join(facts))
        loop = runner.train_loop
        title = f'Epoch {runner.epoch + 1}/{loop.max_epochs}' if isinstance(loop, EpochBasedTrainLoop) else 'Training'
        self._progress.update(self._tasks['Training'], advance=1, description=title, **fields)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._tasks:
            self._progress.advance(next(reversed(self._tasks.values())))

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if self._tasks:
            self._progress.remove_task(self._tasks.popitem()[1])
        if not self._tasks:
            self.stop()

    after_test_iter, after_test_epoch = after_val_iter, after_val_epoch

    def after_train(self, runner) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the bar and give the terminal back, however the run ends."""
        while self._streams:
            handler, stream = self._streams.pop()
            handler.setStream(stream)
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._tasks = None, {}


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
