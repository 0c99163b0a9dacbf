"""Pages from templates, and the curves of runs as plain numbers for their script."""

import base64
import contextlib
import functools
import gzip
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.colors import to_hex
from plotly.offline import get_plotlyjs

from mtl_plugins.errors import DataError
from mtl_plugins.evaluation.scores import axis_title
from mtl_plugins.lab.plots.style import COLOURS, distinct_colours
from mtl_plugins.lab.report.groups import RunGroup
from mtl_plugins.lab.runs.training_log import read_scalars, wall_hours
from mtl_plugins.records.metrics_file import FILE_NAME, read_metrics, read_row

_TEMPLATES = Path(__file__).parent / 'templates'


def render(template: str, **values: Any) -> str:
    """Return the HTML of a file in ``templates`` with its values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def render_page(template: str, **values: Any) -> str:
    """Return a page that needs no other file: style, script and Plotly are inside."""
    style, script = ((_TEMPLATES / name).read_text(encoding='utf-8') for name in ('style.css', 'page.js'))
    return render(template, style=style, script=script, plotly=_packed_plotly(), **values)


@functools.cache
def _packed_plotly() -> str:
    """Return Plotly's script, compressed to a third; kept, since packing takes a second and the dashboard serves it often."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


# A longer log is averaged over so many parts: a screen has no room for more.
MOST_POINTS = 240
_COUNTERS = ('iter', 'epoch', 'step')
# Black would vanish on a dark page.
_BLACK, _GREY = COLOURS[-1], '#8a9097'


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Return the colours of the pictures, legible on dark paper too."""
    colours = zip(names, distinct_colours(len(names)), strict=True)
    return {name: _GREY if colour == _BLACK else to_hex(colour) for name, colour in colours}


def curves_of(groups: Sequence[RunGroup]) -> dict:
    """Return names of ``groups``, ``titles`` of the metrics, and ``runs``.

    Each run has ``group`` (position), ``seed``, ``validation`` and ``training``.
    The last two have ``iter``, ``epoch``, ``hours`` and ``values`` by metric, or are None; so are epochs and hours that the run
    does not know. A damaged file counts as none: the list of runs says what is wrong with a run.
    """
    runs = []
    for place, group in enumerate(groups):
        for run in group.runs:
            rows: list[dict] = []
            logged: list[Mapping] = []
            with contextlib.suppress(DataError, ValueError):
                rows = [read_row(row) | {key: float(row[key]) for key in ('iter', 'epoch') if row.get(key)} for row in
                        read_metrics(run.path / FILE_NAME)]  # fmt: skip
            with contextlib.suppress(DataError):
                logged = read_scalars(run.path)
            last = rows[-1] if rows else {}
            rate = last['epoch'] / last['iter'] if last.get('epoch') and last.get('iter') else None
            if rate is None:
                epochs, iterations = run.number('progress.max_epochs'), run.number('progress.max_iters')
                rate = epochs / iterations if epochs and iterations else None
            series = {name: _series(run.path, part, rate) for name, part in (('validation', rows), ('training', logged))}
            runs.append(dict(group=place, seed=run.get('seed'), **series))
    known = [name for run in runs for part in ('validation', 'training') for name in (run[part] or {}).get('values', ())]
    titles = {name: axis_title(name) for name in dict.fromkeys(known)}
    return dict(groups=[group.name for group in groups], runs=runs, titles=titles)


def _series(path, rows: Sequence[Mapping], epochs_per_iteration: float | None) -> dict | None:
    rows = [row for row in rows if 'iter' in row]
    if not rows:
        return None
    iterations = np.array([row['iter'] for row in rows], np.float64)
    names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, (int, float)))
    values = {name: np.array([row.get(name, math.nan) for row in rows], np.float64) for name in names if name not in _COUNTERS}
    parts = np.array_split(np.arange(len(rows)), min(len(rows), MOST_POINTS))
    hours = None
    with contextlib.suppress(DataError):
        hours = _average(wall_hours(path, iterations), parts)
    done = _average(iterations, parts)
    return dict(
        iter=done,
        epoch=None if epochs_per_iteration is None else [_round(epochs_per_iteration * each) for each in done],
        hours=hours,
        values={name: _average(column, parts) for name, column in values.items() if not np.isnan(column).all()},
    )


def _average(column: np.ndarray, parts: Sequence[np.ndarray]) -> list[float | None]:
    means = [column[part][np.isfinite(column[part])] for part in parts]
    return [_round(float(known.mean())) if known.size else None for known in means]


def _round(value: float) -> float:
    """Return the value with five digits: no screen shows more."""
    return float(f'{value:.5g}')
