"""Losses of mmseg and of torch, and lists of losses, for label maps and for depth."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.utils.build import build_part
from mtl_plugins.registry import MODELS, TASK_UTILS
from mtl_plugins.utils.data_files import find_in_library

IGNORED_LABEL = 255
# What a depth loss of another library compares, unless its config says `space`.
SPACES = {'SiLogLoss': 'metres'}


def is_own(config: dict) -> bool:
    """Whether a loss is one of this package's kind: it has a ``name`` for the log and handles invalid labels itself."""
    kind = MODELS.get(config['type']) if not config['type'].startswith('torch.') else None
    return kind is not None and (hasattr(kind, 'name') or kind.__module__.startswith('mtl_plugins.'))


def build_losses(loss: dict | Sequence[dict], build_foreign: Any) -> ModuleList:
    """Build a loss or a list of losses, each with its ``name``.

    Args:
        loss: Config or configs.
        build_foreign: Makes a loss of another library one of this package's kind.

    Raises:
        ArgumentError: If there is none, or two have one name.
    """
    configs = [loss] if isinstance(loss, dict) else list(loss)
    built = ModuleList(MODELS.build(config) if is_own(config) else build_foreign(config) for config in configs)
    names = [criterion.name for criterion in built]
    if not names or len(set(names)) < len(names):
        raise ArgumentError(f'`loss` should be a loss, or losses with different names; `loss_name` sets one. Found {names}.')
    return built


def build_library_loss(config: dict, **defaults: Any) -> tuple[nn.Module, str, float]:
    """A loss of mmseg's or torch's, the name for the log, and the weight that it does not apply itself.

    Args:
        config: ``type`` is that of a registered class, or ``torch.<class of torch.nn>``; ``loss_weight`` and ``loss_name`` may
            stand beside the arguments of either.
        **defaults: Arguments for a class that takes them, where the config does not say otherwise.

    Raises:
        ArgumentError: If there is no such loss, or it does not take the arguments.
    """
    config = dict(config)
    kind_name = config['type'].removeprefix('torch.')
    kind = find_in_library(config['type']) if config['type'].startswith('torch.') else MODELS.get(config['type'])
    if kind is None or not inspect.isclass(kind):
        raise ArgumentError(f'`loss` should be a loss of this package, of mmseg or of torch.nn. Found {config["type"]!r}.')
    parameters = inspect.signature(kind).parameters
    weight = 1.0 if 'loss_weight' in parameters else config.pop('loss_weight', 1.0)
    name = None if 'loss_name' in parameters else config.pop('loss_name', None)
    config = {**{key: value for key, value in defaults.items() if key in parameters}, **config}
    try:
        if config['type'].startswith('torch.'):
            for key, value in config.items():
                if key == 'weight' and value is not None:
                    config[key] = torch.tensor(value, dtype=torch.float32)
            loss = kind(**{key: value for key, value in config.items() if key != 'type'})
        else:
            loss = build_part(config)
    except (AssertionError, TypeError) as error:
        raise ArgumentError(f'The arguments of {config["type"]} should be what it takes. Found {config} ({error}).') from error
    snake = re.sub('(?<=[a-z])(?=[A-Z])', '_', kind_name.removesuffix('Loss')).lower()
    name = name or getattr(loss, 'loss_name', None) or snake
    return loss, name.removeprefix('loss_'), weight


