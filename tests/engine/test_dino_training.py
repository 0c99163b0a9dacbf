"""DINO in the Runner: schedules, the teacher's step, resume, collapse, two processes."""

import copy
import math
import os
import socket
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import FUNCTIONS
from torch import nn
from torch.utils.data import Dataset

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.engine.hooks import CollapseHook, DINOScheduleHook
from mtl_plugins.engine.hooks.dino_hooks import find_collapse
from mtl_plugins.errors import ConfigError
from mtl_plugins.models.dino import dino_terms
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import DATASETS, MODELS, RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.engine.test_resume import _compare
from tests.fake_crops import write_fake_crops
from tests.tiny import TinyBackbone

ROOT = Path(__file__).resolve().parents[2]
BASES = ('models/dino_r18-d32.py', 'schedules/dino_adamw_100e.py', 'dino_runtime.py')


@DATASETS.register_module()
class RandomViews(Dataset):
    """Noise of a brightness of its own per image; the noise changes with the epoch."""

    metainfo = dict(classes=('noise',))

    def __init__(self, size: int, data_root: str = '') -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key) -> dict:
        rng, level = key.rng(), 20 * (key.index + 1)
        views = [rng.integers(0, level + 40, (side, side, 3), dtype=np.uint8) for side in (16, 16, 8, 8)]
        return dict(views=views, sample_idx=key.index)


@FUNCTIONS.register_module()
def stack_views(items) -> dict:
    views = [torch.from_numpy(np.stack(views)) for views in zip(*(item['views'] for item in items), strict=True)]
    return dict(inputs=views, sample_idx=torch.tensor([item['sample_idx'] for item in items]))


@MODELS.register_module()
class BackboneWithoutBatchNorm(BaseModule):
    """So that a batch on two processes is the same function as on one."""

    out_channels = (8, 8)

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3 if i == 0 else 8, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
            for i in range(2)
        )

    def forward(self, images):
        features = [self.stages[0](images)]
        return features[0], self.stages[1](features[0])


def make_config(work_dir, *, backbone: str = TinyBackbone.__name__, epochs: int = 2, batch_size: int = 2, **changes) -> Config:
    config = Config()
    for name in BASES:
        config.merge_from_dict(dict(Config.fromfile(ROOT / 'configs/_base_' / name)))
    loader = dict(num_workers=0, collate_fn=dict(type='stack_views'), dataset=dict(type='RandomViews', size=8))
    options = {
        'work_dir': str(work_dir),
        'model.backbone': dict(_delete_=True, type=backbone),
        'model.projection_head': dict(hidden_channels=16, bottleneck_channels=8, out_channels=12),
        'train_dataloader': dict(
            batch_size=batch_size, drop_last=True, sampler=dict(type='EpochSampler', shuffle=True), **loader
        ),
        'val_dataloader': dict(batch_size=4, sampler=dict(type='EpochSampler', shuffle=False), **loader),
        'train_cfg.max_epochs': epochs,
        'param_scheduler.0.end': 1,
        'param_scheduler.1.begin': 1,
        'param_scheduler.1.end': epochs,
        'optim_wrapper.optimizer.lr': 0.01,
        'default_hooks.dino_schedule.temperature_epochs': 1.5,
        'default_hooks.dino_schedule.momentum': (0.6, 1.0),
        'default_hooks.checkpoint.save_best': 'dino/loss',
        'default_hooks.checkpoint.rule': 'less',
        **{key.replace('__', '.'): value for key, value in changes.items()},
    }
    if epochs == 1:
        options['param_scheduler'] = []
    config.merge_from_dict(options)
    # Noise has no classes to be told apart, and no pipeline.
    for name in ('features', 'training_scores'):
        del config.default_hooks[name]
    return config


def spy(runner, log: list, stop_at: int | None = None) -> None:
    """Note what each step begins and ends with; stop before the step ``stop_at`` as a kill would."""
    train_step = runner.model.train_step

    def spied(data, optim_wrapper):
        if runner.iter == stop_at:
            raise KeyboardInterrupt
        decays = {group['weight_decay'] for group in optim_wrapper.optimizer.param_groups}
        entry = dict(temperature=runner.model.teacher_temperature.item(), decays=decays, teacher=weights(runner.model.teacher))
        outputs = train_step(data, optim_wrapper)
        log.append(entry | dict(student=weights(runner.model.student), loss=outputs['loss'].item()))
        return outputs

    runner.model.train_step = spied


def weights(network) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """Two epochs of four steps."""
    work_dir = tmp_path_factory.mktemp('dino') / 'straight'
    runner = RUNNERS.build(make_config(work_dir))
    log: list[dict] = []
    spy(runner, log)
    runner.train()
    return SimpleNamespace(work_dir=work_dir, log=log, runner=runner)


