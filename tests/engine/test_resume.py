"""A run that is interrupted and resumed is the run that was not."""

import csv
from pathlib import Path

import pytest
import torch

from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.tiny import ITER_CONFIG, tiny_config


class Killed(BaseException):
    """Stands for the kill: no handler of ours or mmengine's catches it."""


def _spy(runner, log: list, stop_at: int | None = None) -> None:
    train_step = runner.model.train_step

    def spied(data, optim_wrapper):
        if runner.iter == stop_at:
            raise Killed
        log.append((runner.iter, data['sample_idx'].tolist(), data['inputs'].sum().item()))
        return train_step(data, optim_wrapper)

    runner.model.train_step = spied


def _run(config, stop_at: int | None = None) -> list:
    """Train and return (iteration, sample indices, sum of the augmented pixels) of each step."""
    runner = RUNNERS.build(config)
    log: list = []
    _spy(runner, log, stop_at)
    if stop_at is None:
        runner.train()
    else:
        with pytest.raises(Killed):
            runner.train()
    return log


def _assert_equal(left, right, place: str = 'checkpoint') -> None:
    assert type(left) is type(right), place
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), place
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for key in left:
            _assert_equal(left[key], right[key], f'{place}.{key}')
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), place
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            _assert_equal(a, b, f'{place}.{index}')
    else:
        assert left == right, place


def _compare(straight: Path, resumed: Path) -> None:
    checkpoints = [load_checkpoint_file(find_latest_checkpoint(path)) for path in (straight, resumed)]
    for key in ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict'):
        assert (key in checkpoints[0]) == (key in checkpoints[1])
        if key in checkpoints[0]:
            _assert_equal(checkpoints[0][key], checkpoints[1][key], key)
    rows = [list(csv.reader(open(path / 'metrics.csv'))) for path in (straight, resumed)]
    assert len(rows[0]) > 2
    assert rows[0] == rows[1]


def _watch(config) -> None:
    """Histograms and pictures wherever there may be one, in every log back end."""
    for hook, interval in dict(histograms=2, training_images=3, observed_samples=2, confusion_matrix=2).items():
        config.default_hooks[hook].interval = interval
    backends = [dict(type='TensorboardVisBackend'), dict(type='WandbVisBackend', mode='offline')]
    config.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), *backends])


_HOMOGRAPHY = dict(type='RandomHomography', crop_size=32, scale=(0.8, 1.5), max_tilt_deg=10.0, max_wiggle=0.1, flip_prob=0.5)
_EMA = [dict(type='EMAHook', momentum=0.1)]


@pytest.mark.parametrize('worker_type', ['thread', 'process'])
def test_epochs_straight_or_resumed_after_a_kill_are_bit_identical(data_root, tmp_path, worker_type):
    # mmengine restores neither the RNG nor the workers' streams: 4 epochs and 2 + 2 differed.
    watched = worker_type == 'thread'

    def config(work_dir, watched=watched, **overrides):
        cfg = tiny_config(
            data_root,
            work_dir,
            train_cfg__max_epochs=4,
            param_scheduler__0__end=4,
            train_dataloader__worker_type=worker_type,
            train_dataloader__num_workers=2,
            **overrides,
        )
        cfg.train_dataloader.dataset.pipeline[1] = _HOMOGRAPHY
        cfg.custom_hooks = _EMA
        if watched:
            _watch(cfg)
        return cfg

    # The one that is not interrupted is not watched either: what looks at a run does not change it.
    straight = _run(config(tmp_path / 'straight', watched=False))
    # Eight images in batches of two: four steps an epoch; killed in the third epoch's second step.
    killed = _run(config(tmp_path / 'resumed'), stop_at=9)
    # The folder may move in between.
    (tmp_path / 'resumed').rename(tmp_path / 'moved')
    resumed = _run(config(tmp_path / 'moved', resume=True))

    assert [step for step, _, _ in straight] == list(range(16))
    assert [step for step, _, _ in resumed] == list(range(8, 16))
    assert killed == straight[:9]
    assert resumed == straight[8:]
    assert len({tuple(samples) for _, samples, _ in straight}) > 8
    _compare(tmp_path / 'straight', tmp_path / 'moved')
    if watched:
        # The run of Weights & Biases goes on as well.
        files = list((tmp_path / 'moved').glob('*/vis_data/wandb/offline-run-*/run-*.wandb'))
        assert len(files) == 2 and len({path.name for path in files}) == 1


def test_iterations_resume_in_mid_epoch_without_replaying_the_loader(data_root, tmp_path, monkeypatch):
    def config(work_dir, **overrides):
        cfg = tiny_config(
            data_root,
            work_dir,
            ITER_CONFIG,
            train_cfg__max_iters=10,
            train_cfg__val_interval=3,
            param_scheduler__0__end=10,
            default_hooks__checkpoint__interval=3,
            train_dataloader__num_workers=2,
            **overrides,
        )
        cfg.train_dataloader.dataset.pipeline[1] = _HOMOGRAPHY
        return cfg

    straight = _run(config(tmp_path / 'straight'))
    killed = _run(config(tmp_path / 'resumed'), stop_at=8)

    from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset

    loaded = []
    getitem = MiniScapesDataset.__getitem__

    def counting(self, key):
        if self.split == 'train':
            loaded.append(key)
        return getitem(self, key)

    monkeypatch.setattr(MiniScapesDataset, '__getitem__', counting)
    resumed = _run(config(tmp_path / 'resumed', resume=True))

    assert killed == straight[:8]
    assert resumed == straight[6:]
    consumed = [index for _, samples, _ in straight[:6] for index in samples]
    # Eight images: the stream's first eight keys are epoch 0, the next eight epoch 1.
    replayed = {(index, position // 8) for position, index in enumerate(consumed)} & {key[:2] for key in loaded}
    assert loaded and not replayed
    _compare(tmp_path / 'straight', tmp_path / 'resumed')
