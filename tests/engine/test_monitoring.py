"""All log back ends get the same from a run. Scores of its training split are computed as those of a validation."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.engine.prediction_tap import spread_values
from mtl_plugins.errors import ConfigError
from mtl_plugins.records.config_data import KEY_FILE, wandb_key
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import read_record_file
from mtl_plugins.registry import RUNNERS, TASK_UTILS, VISBACKENDS
from mtl_plugins.task_balancing import FixedWeights
from mtl_plugins.utils.checkpoint_io import load_checkpoint_file
from mtl_plugins.visualization.visualizer import Histogram
from tests.tiny import CONFIGS, EPOCH_CONFIG, ROOT, check_same_end, tiny_config, with_preset

BINS_CONFIG = CONFIGS / 'transformer_multitask/transformer_multitask-cross_r18-d16_1xb16-32e_miniscapes-256x256.py'
KEY = '0123456789abcdef' * 2 + 'deadbeef'
SCALARS = ('loss', 'semseg/loss_ce', 'depth/loss_silog', 'grad_norm', 'lr', 'time', 'data_time', 'memory', 'epoch')
SCORES = ('val/loss', 'val/semseg/loss_ce', 'metrics_summary/semseg', 'metrics_task_semseg/traffic light')
ERRORS = ('si_log_rmse', 'log_rmse', 'log_mae', 'mae', 'rmse', 'rel', 'rel_squared', 'inv_mae', 'inv_rmse', 'delta1')
PICTURES = ('training', 'observed/train', 'observed/val', 'confusion/semseg')
DEPTHS = [f'depth/{map_}_{form}' for map_ in ('label', 'prediction') for form in ('metres', 'represented')]


@TASK_UTILS.register_module()
class LearnedWeights(FixedWeights):
    """A balancing with a parameter per task, as those that weigh by uncertainty have."""

    def __init__(self, *, tasks) -> None:
        super().__init__(tasks=tasks)
        self.log_variance = torch.nn.Parameter(torch.zeros(len(self.weights)))

    def forward(self, task_losses):
        return sum(loss * (-s).exp() + s for loss, s in zip(task_losses.values(), self.log_variance, strict=True))


@pytest.fixture(scope='module')
def run(data_root, tmp_path_factory):
    """The work dir of a finished run with all back ends and a key in every place where it may be."""
    folder = tmp_path_factory.mktemp('monitored')
    (folder / 'wandb.key').write_text(KEY)
    (folder / '.netrc').write_text(f'machine api.wandb.ai\n  login user\n  password {KEY}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv('HOME', str(folder))
        patch.setenv('WANDB_API_KEY', '')
        patch.setattr('mtl_plugins.records.config_data.KEY_FILE', folder / 'wandb.key')
        patch.setenv('WANDB_SILENT', 'true')
        config = tiny_config(
            data_root,
            folder / 'run',
            with_preset(folder, 'visualization/wandb-offline', BINS_CONFIG),
            train_cfg__max_epochs=2,
            name='watched',
            team=46,
            team_prefix='G',
            default_hooks__logger__interval=2,
            default_hooks__histograms__interval=4,
            default_hooks__pictures__training__interval=4,
            default_hooks__pictures__observed__interval=1,
            default_hooks__pictures__observed__samples=[0, 5],
            default_hooks__pictures__confusion__interval=1,
            visualizer__vis_backends__1__init_kwargs=dict(group='sweep'),
        )
        config.model.task_balancing = dict(type='LearnedWeights')
        config.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))
        train(config)
        # That of the file was taken.
        assert os.environ['WANDB_API_KEY'] == KEY
    return folder / 'run'


def read_scalars(work_dir: Path, name: str = 'scalars.json') -> list[dict]:
    (path,) = work_dir.glob(f'*/vis_data/{name}')
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_wandb(path: Path) -> list:
    """The records of an offline run: protocol buffers in the log format of LevelDB after a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, records, place, part = path.read_bytes(), [], 7, b''
    assert data.startswith(b':W&B')
    while place + 7 <= len(data):
        if place % 2**15 > 2**15 - 7:
            # What is left of a block holds no header of a record.
            place += -place % 2**15
            continue
        _, length, kind = struct.unpack_from('<IHB', data, place)
        part = (part if kind in (3, 4) else b'') + data[place + 7 : place + 7 + length]
        place += 7 + length
        # Whole, or the last one of several pieces.
        if kind in (1, 4):
            records.append(Record())
            records[-1].ParseFromString(part)
    return records


