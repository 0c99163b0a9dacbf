"""The pictures of what models did on a split: confusion matrices, IoU, errors by class, distance and place, images by rank."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mtl_plugins.evaluation.functional.confusion_matrix import class_iou
from mtl_plugins.lab.analysis.split_analysis import PLACE, PLACES, SplitAnalysis, confusions_by_label
from mtl_plugins.lab.plots.comparison import render_label_comparison
from mtl_plugins.lab.plots.error_plots import render_class_bars, render_error_by_place, render_error_by_range
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.visualization.confusion_picture import render_confusion_difference, render_confusion_matrix
from mtl_plugins.visualization.prediction_grid import render_prediction_grid

Figures = dict[str, Figure]


def draw_confusions(splits: Mapping[str, SplitAnalysis]) -> Figures:
    """IoU bars and confusion matrices of each class map: of one model shares and counts, of several shares and differences.

    Args:
        splits: By the name of the model.

    Returns:
        Figures by name: ``iou_<label>``, ``confusion_<label>``, ``confusion_<label>_counts``, or with
        several models ``confusion_<label>_<number>`` and ``confusion_<label>_<number>_minus_1``.
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
            pictures[f'confusion_{label}_counts'] = render_confusion_matrix(baseline, classes, normalised=False)
            continue
        for number, (model, matrix) in enumerate(by_model.items(), start=1):
            pictures[f'confusion_{label}_{number}'] = render_confusion_matrix(matrix, classes, title=model)
        for number, (model, matrix) in enumerate(others, start=2):
            picture = render_confusion_difference(baseline, matrix, classes, (first, model))
            pictures[f'confusion_{label}_{number}_minus_1'] = picture
    return pictures


def draw_errors(splits: Mapping[str, SplitAnalysis], aspect: float) -> Figures:
    """The errors of every label by every grouping that has a pixel.

    Args:
        splits: By the name of the model.
        aspect: Width of the images over their height.

    Returns:
        Figures by name: ``error_<label>_by_<label or place>``.
    """
    pictures: Figures = {}
    labels = next(iter(splits.values())).labels
    for by in (*labels, PLACE):
        tables = [(model, table) for model, split in splits.items() for table in split.tables_by(by)]
        for label in labels:
            chosen = [(model, table) for model, table in tables if table.label == label and table.sums.counts.any()]
            if not chosen:
                continue
            panels: dict[str, dict[str, np.ndarray]] = {}
            for model, table in chosen:
                panels.setdefault(table.error, {})[model] = table.sums.means
            sums, title = chosen[0][1].sums, f'Errors of {label} by'
            if by == PLACE:
                picture = render_error_by_place(panels, PLACES, aspect, f'{title} place in the image')
            elif (edges := labels[by].group_edges()) is not None:
                unit = labels[by].group_title
                picture = render_error_by_range(panels, edges, sums.counts, unit, f'{title} {unit.split(" (")[0]}')
            else:
                picture = render_class_bars(panels, sums.names, f'{title} {labels[by].group_title}')
            pictures[f'error_{label}_by_{by}'] = picture
    return pictures


def draw_ranked(
    ranked: Mapping[str, Sequence[Mapping]], rows: Mapping[int, Mapping], score: str, labels: Mapping[str, LabelKind]
) -> np.ndarray:
    """The best, median and worst images of a run: the label that the score is of, its prediction and errors, or all labels.

    Args:
        ranked: Images by rank, each with ``position``, ``name`` and the score.
        rows: By position, as :func:`render_prediction_grid` takes them.
        score: The number that ranks: ``error/<label>``, or the name of a score of validation.
        labels: The kinds by name.

    Returns:
        uint8 RGB ``(height, width, 3)``.
    """
    group, _, last = score.partition('/')
    label = next((name for name in labels if last == name or group == f'metrics_task_{name}'), None)
    images = [(rank, image) for rank, some in ranked.items() for image in some]
    captions = [f'{rank}, {image["name"]}: {image[score]:.2f}' for rank, image in images]
    chosen = [rows[image['position']] for _, image in images]
    if label is None:
        captioned = [dict(row, caption=f'{last} {caption}') for row, caption in zip(chosen, captions, strict=True)]
        return render_prediction_grid(captioned, labels, tile_width=240)
    tiles = [
        dict(image=row['image'], values=row['labels'][label], predictions=[row['predictions'][label]], caption=caption)
        for row, caption in zip(chosen, captions, strict=True)
    ]
    ranking = labels[label].pixel_error_names[0] if group == 'error' else score
    note = f'Numbers: {ranking} of the image alone.'
    return render_label_comparison(tiles, [labels[label].titles[1]], labels[label], note)
