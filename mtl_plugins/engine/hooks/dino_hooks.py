"""Hooks of DINO (arXiv 2104.14294): its schedules with the step of its teacher, and a warning of its collapse."""

import math
from collections.abc import Sequence

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import HOOKS


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


@HOOKS.register_module()
class DINOScheduleHook(Hook):
    """Schedules of DINO, and the step of its teacher after each optimizer step.

    All values are functions of the iteration and of the run's length alone, so that a resumed run continues them exactly.

    * Teacher temperature: linear, then constant.
    * Weight decay: half a cosine over the run from the optimizer's own. A group whose decay is a multiple of it, such as 0 of
      biases and norms, keeps that ratio.
    * The last layer of the student's head rests during the first epochs: its gradients are dropped between clipping and step, so
      that the optimizer neither decays it nor starts its moments.
    * Momentum of the teacher: half a cosine over the run.

    Args:
        momentum: Of the teacher, at the first and after the last iteration.
        teacher_temperature: At the first iteration and after the warm-up.
        temperature_epochs: Length of that warm-up.
        end_weight_decay: After the last iteration; None keeps the optimizer's.
        frozen_epochs: How long the last layer rests.

    Raises:
        ArgumentError: If a momentum is not in [0, 1], a temperature not positive, or a length negative.
        ConfigError: If weight decay should change and the optimizer has none.
    """

    def __init__(
        self,
        *,
        momentum: Sequence[float] = (0.996, 1.0),
        teacher_temperature: Sequence[float] = (0.04, 0.07),
        temperature_epochs: float = 30,
        end_weight_decay: float | None = 0.4,
        frozen_epochs: float = 1,
    ) -> None:
        if len(momentum) != 2 or not all(0 <= value <= 1 for value in momentum):
            raise ArgumentError(f'`momentum` should be two values in [0, 1]. Found {momentum}.')
        if len(teacher_temperature) != 2 or min(teacher_temperature) <= 0:
            raise ArgumentError(f'`teacher_temperature` should be two positive values. Found {teacher_temperature}.')
        if min(temperature_epochs, frozen_epochs) < 0:
            raise ArgumentError(
                f'`temperature_epochs` and `frozen_epochs` should not be negative. Found {temperature_epochs}, {frozen_epochs}.'
            )
        self.momentum = tuple(momentum)
        self.teacher_temperature = tuple(teacher_temperature)
        self.temperature_epochs = temperature_epochs
        self.end_weight_decay = end_weight_decay
        self.frozen_epochs = frozen_epochs
        self._frozen = False

    def before_train(self, runner) -> None:
        optimizer = runner.optim_wrapper.optimizer
        if self.end_weight_decay is not None and not optimizer.defaults.get('weight_decay'):
            raise ConfigError(
                '`optim_wrapper.optimizer.weight_decay` should be positive: `end_weight_decay` of DINOScheduleHook, '
                f'{self.end_weight_decay}, is reached from there. Set it, or `end_weight_decay=None`.'
            )
        for group in optimizer.param_groups:
            # Kept by the optimizer's state: a resumed run finds the decay of its last iteration in the group.
            group.setdefault('initial_weight_decay', group.get('weight_decay', 0.0))
        last_layer = unwrap(runner.model).student.head.last_layer

        def drop_gradients(*_) -> None:
            if self._frozen:
                last_layer.zero_grad(set_to_none=True)

        optimizer.register_step_pre_hook(drop_gradients)

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        epochs = runner.iter / len(runner.train_dataloader)
        self._frozen = epochs < self.frozen_epochs
        warmed_up = min(epochs / self.temperature_epochs, 1.0) if self.temperature_epochs else 1.0
        first, last = self.teacher_temperature
        unwrap(runner.model).teacher_temperature.fill_(first + (last - first) * warmed_up)
        if self.end_weight_decay is None:
            return
        optimizer = runner.optim_wrapper.optimizer
        start = optimizer.defaults['weight_decay']
        decay = _cosine(start, self.end_weight_decay, runner.iter / runner.max_iters)
        for group in optimizer.param_groups:
            group['weight_decay'] = decay * group['initial_weight_decay'] / start

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        if runner.optim_wrapper.should_update():
            unwrap(runner.model).update_teacher(_cosine(*self.momentum, runner.iter / runner.max_iters))


_TERMS = ('entropy', 'kl', 'marginal_entropy')
_ADVICE = {
    'dominated': (
        'one output dominates: nearly all images get the same one. Centring is too weak: let the centre follow faster '
        '(`model.centre_momentum` lower) or sharpen less (`teacher_temperature` of DINOScheduleHook higher).'
    ),
    'uniform': (
        'the teacher gives every output the same probability and the student agrees. Sharpening is too weak: lower '
        '`teacher_temperature` of DINOScheduleHook or lengthen `temperature_epochs`, or lower the learning rate.'
    ),
}


# Of the logarithm of the number of outputs; and of a divergence, in nats.
_MARGIN, _MAX_KL = 0.02, 0.02


def find_collapse(entropy: float, kl: float, marginal_entropy: float, num_outputs: int) -> str | None:
    """Return the kind of collapse, ``'dominated'`` or ``'uniform'``, or None.

    Both kinds of the paper (arXiv 2104.14294, section 5.3) give every image the same distribution. With K outputs, in nats:

    * dominated: ``marginal_entropy``, that of the mean distribution, is below ``0.02 log K``.
    * uniform: the mean ``entropy`` is above ``0.98 log K``, and the mean divergence ``kl`` of student and teacher is below 0.02.
      At the start the centred teacher is close to uniform too, but the student is not yet.
    """
    log_outputs = math.log(num_outputs)
    if marginal_entropy < _MARGIN * log_outputs:
        return 'dominated'
    if entropy > (1 - _MARGIN) * log_outputs and kl < _MAX_KL:
        return 'uniform'
    return None


@HOOKS.register_module()
class CollapseHook(Hook):
    """Warn once, in words, when the means of several intervals in a row meet the criterion of :func:`find_collapse`.

    Args:
        interval: Iterations whose mean is judged; one transfer from the device each.
        patience: Intervals in a row.

    Raises:
        ArgumentError: If ``interval`` or ``patience`` is below 1.
    """

    def __init__(self, *, interval: int = 50, patience: int = 3) -> None:
        if interval < 1 or patience < 1:
            raise ArgumentError(f'`interval` and `patience` should be at least 1. Found {interval} and {patience}.')
        self.interval = interval
        self.patience = patience
        self._pending: list[torch.Tensor] = []
        self._kinds: list[str | None] = []
        self._warned = False

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        if self._warned:
            return
        self._pending.append(torch.stack([outputs[name].float() for name in _TERMS]))
        if len(self._pending) < self.interval:
            return
        means = torch.stack(self._pending).mean(0).tolist()
        self._pending.clear()
        num_outputs = len(unwrap(runner.model).centre)
        kind = find_collapse(*means, num_outputs)
        self._kinds = [*self._kinds, kind][-self.patience :]
        if kind is not None and self._kinds == [kind] * self.patience:
            self._warned = True
            values = ', '.join(f'{name} {value:.3f}' for name, value in zip(_TERMS, means, strict=True))
            runner.logger.warning(
                f'The training has collapsed by iteration {runner.iter + 1}: {_ADVICE[kind]} Features of such a run are of no '
                f'use; start anew. Over the last {self.interval} iterations: {values}; log of {num_outputs} outputs '
                f'{math.log(num_outputs):.3f}.'
            )
