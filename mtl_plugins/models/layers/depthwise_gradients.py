"""Depthwise convolutions whose gradients take a fast way on CPUs.

oneDNN computes a depthwise convolution fast, and some of its gradients slowly (docs/benchmarks/measured.md): those of dilated
ones, that by the weights of large kernels in half precision, and that by the input of strided ones in half precision. The same
sums are made so:

* by the input, with stride 1: a convolution of the output's gradient with the mirrored kernel;
* by the weights, with dilation: for each tap the product of the output's gradient and the input it saw, summed;
* the rest: oneDNN's, in float32 where half precision is the slow one.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]


def _taps(kernel: int, stride: int, padding: int, dilation: int, source: int, size: int) -> list[tuple[slice, slice]]:
    """Along one axis and for each tap, the inputs that it sees and the outputs that see one there, and not the zero border."""
    found = []
    for offset in range(-padding, kernel * dilation - padding, dilation):
        first = max(-(offset // stride), 0)
        stop = max(min((source - 1 - offset) // stride + 1, size), first)
        begin = first * stride + offset
        found.append((slice(begin, begin + (stop - first) * stride, stride), slice(first, stop)))
    return found


def _summed_products(grad_output: Tensor, inputs: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the gradient by the weights ``(C, 1, kh, kw)``, tap by tap, at least in float32."""
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    grad_output, inputs = grad_output.to(dtype), inputs.to(dtype)
    rows, columns = (
        _taps(kernel[i], stride[i], padding[i], dilation[i], inputs.shape[2 + i], grad_output.shape[2 + i]) for i in (0, 1)
    )
    sums = [
        (inputs[:, :, seen_rows, seen_columns] * grad_output[:, :, by_rows, by_columns]).sum((0, 2, 3))
        for seen_rows, by_rows in rows
        for seen_columns, by_columns in columns
    ]
    return torch.stack(sums, dim=1).view(-1, 1, *kernel)


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = (stride, padding, dilation)
        return F.conv2d(inputs, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        kernel = weight.shape[2:]
        half = weight.dtype in (torch.bfloat16, torch.float16)

        def by_onednn(number: int, in_float32: bool) -> Tensor:
            tensors = (each.float() if in_float32 else each for each in (grad_output, inputs, weight))
            mask = [index == number for index in range(3)]
            gradients = torch.ops.aten.convolution_backward(
                *tensors, None, stride, padding, dilation, False, [0, 0], len(weight), mask
            )
            return gradients[number].to(weight.dtype)

        grad_input = grad_weight = None
        if ctx.needs_input_grad[0]:
            border = [spread * (side - 1) - pad for spread, side, pad in zip(dilation, kernel, padding, strict=True)]
            if tuple(stride) == (1, 1) and min(border) >= 0:
                grad_input = F.conv2d(grad_output, weight.flip(2, 3), None, 1, border, dilation, len(weight))
            else:
                grad_input = by_onednn(0, half)
        if ctx.needs_input_grad[1]:
            if max(dilation) > 1:
                grad_weight = _summed_products(grad_output, inputs, kernel, stride, padding, dilation).to(weight.dtype)
            else:
                grad_weight = by_onednn(1, half and max(kernel) > 3)
        return grad_input, grad_weight, None, None, None


def depthwise_conv2d(inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Convolve ``(B, C, H, W)`` with ``(C, 1, kh, kw)`` as ``F.conv2d`` does; the gradient agrees to rounding.

    Under autocast it is computed in autocast's precision. It can be differentiated once.
    """
    device = inputs.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        inputs, weight = inputs.to(dtype), weight.to(dtype)
    return _DepthwiseConv.apply(inputs, weight, stride, padding, dilation)


class FastDepthwiseGradients(TorchFunctionMode):
    """Within it, depthwise convolutions on a CPU that are to be differentiated are :func:`depthwise_conv2d`.

    A mode, because layers of this package, of timm and of mmseg call them, as modules and as functions. All else is untouched.
    """

    def __torch_function__(self, func: Callable, types: Sequence, args: Sequence = (), kwargs: Mapping | None = None) -> object:
        return (_conv2d if func is torch.conv2d else func)(*args, **(kwargs or {}))


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:  # the names of torch.conv2d
    is_depthwise = groups == len(weight) == input.shape[1] and groups > 1 and bias is None
    if not is_depthwise or isinstance(padding, str) or input.device.type != 'cpu' or not torch.is_grad_enabled():
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    pairs = ((each, each) if isinstance(each, int) else tuple(each) for each in (stride, padding, dilation))
    return depthwise_conv2d(input, weight, *pairs)
