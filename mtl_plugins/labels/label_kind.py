"""What a kind of label has to say about itself."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.labels.colours import colour_values

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_plugins.evaluation.functional.scorer import Scorer

# More ignored pixels than that are hardly meant.
MANY = 0.95

# A name with a colour, or a note without.
Entry = tuple[str, tuple[int, ...] | None]


class ColourBar(NamedTuple):
    """What the colours of numbers mean.

    Attributes:
        title: The quantity and its unit.
        colours: ``(N, 3)`` uint8, from left to right.
        ticks: Places on the bar, 0 (left) to 1, and what stands there.
    """

    title: str
    colours: np.ndarray
    ticks: list[tuple[float, str]]


def even_bar(title: str, colormap: str, numbers: Sequence[float]) -> ColourBar:
    """A bar of a colour map of matplotlib with evenly spaced ascending ``numbers``, from end to end."""
    colours = colour_values(np.linspace(0, 1, 256)[None], np.ones((1, 256), bool), colormap)[0]
    places = np.linspace(0, 1, len(numbers)).tolist()
    return ColourBar(title, colours, [(place, f'{number:g}') for place, number in zip(places, numbers, strict=True)])


# mmseg's and mmcv's own names of the two labels that they know, in the dictionary of a pipeline and in a data sample.
_RESULTS_KEYS = dict(semseg='gt_seg_map')
_SAMPLE_FIELDS = dict(semseg='sem_seg', depth='depth_map')


def results_key(name: str) -> str:
    """Key of a label's map in the dictionary that a pipeline works on: ``gt_<name>_map``; ``gt_seg_map`` for ``semseg``."""
    return _RESULTS_KEYS.get(name, f'gt_{name}_map')


def sample_field(name: str) -> str:
    """Suffix of a label's fields ``gt_*`` and ``pred_*`` in a data sample: ``sem_seg``, ``depth_map``, else the name."""
    return _SAMPLE_FIELDS.get(name, name)


