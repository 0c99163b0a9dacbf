"""What a run tells its log back ends."""

import json

import pytest
import torch

from mtl_plugins.registry import RUNNERS
from tests.tiny import tiny_config


def _read_scalars(work_dir) -> list[dict]:
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_validation_losses_are_those_of_the_model_on_the_validation_split(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=1)
    config.model.auxiliary_head = dict(type='LinearHead')
    runner = RUNNERS.build(config)
    runner.train()
    (found,) = [row for row in _read_scalars(tmp_path) if 'metrics_summary/multitask' in row]

    # Three images in batches of two and one, through the model itself in evaluation mode.
    sums = dict.fromkeys(('semseg/loss_ce', 'depth/loss_silog'), 0.0)
    with torch.no_grad():
        for batch in runner.val_dataloader:
            losses = runner.model.eval()._run_forward(runner.model.data_preprocessor(batch), mode='loss')
            for name in sums:
                sums[name] += float(losses[name]) * len(batch['inputs'])
    for name, value in sums.items():
        assert found[f'val/{name}'] == pytest.approx(value / 3, rel=1e-4)
    assert found['val/loss'] == pytest.approx(sum(sums.values()) / 6, rel=1e-4)
    assert not [name for name in found if 'aux' in name]
