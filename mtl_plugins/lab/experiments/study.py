"""The trials of a sweep in a file that several processes and machines share."""

import json
import math
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.lab.experiments.definition import optuna_class
from mtl_plugins.lab.experiments.run import Point, Run
from mtl_plugins.utils.files import hold_lock, locked, make_folder

JOURNAL_NAME = 'journal.log'
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Trials(Protocol):
    """What the engine asks of a sweep or of a plan."""

    definition: dict[str, Any]
    sampler: dict[str, Any]
    pruner: dict[str, Any] | None
    is_grid: bool
    trials: int | None
    metric: str
    direction: str
    data: dict[str, Any] | None
    amp: bool

    def points(self) -> list[Point]: ...

    def suggest(self, trial: Any) -> dict[str, Any]: ...

    def runs(self, trial: Any, work_dir: Path) -> list[Run]: ...


class _JournalLock:
    """Lock for Optuna's journal. Its own is a file that stays when its process is killed, and is waited for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: ExitStack | None = None

    def acquire(self) -> bool:
        with ExitStack() as stack:
            stack.enter_context(locked(self._path))
            self._held = stack.pop_all()
        return True

    def release(self) -> None:
        held, self._held = self._held, None
        held.close()


class _Journal(JournalFileBackend):
    """Optuna's journal, but for lines that a kill or a full disk left unfinished, which nothing could be written behind."""

    def __init__(self, path: Path) -> None:
        self._path, self._own_lock = path, _JournalLock(path.with_name(f'{path.name}.lock'))
        super().__init__(str(path), self._own_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._drop_unfinished_line()
        try:
            super().append_logs(logs)
        except OSError:
            self._drop_unfinished_line()
            raise

    def _drop_unfinished_line(self) -> None:
        self._own_lock.acquire()
        try:
            with self._path.open('r+b') as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read() != b'\n':
                        file.seek(0)
                        file.truncate(file.read().rfind(b'\n') + 1)
        finally:
            self._own_lock.release()


class SharedStudy:
    """Hands out the trials of a sweep, each to one process at a time, and keeps what came of them.

    The journal is Optuna's, guarded by a lock on a file, as each trial is: the system gives locks back when a process ends,
    however it does. A running trial whose lock is free was killed, and the next who asks gets it, with its number and parameters.

    Args:
        sweep: What to try.
        work_dir: Folder of journal, locks and trainings.

    Raises:
        ConfigError: If the folder holds another sweep.
    """

    def __init__(self, sweep: Trials, work_dir: Path) -> None:
        self._sweep = sweep
        self._work_dir = work_dir
        make_folder(work_dir / 'locks', ConfigError)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._mine: set[int] = set()
        self._threads = threading.RLock()
        storage = JournalStorage(_Journal(work_dir / JOURNAL_NAME))
        pruner = dict(sweep.pruner or dict(type='NopPruner'))
        with self._alone():
            self.study = optuna.create_study(
                storage=storage,
                study_name='sweep',
                direction=sweep.direction,
                pruner=getattr(optuna.pruners, pruner.pop('type'))(**pruner),
                load_if_exists=True,
            )
            self._check_definition()

    def enqueue(self, retry: bool = False) -> None:
        """Line up the known points that nobody has done; with ``retry`` also what failed, as trials of their own."""
        with self._alone():
            trials = self.trials()
            for point in self._sweep.points():
                same = [trial for trial in trials if trial.user_attrs.get('point') == point.name]
                if not self._is_wanted(point, same, retry):
                    continue
                attrs = dict(point=point.name, seed=point.seed, **(self._origin(same[-1]) if same else {}))
                self.study.enqueue_trial(point.params, user_attrs=attrs)
            if retry and not self._sweep.is_grid:
                for trial in trials:
                    if trial.state == TrialState.FAIL:
                        self.study.enqueue_trial(trial.params, user_attrs=self._origin(trial))

    @staticmethod
    def _is_wanted(point: Point, same: list[FrozenTrial], retry: bool) -> bool:
        if point.is_done:
            return False
        if not same:
            return True
        state = same[-1].state
        # A result that somebody took away, or that is out of date, is to be made again.
        return (state == TrialState.FAIL and retry) or (state in ENDED and point.is_done is not None)

    @staticmethod
    def _origin(trial: FrozenTrial) -> dict[str, int]:
        return dict(retries=trial.number, origin=trial.user_attrs.get('origin', trial.number))

    def trials(self) -> list[FrozenTrial]:
        """All trials but those that were tried again."""
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs['retries'] for trial in trials if 'retries' in trial.user_attrs}
        return [trial for trial in trials if trial.number not in retried]

    def next_trial(self) -> tuple[Trial, list[Run]] | None:
        """A trial whose process was killed, else the next one, and its trainings; None if nothing is left to begin.

        Those whose parameters make no config fail here.
        """
        while (trial := self._take()) is not None:
            try:
                return trial, self._sweep.runs(trial, self._work_dir)
            except (UserError, ValueError) as error:
                self.fail(trial, str(error))
        return None

    def _take(self) -> Trial | None:
        with self._alone():
            trials = self.trials()
            trial = next((self._adopt(item) for item in trials if self._is_abandoned(item)), None)
            if trial is None:
                waiting = any(item.state == TrialState.WAITING for item in trials)
                if not waiting and (self._sweep.is_grid or len(trials) >= (self._sweep.trials or 0)):
                    return None
                self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
                trial = self.study.ask()
                hold_lock(self._lock_file(trial.number), ConfigError)
            self._mine.add(trial.number)
            self._sweep.suggest(trial)
            return trial

    def complete(self, trial: Trial, value: float) -> None:
        self.study.tell(trial, value)

    def prune(self, trial: Trial) -> None:
        self.study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, sentence: str) -> None:
        trial.set_user_attr('error', sentence)
        self.study.tell(trial, state=TrialState.FAIL)

    def report(self, trial: Trial, value: float, step: int) -> bool:
        """Note a score on the way, once for each step; whether the pruner gives the trial up."""
        if not math.isnan(value) and step not in self._now(trial.number).intermediate_values:
            trial.report(value, step)
        return trial.should_prune()

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A sampler for one trial: what is drawn depends on the seed and the number of the trial, not on who draws."""
        if self._sweep.is_grid:
            return optuna.samplers.RandomSampler(seed=0)
        arguments = dict(self._sweep.sampler)
        cls = optuna_class(self._sweep, 'sampler')
        del arguments['type']
        entropy = [arguments.pop('seed', None) or 0, number]
        return cls(seed=int(np.random.SeedSequence(entropy).generate_state(1)[0]), **arguments)

    def _lock_file(self, number: int) -> Path:
        return self._work_dir / 'locks' / f'{number:04d}'

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        if trial.state != TrialState.RUNNING or trial.number in self._mine:
            return False
        # Whoever had the lock may have ended the trial since it was read.
        free = hold_lock(self._lock_file(trial.number), ConfigError)
        return free and self._now(trial.number).state == TrialState.RUNNING

    def _now(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _adopt(self, trial: FrozenTrial) -> Trial:
        self.study.sampler = self._sampler(trial.number)
        # Optuna itself has no other way to take up a trial that is running.
        return Trial(self.study, trial._trial_id)

    def _check_definition(self) -> None:
        wanted = json.loads(json.dumps(self._sweep.definition, default=str))
        found = self.study.user_attrs.get('definition')
        if found is None:
            self.study.set_user_attr('definition', wanted)
            return
        # Sweeps that an earlier version began state less.
        changed = [key for key in wanted if key in found and wanted[key] != found[key]]
        if changed[:1] == ['config_hash']:
            raise ConfigError(
                f'The config {wanted["config"]} should be as it was when the sweep in {self._work_dir} began. It, or a file that '
                'it inherits from, has changed. Give the changed sweep another --work-dir.'
            )
        if changed:
            raise ConfigError(
                f'{self._work_dir} should hold a sweep with the same `{changed[0]}`. Found {found.get(changed[0])}, and not '
                f'{wanted[changed[0]]}. Give the changed sweep another --work-dir.'
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._threads, locked(self._work_dir / 'ask.lock'):
            yield
