"""From plain folders with five classes and millimetres to a graded model, through the tools."""

import json
import shutil

import cv2
import numpy as np
import pytest

from tests.fake_folders import CLASSES, write_fake_folders

TOOL = 'dataset_tools/convert_dataset'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_fake_folders(tmp_path_factory.mktemp('folders') / 'source', dict(train=4, val=2, test=2))


def test_a_converted_folder_trains_predicts_and_is_graded(run_cli, root, tiny_config_file, tmp_path):
    out, scores = tmp_path / 'data', tmp_path / 'scores.json'
    result = run_cli(TOOL, 'folders', root, out, '--size', '32x64').check()
    assert f'{out}/train: 4 samples; with labels: semseg 4, depth 4' in result.out
    assert '% of the known depth is beyond its range' in result.out
    assert '4 samples' in run_cli('dataset_tools/pack_dataset', out).check().out
    result = run_cli('dataset_tools/compute_statistics', out).check()
    assert all(f'semseg, {name}' in result.out for name in CLASSES)
    arguments = ('--work-dir', tmp_path / 'run', '--data-root', out, '--cfg-options', 'train_cfg.max_epochs=1')
    run_cli('train', tiny_config_file, *arguments).check()
    (archive,) = (tmp_path / 'run').glob('*.zip')
    labels = out / 'grader' / 'test'
    run_cli('submission_tools/grade_submission', archive, '--labels', labels, '--json', scores).check()
    found = json.loads(scores.read_text())
    assert {f'metrics_task_semseg/{name}' for name in CLASSES} <= found.keys()
    # No prediction can be farther from a depth in 0.5..10 m than the ends of that range.
    assert 0 < found['metrics_summary/depth'] <= 100 * np.log(20)


def test_splits_labels_and_range_are_chosen(run_cli, root, tmp_path):
    out = tmp_path / 'data'
    choices = ('--splits', 'val=test', '--labels', 'depth', '--depth-range', '1', '5', '--workers', '1')
    result = run_cli(TOOL, 'folders', root, out, *choices).check()
    assert sorted(path.name for path in (out / 'val').iterdir()) == ['depth', 'rgb', 'sources.csv']
    labels = json.loads((out / 'dataset.json').read_text())['labels']
    assert labels == dict(depth=dict(type='DepthMap', encoding='code', depth_range=[1, 5]))
    millimetres = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (root / 'depth' / 'test').iterdir()]
    known = np.concatenate([each[each > 0] for each in millimetres]) / 1000
    share = 100 * ((known < 1) | (known > 5)).mean()
    assert f'{share:.2f} % of the known depth' in result.out
    run_cli(TOOL, 'folders', root, out).check_refused('is not an empty folder')


def test_the_labels_are_described_in_another_file_and_the_layout_is_another(run_cli, root, tmp_path):
    source = tmp_path / 'flat'
    shutil.copytree(root / 'images' / 'val', source / 'photos')
    shutil.copytree(root / 'annotations' / 'val', source / 'classes')
    (source / 'mine.txt').write_text('room-1\n')
    labels = dict(semseg=dict(type='ClassMap', classes=CLASSES, path='classes/{stem}.png'))
    layout = dict(labels=labels, image='photos/{stem}.jpg', split_file='{split}.txt')
    (tmp_path / 'labels.json').write_text(json.dumps(layout))
    arguments = ('folders', source, tmp_path / 'out', '--labels-file', tmp_path / 'labels.json')
    run_cli(TOOL, *arguments, '--splits', 'train=mine').check()
    assert (tmp_path / 'out' / 'train' / 'sources.csv').read_text() == 'index,stem\n0,room-1\n'
    run_cli(TOOL, *arguments).check_refused('has none of the splits train, val, test (others are named as in `train=training`): ')


def test_images_of_all_suffixes_and_subfolders_are_converted(run_cli, root, tmp_path):
    source = tmp_path / 'source'
    shutil.copytree(root, source)
    images = source / 'images/train'
    (images / 'room-1.jpg').rename(images / 'room-1.JPG')
    (images / 'room-2.jpg').rename(images / 'room-2.jpeg')
    for folder, suffix in (('images', 'jpg'), ('annotations', 'png'), ('depth', 'png')):
        (source / folder / 'train/upstairs').mkdir()
        (source / folder / f'train/room-3.{suffix}').rename(source / folder / f'train/upstairs/room-3.{suffix}')
    shutil.copytree(images, source / 'images/night')
    result = run_cli(TOOL, 'folders', source, tmp_path / 'out').check()
    assert 'train: 4 samples; with labels: semseg 4, depth 4' in result.out
    assert 'night: left out. Name it with `--splits night`.' in result.out
    origins = (tmp_path / 'out/train/sources.csv').read_text().splitlines()
    assert origins == ['index,stem', '0,room-0', '1,room-1', '2,room-2', '3,upstairs/room-3']
