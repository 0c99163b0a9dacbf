"""The hub of the log back ends."""

from collections.abc import Mapping

from mmengine.dist import master_only
from mmengine.visualization import Visualizer as MMEngineVisualizer

from mtl_plugins.registry import VISUALIZERS
from mtl_plugins.visualization.histogram import Histogram


@VISUALIZERS.register_module()
class Visualizer(MMEngineVisualizer):
    """mmengine's, which hands histograms, too, to every back end that takes them. Same arguments."""

    @master_only
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        """Record distributions by name at an iteration."""
        for backend in self._vis_backends.values():
            if hasattr(backend, 'add_histograms'):
                backend.add_histograms(histograms, step)

    @master_only
    def start(self) -> None:
        """Begin to record now rather than with the first value; called when it is known which run this is."""
        for backend in self._vis_backends.values():
            if hasattr(backend, 'start'):
                backend.start()
