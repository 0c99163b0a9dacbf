"""Tools that are killed at a file-changing operation, or find the disk full, end as the undisturbed run when started again."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mtl_plugins.apis.inference.inferencer import MultiTaskInferencer
from mtl_plugins.apis.inference.output import KINDS, PredictionWriter
from mtl_plugins.cli.predict import write_predictions
from mtl_plugins.datasets.coco.preparation import prepare_coco
from mtl_plugins.datasets.conversion import convert, open_source
from mtl_plugins.datasets.multitask.split_listing import list_miniscapes
from mtl_plugins.datasets.packing.packed import COMPARED_NAME, write_packed
from mtl_plugins.datasets.packing.staging import stage
from mtl_plugins.deployment import export as exporting
from mtl_plugins.lab.experiments import workers
from mtl_plugins.lab.experiments.definition import read_sweep
from mtl_plugins.lab.experiments.points import Points
from mtl_plugins.lab.experiments.report import write_report as write_sweep_report
from mtl_plugins.lab.experiments.results import BASELINE_FILE, ensure_baseline
from mtl_plugins.lab.experiments.workers import run_points, slots
from mtl_plugins.lab.report.write import write_report
from mtl_plugins.synthetic import demo
from mtl_plugins.synthetic.coco.scenes import CATEGORIES
from mtl_plugins.synthetic.coco.writer import write_coco
from tests.apis.test_inferencer import Local
from tests.fake_folders import write_fake_folders
from tests.fake_miniscapes import write_fake_miniscapes
from tests.killing import contents, let_threads_end, run_forked, sampled
from tests.lab.test_sweeps import Trained
from tests.tiny import EPOCH_CONFIG

NO_ROOM = r'disk is full|has [\d.]+ GiB left. Choose another folder'
TEMPORARY = re.compile(r'(^|/)\.[^/]*\.tmp')
# Operations that are disturbed in the usual tests and in the slow ones, where each of them is killed and finds no room.
SAMPLE, LARGE_SAMPLE = 4, 40
# Those that take longer have half as many of the usual ones, and are either killed or find no room.
SLOW = ('predict', 'drawn sweep', 'rows', 'report')


@dataclass
class Case:
    """A tool on a folder: what runs it there, and what makes what it needs there."""

    act: Callable[[Path], Any]
    make: Callable[[Path], None] = id
    # What is compared, of the folder afterwards.
    result: Callable[[Path], Any] = contents
    # Files that grow in place, by a pattern of their relative paths: logs, journals, locks.
    grows: str = r'(?!)'
    # The folder for which a second start may ask to be empty, instead of going on.
    starts_anew: str | None = None

    def check(self, folder: Path, most: int, both: bool) -> None:
        """Disturb the tool at some of its operations: kill it and fill the disk at each, or do the one and the other in turn."""
        let_threads_end()
        # Imports and caches are those of the forks, too.
        self._prepare(folder.with_name('warm'))
        self.act(folder.with_name('warm'))
        let_threads_end()
        self._prepare(folder)
        before = contents(folder)
        undisturbed = run_forked(lambda: self.act(folder), folder)
        assert undisturbed.code == 0 and undisturbed.operations > 1, undisturbed
        after, expected = contents(folder), self.result(folder)
        assert not [name for name in after if TEMPORARY.search(name)]
        for turn, number in enumerate(sampled(undisturbed.operations, most)):
            disturbances = (dict(kill_at=number), dict(full_at=number))
            for disturbance in disturbances if both else (disturbances[turn % 2],):
                self._prepare(folder)
                outcome = run_forked(lambda: self.act(folder), folder, **disturbance)
                if 'kill_at' in disturbance:
                    # Threads may take turns otherwise, and end with an operation less.
                    assert outcome.code == -9 or (outcome.code == 0 and number > undisturbed.operations - 3), (number, outcome)
                else:
                    assert outcome.code == 0 or (outcome.code == 1 and re.search(NO_ROOM, outcome.text)), (number, outcome)
                for name, content in contents(folder).items():
                    whole = (before.get(name), after.get(name))
                    if content is not None and not TEMPORARY.search(name) and not re.search(self.grows, name):
                        assert content in whole, f'{name} is half-written after {disturbance}'
                again = run_forked(lambda: self.act(folder), folder)
                if self.starts_anew and again.code == 1:
                    assert 'not' in again.text and 'empty' in again.text, again
                    shutil.rmtree(folder / self.starts_anew)
                    again = run_forked(lambda: self.act(folder), folder)
                assert again.code == 0, (disturbance, again)
                assert self.result(folder) == expected, disturbance
                assert not [name for name in contents(folder) if TEMPORARY.search(name)], disturbance

    def _prepare(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        # Not here, for the same reason.
        made = run_forked(lambda: self.make(folder), folder)
        assert made.code == 0, made


def pack_case(templates: Path, monkeypatch: pytest.MonkeyPatch, anew: bool = False) -> Case:
    root = write_fake_miniscapes(templates / 'data', dict(train=3), size=(16, 32))

    def make(folder):
        shutil.copytree(root, folder / 'data')
        if anew:
            write_packed(list_miniscapes(folder / 'data', 'train'))
            (folder / 'data' / 'train' / 'depth' / '1.png').write_bytes((root / 'train' / 'depth' / '2.png').read_bytes())

    def result(folder):
        found = contents(folder)
        index = json.loads(found.pop('data/train/packed/index.json'))
        del index['compared_ns']
        return found, index

    return Case(lambda folder: write_packed(list_miniscapes(folder / 'data', 'train')), make, result, r'packed/index\.json$')


def stage_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    root = write_fake_miniscapes(templates / 'staged', dict(train=2, val=1), size=(16, 32))
    write_packed(list_miniscapes(root, 'train'))

    def make(folder):
        shutil.copytree(root, folder / 'data')
        stage(folder / 'data', folder / 'node')
        # The copy is out of date.
        write_packed(list_miniscapes(folder / 'data', 'train', ('depth',)))

    def result(folder):
        found = {name: content for name, content in contents(folder).items() if not name.endswith(COMPARED_NAME)}
        return {name: content for name, content in found.items() if not name.endswith('index.json')}, [
            json.loads(path.read_bytes())['files'] for path in folder.rglob('index.json')
        ]

    return Case(lambda folder: stage(folder / 'data', folder / 'node'), make, result, r'packed/index\.json$')


def convert_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    root = write_fake_folders(templates / 'folders', dict(train=2, test=2), size=(16, 24))

    def act(folder):
        convert(open_source('folders', root)[0], folder / 'out', (8, 12), workers=1)

    return Case(act, starts_anew='out')


def predict_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    photos = templates / 'photos'
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name in ('a.png', 'b.png'):
        cv2.imwrite(str(photos / name), rng.integers(0, 256, (16, 24, 3), np.uint8))
    writer = cv2.VideoWriter(str(photos / 'c.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 5.0, (32, 16))
    for _ in range(2):
        writer.write(rng.integers(0, 256, (16, 32, 3), np.uint8))
    writer.release()

    def act(folder):
        inferencer = MultiTaskInferencer(Local())
        save = [kind for kind in KINDS if kind != 'points']
        write_predictions(inferencer, PredictionWriter(folder / 'out', inferencer.labels, save), [str(photos)])

    return Case(act)


def export_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    def write(model, description, path, images):
        path.write_bytes(b'graph of ' + model)
        path.with_suffix('.bin').write_bytes(b'weights of ' + model)

    for name, value in dict(write=write, check_format=lambda *_: None, load_runtime=lambda path, **_: None).items():
        monkeypatch.setattr(exporting, name, value)
    monkeypatch.setattr(exporting, 'compare', lambda *_: [])

    def make(folder):
        for name, content in (('model.xml', b'graph of the old one'), ('model.bin', b'weights of the old one')):
            (folder / name).write_bytes(content)

    def act(folder):
        exporting.export(b'the new one', exporting.Description({}), folder / 'model.xml')

    return Case(act, make)


def sweep_case(templates: Path, monkeypatch: pytest.MonkeyPatch, **entries: Any) -> Case:
    monkeypatch.setattr(workers, 'start_process', Trained)
    monkeypatch.setattr(workers, 'POLL_SECONDS', 0)
    monkeypatch.setattr('mtl_plugins.lab.experiments.report.write_picture', lambda path, picture: None)
    root = write_fake_miniscapes(templates / 'data of rows', dict(train=2, val=1), size=(16, 32)) if 'rows' in entries else None
    path = templates / 'sweep.py'
    entries = dict(config=str(EPOCH_CONFIG), options={'train_cfg.max_epochs': 2}, metric='multitask_unclipped', **entries)
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in entries.items()))

    def act(folder):
        points = Points(read_sweep(path), folder / 'work', folder / 'results')
        if root is not None:
            ensure_baseline(points.sweep, points.results / BASELINE_FILE, root)
        # What a full disk made fail is tried again.
        for _ in range(2):
            run_points(points, root, slots(1))
            points.retry()
            points = Points(points.sweep, folder / 'work', folder / 'results')
        write_sweep_report(points)

    def result(folder):
        document = json.loads((folder / 'work' / 'trials.json').read_bytes())
        return document, (folder / 'table.md').read_text()

    return Case(act, result=result, grows=r'^work/|^results/|^table\.md')


def drawn_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    space = {'optim_wrapper.optimizer.lr': dict(low=1e-4, high=1e-1, log=True)}
    sampler, pruner = dict(type='TPESampler', n_startup_trials=1), dict(type='MedianPruner')
    return sweep_case(templates, monkeypatch, space=space, sampler=sampler, pruner=pruner, trials=2)


def rows_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    rows = {f'lr {lr}': dict(options={'optim_wrapper.optimizer.lr': lr}) for lr in (0.1, 0.01)}
    return sweep_case(templates, monkeypatch, rows=rows, baseline=True)


def report_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    runs = templates / 'runs'
    for number, name in enumerate('ab'):
        (runs / name).mkdir(parents=True)
        scores = {'metrics_summary/semseg': 20.0 + number, 'metrics_summary/depth': 30.0 - number}
        # Without a config whose network would be built to count its operations.
        record = dict(state='finished', started=f'2026-01-0{number + 1}', seed=0, config={}, scores=scores, last_scores=scores)
        record['best'] = dict(monitor='metrics_summary/semseg', rule='greater', epoch=1, iter=8, value=20.0 + number)
        times = dict.fromkeys(('seconds', 'train_seconds', 'train_cpu_seconds'), 1.0)
        record['validations'] = [dict(epoch=1, iter=8, value=20.0 + number, **times)]
        (runs / name / 'run.json').write_text(json.dumps(record))
        rows = ['epoch', 'iter', *scores], [1, 8, *scores.values()]
        (runs / name / 'metrics.csv').write_text('\n'.join(','.join(map(str, row)) for row in rows))

    def result(folder):
        return {name: content for name, content in contents(folder).items() if not name.endswith(('.html', '.pdf'))}

    return Case(lambda folder: write_report([runs], folder / 'page'), result=result, grows=r'\.html$|\.pdf$')


def data_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(demo.multiprocessing, 'cpu_count', lambda: 1)
    return Case(lambda folder: demo.ensure_data(folder, 1, 1, 1, (32, 32), 0))


def coco_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    root = write_coco(templates / 'coco', 2, 0, size=(48, 48))
    classes = [item.name for item in CATEGORIES][:5]

    def act(folder):
        prepare_coco(root, folder / 'out', ['train'], classes, min_size=4, copy=True, workers=1)

    return Case(act, starts_anew='out')


def make_coco_case(templates: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(lambda folder: write_coco(folder / 'out', 2, 0, size=(48, 48)), starts_anew='out')


CASES = {
    'pack': pack_case,
    'pack anew': partial(pack_case, anew=True),
    'stage': stage_case,
    'convert': convert_case,
    'predict': predict_case,
    'export': export_case,
    'drawn sweep': drawn_case,
    'rows': rows_case,
    'report': report_case,
    'data of a sweep': data_case,
    'prepare coco': coco_case,
    'make coco': make_coco_case,
}


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('most', [SAMPLE, pytest.param(LARGE_SAMPLE, marks=pytest.mark.slow)], ids=['a few', 'many'])
def test_a_tool_that_is_killed_or_finds_no_room_goes_on_to_the_same_end(name, most, tmp_path, monkeypatch):
    templates = tmp_path / 'templates'
    templates.mkdir()
    few = most == SAMPLE
    most = most // 2 if few and name in SLOW else most
    CASES[name](templates, monkeypatch).check(tmp_path / 'work', most, both=not few and name not in SLOW)
