"""Losses of mmseg and of torch, and lists of losses, for label maps and for depth."""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.models.utils.build import build_part
from mtl_plugins.registry import MODELS, TASK_UTILS
from mtl_plugins.utils.data_files import find_in_library, shorten

# Losses of mmseg that let ignored pixels count, or want one-hot labels (FocalLoss, on a CPU); all others get the batch.
CALLS = {'DiceLoss': 'images', 'HuasdorffDisstanceLoss': 'images', 'FocalLoss': 'one_hot'}
REFUSED = {'BoundaryLoss': 'a map of edges', 'KLDivLoss': 'the logits of another network', 'SiLogLoss': 'depths'}
# Quantity that a depth loss of another library compares, unless its config says `space`.
SPACES = {'SiLogLoss': 'metres'}


def build_losses(loss: dict | Sequence[dict], build_foreign: Callable[[dict], nn.Module]) -> ModuleList:
    """Build a loss or a list of losses with different ``name``; one of another library by ``build_foreign``."""
    configs = [loss] if isinstance(loss, dict) else list(loss)
    built = ModuleList(MODELS.build(config) if _is_own(config) else build_foreign(config) for config in configs)
    names = [criterion.name for criterion in built]
    if not names or len(set(names)) < len(names):
        raise ArgumentError(f'`loss` should be a loss, or losses with different names; `loss_name` sets one. Found {names}.')
    return built


def _is_own(config: dict) -> bool:
    kind = MODELS.get(config['type']) if not config['type'].startswith('torch.') else None
    return kind is not None and (hasattr(kind, 'name') or kind.__module__.startswith('mtl_plugins.'))


def _build(config: dict, **defaults: Any) -> tuple[nn.Module, str, float]:
    """Build a loss of mmseg or torch; return it with its name for the log, and the weight that it does not apply itself.

    ``loss_weight`` and ``loss_name`` may be given for either; ``defaults`` are arguments for a class that takes them.
    """
    config = dict(config)
    is_torch = config['type'].startswith('torch.')
    kind = find_in_library(config['type']) if is_torch else MODELS.get(config['type'])
    if kind is None or not inspect.isclass(kind):
        raise ArgumentError(f'`loss` should be a loss of this package, of mmseg or of torch.nn. Found {config["type"]!r}.')
    parameters = inspect.signature(kind).parameters
    weight = 1.0 if 'loss_weight' in parameters else config.pop('loss_weight', 1.0)
    name = None if 'loss_name' in parameters else config.pop('loss_name', None)
    config = {**{key: value for key, value in defaults.items() if key in parameters}, **config}
    try:
        if is_torch:
            if config.get('weight') is not None:
                config['weight'] = torch.tensor(config['weight'], dtype=torch.float32)
            loss = kind(**{key: value for key, value in config.items() if key != 'type'})
        else:
            loss = build_part(config)
    except (AssertionError, TypeError) as error:
        raise ArgumentError(f'The arguments of {config["type"]} should be what it takes. Found {config} ({error}).') from error
    snake = re.sub('(?<=[a-z])(?=[A-Z])', '_', config['type'].removeprefix('torch.').removesuffix('Loss')).lower()
    name = name or getattr(loss, 'loss_name', None) or snake
    return loss, name.removeprefix('loss_'), weight


