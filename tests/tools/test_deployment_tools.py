"""The tools that export a model, compare its runtimes and serve it."""

import io
import json
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.deployment import load_runtime
from tests.tiny import ROOT
from tests.tools.photographs import HEAVY_FILES, picture, save_checkpoint


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


@pytest.mark.slow  # Starts the tool with a whole ResNet-18, and attacks it for two minutes.
@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='reads /proc')
@pytest.mark.parametrize('options', [(), ('--short-side', '128')], ids=['as it is', 'short side 128'])
def test_attacks_take_two_gibibytes_at_most_and_keep_nobody_out(tmp_path, options, capsys):
    from tests.tools.test_serve import ask, black, png, send_together

    giant = png(np.random.default_rng(0).integers(0, 256, (1440, 1440, 3), np.uint8))
    formats = dict(WEBP=dict(lossless=True), GIF={}, TIFF=dict(compression='tiff_lzw'), JPEG=dict(progressive=True))
    others = [io.BytesIO() for _ in formats]
    for file, (kind, arguments) in zip(others, formats.items(), strict=True):
        Image.new('RGB', (3990, 4000)).save(file, kind, **arguments)
    deep = cv2.imencode('.png', np.zeros((3985, 3990, 4), np.uint16))[1].tobytes()
    attacks = {
        'thin': [black(*size) for size in ((1, 300), (300, 1), (1, 1000), (1000, 1), (20, 400))] * 4,
        'large': [black(3985, 3990)] * 12,
        'as large as may be': [giant] * 20,
        'other formats': [file.getvalue() for file in others] + [deep] * 4,
        'hostile': [body for body, _ in HEAVY_FILES.values()] * 5,
    }
    path = save_checkpoint(tmp_path / 'whole.pth', whole=True)
    command = [sys.executable, 'tools/deployment/serve.py', path, '--port', '0', *options]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def peak_memory():
        status = Path(f'/proc/{server.pid}/status').read_text()
        return int(re.search(r'VmHWM:\s*(\d+)', status)[1]) * 1024

    def seconds_of(body):
        start = time.monotonic()
        assert ask(address, body=body)[0] == 200
        return time.monotonic() - start

    try:
        started = next(line for line in server.stderr if 'Uvicorn running' in line)
        address = ('127.0.0.1', int(re.search(r':(\d+) ', started)[1]))
        small = png(picture((64, 128)))
        for _ in range(3):
            seconds_of(small)
        before, alone = peak_memory(), seconds_of(giant)
        for name, bodies in attacks.items():
            waits = []
            with ThreadPoolExecutor(1) as pool:
                attacking = pool.submit(send_together, address, bodies)
                time.sleep(0.3)
                while not attacking.done() or len(waits) < 3:
                    waits.append(seconds_of(small))
                    time.sleep(0.2)
            memory, (statuses, *_) = peak_memory() - before, attacking.result()
            with capsys.disabled():
                print(f'\n{name}: {Counter(statuses)}; others waited {max(waits):.1f} s; {memory / 2**20:.0f} MiB more', end='')
            assert max(waits) < 2 * alone + 10 and memory < 2 * 2**30, name
        # While it computes the largest images.
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(ask, address, body=giant)
            time.sleep(1.5)
            start = time.monotonic()
            server.terminate()
            server.wait(20)
        assert time.monotonic() - start < 10
    finally:
        server.kill()
        server.wait()
