"""Pictures of features and of sweeps show what their legends say."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mtl_plugins.lab.features import pictures
from mtl_plugins.lab.features.extraction import FeatureSet
from mtl_plugins.lab.plots.style import COLOURS, distinct_colours
from mtl_plugins.lab.plots.sweep_plots import render_losses, render_scores, running_mean
from mtl_plugins.visualization.plots import to_array, write_picture


def make_record(labels=(0, 1) * 6, iteration=1, embedding=None, seed=0, classes=('cat', 'dog')):
    rng, labels = np.random.default_rng(seed), np.asarray(labels)
    features, indices = rng.normal(size=(len(labels), 4)).astype(np.float32) + iteration, np.arange(len(labels)) + seed
    embedding = rng.normal(size=(len(labels), 2)) if embedding is None else embedding
    return pictures.FeatureRecord(features, labels, indices, classes, f'epoch {iteration}', iteration, 50.0, embedding)


def has_colour(picture: np.ndarray, colour) -> bool:
    """Whether a pixel has the colour, or what is left of it at the dots' opacity of 0.8 on white."""
    solid = 255 * np.array(to_rgb(colour))
    return any((np.abs(picture - shade).max(-1) <= 2).any() for shade in (solid, 0.8 * solid + 0.2 * 255))


def test_each_class_has_its_colour_and_only_unknown_ones_are_grey():
    known, unknown = (pictures.draw_embedding(make_record(labels)) for labels in ([0, 0, 1, 1], [0, 0, -1, -1]))
    assert has_colour(known, COLOURS[0]) and has_colour(known, COLOURS[1])
    assert has_colour(unknown, pictures.UNKNOWN_COLOUR) and not has_colour(known, pictures.UNKNOWN_COLOUR)
    assert len({tuple(np.round(to_rgb(colour), 3)) for count in (8, 30) for colour in distinct_colours(count)}) == 38


def test_dots_lie_where_the_embedding_says(monkeypatch):
    monkeypatch.setattr(pictures, '_draw_legend', lambda *args, **kwargs: None)
    embedding = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]])
    picture = pictures.draw_embedding(make_record([0, 1, 2], embedding=embedding, classes=('a', 'b', 'c')))
    centres = []
    for colour in COLOURS[:3]:
        shade = 0.8 * 255 * np.array(to_rgb(colour)) + 0.2 * 255
        centres.append(np.argwhere(np.abs(picture - shade).max(-1) <= 2).mean(0))
    origin, right, above = centres
    assert right[1] - origin[1] == pytest.approx(2 * (origin[0] - above[0]), rel=0.02)
    assert right[0] == pytest.approx(origin[0], abs=1) and above[1] == pytest.approx(origin[1], abs=1)


def test_a_strip_grows_by_panels_up_to_ten_and_a_collapsed_one_can_be_drawn(monkeypatch):
    point = make_record([0] * 4, embedding=np.zeros((4, 2)))
    one, three, seven = (pictures.draw_strip([make_record([0, 1, 0, 1])] * count + [point]) for count in (0, 2, 6))
    assert three.shape[1] > 1.5 * one.shape[1] and seven.shape[0] > 1.7 * three.shape[0]
    seen = []
    monkeypatch.setattr(pictures, '_draw_scatter', lambda axis, record, size: seen.append(record.title))
    pictures.draw_strip([make_record(iteration=iteration) for iteration in range(31)])
    assert len(seen) == 10 and (seen[0], seen[-1]) == ('epoch 0: k-NN 50.0 %', 'epoch 30: k-NN 50.0 %')


def test_frames_tell_whether_classes_agree():
    class Images:
        metainfo = dict(classes=('cat', 'dog'))

        def __getitem__(self, key):
            return dict(inputs=[np.full((20, 20, 3), 77, np.uint8)])

    bank = FeatureSet(Images(), np.arange(3), np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]]), np.array([0, 1, -1]))
    queries = FeatureSet(Images(), np.arange(2), np.array([[1.0, 0.0]] * 2), np.array([0, -1]))
    picture = pictures.draw_neighbours(bank, queries, np.arange(2), 8, 'title')
    found = [line for line in picture if (line == pictures.SAME).all(-1).any() and (line == pictures.OTHER).all(-1).any()]
    line = found[pictures.FRAME + 2]
    frames = [tuple(int(value) for value in line[i]) for i in np.flatnonzero((line[1:] != line[:-1]).any(-1)) + 1]
    same, other, unknown = pictures.SAME, pictures.OTHER, pictures.UNKNOWN
    assert [frame for frame in frames if frame in (same, other, unknown)] == [same, same, other, other, unknown, unknown]
    assert (line == 77).all(-1).sum() == 4 * pictures.TILE
    # Nothing is said of a query of unknown class: one green and one red frame in all, beside the legend's.
    assert (picture == pictures.UNKNOWN).all(-1).sum() > 4 * (picture == pictures.SAME).all(-1).sum() * 0.8


