"""Positions of the tokens of a square grid."""

import math

import torch
from torch import Tensor, nn

KINDS = ('none', 'learned', 'sinusoidal')
PLACES = ('query', 'input')


def sinusoidal_positions(edge: int, channels: int) -> Tensor:
    """``(edge * edge, channels)``: sines and cosines of the row in one half of the channels, of the column in the other.

    Frequencies fall geometrically from 1 towards 1/10000, as in arXiv 1706.03762.

    Raises:
        ValueError: If ``channels`` is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f'Sinusoidal positions need a multiple of 4 channels. Found {channels}.')
    frequencies = torch.exp(torch.arange(channels // 4) * (-4 * math.log(10000.0) / channels))
    angles = torch.arange(edge)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis[:, None].expand(-1, edge, -1), axis[None].expand(edge, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(edge * edge, channels)


class PositionalEmbedding(nn.Module):
    """Holds the positions of ``edge`` x ``edge`` tokens, added to the input of the blocks or to the queries of each.

    Args:
        kind: ``'none'``, ``'learned'`` (from a normal distribution with deviation 0.02) or ``'sinusoidal'``.
        added_to: ``'input'`` (to the tokens, once) or ``'query'`` (to the projected queries of each block).
        edge: Side of the grid.
        channels: Width of the tokens.

    Raises:
        ValueError: If ``kind`` or ``added_to`` is none of those.
    """

    def __init__(self, kind: str, *, added_to: str, edge: int, channels: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'`positional_embedding` should be one of {list(KINDS)}. Found {kind!r}.')
        if added_to not in PLACES:
            raise ValueError(f'`position_added_to` should be one of {list(PLACES)}. Found {added_to!r}.')
        if kind == 'none' and added_to != 'query':
            raise ValueError(
                f"`position_added_to` should come with a `positional_embedding`. Found {added_to!r} with the embedding 'none'."
            )
        self.added_to = added_to
        if kind == 'learned':
            self.positions = nn.Parameter(torch.randn(edge * edge, channels) * 0.02)
        else:
            positions = sinusoidal_positions(edge, channels) if kind == 'sinusoidal' else None
            self.register_buffer('positions', positions, persistent=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens for the first block, and what is added to the queries of every block, if anything."""
        if self.positions is None:
            return tokens, None
        if self.added_to == 'input':
            return tokens + self.positions, None
        return tokens, self.positions
