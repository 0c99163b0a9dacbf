"""``metrics.csv`` and ``run.json`` in the work dir, kept up to date."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook

from mtl_plugins.datasets.loading.labelled_dataset import fingerprint
from mtl_plugins.engine.hooks.checkpoint_hook import best_checkpoint
from mtl_plugins.engine.state import is_training, unwrap
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.models.utils.model_stats import count_flops, count_parameters
from mtl_plugins.records.metrics_file import FILE_NAME, best_validation, format_metrics, read_metrics, read_row, rows_up_to
from mtl_plugins.records.provenance import processor_name
from mtl_plugins.records.record import LOCK_NAME, read_record_file, seconds_per_iteration, training_time
from mtl_plugins.records.recording import elapsed_seconds, end_session, is_session_open, start_session, update_session
from mtl_plugins.registry import HOOKS
from mtl_plugins.utils.files import hold_lock, replacing
from mtl_plugins.utils.memory import peak_memory
from mtl_plugins.visualization.visualizer import RUN_PATH

_MIB = 2**20


@HOOKS.register_module()
class MetricsCsvHook(Hook):
    """Keep ``metrics.csv`` in the work dir: epoch, iteration and every metric, a row per validation of this run.

    With its row a validation is done: a resumed run whose checkpoint has none does the validation again. So the best checkpoint
    is written before the row, and the earlier best one is removed after it.
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


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Keep the record of a run, see :mod:`mtl_plugins.records.record`: after each validation, every few seconds, at the end.

    A record that cannot be written costs a warning, not the training.

    Args:
        interval: Seconds between two updates within an epoch.

    Raises:
        ConfigError: If another process trains in the work dir.
    """

    # After the hook of the checkpoints, which knows the best one.
    priority = 'LOWEST'

    def __init__(self, interval: float = 10.0) -> None:
        self.interval = interval
        self._active = False
        self._warned = False

    def before_train(self, runner) -> None:
        self._active = is_main_process()
        if not self._active:
            return
        # Held already where `mtl_plugins.apis.train.train` is at work. A free lock tells that the run is over.
        if not hold_lock(Path(runner.work_dir) / LOCK_NAME, ConfigError):
            raise ConfigError(f'Another process is training in {runner.work_dir}. Wait for it to end, or take another work dir.')
        self._owns_session = not is_session_open(runner.work_dir)
        if self._owns_session:
            self._write(runner, start_session, runner.cfg.to_dict(), runner.cfg.filename)
        earlier = _read(runner.work_dir)
        self._earlier_sessions = earlier.get('sessions', [{}])[:-1]
        self._memory = earlier.get('memory_mib') or 0.0
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()
        device = dict(name=name, processes=get_world_size(), threads=torch.get_num_threads())
        self._session = dict(
            from_iter=runner.iter,
            iterations=0,
            train_seconds=0.0,
            train_cpu_seconds=0.0,
            validations=0,
            val_seconds=0.0,
            val_cpu_seconds=0.0,
            power_watts=None,
            power_samples=0,
            device=device,
        )
        self._phase, self._mark = 'train', (time.monotonic(), time.process_time())
        self._facts: dict[str, Any] = {}
        self._validations = {row['iter']: row for row in earlier.get('validations') or [] if row['iter'] <= runner.iter}
        self._update(
            runner,
            run_name=runner.message_hub.runtime_info.get('run_name'),
            device=device,
            data=_describe_data(runner),
            # A record that was not written when the last validation was done, or that knows later ones.
            **self._describe_scores(runner),
            parameters=count_parameters(runner.model),
        )

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._active and not self._session['iterations']:
            self._update(runner, **_count_flops(runner.model, data_batch))
            # Neither this nor the wait for the first batch is a part of what an epoch costs.
            self._session.update(train_seconds=0.0, train_cpu_seconds=0.0)

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        if self._active:
            self._session['iterations'] += 1
            self._look_at_gpu()
            if time.monotonic() - self._updated >= self.interval:
                self._look_at_power()
                # The runner counts the iteration after its hooks.
                self._update(runner, done=runner.iter + 1)

    def before_val(self, runner) -> None:
        self._enter('val')

    def after_val_epoch(self, runner, metrics: Mapping[str, float] | None = None) -> None:
        if self._active:
            self._session['validations'] += 1
            self._update(runner, **self._describe_scores(runner))

    def after_val(self, runner) -> None:
        self._enter('train')

    def after_train(self, runner) -> None:
        if self._active:
            self._update(runner)
            self._active = False
            if self._owns_session:
                self._write(runner, end_session, 'finished')

    def _enter(self, phase: str) -> None:
        if self._active:
            self._count_time()
            self._phase = phase

    def _count_time(self) -> None:
        now = time.monotonic(), time.process_time()
        for name, end, begin in zip(('seconds', 'cpu_seconds'), now, self._mark, strict=True):
            self._session[f'{self._phase}_{name}'] += end - begin
        self._mark = now

    def _update(self, runner, done: int | None = None, **fields: Any) -> None:
        self._count_time()
        self._updated = time.monotonic()
        infos = runner.message_hub.runtime_info
        names = dict(best=best_checkpoint(runner), last=infos.get('last_ckpt'))
        loss = runner.message_hub.log_scalars.get('train/loss')
        progress = dict(
            epoch=runner.epoch,
            iter=runner.iter if done is None else done,
            max_epochs=runner.cfg.train_cfg.get('max_epochs'),
            max_iters=runner.max_iters,
            loss=float(loss.current()) if loss is not None and len(loss.data[0]) else None,
        )
        per_iteration = seconds_per_iteration(dict(sessions=[*self._earlier_sessions, self._session]))
        fields.update(
            progress=progress,
            checkpoints={which: Path(name).name for which, name in names.items() if name},
            epoch_seconds=None if per_iteration is None else round(per_iteration * len(runner.train_dataloader), 3),
            memory_mib=self._peak_memory(),
            memory_of='gpu' if torch.cuda.is_available() else 'process',
            power_watts=self._mean_power(),
            wandb=infos.get(RUN_PATH),
        )
        # Everything again each time: an earlier update may have failed.
        self._facts |= fields
        session = {name: round(value, 3) if isinstance(value, float) else value for name, value in self._session.items()}
        self._write(runner, update_session, self._facts, session)

    def _write(self, runner, function: Callable, *arguments: Any) -> None:
        try:
            function(runner.work_dir, *arguments)
        except UserError as error:
            if not self._warned:
                runner.logger.warning(f'The record of this run is not kept up to date: {error}')
                self._warned = True

    def _look_at_power(self) -> None:
        """Add a sample of what the GPU draws to the mean of the session, where the driver and the package of NVML tell it."""
        # Without the package, or of a device that does not measure: the errors are of many kinds, and the training goes on.
        with contextlib.suppress(Exception):
            if not torch.cuda.is_available():
                return
            watts = torch.cuda.power_draw() / 1000
            mean, samples = self._session['power_watts'] or 0.0, self._session['power_samples'] + 1
            self._session.update(power_watts=mean + (watts - mean) / samples, power_samples=samples)

    def _mean_power(self) -> float | None:
        known = [session for session in (*self._earlier_sessions, self._session) if session.get('power_samples')]
        samples = sum(session['power_samples'] for session in known)
        return round(sum(s['power_watts'] * s['power_samples'] for s in known) / samples, 1) if samples else None

    def _look_at_gpu(self) -> None:
        # The log resets the device's own maximum whenever it prints. Cheaper than `torch.cuda.max_memory_allocated`.
        if torch.cuda.is_available():
            peak = torch.cuda.memory_stats_as_nested_dict().get('allocated_bytes', {}).get('all', {}).get('peak', 0)
            self._memory = max(self._memory, peak / _MIB)

    def _peak_memory(self) -> float:
        self._look_at_gpu()
        if not torch.cuda.is_available():
            self._memory = max(self._memory, peak_memory() / _MIB)
        return round(self._memory, 1)

    def _describe_scores(self, runner) -> dict[str, Any]:
        """Return the validations in ``metrics.csv``; those that the record missed get the current times."""
        rows = read_metrics(Path(runner.work_dir) / FILE_NAME)
        scores = [read_row(row) for row in rows]
        monitor, rule = monitor_of(runner)
        known = _read(runner.work_dir)
        sessions = [*self._earlier_sessions, self._session]
        for row, values in zip(rows, scores, strict=True):
            steps = {name: int(row[name]) for name in ('epoch', 'iter')}
            if steps['iter'] not in self._validations:
                self._validations[steps['iter']] = dict(
                    **steps,
                    seconds=elapsed_seconds(known) if known else None,
                    **{name: training_time(sessions, name) for name in ('train_seconds', 'train_cpu_seconds')},
                    value=values.get(monitor),
                )
        validations = [self._validations[iteration] for iteration in sorted(self._validations)]
        if not rows:
            return dict(validations=validations, **{name: None for name in ('scores', 'last_scores', 'best') if name in known})
        place, best = best_validation(scores, monitor, rule), None
        if place is not None:
            steps = {name: int(rows[place][name]) for name in ('epoch', 'iter')}
            best = dict(monitor=monitor, rule=rule, **steps, value=scores[place][monitor])
        return dict(last_scores=scores[-1], scores=scores[-1 if place is None else place], validations=validations, best=best)


def _read(work_dir: str) -> dict[str, Any]:
    try:
        return read_record_file(Path(work_dir))
    except UserError:
        return {}


def monitor_of(runner) -> tuple[str | None, str | None]:
    """Return the score that decides which checkpoint is kept, and which of two values is the better."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            return hook.key_indicators[0], hook.rules[0]
    return None, None


def _describe_data(runner) -> dict[str, dict]:
    loaders = dict(train=runner.train_dataloader)
    if runner.val_loop is not None:
        loaders['val'] = runner.val_dataloader
    return {
        split: dict(samples=len(loader.dataset), fingerprint=fingerprint(loader.dataset)) for split, loader in loaders.items()
    }


def _count_flops(model: torch.nn.Module, batch: Any) -> dict[str, Any]:
    """Return ``flops`` and ``flops_size`` where a batch is a stack of images and the model takes one, else None for both."""
    inputs = batch.get('inputs') if isinstance(batch, Mapping) else None
    # Any model may do anything that has no meaning without values; its training goes on.
    with contextlib.suppress(Exception):
        if isinstance(inputs, torch.Tensor) and inputs.ndim == 4:
            # Images wait for the data preprocessor with their channels last, or as mmseg has them.
            size = tuple(inputs.shape[1:3] if inputs.shape[-1] == 3 else inputs.shape[2:])
            return dict(flops=count_flops(unwrap(model), size), flops_size=size)
    return dict(flops=None, flops_size=None)
