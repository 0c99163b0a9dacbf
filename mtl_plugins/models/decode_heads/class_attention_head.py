"""The mask of a class that is asked for, by attention of the class over the encoder's features."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.models.decode_heads.map_head import width_of
from mtl_plugins.models.layers.class_attention import ClassAttention
from mtl_plugins.models.layers.conv_norm_act import ConvNormAct
from mtl_plugins.registry import MODELS


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
        ValueError: If there is not exactly one task, or no such kind of attention.
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
            raise ValueError(f'`out_channels` should name one task: the classes are those of one. Found {dict(out_channels)}.')
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
