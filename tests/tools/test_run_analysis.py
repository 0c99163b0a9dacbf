"""A tiny run, analysed: where it is wrong."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.records.metrics_file import read_metrics


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


@pytest.mark.parametrize(
    ('more', 'words'),
    [
        (('--split', 'test'), ["'test'", 'should have labels: semseg, depth', 'Found none']),
        (('--by', 'mIoU'), ['`--by`', 'error/depth', 'Found mIoU']),
        (('--labels', 'flow'), ['have the labels semseg, depth', 'Found flow']),
    ],
)
def test_bad_input_is_one_sentence(run_cli, arguments, more, words):
    run_cli(*arguments, *more).check_refused(*words)
    assert not arguments[-1].exists()