class LabelKind(ABC):
    """A kind of label map, bound to its name in a data set. Everything outside this package loops over the kinds of the data.

    A map has four forms. *File*: what :meth:`decode` reads. *Stored*: the array of few bytes that transforms, packed folders and
    batches hold, ``(H, W)`` or ``(H, W, C)``. *Target*: what a loss reads, :meth:`to_target` of a batch on the device.
    *Values*: what a person reads and a score compares, in NumPy: class ids, metres, unit vectors ``(H, W, 3)``, probabilities.
    A submission holds *codes*, ``(H, W)`` or ``(H, W, 3)`` uint8, of predicted values.

    A new kind is a subclass with the abstract methods, registered in ``LABELS``. None of it needs torch, but :meth:`to_target`.

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
        """The stored form of the files of ``templates``.

        Args:
            path: The first file.
            others: The further ones.
            size: Height and width of the image, where they are known: files that state their size are then not decoded if they
                state another one. The caller checks the result all the same.

        Raises:
            DataNotFoundError: If a file does not exist.
            CorruptFileError: If a file cannot be used.
        """

    def valid(self, stored: np.ndarray) -> np.ndarray:
        """Which pixels of a stored map count, ``(H, W)`` bool."""
        valid = stored != self.invalid
        return valid.any(-1) if valid.ndim == 3 else valid

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """The stored map of a sample of this height and width without a label: nothing in it counts."""
        return np.full(size, self.invalid, np.uint8)

    def decoding(self) -> dict[str, Any]:
        """Return the settings that :meth:`decode` depends on besides the files: all attributes by default.

        A packed folder is used only where they are those it was made with. A kind may leave out what changes no stored map.
        """
        return dict(type=type(self).__name__, **vars(self))

    def move(self, stored: np.ndarray, flip: bool, tilt_deg: float) -> np.ndarray:
        """What a view does to the values of a map whose pixels have been moved already; a new array or the same.

        Args:
            stored: The map, after the movement.
            flip: Whether it was mirrored left and right, which came last.
            tilt_deg: Angle by which the view was turned clockwise against the image.
        """
        return stored

    def table(self) -> np.ndarray | None:
        """Constants for :meth:`to_target`, float32, which the model keeps on its device."""
        return None

    def to_target(self, stored: 'Tensor', table: 'Tensor | None', length_scale: 'Tensor | None') -> 'Tensor':
        """The target form of a batch ``(B, H, W)`` or ``(B, H, W, C)``; by default the stored one.

        Args:
            stored: On the device.
            table: :meth:`table`, on the same device.
            length_scale: Factor on lengths per image, ``(B,)``.
        """
        return stored

    @abstractmethod
    def to_values(self, stored: np.ndarray) -> np.ndarray:
        """The values of a stored map."""

    @abstractmethod
    def encode(self, values: np.ndarray, rounding: str) -> np.ndarray:
        """The codes of a prediction, uint8.

        Args:
            values: As a task predicts them, without the axis of the batch.
            rounding: ``'nearest'``, or ``'truncate'`` as the course's tool does with depth; others ignore it.

        Raises:
            TypeError: If the type is wrong.
            ArgumentError: If a value cannot be stored.
        """

    @abstractmethod
    def to_png(self, codes: np.ndarray) -> bytes:
        """The file of a prediction in a submission."""

    @abstractmethod
    def from_png(self, data: bytes, size: tuple[int, int]) -> np.ndarray:
        """The codes in a file of unknown origin.

        Raises:
            InvalidPredictionError: If it is not what a submission should hold; the message continues the name of the file.
        """

    @abstractmethod
    def code_values(self, codes: np.ndarray) -> np.ndarray:
        """The values of codes."""

    def to_raw_png(self, values: np.ndarray) -> bytes:
        """The PNG of a prediction for other programs; by default that of a submission, of the nearest codes."""
        return self.to_png(self.encode(values, 'nearest'))

    def mix(self, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
        """What lies between two predictions of the same pixels: of numbers the weighted mean, of anything else the nearer one.

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
        """Config of the same label in a folder of MiniScapes' layout, where a file is a PNG of bytes at the default path.

        A kind with arguments that matter there adds them.
        """
        return dict(type=type(self).__name__)

    def to_plain(self, stored: np.ndarray, plain: 'LabelKind') -> np.ndarray:
        """The stored uint8 map of ``plain``, the kind that :meth:`plain_config` describes.

        Raises:
            ConfigError: If the kind does not say how its maps become bytes.
        """
        if stored.dtype != np.uint8:
            raise ConfigError(
                f'The label `{self.name}` cannot be converted: {type(self).__name__} stores {stored.dtype}, not bytes.'
            )
        return stored

    def to_label_png(self, stored: np.ndarray) -> bytes:
        """The file that holds a stored uint8 map in such a folder; decoding it gives the map back."""
        return self.to_png(stored)

    @abstractmethod
    def scorer(self) -> 'Scorer':
        """A new counter of the scores of predicted against true values."""

    @abstractmethod
    def guess(self, maps: Iterable[np.ndarray]) -> np.ndarray:
        """The best guess for each pixel position without looking at the image, as codes, learned from stored maps.

        Raises:
            DataError: If the maps differ in size or have no valid pixel.
        """

    def count(self, stored: np.ndarray) -> np.ndarray:
        """Counters for :meth:`summarise`, which add up over maps: of the pixels that count, and of all."""
        return np.array([self.valid(stored).sum(), stored.shape[0] * stored.shape[1]])

    def summarise(self, counts: np.ndarray) -> dict[str, Any]:
        """Statistics of a split as plain numbers, of the sum of :meth:`count`."""
        return dict(ignored_share=float(1 - counts[0] / counts[1]))

    def summary_rows(self, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The statistics as names and texts."""
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

    # Pictures: ``values`` in, colours ``(H, W, 3)`` uint8 out.

    titles: tuple[str, str]
    """Heading of the label and of the prediction."""

    @abstractmethod
    def colour(self, values: np.ndarray) -> np.ndarray:
        """Colours of a map."""

    def legend(self) -> list[Entry]:
        """Names and colours."""
        return []

    def note(self) -> str | None:
        """A sentence on the colours."""
        return None

    def colour_bar(self) -> ColourBar | None:
        """What the colours of numbers mean."""
        return None

    unit: str | None = None
    """Of the values, as ``'m'``; None where they have none. Two values with a unit differ by their ratio, others by their
    difference."""

    error_note: str | None = None
    """A sentence on the colours of :meth:`draw_error`; None draws nothing."""

    def draw_error(self, picture: np.ndarray, values: np.ndarray, prediction: np.ndarray) -> None:
        """Draw the differences into a picture of the errors, in place."""
        raise NotImplementedError(f'{type(self).__name__} has an `error_note` and should draw its errors.')

    error_rank = 0
    """Of the kinds that draw errors, the one of the highest rank below 0 draws all pixels, then those from 0 draw over it."""

    # Analyses: how far the prediction of each pixel is off, and by what errors are grouped.

    pixel_error_names: tuple[str, ...] = ()
    """Names of :meth:`pixel_errors`, with units; a kind that names some gives and colours them. The first one ranks images: 0 is
    the best."""

    def pixel_errors(self, values: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
        """Errors of each pixel by name, ``(H, W)`` float64, NaN where the label does not count; none by default.

        Raises:
            ArgumentError: If the shapes differ or a predicted value is not finite.
        """
        return {}

    colour_errors_note: str | None = None
    """A sentence on the colours of :meth:`colour_errors`, where they stand for no numbers."""

    def error_bar(self) -> ColourBar | None:
        """What they mean, where they stand for numbers."""
        return None

    def colour_errors(self, values: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Colours ``(H, W, 3)`` of the errors of this label alone, grey where it does not count."""
        raise NotImplementedError(f'{type(self).__name__} has `pixel_error_names` and should colour its errors.')

    group_title: str | None = None
    """What the labels of a pixel tell by which errors are grouped, such as its class; None groups nothing."""

    def group_names(self) -> list[str]:
        """Names of the groups."""
        return []

    def group_edges(self) -> np.ndarray | None:
        """Where the groups are ranges of numbers, the ascending positive numbers around them, one more than groups."""
        return None

    def groups(self, values: np.ndarray) -> np.ndarray:
        """The group of each pixel, ``(H, W)`` integers; what is out of range belongs to none."""
        raise NotImplementedError(f'{type(self).__name__} has a `group_title` and should tell the groups.')
