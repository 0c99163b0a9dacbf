"""The projection head of DINO (arXiv 2104.14294, appendix C)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS


class NormalisedLinear(nn.Module):
    """Cosines between the input and each of ``out_channels`` learned directions: a weight-normalised layer of fixed norm 1.

    Normalisation and product are in float32 whatever autocast says: the loss divides cosines by a small temperature.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            weight = self.weight.float()
            return F.linear(F.normalize(features.float(), dim=-1), F.normalize(weight, dim=-1))


@MODELS.register_module()
class DINOHead(BaseModule):
    """MLP with GELU to a bottleneck, L2 normalisation, and a weight-normalised layer to ``out_channels`` logits in [-1, 1].

    Args:
        in_channels: Width of the pooled features.
        hidden_channels: Width of the MLP.
        bottleneck_channels: Width of what is normalised.
        out_channels: Outputs K; the paper has 65536, small data need far fewer.
        num_layers: Linear layers of the MLP, the one to the bottleneck included.
        batch_norm: Whether to normalise before each GELU. The features of a convolutional network with random weights hardly
            differ between images; without it, a short training goes by before they do.
        init_cfg: As in every mmengine module.

    Raises:
        ArgumentError: If ``num_layers`` is not positive or ``out_channels`` is below 2.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        hidden_channels: int = 2048,
        bottleneck_channels: int = 256,
        out_channels: int = 65536,
        num_layers: int = 3,
        batch_norm: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_layers < 1:
            raise ArgumentError(f'`num_layers` should be at least 1. Found {num_layers}.')
        if out_channels < 2:
            raise ArgumentError(f'`out_channels` should be at least 2. Found {out_channels}.')
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), bottleneck_channels]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layer = nn.Linear(width, next_width)
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.BatchNorm1d(next_width), nn.GELU()] if batch_norm else [layer, nn.GELU()]
        self.mlp = nn.Sequential(*layers[: -2 if batch_norm else -1])
        self.last_layer = NormalisedLinear(bottleneck_channels, out_channels)
        self.out_channels = out_channels

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(N, out_channels)`` of features ``(N, in_channels)``."""
        return self.last_layer(self.mlp(features))
