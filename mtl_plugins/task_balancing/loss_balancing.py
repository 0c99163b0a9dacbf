"""What strategies that read nothing but the losses share."""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn


class LossBalancing(nn.Module):
    """Total loss = sum of weight x loss, plus a term that depends on no prediction.

    The weights follow from the losses of the whole batch, averaged over all processes and without gradient, so that several
    processes take the step that one would take with all of the data. A task whose loss is exactly 0, as that of a task without
    labels, takes no part: it has the weight 0 and changes no state. Nothing is read from the device.

    Iterations are counted, and the state is kept, in training mode only; it is in the model's state dict.

    Args:
        tasks: Names of the tasks that are trained.

    Attributes:
        logged: ``balance/weight/<task>`` of the last call.
        lr_mult: The factor of the learning rate of this module's parameters, which have no weight decay.
    """

    lr_mult = 1.0

    def __init__(self, *, tasks: Iterable[str]) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.register_buffer('iteration', torch.zeros((), dtype=torch.int64))
        self.logged: dict[str, Tensor] = {}
        # The same number where it costs no synchronisation.
        self._iteration = 0

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._iteration = int(self.iteration)

    @abstractmethod
    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor | float]:
        """The weights ``(T,)``, whatever they are where a task is absent, and the further term of the total.

        Args:
            losses: Mean losses ``(T,)`` in the order of :attr:`tasks`, float32 or more, without gradient; 1 where absent.
            present: Which tasks take part, bool ``(T,)``.
        """

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        """The total of the losses, one scalar per task; a task may be left out."""
        some = next(iter(task_losses.values()))
        losses = torch.stack([task_losses[task] if task in task_losses else torch.zeros_like(some) for task in self.tasks])
        means = losses.detach().to(torch.promote_types(losses.dtype, torch.float32), copy=True)
        if self.training and get_world_size() > 1:
            all_reduce(means, op='mean')
        present = means != 0
        weights, rest = self.weigh(torch.where(present, means, 1.0), present)
        weights = torch.where(present, weights, 0.0)
        if self.training:
            self._iteration += 1
            self.iteration.fill_(self._iteration)
            self.logged = {f'balance/weight/{task}': weight for task, weight in zip(self.tasks, weights.detach(), strict=True)}
        return (weights * losses).sum() + rest


def sum_where(present: Tensor, values: Tensor) -> Tensor:
    """The sum of the values of the tasks that take part."""
    return torch.where(present, values, 0.0).sum()
