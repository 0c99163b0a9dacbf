"""The points of a sweep on disk: who works on which, and how each ended. Files tell it, each written whole or not at all."""

import json
import math
import statistics
import threading
from pathlib import Path
from typing import Any

from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.lab.experiments.definition import Point, Sweep
from mtl_plugins.lab.experiments.results import find_change, origin_of, pick, read_note, read_result, write_json
from mtl_plugins.utils.data_files import ANY, is_number, is_text, printable
from mtl_plugins.utils.files import hold_lock, make_folder

_NOTE = dict(params={}, attrs={}, reports={ANY: is_number}, state=is_text, error=is_text)


class Points:
    """The list of points that any number of threads, processes and machines work through, and what came of each.

    A point is done when all its results are there; it has failed or was pruned if its note in ``points`` says so; it is worked on
    while somebody holds its lock in ``locks``. The system gives a lock back when its process ends, however it does, and the
    next who comes by continues the point from its checkpoint. ``results`` has a JSON file for each training.

    Raises:
        ConfigError: If the folder holds points that another sweep has drawn.
    """

    def __init__(self, sweep: Sweep, work_dir: Path, results: Path) -> None:
        self.sweep, self.work_dir, self.results = sweep, work_dir, results
        for folder in (results, work_dir / 'points', work_dir / 'locks', work_dir / 'trials'):
            make_folder(folder, ConfigError)
        self._threads = threading.Lock()
        self._taken: set[int] = set()
        self._known: dict[Path, dict[str, Any] | None] = {}
        # By number of the point, the share that this process has done.
        self.done: dict[int, float] = {}
        if not sweep.is_listed:
            self._check_definition()

    def take(self) -> Point | None:
        """Return a point that has not ended and nobody works on; None if there is none left."""
        with self._threads:
            for point in self.sweep.points:
                if point.number in self._taken or self._has_ended(point):
                    self._taken.add(point.number)
                # Looked at again: who had the lock may just have ended it.
                elif hold_lock(self._file('locks', point), ConfigError) and not self._has_ended(point):
                    self._taken.add(point.number)
                    try:
                        return self._drawn(point)
                    except (UserError, ValueError) as error:
                        self.end(point, 'fail', str(error))
                        print(printable(f'{point.number} failed: {error}'), flush=True)
            return None

    def folder(self, point: Point, seed: int) -> Path:
        return self.work_dir / 'trials' / f'{point.name}_seed{seed}'

    def result(self, point: Point, seed: int) -> Path:
        return self.results / f'{point.name}_seed{seed}.json'

    def document(self, point: Point, seed: int, strict: bool = False) -> dict[str, Any] | None:
        """Return the result of a training; None if there is none, or it was made otherwise than the sweep states.

        Raises:
            UserError: In the latter case if ``strict``.
        """
        path = self.result(point, seed)
        if self._known.get(path) is None:
            document = read_result(path)
            change = find_change(self.sweep, point, document) if document else None
            told = f'{path} was made with another `{change}` than the sweep states'
            if change and strict:
                raise UserError(f'{told}. Run the sweep again, or remove the file.')
            if change and path not in self._known:
                print(printable(f'{told}, and is made again.'), flush=True)
            if document:
                self._known[path] = None if change else document
        return self._known.get(path)

    def report(self, point: Point, step: int, value: float) -> bool:
        """Note a score on the way, once for each step in per cent, and return True if the pruner gives the point up."""
        if self.sweep.pruner is None or math.isnan(value):
            return False
        from mtl_plugins.lab.experiments.drawing import is_hopeless

        note = self._note(point)
        note.setdefault('reports', {}).setdefault(str(step), value)
        self._write(point, note)
        hopeless, note['attrs'] = is_hopeless(self.sweep, self.records(), point.number)
        self._write(point, note)
        return hopeless

    def end(self, point: Point, state: str, error: str | None = None) -> None:
        """Note that a point has failed or was pruned; that it is done is what its results say."""
        self._write(point, {**self._note(point), 'state': state, 'error': error})

    def retry(self) -> None:
        """Have what failed tried again."""
        for point in self.sweep.points:
            note = self._note(point)
            if note.get('state') == 'fail':
                self._write(point, {**note, 'state': None, 'error': None})

    def records(self, strict: bool = False) -> list[dict[str, Any]]:
        """Return :meth:`record` of all points."""
        return [self.record(point, strict) for point in self.sweep.points]

    def record(self, point: Point, strict: bool = False) -> dict[str, Any]:
        """Return what is known of a point.

        ``state`` is ``complete``, ``fail``, ``pruned``, ``running`` (or interrupted) or ``waiting``; ``score`` the mean over
        seeds, None without one; ``documents`` the results that are there; ``reports`` the scores on the way by step; ``attrs``
        what sampler and pruner remember. See :meth:`document` for ``strict``.
        """
        note = self._note(point)
        if point.params is None and 'params' in note:
            point = self.sweep.point(point.number, point.row, point.seeds, note['params'])
        documents, folders = [], []
        if point.params is not None:
            documents = [found for seed in point.seeds if (found := self.document(point, seed, strict)) is not None]
            folders = [self.folder(point, seed) for seed in point.seeds]
        state, score, error = note.get('state'), None, note.get('error')
        if len(documents) == len(point.seeds):
            try:
                state, score, error = 'complete', self._score(documents), None
            except UserError as reason:
                state, error = 'fail', str(reason)
        elif state is None:
            state = 'running' if 'params' in note or any(folder.exists() for folder in folders) else 'waiting'
        known = dict(number=point.number, row=point.row, label=point.label, params=point.params, seeds=list(point.seeds))
        outcome = dict(state=state, score=score, error=error, documents=documents, folders=folders)
        return dict(**known, **outcome, reports=note.get('reports', {}), attrs=note.get('attrs', {}))

    def _score(self, documents: list[dict[str, Any]]) -> float | None:
        if self.sweep.metric is None:
            return None
        scores = [pick(document['metrics'], self.sweep.metric) for document in documents]
        if any(map(math.isnan, scores)):
            raise UserError(f'{self.sweep.metric} of the last validation is not a number.')
        return statistics.mean(scores)

    def _has_ended(self, point: Point) -> bool:
        return self.record(point)['state'] in ('complete', 'fail', 'pruned')

    def _drawn(self, point: Point) -> Point:
        if point.params is not None:
            return point
        note = self._note(point)
        if 'params' not in note:
            from mtl_plugins.lab.experiments.drawing import draw

            note['params'], note['attrs'] = draw(self.sweep, self.records(), point.number)
            self._write(point, note)
        return self.sweep.point(point.number, point.row, point.seeds, note['params'])

    def _file(self, kind: str, point: Point) -> Path:
        return self.work_dir / kind / (f'{point.name}_seed{point.seeds[0]}' if self.sweep.is_listed else point.name)

    def _note(self, point: Point) -> dict[str, Any]:
        """Return the note on a point; an empty one if it was made in another way."""
        note = read_note(self._file('points', point), _NOTE)
        return note if note.get('origin') == self._origin(point) else {}

    def _write(self, point: Point, note: dict[str, Any]) -> None:
        write_json(self._file('points', point), {**note, 'origin': self._origin(point)})

    def _origin(self, point: Point) -> dict[str, Any] | None:
        return origin_of(self.sweep, point, point.seeds[0]) if self.sweep.is_listed else None

    def _check_definition(self) -> None:
        path = self.work_dir / 'definition.json'
        wanted = json.loads(json.dumps(self.sweep.definition, default=str))
        found = read_note(path)
        if not found:
            write_json(path, wanted)
        elif changed := [key for key in wanted if wanted[key] != found.get(key)]:
            what = f'`{changed[0]}`' if changed != ['config_hash'] else f'content of {self.sweep.config}'
            raise ConfigError(
                f'{self.work_dir} holds points that were drawn with another {what}. Give the changed sweep another --work-dir.'
            )
