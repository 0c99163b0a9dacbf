"""The presets as a further base of a config, and whole runs with them."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper

from mtl_plugins.config.load import load_config
from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.engine import test_resume as resuming
from tests.models.builders import build_segmentor, make_batch
from tests.tiny import CONFIGS, EPOCH_CONFIG, ITER_CONFIG, tiny_config

PRESETS = sorted((CONFIGS / '_base_/task_balancing').glob('*.py'))
# By loss, learned or not; by gradient, of rows or products, on parameters or features; with another package.
ONE_OF_EACH = ('equal', 'uncertainty', 'dwa', 'gradnorm', 'graddrop', 'pcgrad', 'nash_mtl', 'upgrad_features')
README = (CONFIGS / '_base_/task_balancing/README.md').read_text()


def with_preset(folder: Path, name: str, leaf: Path = EPOCH_CONFIG) -> Path:
    """A config that is a leaf and a preset of task balancing, as the README says."""
    path = folder / f'with_{name}.py'
    path.write_text(f"_base_ = ['{leaf}', '{CONFIGS}/_base_/task_balancing/{name}.py']\n")
    return path


def test_there_are_presets_and_the_readme_lists_them():
    assert len(PRESETS) >= 18
    assert [path.name for path in PRESETS if f'`{path.name}`' not in README] == []


@pytest.mark.parametrize(
    'preset',
    [path if path.stem in ONE_OF_EACH else pytest.param(path, marks=pytest.mark.slow) for path in PRESETS],
    ids=lambda path: path.stem,
)
def test_a_preset_is_a_further_base_of_a_leaf_and_trains(preset, tmp_path):
    config = load_config(str(with_preset(tmp_path, preset.stem)))
    assert 'task_balancing' not in config
    balancing = config.model.task_balancing
    model = build_segmentor(backbone=dict(type='TinyBackbone'), channels=8, task_balancing=balancing).train()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    before = {name: value.clone() for name, value in model.named_parameters() if name.endswith('weight')}
    log = model.train_step(make_batch((32, 32)), wrapper)
    assert all(value.isfinite() for value in log.values())
    assert balancing.type == 'FixedWeights' or any(name.startswith('balance/') for name in log)
    assert [name for name, value in before.items() if torch.equal(value, model.get_parameter(name))] == []


def test_learned_weights_have_a_learning_rate_of_their_own_and_no_decay(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path, with_preset(tmp_path, 'uncertainty'), optim_wrapper__optimizer__weight_decay=0.1)
    runner = RUNNERS.build(config)
    wrapper = runner.build_optim_wrapper(config.optim_wrapper)
    groups = [(group['lr'], group['weight_decay'], len(group['params'])) for group in wrapper.optimizer.param_groups]
    assert sorted(groups)[1][:2] == (pytest.approx(1e-3), 0.0) and sorted(groups)[1][2] == 1
    assert len(groups) == 2 and sorted(groups)[0][:2] == (1e-4, 0.1)


@pytest.mark.parametrize('preset', ['gradvac', 'gradnorm'])
def test_a_killed_run_resumes_bit_for_bit(preset, data_root, tmp_path):
    def config(work_dir, **overrides):
        config = tiny_config(
            data_root,
            tmp_path / work_dir,
            with_preset(tmp_path, preset, ITER_CONFIG),
            train_cfg__max_iters=6,
            train_cfg__val_interval=3,
            param_scheduler__0__end=6,
            default_hooks__checkpoint__interval=3,
            default_hooks__logger__interval=1,
            **overrides,
        )
        config.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
        return config

    straight = resuming._run(config('straight'))
    killed = resuming._run(config('resumed'), stop_at=5)
    resumed = resuming._run(config('resumed', resume=True))
    assert killed == straight[:5] and resumed == straight[3:]
    resuming._compare(tmp_path / 'straight', tmp_path / 'resumed')
    checkpoint = load_checkpoint_file(find_latest_checkpoint(tmp_path / 'resumed'))
    assert checkpoint['state_dict']['task_balancing.iteration'] == 6
