from mtl_plugins.visualization.local_vis_backend import LocalVisBackend
from mtl_plugins.visualization.tensorboard_vis_backend import TensorboardVisBackend
from mtl_plugins.visualization.visualizer import Visualizer
from mtl_plugins.visualization.wandb_vis_backend import WandbVisBackend

__all__ = ['LocalVisBackend', 'TensorboardVisBackend', 'Visualizer', 'WandbVisBackend']
