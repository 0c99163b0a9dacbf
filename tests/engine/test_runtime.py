"""Hooks and wrappers of a run: logging, NaN, mixed precision, accumulation, averaging, back ends, the best checkpoint."""

import re
import sys
import time
from functools import partial
from types import SimpleNamespace

import mmengine.runner.runner
import numpy as np
import pytest
import torch

from mtl_plugins.engine.hooks import (
    AtomicCheckpointHook,
    DINOScheduleHook,
    EarlyStoppingHook,
    TrainingScoresHook,
    runtime_info_hook,
)
from mtl_plugins.engine.hooks.preemption_hook import PreemptionHook
from mtl_plugins.engine.log_processor import ProgressBarHook
from mtl_plugins.errors import NonFiniteGradientError, NonFiniteLossError, UserError
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.records.record import read_record_file
from mtl_plugins.registry import HOOKS, OPTIM_WRAPPERS, RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, load_checkpoint_file
from tests.engine.test_monitoring import read_scalars
from tests.tiny import CONFIGS, ITER_CONFIG, tiny_config

DEPTH_CONFIG = CONFIGS / 'deeplabv3plus/deeplabv3plus-depth_r18-d16_1xb16-32e_miniscapes-256x256.py'

MULTITASK, UNCLIPPED = 'metrics_summary/multitask', 'metrics_summary/multitask_unclipped'


def test_runners_of_one_second_share_nothing(data_root, tmp_path, monkeypatch):
    frozen = SimpleNamespace(**{**vars(time), 'time': lambda: 1_800_000_000.0})
    monkeypatch.setattr(mmengine.runner.runner, 'time', frozen)
    runners = [RUNNERS.build(tiny_config(data_root, tmp_path)) for _ in range(3)]
    for part in ('timestamp', 'experiment_name', 'logger', 'message_hub', 'visualizer'):
        assert len({getattr(runner, part) for runner in runners}) == 3
    folders = sorted(path.parent.parent.name for path in tmp_path.glob('*/vis_data/config.py'))
    assert folders == [runner.timestamp for runner in runners]


def test_a_nan_loss_stops_with_step_losses_and_samples_and_saves_nothing(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=2)
    runner = RUNNERS.build(config)
    train_step, seen = runner.model.train_step, []

    def broken(data, optim_wrapper):
        losses = train_step(data, optim_wrapper)
        if runner.iter == 5:
            seen.extend(data['sample_idx'].tolist())
            losses['depth/loss_silog'] = torch.tensor(float('nan'))
        return losses

    runner.model.train_step = broken
    with pytest.raises(NonFiniteLossError) as caught:
        runner.train()
    sentence = str(caught.value)
    assert 'iteration 6' in sentence and 'depth/loss_silog nan' in sentence and 'semseg/loss_ce' in sentence
    assert ', '.join(map(str, seen)) in sentence
    assert load_checkpoint_file(find_latest_checkpoint(tmp_path))['meta']['epoch'] == 1


def _break_gradients(runner, step):
    """One weight gets an infinite gradient in the given iteration, from a finite loss."""
    weight = runner.model.decode_head.head.predictor.weight

    def spoil(gradient):
        return gradient * torch.where(torch.arange(gradient.numel()) == 3, float('inf'), 1.0).view_as(gradient)

    weight.register_hook(lambda gradient: spoil(gradient) if runner.iter == step else gradient)


def test_gradients_that_are_not_finite_stop_the_run_and_are_never_saved(data_root, tmp_path):
    # The checkpoint of the same epoch held the broken weights.
    runner = RUNNERS.build(tiny_config(data_root, tmp_path, train_cfg__max_epochs=2))
    _break_gradients(runner, 7)
    with pytest.raises(NonFiniteGradientError, match='is inf at iteration 8'):
        runner.train()
    checkpoint = load_checkpoint_file(find_latest_checkpoint(tmp_path))
    assert checkpoint['meta']['epoch'] == 1
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())