def history_of(records: list) -> list[dict]:
    rows = [record.history.item for record in records if record.WhichOneof('record_type') == 'history']
    return [{item.key or '.'.join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]


def test_the_local_files_hold_scalars_pictures_and_histograms(run):
    rows = read_scalars(run)
    training = [row for row in rows if 'loss' in row]
    assert [row['step'] for row in training] == [2, 4, 6, 8]
    assert all(name in row and row[name] is not None for row in training for name in SCALARS)
    # Both weights start at 0; the one of the larger loss grows faster.
    weights = [training[-1][f'task_balancing/log_variance/{task}'] for task in ('semseg', 'depth')]
    assert weights[0] > weights[1] > 0
    validation = [row for row in rows if 'val/loss' in row]
    assert [(row['step'], row['epoch']) for row in validation] == [(4, 1), (8, 2)]
    names = (*SCORES, *(f'metrics_task_depth/{name}' for name in ERRORS))
    assert all(np.isfinite(row[name]) for row in validation for name in names)

    for name in PICTURES:
        for step in (4, 8):
            (path,) = run.glob(f'*/vis_data/vis_image/{name}_{step}.png')
            assert cv2.imread(str(path)).std() > 5

    histograms = {(row['name'], row['step']): row for row in read_scalars(run, 'histograms.jsonl')}
    layers = {name.removeprefix('activations/') for name, _ in histograms if name.startswith('activations/')}
    assert len(layers) == 4 and 'backbone.stages.0.0' in layers
    for layer in layers:
        for kind in ('weights', 'gradients'):
            for step in (4, 8):
                assert sum(histograms[f'{kind}/{layer}.weight', step]['counts']) > 0
    assert all(len(histograms[name, step]['counts']) == 64 for name in [*DEPTHS, 'bins'] for step in (4, 8))
    # The codes of the labels are of 4 to 300 m.
    assert 4 <= histograms['depth/label_metres', 4]['low'] < histograms['depth/label_metres', 4]['high'] <= 300.01


def test_tensorboard_reads_the_same(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = run.glob('*/vis_data/events.out.tfevents*')
    events = EventAccumulator(str(path)).Reload()
    assert set(events.Tags()['scalars']) == set().union(*read_scalars(run)) - {'step'}
    found = [(event.step, event.value) for event in events.Scalars('val/semseg/loss_ce')]
    expected = [(row['step'], row['val/semseg/loss_ce']) for row in read_scalars(run) if 'val/loss' in row]
    assert [(step, pytest.approx(value, rel=1e-6)) for step, value in found] == expected
    assert set(events.Tags()['histograms']) == {row['name'] for row in read_scalars(run, 'histograms.jsonl')}
    assert set(PICTURES) <= set(events.Tags()['images'])


def test_the_offline_file_of_wandb_holds_the_same(run):
    (path,) = run.glob('*/vis_data/wandb/offline-run-*/run-*.wandb')
    records = read_wandb(path)
    (info,) = [record.run for record in records if record.WhichOneof('record_type') == 'run']
    assert info.project == 'mtl_plugins' and info.run_group == 'sweep'
    assert info.display_name.startswith('G46_') and '_watched_' in info.display_name
    assert read_record_file(run)['wandb'] == f'mtl_plugins/{info.run_id}'
    config = {item.key: json.loads(item.value_json) for item in info.config.update}
    assert config['train_cfg']['max_epochs'] == 2

    history = history_of(records)
    for row in read_scalars(run):
        step = row.pop('step')
        assert any(logged['iter'] == step and row.items() <= logged.items() for logged in history if row.keys() <= logged.keys())
    for name in (*PICTURES, *DEPTHS, 'bins'):
        assert [row['iter'] for row in history if name in row or f'{name}._type' in row] == [4, 8], name


def every_content(path: Path, data: bytes):
    """The bytes of a file and of what is packed in it."""
    yield path, data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from every_content(path / name, archive.read(name))


def test_a_key_is_found_nowhere(run):
    files = [path for path in run.rglob('*') if path.is_file()]
    contents = [pair for path in files for pair in every_content(path, path.read_bytes())]
    assert any(path.name == 'cmd.txt' for path, _ in contents) and any(path.suffix == '.wandb' for path in files)
    (log,) = [path for path, _ in contents if path.parent.name == 'logs' and path.parents[1].suffix == '.zip']
    assert dict(contents)[log].startswith((run / log.stem / log.name).read_bytes()[:10000])
    assert any(path.suffix == '.log' for path in files) and any(path.suffix == '.pth' for path in files)
    assert not [str(path) for path, data in contents if KEY.encode() in data]


@pytest.mark.parametrize('text, found', [(f'{KEY}\n', KEY), ('', None), ('put your key here', None), (f'{KEY} {KEY}', None)])
def test_the_key_is_the_only_word_of_a_file_that_git_ignores_unless_the_variable_has_one(tmp_path, monkeypatch, text, found):
    assert KEY_FILE == ROOT / 'wandb.key' and '*.key' in (ROOT / '.gitignore').read_text().splitlines()
    monkeypatch.setattr('mtl_plugins.records.config_data.KEY_FILE', tmp_path / 'wandb.key')
    monkeypatch.delenv('WANDB_API_KEY', raising=False)
    assert wandb_key() is None
    (tmp_path / 'wandb.key').write_text(text)
    assert wandb_key() == found
    monkeypatch.setenv('WANDB_API_KEY', 'of the variable')
    assert wandb_key() == 'of the variable'


@pytest.mark.parametrize(
    'options',
    [
        {'visualizer.vis_backends.1.init_kwargs': dict(api_key='secret')},
        {'visualizer.vis_backends.1.name': f'my key is {KEY}'},
        {'env_cfg.wandb_password': 'secret'},
    ],
)
def test_a_key_in_a_config_is_refused_and_not_repeated(tmp_path, monkeypatch, options):
    monkeypatch.setenv('WANDB_API_KEY', KEY)
    path = with_preset(tmp_path, 'visualization/wandb')
    with pytest.raises(ConfigError, match=r'should not be in a config.*wandb login') as caught:
        config = load_config(str(path), {key: value for key, value in options.items() if not key.startswith('env')})
        config.merge_from_dict({**options, 'work_dir': str(tmp_path / 'run')})
        RUNNERS.build(config)
    assert 'secret' not in str(caught.value) and KEY not in str(caught.value)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('preset, package', [('tensorboard', 'tensorboard'), ('wandb', 'wandb'), ('wandb-offline', 'wandb')])
def test_a_preset_is_a_further_base_of_any_config_and_says_what_to_install(tmp_path, monkeypatch, preset, package):
    dino = next((CONFIGS / 'dino').glob('*.py'))
    for leaf in (EPOCH_CONFIG, dino):
        config = load_config(str(with_preset(tmp_path, f'visualization/{preset}', leaf)))
        assert config.visualizer.vis_backends[0].type == 'LocalVisBackend'
    monkeypatch.setattr('mtl_plugins.visualization.visualizer.find_spec', lambda name: None)
    backend = {**config.visualizer.vis_backends[1], 'save_dir': str(tmp_path)}
    with pytest.raises(ConfigError, match=rf'needs the package {package}.*\[tracking\]'):
        VISBACKENDS.build(backend)


def test_validation_losses_are_those_of_the_model_on_the_validation_split(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=1)
    config.model.auxiliary_head = dict(type='LinearHead')
    runner = RUNNERS.build(config)
    runner.train()
    (found,) = [row for row in read_scalars(tmp_path) if 'metrics_summary/multitask' in row]

    # Three images in batches of two and one, through the model itself in evaluation mode.
    sums = dict.fromkeys(('semseg/loss_ce', 'depth/loss_silog'), 0.0)
    with torch.no_grad():
        for batch in runner.val_dataloader:
            losses = runner.model.eval()._run_forward(runner.model.data_preprocessor(batch), mode='loss')
            for name in sums:
                sums[name] += float(losses[name]) * len(batch['inputs'])
    for name, value in sums.items():
        assert found[f'val/{name}'] == pytest.approx(value / 3, rel=1e-4)
    assert found['val/loss'] == pytest.approx(sum(sums.values()) / 6, rel=1e-4)
    assert not [name for name in found if 'aux' in name]


def test_a_histogram_counts_every_finite_value_once():
    values = np.array([0.0, 1.0, 2.0, np.nan, 8.0, np.inf])
    histogram = Histogram.of(values, num_cells=4)
    assert histogram.counts.tolist() == [2, 1, 0, 1] and histogram.edges.tolist() == [0, 2, 4, 6, 8]
    assert (histogram.total, histogram.total_squares) == (11.0, 69.0)
    assert Histogram.of(np.full(3, np.nan)) is None
    constant = Histogram.of(np.zeros(5))
    assert constant.counts.sum() == 5 and constant.low < 0 < constant.high


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_spread_values_see_every_channel_alike(memory_format):
    channels = torch.arange(64.0).view(1, 64, 1, 1).expand(2, 64, 32, 32).contiguous(memory_format=memory_format)
    values = spread_values(channels, limit=4096)
    assert 3000 < len(values) <= 4096
    counts = torch.bincount(values.long(), minlength=64)
    assert counts.min() > 0.8 * counts.max()


def test_a_picture_from_outside_the_package_is_a_class_and_a_line_of_the_config(data_root, tmp_path):
    leaf = ROOT / 'examples/depth_picture/joint_depth_picture.py'
    RUNNERS.build(tiny_config(data_root, tmp_path, leaf, train_cfg__max_epochs=1)).train()
    (picture,) = tmp_path.glob('*/vis_data/vis_image/depth_scatter_4.png')
    assert cv2.imread(str(picture)).std() > 5


def scored(data_root, work_dir, **hook) -> tuple[list[dict], dict]:
    """Metrics and weights of two epochs, validated on the images of the training."""
    config = tiny_config(data_root, work_dir, train_cfg__max_epochs=2, val_dataloader__dataset__split='train')
    config.default_hooks.training_scores = dict(type='TrainingScoresHook', **hook) if hook else None
    RUNNERS.build(config).train()
    return read_metrics(work_dir / 'metrics.csv'), load_checkpoint_file(work_dir / 'epoch_2.pth')['state_dict']


def test_the_training_split_is_scored_as_the_validation_is_and_the_training_does_not_notice_it(data_root, tmp_path):
    rows, weights = scored(data_root, tmp_path / 'with', num_images=None)
    assert len(rows) == 2
    for row in rows:
        scores = {key.removeprefix('train/'): value for key, value in row.items() if key.startswith('train/')}
        expected = {key.removeprefix('val/'): value for key, value in row.items() if not key.startswith('train/')}
        assert {'loss', 'metrics_summary/semseg'} <= scores.keys() == expected.keys() - {'epoch', 'iter'}
        assert scores == {key: expected[key] for key in scores}
    plain, same = scored(data_root, tmp_path / 'without')
    assert [key for key in plain[0] if key.startswith('train/')] == [] and plain[1]['val/loss'] == rows[1]['val/loss']
    assert all(torch.equal(value, same[key]) for key, value in weights.items())
    rows, _ = scored(data_root, tmp_path / 'part', num_images=1)
    assert float(rows[1]['train/loss']) > 0
    assert rows[1]['train/loss'] != rows[1]['val/loss']


def test_the_picture_of_the_first_batch_changes_no_weight(data_root, tmp_path):
    for name, interval in (('with', 1), ('without', 0)):
        options = dict(
            train_cfg__max_epochs=1, default_hooks__pictures__first_batch__interval=interval, submission__enabled=False
        )
        train(tiny_config(data_root, tmp_path / name, **options))
        assert (tmp_path / name / 'first_batch.jpg').is_file() == bool(interval)
    check_same_end(tmp_path / 'with', tmp_path / 'without', 'state_dict', 'optimizer')
