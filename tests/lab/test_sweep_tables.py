"""The tables of sweeps from results that are written by hand."""

import json
import statistics

import numpy as np
import pytest

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.lab.experiments.definition import read_sweep
from mtl_plugins.lab.experiments.points import Points
from mtl_plugins.lab.experiments.report import write_report
from mtl_plugins.lab.experiments.tables import read_gain_metrics
from mtl_plugins.lab.experiments.task_gains import delta_m, mean_ranks, relative_changes
from tests.tiny import ROOT

SEMSEG, DEPTH = 'metrics_summary/semseg', 'metrics_summary/depth'
RESULTS = dict(
    ablation='ablation', lean='ablation/lean', pretrained='ablation/pretrained', tasks='ablation/tasks', recipe='recipe',
    time_to_score='time_to_score', task_balancing='task_balancing', three_tasks='task_balancing/three_tasks', nyuv2='nyuv2',
)  # fmt: skip
LR = 'optim_wrapper.optimizer.lr'
GAINS = dict(
    single_tasks=dict(semseg='semseg alone', depth='depth alone'),
    gain_metrics=dict(semseg={SEMSEG: 'greater'}, depth={DEPTH: 'less'}),
    rows={name: {} for name in ('semseg alone', 'depth alone', 'equal', 'geometric')},
)


@pytest.fixture
def sweep(write_sweep, tmp_path):
    return lambda **entries: Points(read_sweep(write_sweep(**entries)), tmp_path / 'work', tmp_path / 'results')


def put(points, name, seed=0, validations=(), **entries):
    """Write a result; a number is the score of that summary."""
    names = [name for name in ('semseg', 'depth', 'multitask') if name in entries]
    scores = {f'metrics_summary/{name}': entries.pop(name) for name in names}
    document = dict(
        seed=seed, parameters=1000, memory=100.0, step_seconds=0.1, metrics=scores,
        validations=list(validations), commit='0123456789', date='2026-01-01', device='cpu', versions=dict(torch='2'),
    )  # fmt: skip
    (points.results / f'{name}_seed{seed}.json').write_text(json.dumps(document | entries))


def table_of(points, folder=None):
    """The rows of table.md by their first cell, and its text."""
    write_report(points, folder=folder)
    text = ((folder or points.results.parent) / 'table.md').read_text(encoding='utf-8')
    rows, titles = {}, []
    for line in text.splitlines():
        first, *cells = [cell.strip() for cell in line.strip('|').split('|')]
        titles = cells if first == 'row' else titles
        rows |= {first: dict(zip(titles, cells, strict=True))} if line.startswith('|') else {}
    return rows, text


def rows_of(points):
    write_report(points)
    return {row['row']: row for row in json.loads((points.work_dir / 'trials.json').read_bytes())['rows']}


@pytest.mark.parametrize('name', RESULTS)
def test_the_committed_tables_are_what_the_committed_results_say(name, tmp_path):
    points = Points(read_sweep(ROOT / f'sweeps/{name}.py'), tmp_path / 'work', ROOT / 'results' / RESULTS[name])
    assert {record['state'] for record in points.records(strict=True)} == {'complete'}
    _, text = table_of(points, tmp_path / 'out')
    assert text == (ROOT / 'docs' / RESULTS[name] / 'table.md').read_text(encoding='utf-8')


def test_the_table_gives_mean_and_spread_and_only_scores_that_mean_something(sweep):
    points = sweep(rows={'one': {}, 'two': {}}, seeds=[0, 1])
    depths = [20.0, 23.0]
    for seed, depth in enumerate(depths):
        put(points, 'one', seed, depth=depth, multitask=0.0)
    put(points, 'two', depth=30.0, multitask=0.0)
    rows, text = table_of(points)
    assert rows['one'] | rows['two'] == rows['two'] and rows['two']['SI-logRMSE'] == '30.00' and rows['two']['seeds'] == '1'
    assert rows['one']['SI-logRMSE'] == f'21.50 ± {statistics.stdev(depths):.2f}' and rows['one']['parameters'] == '1,000'
    assert 'multitask' not in text and 'mIoU' not in text and '; commit 0123456; ' in text and 'seconds' not in text
    for name, seed in (('one', 0), ('one', 1), ('two', 0)):
        times = [dict(train_cpu_seconds=1.0), dict(train_cpu_seconds=10.0 * (1 + seed))]
        put(points, name, seed, times, depth=20.0)
    rows, _ = table_of(Points(points.sweep, points.work_dir, points.results))
    assert rows['one']['processor seconds'] == '15 ± 7' and rows['two']['processor seconds'] == '10'