def test_norms_that_are_not_read_at_once_are_read_before_a_checkpoint(data_root, tmp_path, monkeypatch):
    # As on a GPU, where only the log and a checkpoint read them.
    config = tiny_config(data_root, tmp_path, ITER_CONFIG, train_cfg__max_iters=6, train_cfg__val_interval=6)
    config.default_hooks.logger.interval = 50
    config.default_hooks.checkpoint.interval = 3
    runner = RUNNERS.build(config)
    _break_gradients(runner, 2)
    monkeypatch.setattr(runtime_info_hook, '_is_free_to_read', lambda value: False)
    with pytest.raises(NonFiniteGradientError, match='iteration 3'):
        runner.train()
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('fused', [False, True])
def test_a_skipped_step_changes_neither_weights_nor_moments(fused):
    def trained(broken):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        wrapper = OPTIM_WRAPPERS.build(
            dict(type='OptimWrapper', optimizer=torch.optim.Adam([weight], lr=0.1, fused=fused), non_finite='skip')
        )
        for step, gradient in enumerate(([1.0, 2.0], [float('nan'), 1.0], [3.0, -1.0])):
            if step == 1 and not broken:
                continue
            wrapper.update_params((weight * torch.tensor(gradient)).sum())
            assert bool(wrapper.last_norm.isfinite()) == (step != 1)
        return weight, wrapper.optimizer.state[weight]

    (expected, moments), (weight, found) = trained(False), trained(True)
    assert torch.equal(weight, expected) and weight.isfinite().all()
    for name, value in moments.items():
        assert torch.equal(found[name], value), name


def test_skipped_steps_are_told_and_the_run_goes_on(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=2, optim_wrapper__non_finite='skip')
    runner = RUNNERS.build(config)
    _break_gradients(runner, 5)
    runner.train()
    checkpoint = load_checkpoint_file(find_latest_checkpoint(tmp_path))
    assert checkpoint['meta']['epoch'] == 2
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())
    (log,) = tmp_path.glob('*/*.log')
    assert 'not finite in 1 of the last 4 steps' in log.read_text()


def test_any_default_hook_can_be_left_out(data_root, tmp_path):
    # mmengine asserts on the names that are not its own, without a word.
    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=1)
    for left_out in ([name for name in config.default_hooks if name != 'checkpoint'], ['checkpoint']):
        config.work_dir = str(tmp_path / left_out[0])
        config.default_hooks.update(dict.fromkeys(left_out))
        runner = RUNNERS.build(config)
        runner.train()
        assert runner.iter == 4


def test_the_log_shows_the_mean_loss_since_the_last_line_and_norms_before_they_are_clipped(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=1, default_hooks__logger__interval=2)
    config.optim_wrapper.clip_grad = dict(max_norm=1e-3)
    runner, norms, losses = RUNNERS.build(config), [], []
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    optimizer = runner.optim_wrapper.optimizer
    optimizer.register_step_pre_hook(
        lambda *_: norms.append(sum((p.grad**2).sum() for group in optimizer.param_groups for p in group['params']) ** 0.5)
    )
    train_step = runner.model.train_step

    def recording(data, optim_wrapper):
        outputs = train_step(data, optim_wrapper)
        losses.append(float(outputs['loss']))
        return outputs

    runner.model.train_step = recording
    runner.train()
    assert [float(norm) for norm in norms] == pytest.approx([1e-3] * 4, rel=1e-3)
    logged = [row for row in read_scalars(tmp_path) if 'loss' in row]
    assert [row['step'] for row in logged] == [2, 4] and all(row['grad_norm'] > 2e-3 for row in logged)
    np.testing.assert_allclose([row['loss'] for row in logged], np.reshape(losses, (2, 2)).mean(1), rtol=1e-6)
    # Polynomial decay over 32 epochs of 4 iterations; the line follows the first of them.
    assert logged[0]['lr'] == pytest.approx(1e-4 * (1 - 1 / (32 * 4 - 1)) ** 0.9)


def test_bfloat16_trains_on_cpu(data_root, tmp_path):
    from mtl_plugins.config.options import set_mixed_precision

    config = tiny_config(data_root, tmp_path, train_cfg__max_epochs=1)
    set_mixed_precision(config)
    assert config.optim_wrapper.type == 'Bf16OptimWrapper'
    runner = RUNNERS.build(config)
    dtypes = set()
    runner.model.decode_head.register_forward_hook(
        lambda module, args, output: dtypes.add((module.training, output['depth'][0].dtype))
    )
    runner.train()
    assert dtypes == {(True, torch.bfloat16), (False, torch.float32)}
    assert all(parameter.dtype == torch.float32 for parameter in runner.model.parameters())