def test_schedules_are_functions_of_the_iteration(straight):
    steps = range(8)
    temperatures = [entry['temperature'] for entry in straight.log]
    assert temperatures == pytest.approx([0.04 + 0.03 * min(step / 6, 1) for step in steps])
    for step, entry in zip(steps, straight.log, strict=True):
        assert sorted(entry['decays']) == pytest.approx([0, 0.22 - 0.18 * math.cos(math.pi * step / 8)]), step


def test_the_teacher_moves_after_each_step_and_only_then(straight):
    for step, (entry, following) in enumerate(pairwise(straight.log)):
        momentum = 0.8 - 0.2 * math.cos(math.pi * step / 8)
        for name, teacher in entry['teacher'].items():
            expected = momentum * teacher + (1 - momentum) * entry['student'][name]
            torch.testing.assert_close(following['teacher'][name], expected, msg=f'{name} at {step}')
        assert any(not torch.equal(value, entry['teacher'][name]) for name, value in following['teacher'].items())


def test_the_last_layer_rests_in_the_first_epoch(straight):
    name = 'head.last_layer.weight'
    start = straight.log[0]['teacher'][name]
    layers = [entry['student'][name] for entry in straight.log]
    assert all(torch.equal(layer, start) for layer in layers[:4])
    assert not torch.equal(layers[4], start)
    state = straight.runner.optim_wrapper.optimizer.state
    assert state[straight.runner.model.student.head.last_layer.weight]['step'] == 4
    assert state[straight.runner.model.student.head.mlp[0].weight]['step'] == 8


def test_a_resumed_run_is_bit_identical(straight, tmp_path):
    log: list[dict] = []
    for stop_at, resume in ((6, False), (None, True)):
        runner = RUNNERS.build(make_config(tmp_path / 'resumed', resume=resume))
        spy(runner, log, stop_at)
        if stop_at is None:
            runner.train()
        else:
            with pytest.raises(KeyboardInterrupt):
                runner.train()
    # Killed in the second epoch's third step: its first two are done again.
    assert [entry['loss'] for entry in log] == [entry['loss'] for entry in straight.log[:6] + straight.log[4:]]
    _compare(straight.work_dir, tmp_path / 'resumed')
    state = load_checkpoint_file(find_latest_checkpoint(straight.work_dir))['state_dict']
    assert state['centre'].any() and 'teacher_temperature' in state
    assert 'dino/loss' in (straight.work_dir / 'metrics.csv').read_text()
    assert len(list(straight.work_dir.glob('best_dino_loss_epoch_*.pth'))) == 1


def test_iterations_that_only_accumulate_leave_the_teacher(tmp_path):
    config = make_config(tmp_path, epochs=1, optim_wrapper__accumulative_counts=2)
    runner = RUNNERS.build(config)
    log: list[dict] = []
    spy(runner, log)
    runner.train()
    moved = [
        any(not torch.equal(value, following['teacher'][name]) for name, value in entry['teacher'].items())
        for entry, following in pairwise(log)
    ]
    assert moved == [False, True, False]


def test_weight_decay_needs_a_start(tmp_path):
    runner = RUNNERS.build(make_config(tmp_path, epochs=1, optim_wrapper__optimizer__weight_decay=0.0))
    with pytest.raises(ConfigError, match='weight_decay'):
        runner.train()


@pytest.mark.parametrize(
    'arguments',
    [dict(momentum=(0.9, 1.1)), dict(teacher_temperature=(0.0, 0.07)), dict(temperature_epochs=-1), dict(frozen_epochs=-1)],
)
def test_impossible_schedules_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DINOScheduleHook(**arguments)


