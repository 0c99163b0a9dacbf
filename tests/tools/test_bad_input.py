"""Whatever is wrong with the input: one sentence on standard error, exit code 1, nothing half-written."""

import shutil
import sys

import pytest
from PIL import Image

from mtl_plugins.registry import RUNNERS
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint
from tests.fake_folders import write_fake_crops, write_fake_folders
from tests.tiny import CONFIGS, tiny_config
from tests.tools.conftest import save_tiny
from tests.tools.photographs import picture, save_checkpoint
from tests.tools.test_feature_tools import write_config
from tests.tools.test_inference import FOUR_TASKS


@pytest.fixture
def own_data(data_root, tmp_path):
    shutil.copytree(data_root, tmp_path / 'data')
    return tmp_path / 'data'


@pytest.fixture
def train(run_cli, tiny_config_file, tmp_path):
    """``train(data_root, words, arguments)`` is refused in a sentence with these words, and leaves no checkpoint."""

    def run(data_root, words, *arguments):
        result = run_cli('train', tiny_config_file, '--work-dir', tmp_path / 'run', '--data-root', data_root, *arguments)
        result.check_refused(*words)
        assert result.err.count('\n') == 1 and not list((tmp_path / 'run').glob('*.pth')), result.err

    return run


# PyTorch wraps the error of a worker process into a text with its whole traceback. Other damages: tests/datasets.
@pytest.mark.parametrize('options', [(), ('--cfg-options', 'train_dataloader.worker_type=process')])
def test_a_bad_file_is_named(own_data, train, options):
    path = own_data / 'train/rgb/3.jpg'
    path.write_bytes(path.read_bytes()[:-40])
    train(own_data, (str(path), 'truncated'), *options)


def test_a_missing_label_is_named(own_data, train):
    (own_data / 'train/depth/3.png').unlink()
    train(own_data, [str(own_data / 'train/depth/3.png')])


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_a_missing_or_empty_split_is_named_before_training_starts(own_data, train, split):
    shutil.rmtree(own_data / split)
    # Without a test split there is no submission: tests/datasets/test_own_folders.py.
    if split != 'test':
        train(own_data, [split])
    (own_data / split / 'rgb').mkdir(parents=True)
    train(own_data, [split])


def test_checkpoints_that_do_not_exist_or_fit(run_cli, tiny_config_file, data_root, tmp_path):
    head = dict(model__decode_head__head__num_convs=1, model__decode_head__head__channels=24)
    RUNNERS.build(tiny_config(data_root, tmp_path / 'trained', train_cfg__max_epochs=1, **head)).train()
    other = find_latest_checkpoint(tmp_path / 'trained')
    misfit = ('another architecture', 'missing (first: ', 'of another shape (first: ')
    for checkpoint, words in ((tmp_path / 'no.pth', ['does not exist']), (other, misfit)):
        for arguments in (
            ('test', tiny_config_file, checkpoint, '--work-dir', tmp_path / 'run'),
            ('train', tiny_config_file, '--work-dir', tmp_path / 'run', '--resume', checkpoint),
        ):
            result = run_cli(*arguments, '--data-root', data_root)
            result.check_refused(*words)


