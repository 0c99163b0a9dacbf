"""A run that is killed, or ended by a signal, and resumed is the run that was not."""

import contextlib
import csv
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
from mmengine.runner.loops import _InfiniteDataloaderIterator

from mtl_plugins.config.options import claim_work_dir, set_resume
from mtl_plugins.engine.hooks.preemption_hook import PreemptionHook
from mtl_plugins.errors import CheckpointError, TrainingInterrupted
from mtl_plugins.records.config_data import hash_config
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.tiny import ITER_CONFIG, assert_same, tiny_config


class Killed(BaseException):
    """Stands for the kill: no handler of ours or mmengine's catches it."""


def _samples(runner, data) -> tuple:
    """Iteration, sample indices and sum of the augmented pixels of a step."""
    return runner.iter, data['sample_idx'].tolist(), data['inputs'].sum().item()


def _steps(config, note=_samples, act=None, ends_with=None) -> list:
    """Train, and return what ``note`` says of each step; ``act`` is called before it, and may end it with an exception."""
    runner = RUNNERS.build(config)
    log, train_step = [], runner.model.train_step

    def spied(data, optim_wrapper):
        if act is not None:
            act(runner)
        log.append(note(runner, data))
        return train_step(data, optim_wrapper)

    runner.model.train_step = spied
    with pytest.raises(ends_with) if ends_with else contextlib.nullcontext():
        runner.train()
    return log


def _run(config, stop_at: int | None = None) -> list:
    """Train, up to a kill before step ``stop_at``."""

    def kill(runner) -> None:
        if runner.iter == stop_at:
            raise Killed

    return _steps(config, act=kill, ends_with=None if stop_at is None else Killed)


def _rates(config) -> list[float]:
    """The learning rate of each step."""
    return _steps(config, lambda runner, data: runner.optim_wrapper.get_lr()['lr'][0])


def _compare(straight: Path, resumed: Path) -> None:
    ends = [load_checkpoint_file(find_latest_checkpoint(path)) for path in (straight, resumed)]
    keys = ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict')
    assert_same(*({key: end.get(key) for key in keys} for end in ends), 'checkpoint')
    rows = [list(csv.reader(open(path / 'metrics.csv'))) for path in (straight, resumed)]
    assert len(rows[0]) > 2
    assert rows[0] == rows[1]


def _watch(config) -> None:
    """Histograms and pictures wherever there may be one, in every log back end."""
    config.default_hooks.histograms.interval = 2
    for picture, interval in dict(training=3, observed=2, confusion=2).items():
        config.default_hooks.pictures[picture].interval = interval
    backends = [dict(type='TensorboardVisBackend'), dict(type='WandbVisBackend', mode='offline')]
    config.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), *backends])


_HOMOGRAPHY = dict(type='RandomHomography', crop_size=32, scale=(0.8, 1.5), max_tilt_deg=10.0, max_wiggle=0.1, flip_prob=0.5)


def _epochs(data_root, work_dir: Path, epochs: int, **overrides):
    """Four steps an epoch, of two images that two workers draw, and averaged weights."""
    config = tiny_config(
        data_root,
        work_dir,
        train_cfg__max_epochs=epochs,
        param_scheduler__0__end=epochs,
        train_dataloader__num_workers=2,
        **overrides,
    )
    config.train_dataloader.dataset.pipeline[1] = _HOMOGRAPHY
    config.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    return config


def _iterations(data_root, work_dir: Path, iterations: int, interval: int, **overrides):
    """Iterations with a validation after each so many."""
    length = dict(train_cfg__max_iters=iterations, train_cfg__val_interval=interval, param_scheduler__0__end=iterations)
    return tiny_config(data_root, work_dir, ITER_CONFIG, **length, **overrides)


