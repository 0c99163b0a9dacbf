"""What plots share: colours, and the pixels of a figure."""

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Told apart with colour-vision deficiencies too (Okabe and Ito).
COLOURS = ('#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9', '#8c6d31', '#000000')


def distinct_colours(number: int) -> list:
    """So many colours, always the same for the same number."""
    if number <= len(COLOURS):
        return list(COLOURS[:number])
    return [matplotlib.colormaps['hsv'](position / number) for position in range(number)]


def to_array(figure: Figure) -> np.ndarray:
    """The figure as uint8 RGB ``(height, width, 3)``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
