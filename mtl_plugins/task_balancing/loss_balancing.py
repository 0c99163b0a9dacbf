"""Task balancing that reads nothing but the losses."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TASK_UTILS


@TASK_UTILS.register_module()
class FixedWeights(nn.Module):
    """Total loss = weighted sum of the task losses.

    Args:
        weights: Weight >= 0 of each; equal weights that sum to 1 by default.
    """

    def __init__(self, *, tasks: Iterable[str], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        tasks = list(tasks)
        if weights is None:
            weights = dict.fromkeys(tasks, 1 / len(tasks))
        self.weights = _check_weights(weights, tasks)

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        return sum(self.weights[task] * loss for task, loss in task_losses.items())


def _check_weights(weights: dict[str, float], tasks: Sequence[str]) -> dict[str, float]:
    if set(weights) != set(tasks) or any(weight < 0 for weight in weights.values()):
        raise ArgumentError(f'`weights` should have one entry >= 0 for each task of {list(tasks)}. Found {dict(weights)}.')
    return dict(weights)


class TaskBalancing(nn.Module):
    """Base of strategies that count iterations, in the model's state dict.

    Attributes:
        logged: What the last call has for the log, by name.
        lr_mult: Factor of the learning rate of this module's parameters, which have no weight decay.
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

    def count(self) -> None:
        self._iteration += 1
        self.iteration.fill_(self._iteration)