@pytest.mark.parametrize('worker_type', ['thread', 'process'])
def test_epochs_straight_or_resumed_after_a_kill_are_bit_identical(data_root, tmp_path, worker_type):
    # mmengine restores neither the RNG nor the workers' streams: 4 epochs and 2 + 2 differed.
    watched = worker_type == 'thread'

    def config(work_dir, watched=watched, **overrides):
        cfg = _epochs(data_root, work_dir, 4, train_dataloader__worker_type=worker_type, **overrides)
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
        options = dict(default_hooks__checkpoint__interval=3, train_dataloader__num_workers=2, **overrides)
        cfg = _iterations(data_root, work_dir, 10, 3, **options)
        cfg.train_dataloader.dataset.pipeline[1] = _HOMOGRAPHY
        cfg.model.task_balancing = dict(type='AggregatedGradients', aggregator='GradVac')
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
    # mmengine before 0.10.12 loads them once more and discards them.
    assert loaded and (not replayed or not hasattr(_InfiniteDataloaderIterator, 'skip_iter'))
    _compare(tmp_path / 'straight', tmp_path / 'resumed')


def _scheduled(data_root, work_dir: Path, epochs: int, schedule: list[dict], **overrides):
    """Eight images in batches of two, and a rate of 0.01 where nothing else is said."""
    config = tiny_config(data_root, work_dir, train_cfg__max_epochs=epochs, optim_wrapper__optimizer__lr=0.01, **overrides)
    config.param_scheduler = schedule
    return config


def _log(work_dir: Path) -> str:
    return ''.join(path.read_text() for path in work_dir.glob('*/*.log'))


def _poly(end: int) -> list[dict]:
    return [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=end, by_epoch=True, convert_to_iter_based=True)]


def _warm_up_and_cosine(end: int) -> list[dict]:
    return [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3),
        dict(type='CosineAnnealingLR', T_max=end, eta_min=1e-4, by_epoch=True, begin=0, end=end),
    ]


@pytest.fixture(scope='module')
def two_epochs(data_root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('scheduled') / 'run'
    rates = _rates(_scheduled(data_root, folder, 2, _poly(2)))
    assert rates == pytest.approx([0.01 * (1 - step / 7) ** 0.9 for step in range(8)])
    return folder


@pytest.mark.parametrize(
    ('epochs', 'schedule', 'batch', 'steps'),
    # Two epochs of four steps are done: in batches of four they are as many as two epochs of two.
    [(3, _poly(3), 2, 8), (4, _poly(4), 4, 4), (4, _warm_up_and_cosine(4), 2, 8)],
)
def test_another_schedule_is_refused_or_goes_on_where_it_would_be(
    data_root, two_epochs, tmp_path, epochs, schedule, batch, steps
):
    # The schedule of the checkpoint replaced the config's, and the further steps had the rate 0 without a word.
    def config(work_dir, **overrides):
        return _scheduled(data_root, work_dir, epochs, schedule, train_dataloader__batch_size=batch, **overrides)

    shutil.copytree(two_epochs, tmp_path / 'run')
    with pytest.raises(CheckpointError, match=r'epoch_2.pth was trained with another schedule .* pass --reschedule'):
        RUNNERS.build(config(tmp_path / 'run', resume=True)).train()
    rates = _rates(config(tmp_path / 'run', resume=True, reschedule=True))
    per_epoch = 8 // batch
    assert len(rates) == (epochs - 2) * per_epoch
    straight = _rates(config(tmp_path / 'straight'))
    assert len(straight) == epochs * per_epoch
    assert rates == pytest.approx(straight[steps:], rel=1e-9)
    rows = list(csv.DictReader(open(tmp_path / 'run/metrics.csv')))
    assert [int(row['iter']) for row in rows] == [4, 8, *(8 + (epoch + 1) * per_epoch for epoch in range(epochs - 2))]
    # The new schedule is that of the run from now on.
    RUNNERS.build(config(tmp_path / 'run', resume=True)).train()


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (dict(optim_wrapper__optimizer__lr=0.02), r'`lr` of Adam was 0\.01 and is 0\.02'),
        (dict(optim_wrapper__optimizer__weight_decay=0.1), r'`weight_decay` of Adam was 0 and is 0\.1'),
        (dict(optim_wrapper__optimizer__type='SGD'), r'it was Adam .* and is SGD .*`load_from`'),
        (dict(train_cfg__max_epochs=3), r'up to 3 epochs would change nothing\. Move the `end`'),
        (dict(train_dataloader__batch_size=4), r'an epoch had 4 batches and has 2; .*`end` of PolyLR was 8 and is 4'),
    ],
)
def test_other_options_are_refused_by_what_differs(data_root, two_epochs, tmp_path, overrides, message):
    shutil.copytree(two_epochs, tmp_path / 'run')
    before = {path.name: path.read_bytes() for path in two_epochs.glob('*.*') if path.suffix != '.py'}
    config = _scheduled(data_root, tmp_path / 'run', 2, _poly(2), resume=True)
    config.merge_from_dict({key.replace('__', '.'): value for key, value in overrides.items()})
    with pytest.raises(CheckpointError, match=message):
        RUNNERS.build(config).train()
    assert {name: (tmp_path / 'run' / name).read_bytes() for name in before} == before


