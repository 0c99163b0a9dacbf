"""Random label and prediction maps with the awkward cases in them."""

import numpy as np


def random_semseg_maps(rng, count=5, size=(23, 31), classes=range(0, 17)):
    """Labels with ignored pixels (one image of nothing else); with the default ``classes``, 17 and 18 occur nowhere."""
    labels = [rng.choice([*classes, 255], size=size).astype(np.uint8) for _ in range(count)]
    labels[-1][:] = 255
    predictions = [
        np.where(rng.random(size) < 0.6, np.where(label == 255, 0, label), rng.choice(list(classes), size=size)).astype(np.uint8)
        for label in labels
    ]
    return labels, predictions


def random_depth_maps(rng, count=5, size=(23, 31)):
    """Metres: an image without valid pixel, one with a single one, predictions of 0 and below, ratios of exactly 1.25."""
    labels = [np.exp(rng.uniform(np.log(4), np.log(300), size)).astype(np.float32) for _ in range(count)]
    for label in labels:
        label[rng.random(size) < 0.3] = 0
    labels[1][:] = 0
    labels[2][:] = 0
    labels[2][3, 5] = 17.0
    labels[3][0, :4] = [5, 4, 25, 16]
    predictions = [(np.where(g > 0, g, 30) * np.exp(rng.normal(0, 0.3, size))).astype(np.float32) for g in labels]
    predictions[0][0, :3] = [0.0, -3.0, 1e-6]
    labels[0][0, :3] = 10
    predictions[3][0, :4] = [4, 5, 16, 25]
    return labels, predictions
