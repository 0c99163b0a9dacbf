"""Files are data: nothing that they name is imported or called."""

import json
import os
import sys

import pytest

from mtl_plugins import registry
from mtl_plugins.config.stored_config import restrict
from mtl_plugins.deployment.runtimes import Description
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.runs.work_dirs import RunRecord, recorded_config
from mtl_plugins.labels.presets import build_label, miniscapes_labels
from mtl_plugins.utils import data_files
from mtl_plugins.utils.data_files import find_registered, parse_json, read_bytes, take_part

# All of them are found by `Registry.get`, which imports what stands before the last dot, or a module of the name itself.
HOSTILE_TYPES = [
    'os.system', 'posix.system', 'subprocess.run', 'subprocess.Popen', 'ctypes.CDLL', 'importlib.import_module', 'builtins.eval',
    'builtins.exec', 'builtins.open', 'runpy.run_path', 'pickle.loads', 'webbrowser.open', 'os', 'antigravity', 'hostile_module',
    'hostile_module.Model', 'hostile_module.registry.Model', 'torch.load', 'torch.hub.load', 'torch.nn.Linear', 'torch.Tensor',
    'torch.nn.modules.loss.L1Loss', 'torchvision.io.read_image', 'torchvision.datasets.MNIST', 'torchvision.transforms.v2.Resize',
    'mmengine.rmtree', 'mmengine.Config.fromfile', 'mmengine.fileio.load', 'mmcv.imread', 'mmcv.transforms.Pad',
    'mmseg.apis.init_model',
    'mtl_plugins.models.backbones.resnet.DilatedResNet', 'mtl_plugins.os.system', 'mmseg.os', 'labels.ClassMap', '', '.', '.os',
    3, None, ['ClassMap'], dict(type='ClassMap'), 'a\nb',
]  # fmt: skip


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """Files that exist once a module was imported that files only name."""
    traces = [tmp_path / 'module', tmp_path / 'registry']
    (tmp_path / 'path/hostile_module').mkdir(parents=True)
    for name, trace in zip(('__init__', 'registry'), traces, strict=True):
        text = f'open({str(trace)!r}, "w").close()\nclass Model: pass\n'
        (tmp_path / f'path/hostile_module/{name}.py').write_text(text)
    monkeypatch.syspath_prepend(tmp_path / 'path')
    yield lambda: [trace.name for trace in traces if trace.exists()]
    for name in ('hostile_module', 'hostile_module.registry'):
        sys.modules.pop(name, None)


@pytest.mark.parametrize('kind', HOSTILE_TYPES, ids=str)
def test_a_type_in_a_file_is_a_registered_class_whoever_reads_it(kind, imported, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'system', lambda command: pytest.fail(command))
    known = set(sys.modules)
    roots = [item for item in vars(registry).values() if isinstance(item, registry.Registry)]
    assert find_registered(kind, *roots) is None
    with pytest.raises(ConfigError, match='`type` of the label x should be'):
        build_label('x', dict(type=kind, command='true'))
    (tmp_path / 'dataset.json').write_text(json.dumps(dict(labels=dict(x=dict(type=kind)))))
    with pytest.raises(ConfigError):
        build_label('x', miniscapes_labels(tmp_path)['x'])
    text = dict(format=1, outputs=[dict(name='x')], labels=dict(x=dict(type=kind)), size=None)
    with pytest.raises(ConfigError):
        Description.from_json(json.dumps(text), tmp_path).build_labels()
    for model in (dict(type=kind, command='true'), dict(type='MultiTaskSegmentor', backbone=dict(type=kind))):
        refuse_config(tmp_path, '', model=model)
    assert imported() == [] and {'antigravity', 'hostile_module'}.isdisjoint(set(sys.modules) - known)


def refuse_config(folder, words, **config):
    sections = {key: json.dumps(value) for key, value in config.items()}
    with pytest.raises(ConfigError, match=words):
        recorded_config(RunRecord(folder, {}, sections, 'finished'))
    with pytest.raises(ConfigError, match=words):
        restrict(config, 'The config')


NAMES = dict(
    MODELS='DilatedResNet mtl_plugins.DilatedResNet mmseg.ASPPHead torch.SmoothL1Loss BN',
    TRANSFORMS='mmcv.Pad mmengine.Pad torchvision.ColorJitter',
    LABELS='ClassMap',
)


@pytest.mark.parametrize(('name', 'root'), [(name, root) for root, names in NAMES.items() for name in names.split()])
def test_what_configs_call_classes_is_found_and_is_what_would_be_built(name, root):
    found = find_registered(name, getattr(registry, root))
    assert found is not None
    library = name.partition('.')[0]
    if library not in data_files.LIBRARIES:
        assert found is getattr(registry, root).get(name)
    # A loss is no transform.
    assert library not in data_files.LIBRARIES or find_registered(name, registry.LABELS) is None


