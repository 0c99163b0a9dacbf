"""Class ids per pixel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_plugins.errors import ArgumentError, CorruptFileError, InvalidPredictionError
from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.decoding import read_ids, read_rgb
from mtl_plugins.labels.label_kind import MANY, LabelKind
from mtl_plugins.labels.pictures import INVALID, Entry
from mtl_plugins.labels.png_codec import decode_png, encode_png
from mtl_plugins.utils.data_files import printable, shorten

WRONG_CLASS = (0, 200, 220)
MOST_IDS = 2**26
# Classes whose shares a line names.
SHOWN = 6
OTHERS = 'others'


def make_palette(num_classes: int) -> list[list[int]]:
    """RGB colours that differ: those of PASCAL VOC without its black, in which pictures show what is ignored."""
    bits = [[number >> bit & 1 for bit in range(8)] for number in range(1, num_classes + 1)]
    return [[sum(row[k + channel] << (7 - k // 3) for k in range(0, 8 - channel, 3)) for channel in range(3)] for row in bits]


def _is_colour(colour: Any) -> bool:
    return isinstance(colour, (list, tuple)) and len(colour) == 3 and all(type(c) is int and 0 <= c <= 255 for c in colour)


def _percent(share: float) -> str:
    return f'{100 * share:.0f} %' if share > 0.1 else f'{100 * share:.2g} %'


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:SHOWN]) + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')


class ClassMap(LabelKind):
    """Semantic labels: uint8 class ids ``0..C-1``, 255 = ignored.

    Files: palette or grey PNG of 8 or 16 bits, ``.npy`` or ``.npz``; with ``colours`` RGB PNG. An id or colour that is neither a
    class nor ignored is an error (in arrays, negative ids are ignored); with ``mapping``, what it does not name is ignored.

    Args:
        classes: Names in the order of the ids, 2 to 255; one of them may be the background.
        palette: RGB per class; colours that differ by default.
        mapping: Class by id in the file; 255 or a negative number ignores it.
        reduce_zero_label: Whether id 0 is ignored and id ``k`` is class ``k - 1``, as in mmseg.
        ignore: Ids, or with ``colours`` RGB colours, that are ignored; ``'others'`` ignores all that is no class. 255 always is.
        colours: RGB colour in the files of each class, or a list of several. The first is the default of ``palette``.
    """

    invalid = IGNORE_LABEL
    is_class_map = True
    titles = ('label', 'prediction')
    error_note = 'cyan wrong class, white right'

    def __init__(
        self,
        *,
        name: str,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]] | None = None,
        path: str = '{split}/{name}/{stem}.png',
        mapping: Mapping[int, int] | None = None,
        reduce_zero_label: bool = False,
        ignore: Sequence[int] | Sequence[Sequence[int]] | str = (),
        colours: Sequence[Sequence] | None = None,
    ) -> None:
        super().__init__(name=name, path=path)
        # Tools print them.
        are_names = isinstance(classes, (list, tuple)) and all(isinstance(n, str) and printable(n) == n for n in classes)
        if not are_names or not 1 <= len(classes) <= IGNORE_LABEL or len(set(classes)) != len(classes):
            raise ArgumentError(
                f'`classes` of {name} should be 2 to {IGNORE_LABEL} different names without control characters. '
                f'Found {shorten(classes)}.'
            )
        if len(classes) == 1:
            raise ArgumentError(
                f'`classes` of {name} should be at least two: of one every prediction is right. Found {shorten(classes)}. Name '
                f'what the other pixels are as well, as {["background", classes[0]]}; masks of 0 and 255 need '
                '`mapping={0: 0, 255: 1}`.'
            )
        self.classes = tuple(classes)
        if (mapping is not None or reduce_zero_label) and (colours is not None or len(ignore)):
            raise ArgumentError(
                f'`colours` and `ignore` of {name} should be left out with `mapping` or `reduce_zero_label`, which ignore every '
                'id that they do not name.'
            )
        self.ignore = ignore if ignore == OTHERS else list(ignore) or None
        if colours is None and self.ignore and self.ignore != OTHERS and not all(type(each) is int for each in self.ignore):
            raise ArgumentError(f"`ignore` of {name} should be '{OTHERS}' or a list of ids. Found {shorten(ignore)}.")
        self.colours = None if colours is None else self._build_colours(colours)
        if palette is None and self.colours is not None:
            palette = [several[0] for several in self.colours]
        self.palette = [list(colour) for colour in (palette or make_palette(len(classes)))]
        if len(self.palette) != len(classes) or not all(map(_is_colour, self.palette)):
            raise ArgumentError(
                f'`palette` of {name} should be {len(classes)} RGB colours of three numbers 0..255. Found {shorten(palette)}.'
            )
        if mapping is not None and reduce_zero_label:
            raise ArgumentError(f'`mapping` of {name} should be None with `reduce_zero_label`, which it can say itself.')
        if reduce_zero_label:
            mapping = {number + 1: number for number in range(len(classes))}
        if self.ignore == OTHERS and self.colours is None:
            mapping = {number: number for number in range(len(classes))}
        # JSON knows no keys but strings.
        self.mapping = None if mapping is None else {int(old): int(new) for old, new in mapping.items()}
        unknown = [new for new in (self.mapping or {}).values() if new >= len(classes) and new != IGNORE_LABEL]
        if unknown:
            raise ArgumentError(f'`mapping` of {name} should give classes 0..{len(classes) - 1} or 255. Found {unknown[0]}.')
        # A table of all ids up to the largest.
        if max(self.mapping or [0]) > MOST_IDS:
            raise ArgumentError(f'`mapping` of {name} should map ids up to {MOST_IDS}. Found {max(self.mapping)}.')
        self._mapped = None
        if self.mapping is not None:
            self._mapped = np.full(max([255, *self.mapping]) + 1, IGNORE_LABEL, np.uint8)
            for old, new in self.mapping.items():
                if old >= 0:
                    self._mapped[old] = new if new >= 0 else IGNORE_LABEL

    def _build_colours(self, colours: Sequence[Sequence]) -> list[list[list[int]]]:
        """Return the colours of each class, and note the codes of all colours in ascending order with their classes."""
        try:
            found = [[list(each) for each in ([several] if _is_colour(several) else several)] for several in colours]
            ignored = [list(each) for each in self.ignore or () if self.ignore != OTHERS]
        except TypeError:
            found, ignored = [], []
        listed = [colour for several in (*found, ignored) for colour in several]
        codes = {r << 16 | g << 8 | b for r, g, b in filter(_is_colour, listed)}
        if len(found) != len(self.classes) or not all(found) or len(codes) != len(listed):
            raise ArgumentError(
                f'`colours` of {self.name} should be {len(self.classes)} RGB colours of three numbers 0..255, or lists of them, '
                f"and `ignore` '{OTHERS}' or such colours, all different. Found {shorten(colours)} and {shorten(self.ignore)}."
            )
        classes = [number for number, several in enumerate(found) for _ in several] + [IGNORE_LABEL] * len(ignored)
        table = sorted(zip((r << 16 | g << 8 | b for r, g, b in listed), classes, strict=True))
        self._codes, self._classes_of_codes = np.array([each[0] for each in table]), np.uint8([each[1] for each in table])
        return found

    def decoding(self) -> dict[str, Any]:
        return {key: value for key, value in super().decoding().items() if key != 'palette'}

    def decode(self, path: str, *, size: tuple[int, int] | None = None) -> np.ndarray:
        if self.colours is not None:
            return self._decode_colours(path, size)
        ids = read_ids(path, size)
        if self.ignore and self._mapped is None:
            ids = np.where(np.isin(ids, self.ignore), IGNORE_LABEL, ids).astype(ids.dtype)
        if self._mapped is not None:
            if ids.dtype != np.uint8:
                known = (ids >= 0) & (ids < len(self._mapped))
                return np.where(known, self._mapped[np.where(known, ids, 0)], np.uint8(IGNORE_LABEL))
            return self._mapped[ids]
        if ids.dtype != np.uint8:
            ids = np.where(ids < 0, IGNORE_LABEL, ids)
            self._check_ids(ids, path)
            return ids.astype(np.uint8)
        # Adding 1 wraps 255 to 0, so that one maximum answers for both ranges.
        if (ids + np.uint8(1)).max() > len(self.classes):
            self._check_ids(ids, path)
        return ids

    def _decode_colours(self, path: str, size: tuple[int, int] | None) -> np.ndarray:
        rgb = read_rgb(path, 'label', size)
        codes = rgb[..., 0].astype(np.int64) << 16 | rgb[..., 1].astype(np.int64) << 8 | rgb[..., 2]
        places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        classes, unknown = self._classes_of_codes[places], self._codes[places] != codes
        if unknown.any():
            if self.ignore != OTHERS:
                found = np.unique(rgb[unknown], axis=0)
                raise CorruptFileError(
                    f"The label '{path}' should hold the colours in `colours` and `ignore` of {self.name}. Found "
                    f'{", ".join(str(each.tolist()) for each in found[:SHOWN])}{", ..." * (len(found) > SHOWN)} in '
                    f"{unknown.sum()} of {unknown.size} pixels. `ignore: '{OTHERS}'` ignores them."
                )
            classes[unknown] = IGNORE_LABEL
        return classes

    def _check_ids(self, ids: np.ndarray, path: str) -> None:
        unknown = [int(value) for value in np.unique(ids) if len(self.classes) <= value != IGNORE_LABEL]
        if unknown:
            shown = f'{unknown[:8]}'[:-1] + (', ...]' if len(unknown) > 8 else ']')
            raise CorruptFileError(
                f"The label '{path}' should hold class ids 0..{len(self.classes) - 1} and {IGNORE_LABEL}. Found {shown}. "
                '`ignore` lists ids to ignore, `mapping` gives them classes.'
            )

    def encode(self, values: np.ndarray, rounding: str) -> np.ndarray:
        if values.dtype != np.uint8:
            raise TypeError(f'`{self.name}` should be uint8. Found {values.dtype}.')
        if values.max() >= len(self.classes):
            raise ArgumentError(f'`{self.name}` should hold classes 0..{len(self.classes) - 1}. Found {values.max()}.')
        return values

    def to_png(self, codes: np.ndarray) -> bytes:
        """A palette PNG."""
        return encode_png(codes, self.palette)

    def from_png(self, data: bytes, size: tuple[int, int]) -> np.ndarray:
        codes = decode_png(data, 'palette', size)
        if codes.max() >= len(self.classes):
            raise InvalidPredictionError(f'should hold classes 0..{len(self.classes) - 1}. Found {codes.max()}.')
        return codes

    def plain_config(self) -> dict[str, Any]:
        return dict(super().plain_config(), classes=list(self.classes), palette=self.palette)

    def to_label_png(self, stored: np.ndarray) -> bytes:
        """A palette PNG; ignored pixels are black."""
        # Decoders may refuse an index without a colour.
        return encode_png(stored, [*self.palette, *[[0, 0, 0]] * (256 - len(self.palette))])

    def scorer(self) -> ConfusionScorer:
        return ConfusionScorer(self.name, self.classes)

    def count(self, stored: np.ndarray) -> np.ndarray:
        return np.bincount(stored.ravel(), minlength=256)

    def summarise(self, counts: np.ndarray) -> dict[str, Any]:
        """``frequencies``, ``ignored_share`` and ``class_weight``.

        ``frequencies`` are the shares of the classes among the pixels that count (NaN without any), ``ignored_share`` that of the
        others among all. ``class_weight`` weighs a loss (None without a pixel): 1 / log(1.1 + share), times what makes 1 of the
        mean over the pixels, after ENet (Paszke et al. 2016, arXiv:1606.02147; 1.02 there, which lifts rare classes further).
        """
        known = counts[: len(self.classes)]
        shares = known / known.sum() if known.any() else np.full(len(self.classes), np.nan)
        frequencies = dict(zip(self.classes, shares.tolist(), strict=True))
        weights = 1 / np.log(1.1 + shares)
        weights = np.round(weights / (weights * shares).sum(), 2).tolist() if known.any() else None
        return dict(frequencies=frequencies, ignored_share=float(counts[IGNORE_LABEL] / counts.sum()), class_weight=weights)

    def contents(self, counts: np.ndarray) -> str:
        known = counts[: len(self.classes)]
        order = [number for number in np.argsort(-known, kind='stable') if known[number]]
        shares = [f'{self.classes[number]} {_percent(known[number] / known.sum())}' for number in order]
        if len(shares) > SHOWN:
            shares = [*shares[: SHOWN - 1], '...', shares[-1]]
        absent = [name for name, number in zip(self.classes, known, strict=True) if not number]
        missing = f'; no {_some(absent)}' if absent else ''
        ignored = 100 * counts[IGNORE_LABEL] / counts.sum()
        return f'{len(order)} of {len(self.classes)} classes, {", ".join(shares) or "none"}{missing}; {ignored:.1f} % ignored'

    def doubts(self, counts: np.ndarray, is_whole: bool) -> list[str]:
        known, ignored = counts[: len(self.classes)], counts[IGNORE_LABEL] / counts.sum()
        present = [name for name, number in zip(self.classes, known, strict=True) if number]
        absent = [name for name in self.classes if name not in present]
        why = ''
        if self.mapping is not None:
            why = ' Ids that `mapping` does not name are ignored; `reduce_zero_label` makes id 1 the first class and ignores 0.'
        if not present:
            return [f'every pixel is ignored.{why}']
        if len(present) == 1:
            why = why or ' 255 is the ignored label: for masks of 0 and 255 set `mapping={0: 0, 255: 1}`.'
            return [f'every pixel is {present[0]} or ignored, so that there is nothing to tell it from.{why}']
        found = [f'{100 * ignored:.1f} % of the pixels are ignored.{why}'] if ignored > MANY else []
        if absent and is_whole:
            found.append(f'no pixel of {_some(absent)}, which cannot be learned.{why}')
        return found

    def summary_rows(self, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
        rows = [(f'{self.name}, {name}', f'{100 * share:.3f} %') for name, share in summary['frequencies'].items()]
        if summary['class_weight']:
            # Without spaces, as it goes into a command line.
            rows.append((f'{self.name}, class_weight', str(summary['class_weight']).replace(' ', '')))
        return [*super().summary_rows(summary), *rows]

    def _ignored_colour(self) -> tuple[int, int, int]:
        """Black, or a pale yellow where black is a class."""
        return (224, 224, 192) if [0, 0, 0] in self.palette else (0, 0, 0)

    def colour(self, values: np.ndarray) -> np.ndarray:
        table = np.full((256, 3), self._ignored_colour(), np.uint8)
        table[: len(self.palette)] = self.palette
        return table[values]

    def legend(self) -> list[Entry]:
        """Names and colours of the classes; that of ignored pixels too, unless it is plain black."""
        entries = [(name, tuple(colour)) for name, colour in zip(self.classes, self.palette, strict=True)]
        ignored = self._ignored_colour()
        return entries if ignored == (0, 0, 0) else [*entries, ('ignored', ignored)]

    def draw_error(self, picture: np.ndarray, values: np.ndarray, prediction: np.ndarray) -> None:
        picture[values == prediction] = 255
        picture[values != prediction] = WRONG_CLASS
        picture[values == IGNORE_LABEL] = INVALID
