from mtl_plugins.visualization.visualizer import LocalVisBackend, TensorboardVisBackend, Visualizer
from mtl_plugins.visualization.wandb_vis_backend import WandbVisBackend

__all__ = ['LocalVisBackend', 'TensorboardVisBackend', 'Visualizer', 'WandbVisBackend']
