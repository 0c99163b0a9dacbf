"""Names that `mtl_plugins` offers: the settings of the command line in Python, and the result of a training."""

import subprocess
import sys

import pytest

import mtl_plugins
from mtl_plugins.cli.train import make_parser
from mtl_plugins.errors import ConfigError
from mtl_plugins.models.backbones.resnet import DilatedResNet
from mtl_plugins.models.decode_heads.deeplabv3plus_head import DeepLabV3PlusHead
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import read_record_file
from tests.tiny import EPOCH_CONFIG, tiny_config


def test_importing_the_package_loads_nothing_until_a_name_is_asked_for():
    code = (
        'import sys, mtl_plugins; print(*dir(mtl_plugins)); print({"torch", "numpy", "mmengine"} & set(sys.modules) or "nothing")'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    names, loaded = run.stdout.splitlines()
    assert {'MultiTaskInferencer', 'load_config', 'train', '__version__'} <= set(names.split()) and loaded == 'nothing'
    with pytest.raises(AttributeError, match="module 'mtl_plugins' has no attribute 'predict'"):
        mtl_plugins.predict  # noqa: B018
    assert mtl_plugins.load_config is mtl_plugins.config.load.load_config


def test_settings_mean_what_they_mean_on_the_command_line(tmp_path):
    settings = dict(epochs=3, batch_size=2, lr=0.1, size=(32, 64), seed=7, amp=True, work_dir=tmp_path, resume=True)
    config = mtl_plugins.load_config(EPOCH_CONFIG, data_root=tmp_path, **settings, reschedule=True, submission=False)
    assert (config.train_cfg.max_epochs, config.param_scheduler[0].end) == (3, 3)
    assert config.train_dataloader.batch_size == 2 and config.train_dataloader.dataset.data_root == str(tmp_path)
    assert config.optim_wrapper.optimizer.lr == 0.1 and config.optim_wrapper.type.startswith(('Bf16', 'Amp'))
    assert config.train_dataloader.dataset.pipeline[1].crop_size == (32, 64) and config.randomness.seed == 7
    assert config.work_dir == str(tmp_path) and config.resume and config.reschedule and not config.submission.enabled
    options = {action.dest for action in make_parser()._actions}
    assert set(settings) | {'cfg_options', 'data_root', 'reschedule'} <= options


@pytest.mark.parametrize(
    ('settings', 'sentence'),
    [
        (dict(epochs=0), '`epochs` should be a whole number from 1. Found 0.'),
        (dict(batch_size='8'), "`batch_size` should be a whole number from 1. Found '8'."),
        (dict(lr='fast'), "`lr` should be a number from 0. Found 'fast'."),
        (dict(size=(256,)), r'`size` should be \(height, width\) in pixels, such as \(256, 512\). Found \(256,\).'),
        (dict(reschedule=True), '`--reschedule` is for a run that is continued'),
    ],
)
def test_a_setting_of_another_kind_is_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        mtl_plugins.load_config(EPOCH_CONFIG, **settings)


def test_parts_built_in_python_initialise_their_weights_without_a_word(capsys):
    # Two lines for each weight.
    DeepLabV3PlusHead(in_channels=(None, 8, 8, 8, 8), out_channels=2, channels=8).init_weights()
    DilatedResNet(depth=18).init_weights()
    assert capsys.readouterr() == ('', '')


def test_a_training_returns_the_scores_of_its_best_validation(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path / 'run', train_cfg__max_epochs=2)
    config.default_hooks.pop('pictures')
    result = mtl_plugins.train(config)
    rows, record = read_metrics(tmp_path / 'run/metrics.csv'), read_record_file(tmp_path / 'run')
    assert len(rows) == 2 and result.scores == pytest.approx(record['scores']) and result.work_dir == tmp_path / 'run'
    assert result.checkpoint.name == record['checkpoints']['best'] and result.archive.is_file()
    best = next(row for row in rows if int(row['epoch']) == record['best']['epoch'])
    assert result.scores['metrics_summary/depth'] == float(best['metrics_summary/depth'])
