"""Boundaries between the classes of a label map."""

import cv2
import numpy as np

from mtl_plugins.labels.cityscapes_classes import IGNORE_LABEL


def semantic_boundaries(label: np.ndarray, radius: int = 1) -> np.ndarray:
    """Boundaries ``(H, W)`` of class ids ``(H, W)`` uint8, 255 = ignored: 1 on a boundary, 0 elsewhere, 255 where ignored.

    A pixel lies on a boundary if a pixel within ``radius`` of it, in each axis, has another class; ignored ones are no class.
    With radius 1 boundaries are two pixels wide, one on each side.
    """
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    ignored = label == IGNORE_LABEL
    # The borders of cv2's filters count as nothing; an ignored pixel counts as nothing in either filter.
    largest = cv2.dilate(np.where(ignored, 0, label), window)
    smallest = cv2.erode(label, window)
    boundary = (largest != smallest).astype(np.uint8)
    boundary[ignored] = IGNORE_LABEL
    return boundary
