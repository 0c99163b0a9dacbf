"""Multi-head scaled dot-product attention (arXiv 1706.03762).

Axes: B batch, Q query tokens, K context tokens, C channels, H heads, D channels of a head.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """``out(softmax(q k^T / sqrt(D)) v)`` with learned projections, by :func:`torch.nn.functional.scaled_dot_product_attention`.

    The fused kernels keep no Q x K matrix: memory is O(B (Q + K) C), time O(B Q K C). With dropout, a CPU falls back to the
    written-out form and its O(B H Q K) memory; so do GPUs without a fused kernel for the type at hand. Measured: four times
    the tokens take 3.3 to 4.1 times the memory fused, 13 to 15 times written out (docs/attention_memory.md).

    Args:
        channels: Width of tokens and projections.
        num_heads: Number of heads; divides ``channels``.
        dropout: Probability that an attention weight is dropped in training.

    Raises:
        ValueError: If ``channels`` is not a multiple of ``num_heads`` or ``dropout`` is not in [0, 1).
    """

    def __init__(self, channels: int, *, num_heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f'`num_heads` should divide the {channels} channels. Found {num_heads}.')
        if not 0 <= dropout < 1:
            raise ValueError(f'`dropout` should be in [0, 1). Found {dropout}.')
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, context: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """Attend from ``tokens`` ``(B, Q, C)`` to ``context`` ``(B, K, C)``, by default to themselves.

        Args:
            tokens: Where the queries come from.
            context: Where keys and values come from.
            position: Added to the projected queries, ``(Q, C)`` or ``(B, Q, C)``.
        """
        context = tokens if context is None else context
        query = self.query(tokens)
        if position is not None:
            query = query + position
        query_BHQD, key_BHKD, value_BHKD = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projected in (query, self.key(context), self.value(context))
        )
        dropout = self.dropout if self.training else 0.0
        mixed_BHQD = F.scaled_dot_product_attention(query_BHQD, key_BHKD, value_BHKD, dropout_p=dropout)
        return self.out(mixed_BHQD.transpose(1, 2).flatten(2))
