"""The hub of the log back ends, local files and TensorBoard."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend
from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend
from mmengine.visualization import Visualizer as MMEngineVisualizer
from mmengine.visualization.vis_backend import force_init_env

from mtl_plugins.errors import ConfigError
from mtl_plugins.registry import VISBACKENDS, VISUALIZERS
from mtl_plugins.utils.files import make_folder, replacing

NUM_CELLS = 64
HISTOGRAM_FILE = 'histograms.jsonl'


@dataclass(frozen=True)
class Histogram:
    """Counts ``(K,)`` int64 of values in cells of equal width from ``low`` to ``high``, and the sums of values and squares."""

    low: float
    high: float
    counts: np.ndarray
    total: float
    total_squares: float

    @classmethod
    def of(cls, values: np.ndarray, num_cells: int = NUM_CELLS) -> 'Histogram | None':
        """Count the finite numbers of an array, from the least to the largest; None if there is none."""
        values = np.asarray(values, np.float64).ravel()
        values = values[np.isfinite(values)]
        if not len(values):
            return None
        low, high = float(values.min()), float(values.max())
        if low == high:
            # A cell has a width.
            margin = max(abs(low), 1.0) * 1e-3
            low, high = low - margin, high + margin
        counts, _ = np.histogram(values, num_cells, (low, high))
        return cls(low, high, counts, float(values.sum()), float(np.square(values).sum()))

    @property
    def edges(self) -> np.ndarray:
        """Ends of the cells, ``(K + 1,)``."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


@VISUALIZERS.register_module()
class Visualizer(MMEngineVisualizer):
    """mmengine's, with the same arguments, which hands histograms, too, to every back end that takes them."""

    @master_only
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        for backend in self._vis_backends.values():
            if hasattr(backend, 'add_histograms'):
                backend.add_histograms(histograms, step)

    @master_only
    def start(self) -> None:
        """Begin to record now rather than with the first value."""
        for backend in self._vis_backends.values():
            if hasattr(backend, 'start'):
                backend.start()


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """mmengine's, with the same arguments, and with histograms and pictures in folders.

    In ``<timestamp>/vis_data`` of the work dir:

    * ``scalars.json``: a JSON object a line, scalars by name with ``step``.
    * ``vis_image/<name>_<step>.png``.
    * ``histograms.jsonl``: a JSON object a line with ``name``, ``step``, ``low``, ``high`` and ``counts``, the numbers of values
      in cells of equal width from ``low`` to ``high``.
    """

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        path = Path(self._img_save_dir) / f'{name}_{step}.png'
        make_folder(path.parent)
        # PIL, at its usual compression, takes five times as long.
        _, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        with replacing(path) as temporary:
            temporary.write_bytes(data.tobytes())

    @force_init_env
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        lines = [
            dict(name=name, step=step, low=histogram.low, high=histogram.high, counts=histogram.counts.tolist())
            for name, histogram in histograms.items()
        ]
        with open(Path(self._save_dir) / HISTOGRAM_FILE, 'a', encoding='utf-8') as file:
            file.write(''.join(json.dumps(line) + '\n' for line in lines))


@VISBACKENDS.register_module()
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """mmengine's, with histograms. Every step is a training iteration: ``tensorboard --logdir WORK_DIR``."""

    def __init__(self, save_dir: str) -> None:
        if find_spec('tensorboard') is None:
            raise ConfigError(
                '`TensorboardVisBackend` needs the package tensorboard. Install it, or this package with its extra: `pip install '
                '-e .[tracking]`.'
            )
        super().__init__(save_dir)

    @force_init_env
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        for name, histogram in histograms.items():
            moments = dict(num=int(histogram.counts.sum()), sum=histogram.total, sum_squares=histogram.total_squares)
            buckets = dict(bucket_limits=histogram.edges[1:].tolist(), bucket_counts=histogram.counts.tolist())
            extremes = dict(min=histogram.low, max=histogram.high)
            self._tensorboard.add_histogram_raw(name, **extremes, **moments, **buckets, global_step=step)
