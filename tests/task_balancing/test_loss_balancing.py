"""Strategies by loss against NumPy, with absent tasks, states and evaluation; the presets as a further base of a config."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from mtl_plugins.config.load import load_config
from mtl_plugins.registry import RUNNERS, TASK_UTILS
from tests.models.builders import build_segmentor, make_batch
from tests.tiny import CONFIGS, tiny_config, with_preset

TASKS = ('semseg', 'depth', 'normals')
LOSSES = (2.0, 0.5, 0.25)


def build(kind, **arguments):
    return TASK_UTILS.build(dict(type=kind, tasks=TASKS, **arguments))


def total_and_slopes(balancing, losses=LOSSES):
    """The total and its derivatives with respect to the losses."""
    leaves = {task: torch.tensor(loss, dtype=torch.float64, requires_grad=True) for task, loss in zip(TASKS, losses, strict=True)}
    total = balancing(leaves)
    return total.item(), [gradient.item() for gradient in torch.autograd.grad(total, leaves.values(), retain_graph=True)]


def learned(s):
    return torch.nn.Parameter(torch.tensor(s))


def uncertainty(loss, s):
    factor = np.array([1.0, 0.5, 0.5])
    return (factor * np.exp(-s) * loss + s / 2).sum(), -factor * np.exp(-s) * loss + 0.5


def bounded(loss, c):
    return (loss / (2 * c**2) + np.log(1 + c**2)).sum(), -loss / c**3 + 2 * c / (1 + c**2)


def imtl(loss, s):
    return (np.exp(s) * loss - s).sum(), np.exp(s) * loss - 1


@pytest.mark.parametrize(
    ('kind', 'arguments', 'name', 'reference'),
    [
        ('UncertaintyWeights', dict(classification=['semseg']), 'log_variance', uncertainty),
        ('BoundedUncertaintyWeights', {}, 'scale', bounded),
        ('IMTLLossWeights', {}, 'log_scale', imtl),
    ],
)
def test_learned_weights_and_their_gradients_are_those_of_the_papers(kind, arguments, name, reference):
    balancing = build(kind, **arguments)
    values = np.array([0.3, -0.4, 1.1])
    parameter = getattr(balancing, name)
    parameter.data.copy_(torch.tensor(values))
    total, slopes = total_and_slopes(balancing)
    expected, gradient = reference(np.array(LOSSES), values)
    assert total == pytest.approx(expected, abs=1e-6)
    steps = np.eye(3) * 1e-6
    differences = [(reference(LOSSES + step, values)[0] - reference(LOSSES - step, values)[0]) / 2e-6 for step in steps]
    np.testing.assert_allclose(slopes, differences, rtol=1e-6)
    balancing({task: torch.tensor(loss) for task, loss in zip(TASKS, LOSSES, strict=True)}).backward()
    np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-5)


@pytest.mark.parametrize(
    ('kind', 'value'), [('GeometricMean', lambda loss: loss.prod() ** (1 / 3)), ('LogLosses', lambda loss: np.log(loss).sum())]
)
def test_totals_that_are_functions_of_the_losses(kind, value):
    total, slopes = total_and_slopes(build(kind))
    losses = np.array(LOSSES)
    assert total == pytest.approx(value(losses), abs=1e-6)
    steps = np.eye(3) * 1e-6
    np.testing.assert_allclose(slopes, [(value(losses + e) - value(losses - e)) / 2e-6 for e in steps], rtol=1e-6)


def test_dwa_weighs_by_the_ratio_of_the_last_two_periods():
    balancing = build('DynamicWeightAverage', interval=2, temperature=2.0)
    rows = np.random.default_rng(0).uniform(0.1, 2.0, (8, 3))
    # The third task has no labels in the whole second period, and in one iteration of the third.
    rows[2:4, 2] = rows[4, 2] = 0
    found = [total_and_slopes(balancing, row)[1] for row in rows]
    first, second, third = rows[0:2].mean(0), rows[2:4].mean(0), rows[4:6].mean(0)
    assert third[2] == rows[5, 2] / 2
    third[2] = rows[5, 2]

    def weights(last, before, exists):
        ratios = np.where(exists, last / np.where(exists, before, 1), 1.0)
        return 3 * np.exp(ratios / 2) / np.exp(ratios / 2).sum()

    np.testing.assert_allclose(found[:2], np.ones((2, 3)))
    np.testing.assert_allclose(found[3], [1, 1, 0])
    np.testing.assert_allclose(found[5], weights(second, first, [True, True, False]), rtol=1e-6)
    np.testing.assert_allclose(found[6:], [weights(third, second, [True, True, False])] * 2, rtol=1e-6)
    assert set(balancing.logged) == {f'balance/{what}/{task}' for what in ('weight', 'ratio') for task in TASKS}


def test_random_weights_are_a_softmax_that_follows_seed_and_iteration():
    draws = np.array([total_and_slopes(balancing)[1] for balancing in [build('RandomWeights', seed=3)] for _ in range(400)])
    np.testing.assert_allclose(draws.sum(1), 1, rtol=1e-6)
    # Log ratios of a softmax of normal numbers are normal with variance 2.
    ratios = np.log(draws[:, 0] / draws[:, 1])
    assert abs(ratios.mean()) < 0.2 and ratios.std() == pytest.approx(2**0.5, rel=0.1)
    again = build('RandomWeights', seed=3)
    assert [total_and_slopes(again)[1] for _ in range(2)] == draws[:2].tolist()
    assert total_and_slopes(build('RandomWeights', seed=4))[1] != draws[0].tolist()


def test_priority_goes_to_the_task_that_does_badly():
    balancing = build('DynamicTaskPriority', gamma=2.0, momentum=0.25)
    rows = np.array([LOSSES, (1.0, 0.5, 0.5), (0.5, 0.5, 0.1)])
    found = [total_and_slopes(balancing, row)[1] for row in rows]
    progress = np.exp(-rows[0])
    for row, weights in zip(rows, found, strict=True):
        progress = progress + 0.25 * (np.exp(-row) - progress)
        np.testing.assert_allclose(weights, -((1 - progress) ** 2) * np.log(progress), rtol=1e-5)
    assert found[0][0] > found[0][1] > found[0][2]


def test_a_schedule_is_straight_between_its_entries():
    entries = {1: (1.0, 0.0, 0.5), 3: (0.5, 1.0, 0.5), 4: (0.0, 2.0, 0.0)}
    schedule = [dict(iteration=i, weights=dict(zip(TASKS, weights, strict=True))) for i, weights in entries.items()]
    balancing = build('ScheduledWeights', schedule=schedule)
    found = [total_and_slopes(balancing)[1] for _ in range(6)]
    expected = [np.interp(range(6), list(entries), column) for column in zip(*entries.values(), strict=True)]
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-6)


STRATEGIES = {
    'UncertaintyWeights': {},
    'BoundedUncertaintyWeights': {},
    'IMTLLossWeights': {},
    'GeometricMean': {},
    'LogLosses': {},
    'DynamicWeightAverage': dict(interval=2),
    'RandomWeights': {},
    'DynamicTaskPriority': {},
    'ScheduledWeights': dict(schedule=[dict(iteration=0, weights=dict.fromkeys(TASKS, 1.0))]),
}


@pytest.mark.parametrize('kind', STRATEGIES)
def test_a_task_without_labels_takes_no_part(kind):
    """The others get what they would get without it, it gets nothing, and nothing is NaN."""
    balancing = build(kind, **STRATEGIES[kind])
    for losses in (LOSSES, (2.0, 0.0, 0.25), (0.0, 0.0, 0.0), (1.5, 0.5, 0.125)):
        total, slopes = total_and_slopes(balancing, losses)
        assert np.isfinite([total, *slopes]).all()
        assert [slope == 0 for slope in slopes] == [loss == 0 for loss in losses]
        assert total == 0 or any(losses)
        balancing.zero_grad()
        total = balancing({task: torch.tensor(loss, requires_grad=True) for task, loss in zip(TASKS, losses, strict=True)})
        total.backward()
        gradients = [parameter.grad for parameter in balancing.parameters()]
        assert all((gradient != 0).tolist() == [loss != 0 for loss in losses] for gradient in gradients)


@pytest.mark.parametrize('kind', STRATEGIES)
def test_the_state_dict_continues_a_run_bit_for_bit_and_evaluation_leaves_it_alone(kind):
    rows = np.random.default_rng(1).uniform(0.1, 2.0, (9, 3))
    straight, stopped = build(kind, **STRATEGIES[kind]), build(kind, **STRATEGIES[kind])
    expected = [total_and_slopes(straight, row) for row in rows]
    for row in rows[:5]:
        total_and_slopes(stopped, row)
    stopped.eval()
    evaluated = total_and_slopes(stopped)
    assert evaluated == total_and_slopes(stopped) and np.isfinite(evaluated[0])
    resumed = build(kind, **STRATEGIES[kind])
    resumed.load_state_dict(stopped.state_dict())
    assert [total_and_slopes(resumed, row) for row in rows[5:]] == expected[5:]


PRESETS = sorted((CONFIGS / '_base_/task_balancing').glob('*.py'))
# By loss, learned or not; by gradient, of rows or products, on parameters or features; with another package.
ONE_OF_EACH = ('equal', 'uncertainty', 'dwa', 'gradnorm', 'graddrop', 'pcgrad', 'nash_mtl', 'upgrad_features')
README = (CONFIGS / '_base_/task_balancing/README.md').read_text()


def test_there_are_presets_and_the_readme_lists_them():
    assert len(PRESETS) >= 18
    assert [path.name for path in PRESETS if f'`{path.name}`' not in README] == []


@pytest.mark.parametrize(
    'preset',
    [path if path.stem in ONE_OF_EACH else pytest.param(path, marks=pytest.mark.slow) for path in PRESETS],
    ids=lambda path: path.stem,
)
def test_a_preset_is_a_further_base_of_a_leaf_and_trains(preset, tmp_path):
    config = load_config(str(with_preset(tmp_path, f'task_balancing/{preset.stem}')))
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
    config = tiny_config(
        data_root, tmp_path, with_preset(tmp_path, 'task_balancing/uncertainty'), optim_wrapper__optimizer__weight_decay=0.1
    )
    runner = RUNNERS.build(config)
    wrapper = runner.build_optim_wrapper(config.optim_wrapper)
    groups = [(group['lr'], group['weight_decay'], len(group['params'])) for group in wrapper.optimizer.param_groups]
    assert sorted(groups)[1][:2] == (pytest.approx(1e-3), 0.0) and sorted(groups)[1][2] == 1
    assert len(groups) == 2 and sorted(groups)[0][:2] == (1e-4, 0.1)
