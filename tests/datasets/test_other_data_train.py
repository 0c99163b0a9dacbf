"""The configs of Cityscapes and NYU Depth V2, and those of docs/datasets.md, train on tiny data in the official layouts."""

import csv
import re

import cv2
import numpy as np
import pytest
import torch

from mtl_plugins.datasets.nyuv2 import CLASSES_13, CLASSES_40
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.registry import RUNNERS
from tests.datasets.layouts import save_png, write_cityscapes, write_nyuv2_arrays, write_nyuv2_mat
from tests.tiny import CONFIGS, ROOT, tiny_config

EXAMPLES = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/datasets.md').read_text(), re.DOTALL)


def train(root, work_dir, config, **overrides):
    """Two steps and a validation: the runner and the row of metrics."""
    runner = RUNNERS.build(tiny_config(root, work_dir, config, train_cfg__max_epochs=1, **overrides))
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    assert runner.iter == 2
    after = runner.model.state_dict()
    assert not [name for name, value in before.items() if name.endswith('.weight') and torch.equal(value, after[name])]
    (row,) = csv.DictReader((work_dir / 'metrics.csv').open())
    return runner, {name: float(value) for name, value in row.items()}


def example(number, path):
    """A config of the document, in a file."""
    path.write_text(EXAMPLES[number].replace("'../", f"'{CONFIGS}/"))
    return path


def assert_scored(row, label, names):
    assert {f'metrics_task_{label}/{name}' for name in names} <= row.keys()
    assert np.isfinite(row[f'metrics_summary/{label}'])


def test_cityscapes(tmp_path):
    root = write_cityscapes(tmp_path / 'cityscapes')
    _, row = train(root, tmp_path / 'run', CONFIGS / 'joint/joint_r18-d16_1xb16-32e_cityscapes-512x512.py')
    assert_scored(row, 'semseg', CLASSES)
    assert_scored(row, 'depth', [])


def test_three_tasks_of_nyuv2(tmp_path):
    root = write_nyuv2_arrays(tmp_path / 'nyuv2')
    config = CONFIGS / 'joint/joint_r18-d16_1xb16-32e_normals_nyuv2-288x384.py'
    runner, row = train(root, tmp_path / 'run', config)
    assert_scored(row, 'semseg', CLASSES_13)
    for label in ('depth', 'normals'):
        assert_scored(row, label, [])
    assert 0 < row['metrics_summary/normals'] < 180
    assert {name: task.out_channels for name, task in runner.model.tasks.items()} == dict(semseg=13, depth=1, normals=3)


def test_the_official_files_of_nyuv2(tmp_path):
    pytest.importorskip('h5py')
    write_nyuv2_mat(tmp_path / 'nyuv2')
    _, row = train(tmp_path / 'nyuv2', tmp_path / 'run', example(0, tmp_path / 'nyuv2_mat.py'))
    assert_scored(row, 'semseg', CLASSES_40)
    assert_scored(row, 'depth', [])


def test_a_data_set_of_mmseg(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (('training', 4), ('validation', 2)):
        for number in range(count):
            stem = f'ADE_{split}_{number:08d}'
            folder = tmp_path / 'ade/images' / split
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f'{stem}.jpg'), rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
            label = rng.integers(0, 151, (40, 48), dtype=np.uint8)
            save_png(tmp_path / 'ade/annotations' / split / f'{stem}.png', label)
    runner, row = train(tmp_path / 'ade', tmp_path / 'run', example(1, tmp_path / 'ade20k.py'))
    assert_scored(row, 'semseg', ('wall', 'building', 'flag'))
    assert runner.model.tasks['semseg'].out_channels == 150
