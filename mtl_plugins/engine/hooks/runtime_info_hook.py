"""Seeds of each step, and its losses and learning rates, read from the device once per log interval."""

from typing import NamedTuple

import numpy as np
import torch
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook

from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import NonFiniteGradientError, NonFiniteLossError
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.visualizer import Visualizer

_MAX_HISTORY = 1000


class _Step(NamedTuple):
    """Iteration, losses and norm of the gradients on the device, and the sample indices of the batch; some None if unknown."""

    iteration: int
    losses: dict[str, torch.Tensor]
    norm: torch.Tensor | None
    samples: torch.Tensor | None


def _is_free_to_read(value: torch.Tensor) -> bool:
    return value.device.type == 'cpu'


def learned_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters of a model's task balancing as scalars, with the name of a task at the end where each has one."""
    model = unwrap(model)
    balancing = getattr(model, 'task_balancing', None)
    scalars = {}
    for name, parameter in balancing.named_parameters() if balancing is not None else ():
        values = parameter.detach().flatten()
        if len(values) == 1:
            scalars[f'task_balancing/{name}'] = values[0]
            continue
        ends = list(model.tasks) if len(values) == len(model.tasks) else range(len(values))
        scalars |= {f'task_balancing/{name}/{end}': value for end, value in zip(ends, values, strict=True)}
    return scalars


@HOOKS.register_module()
class IntervalRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook`` without a device synchronisation and a growing copy per scalar and iteration.

    Losses, and the norms of the gradients that an :class:`OptimWrapper` leaves, stay on the device until the :class:`LoggerHook`
    prints; then their mean since the last print goes to the message hub, the norm as ``grad_norm``. On CPU each is checked at
    once, on a GPU at each print and before each checkpoint, so that no broken weights are saved. ``lr`` is the rate of the first
    group of parameters; if the groups differ, there are also ``min_lr`` and ``max_lr``. The parameters of the task balancing
    are ``task_balancing/<parameter>/<task>``.

    Raises:
        NonFiniteGradientError: If a norm is NaN or infinite and the wrapper's ``non_finite`` is ``'stop'``; with ``'skip'`` the
            log tells how many steps were left out.
        NonFiniteLossError: If a loss is NaN or infinite, with the iteration, all losses and the sample indices of its batch.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._pending: list[_Step] = []
        self._interval = 1

    def before_train(self, runner) -> None:
        super().before_train(runner)
        # Of a resumed run: what its log and record say until the next values are there.
        for name, value in runner.message_hub.runtime_info.pop('last_scalars', {}).items():
            runner.message_hub.update_scalar(name, value)
        self._interval = min((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), default=50)
        if isinstance(runner.visualizer, Visualizer):
            runner.visualizer.start()

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        runner.message_hub.update_info('iter', runner.iter)

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        losses = {name: value for name, value in (outputs or {}).items() if isinstance(value, torch.Tensor)}
        # None in an iteration that only accumulates gradients, absent from other wrappers.
        norm = getattr(runner.optim_wrapper, 'last_norm', None)
        if norm is not None:
            runner.optim_wrapper.last_norm = None
        step = _Step(runner.iter, losses, norm, (data_batch or {}).get('sample_idx'))
        self._pending.append(step)
        if all(map(_is_free_to_read, losses.values())):
            self._check(runner, step, [float(value) for value in losses.values()], None if norm is None else float(norm))
        if self.every_n_inner_iters(batch_idx, self._interval) or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._flush(runner)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check the losses up to here; of the log history save the last values."""
        self._flush(runner)
        infos = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in checkpoint['message_hub']['runtime_info'].items()
            if name != 'cfg'
        }
        infos |= {name: checkpoint['meta'][name] for name in ('epoch', 'iter')}
        infos['last_scalars'] = {
            name: history.current().item()
            for name, history in runner.message_hub.log_scalars.items()
            if name.startswith('train/') and not name.endswith('time') and len(history.data[0])
        }
        checkpoint['message_hub'] = {'log_scalars': {}, 'runtime_info': infos, 'resumed_keys': dict.fromkeys(infos, True)}

    def _flush(self, runner) -> None:
        if not self._pending:
            return
        names = list(self._pending[-1].losses)
        learned = learned_weights(runner.model)
        groups = (
            [step.losses[name] for step in self._pending for name in names],
            [step.norm for step in self._pending if step.norm is not None],
            list(learned.values()),
        )
        # One transfer for the whole interval.
        values = torch.stack([value.float() for group in groups for value in group]).cpu()
        rows, norms, weights = values.split([len(group) for group in groups])
        rows = rows.reshape(-1, len(names))
        known_norms = iter(norms.tolist())
        for step, row in zip(self._pending, rows.tolist(), strict=True):
            self._check(runner, step, row, None if step.norm is None else next(known_norms))
        self._pending.clear()
        hub = runner.message_hub
        for name, mean in zip(names, rows.double().mean(0).tolist(), strict=True):
            hub.update_scalar(f'train/{name}', mean)
        for name, weight in zip(learned, weights.tolist(), strict=True):
            hub.update_scalar(f'train/{name}', weight)
        finite = norms[norms.isfinite()]
        if len(finite) < len(norms):
            runner.logger.warning(
                f'The gradients were not finite in {len(norms) - len(finite)} of the last {len(norms)} steps, which were skipped.'
            )
        if len(finite):
            hub.update_scalar('train/grad_norm', float(finite.double().mean()))
        for name, values in runner.optim_wrapper.get_lr().items():
            hub.update_scalar(f'train/{name}', values[0])
            if len(set(values)) > 1:
                hub.update_scalar(f'train/min_{name}', min(values))
                hub.update_scalar(f'train/max_{name}', max(values))
        for history in hub.log_scalars.values():
            history.max_length = _MAX_HISTORY

    @staticmethod
    def _check(runner, step: _Step, losses: list[float], norm: float | None) -> None:
        number = step.iteration + 1
        if not all(abs(value) < float('inf') for value in losses):
            listed = ', '.join(f'{name} {value:g}' for name, value in zip(step.losses, losses, strict=True))
            indices = 'unknown' if step.samples is None else ', '.join(str(index) for index in step.samples.tolist())
            raise NonFiniteLossError(
                f'The loss is not finite at iteration {number}: {listed}; dataset indices of the batch: {indices}. Look at these '
                'samples, lower the learning rate or clip gradients, and resume from the last checkpoint.'
            )
        if norm is not None and runner.optim_wrapper.non_finite == 'stop' and not abs(norm) < float('inf'):
            raise NonFiniteGradientError(
                f'The norm of the gradients is {norm:g} at iteration {number}. Resume from the last checkpoint with a lower '
                "learning rate, or leave such steps out: `optim_wrapper.non_finite='skip'`."
            )


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed torch before every training iteration, so that dropout and the like repeat exactly after a resume.

    Saving the generator's state in the checkpoint is not enough: validation, logging and workers draw from it too.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        # Mixed so that neighbouring seeds, ranks and iterations share no stream.
        torch.manual_seed((runner.seed * 1_000_003 + runner.rank * 10_007) * 2_147_483_647 % 2**61 + runner.iter)