def test_classes_take_turns_as_queries():
    labels = np.array([0, 0, 0, 0, 2, 1, 2, 2])
    assert pictures.choose_queries(labels, 3).tolist() == [0, 5, 4]
    assert pictures.choose_queries(labels, 5).tolist() == [0, 1, 5, 4, 6]
    assert pictures.choose_queries(labels, 99).tolist() == [0, 1, 2, 3, 5, 4, 6, 7]


def test_pictures_are_png_jpeg_or_pdf(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    for name, start in (('a.png', b'\x89PNG'), ('a.JPG', b'\xff\xd8'), ('a.pdf', b'%PDF')):
        write_picture(tmp_path / name, picture)
        assert (tmp_path / name).read_bytes().startswith(start)
    figure = Figure()
    figure.text(0.5, 0.5, 'distance')
    write_picture(tmp_path / 'figure.pdf', figure)
    pdf = (tmp_path / 'figure.pdf').read_bytes()
    # Letters are drawn with a font, not as pixels.
    assert pdf.startswith(b'%PDF') and b'/Font' in pdf and b'/Subtype /Image' not in pdf
    with pytest.raises(RuntimeError, match=r'should end in \.png'):
        write_picture(tmp_path / 'a.gif', picture)


ONCE, NEVER = (np.array([8]), np.array([1.8])), (np.array([]), np.array([]))


def where(image, colour):
    return (image == np.round(np.array(to_rgb(colour)) * 255)).all(-1)


def count(image, colour):
    return where(image, colour).sum()


def test_a_line_for_each_group_and_a_cross_for_a_failure():
    rates = [0.1, 0.01, 0.001] * 2
    groups = ['SGD'] * 3 + ['Adam'] * 3
    names = dict(parameter='learning rate', metric='multitask')
    image = to_array(render_scores(rates, np.array([3.0, 2, 1, 1, 2, 3]), groups, **names))
    assert image.dtype == np.uint8 and image.ndim == 3
    assert count(image, COLOURS[0]) > 300 and count(image, COLOURS[1]) > 300 and count(image, COLOURS[2]) == 0
    failed = to_array(render_scores(rates, np.array([3.0, 2, 1, math.nan, math.nan, math.nan]), groups, **names))
    assert 0 < count(failed, COLOURS[1]) < count(image, COLOURS[1])
    nothing = to_array(render_scores(rates, np.full(6, math.nan), groups, **names))
    assert nothing.shape == image.shape


@pytest.mark.parametrize('values', [[0.532, 0.9259, 0.557, 0.4813, 0.4754, 0.4339], [16, 32, 48, 64, 128], [1, 2, 3], [0.05]])
def test_numbers_below_the_axis_do_not_overlap(values):
    figure = render_scores(values, np.arange(float(len(values))), [''] * len(values), parameter='weight', metric='score')
    to_array(figure)
    low, high = figure.axes[0].get_xlim()
    labels = [label for label in figure.axes[0].get_xticklabels() if label.get_text() and low <= label.get_position()[0] <= high]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    assert boxes and all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_rates_are_drawn_on_a_logarithmic_axis_with_names_below_it():
    rates = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    figure = render_scores(rates, np.arange(6.0), ['one'] * 3 + ['other'] * 3, parameter='learning rate', metric='score')
    to_array(figure)
    (axis,), (legend,) = figure.axes, figure.legends
    assert axis.get_xscale() == 'log' and [text.get_text() for text in legend.get_texts()] == ['one', 'other', 'best']
    # No empty space between them: 0.1 of the height is the label and the numbers of the axis.
    assert 0 < axis.get_window_extent().y0 - legend.get_window_extent().y1 < 0.15 * figure.bbox.height


@pytest.mark.parametrize('number', [3, 12])
def test_losses_are_named_or_coloured_by_score_and_one_that_was_logged_once_is_a_point(number):
    curves = [(f'trial {index}', np.arange(10, 60, 10), np.linspace(2, 1 + index / 10, 5)) for index in range(number)]
    image = to_array(render_losses(curves, np.arange(number, dtype=float), metric='score'))
    assert (count(image, COLOURS[0]) > 0) == (number <= 8)
    once, never = (to_array(render_losses([('short', *each)], np.ones(1), metric='score')) for each in (ONCE, NEVER))
    assert count(once, COLOURS[0]) > count(never, COLOURS[0])
    # The running mean of the beginning is of fewer.
    values = np.random.default_rng(0).normal(size=20)
    np.testing.assert_allclose(
        running_mean(values, 5), [values[max(0, end - 4) : end + 1].mean() for end in range(20)], rtol=1e-12
    )
