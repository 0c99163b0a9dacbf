"""From command-line choices to a config that the Runner takes."""

import os
from pathlib import Path

import torch
from mmengine.config import Config

from mtl_plugins.errors import ConfigError
from mtl_plugins.records.record import LOCK_NAME
from mtl_plugins.utils.checkpoint_io import POINTER_NAME, find_latest_checkpoint
from mtl_plugins.utils.config_classes import typed_dicts
from mtl_plugins.utils.files import hold_lock, make_folder, replacing

# Names the launch that trains in a work dir: `torchrun` gives it, the same when it starts its processes again.
LAUNCH_NAME = '.launch'


def complete(config: Config, *needed: str) -> None:
    """Fill in the loops of the loaders that a config has, and refuse one that lacks what is ``needed``."""
    if config.get('test_dataloader') is not None:
        config.test_evaluator = [] if config.get('test_evaluator') is None else config.test_evaluator
    if config.get('val_dataloader') is not None and config.get('val_evaluator') is None:
        needed += ('val_evaluator',)
    if config.get('val_evaluator') is not None and config.get('val_dataloader') is None:
        needed += ('val_dataloader',)
    missing = [name for name in ('model', *needed) if config.get(name) is None]
    if missing:
        raise ConfigError(
            f'{config.filename or "The config"} should have {", ".join(f"`{name}`" for name in missing)}. Found None. '
            'configs/README.md shows bases that have them.'
        )
    for phase, loop in (('val', 'InferenceValLoop'), ('test', 'InferenceTestLoop')):
        if config.get(f'{phase}_dataloader') is None:
            config.update({f'{phase}_{name}': None for name in ('cfg', 'evaluator')})
        elif config.get(f'{phase}_cfg') is None:
            config[f'{phase}_cfg'] = dict(type=loop)


