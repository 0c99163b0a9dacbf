"""Checkpoints: nothing in them is executed, none is half written, none fits by accident."""

import contextlib
import errno
import functools
import http.server
import os
import pickle
import struct
import threading
import zipfile

import pytest
import torch
from mmengine.fileio.backends import LocalBackend
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from mtl_plugins.errors import CheckpointError
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.tiny import tiny_config


class Hostile:
    """Unpickling it creates a file: the proof that code ran."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        return os.mkdir, (self.proof,)


@pytest.fixture
def trained(data_root, tmp_path):
    """A work dir with a two-epoch run, and its config."""
    config = tiny_config(data_root, tmp_path / 'run', train_cfg__max_epochs=2, default_hooks__checkpoint__max_keep_ckpts=1)
    RUNNERS.build(config).train()
    return config


def test_flipped_bits_are_found_wherever_they_are(tmp_path):
    """torch does not look at the checksums of its own archives: other weights, and no word."""
    path = tmp_path / 'model.pth'
    torch.save({'state_dict': {'weight': torch.linspace(1, 2, 300)}, 'meta': {'epoch': 3}}, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
    loaded = 0
    for entry in entries:
        # Behind the header of the entry and the padding, which torch does not read.
        begin = entry.header_offset + 30 + sum(struct.unpack('<HH', whole[entry.header_offset + 26 : entry.header_offset + 30]))
        for offset in {begin, begin + entry.file_size // 2, begin + entry.file_size - 1}:
            path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 16]) + whole[offset + 1 :])
            with contextlib.suppress(Exception):
                torch.load(path, weights_only=True)
                loaded += 1
            for load in (load_checkpoint_file, CheckpointLoader.load_checkpoint):
                with pytest.raises(CheckpointError, match=r'model\.pth is corrupt: the checksum of .* differs'):
                    load(str(path))
    assert loaded >= 3
    path.write_bytes(whole)
    assert load_checkpoint_file(path)['meta'] == {'epoch': 3}


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('wrap', [lambda weights: {'state_dict': weights}, lambda weights: {'model': weights}, dict])
def test_weights_that_are_not_finite_are_refused(tmp_path, value, wrap):
    """They predicted without a word."""
    weights = {'good': torch.ones(3), 'count': torch.tensor(2), 'layer.weight': torch.ones(2, 3, dtype=torch.bfloat16)}
    torch.save(wrap(weights), tmp_path / 'good.pth')
    assert load_checkpoint_file(tmp_path / 'good.pth')
    weights['layer.weight'][1, 2] = value
    torch.save(wrap(weights), tmp_path / 'bad.pth')
    with pytest.raises(CheckpointError, match=r'bad\.pth should hold finite weights\. Found NaN or infinity in layer\.weight'):
        load_checkpoint_file(tmp_path / 'bad.pth')
    from safetensors.torch import save_file

    save_file(weights, tmp_path / 'bad.safetensors')
    with pytest.raises(CheckpointError, match='finite weights'):
        load_checkpoint_file(tmp_path / 'bad.safetensors')


def test_an_archive_that_unpacks_to_more_than_itself_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data/0', bytes(2**24))
    with pytest.raises(CheckpointError, match='larger than the file'):
        load_checkpoint_file(tmp_path / 'bomb.pth')


def test_a_hostile_checkpoint_is_refused_and_not_executed(tmp_path, data_root):
    # mmengine's own loader falls back to full unpickling and runs it.
    proof, path = tmp_path / 'proof', tmp_path / 'hostile.pth'
    torch.save({'state_dict': {}, 'meta': Hostile(proof)}, path)
    for load in (load_checkpoint_file, CheckpointLoader.load_checkpoint, lambda p: load_checkpoint(torch.nn.Linear(1, 1), p)):
        with pytest.raises(CheckpointError, match='could run code'):
            load(str(path))
    runner = RUNNERS.build(tiny_config(data_root, tmp_path / 'run', resume=True, load_from=str(path)))
    with pytest.raises(CheckpointError, match='could run code'):
        runner.train()
    assert not proof.exists()


def test_a_hostile_checkpoint_from_a_url_is_refused_and_not_executed(tmp_path, monkeypatch):
    # mmengine downloads with `load_state_dict_from_url`, which unpickles in full by default.
    proof = tmp_path / 'proof'
    (tmp_path / 'served').mkdir()
    torch.save({'state_dict': {}, 'meta': Hostile(proof)}, tmp_path / 'served' / 'hostile.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / 'served'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(pickle.UnpicklingError, match='Weights only load failed'):
            CheckpointLoader.load_checkpoint(f'http://127.0.0.1:{server.server_port}/hostile.pth')
        server.shutdown()
    assert not proof.exists()


def test_the_config_text_stored_in_a_checkpoint_is_not_executed_on_resume(trained, tmp_path):
    # mmengine passes `meta['config']` to `Config.fromstring`, which executes it.
    proof = tmp_path / 'proof'
    path = find_latest_checkpoint(trained.work_dir)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['config'] = f'import os\nos.mkdir({str(proof)!r})\n'
    torch.save(checkpoint, path)
    trained.resume = True
    RUNNERS.build(trained).train()
    assert not proof.exists()


def test_a_best_checkpoint_cannot_be_resumed_but_starts_a_run(trained, data_root, tmp_path):
    best = [entry.path for entry in os.scandir(trained.work_dir) if entry.name.startswith('best_')]
    assert len(best) == 1
    with pytest.raises(CheckpointError, match='lacks optimizer'):
        RUNNERS.build(tiny_config(data_root, tmp_path / 'a', resume=True, load_from=best[0])).train()
    runner = RUNNERS.build(tiny_config(data_root, tmp_path / 'b', load_from=best[0], train_cfg__max_epochs=1))
    runner.load_or_resume()
    weights = torch.load(best[0], weights_only=True)['state_dict']
    assert all(torch.equal(value, weights[name]) for name, value in runner.model.state_dict().items())


def test_averaged_weights_are_not_continued_without_the_hook(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path / 'run', train_cfg__max_epochs=1)
    config.custom_hooks = [dict(type='EMAHook')]
    RUNNERS.build(config).train()
    with pytest.raises(CheckpointError, match='EMAHook'):
        RUNNERS.build(tiny_config(data_root, tmp_path / 'run', resume=True, train_cfg__max_epochs=2)).train()


def test_a_full_disk_leaves_the_previous_checkpoint(data_root, tmp_path, monkeypatch):
    # mmengine removes the old checkpoint and truncates the pointer before it writes the new one.
    overrides = dict(default_hooks__checkpoint__max_keep_ckpts=1)
    config = tiny_config(data_root, tmp_path / 'run', **overrides)
    put, calls = LocalBackend.put, []

    def full(self, obj, filepath):
        calls.append(filepath)
        if len(calls) > 3:
            put(self, obj[: len(obj) // 2], filepath)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(filepath))
        put(self, obj, filepath)

    monkeypatch.setattr(LocalBackend, 'put', full)
    with pytest.raises(CheckpointError, match='The disk is full'):
        RUNNERS.build(config).train()
    latest = find_latest_checkpoint(config.work_dir)
    assert load_checkpoint_file(latest)['state_dict']
    assert not [name for name in os.listdir(config.work_dir) if name.endswith('.tmp')]
    monkeypatch.setattr(LocalBackend, 'put', put)
    RUNNERS.build(tiny_config(data_root, tmp_path / 'run', resume=True, train_cfg__max_epochs=3, **overrides)).train()


def test_checkpoints_hold_no_pickled_objects(trained):
    # Plain `torch.load` reads them: no log history, no config objects.
    checkpoint = torch.load(find_latest_checkpoint(trained.work_dir), weights_only=True)
    assert checkpoint['meta']['epoch'] == 2
    assert type(checkpoint['message_hub']['runtime_info']['best_score']) is float
    assert sorted(name for name in os.listdir(trained.work_dir) if name.startswith('epoch')) == ['epoch_2.pth']
