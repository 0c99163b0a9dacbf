"""Branched heads that exchange gated features and predict twice (PAD-Net, arXiv 1805.04409)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from mmengine.model import ModuleDict
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.models.decode_heads.deeplabv3plus_head import ConvNormAct
from mtl_plugins.models.decode_heads.heads import BranchedHead, MapHead, build_map_head
from mtl_plugins.registry import MODELS


class GatedFeatures(nn.Module):
    """``conv(x) * sigmoid(attention(x))`` of a task's features ``(B, C, H, W)``, for another one to see.

    Both convolutions are one with twice the channels. The gate starts half open everywhere.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, kernel_size, padding=kernel_size // 2, bias=False)
        nn.init.zeros_(self.conv.weight[channels:])

    def forward(self, embedding: Tensor) -> Tensor:
        return F.glu(self.conv(embedding), dim=1)


class DeepDecoder(nn.Module):
    """Three 3x3 convolutions; after each of the first two, half the channels and twice the height and width."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList([ConvNormAct(channels, channels // 2, 3), ConvNormAct(channels // 2, channels // 4, 3)])
        self.predictor = nn.Conv2d(channels // 4, out_channels, 3, padding=1)

    def forward(self, embedding: Tensor) -> Tensor:
        for conv in self.reduce:
            embedding = F.interpolate(conv(embedding), scale_factor=2.0, mode='bilinear', align_corners=False)
        return self.predictor(embedding)


@MODELS.register_module()
class DistilledHead(BranchedHead):
    """Initial heads as in :class:`BranchedHead`; each task's embedding, gated, is added to the others'; then a second decoder.

    Gives each task two predictions, the initial and the final one; the tasks charge the mean of both (deep supervision).

    Args:
        out_channels: Channels of each task's prediction; two tasks at least.
        final_decoder: ``'simple'``, one 3x3 convolution; ``'deep'``, three with two upsamplings by 2; or the config of a map
            head, which gets the sum of the features as its coarsest map.
        gate_kernel_size: Kernel side of the gates' convolutions, 1 or 3.
        **kwargs: Of :class:`BranchedHead`; the embeddings of all heads have one width.
    """

    build_head = staticmethod(build_map_head)

    def __init__(
        self,
        *,
        in_channels: Sequence[int | None],
        out_channels: dict[str, int],
        final_decoder: str | dict = 'simple',
        gate_kernel_size: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, out_channels=out_channels, **kwargs)
        if len(out_channels) < 2:
            raise ArgumentError(
                f'`out_channels` should name two tasks or more, which exchange features. Found {list(out_channels)}.'
            )
        if not isinstance(final_decoder, dict):
            check_choice('final_decoder', final_decoder, ('simple', 'deep'))
        if gate_kernel_size not in (1, 3):
            raise ArgumentError(f'`gate_kernel_size` should be 1 or 3. Found {gate_kernel_size}.')
        widths = {task: head.channels for task, head in self.heads.items()}
        channels = next(iter(widths.values()))
        if set(widths.values()) != {channels}:
            raise ArgumentError(f'The embeddings that tasks exchange should have one width. Found {widths}.')
        self.gates = ModuleDict({task: GatedFeatures(channels, gate_kernel_size) for task in out_channels})
        if isinstance(final_decoder, dict):
            decoder = partial(build_map_head, final_decoder, (*in_channels[:-1], channels))
        elif final_decoder == 'deep':
            decoder = partial(DeepDecoder, channels)
        else:
            decoder = partial(nn.Conv2d, channels, kernel_size=3, padding=1)
        self.final_decoders = ModuleDict({task: decoder(width) for task, width in out_channels.items()})

    def forward(self, features: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        embeddings = {task: head.embed(features)[1] for task, head in self.heads.items()}
        messages = {task: gate(embeddings[task]) for task, gate in self.gates.items()}
        predictions = {}
        for task, head in self.heads.items():
            received = embeddings[task] + sum(message for sender, message in messages.items() if sender != task)
            decoder = self.final_decoders[task]
            final = decoder((*features[:-1], received) if isinstance(decoder, MapHead) else received)
            predictions[task] = [head.predictor(embeddings[task]), final]
        return predictions
