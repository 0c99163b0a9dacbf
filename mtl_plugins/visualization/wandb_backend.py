"""Weights & Biases with a common x-axis."""

import numpy as np
from mmengine.visualization import WandbVisBackend
from mmengine.visualization.vis_backend import force_init_env

from mtl_plugins.registry import VISBACKENDS


@VISBACKENDS.register_module()
class IterationWandbVisBackend(WandbVisBackend):
    """mmengine's backend, which ignores ``step``, with every value plotted over the training iteration.

    ``init_kwargs=dict(project=..., mode='offline')`` needs no account; ``wandb sync`` uploads such a run later.
    """

    def _init_env(self) -> None:
        super()._init_env()
        self._wandb.define_metric('iter')
        self._wandb.define_metric('*', step_metric='iter')

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        self._wandb.log({name: self._wandb.Image(image), 'iter': step}, commit=self._commit)

    @force_init_env
    def add_scalar(self, name: str, value: float, step: int = 0, **kwargs) -> None:
        self._wandb.log({name: value, 'iter': step}, commit=self._commit)

    @force_init_env
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs) -> None:
        self._wandb.log({**scalar_dict, 'iter': step}, commit=self._commit)

    def close(self) -> None:
        if hasattr(self, '_wandb'):
            self._wandb.finish()
