"""ResNet encoder with dilation instead of stride in its last stages (arXiv 1512.03385, 1706.05587)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.layers.squeeze_excitation import squeeze_excitation as build_squeeze_excitation
from mtl_plugins.models.utils.weights import PretrainedBackbone, Weights
from mtl_plugins.registry import MODELS

POOLING = dict(kernel_size=3, stride=2, padding=1)


class _ReluMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        pooled, indices = F.max_pool2d_with_indices(features, **POOLING)
        pooled.relu_()
        ctx.save_for_backward(pooled, indices.int())
        ctx.layout = (features.shape, features.is_contiguous(memory_format=torch.channels_last))
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> Tensor:
        pooled, indices = ctx.saved_tensors
        shape, channels_last = ctx.layout
        layout = torch.channels_last if channels_last else torch.contiguous_format
        # Of the features, the kernel reads the shape alone.
        features = torch.empty(shape, dtype=pooled.dtype, device=pooled.device, memory_format=layout)
        gradient = torch.where(pooled > 0, grad_output, 0.0)
        return torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, features, [3, 3], [2, 2], [1, 1], [1, 1], False, indices.long()
        )


def relu_max_pool(features: Tensor) -> Tensor:
    """Return ``max_pool2d(relu(features), 3, stride=2, padding=1)`` of ``(B, C, H, W)``.

    It keeps neither the ReLU's output nor 64-bit positions.
    """
    if torch.is_grad_enabled() and features.requires_grad:
        return _ReluMaxPool.apply(features)
    return F.max_pool2d(features, **POOLING).relu_()


DEPTHS = (18, 34, 50, 101, 152)
# Dilation of layer3 and layer4 that keeps the receptive field when their strides are removed.
STAGE_DILATIONS = {32: (1, 1), 16: (1, 2), 8: (2, 4)}


def replace_stride_by_dilation(stage: nn.Sequential, previous_dilation: int, dilation: int) -> None:
    """Remove the stride of a ResNet stage, in place, and dilate what follows.

    The convolution that lost its stride still sees the undiminished grid, hence ``previous_dilation``; every later one of the
    stage sees a grid ``dilation / previous_dilation`` times finer than before. The stage then computes, on that grid's
    coarse positions, exactly what it computed with the stride: pretrained weights keep their meaning.
    """
    for block in stage:
        for conv in (module for module in block.modules() if isinstance(module, nn.Conv2d)):
            had_stride = conv.stride != (1, 1)
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):  # the first of two in a basic block carries the stride, the only one in a bottleneck
                conv.dilation = conv.padding = (previous_dilation if had_stride else dilation,) * 2


def excited_stage(stage: nn.Sequential, excitations: nn.ModuleList, features: Tensor) -> Tensor:
    """Run a ResNet stage on ``(B, C, H, W)``.

    Each block's residual passes its squeeze-and-excitation before it is added (arXiv 1709.01507).
    """
    for block, excitation in zip(stage, excitations, strict=True):
        residual = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(features)))))
        if hasattr(block, 'conv3'):
            residual = block.bn3(block.conv3(F.relu(residual)))
        features = F.relu(excitation(residual) + (features if block.downsample is None else block.downsample(features)))
    return features


@MODELS.register_module()
class DilatedResNet(PretrainedBackbone):
    """ResNet without classifier; torchvision's parameter names, so its weights load unchanged.

    The forward pass maps an image ``(B, 3, H, W)`` to five feature maps at stride 2 (the stem, before the pooling), 4, 8,
    ``min(16, output_stride)`` and ``output_stride``; ``out_channels`` holds their widths. The first, and its width, is None
    unless asked for: it is the largest activation of the network, and few heads read it.

    Args:
        depth: 18 or 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        output_stride: 32 as published, 16 with the last stage's stride replaced by dilation, 8 with the last two.
        with_stem: Whether to give the feature map at stride 2.
        squeeze_excitation: Factor by which a squeeze-and-excitation narrows the residual of each block; None for none. Weights of
            a network without, as ImageNet's, load too.
        num_tasks: With several, each block has one for each task, and all maps are ``(num_tasks * B, C, H, W)``: the images once
            for each task, see :class:`AttentiveHead`.
        zero_init_residual: Whether each random block starts as the identity: its last BatchNorm has weight 0 (arXiv 1706.02677).
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=..., prefix=None)``, see :class:`PretrainedBackbone`.
    """

    def __init__(
        self,
        *,
        depth: int = 18,
        output_stride: int = 32,
        with_stem: bool = False,
        squeeze_excitation: int | None = None,
        num_tasks: int = 1,
        zero_init_residual: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg, description=f'depth={depth}')
        if depth not in DEPTHS:
            raise ArgumentError(f'`depth` should be 18, 34, 50, 101 or 152. Found {depth}.')
        if output_stride not in STAGE_DILATIONS:
            raise ArgumentError(f'`output_stride` should be 8, 16 or 32. Found {output_stride}.')
        # Importing it takes as long as half of torch.
        from torchvision.models import resnet as torchvision_resnet

        network = getattr(torchvision_resnet, f'resnet{depth}')(weights=None, zero_init_residual=zero_init_residual)
        dilations = (1, *STAGE_DILATIONS[output_stride])
        for stage, previous, dilation in zip((network.layer3, network.layer4), dilations, dilations[1:], strict=False):
            if dilation != 1:
                replace_stride_by_dilation(stage, previous, dilation)
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = network.layer1, network.layer2, network.layer3, network.layer4
        self.output_stride = output_stride
        self.with_stem = with_stem
        self.num_tasks = num_tasks
        expansion = network.layer1[0].expansion
        self.out_channels = (64 if with_stem else None, *(width * expansion for width in (64, 128, 256, 512)))
        self.excitations = nn.ModuleList()
        if squeeze_excitation is not None:
            for width, stage in zip(self.out_channels[1:], (self.layer1, self.layer2, self.layer3, self.layer4), strict=True):
                blocks = [build_squeeze_excitation(width, squeeze_excitation, num_tasks) for _ in stage]
                self.excitations.append(nn.ModuleList(blocks))
        elif num_tasks > 1:
            raise ArgumentError(f'`num_tasks` above 1 needs `squeeze_excitation`. Found {num_tasks}.')

    def convert_weights(self, weights: Weights) -> Weights:
        """Leave out the classifier; keep the squeeze-and-excitations where the file has none."""
        own = {name: value for name, value in self.state_dict().items() if name.startswith('excitations.')}
        return {**own, **{name: value for name, value in weights.items() if not name.startswith('fc.')}}

    def forward(self, inputs: Tensor) -> tuple[Tensor | None, ...]:
        stem = self.bn1(self.conv1(inputs))
        first, latest = F.relu(stem) if self.with_stem else None, relu_max_pool(stem)
        if self.num_tasks > 1:
            first, latest = (each if each is None else each.repeat(self.num_tasks, 1, 1, 1) for each in (first, latest))
        features = [first]
        for number, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
            latest = excited_stage(stage, self.excitations[number], latest) if self.excitations else stage(latest)
            features.append(latest)
        return tuple(features)
