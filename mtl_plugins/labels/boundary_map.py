"""Binary boundaries per pixel."""

from typing import Any

import numpy as np

from mtl_plugins.errors import ArgumentError, CorruptFileError
from mtl_plugins.evaluation.functional.boundary_f import BoundaryScorer
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.decoding import read_grey
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.pictures import INVALID, colour_values

MOST_TOLERANCE = 1000


class BoundaryMap(LabelKind):
    """Boundaries between regions: uint8 1 on a boundary, 0 elsewhere, 255 = ignored.

    Files: 8-bit grey PNG of those values. Predicted values are probabilities, float32; their codes are ``round(255 p)``.

    Args:
        tolerance: Distance in pixels at which a predicted and a labelled boundary still match.
    """

    invalid = IGNORE_LABEL
    titles = ('boundaries', 'predicted boundaries')

    def __init__(self, *, name: str, path: str = '{split}/{name}/{stem}.png', tolerance: int = 2) -> None:
        super().__init__(name=name, path=path)
        if not isinstance(tolerance, int) or not 0 <= tolerance <= MOST_TOLERANCE:
            raise ArgumentError(
                f'`tolerance` of {name} should be a whole number from 0 to {MOST_TOLERANCE}. Found {tolerance!r}.'
            )
        self.tolerance = tolerance

    def decoding(self) -> dict[str, Any]:
        return {key: value for key, value in super().decoding().items() if key != 'tolerance'}

    def decode(self, path: str, *, size: tuple[int, int] | None = None) -> np.ndarray:
        boundary = read_grey(path, 'boundary map', size)
        # Adding 1 wraps 255 to 0, so that one maximum answers for both ranges.
        if (boundary + np.uint8(1)).max() > 2:
            found = sorted({int(value) for value in np.unique(boundary)} - {0, 1, IGNORE_LABEL})
            raise CorruptFileError(f"The boundary map '{path}' should hold 0, 1 and 255. Found {found[:8]}.")
        return boundary

    def encode(self, values: np.ndarray, rounding: str) -> np.ndarray:
        if not (values.min() >= 0 and values.max() <= 1):
            raise ArgumentError(f'`{self.name}` should be probabilities. Found {values.min()}..{values.max()}.')
        return (values * np.float32(255) + np.float32(0.5)).astype(np.uint8)

    def code_values(self, codes: np.ndarray) -> np.ndarray:
        return codes.astype(np.float32) / np.float32(255)

    def plain_config(self) -> dict[str, Any]:
        return dict(super().plain_config(), tolerance=self.tolerance)

    def scorer(self) -> BoundaryScorer:
        return BoundaryScorer(self.name, self.tolerance)

    def colour(self, values: np.ndarray) -> np.ndarray:
        """Return colours from black to white; grey: ignored."""
        valid = values <= 1
        picture = colour_values(np.where(valid, values, 0), valid, 'gray')
        picture[~valid] = INVALID
        return picture