class LabelLoss(nn.Module):
    """A loss of mmseg or torch on logits and labels, of coarse logits against a finer label map.

    The logits are upsampled to the label's size (bilinear, corners not aligned), for the whole batch; computed in float32. Pixels
    with label 255 do not count: a loss that takes ``ignore_index`` gets 255, and mmseg's cross-entropy divides by the number of
    valid pixels (``avg_non_ignore=True``, unless the config says otherwise). A loss that would let ignored pixels count all the
    same, such as mmseg's DiceLoss, sees the valid pixels of each image only, and the mean over the images that have one is
    taken; so does one that wants one-hot labels, as mmseg's FocalLoss on a CPU. Nothing valid: exactly 0 with gradient 0.

    Args:
        config: Of the loss.
        sampler: Config of a pixel sampler of mmseg, such as ``dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000)``, or
            None.

    Raises:
        ArgumentError: If the loss does not compare logits ``(B, C, H, W)`` with labels ``(B, H, W)``, or takes no weights of
            pixels though there is a sampler.
    """

    def __init__(self, config: dict, sampler: dict | None = None) -> None:
        super().__init__()
        self.loss_decode, self.name, self.weight = build_library_loss(
            config, avg_non_ignore=True, ignore_index=IGNORED_LABEL, ignore_label=IGNORED_LABEL
        )
        parameters = inspect.signature(self.loss_decode.forward).parameters
        accepts = {key for key in ('ignore_index', 'weight') if key in parameters}
        if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
            accepts.add('ignore_index')
        self.options = dict(ignore_index=IGNORED_LABEL) if 'ignore_index' in accepts else {}
        # What a sampler of mmseg asks its decode head.
        self.ignore_index = IGNORED_LABEL
        self.sampler = None
        if sampler is not None:
            if 'weight' not in accepts:
                raise ArgumentError(
                    f'`sampler` needs a loss with weights of pixels, as mmseg.CrossEntropyLoss. Found {config["type"]}.'
                )
            self.sampler = TASK_UTILS.build(sampler, default_args=dict(context=_Context(self.loss_decode)))
        self.way = self._choose(config['type'])
        if sampler is not None and self.way != '_compare':
            raise ArgumentError(f'`sampler` needs a loss of whole batches, as mmseg.CrossEntropyLoss. Found {config["type"]}.')

    @property
    def class_weight(self) -> Sequence[float] | Tensor | None:
        """A weight per class, of losses that have them."""
        weights = getattr(self.loss_decode, 'class_weight', None)
        return getattr(self.loss_decode, 'weight', None) if weights is None else weights

    def _choose(self, kind: str) -> str:
        """How to call the loss: with the batch, or with the valid pixels of one image after the other. Tried on an example."""
        generator = torch.Generator().manual_seed(0)
        classes = len(self.class_weight) if self.class_weight is not None else 3
        logits = torch.randn(2, classes, 4, 4, generator=generator)
        labels = torch.randint(logits.shape[1], (2, 4, 4), generator=generator)
        labels[:, 0] = IGNORED_LABEL
        changed = logits.clone()
        changed[:, :, 0] += torch.randn(changed[:, :, 0].shape, generator=generator)
        reason = None
        for way in ('_compare', '_compare_images', '_compare_one_hot'):
            try:
                losses = [getattr(self, way)(values, labels, None) for values in (logits, changed)]
            except Exception as error:
                reason = reason or error
                continue
            if losses[0].ndim == 0 and torch.isclose(*losses):
                return way
        found = f'{kind} ({str(reason).splitlines()[0]})' if reason else kind
        raise ArgumentError(f'`loss` should compare logits (B, C, H, W) with labels (B, H, W) and give a number. Found {found}.')

    def _compare(self, logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        options = self.options if weight is None else {**self.options, 'weight': weight}
        return self.loss_decode(logits, labels, **options)

    def _compare_images(self, logits: Tensor, labels: Tensor, weight: Tensor | None, one_hot: bool = False) -> Tensor:
        losses = []
        for image, label in zip(logits, labels, strict=True):
            valid = label != IGNORED_LABEL
            if valid.any():
                pixels = label[valid][None, :, None]
                pixels = F.one_hot(pixels, logits.shape[1]).permute(0, 3, 1, 2) if one_hot else pixels
                losses.append(self._compare(image[:, valid][None, :, :, None], pixels, None))
        return sum(losses) / len(losses)

    def _compare_one_hot(self, logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        return self._compare_images(logits, labels, weight, one_hot=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            logits = F.interpolate(logits.float(), size=target.shape[-2:], mode='bilinear', align_corners=False)
            labels = target.long()
            # Without labels the loss of any is taken, times 0: no division by zero, and no gradient that is not a number.
            counts = (labels != IGNORED_LABEL).any()
            labels = torch.where(counts, labels, 0)
            weight = self.sampler.sample(logits, labels[:, None]) if self.sampler else None
            loss = getattr(self, self.way)(logits, labels, weight)
            return loss * (self.weight * counts)


class _Context:
    """What a pixel sampler of mmseg reads of its decode head; no module, so that the loss is not registered twice."""

    def __init__(self, loss: nn.Module) -> None:
        self.loss_decode, self.ignore_index = loss, IGNORED_LABEL


class DepthLoss(nn.Module):
    """A loss of torch or mmseg on depth: the mean over the valid pixels of the batch, or over the images that have one.

    The loss is taken without its own reduction. One that gives a value per pixel (``torch.L1Loss``, ``torch.SmoothL1Loss``, ...)
    is averaged over valid pixels, one with a value per image (mmseg's SiLogLoss, which leaves pixels at 0 m out itself) over
    images with a valid pixel. Computed in float32. Nothing valid: exactly 0 with gradient 0. mmseg's SiLogLoss has no gradient
    where a prediction is perfect in an image (its square root), which training does not meet.

    Args:
        config: Of the loss; ``space`` says whether it compares ``'metres'`` (the default for mmseg's SiLogLoss) or the network's
            ``'representation'`` (the default for all others).

    Raises:
        ArgumentError: If the loss gives neither a value per pixel nor one per image, ``space`` is neither, or it asks for another
            reduction than the mean.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        config = dict(config)
        kind = config['type']
        self.space = config.pop('space', SPACES.get(kind.rpartition('.')[2], 'representation'))
        if self.space not in ('metres', 'representation'):
            raise ArgumentError(f"`space` should be 'metres' or 'representation'. Found {self.space!r}.")
        if config.pop('reduction', 'mean') != 'mean':
            raise ArgumentError(f"`reduction` of {kind} should be 'mean', over the valid pixels. Found another.")
        self.loss, self.name, self.weight = build_library_loss({**config, 'reduction': 'none'})
        example = torch.linspace(1, 2, 16).view(2, 2, 4)
        try:
            shape = self.loss(example, example + 1).shape
        except Exception as error:
            raise ArgumentError(f'`loss` should compare depths (B, H, W). Found {kind} ({error}).') from error
        if shape not in (example.shape, example.shape[:1]):
            raise ArgumentError(
                f'`loss` of depth should give a value per pixel or per image. Found {kind}, which gives {tuple(shape)}.'
            )

    def forward(self, prediction: Tensor, target: Tensor, valid_mask: Tensor) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            # No gradient of an invalid pixel, not even one that is not a number, passes `where`.
            prediction = torch.where(valid_mask, prediction.float(), 1.0)
            losses = self.loss(prediction, torch.where(valid_mask, target.float(), 0.0))
            counted = valid_mask if losses.ndim > 1 else valid_mask.flatten(1).any(1)
            return self.weight * torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)
