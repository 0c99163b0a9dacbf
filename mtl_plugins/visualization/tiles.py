"""Pictures in rows and named columns above a legend."""

from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtl_plugins.errors import ArgumentError
from mtl_plugins.labels.pictures import ColourBar, Entry
from mtl_plugins.visualization.plots import pil_font

MARGIN = 4
HEADER = 26
LINE_HEIGHT = 18
FONT_SIZES = range(16, 8, -1)
LEGEND_SIZE = 12
BAR_WIDTH = 420
BAR_HEIGHT = 2 * LINE_HEIGHT
MAX_ASPECT = 4
BACKGROUND = (255, 255, 255)


def render_tiles(
    rows: Sequence[Mapping[str, np.ndarray]],
    columns: Sequence[str],
    *,
    tile_width: int,
    legend: Sequence[Entry] = (),
    notes: Sequence[str] = (),
    smooth: Collection[str] = ('image',),
    bars: Sequence[ColourBar] = (),
    captions: Sequence[str] = (),
) -> np.ndarray:
    """Draw rows of pictures with a header and a legend: uint8 RGB ``(height, width, 3)``.

    Args:
        rows: At least one, each with ``image`` and other uint8 RGB pictures ``(H, W, 3)`` by column; a missing one leaves its
            place empty. A tile has the proportions of the first row's image, but is at most four times as high as wide; a
            picture of other proportions is centred in it.
        columns: Names, from left to right.
        legend: Names and colours; below them ``notes``, sentences, and ``bars``.
        smooth: Columns that are resampled smoothly; the others hold labels.
        captions: A word on each row, in the corner of its first tile.
    """
    if not rows:
        raise ArgumentError('`rows` is empty: it should hold at least one sample.')
    height, width = rows[0]['image'].shape[:2]
    tile_height = min(round(tile_width * height / width), MAX_ASPECT * tile_width)
    canvas_width = MARGIN + len(columns) * (tile_width + MARGIN)
    lines = _wrap(legend, canvas_width) + _wrap([(note, None) for note in notes], canvas_width)
    canvas_height = HEADER + len(rows) * (tile_height + MARGIN) + LINE_HEIGHT * len(lines) + BAR_HEIGHT * len(bars) + MARGIN
    canvas = np.full((canvas_height, canvas_width, 3), BACKGROUND, np.uint8)
    for y, row in enumerate(rows):
        for x, name in enumerate(columns):
            if name in row:
                tile = _fit(row[name], tile_height, tile_width, name in smooth)
                top = HEADER + y * (tile_height + MARGIN) + (tile_height - tile.shape[0]) // 2
                left = MARGIN + x * (tile_width + MARGIN) + (tile_width - tile.shape[1]) // 2
                canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for x, name in enumerate(columns):
        centre = MARGIN + x * (tile_width + MARGIN) + tile_width / 2
        fonts = [pil_font(name, size) for size in FONT_SIZES]
        font = next((font for font in fonts if font.getlength(name) <= tile_width), fonts[-1])
        draw.text((centre, HEADER / 2), _cut(name, font, tile_width), fill='black', font=font, anchor='mm')
    for number, line in enumerate(lines):
        _draw_line(draw, line, HEADER + len(rows) * (tile_height + MARGIN) + number * LINE_HEIGHT)
    for number, bar in enumerate(bars):
        _draw_bar(picture, bar, canvas_height - MARGIN - (len(bars) - number) * BAR_HEIGHT)
    for y, caption in enumerate(captions):
        top, font = HEADER + y * (tile_height + MARGIN), pil_font(caption, LEGEND_SIZE)
        draw.rectangle((MARGIN, top, MARGIN + font.getlength(caption) + 8, top + LINE_HEIGHT - 2), fill=BACKGROUND)
        draw.text((MARGIN + 4, top + 8), caption, fill='black', font=font, anchor='lm')
    return np.asarray(picture)


def _cut(name: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return a heading without its middle, if it is wider than its column; names of runs often begin alike."""
    kept = len(name)
    shown = name
    while font.getlength(shown) > width and kept > 2:
        kept -= 1
        shown = f'{name[: kept - kept // 2]}...{name[len(name) - kept // 2 :]}'
    return shown


def _fit(picture: np.ndarray, height: int, width: int, smooth: bool) -> np.ndarray:
    zoom = min(height / picture.shape[0], width / picture.shape[1])
    size = (max(round(picture.shape[1] * zoom), 1), max(round(picture.shape[0] * zoom), 1))
    interpolation = (cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR) if smooth else cv2.INTER_NEAREST
    return cv2.resize(picture, size, interpolation=interpolation)


def _width(entry: Entry) -> float:
    name, colour = entry
    return pil_font(name, LEGEND_SIZE).getlength(name) + (14 if colour is None else 28)


def _wrap(entries: Sequence[Entry], width: int) -> list[list[Entry]]:
    """Break entries into lines of at most ``width``; a longer entry is a line of its own."""
    lines: list[list[Entry]] = []
    room = 0.0
    for entry in entries:
        if _width(entry) > room:
            lines.append([])
            room = width - MARGIN
        lines[-1].append(entry)
        room -= _width(entry)
    return lines


def _draw_line(draw: ImageDraw.ImageDraw, line: Sequence[Entry], top: int) -> None:
    x = float(MARGIN)
    for name, colour in line:
        font = pil_font(name, LEGEND_SIZE)
        if colour is not None:
            draw.rectangle((x, top + 2, x + 12, top + 14), fill=colour, outline='black')
        draw.text((x + (0 if colour is None else 16), top + 8), name, fill='black', font=font, anchor='lm')
        x += _width((name, colour))


def _draw_bar(picture: Image.Image, bar: ColourBar, top: int) -> None:
    draw, font = ImageDraw.Draw(picture), pil_font(bar.title, LEGEND_SIZE)
    draw.text((MARGIN, top + 8), bar.title, fill='black', font=font, anchor='lm')
    # The last tick's text hangs over the end.
    left = MARGIN + round(font.getlength(bar.title)) + 12
    width = min(BAR_WIDTH, picture.width - left - 16)
    if width < 1:
        return
    strip = Image.fromarray(np.ascontiguousarray(bar.colours[None])).resize((width, 12))
    picture.paste(strip, (left, top + 2))
    draw.rectangle((left - 1, top + 1, left + width, top + 14), outline='black')
    free = 0.0
    for place, text in sorted(bar.ticks, key=lambda tick: (tick[0] not in (0, 1), tick[0])):
        x, half = left + place * (width - 1), font.getlength(text) / 2 + 3
        # The ends come first; what would run into a neighbour or the last one is left out.
        if 0 < place < 1 and not free < x - half < x + half < left + width - font.getlength(bar.ticks[-1][1]) / 2 - 3:
            continue
        if place < 1:
            free = x + half
        draw.line((x, top + 14, x, top + 18), fill='black')
        draw.text((x, top + 26), text, fill='black', font=font, anchor='mm')
