"""Configs as users of mmseg and mmengine write them: they work, or one sentence says what to write instead."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from mtl_plugins.apis.train import train
from mtl_plugins.config import load
from mtl_plugins.config.load import load_config, parse_options
from mtl_plugins.config.options import set_work_dir
from mtl_plugins.errors import ConfigError
from mtl_plugins.records.metrics_file import FILE_NAME as METRICS
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import DATASETS
from mtl_plugins.utils.checkpoint_io import load_checkpoint_file
from mtl_plugins.utils.data_files import parse_json
from tests.tiny import EPOCH_CONFIG


@pytest.fixture
def write(tiny_config_file):
    """``write(text, name)`` makes a config file with the tiny one as its base, that leaves out what takes long."""

    def write(text: str, name: str = 'config.py') -> Path:
        path = tiny_config_file.with_name(name)
        quick = (
            'train_cfg = dict(max_epochs=1)\n'
            'default_hooks = dict(pictures=dict(confusion=None, observed=None, predictions=dict(num_images=1)))\n'
        )
        path.write_text(f"_base_ = ['tiny.py']\n{quick}{text}")
        return path

    return write


def test_averaged_weights_are_trained_resumed_and_tested(write, run_cli, data_root, tmp_path):
    config = write("custom_hooks = [dict(type='EMAHook', momentum=0.5)]\n")
    common = ('--work-dir', tmp_path / 'run', '--data-root', data_root, '--no-submission')
    assert run_cli('train', config, *common).code == 0
    more = ('--resume', '--reschedule', '--cfg-options', 'train_cfg.max_epochs=2')
    assert run_cli('train', config, *common, *more).code == 0
    common = ('--work-dir', tmp_path / 'test', '--data-root', data_root)
    for name in ('epoch_2.pth', 'best'):
        checkpoint = next((tmp_path / 'run').glob(f'{name}*'))
        run_cli('test', config, checkpoint, *common, '--json', tmp_path / f'{name}.json').check()
    # Validation saw the averaged weights, and so does the test.
    row, scores = read_metrics(tmp_path / 'run' / METRICS)[-1], json.loads((tmp_path / 'epoch_2.pth.json').read_text())
    assert float(row['metrics_summary/depth']) == pytest.approx(scores['metrics_summary/depth'], rel=1e-6)
    content = load_checkpoint_file(tmp_path / 'run/epoch_2.pth')
    name = 'decode_head.head.predictor.weight'
    assert not torch.equal(content['state_dict'][name], content['ema_state_dict'][f'module.{name}'])


@pytest.mark.parametrize(
    'kind, length',
    [
        ("type='ConcatDataset', datasets=[D, dict(D, split='val')]", 11),
        ("type='RepeatDataset', times=2, dataset=D", 16),
    ],
)
def test_data_sets_of_data_sets_train_with_one_data_root(write, run_cli, data_root, tmp_path, kind, length):
    path = write(
        "P = [dict(type='LoadMiniScapes'), dict(type='RandomHomography', crop_size=32), "
        "dict(type='PackMultiTaskInputs', meta_keys=())]\n"
        "D = dict(type='MiniScapesDataset', data_root='nowhere', split='train', pipeline=P)\n"
        f'train_dataloader = dict(dataset=dict(_delete_=True, {kind}))\n'
        "V = dict(type='MiniScapesDataset', data_root='nowhere', split='val', test_mode=True, "
        "pipeline=[dict(type='LoadMiniScapes'), dict(type='PackMultiTaskInputs')])\n"
        "val_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[V, dict(V, split='train')]))\n"
    )
    run_cli('train', path, '--data-root', data_root, '--work-dir', tmp_path / 'run', '--no-submission').check()
    record = parse_json((tmp_path / 'run/run.json').read_bytes())
    assert {split: data['samples'] for split, data in record['data'].items()} == dict(train=length, val=11)
    assert len(read_metrics(tmp_path / 'run' / METRICS)) == 1
    arguments = (path, tmp_path / 'run/epoch_1.pth', '--out', tmp_path / 'errors', '--data-root', data_root)
    run_cli('analysis_tools/analyse_errors', *arguments).check()
    document = json.loads(next((tmp_path / 'errors').glob('*.json')).read_text())
    assert document['data']['split'] == 'val, train' and document['data']['images'] == 11


def test_each_repetition_of_a_sample_has_its_own_number_and_generator(data_root):
    def draw(results):
        return results['sample_idx'], results['img_path'], float(results['rng'].random())

    part = dict(type='MiniScapesDataset', data_root=str(data_root), split='val', pipeline=[draw])
    for whole in (dict(type='RepeatDataset', dataset=part, times=2), dict(type='ConcatDataset', datasets=[part, part])):
        dataset = DATASETS.build({'_scope_': 'mtl_plugins', **whole})
        numbers, paths, values = zip(*(dataset[index] for index in range(6)), strict=True)
        assert numbers == (0, 1, 2, 3, 4, 5) and paths[:3] == paths[3:] and len(set(values)) == 6
        assert dataset[-1] == dataset[5]
    nested = DATASETS.build({'_scope_': 'mtl_plugins', 'type': 'ConcatDataset', 'datasets': [whole, part]})
    assert [nested[index][0] for index in range(9)] == list(range(9))


NEW_STYLE = """
from mmengine.config import read_base
from mmengine.hooks import EMAHook
from mtl_plugins.engine.hooks import EarlyStoppingHook
from torch.optim import SGD
with read_base():
    from .base import *
train_cfg.update(dict(max_epochs=1))
optim_wrapper.update(dict(optimizer=dict(type=SGD, lr=0.01, momentum=0.9)))
custom_hooks = [dict(type=EMAHook, momentum=0.5), dict(type=EarlyStoppingHook, monitor='mIoU')]
"""


def test_the_new_style_of_configs_trains(tiny_config_file, data_root, tmp_path):
    text = load_config(str(tiny_config_file)).pretty_text.replace("type='MiniScapesDataset'", 'type=MiniScapesDataset')
    (tmp_path / 'base.py').write_text(
        'from mtl_plugins.datasets.multitask.miniscapes import MiniScapesDataset\n'
        + text.replace('custom_imports =', '_unused =')
    )
    path = tmp_path / 'new_style.py'
    path.write_text(NEW_STYLE)
    config = load_config(str(path), {'train_dataloader.batch_size': 4, 'submission.enabled': False}, str(data_root))
    types = [each.type for each in (config.optim_wrapper.optimizer, config.train_dataloader.dataset, *config.custom_hooks)]
    assert types == ['SGD', 'MiniScapesDataset', 'EMAHook', 'EarlyStoppingHook']
    assert not {'SGD', 'EMAHook', 'read_base', 'MiniScapesDataset'} & set(config)
    set_work_dir(config, str(tmp_path / 'run'))
    train(config)
    again = load_config(str(tmp_path / 'run/new_style.py'))
    assert again.optim_wrapper.optimizer == config.optim_wrapper.optimizer and again.train_dataloader.batch_size == 4


def test_a_name_with_spaces_and_without_a_submission(write, run_cli, data_root, tmp_path):
    config = write('submission = None\n', 'my config (v2) ä.py')
    for more in ((), ('--no-submission',)):
        run_cli('train', config, '--work-dir', tmp_path / f'run{len(more)}', '--data-root', data_root, *more).check()
    assert '_my-config-v2_' in parse_json((tmp_path / 'run0/run.json').read_bytes())['run_name']


@pytest.mark.parametrize(
    'text',
    [
        "default_hooks['checkpoint'] = dict(type='CheckpointHook', by_epoch=True, interval=1, save_best='mIoU')",
        'default_hooks = None\ncustom_hooks = None\nenv_cfg = None\nrandomness = None\nparam_scheduler = None\nname = 3',
        "val_evaluator = dict(type='mmseg.IoUMetric')\ndefault_hooks['checkpoint'] = dict(save_best='mIoU')",
        "test_dataloader = None\noptim_wrapper = dict(_delete_=True, optimizer=dict(type='SGD', lr=0.01))",
        "from pathlib import Path\nwork_dir = Path('nowhere')\ntrain_dataloader = dict(dataset=dict(indices=range(4)))",
        'val_cfg = None\ntest_cfg = None\ntest_evaluator = None',
    ],
)
def test_what_other_projects_write_trains(write, run_cli, data_root, tmp_path, text):
    arguments = ('--data-root', data_root, '--work-dir', tmp_path / 'run', '--no-submission')
    run_cli('train', write(f'{text}\n'), *arguments).check()
    assert list((tmp_path / 'run').glob('epoch_1.pth'))


def test_a_task_is_dropped_from_the_command_line(tiny_config_file, run_cli, data_root, tmp_path):
    options = ('--cfg-options', 'model.tasks.depth=None', 'train_cfg.max_epochs=1')
    run = run_cli('train', tiny_config_file, '--work-dir', tmp_path / 'run', '--data-root', data_root, *options).check()
    record = parse_json((tmp_path / 'run/run.json').read_bytes())
    assert record['best']['monitor'] == 'metrics_summary/semseg'
    archive, scores = tmp_path / 'run' / record['archive'], tmp_path / 'scores.json'
    with zipfile.ZipFile(archive) as content:
        assert {name.split('/')[1] for name in content.namelist() if name.startswith('predictions/')} == {'semseg'}
    graded = run_cli('submission_tools/grade_submission', archive, '--labels', data_root / 'grader/test', '--json', scores)
    assert graded.code == 0 and json.loads(scores.read_text())['metrics_summary/multitask'] == 0, graded.err
    assert list(record['config']['model']['tasks']) == ['semseg']
    # The common score of one task is 0 by definition: it is not shown as if it were one.
    assert 'multitask' not in run.out + run.err


def test_dropping_reaches_every_part_and_keeps_a_task():
    folder = EPOCH_CONFIG.parents[1]
    options = {'model.task_balancing.type': 'UncertaintyWeights', 'tta_model.merge': {'semseg': 'max'}}
    path = folder / 'branched/branched_r18-d16_1xb16-32e_miniscapes-256x256.py'
    config = load_config(str(path), {'model.tasks.semseg': None, **options})
    assert list(config.model.tasks) == ['depth'] and config.val_evaluator.tasks == ['depth']
    assert config.default_hooks.checkpoint.save_best == 'metrics_summary/depth' and config.default_hooks.checkpoint.rule == 'less'
    assert not config.tta_model['merge'] and 'task_balancing' not in config.model
    with pytest.raises(ConfigError, match='should keep a task'):
        alone = folder / 'adaptive_depth/adaptive_depth_r18-d16_1xb16-32e_miniscapes-256x256.py'
        load_config(str(alone), {'model.tasks.depth': None})


@pytest.mark.parametrize(
    'text, words',
    [
        ("_base_ = ['missing.py']", ['missing.py']),
        ("with open('x'):\n    pass", ['read_base']),
        ('from .nowhere import *', ['import *']),
        ('x = = 1', ['SyntaxError', 'line 1']),
        ('x = {}\nx = x.y', ['line 2', 'AttributeError']),
        ('raise SystemExit(3)', ['SystemExit']),
        ('x = [[]]\nx[0].append(x)', ['cannot be read']),
        ('\0', ['cannot be read']),
    ],
)
def test_a_broken_config_says_where(tmp_path, text, words):
    path = tmp_path / 'own.py'
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert all(word in str(caught.value) for word in (str(path), *words)) and len(str(caught.value)) < 600, caught.value
    with pytest.raises(ConfigError, match=r'nowhere\.py does not exist'):
        load_config('nowhere.py')


EVALUATED = 'metrics_summary/semseg (mIoU), metrics_summary/depth (SI-logRMSE)'


@pytest.mark.parametrize(
    'text, words',
    [
        (
            "val_dataloader = [dict(dataset=dict(type='MiniScapesDataset'))] * 2",
            ['one data loader', '[{', 'Concat'],
        ),
        ("train_dataloader = dict(dataset=[dict(type='MiniScapesDataset')])", ['train_dataloader.dataset', 'ConcatDataset']),
        ("train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=['a', 'b']))", ['datasets', "'a'"]),
        ("default_hooks['checkpoint'] = dict(save_best='mIuO')", ['default_hooks.checkpoint.save_best', EVALUATED, "'mIuO'"]),
        ("default_hooks['checkpoint'] = dict(save_best='depth', rule='greater')", ["'less'", 'metrics_summary/depth']),
        ("custom_hooks = [dict(type='EarlyStoppingHook', monitor='normals')]", ['custom_hooks.0.monitor', EVALUATED]),
        ('train_cfg = dict(max_epochs=1, val_iters=2, stop_at=dict(mAcc=3))', ['train_cfg.stop_at', EVALUATED, 'mAcc']),
        (
            "val_evaluator = [dict(type='MultiTaskMetric'), dict(type='mmseg.IoUMetric')]\n"
            'train_cfg = dict(max_epochs=1, val_iters=2, stop_at=dict(mAcc=3))',
            ['train_cfg.stop_at', 'the larger or the smaller is the better', "'mAcc'"],
        ),
        ("train_cfg = dict(max_epochs=1, val_iters=2, stop_at='mIoU')", ['train_cfg.stop_at', 'by name']),
        ('def f(x): pass\ntrain_dataloader = dict(collate_fn=f)', ['train_dataloader.collate_fn', 'the function f', 'Register']),
        ("default_scope = 'mmseg'", ['default_scope', "'mtl_plugins'", "'mmseg'"]),
        ("optim_wrapper = dict(optimizer=dict(type='Adamm'))", ['no optimizer named Adamm', 'Did you mean `Adam`?']),
        ("model = dict(backbone=dict(_delete_=True, type='ResNett'))", ['ResNett', 'Did you mean `mmseg.ResNet`?']),
        ("model = dict(backbone=dict(init_cfg='x'))", ['`init_cfg` at `model.backbone`', "type='Pretrained'", "'x'"]),
        ("model = dict(init_cfg='x')", ['`init_cfg` at `model`', "'x'"]),
        ("val_evaluator = dict(type='MultitaskMetric')", ['MultitaskMetric', 'Did you mean `MultiTaskMetric`?']),
        ("val_evaluator = dict(type='MultiTaskMetric', task=['semseg'])", ['`task`', '`val_evaluator`', '`tasks`']),
        ('optim_wrapper = None', ['`optim_wrapper`', 'README']),
        ('val_evaluator = None', ['`val_evaluator`']),
        ("val_evaluator = dict(type='mmseg.IoUMetric')", ['default_hooks.checkpoint.save_best', 'mIoU', 'multitask']),
        ("custom_hooks = 'EMAHook'", ['`custom_hooks`', 'a list']),
        ('optim_wrapper = dict(optimizer=None)', ['`optim_wrapper.optimizer`', 'None']),
        ("train_dataloader = dict(sampler=dict(type='InfiniteSampler'))", ['sampler that ends', 'InfiniteSampler']),
        ("train_dataloader = dict(collate_fn=dict(type='pseudo_collate'))", ['collate_fn', 'multitask_collate']),
        ("train_dataloader = dict(dataset=dict(pipeline=[dict(type='LoadMiniScapes')]))", ['PackMultiTaskInputs', 'img_path']),
        ("log_level = 'DEBG'", ['`log_level`', 'DEBUG']),
        ("randomness = dict(seed='a')", ['`randomness.seed`', "'a'"]),
        ("team = 'x'", ['`team`', "'x'"]),
        ("default_hooks['observed'] = dict(interval=0)", ['`default_hooks.observed`', 'a `type`', 'checkpoint']),
        ("runner_type = 'Runer'", ['no runner named Runer', 'Did you mean `Runner`?']),
        ('model = dict(data_preprocessor=None)', ['`model.data_preprocessor`', 'MultiTaskDataPreprocessor', 'None']),
        ("model = dict(tasks=dict(depth='no'))", ['`model.tasks`', "'no'"]),
        ("model = dict(task_order=['depth'])", ['`task_order` should name the tasks', "['depth']"]),
        ('train_dataloader = dict(dataset=dict(labels=[1]))', ['cannot say which labels']),
        ("custom_imports = dict(imports=['nowhere_to_be_found'])", ['cannot be read', 'nowhere_to_be_found']),
    ],
)
def test_what_cannot_work_is_one_sentence_before_anything_is_written(write, run_cli, data_root, tmp_path, text, words):
    run_cli('train', write(f'{text}\n'), '--data-root', data_root, '--work-dir', tmp_path / 'run').check_refused(*words)
    assert not (tmp_path / 'run' / METRICS).exists()


@pytest.mark.parametrize(
    'name, found, rule',
    [
        ('mIoU', 'metrics_summary/semseg', 'greater'),
        ('SI-logRMSE', 'metrics_summary/depth', 'less'),
        ('depth', 'metrics_summary/depth', 'less'),
        ('multitask', 'metrics_summary/multitask', 'greater'),
        ('rmse', 'metrics_task_depth/rmse', 'less'),
        ('metrics_task_semseg/nan_mean_iou', 'metrics_task_semseg/nan_mean_iou', 'greater'),
        ('auto', 'metrics_summary/multitask', 'greater'),
        ('val/loss', 'val/loss', 'less'),
    ],
)
def test_a_score_may_be_called_as_tables_call_it(name, found, rule):
    hook = {'type': 'EarlyStoppingHook', 'monitor': name}
    options = {'default_hooks.checkpoint.save_best': name, 'custom_hooks': [hook]}
    if name != 'auto':
        options |= {'train_cfg.val_iters': 3, 'train_cfg.stop_at': {name: 1.0}}
    config = load_config(str(EPOCH_CONFIG), options)
    assert (config.default_hooks.checkpoint.save_best, config.default_hooks.checkpoint.rule) == (found, rule)
    assert (config.custom_hooks[0].monitor, config.custom_hooks[0].rule) == (found, rule)
    assert name == 'auto' or config.train_cfg.stop_at == {found: 1.0}


def test_an_option_may_set_what_a_training_reads_and_the_config_leaves_out():
    assert load_config(str(EPOCH_CONFIG), {'compile': True}).compile is True
    with pytest.raises(ConfigError, match='no key `compiled` in the config'):
        load_config(str(EPOCH_CONFIG), {'compiled': True})


def test_options_may_hold_dicts():
    assert parse_options(["a={'x': 1, 'y': [2]}", 'b="{\'x\':1}"', 'c=[1,2]', 'd=None']) == dict(
        a={'x': 1, 'y': [2]}, b={'x': 1}, c=[1, 2], d=None
    )
    for broken in ("a={'x': 1", "a={'x': f()}", 'a=[1,(2]'):
        with pytest.raises(ConfigError, match='`--cfg-options a`'):
            parse_options([broken])


PLUGIN = """
from mtl_plugins.labels.class_map import ClassMap
from mtl_plugins.registry import LABELS

