from mtl_plugins.visualization.wandb_backend import IterationWandbVisBackend

__all__ = ['IterationWandbVisBackend']
