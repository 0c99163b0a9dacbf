"""The interactive charts of a report for Plotly; the script of the page adds the colours of text, grid and paper."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from mtl_plugins.evaluation.functional.confusion_matrix import class_iou
from mtl_plugins.lab.analysis.pixel_errors import PixelErrors
from mtl_plugins.lab.analysis.split_analysis import PLACE, PLACES, ErrorTable, SplitAnalysis, confusions_by_label
from mtl_plugins.lab.plots.style import COLOURS, distinct_colours
from mtl_plugins.lab.report.groups import RunGroup, has_metric, lower_is_better, metrics_of
from mtl_plugins.visualization.confusion_picture import normalise_rows

if TYPE_CHECKING:
    # Which builds networks.
    from mtl_plugins.lab.report.resources import RunCost

# Black would vanish on a dark page.
_BLACK, _GREY = COLOURS[-1], '#8a9097'


@dataclass(frozen=True)
class Chart:
    """A chart with lists of choices: the title and entries of each.

    ``figures`` has Plotly's ``data`` and ``layout`` by the numbers of the choices, joined by commas; '' without any.
    """

    name: str
    choices: list[tuple[str, list[str]]]
    figures: dict[str, dict]
    note: str = ''
    height: int = 420
    title: str = ''

    def describe(self) -> dict:
        return dict(name=self.name, choices=self.choices, figures=self.figures, height=self.height)


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Return the colours of the pictures, legible on dark paper too."""
    colours = zip(names, distinct_colours(len(names)), strict=True)
    return {name: _GREY if colour == _BLACK else to_hex(colour) for name, colour in colours}


def ladder_chart(groups: Sequence[RunGroup]) -> Chart:
    """Draw a point for each run and a bar for the mean of each row; a choice for each summary."""
    metrics = metrics_of(groups)
    figures = {}
    for place, (metric, title) in enumerate(metrics.items()):
        shown = [group for group in groups if has_metric(group, metric)]
        means = dict(x=[group.mean(metric) for group in shown], y=[group.name for group in shown], mode='markers', name='mean')
        bars = dict(size=13, symbol='line-ns-open', color=COLOURS[0], line=dict(width=3))
        points = [(group.name, run) for group in shown for run in group.runs if run.scores.get(metric) is not None]
        single = dict(x=[run.scores[metric] for _, run in points], y=[name for name, _ in points], mode='markers', name='a run')
        single |= dict(customdata=[run.get('seed') for _, run in points])
        single |= dict(hovertemplate='%{y}, seed %{customdata}: %{x:.2f}<extra></extra>')
        direction = 'lower' if lower_is_better(groups, metric) else 'higher'
        figures[str(place)] = dict(
            data=[
                dict(type='scatter', **means, marker=bars),
                dict(type='scatter', **single, marker=dict(size=8, color=COLOURS[0], opacity=0.65)),
            ],
            layout=dict(xaxis=dict(title=f'{title} ({direction} is better)'), yaxis=dict(autorange='reversed', type='category')),
        )
    choices = [('score', list(metrics.values()))]
    return Chart('ladder', choices, figures, 'Points are runs, bars their means.', height=120 + 34 * len(groups))


def cost_chart(
    costs: Sequence['RunCost'], headings: Mapping[str, str], groups: Sequence[RunGroup], colours: Mapping[str, str]
) -> Chart | None:
    """Draw a score against a cost, a point for each group; None if no group has both."""
    metrics = metrics_of(groups)
    by_name = {group.name: group for group in groups}
    known = [key for key in headings if any(getattr(cost, key) is not None for cost in costs)]
    figures = {}
    for (x, key), (y, metric) in itertools.product(enumerate(known), enumerate(metrics)):
        data = [
            dict(
                type='scatter',
                mode='markers',
                name=cost.name,
                x=[getattr(cost, key)],
                y=[by_name[cost.name].mean(metric)],
                marker=dict(size=12, color=colours[cost.name]),
                hovertemplate='%{x:.4g}, %{y:.2f}',
            )
            for cost in costs
            if getattr(cost, key) is not None and has_metric(by_name[cost.name], metric)
        ]
        worse = ' (lower is better)' if lower_is_better(groups, metric) else ''
        layout = dict(
            xaxis=dict(title=headings[key], rangemode='tozero'), yaxis=dict(title=metrics[metric] + worse), showlegend=True
        )
        figures[f'{x},{y}'] = dict(data=data, layout=layout)
    if not any(figure['data'] for figure in figures.values()):
        return None
    return Chart('costs', [('cost', [headings[key] for key in known]), ('score', list(metrics.values()))], figures)


