"""Training on COCO format with the two kinds of model, exact resume, and their comparison by one command."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.synthetic.coco.writer import write_coco
from tests.tiny import ROOT, check_same_end
from tests.tools.conftest import write_tiny_config
from tests.tools.photographs import save_weights

CLASSES = ['background', 'person', 'car', 'bicycle', 'cat', 'dog']
CONFIG = """_base_ = ['{root}/configs/{system}/{system}_r18-d16_1xb16-10e_synthetic-coco-96x96.py']
custom_imports = dict(imports=['tests.tiny'])
model = dict(backbone=dict(_delete_=True, type='TinyBackbone'), decode_head=dict(head=dict(channels=16){more}))
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        pipeline=[
            dict(type='LoadCOCOSubset'),
            dict(type='RandomHomography', crop_size=32, scale=(1.0, 1.5)),
            dict(type='PackMultiTaskInputs', meta_keys=()),
        ]
    ),
)
train_cfg = dict(max_epochs=2)
"""
MODEL_OF_ONE = "model.update(tasks=dict(_delete_=True, {task}), task_balancing=dict(_delete_=True, type='FixedWeights'))\n"


@pytest.fixture(scope='module')
def coco_root(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco') / 'root', 6, 5, size=(40, 56), progress=False)


@pytest.fixture(scope='module')
def config_files(tmp_path_factory):
    """Config files of both kinds, in folders of their names."""
    paths = {}
    for system, more in (('deeplabv3', ''), ('class_attention', ', channels=16')):
        paths[system] = tmp_path_factory.mktemp('configs') / system / f'{system}.py'
        paths[system].parent.mkdir()
        paths[system].write_text(CONFIG.format(root=ROOT, system=system, more=more))
    return paths


@pytest.fixture(scope='module')
def trained(coco_root, config_files, tmp_path_factory):
    """Work dirs of two epochs of each."""
    folders = {}
    for system, path in config_files.items():
        config = load_config(str(path), data_root=str(coco_root))
        config.work_dir = str(tmp_path_factory.mktemp(system) / 'run')
        config.launcher = 'none'
        train(config)
        folders[system] = tmp_path_factory.getbasetemp() / config.work_dir
    return folders


@pytest.mark.parametrize('system', ['deeplabv3', 'class_attention'])
def test_a_run_keeps_its_best_by_miou_and_draws_with_the_colours_of_the_data_set(trained, system):
    rows = read_metrics(trained[system] / 'metrics.csv')
    assert len(rows) == 2 and {f'metrics_task_semseg/{name}' for name in CLASSES} <= set(rows[0])
    assert len(list(trained[system].glob('best_metrics_summary_semseg_epoch_*.pth'))) == 1
    assert not list(trained[system].glob('*.zip'))
    name = dict(deeplabv3='predictions', class_attention='attention')[system]
    pictures = sorted(trained[system].rglob(f'{name}_*.png'))
    assert len(pictures) == 2
    with Image.open(pictures[-1]) as picture:
        assert dict(deeplabv3=4, class_attention=8)[system] * 150 < picture.width


def test_a_resumed_run_asks_for_the_same_classes(trained, config_files, coco_root, tmp_path):
    straight = trained['class_attention']
    config = load_config(str(config_files['class_attention']), data_root=str(coco_root))
    shutil.copy(straight / 'epoch_1.pth', tmp_path)
    config.work_dir, config.launcher = str(tmp_path), 'none'
    config.resume, config.load_from = True, str(tmp_path / 'epoch_1.pth')
    train(config)
    check_same_end(straight, tmp_path, 'state_dict', 'optimizer')


def test_both_models_are_judged_on_the_whole_split(run_cli, trained, config_files, coco_root, tmp_path):
    pairs = [item for system in config_files for item in (config_files[system], trained[system] / 'epoch_2.pth')]
    out = tmp_path / 'out'
    arguments = ('--data-root', coco_root, '--out', out, '--indices', 2, 0, 3)
    result = run_cli('analysis_tools/compare_models', *pairs, *arguments).check()
    assert all(word in result.out for word in (*CLASSES, 'mIoU', 'deeplabv3', 'class_attention'))
    document = json.loads((out / 'comparison.json').read_text())
    assert document['data'] == dict(root=str(coco_root), split='val', images=5, labels=dict(semseg=CLASSES))
    # What validation said at the end of training, through another path.
    for model in document['models']:
        rows = read_metrics(trained[model['name']] / 'metrics.csv')
        for name, value in model['scores'].items():
            assert float(rows[-1][name]) == pytest.approx(value, abs=1e-9)
        assert len(model['checkpoint_sha256']) == 64
        confusion = np.array(model['confusion']['semseg'])
        assert model['scores']['metrics_task_semseg/background'] == pytest.approx(
            100 * confusion[0, 0] / (confusion[0].sum() + confusion[:, 0].sum() - confusion[0, 0])
        )
    assert document['provenance']['commit'] and [int(name) for name in document['examples']] == [3, 1, 4]
    markdown = (out / 'comparison.md').read_text()
    assert 'all 5 images' in markdown and all(f'\n| {name} | ' in markdown for name in CLASSES)
    with Image.open(out / 'comparison_semseg.png') as picture:
        # Image, label, two predictions, their errors, the attention of one.
        assert picture.width == 4 + 7 * 244 and len(picture.getcolors(2**24)) > 100
    pictures = ['confusion_semseg_1', 'confusion_semseg_2', 'confusion_semseg_2_minus_1', 'iou_semseg', 'comparison_semseg']
    pictures += ['error_semseg_by_semseg', 'error_semseg_by_place']
    assert sorted(path.stem for path in out.glob('*.png')) == sorted(pictures)


def test_what_cannot_be_compared_is_one_sentence(run_cli, trained, config_files, coco_root, data_root, tmp_path):
    pair = (config_files['deeplabv3'], trained['deeplabv3'] / 'epoch_2.pth')

    def refused(words, *arguments, root=coco_root):
        run_cli('analysis_tools/compare_models', *arguments, '--data-root', root).check_refused(*words)

    refused(['do not fit ClassConditionalSegmentor'], *pair, config_files['class_attention'], pair[1])
    refused(['does not exist'], *pair, pair[0], tmp_path / 'none.pth')
    options = ['--cfg-options', 'val_dataloader.dataset.classes=[person,car]']
    refused(['should know the 3 classes of the data set. Found 6'], *pair, *pair, *options)
    refused(['`--indices` should lie in 0..4'], *pair, *pair, '--indices', 5)
    street = write_tiny_config(tmp_path / 'street.py')
    words = ['All data sets should have the classes background, person', 'Found road, sidewalk']
    refused(words, *pair, street, save_weights(tmp_path / 'street.pth', street))
    depth = tmp_path / 'depth.py'
    depth.write_text(street.read_text() + MODEL_OF_ONE.format(task="depth=dict(type='DepthTask')"))
    semseg = tmp_path / 'semseg.py'
    semseg.write_text(street.read_text() + MODEL_OF_ONE.format(task="semseg=dict(type='SemSegTask')"))
    others = [item for path in (semseg, depth) for item in (path, save_weights(path.with_suffix('.pth'), path))]
    refused(['a label in common. Found semseg (a); depth (b)'], *others, '--names', 'a', 'b', root=data_root)


@pytest.mark.parametrize('arguments', [['a.py'], ['a.py', 'a.pth'], ['a.py', 'a.pth', 'b.py', 'b.pth', '--names', 'x', 'x']])
def test_models_are_given_in_pairs_and_told_apart(run_cli, arguments):
    assert run_cli('analysis_tools/compare_models', *arguments).code == 2
