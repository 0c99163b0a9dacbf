"""Pictures of predictions, errors, bins and costs mean what their legends say, in any script."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from mtl_plugins.errors import ConfigError
from mtl_plugins.lab.analysis.pixel_errors import errors_of
from mtl_plugins.lab.plots import bins
from mtl_plugins.lab.plots.analysis_pictures import (
    render_class_bars,
    render_confusion_difference,
    render_error_by_place,
    render_error_by_range,
    render_label_comparison,
)
from mtl_plugins.lab.plots.bins import render_bins, shares
from mtl_plugins.lab.plots.curves import Curve, average
from mtl_plugins.lab.plots.sweep_plots import CostPoint, best_trade_offs, render_score_against_cost
from mtl_plugins.lab.report.resources import RunCost, resource_table
from mtl_plugins.labels.cityscapes_classes import CLASSES, PALETTE
from mtl_plugins.labels.class_map import WRONG_CLASS
from mtl_plugins.labels.pictures import INVALID
from mtl_plugins.labels.presets import MINISCAPES_LABELS, build_labels
from mtl_plugins.visualization import plots as fonts
from mtl_plugins.visualization.confusion_picture import render_confusion_matrix
from mtl_plugins.visualization.plots import pil_font, to_array
from mtl_plugins.visualization.prediction_grid import render_prediction_grid
from mtl_plugins.visualization.tiles import _cut, render_tiles

LABELS = build_labels(MINISCAPES_LABELS)
FIRST, SECOND = (0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)


def area(picture, colour):
    """Pixels of exactly this colour."""
    return int((picture.reshape(-1, 3) == colour).all(1).sum())


def test_long_headings_stay_above_their_columns():
    names = [f'joint_r18-d16_1xb16-32e_miniscapes-256x256_and_more_words_{number}' for number in range(2)]
    tile = np.zeros((40, 80, 3), np.uint8)
    picture = render_tiles([{'image': tile, **dict.fromkeys(names, tile)}], ['image', *names], tile_width=240)
    for edge in range(3):
        assert (picture[:26, edge * 244 : edge * 244 + 4] == 255).all()
    assert [_cut(name, pil_font(name, 9), 240)[-2:] for name in names] == ['_0', '_1']


def test_a_depth_that_is_too_near_is_blue_too_far_red_and_unknown_grey():
    truth, guess = np.array([[10.0, 10.0, 10.0, 10.0, 10.0, 0.0]]), np.array([[1.0, 8.0, 10.0, 12.0, 90.0, 5.0]])
    near, nearer, exact, farther, far, unknown = errors_of(LABELS['depth']).colour(truth, guess)[0].astype(int)
    assert near.tolist() == [0, 0, 255] and far.tolist() == [255, 0, 0] and tuple(unknown) == INVALID
    assert exact.min() >= 253
    # 20 % of an error that ends at 50 %: two fifths of the way from white.
    np.testing.assert_allclose(nearer, [153, 153, 255], atol=3)
    np.testing.assert_allclose(farther, [255, 153, 153], atol=3)


def test_classes_have_the_colours_of_cityscapes_and_wrong_ones_show_what_was_predicted():
    kind = LABELS['semseg']
    picture = kind.colour(np.array([[0, 13, 255]], np.uint8))
    assert [tuple(pixel) for pixel in picture[0]] == [PALETTE[0], PALETTE[13], (0, 0, 0)]
    picture = errors_of(kind).colour(np.array([[3, 3, 255]], np.uint8), np.array([[3, 13, 4]], np.uint8))
    assert [tuple(pixel) for pixel in picture[0]] == [(255, 255, 255), tuple(kind.palette[13]), INVALID]


@pytest.mark.parametrize('name', list(LABELS))
def test_every_kind_with_errors_gives_and_colours_them(name):
    rng, kind = np.random.default_rng(0), LABELS[name]
    values = dict(semseg=rng.integers(0, 19, (6, 8)).astype(np.uint8), depth=rng.uniform(4, 300, (6, 8)).astype(np.float32))
    values |= dict(normals=np.full((6, 8, 3), [0, 0, 1], np.float32), boundary=rng.integers(0, 2, (6, 8)).astype(np.uint8))
    values = values[name]
    values[0, 0] = kind.to_values(kind.blank((1, 1)))[0, 0]
    prediction = np.zeros_like(values) + values[::-1]
    prediction[prediction == 255] = 0
    prediction[-1, 0] = values[1, 1]
    errors = errors_of(kind)
    measured = errors.measure(values, prediction)
    assert tuple(measured) == errors.names != ()
    for error in measured.values():
        assert error.dtype == np.float64 and error.shape == (6, 8) and np.isnan(error).sum() == 1 and np.isnan(error[0, 0])
    assert tuple(errors.colour(values, prediction)[0, 0]) == INVALID
    assert (errors.bar() is None) == (errors.note is not None)


def test_where_the_second_model_predicts_more_is_red_and_a_label_without_pixels_grey():
    first = np.array([[50, 50, 0], [0, 10, 0], [0, 0, 0]])
    second = np.array([[100, 0, 0], [0, 10, 0], [0, 0, 0]])
    picture = to_array(render_confusion_difference(first, second, ['road', 'sky', 'car'], ('a', 'b')))
    red, blue, grey = (area(picture, colour) for colour in ((255, 0, 0), (0, 0, 255), (226, 228, 230)))
    # One cell of +50 points, one of -50 (less where their numbers are written), three of the empty row.
    assert red > 500 and blue > 500 and abs(red - blue) < 0.3 * red and 2.4 < grey / max(red, blue) < 4.5
    turned = to_array(render_confusion_difference(second, first, ['road', 'sky', 'car']))
    assert area(turned, (255, 0, 0)) == pytest.approx(red, rel=0.2)
    with pytest.raises(ValueError, match='`second` should have the shape'):
        render_confusion_difference(first, second[:2, :2], ['road', 'sky', 'car'])


def test_bars_are_as_high_as_their_values():
    panels = {'IoU (%)': dict(one=[80.0, 40.0, np.nan], two=[20.0, 20.0, 20.0])}
    picture = to_array(render_class_bars(panels, ['road', 'sky', 'car'], title='validation'))
    # Bars are equally wide; the legend has a patch of each colour.
    patch = area(to_array(render_class_bars({'IoU (%)': dict(one=[0.0] * 3, two=[0.0] * 3)}, ['a', 'b', 'c'])), FIRST)
    assert (area(picture, FIRST) - patch) / (area(picture, SECOND) - patch) == pytest.approx(2, rel=0.1)
    # A class without a value has none; no bar read as no error at all.
    figure = render_class_bars({'relative error (%)': dict(one=[3.0, np.nan, 0.0], two=[np.nan, 1.0, 2.0])}, ['a', 'b', 'c'])
    places = sorted(round(text.get_position()[0], 3) for text in figure.axes[0].texts if text.get_text().strip() == 'none')
    assert places == [0.2, 0.8]


def test_curves_over_distance_and_maps_over_places_are_drawn_with_what_is_missing():
    panels = {'relative error (%)': dict(a=[np.nan, 2.0, 3.0], b=[1.0, 2.0, np.nan]), 'log error': dict(a=[0.1, -0.1, 0.0])}
    picture = to_array(render_error_by_range(panels, np.array([4.0, 10, 100, 300]), [0, 10, 5], 'distance (m)', 'depth'))
    assert area(picture, FIRST) > 300 and area(picture, SECOND) > 100
    cells = {'wrong (%)': dict(a=[0.0, 50, 100, np.nan]), 'log error': dict(a=[-1.0, 1.0, 0.0, 0.0])}
    picture = to_array(render_error_by_place(cells, (2, 2), 2.0))
    grey, blue, red = (area(picture, colour) for colour in ((191, 191, 191), (0, 0, 255), (255, 0, 0)))
    assert min(grey, blue, red) > 5000 and max(grey, blue, red) < 1.5 * min(grey, blue, red)


def test_the_columns_of_a_comparison_and_a_model_that_does_not_predict_the_label():
    image, depth = np.full((32, 64, 3), 90, np.uint8), np.full((32, 64), 10.0)
    row = dict(image=image, values=depth, predictions=[depth * 9, None], caption='7')
    one = render_label_comparison([row], ['a', 'b'], LABELS['depth'])
    both = render_label_comparison([{**row, 'predictions': [depth * 9, depth / 9]}], ['a', 'b'], LABELS['depth'])
    assert (one.shape[1], both.shape[1]) == (4 + 4 * 244, 4 + 6 * 244)
    assert area(one, (255, 0, 0)) > 120 * 240 * 0.99 > area(one, (0, 0, 255))
    assert area(both, (0, 0, 255)) > 120 * 240 * 0.99


def test_mean_and_band_of_curves_at_the_iterations_that_all_have():
    iterations = np.array([10, 20, 30])
    curves = [
        Curve('run', iterations, np.array([1.0, 2.0, 6.0]), iterations / 10),
        Curve('run', iterations[[0, 2]], np.array([3.0, 8.0]), iterations[[0, 2]] / 5),
    ]
    band = average(curves)
    found = [item.tolist() for item in (band.places, band.mean, band.lowest, band.highest)]
    assert found == [[1.5, 4.5], [2.0, 7.0], [1.0, 6.0], [3.0, 8.0]]
    with pytest.raises(ConfigError, match='have no iteration in common'):
        average([curves[0], Curve('run', np.array([7]), np.array([1.0]), np.array([7]))])


def test_no_cheaper_run_beats_those_of_the_dashed_line():
    points = [CostPoint('abcdef'[index], *pair) for index, pair in enumerate([(1, 5), (2, 4), (3, 7), (3, 9), (4, 9), (5, 9.5)])]
    for lower_is_better in (False, True):
        front = best_trade_offs(points, lower_is_better)
        better = (lambda a, b: a < b) if lower_is_better else (lambda a, b: a > b)
        for point in points:
            beaten = any(
                (other.cost <= point.cost and better(other.score, point.score))
                or (other.cost < point.cost and other.score == point.score)
                for other in points
            )
            assert (point in front) == (not beaten)
    picture = to_array(render_score_against_cost(points, 'parameters (M)', 'mIoU'))
    assert area(picture, FIRST) > 30 and area(picture, SECOND) > 30


def test_the_table_of_costs_leaves_out_what_no_run_knows():
    costs = dict(parameters=1.5, gflops=2.0, memory=None, hours=None)
    run = RunCost('a', Path('a'), dict(encoder=1.5, ASPP=0.0), power=207.4, epoch=3.0, scores=dict(mIoU=50.0), **costs)
    other = RunCost('b', Path('b'), None, power=None, epoch=None, scores={}, **costs)
    table = resource_table([run, other], 'mIoU', 'mIoU')
    assert table.titles == ['run', 'encoder', 'all', 'GFLOPs', 'power (W)', 'epoch (s)', 'mIoU']
    assert table.rows == [['a', '1.50', '1.50', '2.0', '207', '3.0', '50.00'], ['b', '', '1.50', '2.0', '', '', '']]


def test_a_larger_share_is_drawn_darker_and_an_empty_row_grey():
    matrix = np.diag([100, 100, 0])
    matrix[0, 1] = 100
    picture = to_array(render_confusion_matrix(matrix, ['road', 'sky', 'car'])).astype(int)
    full, half = np.array([8, 48, 107]), np.array([106, 174, 214])
    areas = [(np.abs(picture - colour).max(-1) <= 6).sum() for colour in (full, half, (226, 228, 230))]
    # One cell of 100 % (beside the end of the colour bar), two of 50 %, three of a label without pixels.
    assert areas[0] > 300 and 1.5 < areas[1] / areas[0] < 2.6 and 2.2 < areas[2] / areas[0] < 4
    for classes in (CLASSES, [f'class {index}' for index in range(40)], ['one']):
        matrix = np.random.default_rng(0).integers(0, 10**6, (len(classes), len(classes)))
        picture = to_array(render_confusion_matrix(matrix, classes, title='validation'))
        assert picture.dtype == np.uint8 and picture.std() > 10
    for matrix in (np.zeros((2, 3), int), np.zeros((2, 2), int), np.full((3, 3), -1)):
        with pytest.raises(ValueError, match='`matrix` should'):
            render_confusion_matrix(matrix, ['road', 'sky', 'car'])


BINS = np.array([5.0, 6.0, 40.0, 200.0])


def test_histograms_are_shares_of_labelled_pixels_in_per_cent(monkeypatch):
    # Outer cells take what lies beyond.
    np.testing.assert_allclose(shares(np.array([0.5, 2.0, 50.0, 1000.0]), np.array([1.0, 10.0, 100.0])), [50, 50])
    seen = []
    monkeypatch.setattr(bins, 'shares', lambda values, edges: seen.append(np.sort(values)) or shares(values, edges))
    label, predicted = np.array([[0.0, 8.0]]), np.array([[70.0, 9.0]])
    row = dict(image=np.zeros((1, 2, 3), np.uint8), label=label, prediction=predicted, bins=BINS)
    render_bins([row], LABELS['depth'], (4.0, 300.0))
    for found, expected in zip(seen, ([8.0], [9.0], BINS), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_samples_lie_beside_each_other_and_wrap_after_three():
    row = dict(image=np.zeros((16, 32, 3), np.uint8), prediction=np.full((16, 32), 9.0), bins=BINS)
    one, four = (render_bins([row] * count, LABELS['depth'], (4.0, 300.0)).shape for count in (1, 4))
    assert four[:2] == (2 * one[0], 3 * one[1])


def test_nearer_is_brighter_on_a_logarithmic_scale_and_unknown_depth_is_grey():
    brightness = LABELS['depth'].colour(np.array([[4.0, 34.64, 300.0, 0.0]]))[0].astype(float)
    assert tuple(brightness[3]) == INVALID
    near, middle, far = brightness[:3].mean(1)
    assert near > middle > far
    # The geometric mean of the range is its middle on a log scale.
    np.testing.assert_array_equal(brightness[1], LABELS['depth'].colour(np.sqrt([[4.0 * 300.0]]))[0, 0])


def test_errors_of_each_label_have_a_column():
    labels, predicted = np.array([[3, 3, 255, 255]], np.uint8), np.array([[3, 4, 4, 4]], np.uint8)
    depth, predicted_depth = np.array([[10.0, 10.0, 10.0, 0.0]]), np.array([[10.0, 10.0, 20.0, 5.0]])
    row = dict(image=np.zeros((1, 4, 3), np.uint8), labels=dict(semseg=labels, depth=depth))
    row |= dict(predictions=dict(semseg=predicted, depth=predicted_depth))
    picture = render_prediction_grid([row], LABELS, tile_width=100)
    # The tiles from left to right, each with four pixels of 25 x 25.
    pixels = [picture[38, [4 + 104 * column + 12 + 25 * place for place in range(4)]].astype(int) for column in range(7)]
    assert [tuple(pixel) == WRONG_CLASS for pixel in pixels[3]] == [False, True, False, False]
    assert tuple(pixels[6][3]) == INVALID and pixels[6][0].sum() < 20 < 600 < pixels[6][2].sum()


@pytest.mark.parametrize('tasks', [('semseg', 'depth'), ('semseg',), ('depth',), ()])
def test_the_grid_has_the_columns_of_its_tasks_and_one_row_per_sample(tasks):
    labels = dict(semseg=np.zeros((32, 64), np.uint8), depth=np.full((32, 64), 5.0))
    predictions = dict(semseg=np.ones((32, 64), np.uint8), depth=np.full((32, 64), 9.0))
    row = dict(image=np.full((32, 64, 3), 200, np.uint8))
    row |= dict(labels={task: labels[task] for task in tasks}, predictions={task: predictions[task] for task in tasks})
    one, two = (render_prediction_grid(rows, LABELS, tile_width=100) for rows in ([row], [row, row]))
    # Label, prediction and errors of each.
    columns = 1 + 3 * len(tasks)
    assert one.shape[1] == 4 + columns * 104 and one.dtype == np.uint8
    assert two.shape[0] - one.shape[0] == 54
    assert tuple(one[40, 50]) == (200, 200, 200)


# Of those of matplotlib's own fonts, letters that only STIX has.
STIX = '\u1d81\u1d84\u1d8a'
NOWHERE = '\u9053\u8def'


@pytest.fixture
def own_fonts(monkeypatch):
    """matplotlib's own fonts alone, and no memory of warnings; what is logged."""
    said = []
    monkeypatch.setattr(fonts, 'print_log', lambda *arguments: said.append(arguments))
    own = [font for font in font_manager.fontManager.ttflist if 'mpl-data' in font.fname]
    monkeypatch.setattr(font_manager.fontManager, 'ttflist', own)
    fonts._font_for.cache_clear()
    fonts._warn_once.cache_clear()
    yield said
    fonts._font_for.cache_clear()
    fonts._warn_once.cache_clear()


def draw(text: str) -> np.ndarray:
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, text, fontsize=20)
    return to_array(figure)


def test_a_font_that_has_the_letters_is_found(own_fonts):
    assert fonts.families_for('road') == fonts.families_for('Stra\u00dfe') == ['DejaVu Sans']
    assert fonts.families_for(f'a {STIX}') == ['DejaVu Sans', 'STIXGeneral']
    assert fonts.pil_font(STIX, 12).getname()[0] == 'STIXGeneral' and fonts.pil_font('road', 12).getname()[0] != 'STIXGeneral'
    # Different letters are different pixels, which boxes are not.
    assert not np.array_equal(draw(STIX), draw(STIX[::-1])) and not own_fonts


def test_letters_that_no_font_has_cost_one_warning(own_fonts):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(2):
            draw(NOWHERE)
            fonts.pil_font(NOWHERE + 'x', 12)
    assert len(own_fonts) == 1 and 'fonts-noto-cjk' in own_fonts[0][0]
