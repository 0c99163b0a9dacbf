"""Similarity and probability of each class: what the picture, the tool and a training draw."""

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.apis.train import train
from mtl_plugins.engine.pictures import draw_class_maps
from mtl_plugins.errors import ConfigError
from mtl_plugins.registry import MODELS
from mtl_plugins.visualization.prediction_grid import render_class_maps
from tests.fake_miniscapes import LABELS
from tests.tiny import CONFIGS, tiny_config
from tests.tools.photographs import save_weights

(CROSS,) = (CONFIGS / 'transformer_multitask').glob('transformer_multitask-cross_*_course2025-pretrained_*.py')


@pytest.fixture(scope='module')
def model(data_root, tmp_path_factory):
    torch.manual_seed(0)
    return MODELS.build(tiny_config(data_root, tmp_path_factory.mktemp('run'), CROSS).model).eval()


def test_brightness_is_the_similarity_on_one_scale_and_the_probability():
    logits = np.zeros((3, 20, 20), np.float32)
    logits[0], logits[1], logits[2, :, 10:] = 1.0, 3.0, 50.0
    picture = render_class_maps(np.zeros((20, 20, 3), np.uint8), logits, ['a', 'b', 'c'], [0, 1], tile_width=200)
    # Below the header, with margins of 4: the middle of the left and the right half of each tile.
    tiles = [[[picture[130 + 204 * row, 208 + 204 * column + x] for x in (50, 150)] for column in (0, 1)] for row in (0, 1)]
    dark, yellow = (68, 1, 84), (253, 231, 37)
    assert [[tuple(pixel) for pixel in tile] for tile in tiles[0]] == [[dark, dark], [yellow, yellow]]
    # Where the third class is certain, though it is not drawn, the others are not; elsewhere 3 is e^2 times as likely as 1.
    left, right = zip(*tiles[1], strict=True)
    assert all(tuple(pixel) == dark for pixel in right)
    assert left[0].astype(int).sum() < left[1].astype(int).sum()


def test_a_model_draws_its_logits(model):
    image = np.random.default_rng(0).integers(0, 255, (45, 77, 3), np.uint8)
    names = LABELS['semseg'].classes
    inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
    with torch.no_grad():
        logits = model(inputs)['semseg'][0, :, :45, :77].numpy()
    expected = render_class_maps(image, logits, names, [names.index('sky'), 0])
    np.testing.assert_array_equal(draw_class_maps(model, image, ['sky', names[0]]), expected)
    assert draw_class_maps(model, image).shape[1] == 4 + 20 * 244
    with pytest.raises(ConfigError, match=r'Classes should be among road, .* Found cheese\.'):
        draw_class_maps(model, image, ['road', 'cheese'])


def test_a_training_draws_them_on_a_validation_sample(data_root, tmp_path):
    overrides = dict(train_cfg__max_epochs=1, param_scheduler__0__end=1, submission__enabled=False)
    picture = dict(type='ClassMaps', classes=['road', 'sky'], samples=[1, 100])
    train(tiny_config(data_root, tmp_path, CROSS, default_hooks__pictures__classes=picture, **overrides))
    (path,) = tmp_path.glob('*/vis_data/vis_image/classes/*.png')
    assert path.stem.startswith('1_')
    with Image.open(path) as drawn:
        assert drawn.width == 4 + 3 * 244


def test_the_tool_writes_a_picture(run_cli, tmp_path):
    config = tmp_path / 'config.py'
    narrow = 'decode_head=dict(head=dict(channels=16, head=dict(channels=16, skip_channels=8)), task_heads=dict(depth=dict('
    narrow += 'channels=16, num_bins=16, head=dict(channels=16, skip_channels=8))))'
    config.write_text(
        f"_base_ = ['{CROSS}']\ncustom_imports = dict(imports=['tests.tiny'])\n"
        f"model = dict(backbone=dict(_delete_=True, type='TinyBackbone'), {narrow})\n"
    )
    checkpoint, image, out = save_weights(tmp_path / 'model.pth', config), tmp_path / 'image.png', tmp_path / 'classes.png'
    Image.fromarray(np.zeros((45, 77, 3), np.uint8)).save(image)
    arguments = ('analysis_tools/show_classes', config, checkpoint, image, '--out', out, '--classes')
    run_cli(*arguments, 'road', 'car').check()
    with Image.open(out) as picture:
        assert picture.format == 'PNG' and picture.width == 4 + 3 * 244
    run_cli(*arguments, 'cheese').check_refused('Found cheese.')
