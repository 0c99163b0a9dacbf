"""A score of several runs against what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from mtl_plugins.visualization.plots import COLOURS

_FRONT, _GRID = '#9aa0a6', '#e4e6e8'


@dataclass(frozen=True)
class CostPoint:
    """A run; those of one name, such as several seeds, share a colour."""

    name: str
    cost: float
    score: float


def best_trade_offs(points: Sequence[CostPoint], lower_is_better: bool = False) -> list[CostPoint]:
    """The points that no cheaper or equally cheap one beats, by rising cost."""
    sign = -1 if lower_is_better else 1
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -sign * point.score)):
        if not front or sign * point.score > sign * front[-1].score:
            front.append(point)
    return front


def render_score_against_cost(
    points: Sequence[CostPoint], cost: str, score: str, lower_is_better: bool = False, title: str | None = None
) -> Figure:
    """Draw a point per run, and a dashed line through those that no cheaper run beats.

    Args:
        points: The runs.
        cost: What the horizontal axis shows.
        score: What the vertical one shows.
        lower_is_better: Whether the score is an error.
        title: Above everything.


    Raises:
        ValueError: If there is no point.
    """
    if not points:
        raise ValueError('`points` should hold at least one run. Found none.')
    names = list(dict.fromkeys(point.name for point in points))
    figure = Figure(figsize=(8.4, 4.8), dpi=110, layout='constrained')
    axis = figure.subplots()
    front = best_trade_offs(points, lower_is_better)
    places = dict(color=_FRONT, linestyle='--', linewidth=1, zorder=1)
    axis.step([point.cost for point in front], [point.score for point in front], where='post', **places)
    for number, name in enumerate(names):
        own = [point for point in points if point.name == name]
        # Eight colours that can be told apart, and then other shapes.
        look = dict(color=COLOURS[number % len(COLOURS)], marker='os^Dv'[number // len(COLOURS) % 5])
        axis.scatter([point.cost for point in own], [point.score for point in own], s=44, label=name, **look)
    axis.set_xlabel(cost)
    axis.set_ylabel(f'{score} (lower is better)' if lower_is_better else score)
    axis.margins(0.08)
    axis.set_xlim(left=0)
    axis.set_axisbelow(True)
    axis.grid(color=_GRID)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
    figure.legend(frameon=False, loc='outside right upper', fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure
