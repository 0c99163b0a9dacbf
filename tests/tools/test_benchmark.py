"""The benchmark tool and the table of systems: what they count, print, write and refuse. Never how fast anything is."""

import json
import re
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import gpu_benchmark
from benchmarks.contenders import Batch, TrainingStep
from benchmarks.model_table import OTHER_FORMS, SYSTEMS, default_configs, load_models
from benchmarks.results import Measurement, Options, Ratio
from benchmarks.timing import held_mib, interleave, peak_mib
from mtl_plugins.models.utils.model_stats import count_flops, parameters_by_kind
from mtl_plugins.registry import MODELS
from tests.tiny import ROOT

PROVENANCE = set(
    'commit uncommitted_changes date command versions system cpu cpu_cores cpu_capability device load_average threads repeats '
    'quick seed'.split()
)


def test_quick_run_prints_tables_and_writes_the_document(run_cli, tmp_path):
    path, table = tmp_path / 'out.json', tmp_path / 'out.md'
    arguments = ('eval', '--quick', '--repeats', 3, '--json', path, '--markdown', table)
    result = run_cli('analysis_tools/benchmark', *arguments).check()
    document = json.loads(path.read_text())
    assert document['schema_version'] == 1 and set(document['provenance']) == PROVENANCE
    (benchmark,) = document['benchmarks']
    (measurement,), (ratio,) = benchmark['measurements'], benchmark['ratios']
    assert (benchmark['name'], measurement['unit'], ratio['target']) == ('eval', 'ms', 3.3)
    for row in measurement['contenders'].values():
        assert set(row) == {'median', 'q1', 'q3', 'min', 'max', 'raw'} and len(row['raw']) == 3 and min(row['raw']) > 0
    over, under = (measurement['contenders'][ratio[part]]['median'] for part in ('numerator', 'denominator'))
    assert ratio['value'] == pytest.approx(over / under) and ratio['met'] is (ratio['value'] >= 3.3)
    for words in ('ours', 'median', 'quartiles', 'target', 'met'):
        assert words in result.out
    assert [line.split(' | ')[1] for line in table.read_text().splitlines() if line.startswith('| eval')] == [ratio['name']]
    assert sorted(tmp_path.iterdir()) == [path, table]


def test_a_missing_peer_is_named_with_its_remedy(run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, 'segmentation_models_pytorch', None)
    run_cli('analysis_tools/benchmark', 'infer', '--quick').check_refused("pip install -e '.[benchmark]'")


@pytest.mark.slow
@pytest.mark.parametrize('peer', ['smp', 'libmtl'])
def test_a_peer_learns_and_is_scored_after_each_epoch(run_cli, data_root, tmp_path, peer):
    pytest.importorskip('segmentation_models_pytorch')
    out = tmp_path / 'scores.json'
    config = ROOT / 'configs/quickstart/joint_tf-efficientnet-lite0-d16_1xb4-3e_separable-pretrained_synthetic-128x256.py'
    run_cli('analysis_tools/train_peer', peer, config, '--data-root', data_root, '--epochs', 3, '--out', out).check()
    curve = json.loads(out.read_text())['curve']
    assert [row['epoch'] for row in curve] == [1, 2, 3] and curve[-1]['loss'] < curve[0]['loss']
    assert {'metrics_summary/semseg', 'metrics_summary/depth'} <= curve[0].keys()
    assert 0 < curve[0]['processor_seconds'] < curve[-1]['processor_seconds']


def test_contenders_take_turns_and_waiting_is_no_processor_time():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) for name in 'abc'}
    times = interleave(contenders, repeats=4, warmup=2)
    assert {name: len(values) for name, values in times.items()} == dict(a=4, b=4, c=4)
    # None always follows the same one.
    assert ''.join(calls) == 'abcbcacab' * 2
    calls.clear()
    times = interleave(contenders, repeats=1, warmup=0, settle=2)
    assert ''.join(calls) == 'aaabbbccc' and [len(values) for values in times.values()] == [1, 1, 1]
    contenders = dict(waiting=lambda: time.sleep(0.1), working=lambda: calls.append(sum(range(1_000_000))))
    times = interleave(contenders, repeats=3, warmup=0, processor_time=True)
    assert max(times['waiting']) < 50 and max(times['waiting']) < min(times['working'])
    assert min(interleave(contenders, repeats=1, warmup=0)['waiting']) >= 100


def test_ratios_are_those_of_medians_with_quartiles_over_rounds():
    times = Measurement('step', 'ms', dict(few=[100.0, 110.0, 90.0], many=[130.0, 140.0, 180.0]))
    row = Ratio('growth', times, 'many', 'few', target=1.5, bound='most').to_dict()
    # Medians 140 and 100; rounds 1.3, 1.273 and 2.
    assert row['value'] == 1.4 and row['met'] is True and row['measurement'] == 'step'
    assert (row['low'], row['high']) == pytest.approx(((1.3 + 14 / 11) / 2, 1.65))
    assert times.best_of(['many', 'few']) == 'few'


