"""A tiny run, analysed: where it is wrong, its curves, its costs."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.models.utils.model_stats import count_flops_of_size, count_parameters
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import MODELS
from tests.tools.conftest import write_tiny_config


@pytest.fixture(scope='module')
def run(data_root, tmp_path_factory):
    """The work dir of two epochs of the tiny model."""
    folder = tmp_path_factory.mktemp('runs')
    options = {'default_hooks.checkpoint.max_keep_ckpts': 2, 'default_hooks.logger.interval': 2}
    config = load_config(str(write_tiny_config(folder / 'tiny.py')), options, str(data_root))
    config.work_dir, config.launcher = str(folder / 'tiny_seed0'), 'none'
    config.submission = dict(enabled=False)
    train(config)
    return folder / 'tiny_seed0'


@pytest.fixture(scope='module')
def config_file(run):
    return run.parent / 'tiny.py'


def test_the_errors_of_a_run_are_those_of_its_validation(run_cli, run, config_file, data_root, tmp_path):
    out = tmp_path / 'out'
    ranks = ('--num-images', 1, '--by', 'error/depth', 'metrics_summary/multitask_unclipped')
    arguments = (config_file, run / 'epoch_2.pth', '--data-root', data_root, '--out', out, *ranks)
    result = run_cli('analysis_tools/analyse_errors', *arguments)
    assert result.code == 0, result.err
    document = json.loads((out / 'errors.json').read_text())
    (model,) = document['models']
    for name, value in read_metrics(run / 'metrics.csv')[-1].items():
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


def test_curves_over_epochs_and_hours_and_of_what_the_training_logs(run_cli, run, tmp_path):
    tool, out = 'analysis_tools/plot_metrics', tmp_path / 'curves.png'
    for axis, metric in (('epoch', 'metrics_summary/depth'), ('hours', 'metrics_summary/depth'), ('epoch', 'loss')):
        result = run_cli(tool, run, run, '--metric', metric, '--x', axis, '--out', out)
        assert result.code == 0, result.err
        # The name without its seed.
        assert ' tiny ' in result.out
        assert out.exists()
    values = [float(row['metrics_summary/depth']) for row in read_metrics(run / 'metrics.csv')]
    assert f'{min(values):.2f}' in run_cli(tool, run, '--metric', 'metrics_summary/depth').out


def test_what_a_run_costs_beside_its_score(run_cli, run, config_file, tmp_path):
    result = run_cli('report', run.parent, '--no-predictions', '--size', '64x64', '--out', tmp_path)
    assert result.code == 0, result.err
    (cost,) = json.loads((tmp_path / 'report.json').read_text())['resources']
    model = MODELS.build(load_config(str(config_file)).model)
    assert cost['parameters'] == count_parameters(model) / 1e6 == pytest.approx(sum(cost['parts'].values()))
    assert cost['gflops'] == count_flops_of_size(model, (64, 64)) / 1e9
    record = json.loads((run / 'run.json').read_text())
    assert (cost['epoch'], cost['memory']) == (record['epoch_seconds'], record['memory_mib'])
    assert cost['hours'] == record['validations'][-1]['seconds'] / 3600
    assert cost['scores'] == record['scores']
    assert '| tiny |' in (tmp_path / 'tables/resources.md').read_text()
    names = {path.stem for path in (tmp_path / 'figures').glob('score_against_*.png')}
    assert names == {f'score_against_{cost}' for cost in ('parameters', 'gflops', 'memory', 'epoch', 'hours')}


def test_bad_input_is_one_sentence(run_cli, run, config_file, data_root, tmp_path):
    out = tmp_path / 'out'
    analyse = ('analysis_tools/analyse_errors', config_file, run / 'epoch_2.pth', '--data-root', data_root, '--out', out)
    for arguments, words in (
        ((*analyse, '--split', 'test'), ["'test'", 'should have labels: semseg, depth', 'Found none']),
        ((*analyse, '--by', 'mIoU'), ['`--by`', 'error/depth', 'Found mIoU']),
        ((*analyse, '--labels', 'flow'), ['have the labels semseg, depth', 'Found flow']),
    ):
        result = run_cli(*arguments)
        assert result.code == 1 and result.err.startswith('error: ') and result.err.count('\n') == 1, result.err
        assert all(word in result.err for word in words), result.err
    assert not out.exists()
