"""A plan of strategies: matched trainings, a JSON per run, delta_m against networks of one task."""

import json

import numpy as np
import pytest
from PIL import Image

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import ConfigError, UserError
from mtl_plugins.lab.experiments.balancing_benchmark import (
    BalancingBenchmark,
    points_of,
    read_benchmark_plan,
    summary_in_markdown,
)
from mtl_plugins.registry import TASK_UTILS
from tests.tiny import EPOCH_CONFIG, ROOT

PLANS = sorted((ROOT / 'docs/task_balancing').rglob('plan.json'))
EQUAL, GEOMETRIC = dict(type='FixedWeights'), dict(type='GeometricMean')
METRICS = {'semseg': {'metrics_summary/semseg': 'greater'}, 'depth': {'metrics_summary/depth': 'less'}}


def write_plan(folder, config=EPOCH_CONFIG, seeds=(0,), **entries):
    plan = dict(
        about='a test',
        data=dict(train=8, val=3, test=0, size=[32, 64], seed=0),
        seeds=list(seeds),
        amp=False,
        common={},
        config=str(config),
        strategies=dict(equal=EQUAL, geometric=GEOMETRIC),
    )
    path = folder / 'plan.json'
    path.write_text(json.dumps({**plan, **entries}))
    return path


def fake_result(benchmark, row, seed, semseg=None, depth=None, step=0.1, memory=100.0):
    benchmark.results.mkdir(exist_ok=True)
    document = dict(
        row=row,
        seed=seed,
        parameters=1000,
        memory=memory,
        step_seconds=step,
        metrics={f'metrics_summary/{name}': v for name, v in dict(semseg=semseg, depth=depth).items() if v is not None},
        commit='0123456789',
        date='2026-01-01T00:00:00',
        device='cpu',
        versions=dict(torch='2'),
    )
    (benchmark.results / f'{len(list(benchmark.results.iterdir()))}.json').write_text(json.dumps(document))


def benchmark_of(path):
    return BalancingBenchmark(read_benchmark_plan(path), path.parent / 'results')


def test_all_rows_are_trained_alike_and_compared(run_cli, in_process, tiny_config_file, data_root, tmp_path):
    common = {'train_cfg.max_epochs': 1, 'param_scheduler.0.end': 1}
    plan = write_plan(tmp_path, tiny_config_file, common=common, metrics=METRICS)
    arguments = (plan, '--data-root', data_root, '--work-dir', tmp_path / 'runs')
    result = run_cli('analysis_tools/benchmark_balancing', *arguments)
    assert result.code == 0, result.err
    runs = {path.stem: json.loads(path.read_text()) for path in (tmp_path / 'results').iterdir()}
    assert runs.keys() == {'semseg-alone_seed0', 'depth-alone_seed0', 'equal_seed0', 'geometric_seed0'}
    single = runs['semseg-alone_seed0']['metrics'] | runs['depth-alone_seed0']['metrics']
    assert 'metrics_summary/depth' not in runs['semseg-alone_seed0']['metrics']
    for name in runs:
        record = json.loads((tmp_path / 'runs' / name / 'run.json').read_text())
        (session,) = record['sessions']
        assert runs[name]['step_seconds'] == pytest.approx(session['train_seconds'] / session['iterations'], abs=1e-3)
        assert session['iterations'] == 4
    # The last 1x1 convolution of 16 channels has a row and a bias for depth.
    assert runs['equal_seed0']['parameters'] == runs['semseg-alone_seed0']['parameters'] + 17
    summary = json.loads((tmp_path / 'summary.json').read_text())
    rows = {row['name']: row for row in summary['rows']}
    for name in ('equal', 'geometric'):
        own = runs[f'{name}_seed0']['metrics']
        semseg, depth = (own[f'metrics_summary/{task}'] / single[f'metrics_summary/{task}'] - 1 for task in ('semseg', 'depth'))
        assert rows[name]['delta_m']['mean'] == pytest.approx(100 * (semseg - depth) / 2)
    steps = [runs[f'{task}-alone_seed0']['step_seconds'] for task in ('semseg', 'depth')]
    assert rows['a network per task']['step_seconds']['mean'] == pytest.approx(sum(steps))
    assert '| geometric |' in (tmp_path / 'table.md').read_text() and '| geometric |' in result.out
    picture = np.asarray(Image.open(tmp_path / 'delta_m_against_step.png'))
    assert picture.std() > 0

    before = {path: path.read_text() for path in (tmp_path / 'results').iterdir()}
    assert run_cli('analysis_tools/benchmark_balancing', *arguments).code == 0
    assert {path: path.read_text() for path in (tmp_path / 'results').iterdir()} == before