def test_gradient_accumulation_equals_the_larger_batch(data_root, tmp_path):
    # Batch normalisation is frozen, since its statistics depend on the batch, and the loss is a mean over images, which is the
    # same for one batch of four and two of two.
    def weights(name, batch_size, accumulation):
        options = dict(train_cfg__max_epochs=1, train_dataloader__batch_size=batch_size)
        config = tiny_config(data_root, tmp_path / name, DEPTH_CONFIG, **options)
        config.model.tasks.depth.loss = dict(type='SILogLoss', reduction='image')
        config.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1), accumulative_counts=accumulation)
        config.optim_wrapper.clip_grad = dict(max_norm=1.0)
        # A decaying rate would be another one at the step of the larger batch.
        config.param_scheduler = []
        runner = RUNNERS.build(config)
        model, train = runner.model, runner.model.train
        model.train = lambda mode=True: train(False)
        runner.train()
        return model.state_dict()

    whole, accumulated = weights('whole', 4, 1), weights('accumulated', 2, 2)
    for name, value in whole.items():
        torch.testing.assert_close(accumulated[name], value, rtol=1e-4, atol=1e-6)


def test_validation_on_the_folded_copy_scores_as_on_the_model_itself(data_root, tmp_path):
    config = tiny_config(data_root, tmp_path / 'train', train_cfg__max_epochs=2)
    config.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    RUNNERS.build(config).train()
    checkpoint = find_latest_checkpoint(tmp_path / 'train')
    scores = {}
    for loop in ('InferenceTestLoop', 'mmengine.TestLoop'):
        config = tiny_config(data_root, tmp_path / loop)
        config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
        config.test_cfg = dict(type=loop)
        runner = RUNNERS.build(config)
        runner.start_from(checkpoint)
        weights = {name: value.clone() for name, value in runner.model.state_dict().items()}
        scores[loop] = runner.test()
        # The model itself is neither folded nor frozen.
        assert all(torch.equal(value, weights[name]) for name, value in runner.model.state_dict().items())
        assert all(parameter.requires_grad for parameter in runner.model.parameters())
    folded, plain = scores.values()
    assert folded.keys() == plain.keys()
    for name, value in plain.items():
        assert folded[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name


def test_the_progress_bar_of_a_training(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TTY_COMPATIBLE', '1')
    monkeypatch.setenv('COLUMNS', '80')
    monkeypatch.setattr(ProgressBarHook, 'every', 0.0)
    monkeypatch.setattr('sys.stdout.isatty', lambda: True)
    stream = sys.stdout
    runner = RUNNERS.build(tiny_config(data_root, tmp_path, train_cfg__max_epochs=2))
    runner.train()
    written = capsys.readouterr()
    lines = [line.rstrip() for line in re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '\n', written.out + written.err).splitlines()]
    assert any(line.startswith('Epoch 2/2 | mIoU') for line in lines) and max(map(len, lines)) <= 80
    text = '\n'.join(lines)
    for words in ('Ctrl-C stops the training', 'Validating', 'Epoch 1/2', '4/8', 'semseg '):
        assert words in text, words
    assert not re.search(r'Epoch\(', text) and 'mmengine' not in text
    # The file has all iterations, and the terminal is as it was.
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Epoch(train)' in log and not re.search('Exp name|Distributed training is', log + text) and sys.stdout is stream


def test_an_interrupted_training_says_how_it_goes_on(data_root, tmp_path, monkeypatch):
    runner = RUNNERS.build(tiny_config(data_root, tmp_path, train_cfg__max_epochs=2))
    train_step = runner.model.train_step

    def interrupted(*arguments, **options):
        if runner.iter == 5:
            raise KeyboardInterrupt
        return train_step(*arguments, **options)

    runner.model.train_step = interrupted
    with pytest.raises(KeyboardInterrupt, match=r'after iteration 5: --resume continues from epoch_1\.pth'):
        runner.train()


def test_a_validation_without_training_saves_nothing(data_root, tmp_path):
    # It raised AttributeError: the checkpoint hook is set up by `before_train` only.
    config = tiny_config(data_root, tmp_path)
    config.train_dataloader = config.train_cfg = config.optim_wrapper = config.param_scheduler = None
    metrics = RUNNERS.build(config).val()
    assert 0 <= metrics['metrics_summary/semseg'] <= 100
    assert not list(tmp_path.glob('*.pth')) and not (tmp_path / 'metrics.csv').exists()


def test_validating_within_epochs_changes_nothing_in_the_training(data_root, tmp_path):
    weights, length = [], dict(train_cfg__max_epochs=2, param_scheduler__0__end=2)
    for name, changes in dict(
        epochs={}, within=dict(train_cfg__val_iters=3, train_cfg__stop_at={'metrics_summary/semseg': 100.0})
    ).items():
        runner = RUNNERS.build(tiny_config(data_root, tmp_path / name, **length, **changes))
        runner.train()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in runner.model.parameters()]))
    assert torch.equal(*weights)
    iterations = [int(row['iter']) for row in read_metrics(tmp_path / 'within' / 'metrics.csv')]
    assert iterations == list(range(3, runner.iter + 1, 3)) and len(iterations) > 1
    times = [entry['train_seconds'] for entry in read_record_file(tmp_path / 'within')['validations']]
    assert len(times) == len(iterations) and times == sorted(times) and times[0] > 0


