"""Task balancing that combines the gradients of the tasks."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mtl_plugins.errors import check_choice
from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.gradients import Sharing, average, find_sharing, products_of
from mtl_plugins.task_balancing.loss_balancing import TaskBalancing

# A weight of GradNorm that a step of the optimizer has made negative starts again from here.
_LEAST = 1e-3


class GradientBalancing(TaskBalancing):
    """The gradients of the tasks with respect to what they share are combined into one; what serves one task has its gradient.

    What is shared is found from the graph of each iteration, see :func:`find_sharing`. Two places:

    * ``'parameters'``, exact: a backward pass through the whole network for each task. Gradients of a task are summed over the
      iterations of an optimizer step (``accumulative_counts``), averaged over the processes, and then combined.
    * ``'features'``: a backward pass through its head for each task, and one through the encoder, with the combined gradient of
      the features (MGDA-UB, arXiv 1810.04650), in every iteration. Products of gradients are those over all processes.

    Several processes take the step that one would take with all of the data. float16 gradients are combined without their loss
    scale; where they overflowed, the scaler leaves out the step, in all processes alike. A task whose loss is exactly 0 in all
    processes, as that of a task without labels, takes no part. The device is synchronised twice per iteration. Outside of a
    training step, the total is the mean of the losses.

    Of each combination ``balance/norm/<task>`` and ``balance/cosine/<task>-<task>`` of the gradients are logged, and
    ``balance/weight/<task>`` where the result is a weighted sum.
    """

    def __init__(self, *, tasks: Iterable[str], place: str) -> None:
        super().__init__(tasks=tasks)
        check_choice('place', place, ('parameters', 'features'))
        self.place = place
        # From the backward passes until the step: gradients of the shared parameters by task, None where there is none.
        self._shared: list[nn.Parameter] = []
        self._rows: dict[int, list[Tensor | None]] = {}
        self._cutting = False
        self._cut: list[tuple[Tensor, Tensor]] = []
        self._loss_scale = 1.0

    def __getstate__(self) -> dict:
        # Copies, as for each validation, are made between steps and take none.
        return {**self.__dict__, '_shared': [], '_rows': {}, '_cut': []}

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        return sum(task_losses.values()) / len(task_losses)

    @abstractmethod
    def combine(self, gramian: Tensor, rows: Tensor | None, tasks: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
        """Return the weights ``(T,)`` by which gradients are added up, or else the combined gradient ``(n,)``.

        ``gramian`` are the products of the gradients ``(T, T)``, finite, float64, on the CPU; ``rows`` the gradients ``(T, n)``,
        None if :attr:`by_products`; ``tasks`` those that take part, at least two.
        """

    def factors(self, losses: Tensor) -> Tensor | None:
        """Return factors ``(T,)`` of the losses, given the mean losses ``(T,)``, 0 where absent; None for 1."""
        return None

    def logged_names(self) -> list[str]:
        return [
            *(f'balance/{what}/{task}' for what in ('weight', 'norm') for task in self.tasks),
            *(f'balance/cosine/{a}-{b}' for a, b in combinations(self.tasks, 2)),
        ]

    @property
    def by_products(self) -> bool:
        """True if :meth:`combine` gives weights and needs no rows."""
        return True

    @contextmanager
    def step(self) -> Iterator[None]:
        """Enclose a forward pass and the :meth:`take_step` that follows it."""
        self._cutting = self.place == 'features'
        # A compiled network must be able to go backwards once per task.
        with torch._functorch.config.patch(donated_buffer=False):
            yield

    # torch.compiler.disable, whose import takes seconds, at the first call.
    @torch._disable_dynamo
    def cut(self, features: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Return features for the heads to read, at which gradients end at the place ``'features'``."""
        if not self._cutting:
            return features
        self._cut = [
            (feature, feature.detach().requires_grad_()) for feature in features if feature is not None and feature.requires_grad
        ]
        heads = {id(feature): leaf for feature, leaf in self._cut}
        return [heads.get(id(feature), feature) for feature in features]

    def take_step(self, task_losses: dict[str, Tensor], optim_wrapper: OptimWrapper) -> None:
        """Make the backward passes of the tasks and, when it is due, the step, as ``optim_wrapper.update_params`` of a total."""
        cut, self._cut, self._cutting = self._cut, [], False
        names = [task for task in self.tasks if task in task_losses]
        zero = torch.zeros_like(task_losses[names[0]], dtype=torch.float32)
        means = torch.stack([task_losses[task].detach().float() if task in names else zero for task in self.tasks])
        if get_world_size() > 1:
            all_reduce(means, op='mean')
        if not self.logged:
            self.logged = dict.fromkeys(self.logged_names(), zero)
        scaler = getattr(optim_wrapper, 'loss_scaler', None)
        self._loss_scale = scaler.get_scale() if scaler else 1.0
        present = {task for task, mean in zip(self.tasks, means.tolist(), strict=True) if mean != 0}
        # Without any label all gradients are 0: a step like others for the optimizer.
        taking = [task for task in names if task in present] or names
        factors = self.factors(means)
        scaled = {}
        for task in names:
            loss = optim_wrapper.scale_loss(task_losses[task])
            if factors is not None:
                loss = loss * factors[self.tasks.index(task)]
            scaled[task] = scaler.scale(loss) if scaler else loss
        # Of all, so that it is the same whatever tasks take part.
        sharing = find_sharing([task_losses[task] for task in names], [leaf for _, leaf in cut])
        passes = [(task, scaled[task], names.index(task)) for task in taking]
        if self.place == 'features':
            self._pass_features(passes, sharing, cut)
        else:
            order = {id(p): place for place, p in enumerate(_parameters_of(optim_wrapper))}
            shared = sorted((p for p in sharing.shared if id(p) in order), key=lambda p: order[id(p)])
            self._pass_parameters(passes, shared, sharing.own)
        optim_wrapper._inner_count += 1
        if optim_wrapper.should_update():
            self._finish(optim_wrapper)
            optim_wrapper.step()
            optim_wrapper.zero_grad()

    def _pass_parameters(
        self, passes: list[tuple[str, Tensor, int]], shared: list[nn.Parameter], owned: list[list[nn.Parameter]]
    ) -> None:
        if not self._rows:
            self._shared = shared
        for left, (task, loss, index) in enumerate(passes, 1 - len(passes)):
            place = self.tasks.index(task)
            # A pass adds to the gradients that it finds, as it goes on and frees what the forward pass kept.
            _set_gradients(self._shared, self._rows.get(place, [None] * len(self._shared)))
            loss.backward(inputs=[*shared, *owned[index]], retain_graph=left < 0)
            self._rows[place] = [parameter.grad for parameter in self._shared]
            _set_gradients(self._shared, [None] * len(self._shared))

    def _pass_features(self, passes: list[tuple[str, Tensor, int]], sharing: Sharing, cut: list[tuple[Tensor, Tensor]]) -> None:
        edges = sharing.features
        gradients = []
        for left, (_, loss, index) in enumerate(passes, 1 - len(passes)):
            own = [*sharing.own[index], *sharing.tied[index]]
            found = torch.autograd.grad(loss, [*edges, *own], retain_graph=left < 0 and sharing.reread, allow_unused=True)
            gradients.append(found[: len(edges)])
            _accumulate(own, found[len(edges) :])
        if not edges:
            return
        # A feature that one task alone reads has no gradient of the others.
        columns = [[column for column in columns if column is not None] for columns in zip(*gradients, strict=True)]
        zeros = [torch.zeros_like(column[0]) if column else None for column in columns]
        gradients = [
            [zero if gradient is None else gradient for gradient, zero in zip(row, zeros, strict=True) if zero is not None]
            for row in gradients
        ]
        edges = [edge for edge, zero in zip(edges, zeros, strict=True) if zero is not None]
        gramian = products_of(gradients)
        if get_world_size() > 1:
            # The total loss is the mean over the processes.
            all_reduce(gramian, op='sum')
            gramian /= get_world_size() ** 2
        weights, flat = self._weigh(
            gramian / self._loss_scale**2,
            lambda: torch.stack([torch.cat([gradient.flatten().float() for gradient in row]) for row in gradients]),
            [task for task, *_ in passes],
        )
        if flat is None:
            combined = [
                sum(w * gradient for w, gradient in zip(weights, column, strict=True)) for column in zip(*gradients, strict=True)
            ]
        else:
            pieces = flat.split([gradient.numel() for gradient in gradients[0]])
            combined = [piece.view(g.shape).to(g.dtype) for piece, g in zip(pieces, gradients[0], strict=True)]
        inner = [(edge, gradient) for edge, gradient in zip(edges, combined, strict=True) if not hasattr(edge.node, 'variable')]
        leaves = {id(leaf): leaf for _, leaf in cut}
        for edge, gradient in zip(edges, combined, strict=True):
            if hasattr(edge.node, 'variable'):
                leaves[id(edge.node.variable)].grad = gradient
        if inner:
            torch.autograd.backward(*map(list, zip(*inner, strict=True)))
        pairs = [(feature, leaf.grad) for feature, leaf in cut if leaf.grad is not None]
        if pairs:
            torch.autograd.backward(*map(list, zip(*pairs, strict=True)))

    def _weigh(self, gramian: Tensor, make_rows: Callable[[], Tensor], tasks: list[str]) -> tuple[list[float], Tensor | None]:
        """:meth:`combine` with its log, which counts the combinations; where there is nothing to combine, weights of 1."""
        gramian = gramian.double().cpu()
        if len(tasks) < 2 or not gramian.isfinite().all():
            return [1.0] * len(tasks), None
        alive = (gramian.diagonal() > 0).nonzero()[:, 0]
        weights, combined = torch.ones(len(tasks), dtype=gramian.dtype), None
        if len(alive) > 1:
            # A gradient that is 0 has no direction; most aggregators cannot divide by its length.
            rows = None if self.by_products else make_rows()
            if rows is not None and len(alive) < len(tasks):
                rows = rows[alive]
            found, combined = self.combine(gramian[alive][:, alive], rows, [tasks[i] for i in alive.tolist()])
            weights = None if found is None else weights.zero_().index_copy_(0, alive, found.to(weights))
        self.count()
        norms = gramian.diagonal().clamp(min=0).sqrt()
        cosines = gramian / (norms[:, None] * norms).clamp(min=torch.finfo(torch.float64).tiny)
        values = dict.fromkeys(self.logged_names(), 0.0)
        for index, task in enumerate(tasks):
            values[f'balance/norm/{task}'] = float(norms[index])
            if weights is not None:
                values[f'balance/weight/{task}'] = float(weights[index])
        for (i, a), (j, b) in combinations(enumerate(tasks), 2):
            values[f'balance/cosine/{a}-{b}'] = float(cosines[i, j])
        self.log(values)
        return [] if weights is None else weights.tolist(), combined

    def log(self, values: dict[str, float]) -> None:
        device = self.iteration.device
        self.logged = dict(zip(values, torch.tensor(list(values.values())).to(device, non_blocking=True), strict=True))

    def _finish(self, optim_wrapper: OptimWrapper) -> None:
        distributed = get_world_size() > 1
        if distributed:
            average([p.grad for p in _parameters_of(optim_wrapper) if p.grad is not None])
        named, self._rows = {self.tasks[index]: row for index, row in sorted(self._rows.items())}, {}
        if not named:
            return
        rows, shared, scale = list(named.values()), self._shared, self._loss_scale
        if distributed:
            for row in rows:
                average([gradient for gradient in row if gradient is not None])

        def flatten(row: Sequence[Tensor | None]) -> Tensor:
            return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(shared, row, strict=True)])

        weights, combined = self._weigh(
            products_of(rows).double().cpu() / scale**2, lambda: torch.stack([flatten(row) for row in rows]) / scale, list(named)
        )
        if combined is not None:
            for parameter, piece in zip(shared, (combined * scale).split([p.numel() for p in shared]), strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(piece.view(parameter.shape))
            return
        for parameter, *column in zip(shared, *rows, strict=True):
            parts = [(gradient, weight) for gradient, weight in zip(column, weights, strict=True) if gradient is not None]
            for position, (gradient, weight) in enumerate(parts):
                parameter.grad = parameter.grad.add_(gradient, alpha=weight) if position else gradient.mul_(weight)


def _parameters_of(optim_wrapper: OptimWrapper) -> list[nn.Parameter]:
    return [parameter for group in optim_wrapper.optimizer.param_groups for parameter in group['params']]


def _set_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def _accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            gradient = gradient if parameter.grad is None else parameter.grad + gradient
            # As autograd itself would leave it: fused optimizers need the layout of the parameter.
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)


@TASK_UTILS.register_module()
class GradNorm(GradientBalancing):
    """GradNorm (Chen et al., arXiv 1711.02257): learned weights that make the tasks train at similar rates.

    Total = sum of ``w * loss``. With the norm ``G`` of the gradient of ``w * loss`` and ``r``, the loss divided by the first one,
    relative to its mean over the tasks, the weights learn to minimise the sum of ``|G - mean(G) * r ** alpha|``, whose second
    term counts as constant. They sum to the number of tasks. ``balance/ratio/<task>``, the loss divided by the first one, is
    logged, too.

    Args:
        alpha: How strongly tasks that lag behind are pulled; 0 makes the norms equal.
        place: As in :class:`GradientBalancing`; the paper takes the last layer that is shared, which ``'features'`` comes near.
        lr_mult: The factor of the learning rate of the weights.
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
