"""The mask of a class that is asked for, by attention of the class over the encoder's features."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.decode_heads.map_head import width_of
from mtl_plugins.models.layers.convolution import ConvNormAct
from mtl_plugins.registry import MODELS

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
        ArgumentError: If ``kind`` is another.
    """

    def __init__(self, in_channels: int, num_classes: int, *, channels: int = 256, kind: str = 'scaled_dot') -> None:
        super().__init__()
        if kind not in KINDS:
            raise ArgumentError(f'`attention` should be one of {list(KINDS)}. Found {kind!r}.')
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
        """Attend from ``classes`` ``(B, N)`` to ``features`` ``(B, C, H, W)``.

        Returns:
            Attention ``(B, N, H, W)``; queries ``(B, N, D)``; and the attended values ``(B, N, D)``, the mean of the positions'
            values under the attention.
        """
        features_BPC = features.flatten(2).transpose(1, 2)
        query_BND = self.embed_classes(classes)
        attention_BNP = self.weigh(query_BND, features_BPC)
        attended_BND = torch.matmul(attention_BNP, self.value(features_BPC))
        return attention_BNP.unflatten(2, features.shape[-2:]), query_BND, attended_BND


@MODELS.register_module()
class ClassAttentionHead(BaseModule):
    """A class attends to the coarsest features; what it finds goes through a map head that gives one logit per pixel.

    The sum of the features under the attention alone would have no place in the image. The features times the attention alone
    would not say which class was asked for: of a dog, the answer to "cat?" would look like the answer to "dog?"; and what an
    untrained attention overlooks could never be found. So three things go to the map head, mixed by a 1x1 convolution to
    ``channels``:

    * the features,
    * the features, multiplied by the attention divided by its maximum over the image, which keeps their scale whether the
      attention is flat or peaked, and
    * the class's query plus its attended values, normalised, the same vector at every position.

    Finer maps of the pyramid pass unchanged, for map heads with skips. For N classes the encoder runs once, and everything
    behind the attention N times, as one batch of B N.

    Args:
        head: Config of a map head, without ``in_channels`` and ``out_channels``.
        in_channels: Widths of the feature pyramid.
        out_channels: Name of the one task and its number of classes.
        channels: Width of queries, keys and values, and of what goes to the map head.
        attention: Kind of the scores, as in :class:`ClassAttention`.
        init_cfg: As in every mmengine module.

    Raises:
        ArgumentError: If there is not exactly one task, or no such kind of attention.
    """

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: dict[str, int],
        channels: int = 256,
        attention: str = 'scaled_dot',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if len(out_channels) != 1:
            raise ArgumentError(f'`out_channels` should name one task: the classes are those of one. Found {dict(out_channels)}.')
        self.out_channels = dict(out_channels)
        ((self.task, self.num_classes),) = self.out_channels.items()
        width = width_of(in_channels, -1)
        self.attention = ClassAttention(width, self.num_classes, channels=channels, kind=attention)
        self.norm = nn.LayerNorm(channels)
        # A concatenation, although three smaller products would do: the folding of BatchNorm knows nothing of other summands.
        self.mix = ConvNormAct(2 * width + channels, channels, 1)
        self.head = MODELS.build({**head, 'in_channels': (*in_channels[:-1], channels), 'out_channels': 1})

    def all_classes(self, features: Sequence[Tensor]) -> Tensor:
        """Every class, for each image: int64 ``(B, num_classes)``."""
        # Not `len`, which is a constant of an exported graph.
        return torch.arange(self.num_classes, device=features[-1].device).expand(features[-1].shape[0], -1)

    def attend(self, features: Sequence[Tensor]) -> Tensor:
        """The attention of every class, ``(B, num_classes, H, W)`` on the grid of the coarsest features."""
        return self.attention(features[-1], self.all_classes(features))[0]

    def forward(self, features: Sequence[Tensor], classes: Tensor | None = None) -> dict[str, list[Tensor]]:
        """Logits ``(B, N, h, w)`` of the masks of the classes.

        Args:
            features: The pyramid.
            classes: Class numbers ``(B, N)``, int64; every class by default.
        """
        classes = self.all_classes(features) if classes is None else classes
        attention_BNHW, query_BND, attended_BND = self.attention(features[-1], classes)
        weight_BNHW = attention_BNHW / attention_BNHW.amax((2, 3), keepdim=True)
        *finer, repeated = (self.repeat(each, classes.shape[1]) for each in features)
        found = repeated * weight_BNHW.flatten(0, 1)[:, None]
        token = self.norm(query_BND + attended_BND).flatten(0, 1)[:, :, None, None].to(found.dtype)
        conditioned = self.mix(torch.cat([repeated, found, token.expand(-1, -1, *found.shape[-2:])], dim=1))
        logits = self.head([*finer, conditioned])
        return {self.task: [logits.reshape(*classes.shape, *logits.shape[-2:])]}

    @staticmethod
    def repeat(features: Tensor | None, times: int) -> Tensor | None:
        """Each image's map ``times`` times in a row."""
        return features if features is None or times == 1 else features.repeat_interleave(times, dim=0)
