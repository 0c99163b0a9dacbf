"""Self-distillation without labels: DINO (arXiv 2104.14294).

Preprocessor, projection head, loss, model. Axes: V views, G global views (the first of the V), B images, K outputs of the head.
"""

import copy
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.model import BaseModel, BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.models.data_preprocessors.multitask_preprocessor import MultiTaskDataPreprocessor
from mtl_plugins.models.utils.build import QuietInit
from mtl_plugins.registry import MODELS

NUM_GLOBAL = 2


@MODELS.register_module()
class MultiViewDataPreprocessor(MultiTaskDataPreprocessor):
    """Moves a batch of views to the device and normalises them.

    In: ``inputs``, a list of uint8 ``(B, H, W, 3)`` RGB, sizes differing between views, or one such tensor; ``labels``,
    ``sample_idx`` and ``metainfo``, all optional. Out: ``inputs``, a list of float32 ``(B, 3, H, W)`` in the channels-last memory
    format, and the others as they came.

    Args:
        mean: Per channel, on 0..255.
        std: Per channel, on 0..255.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean=mean, std=std, labels={})

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        views = [data['inputs']] if isinstance(data['inputs'], Tensor) else data['inputs']
        others = {key: data[key] for key in ('labels', 'sample_idx', 'metainfo') if key in data}
        return dict(inputs=[self.to_inputs(view) for view in views], **others)


class NormalisedLinear(nn.Module):
    """Cosines ``(..., out_channels)`` between inputs ``(..., in_channels)`` and learned directions, always in float32."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            weight = self.weight.float()
            return F.linear(F.normalize(features.float(), dim=-1), F.normalize(weight, dim=-1))


