"""TensorBoard."""

from collections.abc import Mapping
from importlib.util import find_spec

from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mtl_plugins.errors import ConfigError
from mtl_plugins.registry import VISBACKENDS
from mtl_plugins.visualization.visualizer import Histogram


@VISBACKENDS.register_module()
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """mmengine's, with histograms. Every step is a training iteration: ``tensorboard --logdir WORK_DIR``.

    Args:
        save_dir: Folder of the event file.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """

    def __init__(self, save_dir: str) -> None:
        if find_spec('tensorboard') is None:
            raise ConfigError(
                '`TensorboardVisBackend` needs the package tensorboard. Install it, or this package with its extra: `pip install '
                '-e .[tracking]`.'
            )
        super().__init__(save_dir)

    @force_init_env
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        """Record distributions at an iteration."""
        for name, histogram in histograms.items():
            self._tensorboard.add_histogram_raw(
                name,
                min=histogram.low,
                max=histogram.high,
                num=int(histogram.counts.sum()),
                sum=histogram.total,
                sum_squares=histogram.total_squares,
                bucket_limits=histogram.edges[1:].tolist(),
                bucket_counts=histogram.counts.tolist(),
                global_step=step,
            )
