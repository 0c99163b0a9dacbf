"""Costs of a model before it runs: parameters by part, and multiplications."""

import copy
from collections import Counter

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mtl_plugins.models.decode_heads.deeplabv3plus_head import ASPP, SkipDecoder
from mtl_plugins.models.decode_heads.distilled_head import DeepDecoder
from mtl_plugins.models.decode_heads.transformer_heads import GridTokens, TransformerBlock

# A part of a head is known by its class, wherever a head holds it.
_KINDS = {
    ASPP: 'ASPP',
    SkipDecoder: 'decoder',
    DeepDecoder: 'decoder',
    GridTokens: 'transformer',
    TransformerBlock: 'transformer',
}
KINDS = ('encoder', 'ASPP', 'decoder', 'transformer', 'rest')


def count_parameters(module: nn.Module) -> int:
    """Elements of all parameters; one that is shared counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def parameters_by_kind(model: nn.Module) -> dict[str, int]:
    """Parameters of a :class:`MultiTaskSegmentor` for each of ``KINDS``, which add up to all.

    The encoder is backbone and neck. What is neither that nor an ASPP, a decoder or transformer blocks is the rest:
    predictors, queries, tokens and latents, gates, weights of the task balancing.
    """
    counts = Counter(dict.fromkeys(KINDS, 0))
    counts['encoder'] = sum(count_parameters(part) for part in (model.backbone, model.neck) if part is not None)
    outermost = [model.decode_head]
    while outermost:
        module = outermost.pop()
        kind = next((name for cls, name in _KINDS.items() if isinstance(module, cls)), None)
        if kind is not None:
            counts[kind] += count_parameters(module)
        else:
            outermost.extend(module.children())
    counts['rest'] = count_parameters(model) - sum(counts.values())
    return dict(counts)


def count_flops(model: nn.Module, size: tuple[int, int]) -> int:
    """Floating point operations of one RGB image of a height and width in evaluation mode, a multiply-add being two.

    Convolutions, matrix products and attention (which mmengine's counter does not know) count, as they are computed;
    normalisation, activations and interpolation do not. Tensors have no values: nothing is computed.
    """
    frozen = copy.deepcopy(model)
    frozen.eval()
    # Not chained: what `eval` returns may be a wrapper's original. The counter's hooks trip over a module whose input is a view
    # of a parameter that is trained.
    frozen.requires_grad_(False)
    device = next((parameter.device for parameter in model.parameters()), 'cpu')
    # It imports Triton.
    from torch.utils.flop_counter import FlopCounterMode

    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        frozen(torch.empty(1, 3, *size, device=device))
    return counter.get_total_flops()
