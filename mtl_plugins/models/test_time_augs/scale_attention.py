"""A model that sees an image at several scales and learns which of them counts where."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.decode_heads.heads import width_of
from mtl_plugins.models.segmentors.multitask_segmentor import MultiTaskSegmentor
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.models.test_time_augs.multitask_tta_model import scaled_size
from mtl_plugins.models.utils.weights import load_pretrained
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class ScaleAttentionSegmentor(MultiTaskSegmentor):
    r"""A :class:`MultiTaskSegmentor` at several scales, weighed at each pixel by attention (arXiv 1511.03339).

    The prediction of a task is :math:`\sum_s w_s y_s` with the heads' output :math:`y_s` at scale s and the softmax
    :math:`w` over the scales of what a 3x3 convolution, a ReLU and a 1x1 give for the coarsest feature maps of all scales,
    concatenated; each task has its own. Maps are resized to those of the largest scale (bilinear, corners not aligned), and so
    is the image, to multiples of the data preprocessor's ``size_divisor``. The 1x1 starts at 0, the mean over the scales.

    Args:
        scales: Two or more different factors on height and width, each > 0.
        channels: Width of the 3x3 convolution.
        frozen: Train the attention alone, the rest in evaluation mode. Otherwise all is trained, and the prediction of each scale
            is charged next to the merged one, as in the paper.
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=...)`` with a checkpoint of the same model without attention.
        **kwargs: Of :class:`MultiTaskSegmentor`; there is no ``auxiliary_head``, and the task balancing weighs losses.
    """

    def __init__(
        self, *, scales: Sequence[float] = (0.5, 0.75, 1.0), channels: int = 64, frozen: bool = True, **kwargs: Any
    ) -> None:
        if len(set(scales)) < 2 or len(set(scales)) < len(scales) or min(scales) <= 0:
            raise ArgumentError(f'`scales` should be two or more different positive numbers. Found {scales}.')
        # The network is built, and tried out, by the constructor of the parent.
        self.scales, self.channels, self.frozen = tuple(sorted(scales)), channels, frozen
        super().__init__(**kwargs)
        found = dict(auxiliary_heads=len(self.auxiliary_heads), num_tasks=getattr(self.backbone, 'num_tasks', 1))
        if self.balances_gradients or found != dict(auxiliary_heads=0, num_tasks=1):
            raise ArgumentError(
                'Attention to scale should come without `auxiliary_head`, without `backbone.num_tasks`, and with a '
                f'`task_balancing` of losses. Found {type(self.task_balancing).__name__} and {found}.'
            )

    def build_network(self, *parts: Any) -> None:
        super().build_network(*parts)
        source = self.neck_order or self.neck or self.backbone_order or self.backbone
        self.attention = nn.Sequential(
            nn.Conv2d(len(self.scales) * width_of(source.out_channels, -1), self.channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(self.channels, len(self.tasks) * len(self.scales), 1),
        )
        nn.init.zeros_(self.attention[2].weight)
        nn.init.zeros_(self.attention[2].bias)
        for part in filter(None, (self.backbone, self.neck, self.decode_head)):
            part.requires_grad_(not self.frozen)

    def train(self, mode: bool = True) -> 'ScaleAttentionSegmentor':
        super().train(mode)
        if self.frozen:
            for part in filter(None, (self.backbone, self.neck, self.decode_head)):
                part.eval()
        return self

    def init_weights(self) -> None:
        if not self.init_cfg:
            super().init_weights()
            return
        own = {f'attention.{name}': value for name, value in self.attention.state_dict().items()}
        load_pretrained(self, self.init_cfg['checkpoint'], convert=lambda weights: {**weights, **own})
        self._is_init = True

    def decode(self, inputs: Tensor) -> dict[str, list[Tensor]]:
        maps, predictions, resize = [], [], DenseTask.upsample
        divisor = getattr(self.data_preprocessor, 'size_divisor', None) or 1
        for scale in self.scales:
            size = scaled_size(inputs.shape[-2:], scale, divisor)
            features = self.encode(resize(inputs, size))
            maps.append(features[-1].float())
            predictions.append(self.decode_head(features))
        size = maps[-1].shape[-2:]
        weights = self.attention(torch.cat([resize(each, size) for each in maps], dim=1))
        merged = {}
        for name, scores in zip(self.tasks, weights.chunk(len(self.tasks), dim=1), strict=True):
            outputs = [prediction[name][-1].float() for prediction in predictions]
            size = outputs[-1].shape[-2:]
            shares = resize(scores, size).softmax(1).split(1, dim=1)
            total = sum(share * resize(output, size) for share, output in zip(shares, outputs, strict=True))
            merged[name] = [total] if self.frozen or not self.training else [*outputs, total]
        return merged

    def loss(self, inputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses_of(self.decode(inputs), targets)
