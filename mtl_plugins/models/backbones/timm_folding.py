"""Convolutions of timm's networks changed in place: BatchNorm folded in, padding known beforehand, a crash of torch avoided."""

import copy
from collections import Counter

from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _LayerTracer(fx.Tracer):
    """Records convolutions and normalisations as calls, whatever library they are of."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(module, name)


def fold_traced_batch_norm(network: nn.Module) -> None:
    """Fold each BatchNorm into the convolution whose output it alone reads; its activation stays.

    A network in evaluation mode. One that cannot be traced, because its control flow depends on values or hooks watch it, stays
    as it is. So do convolutions that are used twice, and those that normalise their own weights, which would undo the fold.
    """
    from timm.layers import BatchNormAct2d, Conv2dSame

    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        return
    try:
        # Of a copy: networks that cache what they compute would keep the tracer's proxies.
        graph = _LayerTracer().trace(copy.deepcopy(network))
    except Exception:  # torch.fx fails in many ways
        return
    modules = dict(network.named_modules())
    nodes = [node for node in graph.nodes if node.op == 'call_module']
    calls = Counter(node.target for node in nodes)
    plain = (nn.Conv2d, Conv2dSame, PaddedConv2d, SubsamplingConv2d)
    for node in nodes:
        norm = modules[node.target]
        if type(norm) not in (nn.BatchNorm2d, BatchNormAct2d) or node.args[0].op != 'call_module':
            continue
        source = node.args[0]
        conv = modules[source.target]
        if type(conv) in plain and len(source.users) == calls[source.target] == calls[node.target] == 1:
            _replace(network, source.target, fuse_conv_bn_eval(conv, norm))
            with_activation = isinstance(norm, BatchNormAct2d)
            _replace(network, node.target, nn.Sequential(norm.drop, norm.act) if with_activation else nn.Identity())


class _SameWeightsConv2d(nn.Conv2d):
    """A convolution with the weights of another one, under the same names."""

    def __init__(self, conv: nn.Conv2d, stride: tuple[int, int]) -> None:
        widths = conv.in_channels, conv.out_channels
        options = dict(stride=stride, dilation=conv.dilation, groups=conv.groups, bias=conv.bias is not None)
        super().__init__(*widths, conv.kernel_size, **options, device='meta')
        self.weight, self.bias = conv.weight, conv.bias
        self.train(conv.training)


class PaddedConv2d(_SameWeightsConv2d):
    """A convolution that pads each side by its own number of zeros: columns left and right, rows above and below."""

    def __init__(self, conv: nn.Conv2d, sides: tuple[int, int, int, int]) -> None:
        super().__init__(conv, conv.stride)
        self.sides = sides

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(F.pad(inputs, self.sides))


class SubsamplingConv2d(_SameWeightsConv2d):
    """A strided 1x1 convolution as one with stride 1 of the pixels that it sees."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv, (1, 1))
        self.rows, self.columns = conv.stride

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs[..., :: self.rows, :: self.columns])


def avoid_overrun(network: nn.Module) -> None:
    """Replace strided 1x1 convolutions of fewer than 16 channels, as in the stems of FastViT, MobileOne and RepVGG.

    On CPUs torch 2.15 writes beyond the end of memory where it computes the gradient by the weights of such a one in
    channels-last: the process crashes, or not, at some other place.
    """
    for name, conv in list(network.named_modules()):
        if type(conv) is nn.Conv2d and conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels < 16:
            if conv.padding == (0, 0):
                _replace(network, name, SubsamplingConv2d(conv))


def fix_same_padding(network: nn.Module) -> None:
    """Pad by numbers, not by formulas of the image's size, for images whose sides the network's stride divides.

    TensorFlow's networks pad a strided convolution as much as its input's size asks for, the same for all that the stride
    divides. A graph for any size would hold formulas within formulas, which torch does not simplify in any bearable time.
    """
    from timm.layers import Conv2dSame

    for name, conv in list(network.named_modules()):
        if type(conv) is Conv2dSame:
            rows, columns = (
                max((size - 1) * dilation + 1 - stride, 0)
                for size, dilation, stride in zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
            )
            sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            _replace(network, name, PaddedConv2d(conv, sides))


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, own_name = name.rpartition('.')
    setattr(network.get_submodule(owner), own_name, module)
