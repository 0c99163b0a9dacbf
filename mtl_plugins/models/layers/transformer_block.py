"""Pre-norm transformer block (arXiv 2002.04745), for self- and cross-attention."""

from torch import Tensor, nn

from mtl_plugins.models.layers.attention import Attention


class TransformerBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))`` with GELU between the two projections.

    Args:
        channels: Width of the tokens.
        num_heads: Number of attention heads.
        expansion: Width of the MLP's hidden layer over ``channels``.
        dropout: On attention weights.
        cross: Whether the tokens attend to another set of tokens, which gets a normalisation of its own.

    Raises:
        ValueError: If ``expansion`` is less than 1 or an argument of :class:`Attention` is out of its range.
    """

    def __init__(
        self, channels: int, *, num_heads: int = 4, expansion: int = 4, dropout: float = 0.0, cross: bool = False
    ) -> None:
        super().__init__()
        if expansion < 1:
            raise ValueError(f'`expansion` should be at least 1. Found {expansion}.')
        self.norm = nn.LayerNorm(channels)
        self.context_norm = nn.LayerNorm(channels) if cross else None
        self.attention = Attention(channels, num_heads=num_heads, dropout=dropout)
        hidden = channels * expansion
        self.mlp = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def forward(self, tokens: Tensor, context: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """``(B, Q, C)`` refined; ``context`` ``(B, K, C)`` is for a cross block, ``position`` as in :class:`Attention`."""
        assert (context is None) == (self.context_norm is None), 'a cross block, and no other, takes a context'
        if context is not None:
            context = self.context_norm(context)
        tokens = tokens + self.attention(self.norm(tokens), context, position)
        return tokens + self.mlp(tokens)
