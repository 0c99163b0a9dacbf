"""TrainingScoresHook: what it writes is what a validation of the same images writes, and the training does not notice it."""

import pytest
import torch

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.engine.hooks import TrainingScoresHook
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.utils.checkpoint_io import load_checkpoint_file
from tests.fake_coco import annotation, square, write_fake_coco
from tests.tiny import CONFIGS, TinyBackbone, shrink_head


def run(name: str, data, work_dir, **hook) -> tuple[list[dict], dict]:
    """Metrics and weights of two epochs on four images, which are those of the validation, too."""
    path = str(next((CONFIGS / name).glob('*_1xb16-10e_synthetic-coco-96x96.py')))
    options = shrink_head(load_config(path).model.decode_head, 'model.decode_head') | {
        'train_dataloader.batch_size': 2,
        'val_dataloader.dataset.split': 'train',
        'train_cfg.max_epochs': 2,
        'param_scheduler.0.end': 2,
        'default_hooks.pictures': None,
        **{f'default_hooks.training_scores.{key}': value for key, value in hook.items()},
    }
    config = load_config(path, options, str(data))
    if not hook:
        config.default_hooks.training_scores = None
    config.model.backbone = dict(type=TinyBackbone.__name__)
    set_work_dir(config, str(work_dir))
    train(config)
    return read_metrics(work_dir / 'metrics.csv'), load_checkpoint_file(work_dir / 'epoch_2.pth')['state_dict']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    annotations = [annotation((1, 18, 3, 2)[k], square(4 + k, 6, 20), image_id=k + 1) for k in range(4)]
    return write_fake_coco(tmp_path_factory.mktemp('coco'), annotations, sizes=[(40, 48)] * 4)


@pytest.mark.parametrize('name', ['deeplabv3', 'class_attention'])
def test_the_training_split_is_scored_as_the_validation_is(name, data, tmp_path):
    rows, weights = run(name, data, tmp_path / 'with', num_images=None)
    assert len(rows) == 2
    for row in rows:
        scores = {key.removeprefix('train/'): value for key, value in row.items() if key.startswith('train/')}
        expected = {key.removeprefix('val/'): value for key, value in row.items() if not key.startswith('train/')}
        assert {'loss', 'metrics_summary/semseg'} <= scores.keys() == expected.keys() - {'epoch', 'iter'}
        assert scores == {key: expected[key] for key in scores}
    plain, same = run(name, data, tmp_path / 'without')
    assert [key for key in plain[0] if key.startswith('train/')] == [] and plain[1]['val/loss'] == rows[1]['val/loss']
    assert all(torch.equal(value, same[key]) for key, value in weights.items())


def test_a_part_and_an_interval(data, tmp_path):
    rows, _ = run('deeplabv3', data, tmp_path, num_images=1, interval=2)
    assert rows[0]['train/loss'] == '' and float(rows[1]['train/loss']) > 0
    assert rows[1]['train/loss'] != rows[1]['val/loss']


@pytest.mark.parametrize('arguments', [dict(num_images=0), dict(interval=0)])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(ValueError, match=f'`{next(iter(arguments))}` of TrainingScoresHook should be at least 1. Found 0'):
        TrainingScoresHook(**arguments)
