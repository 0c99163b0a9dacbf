"""A decode head of mmseg as a head for one prediction map."""

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.backbones.foreign_backbone import try_out
from mtl_plugins.models.decode_heads.heads import MapHead
from mtl_plugins.models.utils.build import build_part
from mtl_plugins.registry import MODELS

SIDE = 512


def _leave_unclassified(features: Tensor) -> Tensor:
    return features


@MODELS.register_module()
class MMSegHead(MapHead):
    """A ``BaseDecodeHead`` of mmseg: the input of its classifier is the embedding, its dropout and classifier the predictor.

    ``in_channels`` and ``in_index`` of the head may be left out. ``in_index`` counts the maps that there are, from fine to
    coarse: 0 is the one at stride 4 of a backbone without a map at stride 2, as in mmseg. By default a head that reads one map
    takes the last, one that reads several takes all. ``num_classes`` follows from the tasks; their losses are charged, not the
    head's. The weights have mmseg's names below ``head.``.

    Args:
        head: Config of the head, its type with ``mmseg.`` in front.

    Raises:
        ArgumentError: If the head does not give one map by classifying each pixel of an embedding, or an argument does not fit
            the pyramid or the tasks.
    """

    # mmseg's modules promise no order.
    children_in_order_of_use = False

    def __init__(self, *, head: dict, in_channels: Sequence[int | None], out_channels: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        # Here, because only such heads need it: importing all models of mmseg takes seconds.
        from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead

        kind, name = MODELS.get(head['type']), head['type']
        if issubclass(kind, BaseCascadeDecodeHead):
            raise _no_map_head(name, 'which needs the prediction of another head')
        for key, where in (('loss_decode', 'loss'), ('sampler', 'sampler')):
            if key in head:
                raise ArgumentError(f'`{key}` of {name} should be left out: it is `{where}` of the task. Found {head[key]}.')
        if head.get('num_classes', out_channels) != out_channels:
            raise ArgumentError(f'`num_classes` of {name} should be {out_channels}, by the tasks. Found {head["num_classes"]}.')
        try:
            self.head = self.build(kind, head, in_channels, out_channels)
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError) as error:
            raise ArgumentError(f'The arguments of {name} should be what it takes. Found {head} ({_reason(error)}).') from error
        self.head.loss_decode = None
        self.context_channels = self.channels = self.try_head(name, in_channels)

    @staticmethod
    def build(kind: type, head: dict, in_channels: Sequence[int | None], out_channels: int) -> nn.Module:
        widths = [width for width in in_channels if width is not None]
        defaults = dict(num_classes=out_channels, out_channels=out_channels, loss_decode=dict(type='mmseg.CrossEntropyLoss'))
        defaults['loss_decode']['avg_non_ignore'] = True  # never used; says that no warning is needed
        if out_channels == 1:
            defaults['threshold'] = 0.5  # never used
        if 'c1_in_channels' in inspect.signature(kind).parameters:
            defaults['c1_in_channels'] = widths[0]
        config = {**defaults, **head, 'out_channels': out_channels}
        # Only the head's call of its base class says if it reads one map or several.
        *first, last = [head['in_index']] if 'in_index' in head else [list(range(len(widths))), -1]
        for index in first:
            with suppress(AssertionError):
                return build_part({'in_channels': widths, 'in_index': index, **config})
        read = [widths[item] for item in last] if isinstance(last, (tuple, list)) else widths[last]
        return build_part({'in_channels': read, 'in_index': last, **config})

    def try_head(self, name: str, in_channels: Sequence[int | None]) -> int:
        """Return the width of the embedding; refuse a head whose output is not that of its classifier, in training."""

        def classify(copy: nn.Module, device: torch.device) -> tuple[Any, list[Tensor], list[Tensor]]:
            dtype = next(copy.parameters()).dtype
            sides = [SIDE // 2 ** (level + 1) for level in range(len(in_channels))]
            shapes = [(2, width, side, side) for width, side in zip(in_channels, sides, strict=True) if width is not None]
            embeddings, logits = [], []

            def observe(features: Tensor) -> Tensor:
                embeddings.append(features)
                logits.append(type(copy).cls_seg(copy, features))
                return logits[-1]

            copy.cls_seg = observe
            output = copy([torch.zeros(shape, device=device, dtype=dtype) for shape in shapes])
            return output, embeddings, logits

        try:
            output, embeddings, logits = try_out(self.head, classify, training=True)
        except Exception as error:
            raise _no_map_head(name, f'which does not run on the pyramid {tuple(in_channels)} ({_reason(error)})') from error
        if len(logits) != 1 or output is not logits[0]:
            raise _no_map_head(name, 'which gives something else')
        self.head.cls_seg = _leave_unclassified
        return embeddings[0].shape[1]

    def predictor(self, embedding: Tensor) -> Tensor:
        return type(self.head).cls_seg(self.head, embedding)

    def embed(self, features: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        embedding = self.head([feature for feature in features if feature is not None])
        return embedding, embedding


def _reason(error: Exception) -> str:
    return f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}'


def _no_map_head(name: str, found: str) -> ArgumentError:
    return ArgumentError(
        f'A decode head of mmseg should give one map by classifying each pixel of its features, to serve here. Found {name}, '
        f'{found}; a whole config of mmseg runs it.'
    )
