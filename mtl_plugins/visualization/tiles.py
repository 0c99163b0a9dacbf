"""Pictures in rows and named columns above a legend."""

from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtl_plugins.labels.colours import colour_values
from mtl_plugins.labels.label_kind import Entry, Scale

MARGIN = 4
HEADER = 26
LINE_HEIGHT = 18
FONT_SIZES = range(16, 8, -1)
LEGEND_SIZE = 12
BAR_WIDTH = 160
BACKGROUND = (255, 255, 255)


def render_tiles(
    rows: Sequence[Mapping[str, np.ndarray]],
    columns: Sequence[str],
    *,
    tile_width: int,
    legend: Sequence[Entry] = (),
    notes: Sequence[str] = (),
    smooth: Collection[str] = ('image',),
    captions: Sequence[str] = (),
    scales: Sequence[Scale] = (),
) -> np.ndarray:
    """Draw rows of pictures with a header and a legend.

    Args:
        rows: Each with ``image`` and other uint8 RGB pictures ``(H, W, 3)`` by column; a missing one leaves its place empty. A
            tile has the proportions of the first row's image; a picture of other proportions is centred in it.
        columns: Names, from left to right.
        tile_width: Width of a tile in pixels.
        legend: Names and colours.
        notes: Sentences below them.
        smooth: Columns that are resampled smoothly; the others hold labels.
        captions: A line above each row; none by default.
        scales: Colour bars at the bottom.

    Returns:
        uint8 RGB ``(height, width, 3)``.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError('`rows` should hold at least one sample. Found none.')
    height, width = rows[0]['image'].shape[:2]
    tile_height = round(tile_width * height / width)
    caption_height = LINE_HEIGHT if captions else 0
    row_height = caption_height + tile_height + MARGIN
    canvas_width = MARGIN + len(columns) * (tile_width + MARGIN)
    lines = _wrap(legend, canvas_width) + _wrap([(note, None) for note in notes], canvas_width)
    bottom = HEADER + len(rows) * row_height
    canvas_height = bottom + LINE_HEIGHT * (len(lines) + len(scales)) + MARGIN
    canvas = np.full((canvas_height, canvas_width, 3), BACKGROUND, np.uint8)
    for y, row in enumerate(rows):
        for x, name in enumerate(columns):
            if name in row:
                tile = _fit(row[name], tile_height, tile_width, name in smooth)
                top = HEADER + y * row_height + caption_height + (tile_height - tile.shape[0]) // 2
                left = MARGIN + x * (tile_width + MARGIN) + (tile_width - tile.shape[1]) // 2
                canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for x, name in enumerate(columns):
        centre = MARGIN + x * (tile_width + MARGIN) + tile_width / 2
        draw.text((centre, HEADER / 2), name, fill='black', font=_font_that_fits(name, tile_width), anchor='mm')
    for y, caption in enumerate(captions):
        middle = HEADER + y * row_height + LINE_HEIGHT / 2
        draw.text((MARGIN, middle), caption, fill='black', font=ImageFont.load_default(LEGEND_SIZE), anchor='lm')
    for number, line in enumerate(lines):
        _draw_line(draw, line, bottom + number * LINE_HEIGHT)
    for number, scale in enumerate(scales, start=len(lines)):
        _draw_scale(picture, draw, scale, bottom + number * LINE_HEIGHT)
    return np.asarray(picture)


def _fit(picture: np.ndarray, height: int, width: int, smooth: bool) -> np.ndarray:
    zoom = min(height / picture.shape[0], width / picture.shape[1])
    size = (max(round(picture.shape[1] * zoom), 1), max(round(picture.shape[0] * zoom), 1))
    interpolation = (cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR) if smooth else cv2.INTER_NEAREST
    return cv2.resize(picture, size, interpolation=interpolation)


def _font_that_fits(text: str, width: int) -> ImageFont.FreeTypeFont:
    fonts = [ImageFont.load_default(size) for size in FONT_SIZES]
    return next((font for font in fonts if font.getlength(text) <= width), fonts[-1])


def _width(entry: Entry) -> float:
    name, colour = entry
    return ImageFont.load_default(LEGEND_SIZE).getlength(name) + (14 if colour is None else 28)


def _wrap(entries: Sequence[Entry], width: int) -> list[list[Entry]]:
    """The entries in lines of at most ``width``; an entry too long for one has it to itself."""
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
    x, font = float(MARGIN), ImageFont.load_default(LEGEND_SIZE)
    for name, colour in line:
        if colour is not None:
            draw.rectangle((x, top + 2, x + 12, top + 14), fill=colour, outline='black')
        draw.text((x + (0 if colour is None else 16), top + 8), name, fill='black', font=font, anchor='lm')
        x += _width((name, colour))


def _draw_scale(picture: Image.Image, draw: ImageDraw.ImageDraw, scale: Scale, top: int) -> None:
    """``lowest [colours] highest title``."""
    font = ImageFont.load_default(LEGEND_SIZE)
    bar = colour_values(np.linspace(0, 1, BAR_WIDTH)[None].repeat(12, 0), np.ones((12, BAR_WIDTH), bool), scale.colormap)
    lowest, highest = f'{scale.lowest:g}', f'{scale.highest:g}'
    left = MARGIN + round(font.getlength(lowest)) + 5
    picture.paste(Image.fromarray(bar), (left, top + 3))
    draw.rectangle((left - 1, top + 2, left + BAR_WIDTH, top + 15), outline='black')
    draw.text((MARGIN, top + 9), lowest, fill='black', font=font, anchor='lm')
    draw.text((left + BAR_WIDTH + 6, top + 9), f'{highest}   {scale.title}', fill='black', font=font, anchor='lm')
