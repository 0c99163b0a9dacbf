"""A plan of trainings: a JSON per run, a table over seeds."""

import json
import statistics

import pytest

from mtl_plugins.config.load import load_config
from mtl_plugins.errors import UserError
from mtl_plugins.lab.experiments import launch
from mtl_plugins.lab.experiments.ablation import PlannedTrials, read_plan, run_all, tables_in_markdown
from mtl_plugins.records.config_data import as_data, hash_config
from tests.tiny import EPOCH_CONFIG, ROOT

PLANS = sorted((ROOT / 'docs/ablation').rglob('plan.json'))
BUDGET = {'train_cfg.max_epochs': 1, 'param_scheduler.0.end': 1}


def write_plan(folder, rows, seeds=(0,)):
    plan = dict(
        about='a test',
        data=dict(train=8, val=3, test=0, size=[32, 64], seed=0),
        seeds=list(seeds),
        amp=False,
        common=BUDGET,
        tables=[dict(title='Rows', rows=rows)],
    )
    path = folder / 'plan.json'
    path.write_text(json.dumps(plan))
    return path


def runs_of(path):
    return PlannedTrials(read_plan(path), path.parent / 'results', path.parent).all_runs()


def fake_result(results, row, seed, device='cpu', **metrics):
    results.mkdir(exist_ok=True)
    document = dict(
        row=row,
        seed=seed,
        parameters=1234,
        metrics={f'metrics_summary/{name}': value for name, value in metrics.items()},
        commit='0123456789',
        date='2026-01-01T00:00:00',
        device=device,
        versions=dict(torch='2'),
    )
    (results / f'{row}_{seed}.json').write_text(json.dumps(document))


def test_rows_are_trained_once_each_and_a_failing_one_is_named(run_cli, tiny_config_file, data_root, tmp_path):
    rows = {'sound row': dict(config=str(tiny_config_file)), 'broken row': dict(config='nowhere.py')}
    plan = write_plan(tmp_path, rows)
    arguments = (plan, '--data-root', data_root, '--work-dir', tmp_path / 'runs', '--jobs', 2)
    failed = run_cli('analysis_tools/ablation', *arguments)
    assert failed.code == 1
    assert '1 of 2 runs failed: broken-row_seed0: Config nowhere.py does not exist.' in failed.err
    result = json.loads((tmp_path / 'results' / 'sound-row_seed0.json').read_text())
    assert result['options'] == {**BUDGET, 'randomness.seed': 0} and result['parameters'] > 0
    assert {'metrics_summary/semseg', 'metrics_summary/depth'} <= result['metrics'].keys()

    write_plan(tmp_path, {'sound row': rows['sound row']})
    again = run_cli('analysis_tools/ablation', *arguments)
    assert again.code == 0, again.err
    assert json.loads((tmp_path / 'results' / 'sound-row_seed0.json').read_text()) == result
    assert '| sound row |' in (tmp_path / 'table.md').read_text()


def test_a_result_that_was_made_otherwise_is_made_again(tmp_path, monkeypatch):
    """Any file of the name of a row was taken for its result: a changed plan showed the scores of the old one."""
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = ['{EPOCH_CONFIG}']\n")
    trained, data_root = [], tmp_path / 'data'

    def run_trial(study, sweep, trial, runs, *others):
        trained.append(runs[0].name)
        launch.write_document(runs[0].result, launch._origin(runs[0], sweep.data, sweep.amp) | dict(config_hash=hashed()))
        study.complete(trial, 1.0)

    def hashed():
        return hash_config(as_data(load_config(str(config), BUDGET).to_dict()))

    def again(**changes):
        trained.clear()
        plan.update(changes)
        run_all(plan, tmp_path / 'results', tmp_path / 'runs', data_root, 1)
        return list(trained)

    monkeypatch.setattr('mtl_plugins.lab.experiments.workers._run_trial', run_trial)
    plan = read_plan(write_plan(tmp_path, {'a': dict(config=str(config)), 'b': dict(config=str(config))}))
    assert again() == ['a_seed0', 'b_seed0'] and again() == []
    rows = {'a': dict(config=str(config)), 'b': dict(config=str(config), options={'train_cfg.val_interval': 1})}
    assert again(tables=[dict(title='Rows', rows=rows)]) == ['b_seed0'] and again() == []
    assert again(data=dict(plan['data'], train=9)) == ['a_seed0', 'b_seed0']
    assert again(amp=True) == ['a_seed0', 'b_seed0'] and again() == []
    config.write_text(f"_base_ = ['{EPOCH_CONFIG}']\ntrain_dataloader = dict(batch_size=3)\n")
    with pytest.raises(UserError, match=r'a_seed0.json should have been made as the plan states. Found another `config_hash`'):
        tables_in_markdown(plan, tmp_path / 'results')
    assert again() == ['a_seed0', 'b_seed0'] and again() == []