def confusion_charts(splits: Mapping[str, SplitAnalysis], colours: Mapping[str, str]) -> dict[str, list[Chart]]:
    """Draw the IoU by class of each class map, and its confusions: shares, and their difference to the first model."""
    matrices, labels = confusions_by_label(splits), next(iter(splits.values())).labels
    classes = {label: list(labels[label].classes) for label in matrices}
    return {
        label: [
            _iou_chart(f'iou-{label}', by_model, classes[label], colours),
            _confusion_chart(f'confusion-{label}', by_model, classes[label]),
        ]
        for label, by_model in matrices.items()
    }


def _iou_chart(name: str, by_model: Mapping[str, np.ndarray], classes: list[str], colours: Mapping[str, str]) -> Chart:
    bars = []
    for model, matrix in by_model.items():
        iou = class_iou(matrix)
        # A class that no pixel has, and none is taken for, counts as 0 in the mean.
        shown = np.where(matrix.sum(axis=0) + matrix.sum(axis=1) == 0, np.nan, iou)
        values = dict(_bars([*classes, 'mean'], [*shown, iou.mean()]), hovertemplate='%{x}: %{y:.1f} %')
        bars.append(dict(name=model, marker=dict(color=colours[model]), **values))
    axes = dict(yaxis=dict(title='IoU (%)', rangemode='tozero'), xaxis=dict(tickangle=-60))
    return Chart(
        name, [], {'': dict(data=bars, layout=dict(axes, barmode='group', showlegend=len(bars) > 1))}, title='IoU by class'
    )


def _confusion_chart(name: str, by_model: Mapping[str, np.ndarray], classes: list[str]) -> Chart:
    first = normalise_rows(next(iter(by_model.values())))
    axis = dict(constrain='domain', showgrid=False)
    layout = dict(
        xaxis=dict(axis, title='prediction', tickangle=-60),
        yaxis=dict(axis, title='label', autorange='reversed', scaleanchor='x'),
    )
    figures = {}
    for place, matrix in enumerate(by_model.values()):
        shares = normalise_rows(matrix)
        change = shares - first
        limit = float(np.nanmax(np.abs(change), initial=1.0))
        views = {
            'per cent of the label': dict(z=shares, colorscale=_scale('Blues'), zmin=0, zmax=100, text='%{z:.1f} %'),
            'points more than the first model': dict(
                z=change, colorscale=_scale('bwr'), zmin=-limit, zmax=limit, text='%{z:+.1f} points'
            ),
        }
        for view, heat in enumerate(views.values()):
            heat |= dict(z=[_numbers(row) for row in heat['z']], x=classes, y=classes, xgap=1, ygap=1)
            heat['hovertemplate'] = f'label %{{y}}, predicted %{{x}}: {heat.pop("text")}<extra></extra>'
            heat['colorbar'] = dict(thickness=12, len=0.7)
            figures[f'{place},{view}'] = dict(data=[dict(heat, type='heatmap')], layout=layout)
    shown = list(views)[: len(by_model)]
    return Chart(
        name,
        [('model', list(by_model)), ('show', shown)],
        figures,
        height=max(380, 150 + 26 * len(classes)),
        title='Confusion matrix',
    )