class LossBalancing(TaskBalancing):
    """Total loss = sum of weight x loss, plus a term that depends on no prediction.

    The weights follow from the losses of the whole batch, averaged over all processes and without gradient, so that several
    processes take the step that one would take with all of the data. A task whose loss is exactly 0, as that of a task without
    labels, has the weight 0 and changes no state. Nothing is read from the device.

    Iterations are counted, and the state is kept, in training mode only. ``balance/weight/<task>`` is logged.
    """

    @abstractmethod
    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the weights ``(T,)``, ignored where a task is absent, and the further term of the total.

        ``losses`` are means ``(T,)`` in the order of :attr:`tasks`, float32 or more, without gradient, 1 where absent;
        ``present``, bool ``(T,)``, says which tasks take part.
        """

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        some = next(iter(task_losses.values()))
        losses = torch.stack([task_losses[task] if task in task_losses else torch.zeros_like(some) for task in self.tasks])
        means = losses.detach().to(torch.promote_types(losses.dtype, torch.float32), copy=True)
        if self.training and get_world_size() > 1:
            all_reduce(means, op='mean')
        present = means != 0
        weights, rest = self.weigh(torch.where(present, means, 1.0), present)
        weights = torch.where(present, weights, 0.0)
        if self.training:
            self.count()
            self.logged = {f'balance/weight/{task}': weight for task, weight in zip(self.tasks, weights.detach(), strict=True)}
        return (weights * losses).sum() + rest


def _sum_where(present: Tensor, values: Tensor) -> Tensor:
    return torch.where(present, values, 0.0).sum()


class LearnedWeights(LossBalancing):
    """Base of weights that follow from a learned number per task, all of which start at :attr:`start`.

    The number has the name :attr:`parameter` in the state dict; ``lr_mult`` is the factor of its learning rate.
    """

    parameter: str
    start = 0.0

    def __init__(self, *, tasks: Iterable[str], lr_mult: float = 1.0) -> None:
        super().__init__(tasks=tasks)
        self.lr_mult = lr_mult
        self.register_parameter(self.parameter, nn.Parameter(torch.full((len(self.tasks),), self.start)))


@TASK_UTILS.register_module()
class UncertaintyWeights(LearnedWeights):
    """Learned noise of each task (Kendall et al., arXiv 1705.07115).

    Total = sum of ``loss * exp(-s) / 2 + s / 2`` with the learned ``s = log(sigma ** 2)``, which starts at 0; the loss of a task
    of classes is not halved, as in the paper. The weight has no bound: it grows as the loss comes near 0.

    Args:
        classification: Tasks whose loss is a cross-entropy.
    """

    parameter = 'log_variance'

    def __init__(self, *, tasks: Iterable[str], classification: Sequence[str] = (), lr_mult: float = 1.0) -> None:
        super().__init__(tasks=tasks, lr_mult=lr_mult)
        if not set(classification) <= set(self.tasks):
            raise ArgumentError(f'`classification` should name tasks out of {self.tasks}. Found {list(classification)}.')
        factors = torch.tensor([1.0 if task in classification else 0.5 for task in self.tasks])
        self.register_buffer('factors', factors, persistent=False)

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return self.factors * (-self.log_variance).exp(), _sum_where(present, self.log_variance / 2)


@TASK_UTILS.register_module()
class BoundedUncertaintyWeights(LearnedWeights):
    """Learned noise whose regulariser is never negative (Liebel and Körner, arXiv 1805.06334).

    Total = sum of ``loss / (2 c ** 2) + log(1 + c ** 2)`` with the learned ``c``, which starts at 1.
    """

    parameter, start = 'scale', 1.0

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        square = self.scale**2
        return 0.5 / square, _sum_where(present, square.log1p())


@TASK_UTILS.register_module()
class IMTLLossWeights(LearnedWeights):
    """IMTL-L (Liu et al., "Towards impartial multi-task learning", ICLR 2021): all scaled losses come to be 1.

    Total = sum of ``loss * exp(s) - s`` with the learned ``s``, which starts at 0.
    """

    parameter = 'log_scale'

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_scale.exp(), -_sum_where(present, self.log_scale)


@TASK_UTILS.register_module()
class GeometricMean(LossBalancing):
    """Geometric loss strategy, GLS (Chennupati et al., arXiv 1904.08492): total = ``(loss_1 * ... * loss_T) ** (1 / T)``.

    The weight of a task is the derivative, ``total / (T * loss)``. Losses should be positive.
    """

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        number = present.sum().clamp(min=1)
        mean = (_sum_where(present, losses.log()) / number).exp()
        return mean / (number * losses), 0.0


@TASK_UTILS.register_module()
class LogLosses(LossBalancing):
    """Total = sum of ``log(loss)``, as the loss balancing of DB-MTL (Lin et al., arXiv 2308.12029).

    The weight of a task is the derivative, ``1 / loss``. Losses should be positive.
    """

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return 1 / losses, _sum_where(present, losses.log() - 1)


@TASK_UTILS.register_module()
class DynamicWeightAverage(LossBalancing):
    """DWA (Liu et al., arXiv 1803.10704): a task whose loss falls slowly gets more weight.

    With the mean losses of the last two whole periods, ``r = last / one before``: weight = ``T * softmax(r / temperature)`` over
    the ``T`` tasks. It is 1 in the first two periods, and for a task that had no labels in one of the last two ``r`` is 1. ``r``
    is logged as ``balance/ratio/<task>``.

    Args:
        temperature: Larger ones make the weights more equal; 2 in the paper.
        interval: Iterations of a period; an epoch in the paper.
    """

    def __init__(self, *, tasks: Iterable[str], temperature: float = 2.0, interval: int = 100) -> None:
        super().__init__(tasks=tasks)
        if temperature <= 0 or interval < 1:
            raise ArgumentError(f'`temperature` and `interval` should be positive. Found {temperature} and {interval}.')
        self.temperature, self.interval = temperature, interval
        # Rows: the one before, the last; 0 where there was no loss.
        self.register_buffer('means', torch.zeros(2, len(self.tasks)))
        # Rows: the sum and the number of the losses of this period.
        self.register_buffer('period', torch.zeros(2, len(self.tasks)))

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        before, last = self.means
        self.ratios = torch.where((before > 0) & (last > 0), last / before, 1.0)
        weights = len(self.tasks) * (self.ratios / self.temperature).softmax(0)
        if self.training:
            self.period += torch.stack([torch.where(present, losses, 0.0), present.to(losses.dtype)])
            if (self._iteration + 1) % self.interval == 0:
                self.means.copy_(torch.stack([last, self.period[0] / self.period[1].clamp(min=1)]))
                self.period.zero_()
        return weights, 0.0

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        total = super().forward(task_losses)
        if self.training:
            self.logged |= {f'balance/ratio/{task}': ratio for task, ratio in zip(self.tasks, self.ratios, strict=True)}
        return total


@TASK_UTILS.register_module()
class DynamicTaskPriority(LossBalancing):
    """DTP (Guo et al., "Dynamic task prioritization for multitask learning", ECCV 2018): weight = ``-(1 - k) ** gamma * log(k)``.

    ``k`` is a moving average of how well a task does, from 0 to 1. The paper takes its metric; here it is ``exp(-loss)``, which
    is known in every iteration: for a cross-entropy, the geometric mean of the probabilities of the right classes.

    Args:
        gamma: How strongly tasks that do well are put back.
        momentum: The share of the newest value in the average.
    """

    def __init__(self, *, tasks: Iterable[str], gamma: float = 1.0, momentum: float = 0.1) -> None:
        super().__init__(tasks=tasks)
        if gamma < 0 or not 0 < momentum <= 1:
            raise ArgumentError(f'`gamma` should be 0 or more and `momentum` in (0, 1]. Found {gamma} and {momentum}.')
        self.gamma, self.momentum = gamma, momentum
        # -1 before the first loss.
        self.register_buffer('progress', torch.full((len(self.tasks),), -1.0))

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        now = (-losses).exp()
        progress = torch.where(self.progress < 0, now, self.progress + self.momentum * (now - self.progress))
        progress = torch.where(present, progress, self.progress)
        if self.training:
            self.progress.copy_(progress)
        # Away from 0 and 1, where the weight is infinite and 0 for good.
        progress = progress.clamp(1e-6, 1 - 1e-6)
        return -((1 - progress) ** self.gamma) * progress.log(), 0.0


@TASK_UTILS.register_module()
class RandomWeights(LossBalancing):
    """Random loss weighting, RLW (Lin et al., arXiv 2111.10603): weights = softmax of normal numbers, new in every iteration.

    They are a function of seed and iteration, the same in all processes. In evaluation the weights are equal.
    """

    def __init__(self, *, tasks: Iterable[str], seed: int = 0) -> None:
        super().__init__(tasks=tasks)
        self.seed = seed

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        numbers = torch.zeros(len(self.tasks))
        if self.training:
            # Mixed so that neighbouring seeds share no stream.
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._iteration)
            numbers.normal_(generator=generator)
        numbers = torch.where(present, numbers.to(losses.device, non_blocking=True), -torch.inf)
        return numbers.softmax(0), 0.0


@TASK_UTILS.register_module()
class ScheduledWeights(LossBalancing):
    """Weights by iteration: those of ``schedule``, straight lines in between, the first and last ones before and after.

    Args:
        schedule: ``dict(iteration=0, weights=dict(semseg=1.0, depth=0.0))`` and so on, by iteration.
    """

    def __init__(self, *, tasks: Iterable[str], schedule: Sequence[dict]) -> None:
        super().__init__(tasks=tasks)
        iterations = [entry['iteration'] for entry in schedule]
        if not schedule or any(first >= second for first, second in pairwise(iterations)):
            raise ArgumentError(f'`schedule` should have entries whose `iteration` ascends. Found {iterations}.')
        weights = [_check_weights(entry['weights'], self.tasks) for entry in schedule]
        self.schedule = [(i, [float(of[task]) for task in self.tasks]) for i, of in zip(iterations, weights, strict=True)]

    def weights_at(self, iteration: int) -> list[float]:
        for (first, start), (second, end) in pairwise(self.schedule):
            if first <= iteration < second:
                part = (iteration - first) / (second - first)
                return [a + part * (b - a) for a, b in zip(start, end, strict=True)]
        return self.schedule[0 if iteration < self.schedule[0][0] else -1][1]

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        return torch.tensor(self.weights_at(self._iteration), dtype=losses.dtype).to(losses.device, non_blocking=True), 0.0
