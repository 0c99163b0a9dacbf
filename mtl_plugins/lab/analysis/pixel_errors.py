"""Errors of single pixels by kind of label: numbers, colours, and the groups by which they are analysed."""

import itertools
from collections.abc import Sequence

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.depth_errors import DEPTH_FLOOR
from mtl_plugins.evaluation.functional.normal_errors import angles_between
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL, check_shapes
from mtl_plugins.labels.boundary_map import BoundaryMap
from mtl_plugins.labels.class_map import ClassMap
from mtl_plugins.labels.depth_map import DepthMap
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.pictures import INVALID, ColourBar, colour_values, even_bar
from mtl_plugins.labels.surface_normals import MAX_ANGLE, SurfaceNormals

MAX_RELATIVE_ERROR = 50.0
NUM_DISTANCES = 12


class PixelErrors:
    """Errors of the pixels of a label, and the groups that its values make. This one is of kinds without either.

    Attributes:
        names: Of the errors, with units. The first one ranks images: 0 is the best.
        scale: Title of the key to :meth:`colour` and the largest error on it; by default the largest of the image, without a key.
        note: A sentence on the colours, unless they have a :meth:`bar`.
        group_title: Quantity of the label, such as its class, that groups the errors of all labels; None groups nothing.
    """

    names: tuple[str, ...] = ()
    scale: tuple[str, float] | None = None
    note: str | None = None
    group_title: str | None = None

    def __init__(self, kind: LabelKind) -> None:
        self.kind = kind

    def measure(self, values: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        """Return the errors of each pixel by name, ``(H, W)`` float64, NaN where the label does not count.

        Raises:
            ArgumentError: If the shapes differ or a predicted value is not finite.
        """
        return {}

    def bar(self) -> ColourBar | None:
        """Return the key to :meth:`colour`, where the colours are numbers."""
        return None if self.scale is None else even_bar(self.scale[0], 'inferno', (0, self.scale[1] / 2, self.scale[1]))

    def colour(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the colours ``(H, W, 3)`` of the first of the errors: dark (none) to yellow, grey unknown."""
        error = next(iter(self.measure(values, prediction).values()))
        largest = self.scale[1] if self.scale else max(np.nanmax(error, initial=0), 1e-12)
        return colour_values(np.nan_to_num(error) / largest, ~np.isnan(error), 'inferno')

    def group_names(self) -> Sequence[str]:
        """Return the names of the groups."""
        return ()

    def group_edges(self) -> np.ndarray | None:
        """Return the ascending positive numbers around groups that are ranges, one more than groups."""
        return None

    def groups(self, values: np.ndarray) -> np.ndarray:
        """Return the group of each pixel, ``(H, W)`` integers; what is out of range belongs to none."""
        return np.zeros(values.shape[:2], np.int64)


class ClassErrors(PixelErrors):
    """Wrong classes; groups are the classes."""

    names = ('wrong pixels (%)',)
    note = 'errors: the predicted class where it is wrong, white where it is right, grey without a label'
    group_title = 'class'

    def measure(self, values: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        check_shapes(values, prediction)
        return {self.names[0]: np.where(values == IGNORE_LABEL, np.nan, 100.0 * (values != prediction))}

    def colour(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        picture = np.where((values == prediction)[..., None], np.uint8(255), self.kind.colour(prediction))
        picture[values == IGNORE_LABEL] = INVALID
        return picture

    def group_names(self) -> Sequence[str]:
        return self.kind.classes

    def groups(self, values: np.ndarray) -> np.ndarray:
        return values


class DepthErrors(PixelErrors):
    """Errors of metres clamped to at least 0.01; groups are equally wide on a logarithmic scale over ``depth_range``."""

    names = ('absolute relative error (%)', 'log error (above 0: predicted too far)')
    group_title = 'distance (m)'

    def measure(self, values: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        check_shapes(values, prediction)
        if not np.isfinite(prediction).all():
            raise ArgumentError('`prediction` should be finite. Found NaN or infinity.')
        truth, guess = (np.maximum(depth.astype(np.float64), DEPTH_FLOOR) for depth in (values, prediction))
        errors = (100 * np.abs(guess - truth) / truth, np.log(guess) - np.log(truth))
        return {name: np.where(values > 0, error, np.nan) for name, error in zip(self.names, errors, strict=True)}

    def colour(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the relative error from blue (too near) over white to red (too far)."""
        relative, logarithmic = self.measure(values, prediction).values()
        position = 0.5 + np.copysign(relative, logarithmic) / (2 * MAX_RELATIVE_ERROR)
        return colour_values(np.nan_to_num(position), values > 0, 'bwr')

    def bar(self) -> ColourBar:
        limit = MAX_RELATIVE_ERROR
        title = 'relative depth error (%): blue predicted too near, red too far'
        return even_bar(title, 'bwr', (-limit, -limit / 2, 0, limit / 2, limit))

    def group_names(self) -> Sequence[str]:
        return [f'{near:.3g} - {far:.3g}' for near, far in itertools.pairwise(self.group_edges())]

    def group_edges(self) -> np.ndarray:
        return np.geomspace(*self.kind.depth_range, NUM_DISTANCES + 1)

    def groups(self, values: np.ndarray) -> np.ndarray:
        """Group by distance; values beyond the range are in the outer groups."""
        nearer = np.searchsorted(self.group_edges()[1:-1], values, side='right')
        return np.where(values > 0, nearer, -1)


class NormalErrors(PixelErrors):
    """Angles to vectors ``(H, W, 3)``; a zero in the label is unknown."""

    names = ('angle (degrees)',)
    scale = ('angle between true and predicted normal (degrees)', MAX_ANGLE)

    def measure(self, values: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        check_shapes(values, prediction)
        angles, valid = np.full(values.shape[:2], np.nan), values.any(-1)
        angles[valid] = angles_between(values[valid].astype(np.float64), prediction[valid].astype(np.float64))
        return {self.names[0]: angles}


class BoundaryErrors(PixelErrors):
    """Distances of probabilities from 0 or 1; 255 in the label does not count."""

    names = ('error of the probability (%)',)
    scale = ('error of the probability of a boundary (%)', 100)

    def measure(self, values: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        check_shapes(values, prediction)
        error = 100 * np.abs(prediction.astype(np.float64) - values)
        return {self.names[0]: np.where(values == IGNORE_LABEL, np.nan, error)}


# By kind, of which subclasses have the same. A kind of a plug-in adds its own.
ERRORS: dict[type[LabelKind], type[PixelErrors]] = {
    ClassMap: ClassErrors,
    DepthMap: DepthErrors,
    SurfaceNormals: NormalErrors,
    BoundaryMap: BoundaryErrors,
}


def errors_of(kind: LabelKind) -> PixelErrors:
    """Return the errors of a kind of label."""
    return next((ERRORS[cls] for cls in type(kind).__mro__ if cls in ERRORS), PixelErrors)(kind)
