"""Files of unknown origin through every tool that takes them: no code of theirs runs, no stack trace, bounded memory and time."""

import io
import json
import os
import pickle
import resource
import shutil
import struct
import sys
import time
import zipfile
import zlib
from functools import reduce
from operator import getitem

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from mtl_plugins.errors import UserError
from mtl_plugins.lab.report.dashboard import Dashboard
from mtl_plugins.lab.runs.tables import live_table, make_table, print_runs, score_sheet
from mtl_plugins.lab.runs.work_dirs import find_runs
from mtl_plugins.lab.tables import WRITERS, to_plain
from mtl_plugins.labels.decoding import decode_image, read_ids, read_numbers, read_vectors
from mtl_plugins.labels.presets import build_labels, miniscapes_labels
from mtl_plugins.records.record import RECORD_NAME
from tests.engine.test_checkpoint_io import Hostile
from tests.fake_miniscapes import write_fake_miniscapes
from tests.tools.photographs import tiff

# Escape codes, and what matplotlib takes for a formula.
ESCAPE = '\x1b[31mred\x07$a_{$'


def refuse_to_run(command):
    pytest.fail(f'ran {command}')


@pytest.fixture(autouse=True)
def bounds(monkeypatch, tmp_path):
    """Nothing of a file is run or imported, and neither memory nor time run away."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, 'system', refuse_to_run)
    (tmp_path / 'path').mkdir()
    (tmp_path / 'path/hostile_module.py').write_text(f'open({str(tmp_path / "imported")!r}, "w").close()\nclass Model: pass\n')
    monkeypatch.syspath_prepend(tmp_path / 'path')
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert not (tmp_path / 'imported').exists() and not (tmp_path / 'ran').exists() and 'hostile_module' not in sys.modules
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10 < 1500
    assert time.monotonic() - begun < 120


def check_quiet(text):
    assert not set(map(chr, [*range(9), *range(11, 13), *range(14, 32), 127, *range(128, 160)])) & set(text), repr(text)


BROKEN_RECORDS = {
    'deep': b'{"config": ' + b'[' * 100_000,
    'nan': b'{"seconds": NaN}',
    'text_score': b'{"scores": {"metrics_summary/multitask": "high"}}',
    'list': b'[1, 2]',
    'null': b'null',
    'empty': b'',
    'latin': b'{"note": "\xe4"}',
    'sessions': b'{"sessions": [3]}',
    'outside': b'{"archive": "../../secret.zip", "checkpoints": {"best": "/etc/passwd"}}',
    'model': b'{"config": {"model": "os.system"}}',
}
BROKEN_METRICS = {
    'csv_latin': b'epoch,iter,\xe4\n1,2,3\n',
    'csv_empty_iter': b'epoch,score\n1,2\n',
    'csv_huge': b'epoch,iter\n1,' + b'9' * 5000 + b'\n',
    'csv_large': b'epoch,iter\n1,' + b'9' * 400 + b'\n',
    'csv_field': b'epoch,iter,a\n1,2,"' + b'x' * 200_000 + b'"\n',
}
OTHER_KINDS = ('folder', 'pipe', 'loop', 'nowhere', 'device')
EVIL_MODELS = (
    dict(model=dict(type='os.system', command='true', tasks={})),
    dict(model=dict(type='MultiTaskSegmentor', backbone=dict(type='hostile_module.Model'), tasks={})),
    dict(model=dict(type='hostile_module.Model'), custom_imports=dict(imports=['hostile_module'])),
    dict(model=dict(type='DilatedResNet', depth=10**9)),
    dict(model=dict(type='TimmBackbone', name='resnet18', options=dict(checkpoint_path='weights.pkl'))),
    dict(model=dict(type='Conv2d', in_channels=10**6, out_channels=10**6, kernel_size=1)),
    dict(model=dict(type='mmseg.ResNet', depth=50, num_stages=10**7)),
)


def write(path, kind, contents=()):
    """A file with one of these contents, or something else than a file."""
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'pipe':
        os.mkfifo(path)
    else:
        path.symlink_to(dict(loop=path, nowhere=path.with_name('gone'), device='/dev/zero')[kind])


@pytest.fixture
def tree(finished_run, tmp_path):
    """A folder of a good run, of some that cannot be read, and of some whose texts and configs are hostile."""
    root = tmp_path / 'runs'
    shutil.copytree(finished_run, root / 'good')
    for name, data in {**BROKEN_RECORDS, **BROKEN_METRICS}.items():
        (root / name).mkdir()
        (root / name / ('metrics.csv' if name in BROKEN_METRICS else RECORD_NAME)).write_bytes(data)
    for kind in OTHER_KINDS:
        for name, file in ((f'record_{kind}', RECORD_NAME), (f'metrics_{kind}', 'metrics.csv')):
            (root / name).mkdir()
            write(root / name / file, kind)
    record = json.loads((finished_run / RECORD_NAME).read_text())
    for number, part in enumerate(EVIL_MODELS):
        folder = root / f'evil{number}{ESCAPE}'
        folder.mkdir()
        shutil.copy(finished_run / 'metrics.csv', folder)
        texts = dict.fromkeys(('note', 'run_name', 'error', 'task'), f'{ESCAPE}\u202e [bold]x[/nothing] $a_{{ <b>')
        config = {**record['config'], **part, f'key{ESCAPE}': ESCAPE, 'seconds': ESCAPE, 'progress': dict(iter=ESCAPE)}
        changed = {**record, **texts, 'tags': [ESCAPE], 'state': ESCAPE, 'config': config}
        changed['scores'] = {**record['scores'], f'{ESCAPE}/{ESCAPE}': 1.0}
        (folder / RECORD_NAME).write_text(json.dumps(changed))
    return root


def test_broken_and_hostile_records_are_listed_with_the_others(run_cli, tree):
    runs = {run.path.name: run for run in find_runs([tree])}
    broken = {*BROKEN_RECORDS, *(f'record_{kind}' for kind in OTHER_KINDS)}
    unreadable = {name for name, run in runs.items() if run.state == 'unreadable'}
    assert unreadable == broken and len(runs) == len(broken) + len(EVIL_MODELS) + 1
    for arguments in (
        ('list', tree), ('list', tree, '--sort', 'multitask'), ('list', tree, '--columns', 'seconds', 'state', 'note'),
        ('list', tree, '--where', 'seconds > 0 and note ~ red'), ('export', tree), ('export', tree, '--format', 'md'),
        ('export', tree, '--format', 'tex'), ('score-sheet', tree), ('show', tree / 'good', '--config'),
        ('show', tree / f'evil0{ESCAPE}'), ('show', tree / 'deep'), ('show', tree / 'record_pipe'),
    ):  # fmt: skip
        result = run_cli('runs', *arguments)
        assert result.code == 0 and not result.err, result.err
        check_quiet(result.out)
    listed = run_cli('runs', 'list', tree).out
    assert listed.count('unreadable') == len(broken) and 'good' in listed and r'\x1b[31mred\x07$a_{$' in listed
    console = Console(file=io.StringIO(), width=600)
    print_runs(list(runs.values()), None, None, True, console)
    console.print(live_table(list(runs.values())))
    check_quiet(console.file.getvalue())
    assert '[bold]x[/nothing]' in console.file.getvalue()


def test_reports_dashboard_costs_and_curves_leave_out_what_cannot_be_used(run_cli, tree, tmp_path):
    result = run_cli('report', tree, '--out', tmp_path / 'page', '--no-predictions', '--size', '32x64')
    assert result.code == 0, result.err
    page = (tmp_path / 'page/index.html').read_text()
    broken = len(BROKEN_RECORDS) + len(OTHER_KINDS)
    # In the list of runs, and in that of where they come from.
    assert page.count('unreadable</td>') == 2 * broken
    check_quiet(result.out + result.err)
    page = Dashboard([tree]).page()
    assert (
        page.count(' state-unreadable">unreadable</td>') == broken
        and '>good<' in page
        and ESCAPE not in page
        and '<b>' not in page
    )
    # The backbone of timm is built without the file that it names.
    assert result.err.count('left out: ') == len(EVIL_MODELS) - 1
    assert '| good |' in (tmp_path / 'page/tables/resources.md').read_text()
    curves = run_cli('analysis_tools/plot_metrics', tree / 'good', tree / f'evil0{ESCAPE}', '--metric', 'metrics_summary/semseg')
    assert curves.code == 0
    check_quiet(curves.out)
    for name in (*BROKEN_METRICS, 'metrics_pipe', 'metrics_device'):
        check_quiet(run_cli('analysis_tools/plot_metrics', tree / name, '--metric', 'loss').check_refused(name))
    check_quiet(run_cli('analysis_tools/task_affinity', tree / f'evil2{ESCAPE}').check_refused())


WRONG = (None, True, 0, -1, 2**63, 1.5, 'x', '', [], {}, [1], ['x'], [None], [[]], {'x': None}, {'x': {'x': []}}, [{'x': 'x'}])


def _places(node, place=()):
    yield place
    for key, value in node.items() if isinstance(node, dict) else enumerate(node[:1]) if isinstance(node, list) else ():
        yield from _places(value, (*place, key))


@pytest.mark.slow
def test_whatever_stands_in_a_record_its_run_is_listed(finished_run, tmp_path, monkeypatch):
    record = json.loads((finished_run / RECORD_NAME).read_text())
    record.update(graded=dict(record['scores']), tags=['a'], note='b', task='c')
    text = json.dumps(record)
    (tmp_path / 'runs/one').mkdir(parents=True)
    shutil.copytree(finished_run, tmp_path / 'runs/good')
    places = [place for place in _places(record) if place and (place[0] != 'config' or len(place) < 4)]
    assert len(places) > 100
    for place in places:
        for wrong in WRONG:
            changed = json.loads(text)
            reduce(getitem, place[:-1], changed)[place[-1]] = wrong
            (tmp_path / 'runs/one' / RECORD_NAME).write_text(json.dumps(changed))
            runs = find_runs([tmp_path / 'runs'])
            assert [run.path.name for run in runs if run.path.name == 'good'] == ['good'] and len(runs) == 2
            table = make_table(runs)
            for convert in (to_plain, *WRITERS.values()):
                assert convert(table)
            assert score_sheet(runs)


DESCRIPTIONS = {
    'deep': b'{"labels": ' + b'[' * 100_000,
    'latin': b'{"labels": {"semseg": "\xe4"}}',
    'list': b'[]',
    'null': b'null',
    'labels': dict(semseg=3),
    'no_type': dict(semseg={}),
    'class': dict(semseg=dict(type='hostile_module.Model')),
    'classes': dict(semseg=dict(type='ClassMap', classes=5)),
    'numbers': dict(semseg=dict(type='ClassMap', classes=[1, 2])),
    'escape': dict(semseg=dict(type='ClassMap', classes=[ESCAPE, 'b'])),
    'palette': dict(semseg=dict(type='ClassMap', classes=['a'], palette=[['red']])),
    'mapping': dict(semseg=dict(type='ClassMap', classes=['a'], mapping={str(10**12): 0})),
    'mapping_list': dict(semseg=dict(type='ClassMap', classes=['a'], mapping=[1])),
    'range': dict(depth=dict(type='DepthMap', depth_range='near')),
    'scale': dict(depth=dict(type='DepthMap', encoding='metres', scale='x')),
    'path': dict(depth=dict(type='DepthMap', path=5)),
    'axes': dict(normals=dict(type='SurfaceNormals', axes=5)),
    'tolerance': dict(boundary=dict(type='BoundaryMap', tolerance=10**9)),
    'name': {'../x': dict(type='DepthMap')},
}
SOUND = dict(semseg=dict(type='ClassMap', classes=['a', 'b']), depth=dict(type='DepthMap'))
DESCRIPTIONS = {
    name: content if isinstance(content, bytes) else json.dumps(dict(labels=SOUND | content)).encode()
    for name, content in DESCRIPTIONS.items()
}
READERS_OF_DESCRIPTIONS = {
    'dataset_tools/compute_statistics': ('{root}',),
    'dataset_tools/pack_dataset': ('{root}',),
    'dataset_tools/convert_dataset': ('folders', '{root}', '{out}'),
    'submission_tools/grade_submission': ('{archive}', '--labels', '{root}/grader/test'),
    'train': ('{config}', '--data-root', '{root}', '--work-dir', '{out}'),
}


@pytest.fixture
def data(tmp_path):
    return write_fake_miniscapes(tmp_path / 'data', splits=dict(train=2, val=1, test=1), size=(32, 64))


def test_a_hostile_description_of_data_is_refused_by_every_tool(run_cli, data, tmp_path, tiny_config_file):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as file:
        for label in ('semseg', 'depth'):
            file.writestr(f'predictions/{label}/0.png', b'')
    write(data / 'dataset.json', 'class', DESCRIPTIONS)
    places = dict(root=data, out=tmp_path / 'out', archive=tmp_path / 'a.zip', config=tiny_config_file)
    for tool, arguments in READERS_OF_DESCRIPTIONS.items():
        check_quiet(run_cli(tool, *(argument.format(**places) for argument in arguments)).check_refused())


@pytest.mark.parametrize('name', [*DESCRIPTIONS, *OTHER_KINDS])
def test_a_hostile_description_is_one_sentence(tmp_path, name):
    write(tmp_path / 'dataset.json', name, DESCRIPTIONS)
    with pytest.raises(UserError, match=r'dataset\.json' if name in OTHER_KINDS else ''):
        build_labels(miniscapes_labels(tmp_path))


CONFIGS = dict(
    config="dict(type='os.system', command='true')",
    nested='[' * 100_000,
    large="dict(type='Conv2d', in_channels=10**6, out_channels=10)",
    larger="dict(type='Conv2d', in_channels=100000, out_channels=100000, kernel_size=1)",
)


def _saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


CHECKPOINTS = dict(
    pickle=pickle.dumps(dict(state_dict={}, meta=Hostile('ran'))),
    empty=b'',
    zip=_saved(dict(state_dict={}, meta=Hostile('ran'))),
    cut=_saved(dict(state_dict=dict(weight=torch.zeros(1000))))[:2000],
    types=_saved(dict(state_dict=[1], meta=[2], message_hub=3)),
    names=_saved({'state_dict': {3: torch.zeros(1)}}),
    state=_saved(dict(state_dict={}, meta={}, optimizer=[], param_schedulers=3, message_hub='x')),
    **{name: _saved(dict(state_dict={}, meta=dict(cfg=f'model = {text}'))) for name, text in CONFIGS.items()},
)
READERS_OF_CHECKPOINTS = {
    'inference': ('{checkpoint}', '{photo}', '--out', '{out}'),
    'test': ('{config}', '{checkpoint}', '--data-root', '{root}', '--work-dir', '{out}'),
    'deployment/export': ('{config}', '{checkpoint}', '--format', 'onnx', '--out', '{out}.onnx'),
    'analysis_tools/show_bins': ('{config}', '{checkpoint}', '{photo}', '--out', '{out}.png'),
    'analysis_tools/show_classes': ('{config}', '{checkpoint}', '{photo}', '--out', '{out}.png'),
    'analysis_tools/analyse_errors': ('{config}', '{checkpoint}', '--data-root', '{root}', '--out', '{out}'),
    'deployment/serve': ('{checkpoint}', '--port', '0'),
    'train': ('{config}', '--resume', '{checkpoint}', '--data-root', '{root}', '--work-dir', '{out}'),
}


@pytest.mark.parametrize(
    'tool', ['inference', *(pytest.param(tool, marks=pytest.mark.slow) for tool in READERS_OF_CHECKPOINTS if tool != 'inference')]
)
def test_a_hostile_checkpoint_is_refused_by_every_tool(run_cli, data, tmp_path, tiny_config_file, tool):
    photo = tmp_path / 'photo.png'
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(photo)
    for kind in (*CHECKPOINTS, *OTHER_KINDS):
        path = tmp_path / f'{kind}.pth'
        write(path, kind, CHECKPOINTS)
        places = dict(checkpoint=path, photo=photo, out=tmp_path / f'{kind}_out', root=data, config=tiny_config_file)
        check_quiet(run_cli(tool, *(argument.format(**places) for argument in READERS_OF_CHECKPOINTS[tool])).check_refused())


def _png(width, height, data=b''):
    def chunk(name, content):
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    header = chunk(b'IHDR', struct.pack('>2I5B', width, height, 8, 0, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')


def _npy(shape, descr="'|u1'", data=b''):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text) + 1) + text + b'\n' + data


def _npz(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('arr_0.npy', data)
    return file.getvalue()


def _bomb():
    """An archive whose directory states more than it holds."""
    data = bytearray(_npz(_npy((2**16, 2**15))))
    struct.pack_into('<I', data, data.index(b'PK\x01\x02') + 24, 2**31)
    return bytes(data)


def _objects():
    file = io.BytesIO()
    np.save(file, np.array([Hostile('ran')], object), allow_pickle=True)
    return file.getvalue()


PICTURES = {
    'bomb.png': _png(2**31 - 1, 2**31 - 1),
    'wide.png': _png(2**28, 2),
    'short.png': _png(64, 64, b'\0'),
    # Width, height, bits, compression, colours, place, rows of a strip, kind of number.
    'bomb.tif': tiff({256: 2**31, 257: 2**31, 258: 32, 259: 1, 262: 1, 273: 8, 278: 2**31, 339: 3}),
    'loop.tif': b'II*\0' + struct.pack('<I', 8) + b'\xff' * 20,
    'bomb.npy': _npy((2**40, 2**20)),
    'short.npy': _npy((2**29, 2)),
    'objects.npy': _objects(),
    'code.npy': _npy("__import__('os').system('true')"),
    'nested.npy': _npy('(' * 5000),
    'text.npy': _npy((2, 2), "'<U8'", bytes(128)),
    'two.npz': _npz(b'') + b'x',
    'bomb.npz': _bomb(),
    'bomb.exr': b'\x76\x2f\x31\x01' + bytes(40),
}
READERS_OF_PICTURES = (
    decode_image,
    read_ids,
    lambda path: read_numbers(path, 'depth map'),
    lambda path: read_vectors(path, 'normal map'),
)


@pytest.mark.parametrize(
    'name', [*PICTURES, *(kind + suffix for kind in OTHER_KINDS for suffix in ('.png', '.npy', '.npz', '.tif', '.exr'))]
)
def test_a_hostile_picture_or_array_is_one_sentence(tmp_path, name):
    path = tmp_path / name
    write(path, name if name in PICTURES else path.stem, PICTURES)
    for read in READERS_OF_PICTURES:
        with pytest.raises(UserError, match=name):
            read(str(path))
