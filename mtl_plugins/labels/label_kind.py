"""Interface of a kind of label: files, values, and what has defaults: device, statistics, pictures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.labels.pictures import Pictures
from mtl_plugins.labels.png_codec import decode_png, encode_png

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_plugins.evaluation.functional.scorer import Scorer

# More ignored pixels than that are hardly meant.
MANY = 0.95

# Names that mmseg and mmcv use for the two labels they know.
_RESULTS_KEYS = dict(semseg='gt_seg_map')
_SAMPLE_FIELDS = dict(semseg='sem_seg', depth='depth_map')


def results_key(name: str) -> str:
    """Return the key of a label in the dictionary of a pipeline: ``gt_<name>_map``; ``gt_seg_map`` for ``semseg``."""
    return _RESULTS_KEYS.get(name, f'gt_{name}_map')


def sample_field(name: str) -> str:
    """Return the suffix of a label's fields in a data sample: ``sem_seg``, ``depth_map``, else the name."""
    return _SAMPLE_FIELDS.get(name, name)


class OnDevice:
    """Stored maps to the targets of losses; by default a loss reads what is stored."""

    def table(self) -> np.ndarray | None:
        """Return float32 constants for :meth:`to_target`, which the model keeps on its device."""
        return None

    def to_target(self, stored: 'Tensor', table: 'Tensor | None', length_scale: 'Tensor | None') -> 'Tensor':
        """Return the targets of a stored batch ``(B, H, W)`` or ``(B, H, W, C)`` on the device.

        Args:
            stored: The batch.
            table: :meth:`table`, on the same device.
            length_scale: Factor on lengths per image, ``(B,)``.
        """
        return stored


