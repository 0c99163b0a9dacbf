"""The schedules of self-distillation (arXiv 2104.14294), and the step of its teacher."""

import math
from collections.abc import Sequence

from mmengine.hooks import Hook

from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import ArgumentError, ConfigError
from mtl_plugins.registry import HOOKS


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine wave from ``start`` at progress 0 to ``end`` at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def linear(start: float, end: float, progress: float) -> float:
    """A straight line from ``start`` at progress 0 to ``end`` at 1, constant from there."""
    return start + (end - start) * min(progress, 1.0)


@HOOKS.register_module()
class DINOScheduleHook(Hook):
    """Before each iteration sets what depends on time; after each optimizer step moves the teacher.

    All values are functions of the iteration and of the run's length alone, so that a resumed run continues them exactly.

    * Teacher temperature: linear, then constant.
    * Weight decay: half a cosine over the run from the optimizer's own. A group whose decay is a multiple of it, such as 0 of
      biases and norms, keeps that ratio.
    * The last layer of the student's head is left as it is during the first epochs: its gradients are dropped between clipping
      and step, so that the optimizer neither decays it nor starts its moments. Distributed training sees ordinary gradients.
    * Momentum of the teacher: half a cosine over the run. An iteration that only accumulates gradients does not move it.

    The learning rate is left to mmengine's schedulers.

    Args:
        momentum: Of the teacher, at the first and after the last iteration.
        teacher_temperature: At the first iteration and after the warm-up.
        temperature_epochs: Length of that warm-up.
        end_weight_decay: After the last iteration; None keeps the optimizer's.
        frozen_epochs: How long the last layer stays.

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
        last_layer = _model(runner).student.head.last_layer

        def drop_gradients(*_) -> None:
            if self._frozen:
                last_layer.zero_grad(set_to_none=True)

        optimizer.register_step_pre_hook(drop_gradients)

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        epochs = runner.iter / len(runner.train_dataloader)
        self._frozen = epochs < self.frozen_epochs
        warmed_up = epochs / self.temperature_epochs if self.temperature_epochs else 1.0
        _model(runner).teacher_temperature.fill_(linear(*self.teacher_temperature, warmed_up))
        if self.end_weight_decay is None:
            return
        optimizer = runner.optim_wrapper.optimizer
        start = optimizer.defaults['weight_decay']
        decay = cosine(start, self.end_weight_decay, runner.iter / runner.max_iters)
        for group in optimizer.param_groups:
            group['weight_decay'] = decay * group['initial_weight_decay'] / start

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        if runner.optim_wrapper.should_update():
            _model(runner).update_teacher(cosine(*self.momentum, runner.iter / runner.max_iters))


def _model(runner):
    return unwrap(runner.model)
