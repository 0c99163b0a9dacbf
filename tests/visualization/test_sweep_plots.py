"""The plots of a sweep show what they are given: colours of groups and crosses of failures."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mtl_plugins.lab.plots.sweep_plots import render_losses, render_scores, running_mean
from mtl_plugins.visualization.plots import COLOURS, to_array

ONCE, NEVER = (np.array([8]), np.array([1.8])), (np.array([]), np.array([]))


def count(image, colour):
    """Pixels of exactly this colour."""
    return (image == np.round(np.array(to_rgb(colour)) * 255).astype(np.uint8)).all(-1).sum()


def columns(image, colour):
    return np.flatnonzero((image == np.round(np.array(to_rgb(colour)) * 255).astype(np.uint8)).all(-1).any(0))


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


def test_rates_are_drawn_on_a_logarithmic_axis():
    # On a linear one the middle of 1e-6 .. 1e-1 would lie at the left edge.
    rates = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    image = to_array(render_scores(rates, np.arange(6.0), ['one'] * 3 + ['other'] * 3, parameter='learning rate', metric='score'))
    middle = columns(image[60:], COLOURS[1]).min() / image.shape[1]
    assert 0.5 < middle < 0.7


@pytest.mark.parametrize('number', [3, 12])
def test_losses_are_named_or_coloured_by_score_and_one_that_was_logged_once_is_a_point(number):
    curves = [(f'trial {index}', np.arange(10, 60, 10), np.linspace(2, 1 + index / 10, 5)) for index in range(number)]
    image = to_array(render_losses(curves, np.arange(number, dtype=float), metric='score'))
    assert (count(image, COLOURS[0]) > 0) == (number <= 8)
    once, never = (to_array(render_losses([('short', *each)], np.ones(1), metric='score')) for each in (ONCE, NEVER))
    assert count(once, COLOURS[0]) > count(never, COLOURS[0])


def test_the_running_mean_of_the_beginning_is_of_fewer():
    values = np.random.default_rng(0).normal(size=20)
    expected = [values[max(0, end - 4) : end + 1].mean() for end in range(20)]
    np.testing.assert_allclose(running_mean(values, 5), expected, rtol=1e-12)
