"""The loss of DINO (arXiv 2104.14294) and what it consists of.

Axes: V views, G global views (the first of the V), B images, K outputs of the projection head.
"""

from typing import NamedTuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mtl_plugins.errors import ArgumentError


class DINOTerms(NamedTuple):
    """What :func:`dino_terms` gives. ``loss = entropy + kl`` for every image.

    Attributes:
        loss: Mean cross-entropy over the pairs of a teacher's and another student's view, ``(B,)``.
        entropy: Mean entropy of the teacher's distributions, in nats, ``(B,)``; no gradient.
        kl: Mean Kullback-Leibler divergence of the student's from the teacher's over the pairs, in nats, ``(B,)``; no gradient.
        probabilities: The teacher's distribution, mean over its views, ``(B, K)``; no gradient.
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
    """The loss of each image over all pairs of views, ``1 / (G (V - 1)) sum_i sum_(j != i) -<p_i, log q_j>``.

    ``p_i = softmax((teacher_i - centre) / teacher_temperature)``, for the G global views; ``q_j = softmax(student_j /
    student_temperature)``, for all V views. Computed in float32, or in float64 if the logits are, whatever autocast says.

    Args:
        student_VBK: Logits of the student, global views first.
        teacher_GBK: Logits of the teacher for the same global views.
        centre_K: Subtracted from the teacher's logits.
        student_temperature: Positive.
        teacher_temperature: Positive; a lower one sharpens.

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
    """The centre ``(K,)`` for which the mean of ``softmax((logits - centre) / temperature)`` over N views of images is uniform.

    Sinkhorn-Knopp in float64, as SwAV (arXiv 2006.09882) and DINOv2 (arXiv 2304.07193) use it, written as a centre: each
    iteration normalises the outputs over the views of all processes, then the views over the outputs. The outputs come first,
    which is much closer to uniform after three iterations than the other way round where the logits have a common part.

    Args:
        logits_NK: In [-1, 1], those of the teacher; with several processes each gives its own.
        temperature: Of the teacher; the exponentials are finite from 0.003 on.
        iterations: More of them come closer to uniform.
    """
    scaled_NK = logits_NK.double() / temperature
    scale_N1 = torch.zeros_like(scaled_NK[:, :1])
    for _ in range(iterations):
        mass_K = (scaled_NK - scale_N1).exp().sum(0)
        all_reduce(mass_K, op='sum')
        centre_K = mass_K.log()
        scale_N1 = (scaled_NK - centre_K).logsumexp(1, keepdim=True)
    return (centre_K * temperature).to(logits_NK.dtype)


def distribution_entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats along the last axis; an outcome of probability 0 adds 0."""
    return torch.special.entr(probabilities).sum(-1)
