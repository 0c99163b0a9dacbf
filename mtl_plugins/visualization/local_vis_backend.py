"""Scalars, pictures and histograms as plain files."""

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mtl_plugins.registry import VISBACKENDS
from mtl_plugins.utils.files import make_folder, replacing
from mtl_plugins.visualization.visualizer import Histogram

HISTOGRAM_FILE = 'histograms.jsonl'


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """mmengine's, with histograms and with names of pictures that have folders. Same arguments.

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
        """Append lines to ``histograms.jsonl``."""
        lines = [
            dict(name=name, step=step, low=histogram.low, high=histogram.high, counts=histogram.counts.tolist())
            for name, histogram in histograms.items()
        ]
        with open(Path(self._save_dir) / HISTOGRAM_FILE, 'a', encoding='utf-8') as file:
            file.write(''.join(json.dumps(line) + '\n' for line in lines))
