"""What strategies that look at the gradients of the tasks share."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import combinations

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.task_balancing.gradient_rows import GradientRows, average, products_of
from mtl_plugins.task_balancing.sharing import Sharing, find_sharing

PLACES = ('parameters', 'features')


class GradientBalancing(nn.Module):
    """The gradients of the tasks with respect to what they share are combined into one; what serves one task has its gradient.

    What is shared is found from the graph of each iteration, see :func:`find_sharing`. Two places:

    * ``'parameters'``, exact: a backward pass through the whole network for each task. Gradients of a task are summed over the
      iterations of an optimizer step (``accumulative_counts``), averaged over the processes, and then combined.
    * ``'features'``: a backward pass through its head for each task, and one through the encoder, with the combined gradient of
      the features (MGDA-UB, arXiv 1810.04650), in every iteration. Products of gradients are those over all processes.

    Several processes take the step that one would take with all of the data. float16 gradients are combined without their loss
    scale; where they overflowed, they are added up, and the scaler leaves out the step, in all processes alike. A task whose
    loss is exactly 0 in all processes, as that of a task without labels, takes no part. A look at the losses in each iteration,
    and one at the products of the gradients, are the only synchronisations with the device.

    Outside of a training step, the total is the mean of the losses.

    Args:
        tasks: Names of the tasks that are trained.
        place: ``'parameters'`` or ``'features'``.

    Attributes:
        logged: Of the last combination ``balance/norm/<task>`` and ``balance/cosine/<task>-<task>`` of the gradients, and
            ``balance/weight/<task>`` where the result is a weighted sum.

    Raises:
        ArgumentError: If ``place`` is none of the two.
    """

    lr_mult = 1.0

    def __init__(self, *, tasks: Iterable[str], place: str) -> None:
        super().__init__()
        if place not in PLACES:
            raise ArgumentError(f'`place` should be one of {PLACES}. Found {place!r}.')
        self.tasks, self.place = list(tasks), place
        self.register_buffer('iteration', torch.zeros((), dtype=torch.int64))
        self._iteration = 0
        self.logged: dict[str, Tensor] = {}
        self._rows = GradientRows([])
        self._cutting = False
        self._cut: list[tuple[Tensor, Tensor]] = []
        self._loss_scale = 1.0
        # A compiled network must be able to go backwards once per task.
        torch._functorch.config.donated_buffer = False

    def __getstate__(self) -> dict:
        # Copies, as for each validation, are made between steps and take none.
        return {**self.__dict__, '_rows': GradientRows([]), '_cut': []}

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._iteration = int(self.iteration)

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        """The mean of the losses."""
        return sum(task_losses.values()) / len(task_losses)

    @abstractmethod
    def combine(self, gramian: Tensor, rows: Tensor | None, tasks: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
        """The weights ``(T,)`` by which gradients are added up, or else the combined gradient ``(n,)``.

        Args:
            gramian: Products of the gradients ``(T, T)``, finite, float64, on the CPU.
            rows: The gradients ``(T, n)``.
            tasks: Those that take part, at least two.
        """

    def factors(self, losses: Tensor) -> Tensor | None:
        """Factors ``(T,)`` of the losses, given the mean losses ``(T,)`` of all tasks, 0 where absent; None for 1."""
        return None

    def logged_names(self) -> list[str]:
        """The keys of :attr:`logged`."""
        return [
            *(f'balance/{what}/{task}' for what in ('weight', 'norm') for task in self.tasks),
            *(f'balance/cosine/{a}-{b}' for a, b in combinations(self.tasks, 2)),
        ]

    def begin_step(self) -> None:
        """Announce a forward pass that :meth:`take_step` follows."""
        self._cutting = self.place == 'features'

    @torch.compiler.disable
    def cut(self, features: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Features of the encoder for the heads to read: in a step at the place ``'features'``, gradients end here.

        :meth:`take_step` continues them.
        """
        if not self._cutting:
            return features
        self._cut = [
            (feature, feature.detach().requires_grad_()) for feature in features if feature is not None and feature.requires_grad
        ]
        heads = {id(feature): leaf for feature, leaf in self._cut}
        return [heads.get(id(feature), feature) for feature in features]

    def take_step(self, task_losses: dict[str, Tensor], optim_wrapper: OptimWrapper) -> None:
        """What ``optim_wrapper.update_params`` does with a total: backward passes and, when it is due, the optimizer's step.

        Args:
            task_losses: A scalar with a graph for each task.
            optim_wrapper: One of this package or of mmengine, with or without a ``loss_scaler``.
        """
        cut, self._cut, self._cutting = self._cut, [], False
        names = [task for task in self.tasks if task in task_losses]
        zero = torch.zeros_like(task_losses[names[0]], dtype=torch.float32)
        means = torch.stack([task_losses[task].detach().float() if task in names else zero for task in self.tasks])
        if get_world_size() > 1:
            all_reduce(means, op='mean')
        if not self.logged:
            self.logged = dict.fromkeys(self.logged_names(), zero)
        self._loss_scale = _loss_scale(optim_wrapper)
        present = {task for task, mean in zip(self.tasks, means.tolist(), strict=True) if mean != 0}
        # Without any label all gradients are 0: a step like others for the optimizer.
        taking = [task for task in names if task in present] or names
        factors = self.factors(means)
        scaled = {}
        for task in names:
            loss = optim_wrapper.scale_loss(task_losses[task])
            if factors is not None:
                loss = loss * factors[self.tasks.index(task)]
            scaled[task] = optim_wrapper.loss_scaler.scale(loss) if hasattr(optim_wrapper, 'loss_scaler') else loss
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
        if not self._rows.rows:
            self._rows = GradientRows(shared)
        for left, (task, loss, index) in enumerate(passes, 1 - len(passes)):
            with self._rows.adding_to(self.tasks.index(task)):
                loss.backward(inputs=[*shared, *owned[index]], retain_graph=left < 0)

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
        combined = self._combine_features(gramian / self._loss_scale**2, gradients, [task for task, *_ in passes])
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

    def _combine_features(self, gramian: Tensor, gradients: list[list[Tensor]], tasks: list[str]) -> list[Tensor]:
        flat = None
        weights = None
        if len(tasks) > 1:
            host = gramian.double().cpu()
            if host.isfinite().all():
                needs_rows = not self.by_products
                rows = torch.stack([torch.cat([g.flatten().float() for g in row]) for row in gradients]) if needs_rows else None
                weights, flat = self._count(host, rows, tasks)
        if flat is not None:
            pieces = flat.split([gradient.numel() for gradient in gradients[0]])
            return [piece.view(g.shape).to(g.dtype) for piece, g in zip(pieces, gradients[0], strict=True)]
        if weights is None:
            return [sum(column) for column in zip(*gradients, strict=True)]
        weights = weights.tolist()
        return [
            sum(weight * gradient for weight, gradient in zip(weights, column, strict=True))
            for column in zip(*gradients, strict=True)
        ]

    @property
    def by_products(self) -> bool:
        """Whether :meth:`combine` gives weights and needs no rows."""
        return True

    def _count(self, gramian: Tensor, rows: Tensor | None, tasks: list[str]) -> tuple[Tensor | None, Tensor | None]:
        """:meth:`combine` with its log; counts the combinations."""
        alive = (gramian.diagonal() > 0).nonzero()[:, 0]
        weights, combined = torch.ones(len(tasks), dtype=gramian.dtype), None
        if len(alive) > 1:
            # A gradient that is 0 has no direction; most aggregators cannot divide by its length.
            part = gramian[alive][:, alive]
            found, combined = self.combine(
                part, rows if rows is None or len(alive) == len(tasks) else rows[alive], [tasks[i] for i in alive.tolist()]
            )
            weights = None if found is None else weights.zero_().index_copy_(0, alive, found.to(weights))
        self._iteration += 1
        self.iteration.fill_(self._iteration)
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
        return weights, combined

    def log(self, values: dict[str, float]) -> None:
        """Replace all of :attr:`logged`."""
        device = self.iteration.device
        self.logged = dict(zip(values, torch.tensor(list(values.values())).to(device, non_blocking=True), strict=True))

    def _finish(self, optim_wrapper: OptimWrapper) -> None:
        """Fill ``grad`` of all parameters of the optimizer."""
        if get_world_size() > 1:
            average([p.grad for p in _parameters_of(optim_wrapper) if p.grad is not None])
        rows = self._rows
        if not rows.rows:
            return
        if get_world_size() > 1:
            rows.average()
        scale = self._loss_scale
        tasks = [self.tasks[index] for index in rows.rows]
        weights = combined = None
        if len(tasks) > 1:
            gramian = rows.products().double().cpu() / scale**2
            if gramian.isfinite().all():
                weights, combined = self._count(gramian, None if self.by_products else rows.matrix() / scale, tasks)
        if combined is not None:
            rows.hand_over(combined * scale)
        else:
            rows.hand_over_sum([1.0] * len(tasks) if weights is None else weights.tolist())


def _loss_scale(optim_wrapper: OptimWrapper) -> float:
    return optim_wrapper.loss_scaler.get_scale() if hasattr(optim_wrapper, 'loss_scaler') else 1.0


def _parameters_of(optim_wrapper: OptimWrapper) -> list[nn.Parameter]:
    return [parameter for group in optim_wrapper.optimizer.param_groups for parameter in group['params']]


def _accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            gradient = gradient if parameter.grad is None else parameter.grad + gradient
            # As autograd itself would leave it: fused optimizers need the layout of the parameter.
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
