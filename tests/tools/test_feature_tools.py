"""Features of a small DINO run: what the hook writes beside the training, and what the tools make of it."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.features.feature_hook import FeatureHook
from mtl_plugins.lab.features.pictures import read_records
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from tests.fake_folders import CROP_CLASSES, write_fake_crops
from tests.tiny import ROOT, check_same_end

BEST = 'default_hooks.checkpoint'
FOLDERS = [f'{split}_dataloader.dataset.folder' for split in ('train', 'val')]
CONFIG = """_base_ = [
    '{root}/configs/_base_/models/dino_r18-d32.py',
    '{root}/configs/_base_/datasets/object-crops_64x64.py',
    '{root}/configs/_base_/schedules/dino_adamw_100e.py',
    '{root}/configs/_base_/dino_runtime.py',
]
custom_imports = dict(imports=['tests.tiny'])
work_dir = '{work_dir}'
model = dict(
    backbone=dict(_delete_=True, type='TinyBackbone'),
    projection_head=dict(hidden_channels=16, bottleneck_channels=8, out_channels=12),
)
views = [dict(type='MultiCrop', global_size=32, local_size=16, num_local=1), dict(type='PackViews', meta_keys=())]
crops = dict(data_root='{data}', folder='crops', margin=None, min_size=None, pipeline=views)
train_dataloader = dict(batch_size=6, num_workers=0, dataset=crops)
val_dataloader = dict(batch_size=6, num_workers=0, dataset=crops)
train_cfg = dict(max_epochs=2)
param_scheduler = []
default_hooks = dict(
    dino_schedule=dict(temperature_epochs=1),
    checkpoint=dict(save_best='knn_accuracy', rule='greater'),
    features=dict(
        type='FeatureHook', num_train=15, num_val=8, k=3, linear=True, num_workers=0,
        pipeline=[dict(type='ResizeCrop', size=32), dict(type='PackViews')],
    ),
)
"""


def write_config(folder: Path, data: Path) -> Path:
    folder.mkdir()
    path = folder / 'config.py'
    path.write_text(CONFIG.format(root=ROOT, work_dir=folder / 'run', data=data))
    return path


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp('features')
    data = write_fake_crops(root, train=6, val=4)
    config = write_config(root / 'with', data)
    RUNNERS.build(load_config(str(config))).train()
    work_dir = root / 'with' / 'run'
    paths = dict(root=root, data=data, config=config, work_dir=work_dir, folder=work_dir / 'features')
    return SimpleNamespace(**paths, checkpoint=find_latest_checkpoint(work_dir))


def test_scores_are_metrics_that_choose_the_best_checkpoint(run):
    rows = read_metrics(run.work_dir / 'metrics.csv')
    assert [row['epoch'] for row in rows] == ['1', '2']
    for name in ('knn_accuracy', 'linear_accuracy_per_class', 'dino/loss'):
        assert all(0 <= float(row[name]) <= 100 for row in rows)
    best = max(rows, key=lambda row: float(row['knn_accuracy']))['epoch']
    assert [path.name for path in run.work_dir.glob('best_*')] == [f'best_knn_accuracy_epoch_{best}.pth']
    (log,) = run.work_dir.glob('*/*.log')
    assert 'Features before the training: knn_accuracy' in log.read_text()


def test_files_hold_the_features_of_every_validation_and_of_the_start(run):
    records = read_records(run.folder)
    assert [(record.name, record.iteration) for record in records] == [('start', 0), ('epoch 1', 3), ('epoch 2', 6)]
    for record, row in zip(records[1:], read_metrics(run.work_dir / 'metrics.csv'), strict=True):
        assert record.accuracy == pytest.approx(float(row['knn_accuracy']))
    assert records[0].features.shape == (8, 8) and records[0].classes == CROP_CLASSES
    assert not np.array_equal(records[0].features, records[2].features)
    stems = ('start', 'epoch_001', 'epoch_002')
    names = {f'{kind}_{stem}.png' for kind in ('tsne', 'neighbours') for stem in stems} | {'tsne_strip.png'}
    assert {path.name for path in run.folder.iterdir()} == names | {f'{stem}.npz' for stem in stems}
    shown = {path.name for path in run.work_dir.glob('*/vis_data/vis_image/*')}
    assert {f'{kind}_{step}.png' for kind in ('tsne', 'tsne_strip', 'neighbours') for step in (0, 3, 6)} <= shown


def test_the_steps_are_those_of_a_run_without_the_hook_and_of_one_that_was_resumed(run, tmp_path):
    resumed = tmp_path / 'resumed'
    config = write_config(resumed, run.data)
    shutil.copytree(run.work_dir, resumed / 'run')
    (resumed / 'run' / 'last_checkpoint').write_text('epoch_1.pth')
    # What a run that was killed later leaves: it is not built upon.
    stale = read_records(run.folder)[-1]
    stale = dataclasses.replace(stale, name='epoch 5', iteration=15, embedding=np.random.default_rng(0).normal(size=(8, 2)))
    stale.save(resumed / 'run/features')
    other = {f'{BEST}.save_best': 'dino/loss', f'{BEST}.rule': 'less'}
    plain = load_config(str(write_config(tmp_path / 'plain', run.data)), other)
    plain.default_hooks.pop('features')
    RUNNERS.build(load_config(str(config), {'resume': True})).train()
    RUNNERS.build(plain).train()
    for other in (resumed, tmp_path / 'plain'):
        check_same_end(run.work_dir, other / 'run', 'state_dict')
    whole, again = (read_records(folder) for folder in (run.folder, resumed / 'run/features'))
    assert len(again) == 4
    for record, other in zip(whole, again, strict=False):
        for name in ('features', 'embedding', 'indices'):
            np.testing.assert_array_equal(getattr(record, name), getattr(other, name))


def test_a_checkpoint_is_judged_beside_random_weights_as_in_the_run(run, run_cli, tmp_path):
    # By the config in the checkpoint.
    arguments = (run.checkpoint, '--random-init', '--json', tmp_path / 'scores.json')
    result = run_cli('analysis_tools/evaluate_features', *arguments).check()
    document = json.loads((tmp_path / 'scores.json').read_text())
    assert {'commit', 'versions', 'seed', 'date'} <= document['provenance'].keys() and document['checkpoint'] == run.checkpoint
    names = list(document['rows'])
    assert names[0] == 'epoch_2.pth' and len(names) == 4 and 'random weights' in names
    row = read_metrics(run.work_dir / 'metrics.csv')[-1]
    for name, value in document['rows']['epoch_2.pth'].items():
        assert value == pytest.approx(float(row[name])), name
    assert f'| epoch_2.pth | {float(row["knn_accuracy"]):.1f} |' in result.out
    # Evenly chosen of four each: three of one class at most, of eight.
    assert document['rows'][names[-1]]['knn_accuracy'] <= 37.5


def test_neighbours_of_chosen_images_become_a_picture(run, run_cli, tmp_path):
    out = tmp_path / 'out.jpg'
    arguments = ('analysis_tools/nearest_neighbors', run.config, '--out', out)
    result = run_cli(*arguments, '--indices', 9, 1, '--k', 3).check()
    assert '2 queries, 3 neighbours of 15 images' in result.out
    with Image.open(out) as picture:
        assert picture.format == 'JPEG'
    assert run_cli(*arguments, '--num-queries', 2, '--image-size', 16).check().out.count('\n') == 1


def test_impossible_settings_of_the_hook_are_refused():
    for arguments in (dict(k=0), dict(num_val=0), dict(interval=-1)):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            FeatureHook(**arguments)


@pytest.mark.parametrize(
    ('options', 'error', 'words'),
    [
        ({'default_hooks.features.k': 16}, ValueError, '`k` of FeatureHook should be at most 15'),
        ({'val_dataloader.dataset.split': 'train'}, ConfigError, 'another split'),
        ({'default_hooks.features.linear': False, f'{BEST}.save_best': 'linear_accuracy'}, ConfigError, 'linear'),
        # A flat folder of crops.
        ({name: '{flat}' for name in FOLDERS}, ConfigError, '`save_best` should .* Found knn_accuracy'),
    ],
)
def test_what_cannot_be_compared_stops_the_run_at_its_start(run, tmp_path, options, error, words):
    for split in ('train', 'val'):
        shutil.copytree(run.data / 'crops' / split / CROP_CLASSES[0], tmp_path / 'flat' / split)
    options = {name: str(tmp_path / 'flat') if value == '{flat}' else value for name, value in options.items()}
    options |= {'work_dir': str(tmp_path / 'run'), 'default_hooks.features.interval': 0}
    runner = RUNNERS.build(load_config(str(run.config), options))
    with pytest.raises(error, match=words):
        runner.train()
    assert runner.iter == 0
