"""Depth bins of an image, similarity and probability of each class: what the tools, a model and a training draw."""

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
from tests.tools.conftest import save_tiny

ADAPTIVE, FIXED, JOINT = (f'{name}_r18-d16_1xb16-32e_miniscapes-256x256' for name in ('adaptive_depth', 'fixed_bins', 'joint'))
(CROSS,) = CONFIGS.glob('*/transformer_multitask-cross_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py')


@pytest.fixture
def trained(data_root, tmp_path):
    """``trained(name)`` gives a config file, tiny, and a checkpoint."""
    return lambda name: save_tiny(tmp_path, name, data_root)


@pytest.mark.parametrize('kind', [ADAPTIVE, FIXED])
def test_samples_of_a_data_root_become_a_picture(run_cli, trained, data_root, tmp_path, kind):
    out = tmp_path / 'bins.png'
    arguments = ('--data-root', data_root, '--indices', 2, 0, '--out', out)
    assert '2 samples, 16 bins' in run_cli('analysis_tools/show_bins', *trained(kind), *arguments).check().out
    with Image.open(out) as picture:
        assert picture.format == 'PNG' and picture.width > 900 and len(picture.getcolors(2**24)) > 100


def test_image_files_become_a_jpeg_without_labels(run_cli, trained, tmp_path):
    # An odd size is padded for the network and cropped again; a palette PNG is an image, too.
    image = tmp_path / 'image.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (45, 77), np.uint8)).convert('P').save(image)
    run_cli('analysis_tools/show_bins', *trained(ADAPTIVE), image, '--out', tmp_path / 'bins.jpg').check()
    with Image.open(tmp_path / 'bins.jpg') as picture:
        assert picture.format == 'JPEG'


@pytest.mark.parametrize(
    ('kind', 'arguments', 'words'),
    [
        (JOINT, ['--data-root', '{data_root}'], ['bins', 'AdaptiveDepthHead', 'JointHead']),
        (FIXED, ['--data-root', '{data_root}', '--indices', '3'], ['--indices', '0..2', 'Found 3']),
        (FIXED, ['no_such_image.jpg'], ['no_such_image.jpg', 'does not exist']),
        (FIXED, [__file__], ['test_show.py', 'should be a JPEG']),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(run_cli, trained, data_root, tmp_path, kind, arguments, words):
    arguments = [argument.format(data_root=data_root) for argument in arguments]
    run_cli('analysis_tools/show_bins', *trained(kind), *arguments, '--out', tmp_path / 'bins.png').check_refused(*words)
    assert not (tmp_path / 'bins.png').exists()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [([], 'give either images or --data-root'), (['a.jpg', '--data-root', 'd'], 'either'), (['a.jpg', '--out', 'x.gif'], '.png')],
)
def test_wrong_arguments_are_refused(run_cli, arguments, words):
    result = run_cli('analysis_tools/show_bins', 'config.py', 'checkpoint.pth', '--out', 'x.png', *arguments)
    assert result.code == 2 and words in result.err


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


def test_a_model_draws_its_logits(data_root, tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(tiny_config(data_root, tmp_path, CROSS).model).eval()
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


def test_the_tool_draws_classes(run_cli, trained, tmp_path):
    image, out = tmp_path / 'image.png', tmp_path / 'classes.png'
    Image.fromarray(np.zeros((45, 77, 3), np.uint8)).save(image)
    arguments = ('analysis_tools/show_classes', *trained(CROSS.stem), image, '--out', out, '--classes')
    run_cli(*arguments, 'road', 'car').check()
    with Image.open(out) as picture:
        assert picture.format == 'PNG' and picture.width == 4 + 3 * 244
    run_cli(*arguments, 'cheese').check_refused('Found cheese.')
