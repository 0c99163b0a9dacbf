"""ReLU and 3x3 max pooling of a ResNet's stem, sparing the two largest activations of the network."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    """``max_pool2d(relu(features), 3, stride=2, padding=1)``, the same in value and gradient.

    The maximum commutes with the monotone ReLU, so the ReLU runs on a quarter of the values, and the backward pass needs the
    result and the winners' positions only: neither the ReLU's output at full size nor 64-bit positions are kept.
    """
    if torch.is_grad_enabled() and features.requires_grad:
        return _ReluMaxPool.apply(features)
    return F.max_pool2d(features, **POOLING).relu_()