def test_classes_of_plug_ins_are_known_once_the_user_asks_for_them(imported, tmp_path, monkeypatch):
    text = 'from mtl_plugins.registry import LABELS\n'
    text += 'from mtl_plugins.labels.class_map import ClassMap\n@LABELS.register_module()\nclass Zones(ClassMap): pass\n'
    (tmp_path / 'path/zones_plugin.py').write_text(text)
    config = dict(type='Zones', classes=['near', 'far'])
    with pytest.raises(ConfigError, match=r"Found 'Zones'\. If it is a plug-in that you trust, set MTL_PLUGINS to its module"):
        build_label('x', config)
    try:
        monkeypatch.setenv('MTL_PLUGINS', 'zones_plugin')
        data_files.import_plugins.cache_clear()
        assert build_label('x', config).classes == ('near', 'far')
        monkeypatch.setenv('MTL_PLUGINS', 'zones_plugin, no_such_module')
        data_files.import_plugins.cache_clear()
        with pytest.raises(ConfigError, match=r'`MTL_PLUGINS` should name modules that can be imported\. Found no_such_module'):
            find_registered('Zones', registry.LABELS)
    finally:
        registry.LABELS.module_dict.pop('Zones', None)
        data_files.import_plugins.cache_clear()


@pytest.mark.parametrize(
    ('part', 'found'),
    [
        (dict(custom_imports=dict(imports=['hostile_module'])), 'hostile_module'),
        (dict(custom_imports=dict(imports='hostile_module')), 'hostile_module'),
        (dict(custom_imports='hostile_module'), 'hostile_module'),
        (dict(model=dict(_scope_='hostile_module')), "'_scope_'"),
        (dict(model=dict(_base_='x')), "'_base_'"),
        (dict(model=dict(target='os.system')), "'target'"),
        (dict(model=dict(test_cfg=dict(weights='https://example.org/x'))), 'example.org'),
        (dict(model=dict(test_cfg=dict(weights='package://x'))), 'package'),
        # mmseg's losses load their weights, by pickle too, from a file whose suffix may be its whole name.
        (dict(model=dict(test_cfg=dict(class_weight='weights.pkl'))), 'weights.pkl'),
        (dict(model=dict(test_cfg=dict(class_weight='pickle'))), "'pickle'"),
    ],
)
def test_nothing_is_imported_or_fetched_from_a_config_that_is_data(part, found, imported, tmp_path):
    model = dict(type='MultiTaskSegmentor', backbone=dict(type='DilatedResNet'))
    refuse_config(tmp_path, found, **{**part, 'model': {**model, **part.get('model', {})}})
    assert imported() == []


def test_initial_weights_are_left_out_and_not_fetched():
    # mmseg's TIMMBackbone fetches weights unless it is told not to.
    backbone = dict(type='mmseg.TIMMBackbone', model_name='resnet18', checkpoint_path='/x', init_cfg=dict(checkpoint='https://x'))
    part = take_part(backbone, 'x', registry.MODELS)
    assert part == dict(type='mmseg.TIMMBackbone', model_name='resnet18', checkpoint_path=None, init_cfg=None, pretrained=False)
    assert take_part(dict(backbone, pretrained=True), 'x', registry.MODELS)['pretrained'] is False


def test_a_loader_collates_by_a_registered_function_only():
    loader = dict(
        batch_size=1, dataset=dict(type='MiniScapesDataset', data_root='/data'), collate_fn=dict(type='multitask_collate')
    )
    roots = (registry.DATASETS, registry.DATA_SAMPLERS)
    assert take_part(loader, 'x', *roots, paths=True) == loader
    for name in ('collate_fn', 'worker_init_fn', 'sampler', 'batch_sampler'):
        with pytest.raises(ConfigError, match=r'os\.system'):
            take_part({**loader, name: dict(type='os.system')}, 'x', *roots, paths=True)


@pytest.mark.parametrize(
    'text', ['[' * 100_000, '[' * 65 + ']' * 65, 'NaN', '[-Infinity]', '1e999', '9' * 5000, '1' * 21, '{', '\xff']
)
def test_files_and_numbers_and_depth_of_json_are_bounded(text, tmp_path):
    with pytest.raises(ValueError):
        parse_json(text.encode('latin-1'))
    assert parse_json('{"a": [1, -2.5, 18446744073709551615, true, null]}') == dict(a=[1, -2.5, 2**64 - 1, True, None])
    (tmp_path / 'large').write_bytes(bytes(11))
    with pytest.raises(OSError, match='larger than'):
        read_bytes(tmp_path / 'large', most=10)
