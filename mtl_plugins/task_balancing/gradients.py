"""Gradients of several tasks: what losses share in the autograd graph, products of gradients, means over processes."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.nn import Parameter

# Autograd's names of a split, and of operations whose weights have a row for each channel of the output. Without them the rows
# of a joint head's last convolution, which serve one task each, would be combined as if all tasks shared them.
_SPLITS = ('SplitWithSizesBackward0', 'SplitBackward0')
_ROWWISE = ('ConvolutionBackward0', 'AddmmBackward0')


class Sharing(NamedTuple):
    """Result of :func:`find_sharing`. Parameters and edges are in the order in which the graph is walked: the same each time.

    Attributes:
        shared: Parameters on which several losses depend, but for rows that serve one task each.
        features: The edges of the graph where what serves one loss reads what serves several.
        own: For each loss, the parameters that it reaches before any of ``features``: those of its own and rows of its own.
        tied: For each loss, those of ``shared`` that it uses in an operation of its own, as another loss does.
        reread: True if two losses pass through the same operation before ``features``.
    """

    shared: list[Parameter]
    features: list[GradientEdge]
    own: list[list[Parameter]]
    tied: list[list[Parameter]]
    reread: bool


def find_sharing(losses: Sequence[Tensor], inputs: Collection[Tensor] = ()) -> Sharing:
    """Find what the scalars ``losses``, one per task, share.

    Where an operation for several tasks ends in a split of its channels by task, as the last convolution of a joint head, it
    counts as one operation per task: its weights have rows of each task, and what it reads is the shared feature. With
    ``inputs``, leaves that are no parameters, none of the features depends on another one: where it would, the features are those
    of ``inputs`` that are reached, and all parameters above them are own.
    """
    first: dict[Node, int] = {}
    meeting: dict[Node, None] = {}
    for index, loss in enumerate(losses):
        stack = [loss.grad_fn]
        while stack:
            node = stack.pop()
            if node in first:
                if first[node] != index:
                    meeting[node] = None
                continue
            first[node] = index
            stack.extend(child for child, _ in node.next_functions if child is not None)
    opened = _open_splits(first, meeting)
    leaves = {id(leaf) for leaf in inputs}
    # What lies behind an input serves them all, though one alone may read it.
    meeting |= {node: None for node in first if _is_leaf(node) and id(node.variable) in leaves}
    shared = dict.fromkeys(_walk(meeting))

    edges: dict[tuple[Node, int], None] = {}
    own: list[dict[Node, None]] = []
    tied: list[dict[Node, None]] = []
    for loss in losses:
        own.append({})
        tied.append({})
        seen, stack = set(), [(loss.grad_fn, 0)]
        while stack:
            node, number = stack.pop()
            if node in shared:
                leaf = _leaf_of(node)
                if leaf is None or id(leaf.variable) in leaves:
                    edges[node, number] = None
                else:
                    tied[-1][leaf] = None
            elif node not in seen:
                seen.add(node)
                if _is_leaf(node):
                    own[-1][node] = None
                stack.extend(edge for edge in node.next_functions if edge[0] is not None)
    if leaves and _is_nested(edges):
        reached = [dict.fromkeys(filter(_is_leaf, _walk([loss.grad_fn]))) for loss in losses]
        features = {node: None for nodes in reached for node in nodes if id(node.variable) in leaves}
        own = [_variables(nodes, leaves) for nodes in reached]
        return Sharing([], [GradientEdge(node, 0) for node in features], own, [[] for _ in losses], True)
    return Sharing(
        _variables(filter(_is_leaf, shared), leaves),
        [GradientEdge(*edge) for edge in edges],
        [_variables(nodes, leaves) for nodes in own],
        [_variables(nodes, leaves) for nodes in tied],
        bool(opened),
    )


def _open_splits(first: dict[Node, int], meeting: dict[Node, None]) -> list[Node]:
    """Take splits by task, and what they split, out of the nodes where losses meet, and put what the latter reads there."""
    splits = {
        node: node.next_functions[0][0]
        for node in meeting
        if node.name() in _SPLITS and node._saved_dim == 1 and node.next_functions[0][0].name() in _ROWWISE
    }
    if not splits:
        return []
    users: dict[tuple[Node, int], set[int]] = {}
    for node, index in first.items():
        for child, number in node.next_functions:
            if child in splits:
                users.setdefault((child, number), set()).add(index)
    # What only one loss reaches is visited on its behalf alone, so that an output of two has two users.
    opened = [node for node in splits if all(len(tasks) == 1 for (child, _), tasks in users.items() if child is node)]
    for node in opened:
        del meeting[node]
        for child, _ in splits[node].next_functions:
            if child is not None and _leaf_of(child) is None:
                meeting[child] = None
    return opened


def _walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """All nodes that are reached from some, themselves included, each once."""
    seen, stack = set(), list(nodes)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(child for child, _ in node.next_functions if child is not None)


def _is_leaf(node: Node) -> bool:
    return not node.next_functions and hasattr(node, 'variable')


def _leaf_of(node: Node) -> Node | None:
    """The leaf that a node is or, by a cast or a view, stands for."""
    while len(node.next_functions) == 1 and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return node if _is_leaf(node) else None


def _is_nested(edges: Collection[tuple[Node, int]]) -> bool:
    nodes = {node for node, _ in edges}
    if len(nodes) < 2:
        return False
    return any(below in nodes and below is not node for node in nodes for below in _walk([node]))


def _variables(nodes: Iterable[Node], leaves: set[int]) -> list[Parameter]:
    return [node.variable for node in nodes if id(node.variable) not in leaves]


def products_of(rows: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """Return the products ``(T, T)`` in float32 of ``T`` rows, each the same sequence of tensors; None counts as zeros."""
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
    """Replace gradients by their mean over all processes, with one transfer per precision."""
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
