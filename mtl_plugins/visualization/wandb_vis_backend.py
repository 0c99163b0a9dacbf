"""Weights & Biases."""

import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.visualization.vis_backend import BaseVisBackend, force_init_env

from mtl_plugins.errors import ConfigError
from mtl_plugins.registry import VISBACKENDS
from mtl_plugins.visualization.visualizer import Histogram

RUN_ID = 'wandb_run_id'


@VISBACKENDS.register_module()
class WandbVisBackend(BaseVisBackend):
    """A run of Weights & Biases, with every value over the training iteration ``iter``. mmengine's ignores the step.

    The id of the run is kept in the checkpoints: a training that is resumed goes on with the run, offline too. A test leaves no
    run. The key is that of ``wandb login`` or of ``WANDB_API_KEY``: it is no argument, and none of the files of a run hold it.

    Args:
        save_dir: Folder of the files of wandb.
        project: Name of the project; by default ``WANDB_PROJECT``, or else ``'mtl_plugins'``.
        name: Name of the run; by default ``WANDB_NAME``, or else that of the training.
        group, entity, tags, notes, mode: As in ``wandb.init``. ``'offline'`` needs no account; ``wandb sync`` uploads it later.
        init_kwargs: Further arguments of ``wandb.init``.

    Raises:
        ConfigError: If wandb is not installed; at the start, if it refuses to begin the run.
    """

    def __init__(
        self,
        save_dir: str,
        *,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        entity: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        mode: str | None = None,
        init_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if find_spec('wandb') is None:
            raise ConfigError(
                '`WandbVisBackend` needs the package wandb. Install it, or this package with its extra: `pip install -e '
                '.[tracking]`.'
            )
        super().__init__(save_dir)
        self.project, self.name = project, name
        self.settings = dict(group=group, entity=entity, tags=tags and list(tags), notes=notes, mode=mode)
        self.init_kwargs = dict(init_kwargs or {})
        self._config: dict = {}
        self._run = None

    def _init_env(self) -> None:
        import wandb

        os.makedirs(self._save_dir, exist_ok=True)
        infos = MessageHub.get_current_instance().runtime_info
        run_id = infos.get(RUN_ID) or os.environ.get('WANDB_RUN_ID') or uuid.uuid4().hex[:8]
        settings = dict(
            dir=self._save_dir,
            project=self.project or os.environ.get('WANDB_PROJECT') or 'mtl_plugins',
            name=self.name or os.environ.get('WANDB_NAME') or infos.get('run_name'),
            config=self._config,
            # A resumed run may be longer, or on another machine, than the config of its start says.
            allow_val_change=True,
            resume='allow',
            id=run_id,
            # The source is in the submission; wandb would copy the folder that the program was started in.
            settings=wandb.Settings(save_code=False, disable_git=True),
            reinit='create_new',
        )
        try:
            self._run = wandb.init(**{**settings, **self.settings, **self.init_kwargs})
        except (wandb.Error, ValueError) as error:
            reason = str(error).strip().splitlines()[0].rstrip('.')
            raise ConfigError(
                f'Weights & Biases cannot start the run: {reason}. Call `wandb login` once, or record without a network: '
                "`mode='offline'` of WandbVisBackend, or WANDB_MODE=offline."
            ) from error
        # Into the checkpoints.
        MessageHub.get_current_instance().update_info(RUN_ID, self._run.id)
        self._run.define_metric('iter')
        self._run.define_metric('*', step_metric='iter')

    @property
    @force_init_env
    def experiment(self) -> Any:
        return self._run

    @force_init_env
    def start(self) -> None:
        """Begin the run."""

    def add_config(self, config: Config, **kwargs) -> None:
        self._config = config.to_dict()

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        import wandb

        self._run.log({name: wandb.Image(image), 'iter': step})

    @force_init_env
    def add_scalar(self, name: str, value: float, step: int = 0, **kwargs) -> None:
        self._run.log({name: value, 'iter': step})

    @force_init_env
    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs) -> None:
        self._run.log({**scalar_dict, 'iter': step})

    @force_init_env
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        import wandb

        values = {name: wandb.Histogram(np_histogram=(each.counts, each.edges)) for name, each in histograms.items()}
        self._run.log({**values, 'iter': step})

    def close(self) -> None:
        """End the run, as a failed one while an exception is on its way."""
        if self._run is not None:
            self._run.finish(exit_code=int(sys.exc_info()[0] is not None))
        # What comes after this goes on with the same run.
        self._run, self._env_initialized = None, False
