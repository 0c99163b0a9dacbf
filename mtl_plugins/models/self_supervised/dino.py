"""Self-distillation without labels: DINO (arXiv 2104.14294)."""

import copy
from collections.abc import Sequence
from itertools import groupby

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModel, BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.self_supervised.dino_loss import DINOTerms, dino_terms, distribution_entropy, sinkhorn_centre
from mtl_plugins.registry import MODELS


class ProjectedBackbone(BaseModule):
    """A backbone, the mean over its coarsest map, and a projection head."""

    def __init__(self, backbone: dict, head: dict) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone)
        # A plain vision transformer has one map, which is not the last of the pyramid.
        *_, width = (width for width in self.backbone.out_channels if width is not None)
        self.head = MODELS.build({'in_channels': width, **head})

    def pool(self, images: Tensor) -> Tensor:
        """Features ``(B, C)`` of images ``(B, 3, H, W)``."""
        *_, coarsest = (feature for feature in self.backbone(images) if feature is not None)
        return coarsest.mean((2, 3))

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Logits ``(V, B, K)`` of V views ``(B, 3, H, W)``; neighbours of one size share a pass through the backbone."""
        groups = [torch.cat(list(group)) for _, group in groupby(views, key=lambda view: view.shape)]
        logits = self.head(torch.cat([self.pool(group) for group in groups]))
        return logits.view(len(views), len(views[0]), -1)


@MODELS.register_module()
class DINO(BaseModel):
    """A student learns to predict, from any view of an image, what its own slow average predicts from another.

    Student and teacher are a backbone and a projection head each. The teacher sees the first ``num_global`` views, the student
    all of them; the loss is that of :func:`dino_terms`, averaged over images.

    * The teacher gets no gradients. Its parameters follow the student's by :meth:`update_teacher`, which
      :class:`DINOScheduleHook` calls after each optimizer step. It starts as a copy of the student.
    * As in the paper, the teacher's BatchNorm layers normalise by the batch in training and keep running statistics of their
      own, neither copied nor averaged from the student's. Everything else of the teacher is in evaluation mode (no dropout, no
      drop path).
    * ``centre`` is a moving average over batches, updated by each forward pass in training. With ``centring='mean'``, the
      paper's, it averages the mean of the teacher's logits over images, global views and processes, and serves the next batch.
      With ``'sinkhorn'`` it averages :func:`sinkhorn_centre`; the batch itself is centred by its own in training, so
      that every output is used, from the first iterations on. Validation uses ``centre`` in either case.

    Args:
        backbone: Config of any backbone of the project; its coarsest map is used.
        projection_head: Config, without ``in_channels``.
        data_preprocessor: Config.
        num_global: Number of global views, the first ones of a batch.
        student_temperature: Of the student's distribution.
        teacher_temperature: Of the teacher's, until a hook sets the buffer of that name; it is part of the checkpoint, so that a
            validation of it repeats the one in training.
        centring: ``'mean'`` or ``'sinkhorn'``.
        centre_momentum: Share of the old centre in the new one.
        channels_last: As in :class:`MultiTaskSegmentor`.
        init_cfg: As in every mmengine module.

    Raises:
        ArgumentError: If a temperature is not positive, the momentum is not in [0, 1) or ``centring`` is neither.
    """

    def __init__(
        self,
        *,
        backbone: dict,
        projection_head: dict,
        data_preprocessor: dict | None = None,
        num_global: int = 2,
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
        if centring not in ('mean', 'sinkhorn'):
            raise ArgumentError(f"`centring` should be 'mean' or 'sinkhorn'. Found {centring!r}.")
        self.student = ProjectedBackbone(backbone, projection_head)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.num_global = num_global
        self.student_temperature = student_temperature
        self.centring = centring
        self.centre_momentum = centre_momentum
        self.register_buffer('centre', torch.zeros(self.student.head.out_channels))
        self.register_buffer('teacher_temperature', torch.tensor(float(teacher_temperature)))
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def init_weights(self) -> None:
        """Initialise the student, from a file if its ``init_cfg`` says so, and copy it into the teacher."""
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
            labels: Not used: DINO learns without.
            sample_idx: Positions in the dataset, ``(B,)``.
            metainfo: Not used.
            mode: ``'loss'`` for ``loss_dino`` and, only logged, ``entropy``, ``kl`` and ``marginal_entropy`` (of the mean
                distribution over the batch); ``'predict'`` for a dict per image as :class:`DINOMetric` reads it; ``'tensor'``
                for the pooled features ``(B, C)`` of the teacher's backbone.

        Raises:
            ArgumentError: If ``mode`` is none of the three.
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
        """The terms of the loss; in training, the centre moves on."""
        with torch.no_grad():
            teacher_GBK = self.teacher(views[: self.num_global])
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
        """The centre ``(K,)`` of a batch, over global views, images and processes (of equal batches)."""
        logits_NK = teacher_GBK.float().flatten(0, 1)
        if self.centring == 'sinkhorn':
            return sinkhorn_centre(logits_NK, self.teacher_temperature)
        mean_K = logits_NK.mean(0)
        all_reduce(mean_K, op='mean')
        return mean_K

    def loss(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        """``loss_dino`` and what is only logged, means over the batch."""
        terms = self.compare_views(views)
        return dict(
            loss_dino=terms.loss.mean(),
            entropy=terms.entropy.mean(),
            kl=terms.kl.mean(),
            marginal_entropy=distribution_entropy(terms.probabilities.mean(0)),
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
        """``teacher <- momentum teacher + (1 - momentum) student``, parameters only."""
        teacher, student = ([*network.parameters()] for network in (self.teacher, self.student))
        torch._foreach_lerp_(teacher, student, 1 - momentum)
