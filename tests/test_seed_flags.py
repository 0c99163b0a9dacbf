"""The tables of configs/README.md and docs/course_flags.md: overrides, flags, batch sizes, and the schedules they lead to."""

import math
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.registry import MODELS, PARAM_SCHEDULERS, TRANSFORMS
from tests.tiny import ROOT

README = ''.join((ROOT / page).read_text() for page in ('configs/README.md', 'docs/course_flags.md'))
NETWORK = 'r18-d16_1xb16-32e_miniscapes-256x256.py'


def table(header: str) -> list[list[str]]:
    """Cells of the rows below the header that begins so."""
    lines = README.split(f'\n{header}')[1].split('\n\n')[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


FLAGS = table('| flag or constant |')
BATCHES = table('| batch | epochs')
OVERRIDES = [
    pytest.param(code, system, id=code.split()[0])
    for _, here, system in FLAGS
    for code in re.findall('`([^`]+)`', here)
    if '=' in code
]


@pytest.fixture(autouse=True)
def default_scope():
    with DefaultScope.overwrite_default_scope('mtl_plugins'):
        yield


def load(override: str, system: str = '') -> Config:
    system = system.strip('`') or 'joint'
    return load_config(str(ROOT / 'configs' / system.split('-')[0] / f'{system}_{NETWORK}'), parse_options(override.split()))


def two_parts() -> nn.Module:
    return nn.ModuleDict(dict(backbone=nn.Linear(2, 2), decode_head=nn.Linear(2, 1)))


def schedulers(config: Config, wrapper, epoch_length: int) -> list:
    defaults = dict(optimizer=wrapper, epoch_length=epoch_length)
    return [PARAM_SCHEDULERS.build(item, default_args=defaults) for item in config.param_scheduler]


@pytest.mark.parametrize(('override', 'system'), OVERRIDES)
def test_the_override_of_a_flag_arrives_and_builds(override, system):
    config = load(override, system)
    for option in override.split():
        path, value = option.split('=')
        node = config
        for key in path.split('.'):
            node = node[int(key)] if key.isdigit() else node[key]
        assert str(node).replace(' ', '') == value
    if 'model.' in override:
        with torch.device('meta'):
            model = MODELS.build(config.model)
            if 'tta_model.' in override:
                MODELS.build({**config.tta_model, 'model': model})
    if 'optim_wrapper.' in override or 'param_scheduler.' in override:
        schedulers(config, build_optim_wrapper(two_parts(), config.optim_wrapper), epoch_length=10)
    if '.pipeline.' in override:
        TRANSFORMS.build(config.train_dataloader.dataset.pipeline[1])


def test_every_other_override_is_accepted():
    tried = 0
    for _, key in table('| to change | key |'):
        prefix = ''
        for code in re.findall('`([^`]+)`', key):
            if options := [option for option in code.split() if '=' in option]:
                # `.scale=...` continues the item named before it.
                options = [prefix + option if option.startswith('.') else option for option in options]
                prefix = options[0].split('=')[0].rpartition('.')[0]
                load(' '.join(options))
                tried += 1
    assert tried >= 20


def test_a_flag_without_override_has_a_tool_option_a_config_or_a_reason():
    tools = ''.join((ROOT / 'mtl_plugins' / name).read_text() for name in ('cli/train.py', 'cli/test.py', 'cli/arguments.py'))
    for flag, here, _ in FLAGS:
        codes = re.findall('`([^`]+)`', here)
        assert codes or here.startswith('none: '), flag
        for code in codes:
            assert not code.startswith('--') or f"'{code}'" in tools, code
            assert not code.startswith(('configs/', 'tools/')) or (ROOT / code).exists(), code


def test_the_flags_printed_by_the_handouts_and_reports_are_all_there():
    printed = (
        'log_dir dataset_root name model_name optimizer tasks optimizer_lr batch_size num_epochs workers workers_validation '
        'batch_size_validation optimizer_float_16 pretrained model_encoder_name num_bins expansion num_heads'
    )
    assert {f'`--{name}`' for name in printed.split()} <= {row[0].partition(':')[0] for row in FLAGS}


@pytest.mark.parametrize('row', BATCHES, ids=lambda row: row[0])
def test_epochs_are_proportional_to_the_batch(row):
    batch, from_4, from_16 = map(int, row[:3])
    assert from_4 * 4 == batch * 16 and from_16 * 16 == batch * 32
    config = load(row[3].strip('`'))
    found = config.train_dataloader.batch_size, config.train_cfg.max_epochs, config.param_scheduler[0].end
    assert found == (batch, from_16, from_16)


# Nothing is optimised here, only the learning rate is read.
@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
@pytest.mark.parametrize('per_iteration', [False, True])
def test_polynomial_decay_by_epoch_and_by_iteration(per_iteration):
    config = load(f'param_scheduler.0.convert_to_iter_based={per_iteration} param_scheduler.0.end={32 if per_iteration else 33}')
    wrapper = build_optim_wrapper(two_parts(), config.optim_wrapper)
    (poly,) = schedulers(config, wrapper, epoch_length=5)
    for epoch in range(32):
        for iteration in range(5):
            done = (epoch * 5 + iteration) / 159 if per_iteration else epoch / 32
            assert math.isclose(wrapper.get_lr()['lr'][0], 1e-4 * (1 - done) ** 0.9, rel_tol=1e-9)
            if not poly.by_epoch:
                poly.step()
        if poly.by_epoch:
            poly.step()
