"""Surface normals: a unit vector per pixel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.normal_errors import NormalScorer
from mtl_plugins.labels.decoding import read_rgb, read_vectors
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.labels.pictures import INVALID, ColourBar, colour_values, even_bar

if TYPE_CHECKING:
    from torch import Tensor

_DECODE_TABLE = np.concatenate([[0.0], (np.arange(1, 256) - 128) / 127]).astype(np.float32)


def decode_normals(codes: np.ndarray) -> np.ndarray:
    """Return float32 unit vectors of codes ``(..., 3)`` uint8, zero where unknown; raise TypeError for another type."""
    if codes.dtype != np.uint8:
        raise TypeError(f'`codes` should be uint8. Found {codes.dtype}.')
    return _normalised(_DECODE_TABLE[codes])


def encode_normals(vectors: np.ndarray) -> np.ndarray:
    """Codes ``(..., 3)`` uint8 of vectors of any length; unknown where a vector is zero or not finite.

    A component's code is at most 1/254 off.
    """
    unit = _normalised(np.where(np.isfinite(vectors).all(-1, keepdims=True), vectors, 0))
    codes = (unit * 127 + 128.5).astype(np.uint8)
    return np.where(unit.any(-1, keepdims=True), codes, np.uint8(0))


def _normalised(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.square(vectors).sum(-1, keepdims=True))
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


AXES = dict(x=0, y=1, z=2)
MAX_ANGLE = 60.0


class SurfaceNormals(LabelKind):
    """Unit vectors in the frame of the camera: x right, y up, z towards the camera. Stored as three uint8 codes, 0 = unknown.

    Files: RGB PNG of codes (``k`` in 1..255 is ``(k - 128) / 127``, black is unknown), or vectors ``(H, W, 3)`` in ``.npy``,
    ``.npz`` or EXR, where a vector that is shorter than a half or not finite is unknown. Values are float32 ``(H, W, 3)``.

    A mirrored view negates x; a tilted one turns x and y; zoom and perspective wiggle leave vectors as they are.

    Args:
        axes: Which axis of the file is x, y and z here, each with a sign: ``('x', '-y', '-z')`` for x right, y down, z forward.
    """

    invalid = 0
    titles = ('normals', 'predicted normals')
    error_note = f'dark .. yellow: normal off by 0 .. {MAX_ANGLE:g} degrees'

    def __init__(self, *, name: str, path: str = '{split}/{name}/{stem}.png', axes: Sequence[str] = ('x', 'y', 'z')) -> None:
        super().__init__(name=name, path=path)
        letters = [axis.lstrip('+-') for axis in axes]
        if sorted(letters) != ['x', 'y', 'z']:
            raise ArgumentError(f"`axes` of {name} should be 'x', 'y' and 'z' in some order, with signs. Found {tuple(axes)}.")
        self._order = [AXES[letter] for letter in letters]
        self._signs = np.array([-1 if axis.startswith('-') else 1 for axis in axes], np.float32)
        self._is_standard = self._order == [0, 1, 2] and (self._signs > 0).all()

    def decode(self, path: str, *, size: tuple[int, int] | None = None) -> np.ndarray:
        if path.lower().endswith('.png'):
            codes = read_rgb(path, 'normal map', size)
            return codes if self._is_standard else encode_normals(self._turn(decode_normals(codes)))
        vectors = read_vectors(path, 'normal map')
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        known = np.isfinite(length) & (length > 0.5)
        return encode_normals(self._turn(np.where(known, vectors / np.where(known, length, 1), 0)))

    def _turn(self, vectors: np.ndarray) -> np.ndarray:
        return vectors[..., self._order] * self._signs

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        return np.zeros((*size, 3), np.uint8)

    def move(self, stored: np.ndarray, flip: bool, tilt_deg: float) -> np.ndarray:
        if tilt_deg:
            vectors = decode_normals(stored)
            cosine, sine = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
            x, y = vectors[..., 0], vectors[..., 1]
            # The view is turned against the image, so the scene turns the other way: y is up here, and down in the image.
            vectors[..., 0], vectors[..., 1] = cosine * x - sine * y, sine * x + cosine * y
            stored = encode_normals(vectors)
        if flip:
            stored = stored.copy()
            # Codes are symmetric about 128, and 0 (unknown) stays 0: 256 - 0 wraps to it.
            stored[..., 0] = -stored[..., 0]
        return stored

    def table(self) -> np.ndarray:
        return _DECODE_TABLE

    def to_target(self, stored: 'Tensor', table: 'Tensor', length_scale: 'Tensor | None') -> 'Tensor':
        """float32 unit vectors ``(B, 3, H, W)``, zero where unknown."""
        vectors = table.index_select(0, stored.flatten().int()).view(stored.shape)
        length = vectors.square().sum(-1, keepdim=True).sqrt()
        return (vectors / length.clamp(min=1e-6)).permute(0, 3, 1, 2)

    def to_values(self, stored: np.ndarray) -> np.ndarray:
        return decode_normals(stored)

    def encode(self, values: np.ndarray, rounding: str) -> np.ndarray:
        if values.ndim != 3 or not np.isfinite(values).all():
            raise ArgumentError(f'`{self.name}` should be finite vectors. Found the shape {values.shape}, or NaN or infinity.')
        return encode_normals(values)

    def mix(self, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The direction of the weighted mean; of opposite vectors the second."""
        mean = super().mix(first, second, share)
        length = np.linalg.norm(mean, axis=-1, keepdims=True)
        whole = np.isin(share, (0, 1))[..., None] | (first == second).all(-1, keepdims=True)
        return np.where(whole, mean, np.where(length > 1e-6, mean / np.maximum(length, 1e-6), second))

    def scorer(self) -> NormalScorer:
        return NormalScorer(self.name)

    def count(self, stored: np.ndarray) -> np.ndarray:
        """As of all kinds, and of the vectors that point away from the camera."""
        return np.append(super().count(stored), (self.valid(stored) & (stored[..., 2] < 128)).sum())

    def doubts(self, counts: np.ndarray, is_whole: bool) -> list[str]:
        away = counts[2] / max(counts[0], 1)
        turned = [f'{100 * away:.0f} % of the normals point away from the camera: `axes` gives z the other sign.']
        return super().doubts(counts, is_whole) or (turned if away > 0.5 else [])

    def colour(self, values: np.ndarray) -> np.ndarray:
        """Return the usual colours: x, y, z as red, green, blue; grey: unknown."""
        picture = ((values + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        picture[~values.any(-1)] = INVALID
        return picture

    def note(self) -> str:
        return 'normals: red right, green up, blue towards the camera, grey unknown'

    def error_bar(self) -> ColourBar:
        return even_bar(f'errors of {self.name} (degrees)', 'inferno', (0, MAX_ANGLE / 2, MAX_ANGLE))

    def draw_error(self, picture: np.ndarray, values: np.ndarray, prediction: np.ndarray) -> None:
        valid = values.any(-1)
        angle = np.rad2deg(np.arccos((values * prediction).sum(-1).clip(-1, 1)))
        picture[valid] = colour_values(angle / MAX_ANGLE, valid, 'inferno')[valid]
