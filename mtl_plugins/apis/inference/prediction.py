"""What is predicted of one image, and its pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mtl_plugins.apis.inference.sources import Stream
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.visualization.prediction_pictures import render_prediction, render_side_by_side


@dataclass(frozen=True)
class Prediction:
    """The predictions of one image.

    Attributes:
        name: The path of its file within what was given, without the suffix, see :func:`read_frames`; of an array or a frame of
            a video with its number.
        image: ``(H, W, 3)`` uint8 RGB, as the model saw it: upright, and resized if it was to be.
        values: By name of the label: class ids ``(H, W)`` uint8, metres ``(H, W)`` float32, unit vectors ``(H, W, 3)`` float32,
            probabilities ``(H, W)`` float32, or what else the kind of label defines.
        labels: The kinds by name: names and colours of classes, colours and files of values.
        original_size: Height and width before it was resized.
        probabilities: By name of the class map ``(H, W, classes)`` float32, if they were asked for.
        stream: The video or camera that it is a frame of.
        source: The path of its file; empty for an array.
    """

    name: str
    image: np.ndarray = field(repr=False)
    values: Mapping[str, np.ndarray] = field(repr=False)
    labels: Mapping[str, LabelKind] = field(repr=False)
    original_size: tuple[int, int]
    probabilities: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    stream: Stream | None = None
    source: str = ''

    def pictures(self) -> dict[str, np.ndarray]:
        """A picture per label, uint8 RGB: classes drawn over the image above their legend, numbers in colours above a bar."""
        return {name: render_prediction(self.image, values, self.labels[name]) for name, values in self.values.items()}

    def side_by_side(self) -> np.ndarray:
        """The image and all its predictions in a row, uint8 RGB."""
        return render_side_by_side(self.image, self.values, self.labels)
