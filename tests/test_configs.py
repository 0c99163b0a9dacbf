"""Every config follows one grammar and builds a model that trains and predicts; the README files are true."""

import copy
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from yapf.yapflib import yapf_api

from mtl_plugins.config.load import load_config
from mtl_plugins.engine.runner import RunConfig
from mtl_plugins.models.decode_heads.bins_depth_heads import BinsDepthHead
from mtl_plugins.registry import MODELS
from tests.tiny import CONFIGS, EPOCH_CONFIG, shrink_head

LEAVES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
FOLDERS = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_')
# Their models are none of dense tasks, and have tests of their own.
OTHERS = ('class_attention', 'dino', 'mmseg')
DENSE = [path for path in LEAVES if path.parent.name not in OTHERS]
MINISCAPES = [path for path in DENSE if re.search('_(miniscapes|synthetic)-[0-9]', path.stem)]
README = (CONFIGS / 'README.md').read_text()
EXAMPLES = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
BEST = dict(semseg='greater', depth='less', multitask='greater')
GRAMMAR = re.compile(
    r'(?P<backbone>[a-z][a-z0-9-]*)-d(?P<stride>\d+)_1xb(?P<batch>\d+)-(?P<length>\d+[ek])'
    r'(?:_(?P<change>[a-z0-9-]+))?_(?P<dataset>[a-z][a-z0-9]*(?:-[a-z]+)*)-(?P<crop>\d+x\d+)'
)


def each_of(leaves):
    return pytest.mark.parametrize('path', leaves, ids=lambda path: f'{path.parent.name}/{path.stem}')


@cache
def load(path):
    return load_config(str(path))


def narrow(path) -> dict:
    """Return the model of a config as a config, narrow, on the shallowest ResNet and without pretrained weights."""
    model = load(path).model
    # Blocks that start as the identity give their first convolutions no gradient.
    backbone = {key: value for key, value in model.backbone.items() if key not in ('init_cfg', 'zero_init_residual')}
    if backbone['type'] == 'DilatedResNet':
        backbone['depth'] = 18
    if 'squeeze_excitation' in backbone:
        backbone['squeeze_excitation'] = 4  # All of its few hidden channels may be negative.
    options = shrink_head(model.decode_head, 'model.decode_head', channels=32)
    return {**load_config(str(path), options).model, 'backbone': backbone}


def test_every_folder_holds_configs():
    assert len(LEAVES) >= 39
    assert sorted({path.parent.name for path in LEAVES}) == FOLDERS
    systems = {'baseline', 'deeplabv3plus', 'joint', 'branched', 'distilled', 'fixed_bins', 'adaptive_depth'}
    assert systems | {'transformer_multitask'} <= {path.parent.name for path in MINISCAPES}
    assert {path.parent.name for path in DENSE} | set(OTHERS) == set(FOLDERS)
    assert not [name for name in FOLDERS if f'| [`{name}`]({name}/README.md) |' not in README]
    # Two configs must not differ by their folder alone: a run is named after the file.
    assert len({path.stem for path in LEAVES}) == len(LEAVES)


@each_of(LEAVES)
def test_the_name_of_a_config_says_what_is_in_it(path):
    config = load(path)
    folder = path.parent.name
    # The least config of all is a system's, beside the others for who comes first.
    systems = [system for system in FOLDERS if re.match(f'{system}[-_]', path.stem)]
    assert systems == ([folder] if folder != 'quickstart' else ['joint'])
    match = GRAMMAR.fullmatch(re.sub(rf'^{systems[0]}(-[a-z0-9-]+)?_', '', path.stem))
    assert match, 'system_backbone-stride_gpus-batch-length_change_dataset-crop'

    # Whole models of mmseg have theirs within.
    backbone = config.model.get('backbone') or config.model.segmentor.backbone
    if folder == 'mmseg' or backbone.type == 'DilatedResNet':
        assert match['backbone'] == f'r{backbone.depth}'
    elif backbone.type == 'mmseg.MixVisionTransformer':
        assert (match['backbone'], backbone.embed_dims, backbone.num_layers) == ('mit-b0', 32, [2, 2, 2, 2])
    else:
        assert backbone.name.replace('_', '-').startswith(match['backbone'])
    stride = int(match['stride'])
    assert backbone.get('output_stride') in (stride, None)
    if path in DENSE:
        assert config.model.data_preprocessor.size_divisor % stride == 0
    assert config.train_dataloader.batch_size == int(match['batch'])
    epochs, iterations = config.train_cfg.get('max_epochs'), config.train_cfg.get('max_iters')
    assert match['length'] == (f'{epochs}e' if epochs else f'{iterations // 1000}k')
    assert config.param_scheduler[-1].end == (epochs or iterations)
    # A second stage starts from the last checkpoint of a config's default work directory.
    if start := config.load_from:
        first = load(path.parent / f'{Path(start).parent.name}.py')
        assert start == f'work_dirs/{Path(start).parent.name}/epoch_{first.train_cfg.max_epochs}.pth'
    # Metres of scaled views are compensated where the training divides them by the zoom.
    steps = config.train_dataloader.dataset.get('pipeline', ())
    compensated = any(step.get('rescale_depth') for step in steps)
    assert config.get('tta_model', {}).get('scale_compensation', False) == compensated
    if path in MINISCAPES:
        (crop,) = (step.crop_size for step in config.train_dataloader.dataset.pipeline if step.type == 'RandomHomography')
        assert match['crop'] == '{}x{}'.format(*((crop, crop) if isinstance(crop, int) else crop))