def test_the_baseline_of_other_data_is_fitted_again(tmp_path, data_root):
    plan = read_plan(write_plan(tmp_path, {})) | dict(baseline=True)
    file = tmp_path / 'results' / 'per-position-baseline.json'
    for size in (8, 7):
        plan['data'] = dict(plan['data'], train=size)
        run_all(plan, tmp_path / 'results', tmp_path / 'runs', data_root, 1)
        assert json.loads(file.read_bytes())['data']['train'] == size


@pytest.mark.parametrize('path', PLANS, ids=lambda path: path.parent.name)
def test_the_configs_of_a_documented_plan_take_its_options(path):
    runs = [run for run in runs_of(path) if run.seed == 0]
    assert runs
    for run in runs:
        config = load_config(str(ROOT / run.config), run.options)
        assert (config.train_cfg.max_epochs, config.param_scheduler[0].end) == (3, 3)
        assert config.optim_wrapper.optimizer.lr == 5e-4 and config.train_dataloader.batch_size == 4


def test_the_plans_were_found():
    assert {path.parent.name for path in PLANS} >= {'ablation', 'pretrained'}


def test_the_table_gives_mean_and_spread_and_only_scores_that_mean_something(tmp_path):
    plan = read_plan(write_plan(tmp_path, {'one': dict(config='a.py'), 'two': dict(config='b.py')}, seeds=(0, 1)))
    depths = [20.0, 23.0]
    for seed, depth in enumerate(depths):
        fake_result(tmp_path / 'results', 'one', seed, depth=depth, multitask=0.0)
    fake_result(tmp_path / 'results', 'two', 0, depth=30.0, multitask=0.0)
    table = tables_in_markdown(plan, tmp_path / 'results')
    assert f'| one | 1,234 | 21.50 ± {statistics.stdev(depths):.2f} | 2 |' in table
    assert '| two | 1,234 | 30.00 | 1 |' in table
    assert 'multitask' not in table and 'mIoU' not in table and '0123456' in table and 'seconds' not in table
    for path in (tmp_path / 'results').glob('*.json'):
        document = json.loads(path.read_text())
        document['validations'] = [dict(train_cpu_seconds=1.0), dict(train_cpu_seconds=10.0 * (1 + document['seed']))]
        path.write_text(json.dumps(document))
    table = tables_in_markdown(plan, tmp_path / 'results')
    assert '| row | parameters | SI-logRMSE | processor seconds | seeds |' in table and '| 15 ± 7 | 2 |' in table


def test_the_baseline_is_a_row_and_no_run(tmp_path):
    # Its file was counted as one, and its device named among those of the trainings.
    plan = read_plan(write_plan(tmp_path, {'one': dict(config='a.py')})) | dict(baseline=True)
    fake_result(tmp_path / 'results', 'per-position baseline', 0, depth=48.0)
    fake_result(tmp_path / 'results', 'one', 0, device='gpu', depth=20.0)
    table = tables_in_markdown(plan, tmp_path / 'results')
    assert [line.split('|')[1].strip() for line in table.splitlines()[4:6]] == ['per-position baseline', 'one']
    assert '\n1 runs; commit 0123456; 2026-01-01 to 2026-01-01; gpu; torch 2.' in table


def test_options_of_a_row_replace_the_common_ones(tmp_path):
    path = write_plan(tmp_path, {'x': dict(config='a.py', options={'param_scheduler.0.end': 3})}, seeds=(4,))
    (run,) = runs_of(path)
    assert run.options == {'train_cfg.max_epochs': 1, 'param_scheduler.0.end': 3, 'randomness.seed': 4}


def test_a_plan_that_cannot_be_used_is_one_sentence(run_cli, tmp_path):
    path = tmp_path / 'plan.json'
    path.write_text('{"about": ""}')
    result = run_cli('analysis_tools/ablation', path)
    assert result.code == 1 and 'should hold' in result.err and len(result.err.strip().splitlines()) == 1
    path.write_text('{')
    assert 'cannot be read' in run_cli('analysis_tools/ablation', path).err