@contextmanager
def _explaining(kind: str, expected: str) -> Iterator[None]:
    """Turn an error of a loss that compares something else into a sentence."""
    try:
        yield
    except (AssertionError, IndexError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ArgumentError(f'`loss` should compare {expected}. Found {kind} ({shorten(error, 200)}).') from error


class LabelLoss(nn.Module):
    """A loss of mmseg or torch on logits and labels, of coarse logits against a finer label map.

    The logits are upsampled to the label's size (bilinear, corners not aligned), for the whole batch; computed in float32. Pixels
    with label 255 do not count: a loss that takes ``ignore_index`` gets 255, and mmseg's cross-entropy divides by the number of
    valid pixels (``avg_non_ignore=True``, unless the config says otherwise). mmseg's DiceLoss and FocalLoss get the valid pixels
    of each image alone, and the mean is over the images that have one. Nothing valid: exactly 0 with gradient 0. An ArgumentError
    where the loss fails or gives no number.

    Args:
        config: Of the loss.
        sampler: Config of a pixel sampler of mmseg, such as ``dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000)``, or
            None; for losses of whole batches that take weights of pixels.
    """

    def __init__(self, config: dict, sampler: dict | None = None) -> None:
        super().__init__()
        config = dict(config)
        self.kind = config['type']
        scope, _, kind = self.kind.rpartition('.')
        if scope != 'torch' and kind in REFUSED:
            raise ArgumentError(f'`loss` should compare logits with labels. Found {self.kind}, which wants {REFUSED[kind]}.')
        self.call = CALLS.get(kind, 'batch')
        # mmseg's cross-entropy fails on it with class weights, which leave ignored pixels out by themselves.
        avg_non_ignore = config.get('class_weight') is None or config.get('use_sigmoid', False)
        self.loss_decode, self.name, self.weight = _build(
            config, avg_non_ignore=avg_non_ignore, ignore_index=IGNORE_LABEL, ignore_label=IGNORE_LABEL
        )
        parameters = inspect.signature(self.loss_decode.forward).parameters
        takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
        self.options = dict(ignore_index=IGNORE_LABEL) if takes_any or 'ignore_index' in parameters else {}
        self.sampler = None
        if sampler is not None:
            if 'weight' not in parameters or self.call != 'batch':
                raise ArgumentError(
                    '`sampler` needs a loss of whole batches with weights of pixels, as mmseg.CrossEntropyLoss. '
                    f'Found {self.kind}.'
                )
            # Attributes that a pixel sampler reads of its decode head.
            context = SimpleNamespace(loss_decode=self.loss_decode, ignore_index=IGNORE_LABEL)
            self.sampler = TASK_UTILS.build(sampler, default_args=dict(context=context))

    @property
    def class_weight(self) -> Sequence[float] | Tensor | None:
        """A weight per class, of losses that have them."""
        weights = getattr(self.loss_decode, 'class_weight', None)
        return getattr(self.loss_decode, 'weight', None) if weights is None else weights

    def _compare_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = []
        for image, label in zip(logits, labels, strict=True):
            valid = label != IGNORE_LABEL
            if valid.any():
                pixels = label[valid][None, :, None]
                if self.call == 'one_hot':
                    pixels = F.one_hot(pixels, logits.shape[1]).permute(0, 3, 1, 2)
                losses.append(self.loss_decode(image[:, valid][None, :, :, None], pixels, **self.options))
        return sum(losses) / len(losses)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            logits = F.interpolate(logits.float(), size=target.shape[-2:], mode='bilinear', align_corners=False)
            labels = target.long()
            # Without labels the loss of any is taken, times 0: no division by zero, and no gradient that is not a number.
            counts = (labels != IGNORE_LABEL).any()
            labels = torch.where(counts, labels, 0)
            with _explaining(self.kind, 'logits (B, C, H, W) with labels (B, H, W)'):
                if self.call == 'batch':
                    weight = dict(weight=self.sampler.sample(logits, labels[:, None])) if self.sampler else {}
                    loss = self.loss_decode(logits, labels, **self.options, **weight)
                else:
                    loss = self._compare_images(logits, labels)
            if loss.ndim:
                raise ArgumentError(f'`loss` should give a number. Found {self.kind}, which gives {tuple(loss.shape)}.')
            return loss * (self.weight * counts)


class DepthLoss(nn.Module):
    """A loss of torch or mmseg on depth: the mean over the valid pixels of the batch, or over the images that have one.

    The loss is taken without its own reduction. One that gives a value per pixel (``torch.L1Loss``, ``torch.SmoothL1Loss``, ...)
    is averaged over valid pixels, one with a value per image (mmseg's SiLogLoss, which leaves pixels at 0 m out itself) over
    images with a valid pixel. Computed in float32. Nothing valid: exactly 0 with gradient 0.

    Args:
        config: Of the loss; ``space`` says if it compares ``'metres'`` (the default for mmseg's SiLogLoss) or the network's
            ``'representation'`` (the default for all others).

    Raises:
        ArgumentError: If an argument does not fit; when it is called, if it fails or gives neither a value per pixel nor one per
            image.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        config = dict(config)
        self.kind = config['type']
        self.space = config.pop('space', SPACES.get(self.kind.rpartition('.')[2], 'representation'))
        check_choice('space', self.space, ('metres', 'representation'))
        reduction = config.pop('reduction', 'mean')
        if reduction != 'mean':
            raise ArgumentError(f"`reduction` of {self.kind} should be 'mean', over the valid pixels. Found {reduction!r}.")
        self.loss, self.name, self.weight = _build({**config, 'reduction': 'none'})

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            # No gradient of an invalid pixel, not even one that is not a number, passes `where`.
            prediction = torch.where(valid_mask, prediction.float(), 1.0)
            with _explaining(self.kind, 'depths (B, H, W)'):
                losses = self.loss(prediction, torch.where(valid_mask, target.float(), 0.0))
            if losses.shape not in (valid_mask.shape, valid_mask.shape[:1]):
                raise ArgumentError(
                    '`loss` of depth should give a value per pixel or per image. '
                    f'Found {self.kind}, which gives {tuple(losses.shape)}.'
                )
            counted = valid_mask if losses.ndim > 1 else valid_mask.flatten(1).any(1)
            return self.weight * torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)
