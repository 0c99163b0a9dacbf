"""The tools that export a model, compare its runtimes and serve it."""

import json

import numpy as np
import pytest

from mtl_plugins.deployment import load_runtime
from tests.tools.photographs import save_checkpoint


@pytest.fixture
def checkpoint(tiny_config_file):
    return save_checkpoint(tiny_config_file.with_name('weights.pth'), tiny_config_file, whole=True)


def test_export_prints_the_gate_and_writes_a_graph_of_one_size(run_cli, checkpoint, tmp_path):
    pytest.importorskip('onnxscript')
    out = tmp_path / 'new/model.onnx'
    arguments = (checkpoint, '--format', 'onnx', '--out', out)
    result = run_cli('deployment/export', *arguments, '--size', '32x64', '--batch-size', 1).check()
    assert result.out.count('1x32x64') == 6 and f'Wrote {out}' in result.out.replace('\n', '')
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    runtime = load_runtime(out)
    values = runtime(np.zeros((1, 32, 64, 3), np.uint8))
    assert {name: each.shape for name, each in values.items()} == dict(semseg=(1, 32, 64), depth=(1, 32, 64))
    assert len(runtime.description.made['checkpoint_sha256']) == 64
    run_cli('deployment/export', *arguments, '--precision', 'bfloat16').check_refused('`--precision` of onnx should be one of')


def test_runtimes_are_compared_without_data(run_cli, tiny_config_file, checkpoint, tmp_path):
    path = tmp_path / 'runtimes.json'
    arguments = ('--only', 'eager', 'int8', '--size', '32x64', '--repeats', 2, '--json', path)
    paths = (tiny_config_file, checkpoint, '--data-root', tmp_path / 'nowhere')
    result = run_cli('deployment/benchmark_runtimes', *paths, *arguments).check()
    document = json.loads(path.read_text())
    reference = document['runtimes']['eager float32']
    assert reference['times_as_fast']['value'] == 1 and reference['agreement'] == dict(semseg=1.0, depth=0.0)
    assert len(reference['milliseconds']['raw']) == 2 and reference['scores'] == {}
    assert set(document['left_out']) == {'OpenVINO int8'}
    assert 'OpenVINO int8 is left out: no data to calibrate with' in result.out and 'nowhere' in result.out
