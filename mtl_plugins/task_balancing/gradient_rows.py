"""The gradients of several tasks, a row for each."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

Row = Sequence[Tensor | None]


class GradientRows:
    """The gradients of the same parameters for each task, from the backward passes of a step until it is taken.

    A backward pass lays its gradients down as it goes on, while it frees what the forward pass kept.

    Args:
        parameters: On one device and in one precision.

    Attributes:
        rows: By index, in ascending order, a gradient for each parameter; None where a task does not depend on it.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.rows: dict[int, list[Tensor | None]] = {}

    @contextlib.contextmanager
    def adding_to(self, index: int) -> Iterator[None]:
        """Let a backward pass within add to a row."""
        for parameter, gradient in zip(self.parameters, self.rows.get(index, [None] * len(self.parameters)), strict=True):
            parameter.grad = gradient
        yield
        self.rows[index] = [parameter.grad for parameter in self.parameters]
        self.rows = dict(sorted(self.rows.items()))
        for parameter in self.parameters:
            parameter.grad = None

    def average(self) -> None:
        """The mean over all processes, which have the same rows."""
        for row in self.rows.values():
            average([gradient for gradient in row if gradient is not None])

    def products(self) -> Tensor:
        """As :func:`products_of`."""
        return products_of(list(self.rows.values()))

    def matrix(self) -> Tensor:
        """The rows ``(T, n)``, with zeros where there is no gradient."""
        pieces = [
            [torch.zeros_like(p) if gradient is None else gradient for p, gradient in zip(self.parameters, row, strict=True)]
            for row in self.rows.values()
        ]
        return torch.stack([torch.cat([piece.flatten() for piece in row]) for row in pieces])

    def hand_over_sum(self, weights: Sequence[float]) -> None:
        """Let the parameters have the weighted sum of the rows, and empty these."""
        for parameter, *column in zip(self.parameters, *self.rows.values(), strict=True):
            parts = [(gradient, weight) for gradient, weight in zip(column, weights, strict=True) if gradient is not None]
            for position, (gradient, weight) in enumerate(parts):
                parameter.grad = parameter.grad.add_(gradient, alpha=weight) if position else gradient.mul_(weight)
        self.rows = {}

    def hand_over(self, gradient: Tensor) -> None:
        """Let the parameters have a gradient ``(n,)``, and empty the rows."""
        for parameter, piece in zip(self.parameters, gradient.split([p.numel() for p in self.parameters]), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(piece.view(parameter.shape))
        self.rows = {}


def products_of(rows: Sequence[Row]) -> Tensor:
    """The products ``(T, T)`` of ``T`` rows in float32, each given as the same sequence of tensors; None counts as zeros."""
    columns = list(zip(*rows, strict=True))
    likes = [next((tensor for tensor in column if tensor is not None), None) for column in columns]
    flat = [[None if t is None else _flat(t, like).float() for t, like in zip(row, likes, strict=True)] for row in rows]
    products = torch.zeros(len(rows), len(rows), device=next((like.device for like in likes if like is not None), None))
    for i, first in enumerate(flat):
        for j, second in enumerate(flat[: i + 1]):
            # Dot products, as a matrix product may be one of TF32.
            terms = [torch.dot(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
            if terms:
                products[i, j] = torch.stack(terms).sum()
    return products + products.tril(-1).T


def average(gradients: Sequence[Tensor]) -> None:
    """The mean over all processes, in place, with one transfer per precision."""
    # In the same order in all processes, which that of a set would not be.
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        group = [gradient for gradient in gradients if gradient.dtype == dtype]
        flat = torch.cat([gradient.flatten() for gradient in group])
        all_reduce(flat, op='mean')
        pieces = flat.split([gradient.numel() for gradient in group])
        torch._foreach_copy_(group, [piece.view(gradient.shape) for piece, gradient in zip(pieces, group, strict=True)])


def _flat(tensor: Tensor, like: Tensor) -> Tensor:
    """All values in the order in which those of ``like`` lie in memory."""
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).reshape(-1)
    return tensor.reshape(-1)
