"""Task balancing by equal norms of gradients."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.gradient_balancing import GradientBalancing

# A weight that a step of the optimizer has made negative starts again from here.
_LEAST = 1e-3


@TASK_UTILS.register_module()
class GradNorm(GradientBalancing):
    """GradNorm (Chen et al., arXiv 1711.02257): learned weights that make the tasks train at similar rates.

    Total = sum of ``w * loss``. With the norm ``G`` of the gradient of ``w * loss`` and ``r``, the loss divided by the first one,
    relative to its mean over the tasks, the weights learn to minimise the sum of ``|G - mean(G) * r ** alpha|``, whose second
    term counts as constant. They sum to the number of tasks.

    Args:
        tasks: Names of the tasks that are trained.
        alpha: How strongly tasks that lag behind are pulled; 0 makes the norms equal.
        place: As in :class:`GradientBalancing`; the paper takes the last layer that is shared, which ``'features'`` comes near.
        lr_mult: The factor of the learning rate of the weights.

    Attributes:
        logged: Besides what the parent tells, ``balance/ratio/<task>``, the loss divided by the first one.
    """

    def __init__(self, *, tasks: Iterable[str], alpha: float = 1.5, place: str = 'features', lr_mult: float = 1.0) -> None:
        super().__init__(tasks=tasks, place=place)
        self.alpha, self.lr_mult = alpha, lr_mult
        self.weights = nn.Parameter(torch.ones(len(self.tasks)))
        # 0 before the first loss.
        self.register_buffer('first_losses', torch.zeros(len(self.tasks)))
        self.ratios: Tensor | None = None

    def logged_names(self) -> list[str]:
        return [*super().logged_names(), *(f'balance/ratio/{task}' for task in self.tasks)]

    @torch.no_grad()
    def factors(self, losses: Tensor) -> Tensor:
        weights = self.weights.clamp(min=_LEAST)
        self.weights.copy_(weights * (len(self.tasks) / weights.sum()))
        self.first_losses.copy_(torch.where(self.first_losses == 0, losses, self.first_losses))
        self.ratios = losses / torch.where(self.first_losses == 0, 1.0, self.first_losses)
        return self.weights.clone()

    def combine(self, gramian: Tensor, rows: None, tasks: Sequence[str]) -> tuple[Tensor, None]:
        here = [self.tasks.index(task) for task in tasks]
        weights, ratios = torch.stack([self.weights.detach(), self.ratios]).double().cpu()[:, here]
        norms = gramian.diagonal().sqrt()
        targets = norms.mean() * (ratios / ratios.mean()) ** self.alpha
        slopes = torch.zeros(len(self.tasks), dtype=torch.float64)
        slopes[here] = (norms - targets).sign() * norms / weights
        # The scaler takes its scale out of all gradients.
        gradient = (slopes * self._loss_scale).to(self.weights)
        self.weights.grad = gradient if self.weights.grad is None else self.weights.grad + gradient
        return torch.ones_like(norms), None

    def log(self, values: dict[str, float]) -> None:
        told = torch.stack([self.weights.detach(), self.ratios]).tolist()
        for name, numbers in zip(('weight', 'ratio'), told, strict=True):
            values |= {f'balance/{name}/{task}': number for task, number in zip(self.tasks, numbers, strict=True)}
        super().log(values)
