"""The mmengine Runner with exact, safe and atomic checkpoints, thread workers and multi-process training on CPU."""

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_distributed, master_only
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.visualization import Visualizer
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from mtl_plugins.datasets.loading import collate  # noqa: F401  # mmengine's function registry has no locations.
from mtl_plugins.datasets.loading.thread_loader import ThreadDataLoader
from mtl_plugins.engine.hooks.preemption_hook import PreemptionHook
from mtl_plugins.engine.hooks.run_record_hook import MetricsCsvHook
from mtl_plugins.engine.log_processor import ProgressBarHook, tidy
from mtl_plugins.engine.resumption import check_resumable, describe_recipe, finish_validation, go_on
from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import CheckpointError, ConfigError
from mtl_plugins.models.utils.weights import without_training_parts
from mtl_plugins.records.config_data import refuse_secrets
from mtl_plugins.registry import MODEL_WRAPPERS, OPTIMIZERS, RUNNERS, SCOPE
from mtl_plugins.utils.checkpoint_io import find_latest_checkpoint, find_mismatch
from mtl_plugins.utils.config_classes import suggest_class
from mtl_plugins.utils.data_files import shorten
from mtl_plugins.utils.files import replacing
from mtl_plugins.utils.zoo import is_pretrained

WORKER_TYPES = ('process', 'thread')
# Of torch's optimizers, those with a kernel for the whole step, and what in their configs chooses another one.
FUSED_OPTIMIZERS = ('Adam', 'AdamW', 'SGD')
STEP_KINDS = ('fused', 'foreach', 'capturable', 'differentiable')
TIMESTAMP = '%Y%m%d_%H%M%S'


class RunConfig(Config):
    """A config whose text is formatted anew only where it has changed: that takes as long as several steps of a small model."""

    @classmethod
    def of(cls, config: Config) -> 'RunConfig':
        made = cls.__new__(cls)
        made.__dict__.update(config.__dict__)
        return made

    @property
    def pretty_text(self) -> str:
        attributes, entries = self.__dict__, repr(self._cfg_dict)  # mmengine takes what is set as an attribute for an entry
        if attributes.get('_entries') != entries:
            attributes.update(_entries=entries, _pretty_text=super().pretty_text)
        return attributes['_pretty_text']


@MODEL_WRAPPERS.register_module()
class BalancedDataParallel(MMDistributedDataParallel):
    """mmengine's wrapper, which leaves the step to a model that averages gradients over processes itself."""

    def train_step(self, data: dict, optim_wrapper: BaseOptimWrapper) -> dict[str, Tensor]:
        if getattr(self.module, 'balances_gradients', False):
            return self.module.train_step(data, optim_wrapper)
        return super().train_step(data, optim_wrapper)


