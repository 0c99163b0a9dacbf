"""The gate of exports: a file computes what the model computes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from mtl_plugins.deployment.runtimes import Description, ExportedRuntime
from mtl_plugins.errors import UserError
from mtl_plugins.loading import to_arrays

# Two ways to compute a sum in float32 differ by about this share of its largest terms.
ROUNDING = 1e-4
# Images (number, height, width) of the gate: a multiple of all strides, none, and a larger one.
GATE = ((1, 64, 96), (2, 97, 131), (1, 128, 256))


class Limits(NamedTuple):
    """Least share of the pixels with the same class, least share of other values within the tolerance, and the tolerance.

    Pixels whose class rounding decides do not count. The tolerance is relative for values with a unit, else absolute.
    """

    classes: float
    values: float
    tolerance: float


LIMITS = dict(
    float32=Limits(1.0, 1.0, tolerance=1e-4),
    float16=Limits(0.99, 0.99, tolerance=0.01),
    bfloat16=Limits(0.97, 0.99, tolerance=0.05),
    int8=Limits(0.9, 0.9, tolerance=0.1),
)


@dataclass(frozen=True)
class Row:
    """One output for one batch of images ``shape``, number, height and width.

    Attributes:
        share: Of the pixels that agree: the same class, among those that are not tied, or a value within the tolerance.
        limit: Least ``share``.
        ties: Of classes, the pixels that differ where rounding decides: the model's margin between its own class and another one
            is at most ``ROUNDING`` of its largest output. They do not count.
        error: Of other values, the largest difference; None of classes.
    """

    label: str
    shape: tuple[int, int, int]
    share: float
    limit: float
    ties: int = 0
    error: float | None = None

    @property
    def passed(self) -> bool:
        return self.share >= self.limit


@torch.inference_mode()
def compare(model: nn.Module, runtime: ExportedRuntime, batches: Iterable[np.ndarray], limits: Limits) -> list[Row]:
    """Run the model as it was trained, in float32 on the CPU, and a file on the same images ``(N, H, W, 3)`` uint8.

    Returns:
        A row per batch and output.
    """
    rows = []
    for images in batches:
        height, width = images.shape[1:3]
        inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(images)))['inputs']
        raw, expected, found = model(inputs), model.predict_arrays(inputs), runtime(images)
        for task, label in model.labels.items():
            margin, place = model.tasks[task].margin(raw[task]), (label, images.shape[:3])
            theirs, ours = found[label], to_arrays(expected[label][..., :height, :width])
            if margin is not None:
                tied = margin <= ROUNDING * raw[task].abs().flatten(1).amax(1)[:, None, None]
                tied = tied[:, :height, :width].numpy()
                same = theirs == ours
                share = 1.0 if tied.all() else float(same[~tied].mean())
                rows.append(Row(*place, share, limits.classes, ties=int((~same & tied).sum())))
            else:
                error = difference(theirs, ours, relative=runtime.labels[label].unit is not None)
                share = float((error <= limits.tolerance).mean())
                rows.append(Row(*place, share, limits.values, error=float(error.max())))
    return rows


def difference(found: np.ndarray, expected: np.ndarray, *, relative: bool) -> np.ndarray:
    """Return ``|found - expected|``, over ``|expected|`` if relative; infinite where exactly one of the two is not finite."""
    with np.errstate(invalid='ignore', divide='ignore'):
        error = np.abs(found.astype(np.float64) - expected)
        error = np.where(error > 0, error / np.abs(expected) if relative else error, 0.0)
    odd = ~(np.isfinite(found) & np.isfinite(expected))
    return np.where(odd, np.where((found == expected) | (np.isnan(found) & np.isnan(expected)), 0.0, np.inf), error)


def gate_images(description: Description) -> Iterator[np.ndarray]:
    """Give coloured noise of the sizes of the gate, or three batches of the size that is fixed: ``(N, H, W, 3)`` uint8."""
    for number, (batch, *size) in enumerate(GATE):
        rng = np.random.default_rng(number)
        yield np.stack([_coloured_noise(rng, *(description.size or size)) for _ in range(description.batch or batch)])


def _coloured_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return noise whose amplitude halves with each octave, as that of photographs: ``(H, W, 3)`` uint8, over the whole range."""
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(1, max(2, min(height, width).bit_length())):
        grid = rng.standard_normal((min(height, 2**octave), min(width, 2**octave), 3)).astype(np.float32)
        picture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)


def check_parity(rows: Sequence[Row], precision: str) -> None:
    """Print the gate as a table, and raise `UserError` if a row of it failed."""
    table = Table('images', 'output', 'agree (%)', 'at least (%)', 'decided by rounding (pixels)', 'largest difference')
    for row in rows:
        table.add_row(
            'x'.join(map(str, row.shape)),
            row.label,
            f'{100 * row.share:.3f}',
            f'{100 * row.limit:g}',
            str(row.ties) if row.error is None else '',
            '' if row.error is None else f'{row.error:.1e}',
        )
    Console().print(table)
    worst = min((row for row in rows if not row.passed), key=lambda row: row.share - row.limit, default=None)
    if worst is not None:
        what = 'the class' if worst.error is None else 'the value'
        raise UserError(
            f'The file should compute what the model computes: in {precision}, {what} of `{worst.label}` should agree in '
            f'{100 * worst.limit:g} % of the pixels. Found {100 * worst.share:.3f} % at {"x".join(map(str, worst.shape))}. '
            'Nothing was written.'
        )