@pytest.mark.parametrize(
    ('tool', 'package', 'extra', 'arguments'),
    [
        ('report', 'plotly', 'report', ['work_dirs', '--out', 'out']),
        ('dashboard', 'jinja2', 'report', ['work_dirs']),
        ('sweep', 'optuna', 'sweep', ['sweeps/task_weights.py']),
        ('sweep', 'scipy', 'sweep', ['sweeps/ablation.py', '--report-only']),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(run_cli, monkeypatch, tool, package, extra, arguments):
    # As if nothing had imported it yet.
    gone = ('mtl_plugins.lab.', f'{package}.')
    modules = dict(sys.modules)
    for name in [name for name in modules if name.startswith(gone)]:
        monkeypatch.delitem(sys.modules, name)
        # An import sets the attribute of the package, too, which is this module again afterwards.
        package_name, _, attribute = name.rpartition('.')
        monkeypatch.setattr(modules[package_name], attribute, modules[name], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    run_cli(tool, *arguments).check_refused(f"error: This needs the package {package}. Install it: pip install -e '.[{extra}]'.")


@pytest.fixture(scope='session')
def folder(tmp_path_factory, data_root):
    """An image, the checkpoint of a model of four labels, a tiny model with bins, a config of DINO, and rooms."""
    folder = tmp_path_factory.mktemp('refused')
    Image.fromarray(picture((32, 48))).save(folder / 'photo.png')
    save_checkpoint(folder / 'four.pth', FOUR_TASKS)
    for path in save_tiny(folder, 'fixed_bins_r18-d16_1xb16-32e_miniscapes-256x256', data_root):
        path.rename(folder / f'bins{path.suffix}')
    write_config(folder / 'dino', write_fake_crops(folder, train=6, val=4))
    write_fake_folders(folder / 'rooms')
    return folder


MODEL, BINS = '{run}/tiny.py {run}/epoch_2.pth --data-root {data}', '{folder}/bins.py {folder}/bins.pth'
ANALYSE, TEST = f'analysis_tools/analyse_errors {MODEL} --out out', f'test {MODEL} --work-dir work --tta --cfg-options'
SHOW, INFER, PHOTO = 'analysis_tools/show_bins', 'inference --out out {folder}/four.pth', '{folder}/photo.png'
TRAIN = 'train {run}/../tiny.py --work-dir work --data-root {data} --cfg-options'
REFUSED = [
    ('train {run}/../tiny.py --work-dir work --data-root nowhere', 'nowhere', 'mtl data make'),
    (f'{TRAIN} model.decode_head.head.chanels=8', 'DeepLabV3PlusHead', '`channels`'),
    (f'{TRAIN} train_dataloader.dataset.pipeline.1.crop=8', 'RandomHomography', '`crop_size`'),
    (f'{TRAIN} optim_wrapper.optimizer.learning_rate=1', 'Adam', ' lr,'),
    (f'{TRAIN} trian_cfg.max_epochs=1', '`train_cfg`'),
    (f'{TRAIN} train_dataloader.dataset.pipeline.9.crop_size=8', 'list of 3 items'),
    (f'{TRAIN} max_epochs', 'KEY=VALUE'),
    (f'{TRAIN} model.backbone.type=TinyBackbon', 'TinyBackbon'),
    (f'{TRAIN} train_dataloader.dataset.pipeline.1.crop_size=-3', 'crop_size', '-3'),
    (f'{TRAIN} train_dataloader.batch_size=abc', '`batch_size`', "'abc'"),
    (f'{TRAIN} train_dataloader.batch_size=0', '`batch_size`', 'Found 0'),
    (f'{TRAIN} val_dataloader.batch_size=0', '`batch_size`', 'Found 0'),
    (f'{TRAIN} train_dataloader.worker_type=fiber', '`worker_type` should be one of', "'fiber'"),
    (f'{TRAIN} train_dataloader.num_workers=-2', '`num_workers`', '-2'),
    (f'{TRAIN} train_dataloader.batch_size=9', '`batch_size` should be at most 8', 'Found 9'),
    (f'{TRAIN} train_cfg.max_epochs=0', '`train_cfg.max_epochs`', 'Found 0'),
    (f'{TRAIN} optim_wrapper.optimizer.lr=-1', '`optim_wrapper.optimizer`', 'lr=-1', 'Invalid learning rate'),
    (f'{TRAIN} model.tasks.semseg.num_classes=7', '`model.tasks.semseg.num_classes` should be 19', 'Found 7'),
    (f'{TRAIN} model.decode_head.head.rates=[0,0,0]', '`rates`', '(0, 0, 0)'),
    (f'{TRAIN} model.decode_head.head.num_convs=abc', '`model.decode_head.head`', "num_convs='abc'", 'TypeError'),
    (f'{TRAIN} param_scheduler.0.end=-1', '`param_scheduler.0`', 'end=-1'),
    (f'{TRAIN} val_evaluator.tasks=[flow]', "'flow'"),
    (f'{ANALYSE} --split test', "'test'", 'has none of the labels', 'semseg, depth'),
    (f'{ANALYSE} --by mIuO', '`--by`', 'error/depth', 'Found mIuO'),
    (f'{ANALYSE} --labels flow', 'have the labels semseg, depth', 'Found flow'),
    ('analysis_tools/compare_models a.py a.pth', 'give at least two models'),
    ('analysis_tools/compare_models a.py a.pth b.py b.pth --names x x', '--names should name each'),
    ('analysis_tools/benchmark', 'benchmark'),
    ('analysis_tools/benchmark eval --repeats 0', 'at least 1'),
    ('analysis_tools/benchmark eval --compile', '--compile has no effect'),
    ('analysis_tools/benchmark eval --device tpu', '--device', 'tpu'),
    (
        f'analysis_tools/model_table {CONFIGS}/_base_/schedules/schedule_adam_32e.py --skip-speed --out-dir out',
        'schedule_adam_32e.py should have a `model`.',
    ),
    ('analysis_tools/model_table --stored {run}/run.json', 'run.json', 'should be a model_table.json', "Found the keys ['"),
    ('analysis_tools/model_table --stored nowhere.json', "'nowhere.json' cannot be read"),
    ('analysis_tools/model_table --stored x.json --size 128', '--size has no effect with --stored'),
    ('analysis_tools/benchmark eval --json no/such/folder/out.json', '--json', 'no/such/folder'),
    ('analysis_tools/plot_metrics {run} --metric mIuO', 'metrics_summary/semseg', 'Found mIuO'),
    ('analysis_tools/plot_metrics {run} {run} --metric loss --names one', 'each of the 2 runs'),
    ('analysis_tools/plot_metrics {run} --metric loss --out curves.svg', '.png', 'curves.svg'),
    ('analysis_tools/plot_metrics nowhere --metric loss', 'nowhere/metrics.csv'),
    ('analysis_tools/evaluate_features {folder}/dino/config.py none.pth', 'none.pth'),
    ('analysis_tools/evaluate_features {folder}/dino/config.py --num-val -1', '--num-val', 'Found -1'),
    ('analysis_tools/evaluate_features {run}/tiny.py --data-config {run}/tiny.py', '--image-size'),
    ('analysis_tools/evaluate_features {folder}/dino/config.py --device gpu', '--device', 'Found gpu'),
    ('analysis_tools/nearest_neighbors {folder}/dino/config.py --out x.png --indices 12', '--indices', '0..11', 'Found 12'),
    (f'{SHOW} {MODEL} --out out.png', 'bins', 'AdaptiveDepthHead', 'JointHead'),
    (f'{SHOW} {BINS} --data-root {{data}} --indices 3 --out out.png', '--indices', '0..2', 'Found 3'),
    (f'{SHOW} {BINS} no_such_image.jpg --out out.png', 'no_such_image.jpg', 'does not exist'),
    (f'{SHOW} {BINS} {{run}}/tiny.py --out out.png', 'tiny.py', 'should be a JPEG'),
    (f'{SHOW} {BINS} --out out.png', 'give either images or --data-root'),
    (f'{SHOW} {BINS} a.jpg --data-root d --out out.png', 'either'),
    (f'{SHOW} {BINS} a.jpg --out x.gif', '.png'),
    ('analysis_tools/task_affinity .', '*.pth'),
    ('analysis_tools/task_affinity {run}/tiny.py', 'checkpoint'),
    ('report . --out out', 'is no work dir with run.json'),
    ('report {run} --names one two --out out', '`--names` should name each of the 1 row', 'Found 2.'),
    ('report {run} --data-root nowhere --out out', 'does not exist: give --data-root, or --no-predictions'),
    (
        'dataset_tools/convert_dataset folders {folder}/rooms out --labels semseg --depth-range 1 5',
        '`depth_range` should be left out where no label has it.',
    ),
    ('dataset_tools/convert_dataset folders {data} out --splits =test', 'a split is NAME'),
    ('dataset_tools/convert_dataset folders {data} out --splits a/b', 'a split is NAME'),
    ('dataset_tools/convert_dataset folders {data} out --splits val val=test', 'should be different names'),
    ('train mmseg::segformer/nothing.py', 'There is no config mmseg::segformer/nothing.py in the installed mmseg'),
    (
        'train mmseg::pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py --data-root {data} --work-dir work',
        'should learn from label maps alone. Found PIDHead',
    ),
    ('train {run}/tiny.py --data-root {data} --work-dir work --launcher pytorch', 'torchrun', 'RANK'),
    (f'{TEST} tta_model.scale=[1.0]', 'MultiTaskTTAModel', '`scales`'),
    (f'{TEST} test_cfg.type=TestLoop', '`--tta`', 'InferenceTestLoop', 'TestLoop'),
    (f'{TEST} tta_model=None', '`--tta`', 'default_runtime.py'),
    (f'{INFER} no/such/folder', "'no/such/folder' does not exist"),
    (f'{INFER} none*.jpg', 'No file fits'),
    (f'{INFER} {PHOTO} --tile 100', '`tile` should be a multiple of 32', 'Found 100'),
    (f'{INFER} {PHOTO} --overlap 32', '`overlap` should be given with `tile`'),
    (f'{INFER} {PHOTO} --max-batch-megapixels 0.009 --tile 96', '`tile` should be smaller'),
    (f'{INFER} {PHOTO} --tile 128 --overlap 96', '`overlap` should be', 'Found 96, tile 128'),
    (f'{INFER} {PHOTO} --device cuda:77', '`device` should be one', "'cuda:77'"),
    (f'{INFER} {PHOTO} --batch-size 0', '`batch_size` should be at least 1'),
    (f'{INFER} {PHOTO} --fov 180 --save points', 'between 0 and 180 degrees'),
    (f'{INFER} {PHOTO} --intrinsics 0 1 1 1 --save points', '`intrinsics` should be finite'),
    (f'{INFER} {PHOTO} --tta --probabilities --save npy', '`probabilities` should be False'),
    (f'{INFER} camera:99', 'The camera 99 cannot be opened'),
    ('runs list nowhere', 'nowhere', 'does not exist'),
    ('runs list {run} --where lr?', 'KEY OP VALUE'),
    ('runs list {run} --sort optim_wrapper.optimizer.lt', 'optim_wrapper.optimizer.lr'),
    ('runs list {run} --watch', 'terminal'),
    ('runs show .', 'no work dir'),
    ('runs note . text', 'run.json', 'does not exist'),
    ('runs note {run} --graded {run}/run.json', 'grade_submission.py'),
    ('runs export {run} --out table.pdf', '.tex', 'table.pdf'),
]


@pytest.mark.parametrize('case', REFUSED, ids=lambda case: case[0])
def test_what_cannot_be_done_leaves_no_file(run_cli, folder, finished_run, data_root, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    command, *words = case
    result = run_cli(*(word.format(folder=folder, run=finished_run, data=data_root) for word in command.split()))
    if result.code == 2:
        assert 'usage: ' in result.err and all(word in result.err for word in words)
    else:
        result.check_refused(*words)
    files = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert not [path for path in files if 'work' not in path.parts or path.suffix == '.pth']
