"""Whether an exported file computes what the model computes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mtl_plugins.deployment.runtimes.runtime import Runtime
from mtl_plugins.deployment.runtimes.torch_runtime import EagerRuntime

# Two ways to compute a sum in float32 differ by about this share of its largest terms.
ROUNDING = 1e-4


@dataclass(frozen=True)
class Limits:
    """What is asked of a file.

    Attributes:
        classes: Least share of the pixels with the same class, among those that rounding does not decide.
        tolerance: Largest difference of other values: relative where they have a unit, else absolute.
        values: Least share of the pixels within it.
    """

    classes: float
    tolerance: float
    values: float


LIMITS = dict(
    float32=Limits(classes=1.0, tolerance=1e-4, values=1.0),
    float16=Limits(classes=0.99, tolerance=0.01, values=0.99),
    bfloat16=Limits(classes=0.97, tolerance=0.05, values=0.99),
    int8=Limits(classes=0.9, tolerance=0.1, values=0.9),
)


@dataclass(frozen=True)
class Row:
    """One output for one batch of images.

    Attributes:
        label: Name of the output.
        shape: Of the images: number, height, width.
        is_class: Whether it holds classes.
        share: Of the pixels that agree: the same class, among those that are not tied, or a value within the tolerance.
        ties: Of classes, the pixels that differ where rounding decides: the model's margin between its own class and another one
            is at most ``ROUNDING`` of its largest output. They do not count.
        error: Of other values, the largest difference; NaN of classes.
        limit: Least ``share``.
    """

    label: str
    shape: tuple[int, int, int]
    is_class: bool
    share: float
    ties: int
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.share >= self.limit


def compare(model: nn.Module, runtime: Runtime, batches: Iterable[np.ndarray], limits: Limits) -> list[Row]:
    """Run the model as it was trained, in float32, and a file on the same images.

    Args:
        model: A :class:`MultiTaskSegmentor`.
        runtime: Of the file, of either content.
        batches: Images ``(N, H, W, 3)`` uint8.
        limits: What is asked.

    Returns:
        A row per batch and output.
    """
    eager = EagerRuntime(model, folded=False)
    of_images = runtime.description.content == 'images'
    rows = []
    for images in batches:
        with torch.inference_mode():
            inputs = eager.prepare(images)
            raw = model(inputs)
        found = runtime(images) if of_images else runtime.run(inputs.contiguous().numpy())
        expected = eager(images) if of_images else {model.labels[task]: each.numpy() for task, each in raw.items()}
        for task, label in model.labels.items():
            kind = runtime.labels[label]
            margin = model.tasks[task].margin(raw[task]) if of_images else None
            place = dict(label=label, shape=images.shape[:3], is_class=margin is not None)
            theirs, ours = found[label], expected[label]
            if theirs.dtype != ours.dtype or theirs.shape != ours.shape:
                rows.append(Row(**place, share=0.0, ties=0, error=np.nan, limit=1.0))
            elif margin is not None:
                tied = margin <= ROUNDING * raw[task].abs().flatten(1).amax(1)[:, None, None]
                tied = tied[:, : images.shape[1], : images.shape[2]].numpy()
                same = theirs == ours
                share = 1.0 if tied.all() else float(same[~tied].mean())
                rows.append(Row(**place, share=share, ties=int((~same & tied).sum()), error=np.nan, limit=limits.classes))
            else:
                error = difference(theirs, ours, relative=of_images and kind.unit is not None)
                if not of_images:
                    # Raw outputs have no unit; they differ by a share of the largest one.
                    error = error / max(float(np.abs(ours).max()), np.finfo(np.float32).tiny)
                share = float((error <= limits.tolerance).mean())
                rows.append(Row(**place, share=share, ties=0, error=float(error.max()), limit=limits.values))
    return rows


def difference(found: np.ndarray, expected: np.ndarray, *, relative: bool) -> np.ndarray:
    """``|found - expected|``, over ``|expected|`` if relative; infinite where exactly one of the two is not finite."""
    with np.errstate(invalid='ignore', divide='ignore'):
        error = np.abs(found.astype(np.float64) - expected)
        error = np.where(error > 0, error / np.abs(expected) if relative else error, 0.0)
    odd = ~(np.isfinite(found) & np.isfinite(expected))
    return np.where(odd, np.where((found == expected) | (np.isnan(found) & np.isnan(expected)), 0.0, np.inf), error)
