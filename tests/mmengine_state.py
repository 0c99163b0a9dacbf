"""mmengine keeps scopes, log histories, loggers and visualizers in process-wide tables, by the name of the experiment."""

from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer as MMEngineVisualizer

from mtl_plugins.visualization import Visualizer


def forget_experiments() -> None:
    """Empty the tables, as in a new process: two experiments of one name and second would share a log file."""
    for manager in (DefaultScope, MessageHub, MMLogger, MMEngineVisualizer, Visualizer):
        manager._instance_dict.clear()
