"""The configs of Cityscapes and NYU Depth V2, and those of docs/datasets.md, train on tiny data in the official layouts."""

import csv
import math
import re

import pytest
import torch

from mtl_plugins.datasets.nyuv2 import CLASSES_13, CLASSES_40
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.registry import RUNNERS
from tests.datasets.layouts import write_ade20k, write_cityscapes, write_nyuv2_arrays, write_nyuv2_mat
from tests.tiny import CONFIGS, ROOT, tiny_config

NYUV2_MAT, ADE20K = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/datasets.md').read_text(), re.DOTALL)[:2]


@pytest.mark.parametrize(
    ('write', 'config', 'classes', 'channels'),
    [
        (write_cityscapes, 'joint_r18-d16_1xb16-32e_cityscapes-512x512', CLASSES, dict(semseg=19, depth=1)),
        (write_nyuv2_arrays, 'joint_r18-d16_1xb16-32e_normals_nyuv2-288x384', CLASSES_13, dict(semseg=13, depth=1, normals=3)),
        (write_nyuv2_mat, NYUV2_MAT, CLASSES_40, dict(semseg=40, depth=1)),
        (write_ade20k, ADE20K, ('wall', 'building', 'flag'), dict(semseg=150)),
    ],
    ids=['cityscapes', 'nyuv2-arrays', 'nyuv2-mat', 'ade20k'],
)
def test_two_steps_and_a_validation(tmp_path, write, config, classes, channels):
    if write is write_nyuv2_mat:
        pytest.importorskip('h5py')
    write(tmp_path / 'data')
    path = CONFIGS / f'joint/{config}.py'
    if '\n' in config:
        path = tmp_path / 'example.py'
        path.write_text(config.replace("'../", f"'{CONFIGS}/"))
    runner = RUNNERS.build(tiny_config(tmp_path / 'data', tmp_path / 'run', path, train_cfg__max_epochs=1))
    before = {name: value.clone() for name, value in runner.model.named_parameters() if name.endswith('.weight')}
    runner.train()
    assert runner.iter == 2
    assert not [name for name, value in before.items() if torch.equal(value, runner.model.get_parameter(name))]
    assert {name: task.out_channels for name, task in runner.model.tasks.items()} == channels
    (row,) = csv.DictReader((tmp_path / 'run' / 'metrics.csv').open())
    assert {f'metrics_task_semseg/{name}' for name in classes} <= row.keys()
    assert all(math.isfinite(float(row[f'metrics_summary/{task}'])) for task in channels)
