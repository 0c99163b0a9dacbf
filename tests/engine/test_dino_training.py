"""DINO in the Runner: schedules, the teacher's step, resume, collapse, two processes."""

import copy
import math
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn

from mtl_plugins.apis.train import train
from mtl_plugins.config.load import load_config
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.engine.hooks import CollapseHook
from mtl_plugins.engine.hooks.dino_hooks import find_collapse
from mtl_plugins.errors import ConfigError
from mtl_plugins.models.dino import dino_terms
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import MODELS, RUNNERS
from tests.fake_folders import write_fake_crops
from tests.tiny import CONFIGS, TinyBackbone
from tests.tools.test_clusters import _free_port

CROPS = dict(folder='crops', margin=None, min_size=None)


def make_config(data: Path, work_dir: Path, *, name: str = '', epochs: int = 2, **changes) -> Config:
    """The config of the generated COCO on crops of textures: four steps an epoch where there are nine, or less."""
    options = {
        **{f'{split}_dataloader.dataset.{key}': value for split in ('train', 'val') for key, value in CROPS.items()},
        'train_dataloader.batch_size': 2,
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': 1,
        'param_scheduler.1.end': epochs,
        'default_hooks.features.k': 5,
        **{key.replace('__', '.'): value for key, value in changes.items()},
    }
    if epochs == 1:
        options['param_scheduler'] = []
    config = load_config(str(CONFIGS / f'dino/dino_r18-d32_1xb64-20e_{name}synthetic-coco-48x48.py'), options, str(data))
    config.model.backbone = dict(type=TinyBackbone.__name__)
    set_work_dir(config, str(work_dir))
    return config


def narrow_config(data: Path, work_dir: Path, **changes) -> Config:
    """The same with small views and a small head, and without the pictures of its features."""
    views = dict(global_size=16, local_size=8, num_local=2)
    config = make_config(
        data,
        work_dir,
        **{f'{split}_dataloader__dataset__pipeline__0__{key}': views[key] for split in ('train', 'val') for key in views},
        model__projection_head=dict(hidden_channels=16, bottleneck_channels=8, out_channels=12, batch_norm=False),
        default_hooks__dino_schedule__teacher_temperature=(0.04, 0.07),
        default_hooks__dino_schedule__temperature_epochs=1.5,
        **changes,
    )
    for name in ('features', 'training_scores'):
        del config.default_hooks[name]
    return config


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


def spy(runner, log: list) -> None:
    """Note what each step begins and ends with."""
    train_step = runner.model.train_step

    def spied(data, optim_wrapper):
        decays = {group['weight_decay'] for group in optim_wrapper.optimizer.param_groups}
        entry = dict(temperature=runner.model.teacher_temperature.item(), decays=decays, teacher=weights(runner.model.teacher))
        outputs = train_step(data, optim_wrapper)
        log.append(entry | dict(student=weights(runner.model.student)))
        return outputs

    runner.model.train_step = spied


def weights(network) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@pytest.fixture(scope='module')
def crops(tmp_path_factory) -> Path:
    """Nine crops to train on, three of each class."""
    return write_fake_crops(tmp_path_factory.mktemp('dino'), train=3, val=2)


@pytest.fixture(scope='module')
def straight(crops):
    """Two epochs of four steps."""
    runner = RUNNERS.build(narrow_config(crops, crops / 'straight'))
    log: list[dict] = []
    spy(runner, log)
    runner.train()
    return SimpleNamespace(log=log, runner=runner)


def test_schedules_are_functions_of_the_iteration(straight):
    steps = range(8)
    temperatures = [entry['temperature'] for entry in straight.log]
    assert temperatures == pytest.approx([0.04 + 0.03 * min(step / 6, 1) for step in steps])
    for step, entry in zip(steps, straight.log, strict=True):
        assert sorted(entry['decays']) == pytest.approx([0, 0.07 - 0.03 * math.cos(math.pi * step / 8)]), step


def test_the_teacher_moves_after_each_step_and_only_then(straight):
    for step, (entry, following) in enumerate(pairwise(straight.log)):
        momentum = 0.9 - 0.1 * math.cos(math.pi * step / 8)
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


def test_iterations_that_only_accumulate_leave_the_teacher(crops, tmp_path):
    config = narrow_config(crops, tmp_path, epochs=1, optim_wrapper__accumulative_counts=2)
    runner = RUNNERS.build(config)
    log: list[dict] = []
    spy(runner, log)
    runner.train()
    moved = [
        any(not torch.equal(value, following['teacher'][name]) for name, value in entry['teacher'].items())
        for entry, following in pairwise(log)
    ]
    assert moved == [False, True, False]


def test_weight_decay_needs_a_start(crops, tmp_path):
    runner = RUNNERS.build(narrow_config(crops, tmp_path, epochs=1, optim_wrapper__optimizer__weight_decay=0.0))
    with pytest.raises(ConfigError, match='weight_decay'):
        runner.train()


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


def distributed_config(data: Path, centring: str, batch_size: int, **changes) -> Config:
    config = narrow_config(
        data,
        data / f'{batch_size}' / centring,
        epochs=1,
        model__centring=centring,
        train_dataloader__batch_size=batch_size,
        train_dataloader__sampler__shuffle=False,
        default_hooks__dino_schedule__frozen_epochs=0.5,
        **changes,
    )
    config.model.backbone = dict(type='BackboneWithoutBatchNorm')
    config.experiment_name = centring
    return config


def train_on_rank(rank: int, port: int, data: Path) -> None:
    """Two steps of one of two processes with each centring; leaves the state of this rank in the work dirs."""
    os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    for centring in CENTRINGS:
        config = distributed_config(data, centring, 2)
        config.launcher = 'pytorch'
        runner = RUNNERS.build(config)
        runner.train()
        torch.save(runner.model.module.state_dict(), data / f'{centring}_{rank}.pth')


@pytest.mark.dist
def test_two_processes_keep_one_teacher_and_one_centre_as_one_process_does(tmp_path):
    write_fake_crops(tmp_path, train=3, val=1)
    torch.multiprocessing.spawn(train_on_rank, (_free_port(), tmp_path), nprocs=2)
    for centring in CENTRINGS:
        ranks = [torch.load(tmp_path / f'{centring}_{rank}.pth') for rank in range(2)]
        for name, value in ranks[0].items():
            assert torch.equal(value, ranks[1][name]), name

        runner = RUNNERS.build(distributed_config(tmp_path, centring, 4))
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
    if not is_labelled:
        for crop in sorted(tmp_path.glob('crops/*/*/*.jpg')):
            crop.rename(crop.parents[1] / f'{crop.parent.name}_{crop.name}')
        for folder in tmp_path.glob('crops/*/*/'):
            folder.rmdir()
    result = train(make_config(tmp_path, tmp_path / 'run', name=name, train_dataloader__batch_size=7))
    rows = read_metrics(tmp_path / 'run' / 'metrics.csv')
    best = min(rows, key=lambda row: float(row['dino/loss']))
    assert len(rows) == 2 and result.archive is None
    assert result.checkpoint.name == f'best_dino_loss_epoch_{best["epoch"]}.pth'
    terms = {'dino/loss', 'dino/entropy', 'dino/kl', 'dino/marginal_entropy'}
    assert terms | {f'train/{term}' for term in terms} <= best.keys()
    assert ('knn_accuracy' in best) == is_labelled
    assert (tmp_path / 'run' / 'features' / 'tsne_strip.png').is_file()
