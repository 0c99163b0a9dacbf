"""The trials of a sweep in a file that several processes and machines share."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from mtl_plugins.apis.sweeps.definition import optuna_class
from mtl_plugins.apis.sweeps.run import Point, Run
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.utils.files import hold_lock, make_folder

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


class SharedStudy:
    """Hands out the trials of a sweep, each to one process at a time, and keeps what came of them.

    The journal is Optuna's, guarded by a lock file that NFS 3 and later can make. Who works on a trial holds a POSIX lock on a
    file of it: a running trial whose lock is free was killed, and the next who asks gets it, with its number and parameters.

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
        self._lock = JournalFileOpenLock(str(work_dir / 'ask'))
        journal = str(work_dir / JOURNAL_NAME)
        storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
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
        if point.result is not None and point.result.exists():
            return False
        if not same:
            return True
        state = same[-1].state
        # A result that somebody took away is to be made again.
        return (state == TrialState.FAIL and retry) or (state in ENDED and point.result is not None)

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
        changed = [key for key in wanted if wanted[key] != found.get(key)]
        if changed:
            raise ConfigError(
                f'{self._work_dir} should hold a sweep with the same `{changed[0]}`. Found {found.get(changed[0])}, and not '
                f'{wanted[changed[0]]}. Give the changed sweep another --work-dir.'
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._threads:
            self._lock.acquire()
            try:
                yield
            finally:
                self._lock.release()