class Statistics:
    """Facts about a split, from counters that add up over maps; by default the share of ignored pixels."""

    def count(self, stored: np.ndarray) -> np.ndarray:
        """Return the counters of a map; by default valid pixels and all."""
        return np.array([self.valid(stored).sum(), stored.shape[0] * stored.shape[1]])

    def summarise(self, counts: np.ndarray) -> dict[str, Any]:
        """Return statistics as plain numbers, from the sum of :meth:`count`."""
        return dict(ignored_share=float(1 - counts[0] / counts[1]))

    def summary_rows(self, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the statistics as names and texts."""
        return [(f'{self.name}, ignored pixels', f'{100 * summary["ignored_share"]:.3f} %')]

    def contents(self, counts: np.ndarray) -> str:
        """Describe a split in a few words, from the sum of :meth:`count`."""
        return f'{100 * self.summarise(counts)["ignored_share"]:.1f} % ignored'

    def doubts(self, counts: np.ndarray, is_whole: bool) -> list[str]:
        """Return likely mistakes, one sentence each.

        Args:
            counts: The sum of :meth:`count` over a split, or over some of its samples.
            is_whole: Whether all samples are counted.
        """
        share = self.summarise(counts)['ignored_share']
        return [f'{100 * share:.1f} % of the pixels are ignored.'] if share > MANY else []


class LabelKind(OnDevice, Statistics, Pictures, ABC):
    """A kind of label map, bound to its name in a data set. Everything outside this package loops over the kinds of the data.

    A map has four forms. *File*: what :meth:`decode` reads. *Stored*: the small array that transforms, packed folders and
    batches hold, ``(H, W)`` or ``(H, W, C)``. *Target*: what a loss reads, :meth:`to_target` of a batch on the device.
    *Values*: what people read and scores compare, in NumPy: class ids, metres, unit vectors ``(H, W, 3)``, probabilities.
    A submission holds *codes*, ``(H, W)`` or ``(H, W, 3)`` uint8, of predicted values.

    A new kind is a subclass registered in ``LABELS`` with :meth:`decode`, :meth:`encode` and :meth:`scorer`. The rest has
    defaults: maps of bytes whose values are what is stored, without statistics, in shades of grey.

    Args:
        name: Name in the data set; also of its predictions, scores and the folder in a submission.
        path: Template of the file, with ``{split}``, ``{stem}`` and ``{name}``.

    Attributes:
        invalid: The stored value that does not count.
        is_class_map: Whether a value is the id of a class.
        is_depth: Whether a value is the distance of a pixel along the axis of the camera, in metres.
        key: Key in the dictionary of a pipeline.
        templates: Templates of the files that a map is made of.
    """

    invalid: int = 0
    is_class_map = False
    is_depth = False

    def __init__(self, *, name: str, path: str = '{split}/{name}/{stem}.png') -> None:
        if not name.isidentifier():
            raise ArgumentError(f'The name of a label should consist of letters, digits and "_". Found {name!r}.')
        if not isinstance(path, str):
            raise ArgumentError(f'`path` of {name} should be a template of the files. Found {path!r}.')
        self.name = name
        self.key = results_key(name)
        self.templates: tuple[str, ...] = (path,)

    @abstractmethod
    def decode(self, path: str, *others: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """Return the stored form of the files of ``templates``.

        Args:
            path: The first file.
            others: The further ones.
            size: Height and width of the image, if known: a file that states another size is refused before it is decoded. The
                caller checks the result too.

        Raises:
            DataNotFoundError: If a file does not exist.
            CorruptFileError: If a file cannot be used.
        """

    @abstractmethod
    def encode(self, values: np.ndarray, rounding: str) -> np.ndarray:
        """Return the uint8 codes of a prediction.

        Args:
            values: As a task predicts them, without the axis of the batch.
            rounding: ``'nearest'``, or ``'truncate'`` as the course's tool does with depth; others ignore it.

        Raises:
            TypeError: If the type is wrong.
            ArgumentError: If a value cannot be stored.
        """

    @abstractmethod
    def scorer(self) -> 'Scorer':
        """Return a new counter of the scores of predicted against true values."""

    def valid(self, stored: np.ndarray) -> np.ndarray:
        """Return which pixels of a stored map count, ``(H, W)`` bool."""
        valid = stored != self.invalid
        return valid.any(-1) if valid.ndim == 3 else valid

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """Return the stored map, of height and width ``size``, of a sample without this label: nothing in it counts."""
        return np.full(size, self.invalid, np.uint8)

    def decoding(self) -> dict[str, Any]:
        """Return the settings that :meth:`decode` depends on: all attributes unless a kind leaves out what changes no stored map.

        A packed folder is used only with the settings it was made with.
        """
        return dict(type=type(self).__name__, **vars(self))

    def move(self, stored: np.ndarray, flip: bool, tilt_deg: float) -> np.ndarray:
        """Change the values of a map whose pixels a view has moved already; return a new array or the same.

        Args:
            stored: The moved map.
            flip: Whether it was mirrored left and right, which came last.
            tilt_deg: Angle by which the view was turned clockwise against the image.
        """
        return stored

    def to_values(self, stored: np.ndarray) -> np.ndarray:
        """Return the values of a stored map."""
        return stored

    def code_values(self, codes: np.ndarray) -> np.ndarray:
        """Return the values of codes."""
        return self.to_values(codes)

    def to_png(self, codes: np.ndarray) -> bytes:
        """Return the file of a prediction in a submission: a grey PNG, RGB for three channels."""
        return encode_png(codes)

    def from_png(self, data: bytes, size: tuple[int, int]) -> np.ndarray:
        """Return the codes in a file of unknown origin, which should have the height and width ``size``.

        Raises:
            InvalidPredictionError: If it is not what a submission should hold; the message continues the name of the file.
        """
        return decode_png(data, 'rgb' if self.blank((1, 1)).ndim == 3 else 'grey', size)

    def to_raw_png(self, values: np.ndarray) -> bytes:
        """Return the PNG of a prediction for other programs; by default that of a submission, of the nearest codes."""
        return self.to_png(self.encode(values, 'nearest'))

    def mix(self, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Interpolate two predictions of the same pixels: numbers by the weighted mean, anything else by the nearer one.

        Args:
            first: Values ``(H, W)`` or ``(H, W, C)``.
            second: Others of the same shape and type.
            share: Of the second, 0 to 1, of a shape that spreads to ``(H, W)``. At 0 and 1 the values are taken as they are.
        """
        share = share.reshape(*share.shape, *[1] * (first.ndim - 2)).astype(np.float32)
        if first.dtype.kind != 'f':
            return np.where(share > 0.5, second, first)
        return np.where(share < 1, first + (second - first) * share, second)

    def plain_config(self) -> dict[str, Any]:
        """Return the config of this label in a folder of MiniScapes' layout, a PNG of bytes; kinds add their arguments."""
        return dict(type=type(self).__name__)

    def to_plain(self, stored: np.ndarray, plain: 'LabelKind') -> np.ndarray:
        """Return the stored uint8 map of ``plain``, the kind that :meth:`plain_config` describes.

        Raises:
            ConfigError: If the kind does not say how its maps become bytes.
        """
        if stored.dtype != np.uint8:
            raise ConfigError(
                f'The label `{self.name}` cannot be converted: {type(self).__name__} stores {stored.dtype}, not bytes.'
            )
        return stored

    def to_label_png(self, stored: np.ndarray) -> bytes:
        """Return the file that holds a stored uint8 map in such a folder; decoding it gives the map back."""
        return self.to_png(stored)


def mean_and_std(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return mean and population standard deviation (divisor N) of ``values`` that occur ``counts`` times; NaN for no value."""
    total = counts.sum()
    if total == 0:
        return float('nan'), float('nan')
    mean = (values * counts).sum() / total
    return float(mean), float(np.sqrt((np.square(values - mean) * counts).sum() / total))
