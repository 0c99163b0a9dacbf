"""Attention of a class over the positions of a feature map.

Axes: B batch, N classes asked for, P positions, C channels of the features, D width of queries, keys and values.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = ('scaled_dot', 'dot', 'cosine', 'additive')
# Softmax of a plain cosine is almost flat: no position gets more than e^2 times the weight of another.
INITIAL_COSINE_SCALE = 10.0


class ClassAttention(nn.Module):
    """A class, as a one-hot vector, asks where it is: softmax over positions of the scores of its query with their keys.

    Scores of a query q and a key k:

    * ``'scaled_dot'``: ``q . k / sqrt(D)`` (arXiv 1706.03762).
    * ``'dot'``: ``q . k``.
    * ``'cosine'``: ``s q . k / (|q| |k|)`` with a learned ``s > 0``.
    * ``'additive'``: ``w . tanh(q + k)`` with a learned w (arXiv 1409.0473).

    Neither query nor key has a bias: that of the query would be the same for all classes, which the rows of its weight can
    express, and in a dot product that of the key adds the same to every position, which the softmax takes out again.

    Args:
        in_channels: C.
        num_classes: Length of the one-hot vector.
        channels: D.
        kind: One of the four.

    Raises:
        ValueError: If ``kind`` is another.
    """

    def __init__(self, in_channels: int, num_classes: int, *, channels: int = 256, kind: str = 'scaled_dot') -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'`attention` should be one of {list(KINDS)}. Found {kind!r}.')
        self.num_classes = num_classes
        self.kind = kind
        self.query = nn.Linear(num_classes, channels, bias=False)
        self.key = nn.Linear(in_channels, channels, bias=False)
        self.value = nn.Linear(in_channels, channels)
        if kind == 'cosine':
            self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_COSINE_SCALE)))
        if kind == 'additive':
            self.energy = nn.Linear(channels, 1, bias=False)

    def embed_classes(self, classes: Tensor) -> Tensor:
        """Queries ``(B, N, D)`` of class numbers ``(B, N)``, int64."""
        return self.query(F.one_hot(classes, self.num_classes).to(self.query.weight.dtype))

    def weigh(self, query_BND: Tensor, features_BPC: Tensor) -> Tensor:
        """The attention ``(B, N, P)``, which sums to 1 over the positions."""
        key_BPD = self.key(features_BPC)
        if self.kind == 'additive':
            scores_BNP = self.energy(torch.tanh(query_BND[:, :, None] + key_BPD[:, None])).squeeze(-1)
        else:
            if self.kind == 'cosine':
                query_BND, key_BPD = F.normalize(query_BND, dim=-1), F.normalize(key_BPD, dim=-1)
            scores_BNP = torch.matmul(query_BND, key_BPD.transpose(1, 2))
        if self.kind == 'scaled_dot':
            scores_BNP = scores_BNP * query_BND.shape[-1] ** -0.5
        elif self.kind == 'cosine':
            scores_BNP = scores_BNP * self.log_scale.exp()
        return scores_BNP.float().softmax(-1).to(features_BPC.dtype)

    def forward(self, features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What ``classes`` ``(B, N)`` find in ``features`` ``(B, C, H, W)``.

        Returns:
            Attention ``(B, N, H, W)``; queries ``(B, N, D)``; and the attended values ``(B, N, D)``, the mean of the positions'
            values under the attention.
        """
        features_BPC = features.flatten(2).transpose(1, 2)
        query_BND = self.embed_classes(classes)
        attention_BNP = self.weigh(query_BND, features_BPC)
        attended_BND = torch.matmul(attention_BNP, self.value(features_BPC))
        return attention_BNP.unflatten(2, features.shape[-2:]), query_BND, attended_BND
