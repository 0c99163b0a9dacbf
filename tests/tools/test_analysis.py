"""Where a run is wrong; two kinds of model, trained on COCO format and resumed exactly, and their comparison by one command."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.synthetic.coco.writer import write_coco
from tests.tiny import CONFIGS, check_same_end, tiny_config
from tests.tools.conftest import save_tiny

CLASSES = ['background', 'person', 'car', 'bicycle', 'cat', 'dog']


@pytest.fixture(scope='module')
def coco_root(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('coco') / 'root', 6, 5, size=(40, 56))


@pytest.fixture(scope='module')
def trained(coco_root, tmp_path_factory):
    """Work dirs of two epochs of each kind of model, with their config files beside them."""
    folders = {}
    for system in ('deeplabv3', 'class_attention'):
        folders[system] = tmp_path_factory.mktemp('runs') / system / 'run'
        path = CONFIGS / f'{system}/{system}_r18-d16_1xb16-10e_synthetic-coco-96x96.py'
        config = tiny_config(coco_root, folders[system], path, train_cfg__max_epochs=2)
        folders[system].parent.mkdir()
        config.dump(folders[system].parent / 'config.py')
        train(config)
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


def test_a_resumed_run_asks_for_the_same_classes(trained, coco_root, tmp_path):
    straight = trained['class_attention']
    config = load_config(str(straight.parent / 'config.py'), data_root=str(coco_root))
    shutil.copy(straight / 'epoch_1.pth', tmp_path)
    config.work_dir = str(tmp_path)
    config.resume, config.load_from = True, str(tmp_path / 'epoch_1.pth')
    train(config)
    check_same_end(straight, tmp_path, 'state_dict', 'optimizer')


def test_both_models_are_judged_on_the_whole_split(run_cli, trained, coco_root, tmp_path):
    pairs = [item for folder in trained.values() for item in (folder.parent / 'config.py', folder / 'epoch_2.pth')]
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


def test_what_cannot_be_compared_is_one_sentence(run_cli, trained, coco_root, data_root, tmp_path):
    pair = (trained['deeplabv3'].parent / 'config.py', trained['deeplabv3'] / 'epoch_2.pth')

    def refused(words, *arguments, root=coco_root):
        run_cli('analysis_tools/compare_models', *arguments, '--data-root', root).check_refused(*words)

    refused(['do not fit ClassConditionalSegmentor'], *pair, trained['class_attention'].parent / 'config.py', pair[1])
    refused(['does not exist'], *pair, pair[0], tmp_path / 'none.pth')
    options = ['--cfg-options', 'val_dataloader.dataset.classes=[person,car]']
    refused(['should know the 3 classes of the data set. Found 6'], *pair, *pair, *options)
    refused(['`--indices` should be in 0..4'], *pair, *pair, '--indices', 5)
    words = ['All data sets should have the classes background, person', 'Found road, sidewalk']
    refused(words, *pair, *save_tiny(tmp_path, 'joint_r18-d16_1xb16-32e_miniscapes-256x256', data_root))
    names = [f'deeplabv3plus-{task}_r18-d16_1xb16-32e_miniscapes-256x256' for task in ('semseg', 'depth')]
    others = [item for name in names for item in save_tiny(tmp_path, name, data_root)]
    refused(['a label in common. Found semseg (a); depth (b)'], *others, '--names', 'a', 'b', root=data_root)


@pytest.fixture
def arguments(finished_run, data_root, tmp_path):
    config, checkpoint = finished_run.parent / 'tiny.py', finished_run / 'epoch_2.pth'
    return 'analysis_tools/analyse_errors', config, checkpoint, '--data-root', data_root, '--out', tmp_path / 'out'


def test_the_errors_of_a_run_are_those_of_its_validation(run_cli, finished_run, arguments):
    ranks = ('--num-images', 1, '--by', 'error/depth', 'metrics_summary/multitask_unclipped')
    run_cli(*arguments, *ranks).check()
    out = arguments[-1]
    document = json.loads((out / 'errors.json').read_text())
    (model,) = document['models']
    for name, value in read_metrics(finished_run / 'metrics.csv')[-1].items():
        if name.startswith('metrics_'):
            assert model['scores'][name] == pytest.approx(float(value), abs=1e-9)
    pixels = {(table['label'], table['by']): sum(table['pixels']) for table in model['errors']}
    # Every valid pixel is somewhere in the image and at some distance.
    assert pixels['depth', 'place'] == pixels['depth', 'depth'] > 0
    assert pixels['semseg', 'place'] == pixels['semseg', 'semseg'] == np.sum(model['confusion']['semseg'])
    with open(out / 'images.csv', newline='') as file:
        images = list(csv.DictReader(file))
    assert [image['name'] for image in images] == ['0', '1', '2']
    mean = np.mean([float(image['metrics_summary/depth']) for image in images])
    assert mean == pytest.approx(model['scores']['metrics_summary/depth'], abs=1e-9)
    pictures = ['confusion_semseg', 'iou_semseg', 'images_by_error_depth']
    pictures += ['images_by_metrics_summary_multitask_unclipped']
    pictures += [f'error_{label}_by_{by}' for label in ('semseg', 'depth') for by in ('semseg', 'depth', 'place')]
    assert sorted(path.stem for path in out.glob('*.png')) == sorted(pictures)
    for path in out.glob('*.png'):
        with Image.open(path) as picture:
            assert picture.width > 400 and len(picture.getcolors(2**24)) > 20, path
