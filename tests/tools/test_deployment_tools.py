"""The tools that export a model, compare its runtimes and tabulate all configs."""

import json

import numpy as np
import pytest

from benchmarks.export_table import BEGIN, END, FORMATS, fingerprint, insert, leaf_configs, to_markdown, try_config
from mtl_plugins.config.load import load_config
from mtl_plugins.deployment import load_runtime
from mtl_plugins.errors import ConfigError
from tests.tiny import CONFIGS, EPOCH_CONFIG, ROOT
from tests.tools.photographs import save_weights

TABLE = ROOT / 'docs/deployment_table.json'


@pytest.fixture
def checkpoint(tiny_config_file):
    return save_weights(tiny_config_file.with_name('weights.pth'), tiny_config_file)


def test_export_prints_the_gate_and_writes_the_bare_network_of_one_size(run_cli, tiny_config_file, checkpoint, tmp_path):
    out = tmp_path / 'new/network.pt2'
    arguments = (tiny_config_file, checkpoint, '--format', 'torch', '--out', out)
    fixed = ('--size', '32x64', '--batch-size', 1)
    result = run_cli('deployment/export', *arguments, '--network-only', *fixed)
    assert result.code == 0, result.err
    assert result.out.count('1x32x64') == 6 and f'Wrote {out}' in result.out.replace('\n', '')
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    graph = load_runtime(out, network_only=True)
    outputs = graph.run(np.zeros((1, 3, 32, 64), np.float32))
    assert {name: values.shape for name, values in outputs.items()} == dict(semseg=(1, 19, 32, 64), depth=(1, 1, 32, 64))
    assert graph.description.network_input == dict(
        mean=pytest.approx([123.675, 116.28, 103.53]), std=pytest.approx([58.395, 57.12, 57.375]), size_divisor=16
    )
    assert len(graph.description.made['checkpoint_sha256']) == 64
    with pytest.raises(ConfigError, match='bare network: export it without `--network-only`'):
        load_runtime(out)
    for precision, message in (('bfloat16', 'of onnx should be one of'), ('int8', '')):
        form = ('--format', 'onnx') if message else ()
        result = run_cli('deployment/export', *arguments, *form, '--precision', precision)
        assert result.code == 1 and result.err.startswith('error: `--precision`') and message in result.err


def test_runtimes_are_compared_without_data(run_cli, tiny_config_file, checkpoint, tmp_path):
    path = tmp_path / 'runtimes.json'
    sizes = ('--size', '32x64', '--repeats', 2, '--data-root', tmp_path / 'nowhere')
    result = run_cli(
        'deployment/benchmark_runtimes', tiny_config_file, checkpoint, '--only', 'eager', 'int8', *sizes, '--json', path
    )
    assert result.code == 0, result.err
    document = json.loads(path.read_text())
    reference = document['runtimes']['eager float32']
    assert reference['times_as_fast']['value'] == 1 and reference['agreement'] == dict(semseg=1.0, depth=0.0)
    assert len(reference['milliseconds']['raw']) == 2 and reference['scores'] == {}
    assert {'OpenVINO int8', 'ONNX Runtime int8'} <= set(document['left_out'])
    assert 'OpenVINO int8 is left out: no data to calibrate with' in result.out and 'nowhere' in result.out


def test_configs_with_the_same_graph_are_known():
    one = load_config(str(EPOCH_CONFIG))
    balanced = load_config(str(EPOCH_CONFIG), {'model.task_balancing.weights': dict(semseg=0.3, depth=0.7)})
    wider = load_config(str(EPOCH_CONFIG), {'model.decode_head.head.channels': 64})
    assert fingerprint(one) == fingerprint(balanced) != fingerprint(wider)


def test_what_has_no_labels_is_told():
    (path,) = CONFIGS.glob('dino/*48x48.py')
    assert try_config(path) == dict(reason='DINO predicts no labels: it learns features for other models')


def row(label, **changes):
    return {**dict(label=label, shape=[1, 8, 8], is_class=False, share=1.0, ties=0, error=2e-6, limit=1.0), **changes}


def test_the_table_has_a_row_per_config_and_a_note_per_reason():
    passed = dict(sizes='any', passed=True, rows=[row('a', is_class=True, ties=3, error=None), row('b')])
    fixed = {**passed, 'sizes': 'fixed', 'why_fixed': 'A reason'}
    differs = {**passed, 'passed': False}
    results = {
        'x/one.py': dict(formats=dict(onnx=passed, openvino=differs, torch=fixed), commit='0123456789'),
        'x/two.py': dict(formats=dict(onnx=passed, openvino=dict(reason='Another'), torch=fixed)),
        'y.py': dict(reason='None at all'),
    }
    made = dict(date='2026-01-02T00:00:00', versions=dict(torch='2.15'))
    table = to_markdown(dict(results=results, provenance=made))
    assert '| `x/one.py` | any size (3 px, 2e-06) | **differs** (3 px, 2e-06) | one size (3 px, 2e-06) [1] |' in table
    assert '| `x/two.py` | any size (3 px, 2e-06) | no [2] | one size (3 px, 2e-06) [1] |' in table
    assert '| `y.py` | no [3] | no [3] | no [3] |' in table
    assert table.startswith('3 configs with random weights')
    assert table.endswith('\n1. A reason.\n2. Another.\n3. None at all.\n') and 'commit 0123456789 on 2026-01-02' in table
    page = f'before {BEGIN} old {END} after'
    assert insert(insert(page, 'first'), table) == f'before {BEGIN}\n\n{table}\n{END} after'
    with pytest.raises(ConfigError, match='should hold the lines'):
        insert('no marks', table)


def test_the_table_in_the_documents_has_all_configs():
    results = json.loads(TABLE.read_text())['results']
    assert set(results) == {str(path.relative_to(CONFIGS)) for path in leaf_configs()}
    for result in results.values():
        for each in [result] if 'reason' in result else [result['formats'][name] for name in FORMATS]:
            assert each.get('reason') or (each['passed'] and (each['sizes'] == 'any' or each['why_fixed']))


@pytest.mark.slow
@pytest.mark.parametrize('path', leaf_configs(), ids=lambda path: path.stem)
def test_every_config_exports_as_the_table_says(path):
    pytest.importorskip('openvino')
    expected = json.loads(TABLE.read_text())['results'][str(path.relative_to(CONFIGS))]
    if 'same_graph_as' in expected:
        pytest.skip(f'the graph of {expected["same_graph_as"]}')
    found = try_config(path)
    assert found.get('reason') == expected.get('reason')
    for name, each in expected.get('formats', {}).items():
        assert found['formats'][name].get('passed') == each.get('passed'), found['formats'][name]
        assert found['formats'][name].get('sizes') == each.get('sizes')