def test_the_baseline_is_a_row_and_no_trial_and_each_table_has_its_rows(sweep):
    points = sweep(rows={'one': dict(table='First'), 'two': dict(table='Second'), 'three': dict(table='Third')}, baseline=True)
    document = dict(row='per-position baseline', data=None, metrics={DEPTH: 48.0}, device='elsewhere')
    (points.results / 'per-position-baseline.json').write_text(json.dumps(document))
    for name in ('one', 'two'):
        put(points, name, device='gpu', depth=20.0)
    rows, text = table_of(points)
    assert rows['per-position baseline']['SI-logRMSE'] == '48.00' and '\n2 of 2 trials completed; commit 0123456; ' in text
    assert text.index('## First') < text.index('| one |') < text.index('## Second') < text.index('| two |')
    assert 'Third' not in text and 'elsewhere' not in text and text.count('per-position baseline') == 2


def test_points_of_rows_are_sorted_by_their_score(sweep):
    points = sweep(rows={'a': {}, 'b': {}}, space={LR: [0.1, 0.01]}, metric='multitask')
    for name, multitask in (('a-lr-0.1', 1.0), ('a-lr-0.01', 2.0), ('b-lr-0.1', 9.0), ('b-lr-0.01', 3.0)):
        put(points, name, multitask=multitask, semseg=1.0, depth=2.0)
    write_report(points)
    lines = (points.results.parent / 'table.md').read_text(encoding='utf-8').splitlines()
    shown = [line.split(' | ')[:2] for line in lines if line.startswith(('| a', '| b'))]
    assert shown == [['| a', '0.01'], ['| a', '0.1'], ['| b', '0.1'], ['| b', '0.01']]


def validations(*entries):
    return [dict(zip(('iter', 'train_seconds', 'train_cpu_seconds', SEMSEG, DEPTH), each, strict=True)) for each in entries]


def test_the_time_to_a_score_is_that_of_the_first_validation_that_reaches_all(sweep):
    entries = dict(targets={'mIoU': 30, DEPTH: 36}, val_iters=50, seeds=[0, 1])
    slow = [
        (50, 10.0, 20.0, 31.0, 40.0),
        (100, 20.0, 40.0, 29.0, 35.0),
        (150, 30.0, 60.0, 30.0, 36.0),
        (200, 40.0, 80.0, 50.0, 20.0),
    ]
    points = sweep(rows={'slow': {}, 'fast': dict(seeds=[0]), 'never': dict(seeds=[0])}, **entries)
    twice = [(iteration, 2 * wall, 2 * cpu, *scores) for iteration, wall, cpu, *scores in slow]
    put(points, 'slow', 0, validations(*slow))
    put(points, 'slow', 1, validations(*twice))
    put(points, 'fast', 0, validations((50, 5.0, 9.0, 30.0, 36.0)))
    put(points, 'never', 0, validations((50, 5.0, 9.0, 30.0, 36.1)))
    rows, text = table_of(points)
    assert '\n| slow | 1,000 | 2 of 2 | 150 ± 0 | 45 ± 21 | 90 ± 42 | 1.00 | 2 |\n' in text
    assert '\n| fast | 1,000 | 1 of 1 | 50 | 5 | 9 | 10.00 | 1 |\n' in text
    assert '\n| never | 1,000 | 0 of 1 | more than 50 | more than 5 | more than 9 | less than 10.00 | 1 |\n' in text
    assert 'To 30 mIoU and 36 SI-logRMSE, validated every 50 iterations.' in text
    rows, _ = table_of(sweep(rows={'never': dict(seeds=[0]), 'slow': {}}, **entries))
    assert rows['never']['times as fast'] == '' and rows['slow']['times as fast'] == 'more than 0.10'