def test_a_run_in_batches_counts_on_where_its_schedule_counts_epochs(data_root, tmp_path):
    # Nothing of the schedule differs: the run goes on, and is told what is not the same.
    schedule = [dict(type='MultiStepLR', milestones=[1, 3], gamma=0.1, by_epoch=True, end=9)]
    _rates(_scheduled(data_root, tmp_path, 2, schedule))
    rates = _rates(_scheduled(data_root, tmp_path, 4, schedule, train_dataloader__batch_size=4, resume=True))
    assert rates == pytest.approx([0.001, 0.001, 0.0001, 0.0001])
    assert '`batch_size` was 2 and is 4' in _log(tmp_path)


def test_iterations_are_trained_for_longer(data_root, tmp_path):
    def config(iterations, **overrides):
        return _iterations(data_root, tmp_path, iterations, 2, optim_wrapper__optimizer__lr=0.01, **overrides)

    _rates(config(4))
    with pytest.raises(CheckpointError, match='`end` of PolyLR was 4 and is 6'):
        RUNNERS.build(config(6, resume=True)).train()
    assert _rates(config(6, resume=True, reschedule=True)) == pytest.approx([0.01 * (1 - step / 5) ** 0.9 for step in (4, 5)])


@pytest.mark.parametrize(
    ('schedule', 'accumulated'),
    # The second loses its first epoch's fourth step, whose gradients waited for two more.
    [
        ([dict(type='ReduceOnPlateauLR', monitor='metrics_summary/depth', rule='less', patience=0, threshold=1e3)], 1),
        (_poly(3), 3),
    ],
)
def test_what_is_pending_at_a_checkpoint_is_resumed(data_root, tmp_path, schedule, accumulated):
    def config(work_dir, epochs, **overrides):
        options = dict(optim_wrapper__accumulative_counts=accumulated, **overrides)
        config = _scheduled(data_root, work_dir, epochs, schedule, **options)
        config.model.task_balancing = dict(type='GradNorm')
        config.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
        return config

    _run(config(tmp_path / 'straight', 3))
    # Killed in the second epoch, and once more in the third.
    for stop_at, resume in ((5, False), (9, True), (None, True)):
        _run(config(tmp_path / 'resumed', 3, resume=resume), stop_at=stop_at)
    _compare(tmp_path / 'straight', tmp_path / 'resumed')


def test_resuming_where_there_is_nothing_says_so(data_root, two_epochs, tmp_path):
    RUNNERS.build(tiny_config(data_root, tmp_path / 'new', resume=True, train_cfg__max_epochs=1)).train()
    said = 'WARNING - There is no checkpoint in .* to resume: training starts from the '
    assert re.search(f'{said}beginning', _log(tmp_path / 'new'))
    # The weights to start from were dropped, also in every trial of a sweep.
    weights = str(two_epochs / 'epoch_2.pth')
    config = tiny_config(data_root, tmp_path / 'run', load_from=weights, train_cfg__max_epochs=1)
    config.optim_wrapper.optimizer.lr = 1e-12
    plain = hash_config(config)
    set_resume(config, 'auto')
    assert hash_config(config) == plain
    _run(config)
    assert re.search(f'{said}weights of {weights}', _log(tmp_path / 'run'))
    started, given = (load_checkpoint_file(path)['state_dict'] for path in (tmp_path / 'run/epoch_1.pth', weights))
    weight = next(key for key in given if key.endswith('.weight'))
    torch.testing.assert_close(started[weight], given[weight])
    # Once it has a checkpoint, that one counts.
    claim_work_dir(config)
    assert _run(config) == []