def test_the_best_of_scores_of_zero_is_that_of_the_largest_sum():
    """The first validation used to be kept for good."""
    hook = AtomicCheckpointHook(interval=1, save_best=MULTITASK, rule='greater')
    hook.out_dir = '.'
    runner = SimpleNamespace(message_hub=SimpleNamespace(runtime_info={}), epoch=0)
    runner.message_hub.update_info = runner.message_hub.runtime_info.__setitem__
    kept = []
    for multitask, unclipped in ((0.0, -60.0), (0.0, -20.0), (0.0, -30.0), (3.0, -5.0)):
        runner.epoch += 1
        kept += hook._note_best(runner, {MULTITASK: multitask, UNCLIPPED: unclipped, 'metrics_summary/depth': 1.0})
    assert [(key, score) for key, score, _ in kept] == [(MULTITASK, score) for score in (-60.0, -20.0, 3.0)]
    assert [name.rpartition('_')[2] for _, _, name in kept] == ['1.pth', '2.pth', '4.pth']


def test_a_resumed_run_has_waited_as_long_as_one_that_was_not_interrupted():
    # mmengine's hook begins anew: a run that is killed often enough never stopped.
    unclipped = (-60.0, -30.0, -40.0, -35.0, -50.0)
    rows = [{'epoch': n, 'iter': 10 * n, MULTITASK: 0.0, UNCLIPPED: score} for n, score in enumerate(unclipped, 1)]

    def stops_after(iteration: int) -> int:
        """The validation that stops a run that is resumed at an iteration."""
        loop = SimpleNamespace(stop_training=False)
        runner = SimpleNamespace(train_loop=loop, logger=SimpleNamespace(info=str), iter=iteration)
        runner.earlier_validations = [{key: str(value) for key, value in row.items()} for row in rows if row['iter'] <= iteration]
        hook = EarlyStoppingHook(monitor=MULTITASK, patience=3)
        hook.before_run(runner)
        hook.before_train(runner)
        for row in rows:
            if row['iter'] > iteration:
                hook.after_val_epoch(runner, row)
                if loop.stop_training:
                    return row['epoch']

    assert HOOKS.get('EarlyStoppingHook') is EarlyStoppingHook
    # The second is the best; the third, fourth and fifth are not, wherever the run was killed.
    assert [stops_after(iteration) for iteration in (0, 15, 20, 30, 40)] == [5] * 5


@pytest.mark.parametrize(
    ('hook', 'words'),
    [
        (
            partial(EarlyStoppingHook, monitor='metrics_task_semseg/road', rule=None),
            '`rule` .* for metrics_task_semseg/road',
        ),
        (partial(EarlyStoppingHook, monitor=MULTITASK, rule='more'), f"`rule` .* 'greater' or 'less' for {MULTITASK}"),
        (partial(PreemptionHook, interval=0), '`interval` should be positive. Found 0'),
        (partial(TrainingScoresHook, num_images=0), '`num_images` of TrainingScoresHook should be at least 1. Found 0'),
        (partial(DINOScheduleHook, momentum=(0.9, 1.1)), 'momentum'),
        (partial(DINOScheduleHook, teacher_temperature=(0.0, 0.07)), 'teacher_temperature'),
        (partial(DINOScheduleHook, temperature_epochs=-1), 'temperature_epochs'),
        (partial(DINOScheduleHook, frozen_epochs=-1), 'frozen_epochs'),
    ],
)
def test_hooks_refuse(hook, words):
    with pytest.raises(UserError, match=words):
        hook()
