"""What shading leaves per pixel: class, a row of the scene's palette, and a brightness. Colour is looked up once, at the end."""

import numpy as np

from mtl_plugins.synthetic.streets.labels import SKY


class Canvas:
    """Flat images of ``height * width`` pixels.

    Attributes:
        label: uint8 class.
        entry: int64 row of the palette.
        brightness: float32 factor on the palette's colour.
    """

    def __init__(self, height: int, width: int) -> None:
        self.shape = height, width
        self.label = np.full(height * width, SKY, np.uint8)
        self.entry = np.zeros(height * width, np.int64)
        self.brightness = np.ones(height * width, np.float32)
        self._rows: list[np.ndarray] = []
        self._count = 0

    def add_colours(self, rows: np.ndarray) -> int:
        """Append RGB rows ``(K, 3)`` to the palette; returns the number of the first."""
        self._rows.append(np.asarray(rows, np.float32))
        self._count += len(rows)
        return self._count - len(rows)

    def planes(self) -> list[np.ndarray]:
        """The red, green and blue images ``(H, W)``, float32."""
        palette = np.concatenate(self._rows)
        return [(palette[:, c].take(self.entry) * self.brightness).reshape(self.shape) for c in range(3)]
