"""Pictures of what models predict on a split: confusions, IoU, errors by class, distance and place, images side by side."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from mtl_plugins.evaluation.functional.confusion_matrix import class_iou
from mtl_plugins.lab.analysis.pixel_errors import errors_of
from mtl_plugins.lab.analysis.split_analysis import PLACE, PLACES, SplitAnalysis, confusions_by_label
from mtl_plugins.lab.plots.style import GREY, distinct_colours, legend_below, new_figure, tidy
from mtl_plugins.lab.samples import Sample
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.visualization.confusion_picture import check_counts, draw_cells, normalise_rows, render_confusion_matrix
from mtl_plugins.visualization.prediction_grid import NOTE, overlay_attention, render_prediction_grid
from mtl_plugins.visualization.tiles import render_tiles

Figures = dict[str, Figure]
TILE_WIDTH = 240
# Values by the name of the model, by what they measure, such as 'IoU (%)'.
Panels = Mapping[str, Mapping[str, Sequence[float]]]
_MAP_WIDTH = 4.4


def draw_confusions(splits: Mapping[str, SplitAnalysis]) -> Figures:
    """Draw IoU and confusions of each class map, for splits by the name of the model.

    Returns:
        Figures by name: ``iou_<label>``, ``confusion_<label>``, or with several models ``confusion_<label>_<number>`` and
        ``confusion_<label>_<number>_minus_1``.
    """
    pictures: Figures = {}
    for label, by_model in confusions_by_label(splits).items():
        classes = next(iter(splits.values())).labels[label].classes
        # A class that no pixel has, and none is taken for, counts as 0 in the mean.
        scores = {model: class_iou(matrix) for model, matrix in by_model.items()}
        absent = {model: matrix.sum(axis=0) + matrix.sum(axis=1) == 0 for model, matrix in by_model.items()}
        values = {model: [*np.where(absent[model], np.nan, iou), iou.mean()] for model, iou in scores.items()}
        pictures[f'iou_{label}'] = render_class_bars({'IoU (%)': values}, [*classes, 'mean'])
        (first, baseline), *others = by_model.items()
        if len(splits) == 1:
            pictures[f'confusion_{label}'] = render_confusion_matrix(baseline, classes)
            continue
        for number, (model, matrix) in enumerate(by_model.items(), start=1):
            pictures[f'confusion_{label}_{number}'] = render_confusion_matrix(matrix, classes, title=model)
        for number, (model, matrix) in enumerate(others, start=2):
            picture = render_confusion_difference(baseline, matrix, classes, (first, model))
            pictures[f'confusion_{label}_{number}_minus_1'] = picture
    return pictures


def draw_errors(splits: Mapping[str, SplitAnalysis], aspect: float) -> Figures:
    """Draw the errors of every label by every grouping that has a pixel, as ``error_<label>_by_<label or place>``.

    ``splits`` are by the name of the model; ``aspect`` is the width of the images over their height.
    """
    pictures: Figures = {}
    errors = next(iter(splits.values())).errors
    for by in (*errors, PLACE):
        tables = [(model, table) for model, split in splits.items() for table in split.tables_by(by)]
        for label in errors:
            chosen = [(model, table) for model, table in tables if table.label == label and table.counts.any()]
            if not chosen:
                continue
            panels: dict[str, dict[str, np.ndarray]] = {}
            for model, table in chosen:
                panels.setdefault(table.error, {})[model] = table.means
            sums, title = chosen[0][1], f'Errors of {label} by'
            if by == PLACE:
                picture = render_error_by_place(panels, PLACES, aspect, f'{title} place in the image')
            elif (edges := errors[by].group_edges()) is not None:
                unit = errors[by].group_title
                picture = render_error_by_range(panels, edges, sums.counts, unit, f'{title} {unit.split(" (")[0]}')
            else:
                picture = render_class_bars(panels, sums.names, f'{title} {errors[by].group_title}')
            pictures[f'error_{label}_by_{by}'] = picture
    return pictures


def draw_ranked(
    ranked: Mapping[str, Sequence[Mapping]], rows: Mapping[int, Mapping], score: str, labels: Mapping[str, LabelKind]
) -> np.ndarray:
    """Draw the best, median and worst images of a run: the label that the score is of and its errors, or all labels.

    ``ranked`` is what :func:`rank_images` gives, ``rows`` what :func:`render_prediction_grid` takes, by position.
    """
    group, _, last = score.partition('/')
    label = next((name for name in labels if last == name or group == f'metrics_task_{name}'), None)
    images = [(rank, image) for rank, some in ranked.items() for image in some]
    captions = [f'{rank}, {image["name"]}: {image[score]:.2f}' for rank, image in images]
    chosen = [rows[image['position']] for _, image in images]
    if label is None:
        captioned = [dict(row, caption=f'{last} {caption}') for row, caption in zip(chosen, captions, strict=True)]
        return render_prediction_grid(captioned, labels, tile_width=TILE_WIDTH)
    tiles = [
        dict(image=row['image'], values=row['labels'][label], predictions=[row['predictions'][label]], caption=caption)
        for row, caption in zip(chosen, captions, strict=True)
    ]
    ranking = errors_of(labels[label]).names[0] if group == 'error' else score
    note = f'Numbers: {ranking} of the image alone.'
    return render_label_comparison(tiles, [labels[label].titles[1]], labels[label], note)


def draw_comparisons(
    examples: Sequence[Sample], names: Sequence[str], labels: Mapping[str, LabelKind], largest: Sequence[int | None]
) -> dict[str, np.ndarray]:
    """Draw the picture ``comparison_<label>`` of each label that an example has and a model predicts.

    ``names`` are those of the models; ``largest`` is, of each example, the class whose attention is shown.
    """
    pictures = {}
    for label, kind in labels.items():
        rows = []
        for example, shown in zip(examples, largest, strict=True):
            predictions = [each.get(label) for each in example.predictions]
            if label not in example.values or all(prediction is None for prediction in predictions):
                continue
            row = dict(image=example.image, values=example.values[label], predictions=predictions, caption=example.name)
            if kind.is_class_map and shown:
                # Attention is that of the classes after the first.
                row['attention'] = [None if maps is None else maps[shown - 1] for maps in example.attention]
                row['frame'] = kind.palette[shown]
            rows.append(row)
        if rows:
            pictures[f'comparison_{label}'] = render_label_comparison(rows, names, kind)
    return pictures


def render_label_comparison(
    rows: Sequence[Mapping], names: Sequence[str], kind: LabelKind, note: str | None = None
) -> np.ndarray:
    """Draw the predictions of one label by several models: image, label, predictions, their errors, attention where there is.

    Rows have ``image`` ``(H, W, 3)`` uint8 RGB, ``values``, ``predictions``: of each model values or None, and ``caption``;
    optionally ``attention``: of each model ``(h, w)`` or None, and ``frame``, the colour of its frame.
    """
    errors, tiles, attended = errors_of(kind), [], set()
    for row in rows:
        tile = {'image': row['image'], kind.titles[0]: kind.colour(row['values'])}
        for name, prediction in zip(names, row['predictions'], strict=True):
            if prediction is not None:
                tile[name] = kind.colour(prediction)
                if errors.names:
                    tile[_errors_of(name, names)] = errors.colour(row['values'], prediction)
        for name, attention in zip(names, row.get('attention', ()), strict=False):
            if attention is not None:
                heading = f'attention of {name}'
                attended.add(heading)
                tile[heading] = overlay_attention(row['image'], attention.astype(np.float32), frame=row['frame'])
        tiles.append(tile)
    headings = itertools.chain(names, (_errors_of(name, names) for name in names), sorted(attended))
    columns = [name for name in ('image', kind.titles[0], *headings) if any(name in tile for tile in tiles)]
    attention_note = f'{NOTE}, for the class of the frame, which has the most pixels in the label'
    notes = [kind.note(), errors.note, attention_note if attended else None, note]
    return render_tiles(
        tiles,
        columns,
        tile_width=TILE_WIDTH,
        legend=kind.legend(),
        notes=[each for each in notes if each],
        smooth=('image', *attended),
        captions=[row['caption'] for row in rows],
        bars=[bar for bar in (kind.colour_bar(), errors.bar()) if bar],
    )


def _errors_of(name: str, names: Sequence[str]) -> str:
    return f'{name}, errors' if len(names) > 1 else 'errors'


def render_class_bars(panels: Panels, classes: Sequence[str], title: str | None = None) -> Figure:
    """Draw a bar per class and model, one panel below the other for each of the measures; NaN is written as none."""
    names = _names(panels)
    width = 0.8 / len(names)
    size = (max(len(classes) * (0.34 + 0.14 * len(names)) + 1.6, 5.5), 2.9 * len(panels) + 0.7)
    figure = new_figure(*size)
    axes = figure.subplots(len(panels), squeeze=False, sharex=True)[:, 0]
    for axis, (measure, models) in zip(axes, panels.items(), strict=True):
        for number, (name, colour) in enumerate(names.items()):
            if name in models:
                places = np.arange(len(classes)) + (number - (len(names) - 1) / 2) * width
                axis.bar(places, models[name], width, color=colour, label=name)
                # No bar at all would read as no error.
                for place in places[np.isnan(np.asarray(models[name], float))]:
                    axis.text(place, 0, ' none', rotation=90, ha='center', va='bottom', color=GREY, fontsize=8)
        axis.axhline(0, color=GREY, linewidth=0.8)
        tidy(axis, y=_in_two_lines(measure), grid='y')
    axes[-1].set_xticks(
        range(len(classes)), labels=classes, rotation=90 if 0.1 * max(map(len, classes)) > (size[0] - 1.6) / len(classes) else 0
    )
    axes[-1].set_xlim(-0.6, len(classes) - 0.4)
    _finish(figure, axes[0], names, title)
    return figure


def render_error_by_range(
    panels: Panels, edges: np.ndarray, pixels: Sequence[int], unit: str, title: str | None = None
) -> Figure:
    """Draw errors over ranges of a quantity on a logarithmic axis, and below them how many labelled pixels each range has.

    The K ranges lie between ``edges`` ``(K + 1,)``, ascending and positive; NaN is drawn as none.
    """
    names = _names(panels)
    figure = new_figure(8.4, 2.7 * len(panels) + 2.0)
    axes = figure.subplots(len(panels) + 1, sharex=True, height_ratios=[2.7] * len(panels) + [1.1])
    middles = np.sqrt(np.asarray(edges[:-1]) * edges[1:])
    for axis, (measure, models) in zip(axes, panels.items(), strict=False):
        for name, values in models.items():
            axis.plot(middles, values, '.-', color=names[name], label=name, linewidth=1.6)
        if np.nanmin([np.nanmin(values, initial=0) for values in models.values()]) < 0:
            axis.axhline(0, color=GREY, linestyle='--', linewidth=1)
        else:
            axis.set_ylim(bottom=0)
        tidy(axis, y=_in_two_lines(measure))
    total = max(sum(pixels), 1)
    axes[-1].stairs(100 * np.asarray(pixels) / total, edges, fill=True, color='#9aa0a6')
    axes[-1].set_xscale('log')
    axes[-1].set_xlim(edges[0], edges[-1])
    axes[-1].set_xticks(edges, labels=[f'{edge:.3g}' for edge in edges])
    axes[-1].xaxis.set_minor_formatter(NullFormatter())
    axes[-1].xaxis.set_minor_locator(NullLocator())
    tidy(axes[-1], unit, 'pixels\n(%)', grid='')
    _finish(figure, axes[0], names, title)
    return figure


def render_error_by_place(panels: Panels, grid: tuple[int, int], aspect: float, title: str | None = None) -> Figure:
    """Draw mean errors over the places of the image as heat maps: a row per measure, a column per model.

    Values are by cell, row by row, NaN drawn grey. Measures that are negative somewhere go from blue over white to red, the
    others from dark to bright. ``aspect`` is the width of the image over its height.
    """
    names = _names(panels)
    height = _MAP_WIDTH / aspect
    size = (_MAP_WIDTH * len(names) + 1.2, (height + 0.4) * len(panels) + (0.4 if title else 0))
    figure = new_figure(*size)
    axes = figure.subplots(len(panels), len(names), squeeze=False)
    for row, (measure, models) in zip(axes, panels.items(), strict=True):
        cells = {name: np.reshape(values, grid) for name, values in models.items()}
        lowest, highest = (extreme([extreme(each, initial=0) for each in cells.values()]) for extreme in (np.nanmin, np.nanmax))
        limit = max(-lowest, highest)
        colours = dict(cmap='bwr', vmin=-limit, vmax=limit) if lowest < 0 else dict(cmap='inferno', vmin=0, vmax=highest)
        drawn = None
        for axis, name in zip(row, names, strict=True):
            axis.set_axis_off()
            if name in cells:
                if len(names) > 1:
                    axis.set_title(textwrap.fill(name, 40), fontsize=10, pad=3)
                axis.imshow(np.ones((1, 1, 3)) * 0.75, extent=(0, aspect, 0, 1))
                drawn = axis.imshow(cells[name], extent=(0, aspect, 0, 1), interpolation='nearest', **colours)
        bar = figure.colorbar(drawn, ax=list(row), pad=0.01, fraction=0.05)
        bar.set_label(_in_two_lines(measure), fontsize=9)
        bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _names(panels: Panels) -> dict[str, str]:
    """Colours of the models of all panels."""
    names = list(dict.fromkeys(name for models in panels.values() for name in models))
    return dict(zip(names, distinct_colours(len(names)), strict=True))


def _in_two_lines(measure: str) -> str:
    return measure.replace(' (', '\n(') if len(measure) > 20 else measure


def _finish(figure: Figure, axis, names: Mapping[str, str], title: str | None) -> None:
    if title:
        figure.suptitle(title, fontsize=12)
    if len(names) > 1:
        legend_below(figure, axis)


def render_confusion_difference(
    first: np.ndarray, second: np.ndarray, classes: Sequence[str], names: tuple[str, str] | None = None
) -> Figure:
    """Draw the difference of two confusion matrices of the same images, in points of per cent of each label's pixels.

    Red is where the second model predicts a class more often than the first, blue where it does so less often: better is red on
    the diagonal and blue beside it. The row of a class without a pixel in either is grey. ``names`` of the models are for the
    title. Errors are those of :func:`render_confusion_matrix`.
    """
    shares = [normalise_rows(check_counts(name, matrix, classes)) for name, matrix in (('first', first), ('second', second))]
    difference = shares[1] - shares[0]
    largest = np.nanmax(np.abs(difference), initial=1.0)
    texts = [[f'{cell:+.0f}' if abs(cell) >= 0.5 else '' for cell in row] for row in difference]
    title = f'{names[1]}\nminus {names[0]}' if names else None
    return draw_cells(difference, classes, 'bwr', (-largest, largest), 'points of per cent of the label', texts, title)