@each_of(LEAVES)
def test_a_config_is_a_header_and_a_difference(path):
    title, command, *rest = path.read_text().splitlines()
    assert title.startswith('# ') and command.startswith(f'# python tools/train.py configs/{path.relative_to(CONFIGS)}')
    assert len(rest) <= 17 and not rest[0].startswith('#')


@each_of(MINISCAPES)
def test_a_config_reads_and_judges_what_it_trains(path):
    config = load(path)
    tasks = list(config.model.tasks)
    assert list(config.val_evaluator.tasks) == tasks
    for split in ('train', 'val', 'test'):
        read = config[f'{split}_dataloader'].dataset.get('tasks')
        assert (read or ['semseg', 'depth']) == tasks
    assert list(config.model.get('task_balancing', dict(weights=tasks))['weights']) == tasks
    best = tasks[0] if len(tasks) == 1 else 'multitask'
    hook = config.default_hooks.checkpoint
    assert (hook.save_best, hook.rule) == (f'metrics_summary/{best}', BEST[best])


@pytest.mark.parametrize('folder', sorted({path.parent.name for path in DENSE}))
def test_a_config_trains_every_parameter_and_predicts_at_the_size_of_the_image(folder):
    # Many configs differ in their schedule or initial weights only.
    for path in {str(narrow(path)): path for path in DENSE if path.parent.name == folder}.values():
        check_model(path)


def check_model(path):
    torch.manual_seed(0)
    model = MODELS.build(narrow(path))
    for weight in model.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight)  # A layer that starts at 0 gives the one before no gradient.
    channels = {name: task.out_channels for name, task in model.tasks.items()}
    stride = model.backbone_order.strides[-1] if model.backbone_order else model.backbone.output_stride
    assert stride == int(re.search(r'-d(\d+)_', path.stem)[1])
    values = dict(semseg=(0, channels.get('semseg')), depth=(0, 256), normals=(1, 256), boundary=(0, 2))
    sizes = {task: (2, 64, 64, 3) if task == 'normals' else (2, 64, 64) for task in channels}
    batch = dict(
        inputs=torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8),
        targets={task: torch.randint(*values[task], size, dtype=torch.uint8) for task, size in sizes.items()},
        sample_idx=torch.arange(2),
    )
    total, logged = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    total.backward()
    assert {'loss', *(f'{name}/{task.loss_name}' for name, task in model.tasks.items())} <= logged.keys()
    assert all(torch.isfinite(value) for value in logged.values())
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]
    assert not [name for name, gradient in gradients.items() if gradient.ndim > 1 and not gradient.any()]

    model.eval()
    images = torch.randn(2, 3, 97, 131)
    with torch.no_grad():
        both, first = model(images), model(images[:1])
        arrays = model.predict_arrays(images)
    assert {task: output.shape for task, output in both.items()} == {task: (2, k, 97, 131) for task, k in channels.items()}
    for task, output in first.items():
        torch.testing.assert_close(both[task][:1], output, rtol=1e-4, atol=1e-4)
    assert all(maps.shape == ((2, 3, 97, 131) if task == 'normals' else (2, 97, 131)) for task, maps in arrays.items())
    if 'semseg' in channels:
        assert arrays['semseg'].dtype == torch.uint8 and arrays['semseg'].max() < channels['semseg']
    if 'depth' in channels:
        nearest, farthest = model.tasks['depth'].depth_range
        for head in model.modules():
            if isinstance(head, BinsDepthHead):
                nearest, farthest = head.scale.depth_range
        assert arrays['depth'].dtype == torch.float32
        assert arrays['depth'].min() >= nearest * (1 - 1e-5) > 0 and arrays['depth'].max() <= farthest * (1 + 1e-5)