@MODELS.register_module()
class DINOHead(BaseModule):
    """MLP with GELU to a bottleneck, L2 normalisation, and a weight-normalised layer to ``out_channels`` logits in [-1, 1].

    Args:
        in_channels: Width of the pooled features.
        hidden_channels: Width of the MLP.
        bottleneck_channels: Width of what is normalised.
        out_channels: Outputs K; the paper has 65536, small data need far fewer.
        num_layers: Linear layers of the MLP, the one to the bottleneck included.
        batch_norm: Normalise before each GELU: the features of a convolutional network with random weights hardly differ between
            images.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        hidden_channels: int = 2048,
        bottleneck_channels: int = 256,
        out_channels: int = 65536,
        num_layers: int = 3,
        batch_norm: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_layers < 1:
            raise ArgumentError(f'`num_layers` should be at least 1. Found {num_layers}.')
        if out_channels < 2:
            raise ArgumentError(f'`out_channels` should be at least 2. Found {out_channels}.')
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), bottleneck_channels]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layer = nn.Linear(width, next_width)
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.BatchNorm1d(next_width), nn.GELU()] if batch_norm else [layer, nn.GELU()]
        self.mlp = nn.Sequential(*layers[: -2 if batch_norm else -1])
        self.last_layer = NormalisedLinear(bottleneck_channels, out_channels)
        self.out_channels = out_channels

    def forward(self, features: Tensor) -> Tensor:
        return self.last_layer(self.mlp(features))


class DINOTerms(NamedTuple):
    """Terms of :func:`dino_terms`; ``loss = entropy + kl`` for every image, and only the loss has a gradient.

    Attributes:
        loss: Mean cross-entropy over the pairs of a teacher's and another student's view, ``(B,)``.
        entropy: Mean entropy of the teacher's distributions, in nats, ``(B,)``.
        kl: Mean Kullback-Leibler divergence of the student's from the teacher's over the pairs, in nats, ``(B,)``.
        probabilities: The teacher's distribution, mean over its views, ``(B, K)``.
    """

    loss: Tensor
    entropy: Tensor
    kl: Tensor
    probabilities: Tensor


def dino_terms(
    student_VBK: Tensor,
    teacher_GBK: Tensor,
    centre_K: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float | Tensor,
) -> DINOTerms:
    """Return the loss of each image over all pairs of views, ``1 / (G (V - 1)) sum_i sum_(j != i) -<p_i, log q_j>``.

    ``p_i = softmax((teacher_i - centre) / teacher_temperature)``, for the G global views; ``q_j = softmax(student_j /
    student_temperature)``, for all V views. Logits are ``(V, B, K)`` and ``(G, B, K)``, the centre is
    ``(K,)``. Computed in float32, or in float64 if the logits are, whatever autocast says.

    Raises:
        ArgumentError: If there is no pair of different views.
    """
    num_global, num_views = len(teacher_GBK), len(student_VBK)
    if not 1 <= num_global <= num_views or num_views < 2:
        raise ArgumentError(
            f'`student_VBK` should hold at least two views, the global ones among them. Found {num_views} views, {num_global} '
            'global.'
        )
    dtype = torch.promote_types(student_VBK.dtype, torch.float32)
    with torch.autocast(student_VBK.device.type, enabled=False):
        log_teacher = ((teacher_GBK.detach().to(dtype) - centre_K) / teacher_temperature).log_softmax(-1)
        teacher = log_teacher.exp()
        log_student = (student_VBK.to(dtype) / student_temperature).log_softmax(-1)
        cross_entropy_GVB = -torch.einsum('gbk,vbk->gvb', teacher, log_student)
        same_view_GV = torch.eye(num_global, num_views, dtype=torch.bool, device=cross_entropy_GVB.device)
        loss = cross_entropy_GVB.masked_fill(same_view_GV[..., None], 0).sum((0, 1)) / (num_global * (num_views - 1))
        entropy = -(teacher * log_teacher).sum(-1).mean(0)
    return DINOTerms(loss, entropy, loss.detach() - entropy, teacher.mean(0))


@torch.no_grad()
def sinkhorn_centre(logits_NK: Tensor, temperature: float | Tensor, iterations: int = 3) -> Tensor:
    """Find the centre ``(K,)`` that makes the mean of ``softmax((logits - centre) / temperature)`` over N views uniform.

    Sinkhorn-Knopp in float64, as SwAV (arXiv 2006.09882) and DINOv2 (arXiv 2304.07193) use it, written as a centre: each
    iteration normalises the outputs over the views of all processes, then the views over the outputs. That order is much closer
    to uniform after three iterations where the logits have a common part. The exponentials of logits in [-1, 1] are finite for
    temperatures from 0.003 on.
    """
    scaled_NK = logits_NK.double() / temperature
    scale_N1 = torch.zeros_like(scaled_NK[:, :1])
    for _ in range(iterations):
        mass_K = (scaled_NK - scale_N1).exp().sum(0)
        all_reduce(mass_K, op='sum')
        centre_K = mass_K.log()
        scale_N1 = (scaled_NK - centre_K).logsumexp(1, keepdim=True)
    return (centre_K * temperature).to(logits_NK.dtype)


class ProjectedBackbone(BaseModule):
    """A backbone, the mean over its coarsest map, and a projection head."""

    def __init__(self, backbone: dict, head: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        # A plain vision transformer has one map, which is not the last of the pyramid.
        *_, width = (width for width in self.backbone.out_channels if width is not None)
        self.head = MODELS.build({'in_channels': width, **head})

    def pool(self, images: Tensor) -> Tensor:
        *_, coarsest = (feature for feature in self.backbone(images) if feature is not None)
        return coarsest.mean((2, 3))

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Logits ``(V, B, K)`` of V views ``(B, 3, H, W)``; neighbours of one size share a pass through the backbone."""
        groups = [torch.cat(list(group)) for _, group in groupby(views, key=lambda view: view.shape)]
        logits = self.head(torch.cat([self.pool(group) for group in groups]))
        return logits.view(len(views), len(views[0]), -1)


