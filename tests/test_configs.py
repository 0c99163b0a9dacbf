"""Every config builds a model that trains and predicts."""

from pathlib import Path

import pytest
import torch

from mtl_plugins.registry import MODELS
from mtl_plugins.utils.config import load_config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
LEAVES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)


def test_the_configs_are_found():
    assert len(LEAVES) >= 4


@pytest.fixture
def build():
    """A config's model, narrow."""

    def build(path):
        config = load_config(str(path), {'model.decode_head.head.channels': 32})
        torch.manual_seed(0)
        return MODELS.build(config.model)

    return build


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_a_config_follows_the_name_grammar_and_has_a_readme(path):
    system, backbone, schedule, *_ = path.stem.split('_')
    config = load_config(str(path))
    assert (path.parent / 'README.md').is_file()
    assert path.parent.name in (system, 'quickstart')
    depth, stride = backbone.removeprefix('r').split('-d')
    assert (config.model.backbone.depth, config.model.backbone.output_stride) == (int(depth), int(stride))
    assert schedule.startswith(f'1xb{config.train_dataloader.batch_size}-')
    length = schedule.split('-')[1]
    epochs, iterations = config.train_cfg.get('max_epochs'), config.train_cfg.get('max_iters')
    assert length == (f'{epochs}e' if epochs else f'{iterations // 1000}k')
    assert config.param_scheduler[0].end == (epochs or iterations)
    lines = path.read_text().splitlines()
    assert lines[0].startswith('# ') and lines[1].startswith(f'# python tools/train.py configs/{path.relative_to(CONFIGS)}')


@pytest.mark.parametrize('path', LEAVES, ids=lambda path: path.stem)
def test_a_config_trains_every_parameter_and_predicts_at_the_size_of_the_image(path, build):
    model = build(path)
    batch = dict(
        inputs=torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8),
        targets=dict(
            semseg=torch.randint(0, 19, (2, 64, 64), dtype=torch.uint8),
            depth=torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8),
        ),
        sample_idx=torch.arange(2),
    )
    total, logged = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    total.backward()
    assert {'loss', 'semseg/loss_ce', 'depth/loss_silog'} <= logged.keys()
    assert all(torch.isfinite(value) for value in logged.values())
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]

    model.eval()
    images = torch.randn(2, 3, 97, 131)
    with torch.no_grad():
        both, first = model(images), model(images[:1])
        arrays = model.predict_arrays(images)
    assert both['semseg'].shape == (2, 19, 97, 131) and both['depth'].shape == (2, 1, 97, 131)
    for task, output in first.items():
        torch.testing.assert_close(both[task][:1], output, rtol=1e-4, atol=1e-4)
    assert arrays['semseg'].dtype == torch.uint8 and arrays['semseg'].shape == (2, 97, 131)
    assert (arrays['depth'] > 0).all()
