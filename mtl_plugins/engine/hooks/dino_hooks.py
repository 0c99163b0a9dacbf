"""Hook of DINO (arXiv 2104.14294): its schedules, and the step of its teacher."""

import math
from collections.abc import Sequence

from mmengine.hooks import Hook

from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import ConfigError
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
