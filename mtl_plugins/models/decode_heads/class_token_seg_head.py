"""Segmentation by class tokens that look at the image through cross-attention."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.models.decode_heads.map_head import build_map_head
from mtl_plugins.models.layers.transformer import TransformerBlock
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class ClassTokenSegHead(BaseModule):
    """A learned token per class attends to the pixels; logits are the scaled similarity of tokens and pixels' queries.

    For N classes and Q pixels of the pixel head's output, cross-attention takes O(B N Q C) time and, fused, O(B Q C) memory,
    linear in the image; there is no attention among pixels.

    Args:
        head: Config of a map head, without ``in_channels`` and ``out_channels``.
        in_channels: Widths of the feature pyramid.
        out_channels: Number of classes.
        channels: Width of pixel features, queries and tokens.
        num_layers: Number of cross-attention blocks.
        num_heads: Of their attention.
        expansion: Of their MLP.
        dropout: On attention weights.
        init_cfg: As in every mmengine module.

    Raises:
        ValueError: If ``head`` is not a map head or a width or number is out of its range.
    """

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: int,
        channels: int = 256,
        num_layers: int = 3,
        num_heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.head = build_map_head(head, in_channels, channels)
        self.query_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.class_tokens = nn.Parameter(torch.randn(out_channels, channels))
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, num_heads=num_heads, expansion=expansion, dropout=dropout, cross=True)
            for _ in range(num_layers)
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        pixels_BCHW = self.head(features)
        pixels_BQC = pixels_BCHW.flatten(2).transpose(1, 2)
        tokens_BNC = self.class_tokens.expand(pixels_BQC.shape[0], -1, -1)
        for block in self.blocks:
            tokens_BNC = block(tokens_BNC, pixels_BQC)
        queries_BQC = self.query_conv(pixels_BCHW).flatten(2).transpose(1, 2)
        logits_BQN = torch.matmul(queries_BQC, (tokens_BNC * tokens_BNC.shape[-1] ** -0.5).transpose(1, 2))
        return logits_BQN.transpose(1, 2).unflatten(2, pixels_BCHW.shape[-2:])