def make_terms(logits_BK: torch.Tensor, student: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return the values logged for two views with the same logits."""
    teacher = logits_BK.expand(2, *logits_BK.shape)
    student = teacher if student is None else student.expand(2, *student.shape)
    terms = dino_terms(student, teacher, torch.zeros(64), student_temperature=0.1, teacher_temperature=0.04)
    marginal = torch.special.entr(terms.probabilities.mean(0)).sum(-1)
    return dict(entropy=terms.entropy.mean(), kl=terms.kl.mean(), marginal_entropy=marginal)


torch.manual_seed(0)
SITUATIONS = {
    'dominated': (make_terms(torch.eye(64)[:1].repeat(16, 1)), 'dominated'),
    'uniform': (make_terms(1e-3 * torch.randn(16, 64)), 'uniform'),
    # Sure, but of another output for each image: what training aims at, though the entropy is as low.
    'sure': (make_terms(torch.eye(64)[:16]), None),
    'undecided': (make_terms(0.1 * torch.randn(16, 64)), None),
    # The centred teacher of the first steps; the student is yet to follow.
    'beginning': (make_terms(1e-3 * torch.randn(16, 64), 0.1 * torch.randn(16, 64)), None),
}


@pytest.mark.parametrize('name', SITUATIONS)
def test_collapse_is_told_from_certainty(name):
    terms, expected = SITUATIONS[name]
    values = [terms[key].item() for key in ('entropy', 'kl', 'marginal_entropy')]
    assert find_collapse(*values, 64) == expected


@pytest.mark.parametrize(('kind', 'words'), [('dominated', 'one output dominates'), ('uniform', 'Sharpening is too weak')])
def test_collapse_is_said_once_and_in_words(kind, words):
    said = []
    logger = SimpleNamespace(warning=said.append)
    runner = SimpleNamespace(iter=0, logger=logger, model=SimpleNamespace(centre=torch.zeros(64)))
    hook = CollapseHook(interval=2, patience=3)
    for outputs in [SITUATIONS['sure'][0]] * 6 + [SITUATIONS[kind][0]] * 12:
        hook.after_train_iter(runner, 0, outputs=outputs)
        runner.iter += 1
    (message,) = said
    assert words in message and 'start anew' in message
    # Three intervals of two after the six steps that were fine.
    assert 'by iteration 12' in message


CENTRINGS = ('mean', 'sinkhorn')


def train_on_rank(rank: int, port: int, work_dir: str) -> None:
    """Two steps of one of two processes with each centring; leaves the state of this rank in the work dirs."""
    os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    for centring in CENTRINGS:
        runner = RUNNERS.build(distributed_config(f'{work_dir}/{centring}', centring, batch_size=2, launcher='pytorch'))
        runner.train()
        torch.save(runner.model.module.state_dict(), Path(work_dir) / centring / f'rank_{rank}.pth')


def distributed_config(work_dir, centring: str, **changes) -> Config:
    return make_config(
        work_dir,
        model__centring=centring,
        experiment_name=centring,
        backbone='BackboneWithoutBatchNorm',
        epochs=1,
        train_dataloader__sampler__shuffle=False,
        default_hooks__dino_schedule__frozen_epochs=0.5,
        **changes,
    )


@pytest.mark.dist
def test_two_processes_keep_one_teacher_and_one_centre_as_one_process_does(tmp_path):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(train_on_rank, (port, str(tmp_path / 'two')), nprocs=2)
    for centring in CENTRINGS:
        ranks = [torch.load(tmp_path / 'two' / centring / f'rank_{rank}.pth') for rank in range(2)]
        for name, value in ranks[0].items():
            assert torch.equal(value, ranks[1][name]), name

        runner = RUNNERS.build(distributed_config(tmp_path / 'one' / centring, centring, batch_size=4))
        start = copy.deepcopy(runner.model.state_dict())
        runner.train()
        assert runner.iter == 2
        for name, value in runner.model.state_dict().items():
            torch.testing.assert_close(ranks[0][name], value, rtol=1e-4, atol=1e-6, msg=name)
            assert not torch.equal(value, start[name]) or name == 'teacher_temperature', name


@pytest.mark.parametrize(('name', 'is_labelled'), [('', True), ('paper_', False)])
def test_the_configs_of_the_generated_coco_train_as_they_stand(tmp_path, name, is_labelled):
    """The second one on flat folders of crops, whose classes nobody knows."""
    write_fake_crops(tmp_path, train=7)
    folder = tmp_path / 'crops'
    if not is_labelled:
        for crop in sorted(folder.glob('*/*/*.jpg')):
            crop.rename(crop.parents[1] / f'{crop.parent.name}_{crop.name}')
            if not any(crop.parent.iterdir()):
                crop.parent.rmdir()
    crops = dict(folder='crops', margin=None, min_size=None)
    options = {f'{split}_dataloader.dataset.{key}': value for split in ('train', 'val') for key, value in crops.items()} | {
        'train_dataloader.batch_size': 7,
        'train_cfg.max_epochs': 2,
        'train_cfg.val_interval': 1,
        'param_scheduler.1.end': 2,
        'default_hooks.features.k': 5,
    }
    path = ROOT / f'configs/dino/dino_r18-d32_1xb64-20e_{name}synthetic-coco-48x48.py'
    config = load_config(str(path), options, str(tmp_path))
    config.model.backbone = dict(type=TinyBackbone.__name__)
    set_work_dir(config, str(tmp_path / 'run'))
    result = train(config)
    rows = read_metrics(tmp_path / 'run' / 'metrics.csv')
    best = min(rows, key=lambda row: float(row['dino/loss']))
    assert len(rows) == 2 and result.archive is None
    assert result.checkpoint.name == f'best_dino_loss_epoch_{best["epoch"]}.pth'
    terms = {'dino/loss', 'dino/entropy', 'dino/kl', 'dino/marginal_entropy'}
    assert terms | {f'train/{term}' for term in terms} <= best.keys()
    assert ('knn_accuracy' in best) == is_labelled
    assert (tmp_path / 'run' / 'features' / 'tsne_strip.png').is_file()