def test_each_seed_is_compared_with_networks_of_one_task_of_its_own(sweep):
    points = sweep(seeds=[0, 1, 2], **GAINS)
    for seed, (semseg, depth) in enumerate([(40.0, 20.0), (50.0, 25.0), (20.0, 40.0)]):
        put(points, 'semseg-alone', seed, semseg=semseg, step_seconds=0.1 + seed, memory=50.0)
        put(points, 'depth-alone', seed, depth=depth, step_seconds=0.2, memory=200.0)
        # 10 % better in classes, 4 % worse in depth, with each seed.
        put(points, 'equal', seed, semseg=1.1 * semseg, depth=1.04 * depth)
    # 20, 30 and 10 % better in classes, depth as it was.
    gains = [20.0, 30.0, 10.0]
    for seed, (semseg, depth) in enumerate([(48.0, 20.0), (65.0, 25.0), (22.0, 40.0)]):
        put(points, 'geometric', seed, semseg=semseg, depth=depth)
    rows = rows_of(points)
    equal = rows['equal']['delta_m %']
    assert equal['mean'] == pytest.approx(3) and equal['spread'] == pytest.approx(0, abs=1e-9)
    assert rows['equal']['depth %']['mean'] == pytest.approx(-4) and rows['equal']['mIoU']['mean'] == pytest.approx(1.1 * 110 / 3)
    assert rows['geometric']['delta_m %']['mean'] == pytest.approx(np.mean(gains) / 2)
    # 4.303 is the quantile of t for two degrees of freedom.
    spread = np.std(gains, ddof=1) / 2 * 4.303 / 3**0.5
    assert rows['geometric']['delta_m %']['spread'] == pytest.approx(spread, rel=1e-3)
    assert rows['geometric']['against equal']['values'] == pytest.approx([7, 12, 2])
    # Both metrics are better with each of the first two seeds; the last has equal classes.
    assert rows['geometric']['mean rank']['values'] == pytest.approx([1, 1, 1.25])
    assert rows['equal']['mean rank']['values'] == pytest.approx([2, 2, 1.75]) and not rows['equal']['against equal']
    single = rows['a network per task']
    assert single['ms per step']['values'] == pytest.approx([300, 1300, 2300]) and single['MiB']['mean'] == 200
    assert single['parameters'] == '2,000' and single['delta_m %'] == '0'
    assert list(rows) == ['geometric', 'equal', 'a network per task']
    assert (points.results.parent / 'delta_m_against_step.png').is_file()


def test_a_seed_without_all_networks_of_one_task_does_not_count(sweep):
    points = sweep(seeds=[0, 1], **GAINS)
    for seed in (0, 1):
        put(points, 'semseg-alone', seed, semseg=50.0)
        put(points, 'equal', seed, semseg=55.0, depth=20.0, step_seconds=None)
    with pytest.raises(UserError, match='no results of semseg alone, depth alone'):
        write_report(points)
    put(points, 'depth-alone', 1, depth=20.0)
    row = rows_of(points)['equal']
    assert row['seeds'] == '1' and row['delta_m %'] == dict(mean=pytest.approx(5), spread=None, values=[pytest.approx(5)])
    # Who was not timed has no place against time.
    assert row['ms per step'] is None
    # Neither has a row without all the tasks a gain.
    put(points, 'geometric', 1, depth=15.0)
    *_, last = rows_of(points).values()
    assert last['row'] == 'geometric' and last['SI-logRMSE']['mean'] == 15 and not last['mIoU'] and last['delta_m %'] == ''


def test_every_row_is_compared_at_the_point_that_is_best_for_its_own_tasks(sweep):
    points = sweep(space={LR: [0.001, 0.0001]}, **GAINS)
    for lr, semseg, depth in (('0.001', 50.0, 20.0), ('0.0001', 40.0, 10.0)):
        put(points, f'semseg-alone-lr-{lr}', semseg=semseg)
        put(points, f'depth-alone-lr-{lr}', depth=depth)
        # Against 50 and 10: +20 % and -100 %, or -20 % and 0 %.
        put(points, f'equal-lr-{lr}', semseg=60.0 if lr == '0.001' else 40.0, depth=depth)
    rows = rows_of(points)
    assert rows['a network per task'][LR] == 'semseg 0.001, depth 0.0001'
    assert rows['equal'][LR] == '0.0001' and rows['equal']['delta_m %']['mean'] == pytest.approx(-10)


