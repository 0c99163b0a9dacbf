"""Small networks of several tasks, in float64, and their written-out gradients."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mtl_plugins.registry import TASK_UTILS

TASKS = ('semseg', 'depth', 'normals')


class Network(nn.Module):
    """Two layers that are shared and a layer per task, all smooth; losses are mean squares of the outputs' errors."""

    def __init__(self, balancing: dict, tasks=TASKS, dtype=torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tasks = tasks
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in tasks})
        self.to(dtype)
        self.task_balancing = TASK_UTILS.build({**balancing, 'tasks': tasks})

    def task_losses(self, inputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        (features,) = self.task_balancing.cut([self.encoder(inputs)])
        losses = {}
        for scale, (task, head) in enumerate(self.heads.items(), 1):
            # The first samples may be the only ones that have labels.
            outputs = head(features)[: len(targets.get(task, inputs))]
            losses[task] = scale * (outputs - targets[task]).square().mean() if task in targets else (outputs * 0).sum()
        return losses

    def step(self, batch, wrapper: OptimWrapper) -> None:
        with self.task_balancing.step():
            self.task_balancing.take_step(self.task_losses(*batch), wrapper)


def make_data(count: int, tasks=TASKS, seed: int = 1, dtype=torch.float64) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator, dtype=dtype)
    return inputs, {task: torch.randn(count, 2, generator=generator, dtype=dtype) for task in tasks}


def make_wrapper(network: Network, **arguments) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.1), **arguments)


def gradients_of_step(network: Network, batch) -> dict[str, Tensor]:
    """The gradients that the optimizer of a step finds, by the names of the parameters; 0 for none."""
    wrapper, found = make_wrapper(network), {}
    wrapper.optimizer.register_step_pre_hook(
        lambda *_: found.update((name, p.grad) for name, p in network.named_parameters() if not name.startswith('task_balancing'))
    )
    network.step(batch, wrapper)
    zeros = {name: torch.zeros_like(network.get_parameter(name)) for name, gradient in found.items() if gradient is None}
    return {**found, **zeros}


def jacobian(network: Network, batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradients of the tasks with respect to the encoder, as rows, and those of the heads by name."""
    losses = network.task_losses(*batch)
    encoder, heads = list(network.encoder.parameters()), list(network.heads.named_parameters())
    rows = [torch.autograd.grad(loss, encoder, retain_graph=True) for loss in losses.values()]
    own = torch.autograd.grad(sum(losses.values()), [parameter for _, parameter in heads])
    flat = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
    return flat, {f'heads.{name}': gradient for (name, _), gradient in zip(heads, own, strict=True)}


def encoder_part(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for name, gradient in gradients.items() if name.startswith('encoder')])
