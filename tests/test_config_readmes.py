"""What the README files below configs/ say about the configs is so."""

import re

import pytest
import torch

from mtl_plugins.config.load import load_config
from mtl_plugins.registry import MODELS
from tests.tiny import ROOT

CONFIGS = ROOT / 'configs'
FOLDERS = sorted(path.parent for path in CONFIGS.glob('[!_]*/README.md'))
README = (CONFIGS / 'README.md').read_text()
EXAMPLES = re.findall(r'```python\n(.*?)```', README, re.DOTALL)


def build_without_memory(path) -> torch.nn.Module:
    model = load_config(str(path)).model
    # Transformers of mmseg read values of tensors while they are built.
    with torch.device('cpu' if model.get('backbone', {}).get('type') == 'mmseg.MixVisionTransformer' else 'meta'):
        return MODELS.build(model)


def test_every_folder_is_in_the_table_and_has_a_readme():
    folders = {path.parent for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts}
    assert folders == set(FOLDERS)
    assert not [folder.name for folder in folders if f'| [`{folder.name}`]({folder.name}/README.md) |' not in README]


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_a_readme_lists_its_configs_with_their_parameters(folder):
    rows = re.findall(r'^\| `(\S+\.py)` \| .* \| ([\d,]+) \|$', (folder / 'README.md').read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(path.name for path in folder.glob('*.py'))
    for name, stated in rows:
        # The trained ones: of DINO, the student's.
        counted = sum(item.numel() for item in build_without_memory(folder / name).parameters() if item.requires_grad)
        assert (name, stated) == (name, f'{counted:,}')


def test_the_ladder_names_configs_of_its_optimizer_and_epochs():
    rows = (CONFIGS / 'baseline/README.md').read_text().split('| step |')[1].split('\n\n')[0].splitlines()[2:]
    assert len(rows) == 10
    for row in rows:
        step, cell, *figures = [item.strip() for item in row.strip('|').split('|')]
        (path,) = CONFIGS.rglob(re.search(r'`(\S+\.py)`', cell)[1])
        config = load_config(str(path))
        assert config.optim_wrapper.optimizer.type == step.split(',')[0]
        assert (config.model.backbone.depth, config.train_dataloader.batch_size) == (34, 4)
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
