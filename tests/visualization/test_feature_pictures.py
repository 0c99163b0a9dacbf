"""Pictures of features show what their legends say."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mtl_plugins.lab.features import feature_pictures
from mtl_plugins.lab.features.feature_pictures import (
    FRAME,
    OTHER,
    SAME,
    UNKNOWN,
    UNKNOWN_COLOUR,
    NeighbourRow,
    Scatter,
    render_embedding,
    render_neighbours,
    render_strip,
)
from mtl_plugins.lab.features.feature_record import FeatureRecord
from mtl_plugins.lab.features.feature_report import choose_queries, draw_strip, embed_all
from mtl_plugins.visualization.plots import COLOURS, distinct_colours, write_picture

CLASSES = ('cat', 'dog')


def make_scatter(labels, title: str = 'epoch 1') -> Scatter:
    labels = np.asarray(labels)
    return Scatter(np.random.default_rng(0).normal(size=(len(labels), 2)), labels, title)


def has_colour(picture: np.ndarray, colour) -> bool:
    """Whether a pixel has the colour, or what is left of it at the dots' opacity of 0.8 on white."""
    solid = 255 * np.array(to_rgb(colour))
    return any((np.abs(picture - shade).max(-1) <= 2).any() for shade in (solid, 0.8 * solid + 0.2 * 255))


def test_each_class_has_its_colour_and_only_unknown_ones_are_grey():
    known, unknown = (render_embedding(make_scatter(labels), CLASSES) for labels in ([0, 0, 1, 1], [0, 0, -1, -1]))
    assert has_colour(known, COLOURS[0]) and has_colour(known, COLOURS[1])
    assert has_colour(unknown, UNKNOWN_COLOUR) and not has_colour(known, UNKNOWN_COLOUR)
    assert len({tuple(np.round(to_rgb(colour), 3)) for count in (8, 30) for colour in distinct_colours(count)}) == 38


def test_dots_lie_where_the_embedding_says(monkeypatch):
    monkeypatch.setattr(feature_pictures, '_draw_legend', lambda *args, **kwargs: None)
    embedding = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]])
    picture = render_embedding(Scatter(embedding, np.array([0, 1, 2]), ''), ('a', 'b', 'c'))
    centres = []
    for colour in COLOURS[:3]:
        shade = 0.8 * 255 * np.array(to_rgb(colour)) + 0.2 * 255
        centres.append(np.argwhere(np.abs(picture - shade).max(-1) <= 2).mean(0))
    origin, right, above = centres
    assert right[1] - origin[1] == pytest.approx(2 * (origin[0] - above[0]), rel=0.02)
    assert right[0] == pytest.approx(origin[0], abs=1) and above[1] == pytest.approx(origin[1], abs=1)


def test_a_long_strip_keeps_the_first_and_the_last_of_ten(monkeypatch):
    seen = []
    monkeypatch.setattr(feature_pictures, '_draw_scatter', lambda axis, scatter, *args, **kwargs: seen.append(scatter.title))
    render_strip([make_scatter([0, 1, 0, 1], str(number)) for number in range(31)], CLASSES)
    assert len(seen) == 10 and (seen[0], seen[-1]) == ('0', '30')


def test_a_strip_grows_by_panels_and_a_collapsed_one_can_be_drawn():
    point = Scatter(np.zeros((4, 2)), np.zeros(4, int), 'collapsed')
    one, three, seven = (render_strip([make_scatter([0, 1, 0, 1])] * count + [point], CLASSES) for count in (0, 2, 6))
    assert three.shape[1] > 1.5 * one.shape[1] and seven.shape[0] > 1.7 * three.shape[0]


def test_frames_tell_whether_classes_agree():
    tile, image = 40, np.full((20, 20, 3), 77, np.uint8)
    rows = [
        NeighbourRow(image, 0, [image] * 3, [0, 1, -1], [1.0, 0.5, 0.2]),
        NeighbourRow(image, -1, [image] * 3, [0, 1, -1], [0] * 3),
    ]
    picture = render_neighbours(rows, CLASSES, 'title', tile=tile)
    found = [line for line in picture if (line == SAME).all(-1).any() and (line == OTHER).all(-1).any()]
    line = found[FRAME + 2]
    frames = [tuple(int(value) for value in line[i]) for i in np.flatnonzero((line[1:] != line[:-1]).any(-1)) + 1]
    assert [frame for frame in frames if frame in (SAME, OTHER, UNKNOWN)] == [SAME, SAME, OTHER, OTHER, UNKNOWN, UNKNOWN]
    assert (line == 77).all(-1).sum() == 4 * tile
    # Nothing is said of a query of unknown class: one green and one red frame in all, beside the legend's.
    assert (picture == UNKNOWN).all(-1).sum() > 4 * (picture == SAME).all(-1).sum() * 0.8


def test_classes_take_turns_as_queries():
    labels = np.array([0, 0, 0, 0, 2, 1, 2, 2])
    assert choose_queries(labels, 3).tolist() == [0, 5, 4]
    assert choose_queries(labels, 5).tolist() == [0, 1, 5, 4, 6]
    assert choose_queries(labels, 99).tolist() == [0, 1, 2, 3, 5, 4, 6, 7]


def make_record(iteration: int, seed: int = 0) -> FeatureRecord:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(12, 4)).astype(np.float32) + iteration
    labels = np.arange(12) % 2
    indices = np.arange(12) + seed
    return FeatureRecord(features, labels, indices, CLASSES, f'epoch {iteration}', iteration, 50.0, np.zeros((0, 2)))


def test_a_strip_of_records_is_of_the_same_images(monkeypatch):
    records = embed_all([make_record(i) for i in range(1, 6)], 3)
    assert [record.iteration for record in records] == [1, 3, 5]
    assert all(record.embedding.shape == (12, 2) for record in records)
    seen = []
    monkeypatch.setattr('mtl_plugins.lab.features.feature_report.render_strip', lambda scatters, classes: seen.extend(scatters))
    draw_strip(records)
    assert [scatter.title for scatter in seen] == [f'epoch {i}: k-NN 50.0 %' for i in (1, 3, 5)]
    with pytest.raises(RuntimeError, match=r'same images.*epoch 2 than at epoch 1'):
        embed_all([make_record(1), make_record(2, seed=1)], 3)


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