@pytest.mark.parametrize('name', FOLDERS)
def test_a_readme_lists_its_configs_with_their_parameters(name):
    folder = CONFIGS / name
    rows = re.findall(r'^\| `(\S+\.py)` \| .* \| ([\d,]+) \|$', (folder / 'README.md').read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(path.name for path in folder.glob('*.py'))
    for name, stated in rows:
        model = load(folder / name).model
        # Transformers of mmseg read values of tensors while they are built.
        with torch.device('cpu' if model.get('backbone', {}).get('type') == 'mmseg.MixVisionTransformer' else 'meta'):
            built = MODELS.build(model)
        # The trained ones: of DINO, the student's.
        counted = sum(item.numel() for item in built.parameters() if item.requires_grad)
        assert (name, stated) == (name, f'{counted:,}')


def test_the_ladder_names_configs_of_its_optimizer_and_epochs():
    rows = (CONFIGS / 'baseline/README.md').read_text().split('| step |')[1].split('\n\n')[0].splitlines()[2:]
    assert len(rows) == 10
    for row in rows:
        step, cell, *figures = [item.strip() for item in row.strip('|').split('|')]
        optimizer, *parts = step.split(', ')
        (path,) = CONFIGS.rglob(re.search(r'`(\S+\.py)`', cell)[1])
        config = load(path)
        assert config.optim_wrapper.optimizer.type == optimizer
        assert f'{config.train_cfg.max_epochs} epochs' in parts
        assert (config.model.backbone.depth, config.train_dataloader.batch_size) == (34, 4)
        assert (config.model.backbone.output_stride == 32) == ('ImageNet weights' in parts or parts == ['16 epochs'])
        assert ('init_cfg' in config.model.backbone) == (parts != ['16 epochs']) and config.model.backbone.zero_init_residual
        assert config.model.tasks.depth.loss == dict(type='DepthRegressionLoss', norm='l2', reduction='image')
        assert config.model.task_balancing.weights == dict(semseg=0.5, depth=0.5)
        assert len([float(figure) for figure in figures]) == 3


@pytest.mark.parametrize('number', range(len(EXAMPLES)))
def test_an_example_of_the_readme_predicts_its_tasks(number, tmp_path):
    path = tmp_path / 'example.py'
    path.write_text(EXAMPLES[number].replace("'../", f"'{CONFIGS}/"))
    model = MODELS.build(load_config(str(path)).model).eval()
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 96))
    channels = dict(semseg=19, depth=1)
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        task: (1, channels[task], 64, 96) for task in model.tasks
    }


@pytest.mark.parametrize('name', ['log', 'inverse'])
def test_the_statistics_of_a_config_are_those_that_the_readme_prints(name):
    path = CONFIGS / f'joint/joint_r18-d16_1xb16-32e_{name}-depth_miniscapes-256x256.py'
    mean, std = re.search(rf'depth, {name} +mean (\S+) +std (\S+)', README).groups()
    depth = load_config(str(path)).model.tasks.depth
    assert depth.representation == name and depth.statistics == dict(mean=float(mean), std=float(std))


def test_the_text_of_a_run_is_mmengines_and_formatted_once(monkeypatch):
    config = load_config(str(EPOCH_CONFIG))
    run = copy.deepcopy(RunConfig.of(config))
    assert run.pretty_text == config.pretty_text and len(run.pretty_text.splitlines()) > 100
    with monkeypatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', lambda *arguments, **options: pytest.fail('formatted again'))
        assert run.pretty_text
    run.train_dataloader.batch_size = 77
    assert 'batch_size=77' in run.pretty_text


def test_data_root_reaches_all_loaders_and_the_option_beats_the_variable(monkeypatch):
    monkeypatch.setenv('MTL_DATA_ROOT', 'from-variable')
    for given, expected in ((None, 'from-variable'), ('given', 'given')):
        config = load_config(str(EPOCH_CONFIG), data_root=given)
        loaders = (config.train_dataloader, config.val_dataloader, config.test_dataloader)
        assert {loader.dataset.data_root for loader in loaders} == {expected}
