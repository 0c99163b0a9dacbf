"""Depth errors."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mtl_plugins.evaluation.functional.depth_errors import DepthErrorSum, image_depth_errors
from mtl_plugins.evaluation.functional.scores import DEPTH_PREFIX, depth_scores
from mtl_plugins.evaluation.metrics.streaming_metric import StreamingMetric, get_map
from mtl_plugins.registry import METRICS


@METRICS.register_module()
class DepthMetric(StreamingMetric):
    """Depth errors per image, averaged over the images that have a valid pixel.

    Reads ``pred_depth_map`` and ``gt_depth_map`` in metres (label 0 = invalid). Scores: see
    :func:`~mtl_plugins.evaluation.functional.scores.depth_scores`; all NaN, with a warning, if no image has a valid pixel.
    """

    default_prefix = DEPTH_PREFIX

    def reset(self) -> None:
        self.errors = DepthErrorSum()

    def update(self, sample: Mapping[str, Any]) -> None:
        self.errors.add(image_depth_errors(get_map(sample, 'gt_depth_map'), get_map(sample, 'pred_depth_map')))

    def counters(self) -> list[np.ndarray]:
        return [self.errors.total, self.errors.num_images]

    def scores(self) -> dict[str, float]:
        if not self.errors.num_images.any():
            print_log('No evaluated image has a valid depth label: the depth scores are NaN.', 'current', logging.WARNING)
        return depth_scores(self.errors)
