"""Curves of runs, gradients of tasks, depth bins, similarity and probability of classes: what tools and a training draw."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_plugins.apis.train import train
from mtl_plugins.engine.pictures import draw_class_maps
from mtl_plugins.engine.runner import MultiTaskRunner
from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.analysis.task_affinity import ALL, config_of_run, describe_groups, gradient_products
from mtl_plugins.models.utils.weights import load_pretrained
from mtl_plugins.records.metrics_file import read_metrics
from mtl_plugins.registry import MODELS
from mtl_plugins.visualization.prediction_grid import render_class_maps
from tests.fake_miniscapes import LABELS
from tests.tiny import CONFIGS, tiny_config
from tests.tools.conftest import save_tiny

METRIC = 'metrics_summary/semseg'


@pytest.fixture
def runs(tmp_path):
    """Two work dirs: one that rises, and one whose second validation has no value."""
    for name, values in {'slow': (10.0, 30.0, 20.0), 'fast': (40.0, '', 50.0)}.items():
        (tmp_path / name).mkdir()
        rows = [f'{epoch},{100 * epoch},{value}' for epoch, value in enumerate(values, 1)]
        (tmp_path / name / 'metrics.csv').write_text('\n'.join([f'epoch,iter,{METRIC}', *rows]) + '\n')
    return tmp_path / 'slow', tmp_path / 'fast'


@pytest.mark.parametrize(
    ('arguments', 'slow', 'fast'),
    [
        ((), ['slow', '3', '20.00', '30.00', '200'], ['fast', '2', '50.00', '50.00', '100']),
        (('--lower-is-better', '--names', 'a', 'b'), ['a', '3', '20.00', '10.00', '100'], ['b', '2', '50.00', '40.00', 'never']),
    ],
)
def test_the_table_says_when_a_value_is_reached(run_cli, runs, arguments, slow, fast):
    result = run_cli('analysis_tools/plot_metrics', *runs, '--metric', 'mIoU', '--reach', '25', *arguments).check()
    rows = [line.split() for line in result.out.splitlines()]
    assert slow in rows and fast in rows


def test_runs_of_one_name_share_a_colour(run_cli, runs, tmp_path):
    coloured = {}
    for names in (('one', 'two'), ('one', 'one')):
        out = tmp_path / f'{"-".join(names)}.png'
        run_cli('analysis_tools/plot_metrics', *runs, '--metric', METRIC, '--out', out, '--names', *names).check()
        pixels = np.asarray(Image.open(out).convert('RGB')).reshape(-1, 3)
        coloured[names] = [(pixels == colour).all(1).any() for colour in ((0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00))]
    assert coloured == {('one', 'two'): [True, True], ('one', 'one'): [True, False]}


def test_metrics_of_a_run_share_a_picture(run_cli, runs):
    path = runs[0] / 'metrics.csv'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([f'{lines[0]},train/{METRIC}', *(f'{line},{50 + k}' for k, line in enumerate(lines[1:]))]) + '\n')
    result = run_cli('analysis_tools/plot_metrics', runs[0], '--metric', METRIC, '--metric', f'train/{METRIC}').check()
    rows = [line.split() for line in result.out.splitlines()]
    assert ['slow:', METRIC, '3', '20.00', '30.00'] in rows and ['slow:', f'train/{METRIC}', '3', '52.00', '52.00'] in rows


def test_curves_over_epochs_and_hours_and_of_what_the_training_logs(run_cli, finished_run, tmp_path):
    run, metric = shutil.copytree(finished_run, tmp_path / 'tiny_seed0'), 'metrics_summary/depth'
    for axis, name in (('epoch', metric), ('hours', metric), ('epoch', 'loss')):
        out = tmp_path / f'{axis}-{name[:4]}.png'
        result = run_cli('analysis_tools/plot_metrics', run, run, '--metric', name, '--x', axis, '--out', out).check()
        # The name without its seed.
        assert ' tiny ' in result.out and out.exists()
    best = min(float(row[metric]) for row in read_metrics(run / 'metrics.csv'))
    assert f'{best:.2f}' in run_cli('analysis_tools/plot_metrics', run, '--metric', metric).out


def test_a_value_that_is_no_number_is_named(run_cli, runs):
    (runs[0] / 'metrics.csv').write_text(f'epoch,iter,{METRIC}\n1,100,high\n')
    run_cli('analysis_tools/plot_metrics', runs[0], '--metric', METRIC).check_refused('high')


# The gradients of two losses that are linear in their parameters: parallel, opposed, perpendicular.
SLOPES = {
    'encoder.low.weight': ([1.0, 0.0], [3.0, 0.0]),
    'encoder.high.weight': ([0.0, 2.0], [0.0, -1.0]),
    'neck.weight': ([1.0, 1.0], [1.0, -1.0]),
}


PARAMETERS = {name: torch.ones(2, requires_grad=True) for name in (*SLOPES, 'head.weight')}


def products(scale=1.0, of_b=1.0):
    """Of the gradients of both losses, of which the first has a parameter of its own."""
    a, b = (scale * sum(torch.tensor(slopes[task]) @ PARAMETERS[name] for name, slopes in SLOPES.items()) for task in (0, 1))
    return gradient_products(dict(a=a + PARAMETERS['head.weight'].sum(), b=of_b * b), list(PARAMETERS.items()))


def test_cosines_and_ratios_are_those_of_known_gradients():
    batches = [products(scale) for scale in (1.0, 3.0)]
    assert list(batches[0]) == list(SLOPES)
    groups = describe_groups(batches, ['a', 'b'], level=1)
    assert list(groups) == ['encoder', 'neck', ALL] and groups['encoder']['tensors'] == 2
    layers = describe_groups(batches, ['a', 'b'], level=2)
    expected = {'encoder.low': (1, 1 / 3, 0), 'encoder.high': (-1, 2, 1), 'neck': (0, 1, 0)}
    for name, (cosine, ratio, conflicts) in expected.items():
        pair = layers[name]['pairs']['a-b']
        assert (pair['cosine'], pair['ratio'], pair['conflicts']) == pytest.approx((cosine, ratio, conflicts))
    # One after another, the slopes are (1, 0, 0, 2, 1, 1) and (3, 0, 0, -1, 1, -1).
    whole = groups[ALL]['pairs']['a-b']
    assert (whole['cosine'], whole['deviation']) == pytest.approx((1 / (7 * 12) ** 0.5, 0), abs=1e-6)
    assert groups[ALL]['norms'] == pytest.approx(dict(a=2 * 7**0.5, b=2 * 12**0.5))
    # Batches without a gradient have no cosine.
    silent = products(of_b=0)
    pair = describe_groups([silent], ['a', 'b'], 1)['neck']['pairs']['a-b']
    assert pair == dict(cosine=None, deviation=None, conflicts=None, ratio=None)
    opposed = {name: np.array([[1.0, -1.0], [-1.0, 1.0]]) for name in SLOPES}
    pair = describe_groups([silent, opposed], ['a', 'b'], 1)['neck']['pairs']['a-b']
    assert pair['cosine'] == -1 and pair['conflicts'] == 1


@pytest.fixture
def run(finished_run, tmp_path):
    folder = tmp_path / 'pcgrad_seed0'
    shutil.copytree(finished_run, folder)
    (log,) = folder.glob('*/vis_data/scalars.json')
    norms = {'balance/norm/semseg': 2.0, 'balance/norm/depth': 8.0}
    rows = [{'iter': number, 'balance/cosine/semseg-depth': -0.5 + 0.01 * number, **norms} for number in range(1, 101)]
    log.write_text('\n'.join(map(json.dumps, rows)) + '\n')
    return folder


def test_a_run_is_shown_over_training_and_by_layer(run_cli, run, tmp_path):
    out = tmp_path / 'out'
    result = run_cli('analysis_tools/task_affinity', run, '--batches', 1, '--out', out).check()
    document = json.loads((out / 'affinity.json').read_text())
    (curves,) = document['curves'].values()
    assert curves.keys() == {'cosine/semseg-depth', 'norm/semseg', 'norm/depth'}
    assert curves['cosine/semseg-depth']['values'][50] == pytest.approx(0.01)
    assert [path.rsplit('/', 1)[1] for path in document['checkpoints']] == ['epoch_1.pth', 'epoch_2.pth']
    pictures = [np.asarray(Image.open(out / f'affinity_{name}.png')) for name in ('over_training', 'by_layer')]
    assert all(picture.std() > 0 for picture in pictures)
    assert 'backbone.stages.0' in result.out and 'semseg-depth' in result.out

    # The gradient of the sum of the losses has the square a^2 + b^2 + 2 ab cos, tensor by tensor.
    config = config_of_run(run)
    model = MODELS.build(config.model)
    load_pretrained(model, run / 'epoch_2.pth')
    data = model.train().data_preprocessor(next(iter(MultiTaskRunner.build_dataloader(config.train_dataloader, seed=0))), True)
    losses = model.task_losses(model(**data, mode='loss'))
    sum(losses.values()).backward()
    groups = document['checkpoints'][str(run / 'epoch_2.pth')]['groups']
    for stage in (0, 4):
        group = groups[f'backbone.stages.{stage}']
        a, b = group['norms'].values()
        square = sum(p.grad.double().square().sum() for p in model.backbone.stages[stage].parameters())
        assert a**2 + b**2 + 2 * a * b * group['pairs']['semseg-depth']['cosine'] == pytest.approx(float(square), rel=1e-3)


def test_a_checkpoint_does_without_a_run_with_or_without_its_config(run_cli, finished_run, data_root, tmp_path):
    measured = []
    for model in ([finished_run / 'epoch_2.pth'], [finished_run.parent / 'tiny.py', finished_run / 'epoch_2.pth']):
        options = ['--data-root', data_root, '--batches', 1, '--level', 1, '--out', tmp_path]
        run_cli('analysis_tools/task_affinity', *model, *options).check()
        measured += json.loads((tmp_path / 'affinity.json').read_text())['checkpoints'].values()
    each, other = measured
    assert each == other and list(each['groups']) == ['backbone', 'decode_head', ALL]
    assert {path.name for path in tmp_path.glob('affinity_*')} == {'affinity_by_layer.png', 'affinity_by_layer.pdf'}


ADAPTIVE, FIXED, JOINT = (f'{name}_r18-d16_1xb16-32e_miniscapes-256x256' for name in ('adaptive_depth', 'fixed_bins', 'joint'))
(CROSS,) = CONFIGS.glob('*/transformer_multitask-cross_r18-d16_1xb16-32e_course2025-pretrained_miniscapes-256x256.py')


@pytest.mark.parametrize('kind', [ADAPTIVE, FIXED])
def test_samples_of_a_data_root_become_a_picture(run_cli, data_root, tmp_path, kind):
    out = tmp_path / 'bins.png'
    arguments = ('--data-root', data_root, '--indices', 2, 0, '--out', out)
    assert (
        '2 samples, 16 bins' in run_cli('analysis_tools/show_bins', *save_tiny(tmp_path, kind, data_root), *arguments).check().out
    )
    with Image.open(out) as picture:
        assert picture.format == 'PNG' and picture.width > 900 and len(picture.getcolors(2**24)) > 100


def test_image_files_become_a_jpeg_without_labels(run_cli, data_root, tmp_path):
    # An odd size is padded for the network and cropped again; a palette PNG is an image, too.
    image = tmp_path / 'image.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (45, 77), np.uint8)).convert('P').save(image)
    run_cli('analysis_tools/show_bins', *save_tiny(tmp_path, ADAPTIVE, data_root), image, '--out', tmp_path / 'bins.jpg').check()
    with Image.open(tmp_path / 'bins.jpg') as picture:
        assert picture.format == 'JPEG'


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


def test_the_tool_draws_classes(run_cli, data_root, tmp_path):
    image, out = tmp_path / 'image.png', tmp_path / 'classes.png'
    Image.fromarray(np.zeros((45, 77, 3), np.uint8)).save(image)
    arguments = ('analysis_tools/show_classes', *save_tiny(tmp_path, CROSS.stem, data_root), image, '--out', out, '--classes')
    run_cli(*arguments, 'road', 'car').check()
    with Image.open(out) as picture:
        assert picture.format == 'PNG' and picture.width == 4 + 3 * 244
    run_cli(*arguments, 'cheese').check_refused('Found cheese.')