def set_settings(
    config: Config,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    size: tuple[int, int] | None = None,
    seed: int | None = None,
) -> None:
    """Set what most trainings change: epochs with their schedule, batch size, learning rate, size of crops, and seed."""
    complete(config, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    for name, value, least in (('epochs', epochs, 1), ('batch_size', batch_size, 1), ('seed', seed, 0)):
        if value is not None and (not isinstance(value, int) or value < least):
            raise ConfigError(f'`{name}` should be a whole number from {least}. Found {value!r}.')
    if lr is not None and not (isinstance(lr, (int, float)) and lr >= 0):
        raise ConfigError(f'`lr` should be a number from 0. Found {lr!r}.')
    if size is not None and not (len(size := tuple(size)) == 2 and all(isinstance(side, int) and side > 0 for side in size)):
        raise ConfigError(f'`size` should be (height, width) in pixels, such as (256, 512). Found {size!r}.')
    if epochs is not None:
        _set_epochs(config, epochs)
    if batch_size is not None:
        config.train_dataloader.batch_size = batch_size
    if lr is not None:
        config.optim_wrapper.optimizer.lr = lr
    if seed is not None:
        config.randomness = {**(config.get('randomness') or {}), 'seed': seed}
    if size is not None:
        steps = [node for _, node in typed_dicts(config.train_dataloader) if 'crop_size' in node]
        if not steps:
            raise ConfigError('`--size` sets `crop_size` of a transform, and no transform of this training pipeline has one.')
        for step in steps:
            step['crop_size'] = size


def _set_epochs(config: Config, epochs: int) -> None:
    """Set the number of epochs: schedulers that end with the last epoch still do, and milestones keep their proportion."""
    before = config.train_cfg.get('max_epochs')
    if not isinstance(before, int):
        raise ConfigError(
            f'`--epochs` needs a training that counts epochs, with `train_cfg.max_epochs`. {config.filename} counts iterations: '
            'set `train_cfg.max_iters`.'
        )
    config.train_cfg.max_epochs = epochs
    schedulers = config.get('param_scheduler') or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if not scheduler.get('by_epoch', True):
            continue
        # A decay once per epoch may end one after the last, which then is not at zero.
        if isinstance(end, int) and end >= before:
            scheduler['end'] = end + epochs - before
            if begin >= epochs:
                raise ConfigError(f'`--epochs` should be more than {begin}, where {scheduler["type"]} begins. Found {epochs}.')
        if isinstance(scheduler.get('T_max'), int) and begin + scheduler['T_max'] >= before:
            scheduler['T_max'] += epochs - before
        if scheduler.get('milestones'):
            scheduler['milestones'] = [round(each * epochs / before) for each in scheduler['milestones']]


def set_work_dir(config: Config, work_dir: str | None) -> None:
    """Set ``work_dir``: the one given, else the config's own, else ``work_dirs/<config name>``."""
    config.work_dir = str(work_dir or config.get('work_dir') or Path('work_dirs') / Path(config.filename or 'run').stem)


def set_resume(config: Config, resume: str | None, reschedule: bool = False) -> None:
    """Continue a run: ``'auto'`` from its newest checkpoint, if it has one, a path from that; None leaves the config as it is."""
    if resume == 'auto':
        config.resume = 'auto'
    elif resume is not None:
        config.resume, config.load_from = True, resume
    if reschedule:
        if not config.get('resume'):
            raise ConfigError('`--reschedule` is for a run that is continued: pass --resume as well.')
        config.reschedule = True


def claim_work_dir(config: Config) -> None:
    """Take the work dir for this process until it ends, and make sure that a new run overwrites nothing.

    In a distributed run the main process does it for all. When SLURM requeued the job, or ``torchrun`` started its processes
    again, the newest checkpoint that the run has saved in the work dir is resumed.
    """
    if not is_first_process(config):
        return
    work_dir = Path(config.work_dir)
    make_folder(work_dir, ConfigError)
    if not hold_lock(work_dir / LOCK_NAME, ConfigError):
        raise ConfigError(f'Another process is training in {work_dir}. Wait for it to end, or give another --work-dir.')
    if _is_restarted(work_dir) and find_latest_checkpoint(work_dir):
        if config.get('resume') is True:
            # It names the checkpoint that the first start went on from.
            config.load_from = None
        config.resume = 'auto'
    named = config.get('load_from') if config.get('resume') != 'auto' else None
    continued = config.get('resume') and (not named or Path(named).resolve().parent == work_dir.resolve())
    if not continued and ((work_dir / POINTER_NAME).exists() or any(work_dir.glob('*.pth'))):
        raise ConfigError(
            f'{work_dir} already holds a run. Pass --resume to continue it, or another --work-dir for a new one; nothing is '
            'overwritten.'
        )
    launch = os.environ.get('TORCHELASTIC_RUN_ID')
    if launch:
        with replacing(work_dir / LAUNCH_NAME, ConfigError) as temporary:
            temporary.write_text(launch, encoding='utf-8')


def _is_restarted(work_dir: Path) -> bool:
    launch, file = os.environ.get('TORCHELASTIC_RUN_ID'), work_dir / LAUNCH_NAME
    if launch:
        # 'none' is torchrun's own default, the same for every launch.
        return launch != 'none' and file.is_file() and file.read_text(encoding='utf-8') == launch
    return int(os.environ.get('SLURM_RESTART_COUNT', '0')) > 0


def is_first_process(config: Config) -> bool:
    """Return True in the main process of a run, by the launcher's variables: the process group starts with the Runner."""
    return config.get('launcher', 'none') == 'none' or not int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')))


def supports_bf16() -> bool:
    """Return True if the GPU, or else the CPU, computes in bfloat16 at full speed; elsewhere it is emulated and slow."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    # Private, and not in every version of torch.
    checks = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def set_mixed_precision(config: Config) -> None:
    """Train under bfloat16 autocast, or under float16 with loss scaling on GPUs without bfloat16."""
    complete(config, 'optim_wrapper')
    wrapper = config.optim_wrapper
    wrapper.setdefault('type', 'OptimWrapper')
    if wrapper.type in ('Bf16OptimWrapper', 'AmpOptimWrapper'):
        return
    if wrapper.type != 'OptimWrapper':
        raise ConfigError(f'`--amp` replaces `optim_wrapper.type` OptimWrapper. Found {wrapper.type}: set its precision there.')
    if not torch.cuda.is_available() or torch.cuda.is_bf16_supported():
        wrapper.type = 'Bf16OptimWrapper'
    else:
        wrapper.update(type='AmpOptimWrapper', dtype='float16')
