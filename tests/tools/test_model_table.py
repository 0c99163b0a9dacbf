"""The table of systems: sizes and operations counted by hand, and what the tool prints, writes and refuses."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.model_table import SYSTEMS, default_configs, load_models
from mtl_plugins.models.utils.model_stats import count_flops, parameters_by_kind
from mtl_plugins.registry import MODELS

TOOL, SMALL = 'analysis_tools/model_table', ('--size', 32, '--batch-size', 2)


class OneOfEach(nn.Module):
    """A convolution, a matrix product and fused attention over a learned token."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8, 16)
        self.token = nn.Parameter(torch.zeros(1, 5, 16))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.linear(self.conv(images).flatten(2).transpose(1, 2))
        return F.scaled_dot_product_attention(self.token.expand(len(tokens), -1, -1), tokens, tokens)


def test_operations_are_those_counted_by_hand_and_the_model_stays_as_it_is():
    model = OneOfEach().train()
    pixels = 6 * 10
    by_hand = 2 * pixels * 8 * 3 * 9 + 2 * pixels * 8 * 16 + 2 * (2 * 5 * pixels * 16)
    assert count_flops(model, torch.zeros(1, 3, 6, 10)) == by_hand
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_parts_of_the_joint_model_are_those_of_its_layers():
    models = load_models(default_configs())
    assert len(models) == len(SYSTEMS) == 12
    model = MODELS.build(models['joint'])
    convs = 304 * 256 * 9 + 256 * 256 * 9 + 2 * 256
    decoder = 64 * 48 + 48 + convs + 2 * 2 * 256
    predictor = 20 * 256 + 20
    resnet18 = 11_689_512 - 513_000  # torchvision's documented number, without its classifier
    kinds = parameters_by_kind(model)
    assert (kinds['encoder'], kinds['decoder'], kinds['rest'], kinds['transformer']) == (resnet18, decoder, predictor, 0)
    assert sum(kinds.values()) == sum(parameter.numel() for parameter in model.parameters())


def test_table_holds_sizes_memory_and_ratios_to_joint(run_cli, tmp_path, monkeypatch, tiny_config_file):
    wider = tmp_path / 'wider.py'
    wider.write_text(f"_base_ = ['{tiny_config_file}']\nmodel = dict(decode_head=dict(head=dict(channels=32)))\n")
    monkeypatch.setitem(SYSTEMS, 'joint', str(wider))
    result = run_cli(TOOL, tiny_config_file, *SMALL, '--repeats', 2, '--out-dir', tmp_path / 'out').check()
    assert 'tiny: parameters' in result.err and 'train: 2 rounds' in result.err and 'inference: 2 rounds' in result.err
    document = json.loads((tmp_path / 'out/model_table.json').read_text())
    assert (tmp_path / 'out/model_table.md').read_text() == result.out
    assert len(list((tmp_path / 'out').iterdir())) == 2
    assert {'commit', 'date', 'device', 'versions'} <= set(document['provenance'])
    systems = document['systems']
    assert list(systems) == ['joint', 'tiny']
    for label, row in systems.items():
        assert sum(row['parameters_by_kind'].values()) == row['parameters']
        # Weights, gradients and two moments of four bytes, and activations above them.
        assert row['peak_training_mib'] > row['held_mib'] >= 16 * row['parameters'] / 2**20
        for kind in ('train', 'inference'):
            quotients = np.divide(row[f'{kind}_ms'], systems['joint'][f'{kind}_ms'])
            assert row[f'{kind}_ratio']['median'] == pytest.approx(np.median(quotients))
        line = next(line for line in result.out.splitlines() if line.startswith(f'| {label} | '))
        assert f'| {row["parameters"] / 1e6:.2f} | {row["flops"] / 1e9:.1f} | {row["peak_training_mib"]:.0f} |' in line
    assert 'multiply-add' in result.out and 'tiny.py' in result.out


def test_without_speed_only_what_was_asked_for_is_measured(run_cli, tiny_config_file):
    result = run_cli(TOOL, tiny_config_file, *SMALL, '--skip-speed').check()
    assert '| tiny | ' in result.out and '| joint | ' not in result.out
    assert 'training time' not in result.out and 'rounds' not in result.err


def test_a_bad_config_is_one_sentence_before_anything_is_measured(run_cli, tmp_path):
    path = tmp_path / 'bad.py'
    path.write_text('data = 1')
    run_cli(TOOL, path, '--skip-speed', '--out-dir', tmp_path / 'out').check_refused(f'Config {path} should have a `model`.')
    assert not (tmp_path / 'out').exists()
