"""Checks that a resumed training fits the one that it continues, and repair of what a kill left undone."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop

from mtl_plugins.engine import loops
from mtl_plugins.errors import CheckpointError, ConfigError
from mtl_plugins.records.metrics_file import FILE_NAME, read_row, rows_up_to
from mtl_plugins.utils.checkpoint_io import POINTER_NAME

# What a scheduler's state holds beside its settings, and how an optimizer computes its step.
_STATE = ('last_step', '_global_step', '_last_value', 'base_values', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter')
_NO_SETTINGS = ('params', 'fused', 'foreach', 'capturable', 'differentiable')
_SHOWN = 3


def _settings(state: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    """Return the plain values of a state, where it tells those with which it began."""
    settings = {}
    for name in state:
        if name in left_out or name.startswith('initial_'):
            continue
        value = state.get(f'initial_{name}', state[name])
        value = list(value) if isinstance(value, tuple) else value
        if value is None or isinstance(value, (bool, int, float, str, list)):
            settings[name] = value
    return settings


def describe_recipe(runner) -> dict[str, Any]:
    """Return the settings of optimizers and schedules of a training that has not begun, and what an epoch is."""
    loop, wrapper = runner.train_loop, runner.optim_wrapper
    if not hasattr(wrapper, 'optimizer'):
        raise ConfigError(f'`optim_wrapper` should have one optimizer for the whole model. Found {type(wrapper).__name__}.')
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    groups = [_settings(group, _NO_SETTINGS) for group in wrapper.param_groups]
    schedulers = [dict(type=type(each).__name__, **_settings(vars(each), _STATE)) for each in runner.param_schedulers or ()]
    conditions = {
        '`batch_size`': runner.train_dataloader.batch_size,
        'the number of processes': get_world_size(),
        '`accumulative_counts`': getattr(wrapper, '_accumulative_counts', 1),
        '`optim_wrapper.type`': type(wrapper).__name__,
    }
    return dict(
        # By name: checkpoints of before are compared with it.
        optimizers={'': dict(type=type(wrapper.optimizer).__name__, groups=groups)},
        schedulers={'': schedulers},
        unit='epochs' if by_epoch else 'iterations',
        length=loop.max_epochs if by_epoch else loop.max_iters,
        batches=len(loop.dataloader) if by_epoch else None,
        conditions=conditions,
    )


def check_resumable(runner, checkpoint: Mapping[str, Any], filename: str) -> None:
    """Refuse a checkpoint that the config does not continue, and go to its place within an epoch.

    ``reschedule`` in the config allows other settings of optimizer and schedule.
    """
    lacking = [key for key in ('meta', 'optimizer', 'param_schedulers', 'message_hub') if key not in checkpoint]
    if lacking:
        raise CheckpointError(
            f'Checkpoint {filename} cannot be resumed: it lacks {", ".join(lacking)} (best and published checkpoints hold '
            'weights only). Resume from an `epoch_*.pth` or `iter_*.pth`, or set `load_from` to start from its weights.'
        )
    if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise CheckpointError(
            f'Checkpoint {filename} was trained with averaged weights (EMAHook), and the config has no EMAHook. Add it to '
            '`custom_hooks` as in the original config.'
        )
    meta, loop = checkpoint['meta'], runner.train_loop
    # mmengine executes the config text stored in a checkpoint when it finds this key.
    meta.pop('config', None)
    position = meta.get('position')
    if position is not None:
        if not isinstance(loop, loops.EpochBasedTrainLoop) or len(loop.dataloader) != position['of']:
            raise CheckpointError(
                f'Checkpoint {filename} was saved after {position["batches"]} of {position["of"]} batches of an epoch, and this '
                f'run has {len(loop.dataloader)} batches an epoch. Resume with the same data, batch size and number of '
                'processes, or from an `epoch_*.pth` with --reschedule.'
            )
        loop.first_batch = position['batches']
    if runner.recipe is not None:
        _check_optimizers(runner, checkpoint, filename)
        recipe = meta.get('recipe')
        if recipe is not None:
            runner.planned_length = recipe.get('length')
            if not runner.cfg.get('reschedule', False):
                _check_recipe(runner, recipe, filename)


def _check_recipe(runner, stored: Mapping[str, Any], filename: str) -> None:
    found = runner.recipe
    differences = _differences(stored, found)
    by_batch = any(not each['by_epoch'] for each in found['schedulers'][''])
    if stored['batches'] != found['batches'] and by_batch:
        differences.insert(0, f'an epoch had {stored["batches"]} batches and has {found["batches"]}')
    if differences:
        more = f', and {len(differences) - _SHOWN} more' if len(differences) > _SHOWN else ''
        raise CheckpointError(
            f'{filename} was trained with another schedule or optimizer than the config has: '
            f'{"; ".join(differences[:_SHOWN])}{more}. Resume with the options it was started with. To train on by the config '
            'as it is now, also for longer, pass --reschedule: the schedule is then computed anew, at the point that the '
            f'{found["unit"]} so far have reached in it.'
        )
    changed = [
        f'{name} was {stored["conditions"].get(name)} and is {value}'
        for name, value in found['conditions'].items()
        if stored['conditions'].get(name) != value
    ]
    if changed:
        runner.logger.warning(f'This is not quite the run of {filename}: {"; ".join(changed)}.')


def _check_optimizers(runner, checkpoint: Mapping[str, Any], filename: str) -> None:
    known = (checkpoint['meta'].get('recipe') or {}).get('optimizers', {})
    optimizer = runner.optim_wrapper.optimizer
    groups = checkpoint['optimizer'].get('param_groups', []), optimizer.param_groups
    shapes = [[len(group['params']) for group in each] for each in groups]
    kind = type(optimizer).__name__
    kinds = [known.get('', {}).get('type', kind), kind]
    if shapes[0] != shapes[1] or kinds[0] != kinds[1]:
        told = [f'{each} with {len(shape)} groups of parameters' for each, shape in zip(kinds, shapes, strict=True)]
        raise CheckpointError(
            f'{filename} holds the state of another optimizer than the config: it was {told[0]} and is {told[1]}. Use the '
            'optimizer of the run, or start a new run from its weights: `load_from` instead of --resume.'
        )


def _differences(stored: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    seen, optimizer, schedulers = {}, found['optimizers'][''], found['schedulers']['']
    groups, earlier = stored['optimizers'].get('', {}).get('groups', []), stored['schedulers'].get('', [])
    pairs = [(optimizer['type'], *pair) for pair in zip(groups, optimizer['groups'], strict=False)]
    if len(earlier) != len(schedulers):
        seen[f'there were {len(earlier)} schedulers and are {len(schedulers)}'] = None
    pairs += [(now['type'], before, now) for before, now in zip(earlier, schedulers, strict=False)]
    for owner, before, now in pairs:
        if before.get('type') != now.get('type'):
            seen[f'{before["type"]} became {owner}'] = None
            continue
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                seen[f'`{name}` of {owner} was {before.get(name)} and is {now.get(name)}'] = None
    return list(seen)


def go_on(runner) -> None:
    """Restore what depends on how far a resumed training has come: earlier validations, schedules, and what is left."""
    # A run that goes on in another work dir begins with the rows beside its checkpoint.
    folder = Path(runner.work_dir)
    if not (folder / POINTER_NAME).is_file():
        folder = Path(runner._load_from).parent
    rows = [rows_up_to(folder / FILE_NAME, runner.iter) if is_main_process() else []]
    broadcast_object_list(rows)
    runner.earlier_validations = rows[0]
    if rows[0] and int(rows[0][-1]['iter']) == runner.iter:
        runner.resumed_validation = read_row(rows[0][-1])
    if runner.cfg.get('reschedule', False):
        reschedule(runner)
    elif runner.resumed_validation is not None and runner.message_hub.runtime_info.get('validated_iter') != runner.iter:
        # The checkpoint is older than the validation at its iteration.
        step_by_scores(runner.param_schedulers or (), runner.resumed_validation)
    loop = runner.train_loop
    if isinstance(loop, loops.EpochBasedTrainLoop):
        # Earlier epochs may have had another number of batches.
        left = (loop.max_epochs - loop.epoch) * len(loop.dataloader) - loop.first_batch
        loop._max_iters = loop.iter + max(left, 0)
    check_remaining(runner)


def reschedule(runner) -> None:
    """Give a resumed training the optimizer settings and the schedules of its config, at the point that it has reached in them.

    A schedule by iterations is where it would be if all epochs so far had had as many batches as the next ones.
    """
    for group, settings in zip(runner.optim_wrapper.param_groups, runner.recipe['optimizers']['']['groups'], strict=True):
        for key, value in settings.items():
            group[key] = tuple(value) if isinstance(value, list) else value
            if f'initial_{key}' in group:
                group[f'initial_{key}'] = group[key]
    if runner.param_schedulers is None:
        return
    schedulers = runner.param_schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    loop, rows = runner.train_loop, {int(row['epoch']): read_row(row) for row in runner.earlier_validations}
    with warnings.catch_warnings():
        # Of steps of a schedule without one of the optimizer.
        warnings.simplefilter('ignore')
        if not isinstance(loop, EpochBasedTrainLoop):
            _step(schedulers, loop.iter)
            return
        for epoch in range(1, loop.epoch + 1):
            _step(schedulers, len(loop.dataloader))
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
            if epoch in rows:
                step_by_scores(schedulers, rows[epoch])
        _step(schedulers, getattr(loop, 'first_batch', 0))


def _step(schedulers: Sequence, iterations: int) -> None:
    counting = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    for _ in range(iterations if counting else 0):
        for scheduler in counting:
            scheduler.step()


def step_by_scores(schedulers: Sequence, metrics: Mapping[str, float]) -> None:
    """Tell a validation to the schedulers that follow a score."""
    with warnings.catch_warnings():
        # Of a step of a schedule without one of the optimizer.
        warnings.simplefilter('ignore')
        for scheduler in schedulers:
            if scheduler.by_epoch and getattr(scheduler, 'need_val_args', False):
                scheduler.step(metrics)


def check_remaining(runner) -> None:
    """Tell if nothing is left to train; refuse a training that was made longer than its schedule, which ends at the rate 0."""
    loop, filename, planned = runner.train_loop, runner._load_from, runner.planned_length
    unit, length = runner.recipe['unit'], runner.recipe['length']
    done = loop.epoch if unit == 'epochs' else loop.iter
    if done >= length:
        runner.logger.info(f'{filename} has {done} of {length} {unit}: nothing is left to train.')
        return
    rates = [group['lr'] for group in runner.optim_wrapper.param_groups]
    over = all(each._global_step + 1 >= each.end for each in runner.param_schedulers or ())
    if planned is not None and length > planned and over and not any(map(float, rates)):
        raise CheckpointError(
            f'The schedule of the config ends with the learning rate 0 after the {done} {unit} that {filename} has: training up '
            f'to {length} {unit} would change nothing. Move the `end` of the schedule as well, as in '
            f'param_scheduler.0.end={length}, and pass --reschedule.'
        )


def finish_validation(runner) -> None:
    """Do the validation that is due at the checkpoint from which a training was resumed, unless ``metrics.csv`` has its row."""
    loop, metrics = runner.train_loop, runner.resumed_validation
    if metrics is None:
        if not is_validation_due(runner):
            return
        runner.logger.info('The validation after this checkpoint was not finished: it is done now.')
        metrics = runner.val_loop.run()
    if getattr(loop, 'stop_at', None):
        loop.stop_training |= loop.has_reached(metrics)


def is_validation_due(runner) -> bool:
    """Return True if the loop of a resumed training validates after the iteration that it has reached."""
    loop = runner.train_loop
    if not runner._resume or runner.val_loop is None or not runner.iter:
        return False
    if getattr(loop, 'val_iters', None) is not None:
        return runner.iter % loop.val_iters == 0
    if getattr(loop, 'first_batch', 0) or not hasattr(loop, '_decide_current_val_interval'):
        return False
    loop._decide_current_val_interval()
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)