def test_each_seed_is_compared_with_networks_of_one_task_of_its_own(tmp_path):
    benchmark = benchmark_of(write_plan(tmp_path, seeds=(0, 1, 2), metrics=METRICS))
    for seed, (semseg, depth) in enumerate([(40.0, 20.0), (50.0, 25.0), (20.0, 40.0)]):
        fake_result(benchmark, 'semseg alone', seed, semseg=semseg, step=0.1 + seed, memory=50.0)
        fake_result(benchmark, 'depth alone', seed, depth=depth, step=0.2, memory=200.0)
        # 10 % better in classes, 4 % worse in depth, with each seed.
        fake_result(benchmark, 'equal', seed, semseg=1.1 * semseg, depth=1.04 * depth)
    # 20, 30 and 10 % better in classes, depth as it was.
    gains = [20.0, 30.0, 10.0]
    for seed, (semseg, depth) in enumerate([(48.0, 20.0), (65.0, 25.0), (22.0, 40.0)]):
        fake_result(benchmark, 'geometric', seed, semseg=semseg, depth=depth)
    rows = {row['name']: row for row in benchmark.summarise()['rows']}
    assert rows['equal']['delta_m']['mean'] == pytest.approx(3) and rows['equal']['delta_m']['half_width'] == pytest.approx(
        0, abs=1e-9
    )
    assert rows['equal']['changes']['depth']['mean'] == pytest.approx(-4)
    assert rows['geometric']['delta_m']['mean'] == pytest.approx(np.mean(gains) / 2)
    # 4.303 is the quantile of t for two degrees of freedom.
    spread = np.std(gains, ddof=1) / 2 * 4.303 / 3**0.5
    assert rows['geometric']['delta_m']['half_width'] == pytest.approx(spread, rel=1e-3)
    assert rows['geometric']['against_first']['values'] == pytest.approx([7, 12, 2])
    # Both metrics are better with each of the first two seeds; the last has equal classes.
    assert rows['geometric']['mean_rank']['values'] == pytest.approx([1, 1, 1.25])
    assert rows['equal']['mean_rank']['values'] == pytest.approx([2, 2, 1.75])
    single = rows['a network per task']
    assert single['step_seconds']['values'] == pytest.approx([0.3, 1.3, 2.3]) and single['memory_mib']['mean'] == 200
    assert single['parameters'] == 2000


def test_a_seed_without_all_networks_of_one_task_does_not_count(tmp_path):
    benchmark = benchmark_of(write_plan(tmp_path, seeds=(0, 1), metrics=METRICS))
    with pytest.raises(UserError, match='semseg alone, depth alone'):
        benchmark.summarise()
    for seed in (0, 1):
        fake_result(benchmark, 'semseg alone', seed, semseg=50.0)
        fake_result(benchmark, 'equal', seed, semseg=55.0, depth=20.0, step=None)
    fake_result(benchmark, 'depth alone', 1, depth=20.0)
    summary = benchmark.summarise()
    (row,) = [row for row in summary['rows'] if row['name'] == 'equal']
    assert row['seeds'] == [1] and row['delta_m'] == dict(mean=pytest.approx(5), half_width=None, values=[pytest.approx(5)])
    # Who was not timed has no place against time.
    assert [point.name for point in points_of(summary)] == ['a network per task']
    assert '+5.00' in summary_in_markdown(summary)


