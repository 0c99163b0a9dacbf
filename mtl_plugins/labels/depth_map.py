"""Depth in metres per pixel."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mtl_plugins.errors import ArgumentError, CorruptFileError, InvalidPredictionError
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.labels.decoding import read_bytes, read_grey, read_numbers
from mtl_plugins.labels.depth_codec import DEPTH_MAX, DEPTH_MIN, NUM_CODES, decode_table, encode_depth, encode_label
from mtl_plugins.labels.label_kind import MANY, LabelKind, mean_and_std
from mtl_plugins.labels.pictures import INVALID, ColourBar, colour_values, even_bar
from mtl_plugins.utils.data_files import parse_json

if TYPE_CHECKING:
    from torch import Tensor

ENCODINGS = ('code', 'metres', 'disparity')
# Steps in which metres are counted: 0.1 mm to 1000 km.
FIRST_BIN, BIN_WIDTH, NUM_BINS = 1e-4, np.log(1.01), 2315
QUANTITIES = dict(metres=lambda depth: depth, log=np.log, inverse=np.reciprocal)
MAX_LOG_ERROR = np.log(2.0)
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class DepthMap(LabelKind):
    """Depth: stored as uint8 disparity codes (0 = unknown) or float32 metres (0 = unknown); values are float32 metres.

    Encodings of the file:

    * ``'code'``: MiniScapes' 8-bit disparity code over ``depth_range``, a grey PNG.
    * ``'metres'``: numbers, times ``scale``: PNG of 8 or 16 bits (``scale=0.001`` for millimetres), ``.npy``, ``.npz``, EXR,
      TIFF. What is not positive or not finite is unknown.
    * ``'disparity'``: Cityscapes' 16-bit disparity ``p``: 0 is unknown, else ``(p - 1) / 256`` pixels, and depth is ``baseline *
      fx / disparity`` with both from the camera file of the sample; a disparity of 0 is unknown too (infinitely far).

    Args:
        encoding: One of the above.
        scale: Metres per unit of the file, for ``'metres'``; None is 1.
        camera: Template of the camera file, for ``'disparity'``.
        depth_range: Least and largest metres: of the code of labels (beyond it they are unknown), of predictions in a submission
            (clamped), and of the colours.
        within_range: Whether metres of labels beyond ``depth_range`` are unknown, as they always are in codes: for the skies of
            renderers and the far end of stereo.
        ignore: Numbers in the file that mean unknown, besides 0: 65535 in 7-Scenes.
    """

    invalid = 0
    is_depth = True
    titles = ('depth', 'predicted depth')
    unit = 'm'
    error_note = 'dark .. yellow: depth off by a factor of 1 .. 2'

    def __init__(
        self,
        *,
        name: str,
        path: str = '{split}/{name}/{stem}.png',
        encoding: str = 'code',
        scale: float | None = None,
        camera: str | None = None,
        depth_range: Sequence[float] = (DEPTH_MIN, DEPTH_MAX),
        within_range: bool = False,
        ignore: Sequence[float] = (),
    ) -> None:
        super().__init__(name=name, path=path)
        if encoding not in ENCODINGS:
            raise ArgumentError(f'`encoding` of {name} should be one of {list(ENCODINGS)}. Found {encoding!r}.')
        if scale not in (None, 1) and encoding != 'metres':
            raise ArgumentError(
                f"`scale` of {name} should be given with the encoding 'metres' and no other: codes span `depth_range`, and "
                f'disparities have their camera. Found {scale} with {encoding!r}.'
            )
        scale = 1.0 if scale is None else scale
        if not 0 < scale < np.inf:
            raise ArgumentError(f'`scale` of {name} should be positive. Found {scale}.')
        if (camera is not None) != (encoding == 'disparity'):
            raise ArgumentError(
                f"`camera` of {name} should be given with the encoding 'disparity' and no other. Found {camera!r}."
            )
        if len(depth_range) != 2 or not 0 < depth_range[0] < depth_range[1] < np.inf:
            raise ArgumentError(f'`depth_range` of {name} should be two ascending positive numbers. Found {depth_range}.')
        self.encoding = encoding
        self.ignore = list(ignore) or None
        self.scale = scale
        self.depth_range = (float(depth_range[0]), float(depth_range[1]))
        self._known_range = self.depth_range if within_range else (0.0, np.inf)
        if camera is not None:
            if not isinstance(camera, str):
                raise ArgumentError(f'`camera` of {name} should be a template of the camera files. Found {camera!r}.')
            self.templates = (path, camera)
        self._table = decode_table(*self.depth_range).astype(np.float32)

    def decode(self, path: str, *others: str, size: tuple[int, int] | None = None) -> np.ndarray:
        numbers = (read_grey if self.encoding == 'code' else read_numbers)(path, 'depth map', size)
        if self.ignore:
            numbers = np.where(np.isin(numbers, self.ignore), 0, numbers).astype(numbers.dtype)
        if self.encoding == 'code':
            return numbers
        if self.encoding == 'disparity':
            disparity = (numbers.astype(np.float32) - 1) / 256
            known = disparity > 0
            return self.known_metres(np.where(known, read_baseline_times_focal(*others) / np.where(known, disparity, 1), 0))
        return self.known_metres(numbers.astype(np.float32) * np.float32(self.scale))

    def known_metres(self, metres: np.ndarray) -> np.ndarray:
        """float32 metres; 0 where they are not finite, not positive or, with ``within_range``, beyond the range."""
        nearest, farthest = self._known_range
        known = np.isfinite(metres) & (metres > 0) & (metres >= nearest) & (metres <= farthest)
        return np.where(known, metres, 0).astype(np.float32)

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        return np.zeros(size, np.uint8 if self.encoding == 'code' else np.float32)

    def table(self) -> np.ndarray:
        return self._table

    def to_target(self, stored: 'Tensor', table: 'Tensor', length_scale: 'Tensor | None') -> 'Tensor':
        """float32 metres ``(B, H, W)``, 0 = unknown."""
        import torch

        if stored.dtype == torch.uint8:
            # 6 times as fast on a CPU as indexing by a map.
            metres = table.index_select(0, stored.flatten().int()).view(stored.shape)
        else:
            metres = stored.to(torch.float32, copy=True)
        return metres if length_scale is None else metres.mul_(length_scale.view(-1, 1, 1))

    def to_values(self, stored: np.ndarray) -> np.ndarray:
        return self._table[stored] if stored.dtype == np.uint8 else stored

    def encode(self, values: np.ndarray, rounding: str) -> np.ndarray:
        return encode_depth(values, rounding, self.depth_range)

    def from_png(self, data: bytes, size: tuple[int, int]) -> np.ndarray:
        codes = super().from_png(data, size)
        if codes.min() == 0:
            raise InvalidPredictionError('should hold depth codes 1..255. Found 0.')
        return codes

    def to_raw_png(self, values: np.ndarray) -> bytes:
        """A 16-bit grey PNG of whole millimetres: 0 is unknown, and 65535 what is farther than 65.534 m."""
        return cv2.imencode('.png', np.nan_to_num(values * 1000).round().clip(0, 65535).astype(np.uint16))[1].tobytes()

    def plain_config(self) -> dict[str, Any]:
        return dict(super().plain_config(), encoding='code', depth_range=list(self.depth_range))

    def to_plain(self, stored: np.ndarray, plain: 'DepthMap') -> np.ndarray:
        return encode_label(self.to_values(stored), plain.depth_range)

    def scorer(self) -> DepthScorer:
        return DepthScorer(self.name)

    def count(self, stored: np.ndarray) -> np.ndarray:
        """Count each code. Of metres, float64: unknown and known pixels, the sum of each quantity and of its square,
        and how often depth lies in each of ``NUM_BINS`` steps of 1 %, from ``FIRST_BIN`` metres."""
        if stored.dtype == np.uint8:
            return np.bincount(stored.ravel(), minlength=NUM_CODES)
        metres = stored[stored > 0].astype(np.float64)
        values = [transform(metres) for transform in QUANTITIES.values()]
        sums = [each for value in values for each in (value.sum(), np.square(value).sum())]
        bins = np.floor((values[1] - np.log(FIRST_BIN)) / BIN_WIDTH).clip(0, NUM_BINS - 1).astype(np.int64)
        return np.concatenate([[stored.size - metres.size, metres.size, *sums], np.bincount(bins, minlength=NUM_BINS)])

    def summarise(self, counts: np.ndarray) -> dict[str, Any]:
        """Of ``metres``, ``log`` (natural logarithm of metres) and ``inverse`` (1 / metres) the ``mean`` and ``std`` (divisor N).

        Over the known pixels, as training reads them; NaN without any. ``invalid_share`` is of all pixels.
        """
        summary: dict[str, Any] = {}
        is_code = len(counts) == NUM_CODES
        known = counts[1:].sum() if is_code else counts[1]
        for place, (name, transform) in enumerate(QUANTITIES.items()):
            if is_code:
                mean, std = mean_and_std(transform(decode_table(*self.depth_range)[1:]), counts[1:])
            else:
                mean, square = counts[2 + 2 * place : 4 + 2 * place] / known if known else (np.nan, np.nan)
                mean, std = float(mean), float(np.sqrt(max(square - mean**2, 0.0))) if known else np.nan
            summary[name] = dict(mean=mean, std=std)
        return {**summary, 'invalid_share': float(counts[0] / (counts[0] + known))}

    def _histogram(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ascending metres, and how often each occurs; to 1 % where files hold metres."""
        if len(counts) == NUM_CODES:
            return decode_table(*self.depth_range)[:0:-1], counts[:0:-1]
        return FIRST_BIN * np.exp(BIN_WIDTH * (np.arange(NUM_BINS) + 0.5)), counts[-NUM_BINS:]

    def contents(self, counts: np.ndarray) -> str:
        metres, often = self._histogram(counts)
        unknown = f'{100 * self.summarise(counts)["invalid_share"]:.1f} % unknown'
        if not often.any():
            return unknown
        present = metres[often > 0]
        middle = metres[np.searchsorted(often.cumsum(), often.sum() / 2)]
        return f'{_rounded(present[0])} .. {_rounded(present[-1])} m, median {_rounded(middle)} m; {unknown}'

    def doubts(self, counts: np.ndarray, is_whole: bool) -> list[str]:
        metres, often = self._histogram(counts)
        unknown, unit = self.summarise(counts)['invalid_share'], ''
        if self.encoding == 'metres':
            unit = f' `scale`, {self.scale:g}, is the metres per unit of the files, 0.001 for millimetres.'
        if not often.any():
            return [f'no pixel has a known depth.{unit}']
        if unknown > MANY:
            return [f'{100 * unknown:.1f} % of the pixels have no known depth.{unit}']
        if (often > 0).sum() == 1:
            return [f'every known pixel has the same depth, {_rounded(metres[often > 0][0])} m.']
        nearest, farthest = self.depth_range
        beyond = often[(metres < nearest / 1.01) | (metres > farthest * 1.01)].sum() / often.sum()
        if beyond > 0.5:
            middle = metres[np.searchsorted(often.cumsum(), often.sum() / 2)]
            return [
                f'{100 * beyond:.0f} % of the known depth is beyond `depth_range`, {nearest:g} .. {farthest:g} m, which written '
                f'predictions are clamped to; the median is {_rounded(middle)} m.{unit}'
            ]
        return []

    def summary_rows(self, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
        moments = {name: summary[name] for name in QUANTITIES}
        rows = [(f'{self.name}, {name}', f'mean {each["mean"]:.6f}  std {each["std"]:.6f}') for name, each in moments.items()]
        return [*rows, (f'{self.name}, invalid pixels', f'{100 * summary["invalid_share"]:.3f} %')]

    def colour(self, values: np.ndarray) -> np.ndarray:
        """Return colours of metres on a logarithmic scale from near (bright) to far (dark); grey: unknown."""
        nearest, farthest = self.depth_range
        position = np.log(np.maximum(values, nearest) / nearest) / np.log(farthest / nearest)
        return colour_values(1 - position, values > 0, 'magma')

    def note(self) -> str:
        nearest, farthest = self.depth_range
        return f'depth: bright {nearest:g} m .. dark {farthest:g} m, log scale, grey unknown'

    def colour_bar(self) -> ColourBar:
        """Metres, near on the left."""
        nearest, farthest = self.depth_range
        colours = self.colour(np.geomspace(nearest, farthest, 256)[None])[0]
        # A round number too close to an end is left out.
        inner = [tick for tick in _TICKS if 1.15 * nearest < tick < farthest / 1.15]
        places = [
            (float(np.log(tick / nearest) / np.log(farthest / nearest)), f'{tick:g}') for tick in (nearest, *inner, farthest)
        ]
        return ColourBar(f'{self.name} (m)', colours, places)

    def error_bar(self) -> ColourBar:
        """The larger of predicted and true depth divided by the other, on a logarithmic scale."""
        bar = even_bar(f'errors of {self.name} (factor)', 'inferno', (0, 1))
        return bar._replace(ticks=[(float(np.log(factor) / MAX_LOG_ERROR), f'{factor:g}') for factor in (1, 1.25, 1.5, 2)])

    def draw_error(self, picture: np.ndarray, values: np.ndarray, prediction: np.ndarray) -> None:
        """Draw errors from dark (none) to yellow (a factor of 2 and more)."""
        valid = values > 0
        error = np.abs(np.log(np.maximum(prediction, 0.01)) - np.log(np.maximum(values, 0.01)))
        picture[valid] = colour_values(error / MAX_LOG_ERROR, valid, 'inferno')[valid]
        picture[~valid] = INVALID


def _rounded(metres: float) -> str:
    return f'{metres:.2g}' if metres < 100 else f'{metres:.0f}'


def read_baseline_times_focal(path: str) -> float:
    """Metres times pixels, from a camera file of Cityscapes."""
    try:
        camera = parse_json(read_bytes(path))
        baseline, focal = float(camera['extrinsic']['baseline']), float(camera['intrinsic']['fx'])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(
            f"The camera file '{path}' should hold `extrinsic.baseline` and `intrinsic.fx` ({type(error).__name__}: {error})."
        ) from error
    if not (baseline > 0 and focal > 0):
        raise CorruptFileError(f"The camera file '{path}' should hold positive numbers. Found {baseline} and {focal}.")
    return baseline * focal
