"""Gradients of several tasks as the rows of one matrix."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn


class FlatRows:
    """The gradients of the same parameters for each task, each a row that lies in memory as the parameters do.

    Args:
        parameters: On one device and in one precision.
        num_rows: Number of tasks.

    Attributes:
        storage: The matrix, filled or not.
        filled: The rows that hold a gradient, in ascending order.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], num_rows: int) -> None:
        self.parameters = list(parameters)
        like = self.parameters[0] if self.parameters else torch.empty(0)
        self.storage = like.new_zeros(num_rows, sum(p.numel() for p in self.parameters))
        self._views = [self._views_of(row) for row in self.storage]
        self.filled: list[int] = []

    def fits(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether these are the parameters."""
        return len(parameters) == len(self.parameters) and all(a is b for a, b in zip(parameters, self.parameters, strict=True))

    def _views_of(self, row: Tensor) -> list[Tensor]:
        views, start = [], row.storage_offset()
        for parameter in self.parameters:
            # Dense, whatever the order of the dimensions.
            strides = torch.empty_like(parameter, device='meta').stride()
            views.append(row.as_strided(parameter.shape, strides, start))
            start += parameter.numel()
        return views

    @contextlib.contextmanager
    def adding_to(self, index: int) -> Iterator[None]:
        """Let a backward pass within add to a row, in place."""
        if index not in self.filled:
            self.filled = sorted([*self.filled, index])
            self.storage[index].zero_()
        for parameter, view in zip(self.parameters, self._views[index], strict=True):
            parameter.grad = view
        yield
        for parameter in self.parameters:
            parameter.grad = None

    def matrix(self) -> Tensor:
        """The rows that are filled."""
        return self.storage if len(self.filled) == len(self.storage) else self.storage[self.filled]

    def average(self) -> None:
        """The mean over all processes, which have filled the same rows."""
        for index in self.filled:
            all_reduce(self.storage[index], op='mean')

    def hand_over_sum(self, weights: Sequence[float]) -> None:
        """Let the parameters have the weighted sum of the rows, and empty these."""
        first, *others = self.filled
        total = self.storage[first]
        total *= weights[0]
        for index, weight in zip(others, weights[1:], strict=True):
            total.add_(self.storage[index], alpha=weight)
        self._hand_over(self._views[first])

    def hand_over(self, gradient: Tensor) -> None:
        """Let the parameters have a gradient ``(n,)``, and empty the rows."""
        self._hand_over(self._views_of(gradient.contiguous()))

    def _hand_over(self, views: list[Tensor]) -> None:
        for parameter, view in zip(self.parameters, views, strict=True):
            parameter.grad = view
        self.filled = []


def products_of(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """The products ``(T, T)`` of ``T`` rows, each given as the same sequence of tensors, in float32."""
    products = torch.zeros(len(rows), len(rows), device=rows[0][0].device)
    for tensors in zip(*rows, strict=True):
        flat = [_flat(tensor, tensors[0]).float() for tensor in tensors]
        for i, first in enumerate(flat):
            for j, second in enumerate(flat[: i + 1]):
                products[i, j] += torch.dot(first, second)
    return products + products.tril(-1).T


def _flat(tensor: Tensor, like: Tensor) -> Tensor:
    """All values in the order in which those of ``like`` lie in memory."""
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).reshape(-1)
    return tensor.reshape(-1)
