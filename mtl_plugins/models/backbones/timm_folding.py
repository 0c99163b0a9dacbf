"""BatchNorm folded into convolutions, where a trace of the network shows that nothing lies between."""

import copy
from collections import Counter

from torch import fx, nn
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
        if source.op != 'call_module' or type(modules[source.target]) not in (nn.Conv2d, Conv2dSame):
            continue
        if len(source.users) == calls[source.target] == calls[node.target] == 1:
            _replace(network, source.target, fuse_conv_bn_eval(modules[source.target], norm))
            with_activation = isinstance(norm, BatchNormAct2d)
            _replace(network, node.target, nn.Sequential(norm.drop, norm.act) if with_activation else nn.Identity())


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, own_name = name.rpartition('.')
    setattr(network.get_submodule(owner), own_name, module)
