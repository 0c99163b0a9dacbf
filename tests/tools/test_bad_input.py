"""Whatever is wrong with the input: one sentence on standard error, exit code 1, nothing half-written."""

import shutil
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from tests.tiny import tiny_config


@pytest.fixture
def own_data(data_root, tmp_path):
    """A copy of the data set that a test may damage."""
    shutil.copytree(data_root, tmp_path / 'data')
    return tmp_path / 'data'


@pytest.fixture
def train(run_cli, tiny_config_file, tmp_path):
    """``train(data_root, words, arguments)`` is refused in a sentence with these words, and leaves no checkpoint."""

    def run(data_root, words, *arguments):
        result = run_cli('train', tiny_config_file, '--work-dir', tmp_path / 'run', '--data-root', data_root, *arguments)
        result.check_refused(*words)
        assert result.err.count('\n') == 1 and not list((tmp_path / 'run').glob('*.pth')), result.err

    return run


def _cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def _bad_id(path):
    label = np.array(Image.open(path))
    label[0, 0] = 77
    Image.fromarray(label).save(path)


def _other_size(path):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)


def _sixteen_bit(path):
    cv2.imwrite(str(path), np.full((32, 64), 1000, np.uint16))


def _rgb(path):
    cv2.imwrite(str(path), np.zeros((32, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ('file', 'damage', 'words', 'options'),
    [
        ('rgb/3.jpg', _cut, ['truncated'], []),
        # PyTorch wraps the error of a worker process into a text with its whole traceback.
        ('rgb/3.jpg', _cut, [], ['--cfg-options', 'train_dataloader.worker_type=process']),
        ('rgb/3.jpg', lambda path: path.write_bytes(b'no image'), [], []),
        ('semseg/3.png', _cut, [], []),
        ('semseg/3.png', _bad_id, ['77'], []),
        ('semseg/3.png', _other_size, ['16', '32'], []),
        ('depth/3.png', _sixteen_bit, ['16'], []),
        ('depth/3.png', _rgb, [], []),
        ('depth/3.png', lambda path: path.unlink(), [], []),
    ],
)
def test_a_bad_file_is_named(own_data, train, file, damage, words, options):
    path = own_data / 'train' / file
    damage(path)
    train(own_data, (str(path), *words), *options)


def test_a_missing_data_root_says_how_to_make_one(train, tmp_path):
    train(tmp_path / 'nowhere', ('nowhere', 'mtl data make OUT'))


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_a_missing_or_empty_split_is_named_before_training_starts(own_data, train, split):
    shutil.rmtree(own_data / split)
    train(own_data, [split])
    (own_data / split / 'rgb').mkdir(parents=True)
    train(own_data, [split])


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.decode_head.head.chanels=8', ['DeepLabV3PlusHead', '`channels`']),
        ('train_dataloader.dataset.pipeline.1.crop=8', ['RandomHomography', '`crop_size`']),
        ('optim_wrapper.optimizer.learning_rate=1', ['Adam', ' lr,']),
        ('trian_cfg.max_epochs=1', ['`train_cfg`']),
        ('train_dataloader.dataset.pipeline.9.crop_size=8', ['list of 3 items']),
        ('max_epochs', ['KEY=VALUE']),
        ('model.backbone.type=TinyBackbon', ['TinyBackbon']),
        ('train_dataloader.dataset.pipeline.1.crop_size=-3', ['crop_size', '-3']),
        ('train_dataloader.batch_size=abc', ['`batch_size`', "'abc'"]),
        ('train_dataloader.batch_size=0', ['`batch_size`', 'Found 0']),
        ('val_dataloader.batch_size=0', ['`batch_size`', 'Found 0']),
        ('train_dataloader.worker_type=fiber', ['`worker_type` should be one of', "'fiber'"]),
        ('train_dataloader.num_workers=-2', ['`num_workers`', '-2']),
        ('train_dataloader.batch_size=9', ['`batch_size` should be at most 8', 'Found 9']),
        ('train_cfg.max_epochs=0', ['`train_cfg.max_epochs`', 'Found 0']),
        ('optim_wrapper.optimizer.lr=-1', ['`optim_wrapper.optimizer`', 'lr=-1', 'Invalid learning rate']),
        ('model.tasks.semseg.num_classes=7', ['`model.tasks.semseg.num_classes` should be 19', 'Found 7']),
        ('model.decode_head.head.rates=[0,0,0]', ['`rates`', '(0, 0, 0)']),
        ('model.decode_head.head.num_convs=abc', ['`model.decode_head.head`', "num_convs='abc'", 'TypeError']),
        ('param_scheduler.0.end=-1', ['`param_scheduler.0`', 'end=-1']),
        ('val_evaluator.tasks=[flow]', ["'flow'"]),
    ],
)
def test_a_mistyped_override_is_refused_with_the_nearest_key(train, data_root, option, words):
    train(data_root, words, '--cfg-options', option)


def test_checkpoints_that_do_not_exist_or_fit(run_cli, tiny_config_file, data_root, tmp_path):
    head = dict(model__decode_head__head__num_convs=1, model__decode_head__head__channels=24)
    RUNNERS.build(tiny_config(data_root, tmp_path / 'trained', train_cfg__max_epochs=1, **head)).train()
    other = find_latest_checkpoint(tmp_path / 'trained')
    misfit = ('another architecture', 'missing (first: ', 'of another shape (first: ')
    for checkpoint, words in ((tmp_path / 'no.pth', ['does not exist']), (other, misfit)):
        for arguments in (
            ('test', tiny_config_file, checkpoint, '--work-dir', tmp_path / 'run'),
            ('train', tiny_config_file, '--work-dir', tmp_path / 'run', '--resume', checkpoint),
        ):
            result = run_cli(*arguments, '--data-root', data_root)
            result.check_refused(*words)


@pytest.mark.parametrize(
    ('tool', 'package', 'extra', 'arguments'),
    [
        ('report', 'plotly', 'report', ['work_dirs', '--out', 'out']),
        ('dashboard', 'jinja2', 'report', ['work_dirs']),
        ('sweep', 'optuna', 'sweep', ['sweeps/task_weights.py']),
        ('sweep', 'scipy', 'sweep', ['sweeps/ablation.py', '--report-only']),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(run_cli, monkeypatch, tool, package, extra, arguments):
    # As if nothing had imported it yet.
    gone = ('mtl_plugins.lab.', f'{package}.')
    for name in [name for name in sys.modules if name.startswith(gone)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    run_cli(tool, *arguments).check_refused(f"error: This needs the package {package}. Install it: pip install -e '.[{extra}]'.")