def test_every_row_is_tuned_by_its_own_tasks_with_the_first_seed(tmp_path):
    tune = dict(key='optim_wrapper.optimizer.lr', values=[0.001, 0.0001])
    benchmark = benchmark_of(write_plan(tmp_path, seeds=(3, 4), metrics=METRICS, tune=tune))
    for row in benchmark.rows:
        assert [candidate[1]['options'][tune['key']] for candidate in benchmark.candidates(row).values()] == tune['values']
    for lr, semseg, depth in ((0.001, 50.0, 20.0), (0.0001, 40.0, 10.0)):
        fake_result(benchmark, f'semseg alone, lr {lr}', 3, semseg=semseg)
        fake_result(benchmark, f'depth alone, lr {lr}', 3, depth=depth)
        # Against 50 and 10: +20 % and -100 %, or -20 % and 0 %.
        fake_result(benchmark, f'equal, lr {lr}', 3, semseg=60.0 if lr == 0.001 else 40.0, depth=depth)
    summary = benchmark.summarise()
    rows = {row['name']: row for row in summary['rows']}
    assert rows['a network per task']['tuned'] == dict(semseg=0.001, depth=0.0001)
    assert rows['equal']['tuned'] == 0.0001 and rows['equal']['delta_m']['mean'] == pytest.approx(-10)
    assert 'semseg 0.001, depth 0.0001' in summary_in_markdown(summary)


def test_the_metrics_are_all_with_a_direction_that_are_no_class(tmp_path):
    rules = benchmark_of(write_plan(tmp_path)).rules
    assert rules['semseg'] == {'metrics_task_semseg/mean_iou': 'greater', 'metrics_task_semseg/nan_mean_iou': 'greater'}
    worse = ['si_log_rmse', 'log_rmse', 'log_mae', 'mae', 'rmse', 'rel', 'rel_squared', 'inv_mae', 'inv_rmse']
    better = ['delta1', 'delta2', 'delta3']
    expected = dict.fromkeys(worse, 'less') | dict.fromkeys(better, 'greater')
    assert rules['depth'] == {f'metrics_task_depth/{name}': rule for name, rule in expected.items()}


@pytest.mark.parametrize('path', PLANS, ids=lambda path: path.parent.name)
def test_the_configs_of_a_documented_plan_build(path):
    pytest.importorskip('torchjd')
    benchmark = benchmark_of(path)
    assert len(benchmark.plan['strategies']) >= 12 and len(benchmark.plan['seeds']) == 3
    for name, row in benchmark.rows.items():
        config = load_config(str(ROOT / row['config']), {**benchmark.plan['common'], **row['options']})
        alone = [task for task, own in benchmark.baselines.items() if own == name]
        assert list(config.model.tasks) == (alone or list(benchmark.tasks))
        assert config.train_dataloader.dataset.tasks == (alone or list(benchmark.tasks))
        assert (config.train_cfg.max_epochs, config.param_scheduler[0].end) == (3, 3)
        TASK_UTILS.build({**config.model.task_balancing, 'tasks': list(config.model.tasks)})


def test_the_plans_were_found():
    assert {path.parent.name for path in PLANS} >= {'task_balancing', 'three_tasks'}


def test_a_strategy_may_be_a_config_file(tmp_path):
    (tmp_path / 'rlw.py').write_text("task_balancing = dict(type='RandomWeights')\n")
    (tmp_path / 'other.py').write_text('model = dict()\n')
    benchmark = benchmark_of(write_plan(tmp_path, strategies=dict(rlw=str(tmp_path / 'rlw.py'))))
    row = benchmark.rows['rlw']
    assert load_config(row['config'], row['options']).model.task_balancing == dict(type='RandomWeights')
    for name, words in (('other.py', 'task_balancing'), ('none.py', 'none.py')):
        with pytest.raises(ConfigError, match=words):
            benchmark_of(write_plan(tmp_path, strategies=dict(rlw=str(tmp_path / name))))


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        (dict(strategies={}), 'a strategy and a seed'),
        (dict(tune=dict(key='lr')), '`tune`'),
        (dict(strategies={'equal weights': EQUAL, 'equal-weights': EQUAL}), 'equal-weights'),
        (dict(metrics=dict(normals={})), 'normals'),
    ],
)
def test_a_plan_that_cannot_be_used_is_one_sentence(run_cli, tmp_path, entries, words):
    result = run_cli('analysis_tools/benchmark_balancing', write_plan(tmp_path, **entries), '--table-only')
    assert result.code == 1 and words in result.err and len(result.err.strip().splitlines()) == 1
