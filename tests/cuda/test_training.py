"""The real Runner on a GPU: what is exact, what waits for the device, and where batches lie."""

import csv

import pytest
import torch
from mmengine.hooks import Hook

from mtl_plugins.apis.train import train
from mtl_plugins.registry import RUNNERS
from mtl_plugins.submission.grader import grade_submission
from tests.cuda.conftest import DEVICE
from tests.cuda.systems import pair, sgd, train_steps
from tests.engine import test_resume as resuming
from tests.models.builders import build_segmentor
from tests.tiny import tiny_config

pytestmark = pytest.mark.cuda
PRECISIONS = {
    'float32': dict(type='OptimWrapper'),
    'bfloat16': dict(type='Bf16OptimWrapper'),
    'float16': dict(type='AmpOptimWrapper', dtype='float16'),
}


@pytest.mark.parametrize('precision', PRECISIONS)
def test_a_killed_run_resumes_to_the_last_bit(data_root, tmp_path, precision):
    def config(folder, **overrides):
        config = tiny_config(
            data_root,
            tmp_path / folder,
            train_cfg__max_epochs=4,
            param_scheduler__0__end=4,
            randomness__deterministic=True,
            **overrides,
        )
        config.optim_wrapper.update(PRECISIONS[precision])
        return config

    straight = resuming._run(config('straight'))
    killed = resuming._run(config('resumed'), stop_at=9)
    resumed = resuming._run(config('resumed', resume=True))
    assert killed == straight[:9] and resumed == straight[8:]
    resuming._compare(tmp_path / 'straight', tmp_path / 'resumed')


def test_a_run_from_data_to_archive(data_root, tmp_path):
    """The default settings, with every hook."""
    config = tiny_config(data_root, tmp_path / 'run', train_cfg__max_epochs=2, default_hooks__pictures__observed__interval=1)
    config.default_hooks.histograms.interval = config.default_hooks.pictures.training.interval = 2
    result = train(config)
    (row, *_) = csv.DictReader((tmp_path / 'run' / 'metrics.csv').open())
    assert float(row['metrics_summary/depth']) > 0 and float(row['val/loss']) > 0
    graded = grade_submission(result.archive, data_root / 'grader' / 'test')
    assert set(graded) == {name for name in row if name.startswith('metrics_')}


def test_deterministic_steps_of_a_resnet_repeat_to_the_last_bit(device):
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(0)
    models = [model.to(device) for model in pair(build_segmentor().train(), device)]
    logs = [train_steps(model, sgd(model), steps=3) for model in models]
    assert logs[0] == logs[1]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


# Of eight iterations; the first ones build caches, and the last one of each epoch logs.
WATCHED = (4, 5, 6)


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('balancing', [None, dict(type='UncertaintyWeights')])
def test_no_step_waits_for_the_device(data_root, tmp_path, precision, balancing):
    """From the first hook before an iteration to the last one after it, where nothing is logged."""
    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=2, param_scheduler__0__end=2)
    config.optim_wrapper.update(PRECISIONS[precision])
    if balancing:
        config.model.task_balancing = balancing
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    runner, first, last, watched = RUNNERS.build(config), Hook(), Hook(), []

    def begin(runner, **_):
        if runner.iter in WATCHED:
            torch.cuda.set_sync_debug_mode('error')

    def end(runner, **_):
        watched.extend([runner.iter] if torch.cuda.get_sync_debug_mode() else [])
        torch.cuda.set_sync_debug_mode('default')

    first.before_train_iter, last.after_train_iter = begin, end
    runner.register_hook(first, 0)
    runner.register_hook(last, 100)
    try:
        runner.train()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    assert watched == list(WATCHED)


def test_the_optimizer_is_fused_and_tf32_on_unless_the_config_says_otherwise(data_root, tmp_path):
    for folder, options in dict(default={}, other=dict(optim_wrapper__optimizer__fused=False, env_cfg__tf32=False)).items():
        runner = RUNNERS.build(tiny_config(data_root, tmp_path / folder, **options))
        wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        expected = folder == 'default'
        assert bool(wrapper.optimizer.defaults['fused']) is expected
        assert torch.backends.cudnn.allow_tf32 is expected
        assert torch.get_float32_matmul_precision() == ('high' if expected else 'highest')


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)


@pytest.mark.parametrize('worker_type', ['thread', 'process'])
def test_batches_are_pinned_and_arrive_as_they_were(data_root, tmp_path, device, worker_type):
    config = tiny_config(data_root, tmp_path, train_dataloader__worker_type=worker_type)
    runner = RUNNERS.build(config)
    loader = runner.build_dataloader(config.train_dataloader, seed=0)
    count = 0
    for batch in loader:
        tensors = list(_tensors(batch))
        assert len(tensors) >= 4 and all(tensor.is_pinned() for tensor in tensors)
        expected = runner.model.data_preprocessor.cpu()(batch)['inputs']
        moved = runner.model.data_preprocessor.to(device)(batch)
        assert moved['inputs'].device.type == DEVICE and moved['targets']['depth'].device.type == DEVICE
        torch.testing.assert_close(moved['inputs'].cpu(), expected, rtol=1e-6, atol=1e-6)
        count += 1
    assert count == 4
    plain = runner.build_dataloader(dict(config.train_dataloader, pin_memory=False), seed=0)
    assert not any(tensor.is_pinned() for tensor in _tensors(next(iter(plain))))