def test_peak_memory_is_the_most_that_was_held_at_once():
    def allocate() -> None:
        first = torch.ones(2**20)  # 4 MiB
        second = first + first  # 8 MiB held
        del first
        third = torch.cat([second, second])  # 4 + 8 MiB held
        del second
        third.sum()

    assert peak_mib(allocate, 'cpu') == pytest.approx(12, abs=0.01)
    shared = torch.zeros(2**18)
    assert held_mib([shared, shared.view(2, -1), torch.zeros(2**18)]) == 2


def test_saved_memory_counts_each_storage_once_and_no_parameter():
    def loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        # The convolution keeps images and weight, the square its output twice, the sum nothing.
        output = model(images)
        return (output * output).sum()

    images = torch.zeros(2, 3, 64, 64)
    batch = Batch(images, torch.zeros(2, 64, 64), torch.zeros(2, 64, 64))
    step = TrainingStep(nn.Conv2d(3, 16, 1), batch, loss)
    assert step.saved_mib() == pytest.approx((images.numel() + 2 * 16 * 64 * 64) * 4 / 2**20)


def test_a_contender_that_fails_on_a_gpu_does_not_take_the_others_with_it():
    saved = []
    recorder = gpu_benchmark.Recorder(Options(repeats=2, quick=True), {}, saved.append)
    recorder.settings['peak_tflops'] |= dict(fp32=2e-6, tf32=4e-6)
    values = torch.zeros(4)
    for name, precision in (('plain fp32', 'fp32'), ('ours tf32', 'tf32'), ('smp tf32', 'tf32')):
        with recorder.contender(f'training, {name}', precision):
            assert torch.backends.cudnn.allow_tf32 is (precision == 'tf32')
            if name == 'smp tf32':
                raise RuntimeError('out of memory')
            recorder.measure('training', name, precision, lambda: values.add_(1), flops=8.0, images=4)
    last = saved[-1]
    result = last.to_dict()
    assert len(saved) == 3 and result['settings']['failures'] == {'training, smp tf32': 'RuntimeError: out of memory'}
    (row,) = result['ratios']
    assert (row['numerator'], row['denominator'], row['target']) == ('training, plain fp32', 'training, ours tf32', 3.0)
    median = result['measurements'][0]['contenders']['training, ours tf32']['median'] / 1e3
    assert result['settings']['throughput']['training, ours tf32'] == pytest.approx(1 / median, rel=1e-3, abs=0.1)
    assert result['settings']['share_of_peak']['training, ours tf32'] == pytest.approx(8 / median / 4e6, abs=1e-4, rel=1e-3)
    text = gpu_benchmark.summary_in_markdown(last)
    assert '| training, plain fp32 |' in text and '* training, smp tf32 failed: RuntimeError: out of memory' in text


def test_the_plain_code_is_the_joint_model():
    torch.manual_seed(0)
    ours = gpu_benchmark.build_joint_model().eval()
    plain = gpu_benchmark.build_plain_model().eval()
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        logits, metres = gpu_benchmark.plain_outputs(plain, images)
        expected = ours.predict_arrays(images)
    assert (logits.argmax(1) == expected['semseg']).float().mean() > 0.999
    torch.testing.assert_close(metres, expected['depth'], rtol=1e-3, atol=1e-3)


TABLE, SMALL = 'analysis_tools/model_table', ('--size', 32, '--batch-size', 2)


class Attention(nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


def test_operations_are_those_counted_by_hand_and_the_model_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(60, 16), Attention()).train()
    by_hand = 2 * 60 * 8 * 3 * 9 + 2 * 8 * 60 * 16 + 2 * (2 * 8 * 8 * 16)
    assert count_flops(model, (6, 10)) == by_hand
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
    result = run_cli(TABLE, tiny_config_file, *SMALL, '--repeats', 2, '--out-dir', tmp_path / 'out').check()
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
    result = run_cli(TABLE, tiny_config_file, *SMALL, '--skip-speed').check()
    assert '| tiny | ' in result.out and '| joint | ' not in result.out
    assert 'training time' not in result.out and 'rounds' not in result.err


def test_the_page_is_written_from_what_was_measured(run_cli, tmp_path, monkeypatch):
    page = (ROOT / 'docs/model_table.md').read_text()
    systems, forms = page.split('## Other forms')
    assert re.findall(r'^\| `configs/(\S+)`', forms, re.MULTILINE) == list(OTHER_FORMS)
    monkeypatch.setattr('benchmarks.model_table.OTHER_FORMS', OTHER_FORMS[::10])
    run_cli(TABLE, '--stored', ROOT / 'results/model_table.json', '--out-dir', tmp_path).check()
    (written,) = tmp_path.iterdir()
    found = written.read_text()
    assert found.split('## Other forms')[0] == systems
    assert found.count('\n| `configs/') == 2 and set(found.splitlines()) <= set(page.splitlines())
