"""The hub of the log back ends, local files, TensorBoard, and Weights & Biases."""

import json
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.logging import MessageHub
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend
from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend
from mmengine.visualization import Visualizer as MMEngineVisualizer
from mmengine.visualization.vis_backend import BaseVisBackend, force_init_env

from mtl_plugins.errors import ConfigError
from mtl_plugins.records.config_data import KEY_FILE, KEY_VARIABLE, wandb_key
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


def _require(backend: type, package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(
            f'`{backend.__name__}` needs the package {package}. Install it, or this package with its extra: `pip install -e '
            '.[tracking]`.'
        )


@VISBACKENDS.register_module()
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """mmengine's, with histograms. Every step is a training iteration: ``tensorboard --logdir WORK_DIR``."""

    def __init__(self, save_dir: str) -> None:
        _require(type(self), 'tensorboard')
        super().__init__(save_dir)

    @force_init_env
    def add_histograms(self, histograms: Mapping[str, Histogram], step: int = 0) -> None:
        for name, histogram in histograms.items():
            moments = dict(num=int(histogram.counts.sum()), sum=histogram.total, sum_squares=histogram.total_squares)
            buckets = dict(bucket_limits=histogram.edges[1:].tolist(), bucket_counts=histogram.counts.tolist())
            extremes = dict(min=histogram.low, max=histogram.high)
            self._tensorboard.add_histogram_raw(name, **extremes, **moments, **buckets, global_step=step)


RUN_ID, RUN_PATH = 'wandb_run_id', 'wandb_run'


@VISBACKENDS.register_module()
class WandbVisBackend(BaseVisBackend):
    """A run of Weights & Biases, with every value over the training iteration ``iter``. mmengine's ignores the step.

    The id of the run is kept in the checkpoints: a training that is resumed goes on with the run, offline too. A test leaves no
    run. The key is that of ``WANDB_API_KEY``, of the file ``wandb.key`` in the root of the project or of ``wandb login``: it is
    no argument, and none of the files of a run hold it.

    Args:
        save_dir: Folder of the files of wandb.
        project: Name of the project; by default ``WANDB_PROJECT``, or else ``'mtl_plugins'``.
        name: Name of the run; by default ``WANDB_NAME``, or else that of the training.
        mode: As in ``wandb.init``. ``'offline'`` needs no account; ``wandb sync`` uploads it later.
        init_kwargs: Further arguments of ``wandb.init``, such as ``dict(group='course', tags=['baseline'])``.

    Raises:
        ConfigError: If wandb is not installed; at the start, if it refuses to begin the run.
    """

    def __init__(
        self,
        save_dir: str,
        *,
        project: str | None = None,
        name: str | None = None,
        mode: str | None = None,
        init_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        _require(type(self), 'wandb')
        super().__init__(save_dir)
        self.project, self.name = project, name
        self.init_kwargs = dict(mode=mode) | dict(init_kwargs or {})
        self._config: dict = {}
        self._run = None

    def _init_env(self) -> None:
        import wandb

        os.makedirs(self._save_dir, exist_ok=True)
        if key := wandb_key():
            # An argument could be recorded.
            os.environ[KEY_VARIABLE] = key
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
            self._run = wandb.init(**{**settings, **self.init_kwargs})
        except (wandb.Error, ValueError) as error:
            reason = str(error).strip().splitlines()[0].rstrip('.')
            raise ConfigError(
                f'Weights & Biases cannot start the run: {reason}. Call `wandb login` once, put the key into {KEY_FILE}, or '
                "record without a network: `mode='offline'` of WandbVisBackend, or WANDB_MODE=offline."
            ) from error
        # Into the checkpoints, and the record.
        MessageHub.get_current_instance().update_info(RUN_ID, self._run.id)
        MessageHub.get_current_instance().update_info(RUN_PATH, self._run.path)
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