def test_a_run_resumed_in_another_folder_brings_its_history_and_best_checkpoint(data_root, two_epochs, tmp_path, monkeypatch):
    # The rows and the best checkpoint so far stayed behind, and were gone after the next kill.
    config = _scheduled(data_root, tmp_path, 3, _poly(3), resume=True, reschedule=True, load_from=str(two_epochs / 'epoch_2.pth'))
    # The first run's best stays the best of three epochs if the third trains with a rate of nothing.
    config.optim_wrapper.optimizer.lr = 1e-12
    (best,) = two_epochs.glob('best_*.pth')
    before = {path: path.stat().st_mtime_ns for path in two_epochs.iterdir()}
    RUNNERS.build(config).train()
    rows = list(csv.reader(open(tmp_path / 'metrics.csv')))
    assert rows[:3] == list(csv.reader(open(two_epochs / 'metrics.csv'))) and len(rows) == 4
    assert (tmp_path / best.name).read_bytes() == best.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in two_epochs.iterdir()} == before
    # A cluster that starts the job again goes on from what the run itself has saved.
    given = hash_config(config)
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    claim_work_dir(config)
    assert hash_config(config) == given
    assert _run(config) == []


def _signalled(config, signal_in: int | None = None, number: int = signal.SIGUSR1) -> list:
    """Train; during step ``signal_in`` the process gets a signal. The (iteration, samples, sum of pixels) of each step."""

    def act(runner) -> None:
        if runner.iter == signal_in:
            os.kill(os.getpid(), number)

    return _steps(config, act=act, ends_with=None if signal_in is None else TrainingInterrupted)


def test_epochs_go_on_in_mid_epoch(data_root, tmp_path):
    # Eight images in batches of two: four steps an epoch. The first signal falls into the second step of the first epoch, the
    # second into the last of it: the validation that follows is finished.
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)
    straight = _signalled(_epochs(data_root, tmp_path / 'straight', 2))
    folder = tmp_path / 'resumed'
    first = _signalled(_epochs(data_root, folder, 2), signal_in=1)
    assert [path.name for path in folder.glob('*.pth')] == ['interrupted.pth']
    folder = folder.rename(tmp_path / 'moved')
    with pytest.raises(CheckpointError, match=r'after 2 of 4 batches of an epoch, and this run has 2 batches an epoch'):
        RUNNERS.build(_epochs(data_root, folder, 2, resume=True, train_dataloader__batch_size=4)).train()
    second = _signalled(_epochs(data_root, folder, 2, resume=True), signal_in=3, number=signal.SIGTERM)
    assert find_latest_checkpoint(folder) == str(folder / 'interrupted.pth')
    third = _signalled(_epochs(data_root, folder, 2, resume=True))

    assert [len(part) for part in (first, second, third)] == [2, 2, 4]
    assert first + second + third == straight
    _compare(tmp_path / 'straight', folder)
    assert sorted(path.name for path in (tmp_path / 'straight').glob('*.pth')) == sorted(
        path.name for path in folder.glob('*.pth')
    )
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)) == before


def test_iterations_stop_between_optimizer_steps_and_after_a_validation_that_is_due(data_root, tmp_path):
    def config(work_dir, **overrides):
        options = dict(default_hooks__checkpoint__interval=4, optim_wrapper__accumulative_counts=2, **overrides)
        return _iterations(data_root, work_dir, 6, 2, **options)

    straight = _signalled(config(tmp_path / 'straight'))
    first = _signalled(config(tmp_path / 'resumed'), signal_in=0)
    second = _signalled(config(tmp_path / 'resumed', resume=True))
    assert len(first) == 2 and first + second == straight
    _compare(tmp_path / 'straight', tmp_path / 'resumed')


def test_under_torchrun_sigterm_is_the_launchers(monkeypatch):
    assert PreemptionHook().signals == ('SIGUSR1', 'SIGTERM')
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'any')
    assert PreemptionHook().signals == ('SIGUSR1',)


def test_a_forked_worker_dies_of_the_signal_that_the_training_catches():
    # Pools of processes end their workers by SIGTERM, and used to wait for one that caught it for ever.
    hook, previous = PreemptionHook(), signal.getsignal(signal.SIGTERM)
    hook.before_train(None)
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    hook.release()
    assert signal.getsignal(signal.SIGTERM) is previous
    # In a thread there are no handlers to set.
    thread = threading.Thread(target=PreemptionHook().before_train, args=(None,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is previous