@LABELS.register_module()
class BrokenLabel(ClassMap):
    def decode(self, *arguments, **options):
        return None
"""


def test_a_label_that_decodes_nothing_is_named(tiny_config_file, run_cli, data_root, tmp_path, monkeypatch):
    (tmp_path / 'broken_label.py').write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = tmp_path / 'config.py'
    config.write_text(
        "_base_ = ['tiny.py']\ncustom_imports = dict(imports=['tests.tiny', 'broken_label'])\n"
        "L = dict(semseg=dict(type='BrokenLabel', classes=['c%d' % i for i in range(19)]))\n"
        "L['depth'] = dict(type='DepthMap', encoding='code')\n"
        + ''.join(f'{split}_dataloader = dict(dataset=dict(labels=L))\n' for split in ('train', 'val', 'test'))
    )
    run = run_cli('train', config, '--work-dir', tmp_path / 'run', '--data-root', data_root)
    run.check_refused('`decode` of BrokenLabel', 'should return an array', 'None')


@pytest.mark.parametrize('more', [['--no-predictions'], pytest.param(['--num-examples', '1'], marks=pytest.mark.slow)])
def test_a_report_needs_neither_its_folder_nor_the_files_of_configs(finished_run, run_cli, tmp_path, monkeypatch, more):
    work = tmp_path / 'moved'
    shutil.copytree(finished_run, work)
    for path in work.glob('*.py'):
        path.unlink()
    record = json.loads((work / 'run.json').read_text())
    record['config_file'] = 'gone/config.py'
    (work / 'run.json').write_text(json.dumps(record))
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    run_cli('report', '../moved', '--out', 'page', '--size', '32x64', *more).check()
    assert (tmp_path / 'elsewhere/page/index.html').is_file()


def test_a_key_that_is_nearly_one_of_the_runner_is_told(tiny_config_file, tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(load, 'print_log', lambda text, **_: texts.append(text))
    helpers = 'schedule = 1\nmodels = 2\ncrop_size = 256\ndata_root = 1\ntrain_pipeline = []\nimg_scale = 2'
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = ['{tiny_config_file}']\n{helpers}\ntrain_dataloder = dict(batch_size=2)")
    load_config(str(path))
    assert [text.partition('Did')[2] for text in texts] == [' you mean `train_dataloader`?']