def test_the_metrics_are_all_with_a_direction_that_are_no_class(sweep):
    points = sweep(**{**GAINS, 'gain_metrics': {}})
    summaries, rules = read_gain_metrics(points.sweep)
    assert summaries == dict(semseg=SEMSEG, depth=DEPTH)
    better = ['mean_iou', 'nan_mean_iou', 'pixel_accuracy', 'mean_accuracy', 'fw_iou']
    assert rules['semseg'] == {f'metrics_task_semseg/{name}': 'greater' for name in better}
    worse = ['si_log_rmse', 'log_rmse', 'log_mae', 'mae', 'rmse', 'rel', 'rel_squared', 'inv_mae', 'inv_rmse', 'sq_rel', 'log10']
    expected = dict.fromkeys(worse, 'less') | dict.fromkeys(['delta1', 'delta2', 'delta3'], 'greater')
    assert rules['depth'] == {f'metrics_task_depth/{name}': rule for name, rule in expected.items()}
    with pytest.raises(UserError, match="names 'normals', none of the tasks semseg, depth"):
        read_gain_metrics(sweep(rows={'a': {}, 'b': {}}, single_tasks=dict(normals='a')).sweep)


def test_task_balancing_of_a_row_is_a_dict_or_a_config_file(sweep, tmp_path):
    (tmp_path / 'rlw.py').write_text("task_balancing = dict(type='RandomWeights')\n")
    found = dict(file=str(tmp_path / 'rlw.py'), dict=dict(type='GeometricMean'))
    points = sweep(rows={name: dict(task_balancing=balancing) for name, balancing in found.items()})
    balancing = [load_config(point.config, point.options).model.task_balancing for point in points.sweep.points]
    assert balancing == [dict(type='RandomWeights'), dict(type='GeometricMean')]


def test_options_of_a_row_replace_those_of_all_and_those_of_the_space_both(sweep):
    options = {'train_cfg.max_epochs': 1, 'param_scheduler.0.end': 1, LR: 1.0}
    points = sweep(options=options, rows={'x': dict(options={'param_scheduler.0.end': 3, LR: 2.0}, seeds=[4])}, space={LR: [3.0]})
    (point,) = points.sweep.points
    assert point.options_of(4) == {'train_cfg.max_epochs': 1, 'param_scheduler.0.end': 3, LR: 3.0, 'randomness.seed': 4}
    assert (point.name, point.label, point.seeds) == ('x-lr-3.0', 'x, lr 3', (4,))


RULES = {
    'semseg': {'iou': 'greater', 'accuracy': 'greater'},
    'depth': {'rel': 'less'},
    'normals': {'mean': 'less', 'in_11': 'greater'},
}
SINGLE = {'iou': 40.0, 'accuracy': 80.0, 'rel': 0.25, 'mean': 20.0, 'in_11': 50.0}
JOINT = {'iou': 42.0, 'accuracy': 76.0, 'rel': 0.2, 'mean': 21.0, 'in_11': 45.0}


def test_delta_m_is_the_mean_over_tasks_of_the_signed_changes_of_their_metrics():
    semseg = ((42 - 40) / 40 + (76 - 80) / 80) / 2
    depth = -(0.2 - 0.25) / 0.25
    normals = (-(21 - 20) / 20 + (45 - 50) / 50) / 2
    changes = relative_changes(JOINT, SINGLE, RULES)
    assert changes == pytest.approx({'semseg': 100 * semseg, 'depth': 100 * depth, 'normals': 100 * normals})
    assert delta_m(JOINT, SINGLE, RULES) == pytest.approx(100 * (semseg + depth + normals) / 3)


def test_ranks_are_those_of_a_table_written_by_hand():
    scores = {'a': {'iou': 3.0, 'accuracy': 1.0, 'rel': 1.0}, 'b': {'iou': 2.0, 'accuracy': 1.0, 'rel': 3.0}}
    scores['c'] = {'iou': 1.0, 'accuracy': 0.0, 'rel': 2.0}
    # iou 1, 2, 3; accuracy 1.5, 1.5, 3; rel 1, 3, 2.
    expected = {'a': (1.25 + 1) / 2, 'b': (1.75 + 3) / 2, 'c': (3 + 2) / 2}
    assert mean_ranks(scores, {task: RULES[task] for task in ('semseg', 'depth')}) == pytest.approx(expected)


def test_gains_that_have_no_meaning_are_refused():
    wrong = {**RULES, 'depth': {'rel': 'lower'}}
    refused = {'`baseline` .* iou': ({**SINGLE, 'iou': 0.0}, RULES), "`rules` .*'lower' for rel": (SINGLE, wrong)}
    refused['`rules` .* depth'] = SINGLE, {**RULES, 'depth': {}}
    for words, arguments in refused.items():
        with pytest.raises(ValueError, match=words):
            delta_m(JOINT, *arguments)