@RUNNERS.register_module()
class MultiTaskRunner(Runner):
    """:class:`mmengine.runner.Runner` with what exact and safe runs need. Same config keys, and these:

    * ``train_dataloader.worker_type``: ``'process'`` (PyTorch's workers) or ``'thread'``, for all three loaders.
    * A checkpoint is loaded weights-only, must fit the model in every name and shape, and replaces an older file of its
      name only once it is written completely.
    * ``resume=True`` continues from the newest checkpoint of the work dir, wherever the folder lies now. Several processes
      take the one that the main process finds. A validation that was not finished is done again, and optimizer and schedules
      must be those of the checkpoint; with ``reschedule=True`` they are those of the config.
    * ``metrics.csv`` is written, whatever the config's hooks: it tells which validations are done.
    * Without CUDA, ``launcher='pytorch'`` trains over gloo.
    * With CUDA, float32 products run in TF32 unless ``env_cfg.tf32=False``, loaders give batches in pinned memory unless their
      ``pin_memory`` is False, Adam, AdamW and SGD are the fused ones unless their config says otherwise, and
      ``randomness.deterministic=True`` asks cuBLAS for it, too.
    * Without ``visualizer``, the local files are the only log back end.
    * Of two runners that a process builds within one second, the later has the timestamp of the next: mmengine would give it
      the logger, the message hub and the visualizer of the earlier.
    """

    _timestamps: ClassVar[set[str]] = set()
    # Settings of optimizer and schedules, see `describe_recipe`, and the length for which the resumed checkpoint was trained; the
    # rows of `metrics.csv` up to that checkpoint, and the metrics of the last of them if it is that of the checkpoint itself.
    recipe: dict[str, Any] | None = None
    planned_length: int | None = None
    earlier_validations: Sequence[dict[str, str]] = ()
    resumed_validation: dict[str, float] | None = None

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build a logger that writes only single lines to the terminal, short ones where there is a progress bar."""
        logger = super().build_logger(*args, **kwargs)
        tidy(logger)
        return logger

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'MultiTaskRunner':
        """Build a runner, but not of a config with a password: it is written into the work dir and the log."""
        refuse_secrets(cfg._cfg_dict)
        return super().from_cfg(RunConfig.of(cfg))

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        if visualizer is None:
            visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
        return super().build_visualizer(visualizer)

    def setup_env(self, env_cfg: dict) -> None:
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            if self._launcher != 'pytorch':
                raise ConfigError(f'`--launcher {self._launcher}` needs CUDA, and none was found. Use `--launcher pytorch`.')
            timeout = datetime.timedelta(seconds=(env_cfg.get('dist_cfg') or {}).get('timeout', 1800))
            try:
                torch.distributed.init_process_group('gloo', timeout=timeout)
            except ValueError as error:
                # The environment of a process that `torchrun` starts is missing.
                raise ConfigError(
                    f'`--launcher pytorch` is for processes that torchrun starts, as tools/dist_train.sh does. It was not: '
                    f'{shorten(error, 200)}. Leave it out to train in one process.'
                ) from error
        if torch.cuda.is_available():
            tf32 = env_cfg.get('tf32', True)
            torch.set_float32_matmul_precision('high' if tf32 else 'highest')
            torch.backends.cudnn.allow_tf32 = tf32
        super().setup_env(env_cfg)
        while self._timestamp in self._timestamps:
            following = datetime.datetime.strptime(self._timestamp, TIMESTAMP) + datetime.timedelta(seconds=1)
            self._timestamp = following.strftime(TIMESTAMP)
        self._timestamps.add(self._timestamp)

    def _log_env(self, env_cfg: dict) -> None:
        # First, as mmengine's list of the environment imports torchvision.
        device = get_device()
        where = torch.cuda.get_device_name() if device == 'cuda' else f'{torch.get_num_threads()} threads'
        processes = f', {self.world_size} processes' if self.distributed else ''
        self.logger.info(f'Running on {device} ({where}){processes}, PyTorch {torch.__version__}')
        super()._log_env(env_cfg)

    def set_randomness(self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        if deterministic:
            # cuBLAS reads it once, before its first product.
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> torch.nn.Module:
        """Wrap the model in :class:`BalancedDataParallel`, without device ids on CPU, or in the wrapper of the config."""
        if self.distributed and not is_model_wrapper(model):
            if model_wrapper_cfg is None and not torch.cuda.is_available():
                return BalancedDataParallel(module=model, device_ids=None, broadcast_buffers=False)
            unused = self.cfg.get('find_unused_parameters', False)
            model_wrapper_cfg = dict(model_wrapper_cfg or dict(broadcast_buffers=False, find_unused_parameters=unused))
            kind = model_wrapper_cfg.setdefault('type', BalancedDataParallel)
            if getattr(model, 'balances_gradients', False) and kind not in (BalancedDataParallel, BalancedDataParallel.__name__):
                raise ConfigError(
                    f'`model_wrapper_cfg.type` should be BalancedDataParallel for a task balancing by gradients. Found {kind}.'
                )
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper | dict) -> BaseOptimWrapper:
        """Build the wrapper, with a fused optimizer on a GPU; what the task balancing learns has no weight decay.

        Its learning rate is multiplied by its ``lr_mult``. A constructor of another library, and a ``paramwise_cfg`` that says
        something of ``task_balancing``, stay as they are.
        """
        if not isinstance(optim_wrapper, dict):
            return super().build_optim_wrapper(optim_wrapper)
        optimizer = optim_wrapper.get('optimizer')
        if not isinstance(optimizer, (dict, Optimizer)) and 'constructor' not in optim_wrapper:
            raise ConfigError(f"`optim_wrapper.optimizer` should be dict(type='Adam', lr=...) or so. Found {optimizer!r}.")
        model = unwrap(self.model)
        balancing = getattr(model, 'task_balancing', None)
        own = ('DefaultOptimWrapperConstructor', 'MergedGroupsConstructor')
        if isinstance(balancing, torch.nn.Module) and any(True for _ in balancing.parameters()):
            if optim_wrapper.get('constructor', own[0]) in own:
                paramwise = dict(optim_wrapper.get('paramwise_cfg') or {})
                rates = {'task_balancing': dict(lr_mult=getattr(balancing, 'lr_mult', 1.0), weight_decay=0.0)}
                paramwise['custom_keys'] = {**rates, **(paramwise.get('custom_keys') or {})}
                optim_wrapper = {**optim_wrapper, 'constructor': own[1], 'paramwise_cfg': paramwise}
        if not isinstance(optimizer, dict):
            return super().build_optim_wrapper(optim_wrapper)
        kind = optimizer.get('type')
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            # mmengine asks for the arguments of the class without looking if there is one.
            raise ConfigError(
                f'Unknown `type` in the config: there is no optimizer named {kind}.{suggest_class(kind, "optimizer")}'
            )
        if kind in FUSED_OPTIMIZERS and not optimizer.keys() & set(STEP_KINDS):
            if all(parameter.is_cuda for parameter in model.parameters()):
                optim_wrapper = {**optim_wrapper, 'optimizer': {**optimizer, 'fused': True}}
        return super().build_optim_wrapper(optim_wrapper)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """Build a loader; ``worker_type='thread'`` asks for workers that share memory with the training process."""
        if isinstance(dataloader, DataLoader):
            return dataloader
        if DefaultScope.get_current_instance() is None:
            # Without a runner, as in a notebook.
            init_default_scope(SCOPE)
        config = {'pin_memory': torch.cuda.is_available(), **dataloader}
        worker_type, num_workers = config.pop('worker_type', 'process'), config.get('num_workers', 0)
        if worker_type not in WORKER_TYPES:
            raise ConfigError(f'`worker_type` should be one of {WORKER_TYPES}. Found {worker_type!r}.')
        for name, value, least in (('num_workers', num_workers, 0), ('batch_size', config.get('batch_size', 1), 1)):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f'`{name}` of a data loader should be an integer >= {least}. Found {value!r}.')
        if worker_type == 'process' or num_workers == 0:
            loader = Runner.build_dataloader(config, seed, diff_rank_seed)
        else:
            prefetch_factor = config.pop('prefetch_factor', None) or 2
            config.pop('persistent_workers', None)
            loader = Runner.build_dataloader({**config, 'num_workers': 0}, seed, diff_rank_seed)
            if config.get('batch_sampler') is not None:
                batching = dict(batch_sampler=loader.batch_sampler)
            else:
                batching = dict(batch_size=loader.batch_size, sampler=loader.sampler, drop_last=loader.drop_last)
            loader = ThreadDataLoader(
                loader.dataset,
                **batching,
                num_workers=num_workers,
                collate_fn=loader.collate_fn,
                pin_memory=loader.pin_memory,
                prefetch_factor=prefetch_factor,
            )
        if len(loader) == 0:
            raise ConfigError(
                f'`batch_size` should be at most {len(loader.sampler)}, the number of samples of a process, since '
                f'`drop_last` leaves out smaller batches. Found {loader.batch_size}. Set `--batch-size {len(loader.sampler)}`.'
            )
        return loader

    def train(self) -> torch.nn.Module:
        """Train; the log back ends are closed however it ends. A signal ends it as :class:`PreemptionHook` says."""
        for name in ('max_epochs', 'max_iters'):
            value = self.cfg.train_cfg.get(name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f'`train_cfg.{name}` should be a positive integer. Found {value!r}.')
        try:
            return super().train()
        except KeyboardInterrupt as error:
            self.visualizer.close()
            last = self.message_hub.runtime_info.get('last_ckpt')
            kept = f'--resume continues from {Path(last).name}' if last else 'there is no checkpoint yet to resume from'
            raise KeyboardInterrupt(f'Interrupted after iteration {self.iter}: {kept}.') from error
        except BaseException:
            self.visualizer.close()
            raise
        finally:
            for hook in self.hooks:
                if isinstance(hook, PreemptionHook):
                    hook.release()
                if isinstance(hook, ProgressBarHook):
                    hook.stop()

    def _maybe_compile(self, target: str) -> None:
        options = self.cfg.get('compile')
        model = unwrap(self.model)
        if not options or not hasattr(model, 'compile_network'):
            return super()._maybe_compile(target)
        model.compile_network(**(options if isinstance(options, dict) else {}))

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        if isinstance(loop, dict) and 'type' not in loop and loop.get('by_epoch'):
            loop = {'type': 'EpochBasedTrainLoop', **{key: value for key, value in loop.items() if key != 'by_epoch'}}
        return super().build_train_loop(loop)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the hooks of the config; None leaves any of them out, not only mmengine's."""
        mmengines = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        hooks = hooks or {}
        super().register_default_hooks({name: hook for name, hook in hooks.items() if hook is not None or name in mmengines})

    def register_hooks(self, *args, **kwargs) -> None:
        super().register_hooks(*args, **kwargs)
        if not any(isinstance(hook, MetricsCsvHook) for hook in self.hooks):
            self.register_hook(MetricsCsvHook())

    def call_hook(self, fn_name: str, **kwargs) -> None:
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_train':
            finish_validation(self)

    def load_or_resume(self) -> None:
        """Load or resume once: ``resume='auto'``, or True without ``load_from``, takes the newest checkpoint of the work dir.

        Where there is none, the training starts from ``load_from`` or from the beginning.
        """
        first = not self._has_loaded
        if first:
            if self._resume == 'auto' or (self._resume and self._load_from is None):
                latest = find_latest_checkpoint(self.work_dir)
                if latest is None:
                    start = f'the weights of {self._load_from}' if self._load_from else 'the beginning'
                    self.logger.warning(
                        f'There is no checkpoint in {self.work_dir} to resume: training starts from {start}. If there should be '
                        'one, check the work dir.'
                    )
                self._resume, self._load_from = latest is not None, latest or self._load_from
            # The others may see an older state of a shared disk, and do not know of a restart.
            choice = [self._resume, self._load_from]
            broadcast_object_list(choice)
            self._resume, self._load_from = choice
            if isinstance(self._train_loop, BaseLoop):
                self.recipe = describe_recipe(self)
        try:
            if first and not self._resume and is_pretrained(self._load_from):
                self.load_checkpoint(self._load_from, strict=False)
            super().load_or_resume()
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            if not self._resume:
                raise
            raise CheckpointError(
                f'Checkpoint {self._load_from} cannot be resumed: it holds something else than a training saves '
                f'({type(error).__name__}: {shorten(error)}). Resume from another `epoch_*.pth` or `iter_*.pth`.'
            ) from error
        if first and self._resume and self.recipe is not None:
            go_on(self)

    def start_from(self, checkpoint: str | Path) -> None:
        """Take the weights of a checkpoint now, the averaged ones if there are any, whatever the config says of resuming."""
        self._resume = False
        for hook in self.hooks:
            # It makes its copy when a run starts, and wants to load into that.
            if isinstance(hook, EMAHook) and not hasattr(hook, 'ema_model'):
                hook.before_run(self)
        self.load_checkpoint(str(checkpoint))

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', strict: bool = True) -> dict:
        """Load the weights of a checkpoint: a path, a model of the zoo, or a name with a scheme that mmengine knows.

        Unless ``strict``, when it must fit the model exactly, the weights that fit are loaded, and the log says what is left out.

        Raises:
            CheckpointError: If the file is missing, corrupt or unsafe, belongs to another architecture, or cannot be resumed.
        """
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location)
        if 'state_dict' not in checkpoint:
            checkpoint = {'state_dict': checkpoint}
        weights = checkpoint['state_dict']
        checkpoint['state_dict'] = {name.removeprefix('module.'): value for name, value in weights.items()}
        model = unwrap(self.model)
        if not strict:
            checkpoint['state_dict'] = self._select_fitting(model.state_dict(), checkpoint['state_dict'], filename)
        elif not self._resume:
            checkpoint['state_dict'] = without_training_parts(checkpoint['state_dict'], model)
        mismatch = find_mismatch(model.state_dict(), checkpoint['state_dict'])
        if mismatch:
            raise CheckpointError(
                f'Checkpoint {filename} belongs to another architecture than the config: {mismatch}. Use the config it was '
                'trained with.'
            )
        if self._resume:
            check_resumable(self, checkpoint, filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_state_dict(checkpoint['state_dict'], strict=False)
        self._has_loaded = True
        self.logger.info(f'Loaded {filename}')
        return checkpoint

    def _select_fitting(self, own: dict[str, Tensor], found: dict[str, Tensor], filename: str) -> dict[str, Tensor]:
        """Return a model's own weights, replaced by those of a checkpoint with the same name and shape."""
        fitting = {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
        if not any(name.startswith('backbone.') for name in fitting):
            raise CheckpointError(f'{filename} should have weights for the backbone of the config. None fits.')
        left = [name for name in found if name not in fitting]
        new = [name for name in own if name not in fitting and not name.endswith('num_batches_tracked')]
        self.logger.info(
            f'{len(fitting)} of the {len(found)} weights of {filename} fit. Left out: {", ".join(left) or "none"}. '
            f'New: {", ".join(new) or "none"}.'
        )
        return {**own, **fitting}

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: dict | None = None, **kwargs) -> None:
        """Write a checkpoint under a temporary name, then rename it; raise CheckpointError if it cannot be written."""
        kwargs['meta'] = {**(kwargs.get('meta') or {}), 'recipe': self.recipe}
        with replacing(Path(out_dir) / filename, CheckpointError) as temporary:
            super().save_checkpoint(out_dir, temporary.name, file_client_args, **kwargs)

    @master_only
    def dump_config(self) -> None:
        """Write the resolved config into the work dir, under another name if an earlier start left a different one."""
        target = Path(self.work_dir) / (Path(self.cfg.filename).name if self.cfg.filename else f'{self.timestamp}.py')
        if target.exists() and target.read_text(encoding='utf-8') != self.cfg.pretty_text:
            target = target.with_name(f'{target.stem}_{self.timestamp}.py')
        with replacing(target, ConfigError) as temporary:
            temporary.write_text(self.cfg.pretty_text, encoding='utf-8')
