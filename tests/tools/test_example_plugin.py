"""The plug-in of docs/add_your_own.md trains, validates, draws, submits and is graded; it stays within a hundred lines."""

import csv
import json
import runpy
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.evaluation.metrics import MultiTaskMetric
from mtl_plugins.labels.depth_codec import decode_depth
from tests.tiny import ROOT

EXAMPLE = ROOT / 'examples' / 'distance_zones'


def test_the_example_runs_from_training_to_grade(run_cli, data_root, tmp_path):
    assert sum(len(path.read_text().splitlines()) for path in EXAMPLE.glob('*.py')) <= 100
    config = tmp_path / 'tiny_zones.py'
    config.write_text(
        f"""_base_ = ['{EXAMPLE}/joint_zones.py']
custom_imports = dict(imports=['tests.tiny', 'examples.distance_zones.distance_zones'])
model = dict(backbone=dict(_delete_=True, type='TinyBackbone'), decode_head=dict(head=dict(channels=16, skip_channels=8)))
train_dataloader = dict(batch_size=2)
train_cfg = dict(max_epochs=1)
"""
    )
    crop = 'train_dataloader.dataset.pipeline.1.crop_size=32'
    work_dir = tmp_path / 'run'
    run_cli('train', config, '--work-dir', work_dir, '--data-root', data_root, '--cfg-options', crop).check()
    (row,) = csv.DictReader((work_dir / 'metrics.csv').open())
    # Drawn: the pictures of the local back end.
    (picture,) = work_dir.rglob('predictions_*.png')
    assert np.asarray(Image.open(picture)).std() > 10

    # The label is what the mapping says: validated against the files by hand.
    (archive,) = work_dir.glob('*.zip')
    (tmp_path / 'labels' / 'zones').mkdir(parents=True)
    confusion = np.zeros((3, 3))
    with zipfile.ZipFile(archive) as content:
        for stem in range(3):
            metres = decode_depth(np.array(Image.open(data_root / 'grader/test/depth' / f'{stem}.png')))
            zones = np.where(metres == 0, 255, (metres > 10).astype(int) + (metres > 30)).astype(np.uint8)
            Image.fromarray(zones).save(tmp_path / 'labels' / 'zones' / f'{stem}.png')
            with content.open(f'predictions/zones/{stem}.png') as file:
                predicted = np.array(Image.open(file))
            assert predicted.max() <= 2
            np.add.at(confusion, (zones[zones != 255], predicted[zones != 255]), 1)
    classes = ['near', 'middle', 'far']
    (tmp_path / 'labels' / 'dataset.json').write_text(json.dumps(dict(labels=dict(zones=dict(type='ClassMap', classes=classes)))))
    graded = tmp_path / 'graded.json'
    run_cli('submission_tools/grade_submission', archive, '--labels', tmp_path / 'labels', '--json', graded).check()
    scores = json.loads(graded.read_text())
    assert set(scores) == {name for name in row if name.startswith('metrics_')}
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    expected = 100 * confusion.diagonal() / np.maximum(union, 1)
    assert [scores[f'metrics_task_zones/{name}'] for name in classes] == pytest.approx(expected.tolist())

    # Its module is imported by the config that is given, never by the one in the checkpoint.
    predict = ('inference', next(work_dir.glob('best_*.pth')), data_root / 'test/rgb/0.jpg', '--out', tmp_path / 'out', '--save')
    for more in (['--config', config], []):
        run_cli(*predict, 'pictures', 'png', *more).check()
    assert set(np.unique(np.asarray(Image.open(tmp_path / 'out/png/zones/0.png')))) <= {0, 1, 2}
    run_cli(*predict, 'points').check_refused('leave out points for a model without depth')


def test_a_metric_is_one_function_and_one_line(monkeypatch):
    monkeypatch.setattr(DepthScorer, 'listed', dict(DepthScorer.listed))
    metric = runpy.run_path(str(ROOT / 'examples' / 'depth_metric' / 'depth_metric.py'))['median_relative_error']
    images = [(np.full((2, 3), 10.0), np.full((2, 3), guess)) for guess in (11.0, 13.0)]
    images.append((np.zeros((2, 3)), np.ones((2, 3))))
    evaluated = MultiTaskMetric(tasks=['depth'])
    samples = [
        dict(gt_depth_map=dict(data=torch.from_numpy(label)[None]), pred_depth_map=dict(data=torch.from_numpy(guess)[None]))
        for label, guess in images
    ]
    evaluated.process({}, samples)
    assert evaluated.score_rules()['metrics_task_depth/median_rel'] == 'less'
    scores = evaluated.evaluate(3)
    assert scores['metrics_task_depth/median_rel'] == pytest.approx(20.0) == pytest.approx(100 * scores['metrics_task_depth/rel'])
    assert np.isnan(metric(*images[2]))
    with pytest.raises(ArgumentError, match="has a score 'rel' already"):
        DepthScorer.register('rel', higher_is_better=False)(metric)