def error_charts(splits: Mapping[str, SplitAnalysis], colours: Mapping[str, str]) -> dict[str, list[Chart]]:
    """Draw the errors of each label by distance, by class and the like, and over the places of the image."""
    charts: dict[str, list[Chart]] = {}
    errors = next(iter(splits.values())).errors
    for label, by in itertools.product(errors, (*errors, PLACE)):
        tables = {model: [table for table in split.tables_by(by) if table.label == label] for model, split in splits.items()}
        tables = {model: own for model, own in tables.items() if any(table.counts.any() for table in own)}
        if tables:
            name = f'error-{label}-by-{by}'
            chart = _place_chart(name, tables) if by == PLACE else _group_chart(name, tables, errors[by], colours)
            charts.setdefault(label, []).append(chart)
    return charts


def _group_chart(name: str, tables: Mapping[str, Sequence[ErrorTable]], by: PixelErrors, colours: Mapping[str, str]) -> Chart:
    edges = by.group_edges()
    axis = dict(title=by.group_title, tickangle=-60)
    if edges is not None:
        edges = [float(edge) for edge in edges]
        axis |= dict(type='log', tickvals=edges, ticktext=[f'{edge:.3g}' for edge in edges], tickangle=0)
    errors = [table.error for table in next(iter(tables.values()))]
    figures = {}
    for place, error in enumerate(errors):
        data = []
        for model, own in tables.items():
            sums = own[place]
            trace = dict(name=model, customdata=sums.counts.tolist())
            trace['hovertemplate'] = '%{x}: %{y:.3g} (%{customdata:,} pixels)'
            if edges is None:
                data.append(dict(trace, **_bars(sums.names, sums.means), marker=dict(color=colours[model])))
            else:
                middles = _numbers(np.sqrt(np.multiply(edges[:-1], edges[1:])))
                data.append(
                    dict(
                        trace,
                        type='scatter',
                        mode='lines+markers',
                        x=middles,
                        y=_numbers(sums.means),
                        line=dict(color=colours[model]),
                    )
                )
        layout = dict(xaxis=axis, yaxis=dict(title=error, rangemode='tozero'), barmode='group', showlegend=len(data) > 1)
        figures[str(place)] = dict(data=data, layout=layout)
    return Chart(name, [('error', errors)], figures, title=f'Error by {by.group_title.split(" (")[0]}')


def _place_chart(name: str, tables: Mapping[str, Sequence[ErrorTable]]) -> Chart:
    errors = [table.error for table in next(iter(tables.values()))]
    hidden = dict(visible=False)
    layout = dict(xaxis=hidden, yaxis=dict(hidden, autorange='reversed'))
    figures = {}
    for place in range(len(errors)):
        means = [own[place].means for own in tables.values()]
        # One scale for all models.
        limit = float(np.nanmax(np.abs(means))) or 1.0
        negative = np.nanmin(means) < 0
        heat = dict(
            type='heatmap', colorscale=_scale('bwr' if negative else 'inferno'), zmin=-limit if negative else 0, zmax=limit
        )
        heat |= dict(hovertemplate='%{z:.3g}<extra></extra>', colorbar=dict(thickness=12))
        for model, values in enumerate(means):
            cells = [_numbers(row) for row in np.reshape(values, PLACES)]
            figures[f'{model},{place}'] = dict(data=[dict(heat, z=cells)], layout=layout)
    return Chart(name, [('model', list(tables)), ('error', errors)], figures, height=300, title='Error by place in the image')


def _bars(names: Sequence[str], values: Sequence[float]) -> dict:
    """Return bars by name, with the word none in the place of NaN: no bar at all would read as no error."""
    absent = np.isnan(values)
    texts = dict(text=['none' if each else '' for each in absent], textposition='outside', textangle=-90, cliponaxis=False)
    return dict(type='bar', x=list(names), y=_numbers(np.where(absent, 0, values)), **texts)


def _scale(name: str) -> list[list]:
    return [[place / 8, to_hex(matplotlib.colormaps[name](place / 8))] for place in range(9)]


def _numbers(values) -> list[float | None]:
    return [float(f'{value:.5g}') if np.isfinite(value) else None for value in values]
