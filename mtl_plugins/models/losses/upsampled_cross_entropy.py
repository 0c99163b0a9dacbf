"""Cross-entropy of coarse logits against a finer label map, without the upsampled logits of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtl_plugins.registry import MODELS


class _UpsampledCrossEntropy(torch.autograd.Function):
    """Sum over valid pixels and its gradient in one pass, image by image; saves nothing finer than the logits."""

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        gradient = torch.empty_like(logits, dtype=torch.float32)
        total = logits.new_zeros((), dtype=torch.float32)
        for image, label, image_gradient in zip(logits, target, gradient, strict=True):
            coarse = image.detach()[None].float().requires_grad_()
            with torch.enable_grad():
                upsampled = F.interpolate(coarse, size=label.shape, mode='bilinear', align_corners=False)
                loss = F.cross_entropy(upsampled, label.long()[None], ignore_index=ignore_index, reduction='sum')
            image_gradient.copy_(torch.autograd.grad(loss, coarse)[0][0])
            total += loss.detach()
        count = (target != ignore_index).sum().clamp_(min=1)
        ctx.save_for_backward(gradient.div_(count))
        ctx.logits_dtype = logits.dtype
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_output).to(ctx.logits_dtype), None, None


def upsampled_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
    """Mean cross-entropy over the valid pixels of ``target``, of logits upsampled to its size.

    Equals ``cross_entropy(interpolate(logits, target.shape[1:], mode='bilinear', align_corners=False), target)`` in value and
    gradient; a batch without a valid pixel gives exactly 0 and gradient 0.

    Args:
        logits: ``(B, C, h, w)``, any floating type; computed in float32.
        target: ``(B, H, W)`` class ids, any integer type.
        ignore_index: The id of pixels that do not count.

    Raises:
        IndexError: On CPU, if a label is neither a class nor ``ignore_index``.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return _UpsampledCrossEntropy.apply(logits, target, ignore_index)


@MODELS.register_module()
class UpsampledCrossEntropyLoss(nn.Module):
    """:func:`upsampled_cross_entropy` as a configured loss.

    Args:
        ignore_index: The id of pixels that do not count.
    """

    name = 'ce'

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return upsampled_cross_entropy(logits, target, self.ignore_index)