@MODELS.register_module()
class DINO(QuietInit, BaseModel):
    """A student learns to predict, from any view of an image, what its own slow average predicts from another.

    Student and teacher are a backbone and a projection head each. The teacher sees the two global views, which are first, the
    student all of them; the loss is that of :func:`dino_terms`, averaged over images.

    * The teacher gets no gradients. It starts as a copy of the student and follows it by :meth:`update_teacher`, which
      :class:`DINOScheduleHook` calls after each optimizer step.
    * As in the paper, the teacher's BatchNorm layers normalise by the batch in training and keep running statistics of their
      own. Everything else of the teacher is in evaluation mode.
    * ``centre`` is a moving average over batches, updated by each forward pass in training. With ``centring='mean'``, the
      paper's, it averages the mean of the teacher's logits over images, global views and processes, and serves the next batch.
      With ``'sinkhorn'`` it averages :func:`sinkhorn_centre`, by which a batch is centred itself in training, so that every
      output is used from the first iterations on. Validation uses ``centre`` in either case.

    Args:
        backbone: Config of any backbone of the project; its coarsest map is used.
        projection_head: Config, without ``in_channels``.
        data_preprocessor: Config.
        student_temperature: Of the student's distribution.
        teacher_temperature: Of the teacher's, until a hook sets the buffer of that name.
        centring: ``'mean'`` or ``'sinkhorn'``.
        centre_momentum: Share of the old centre in the new one, in [0, 1).
        channels_last: As in :class:`MultiTaskSegmentor`.
    """

    def __init__(
        self,
        *,
        backbone: dict,
        projection_head: dict,
        data_preprocessor: dict | None = None,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        centring: str = 'mean',
        centre_momentum: float = 0.9,
        channels_last: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if min(student_temperature, teacher_temperature) <= 0:
            raise ArgumentError(f'Temperatures should be positive. Found {student_temperature} and {teacher_temperature}.')
        if not 0 <= centre_momentum < 1:
            raise ArgumentError(f'`centre_momentum` should be in [0, 1). Found {centre_momentum}.')
        check_choice('centring', centring, ('mean', 'sinkhorn'))
        self.student = ProjectedBackbone(backbone, projection_head)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.student_temperature = student_temperature
        self.centring = centring
        self.centre_momentum = centre_momentum
        self.register_buffer('centre', torch.zeros(self.student.head.out_channels))
        self.register_buffer('teacher_temperature', torch.tensor(float(teacher_temperature)))
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def init_weights(self) -> None:
        super().init_weights()
        self.teacher.load_state_dict(self.student.state_dict())

    def train(self, mode: bool = True) -> 'DINO':
        super().train(mode)
        self.teacher.eval()
        for module in self.teacher.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode)
        return self

    def forward(
        self,
        inputs: Sequence[Tensor] | Tensor,
        labels: Tensor | None = None,
        sample_idx: Tensor | None = None,
        metainfo: list[dict] | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[dict] | Tensor:
        """Losses, terms per image or features of normalised views ``(B, 3, H, W)``.

        Args:
            inputs: The views, global ones first; for ``'tensor'`` a tensor or a list of which the first counts.
            labels: Ignored, like ``metainfo``.
            sample_idx: Positions in the dataset, ``(B,)``.
            mode: ``'loss'`` for ``loss_dino`` and, only logged, ``entropy``, ``kl`` and ``marginal_entropy``; ``'predict'`` for a
                dict per image as :class:`DINOMetric` reads it; ``'tensor'`` for the teacher's features ``(B, C)``.
        """
        views = [inputs] if isinstance(inputs, Tensor) else inputs
        views = [view.contiguous(memory_format=self.memory_format) for view in views]
        if mode == 'loss':
            return self.loss(views)
        if mode == 'predict':
            return self.predict(views, sample_idx)
        if mode == 'tensor':
            return self.teacher.pool(views[0])
        raise ArgumentError(f"`mode` should be 'loss', 'predict' or 'tensor'. Found {mode!r}.")

    def compare_views(self, views: Sequence[Tensor]) -> DINOTerms:
        with torch.no_grad():
            teacher_GBK = self.teacher(views[:NUM_GLOBAL])
        batch_centre_K = self.find_centre(teacher_GBK) if self.training else self.centre
        terms = dino_terms(
            self.student(views),
            teacher_GBK,
            batch_centre_K if self.centring == 'sinkhorn' else self.centre,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
        )
        if self.training:
            self.centre.lerp_(batch_centre_K, 1 - self.centre_momentum)
        return terms

    @torch.no_grad()
    def find_centre(self, teacher_GBK: Tensor) -> Tensor:
        """Return the centre ``(K,)`` of a batch, over global views, images and processes (of equal batches)."""
        logits_NK = teacher_GBK.float().flatten(0, 1)
        if self.centring == 'sinkhorn':
            return sinkhorn_centre(logits_NK, self.teacher_temperature)
        mean_K = logits_NK.mean(0)
        all_reduce(mean_K, op='mean')
        return mean_K

    def loss(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        terms = self.compare_views(views)
        return dict(
            loss_dino=terms.loss.mean(),
            entropy=terms.entropy.mean(),
            kl=terms.kl.mean(),
            marginal_entropy=torch.special.entr(terms.probabilities.mean(0)).sum(-1),
        )

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss that is minimised, and all values as tensors without gradient. mmengine calls this in ``train_step``."""
        total = losses['loss_dino']
        return total, {'loss': total.detach(), **{name: value.detach() for name, value in losses.items()}}

    def predict(self, views: Sequence[Tensor], sample_idx: Tensor | None = None) -> list[dict]:
        """Per image ``loss``, ``entropy``, ``kl`` (scalars), ``probabilities`` ``(K,)`` and, if given, ``sample_idx``."""
        terms = self.compare_views(views)
        samples = [dict(zip(DINOTerms._fields, values, strict=True)) for values in zip(*terms, strict=True)]
        if sample_idx is not None:
            for sample, position in zip(samples, sample_idx.tolist(), strict=True):
                sample['sample_idx'] = position
        return samples

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Set ``teacher <- momentum teacher + (1 - momentum) student``, parameters only."""
        teacher, student = ([*network.parameters()] for network in (self.teacher, self.student))
        torch._foreach_lerp_(teacher, student, 1 - momentum)
