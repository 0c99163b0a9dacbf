"""Networks of timm made plainer: BatchNorm folded into convolutions, padding that is known beforehand."""

import copy
from collections import Counter

from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class LayerTracer(fx.Tracer):
    """Records convolutions and normalisations as calls, whatever library they are of."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(module, name)


def fold_traced_batch_norm(network: nn.Module) -> None:
    """Fold each BatchNorm into the convolution whose output it alone reads, in place; its activation stays.

    A network that cannot be traced, because its control flow depends on values or hooks watch it, stays as it is. So do
    convolutions that are used twice, and those that normalise their own weights, which would undo the fold.

    Args:
        network: Of timm, in evaluation mode.
    """
    from timm.layers import BatchNormAct2d, Conv2dSame

    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        return
    try:
        # Of a copy: networks that cache what they compute would keep the tracer's proxies.
        graph = LayerTracer().trace(copy.deepcopy(network))
    except Exception:  # torch.fx fails in many ways
        return
    modules = dict(network.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == 'call_module')
    for node in graph.nodes:
        if node.op != 'call_module' or type(modules[node.target]) not in (nn.BatchNorm2d, BatchNormAct2d):
            continue
        source, norm = node.args[0], modules[node.target]
        if source.op != 'call_module' or type(modules[source.target]) not in (nn.Conv2d, Conv2dSame, PaddedConv2d):
            continue
        if len(source.users) == calls[source.target] == calls[node.target] == 1:
            _replace(network, source.target, fuse_conv_bn_eval(modules[source.target], norm))
            with_activation = isinstance(norm, BatchNormAct2d)
            _replace(network, node.target, nn.Sequential(norm.drop, norm.act) if with_activation else nn.Identity())


class PaddedConv2d(nn.Conv2d):
    """A convolution with the weights of another one, which pads each side by its own number of zeros.

    Args:
        conv: The other one; its own padding does not count.
        sides: Columns on the left and on the right, rows above and below.
    """

    def __init__(self, conv: nn.Conv2d, sides: tuple[int, int, int, int]) -> None:
        widths = conv.in_channels, conv.out_channels
        options = dict(stride=conv.stride, dilation=conv.dilation, groups=conv.groups, bias=conv.bias is not None)
        super().__init__(*widths, conv.kernel_size, **options, device='meta')
        self.weight, self.bias, self.sides = conv.weight, conv.bias, sides
        self.train(conv.training)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(F.pad(inputs, self.sides))


def fix_same_padding(network: nn.Module) -> None:
    """Pad by numbers, not by formulas of the image's size, in place, for images whose sides the network's stride divides.

    TensorFlow's networks pad a strided convolution as much as its input's size asks for, which is the same for all sizes that
    the stride divides. A graph for any size would hold the formulas, one within the next, and torch simplifies them for hours.

    Args:
        network: Of timm. Weights keep their names.
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
