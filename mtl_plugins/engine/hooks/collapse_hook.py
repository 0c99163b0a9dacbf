"""A word of warning when self-distillation stops telling images apart."""

import math

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.engine.state import unwrap
from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import HOOKS

_TERMS = ('entropy', 'kl', 'marginal_entropy')
_ADVICE = {
    'dominated': (
        'one output dominates: nearly all images get the same one. Centring is too weak: let the centre follow faster '
        '(`model.centre_momentum` lower) or sharpen less (`teacher_temperature` of DINOScheduleHook higher).'
    ),
    'uniform': (
        'the teacher gives every output the same probability and the student agrees. Sharpening is too weak: lower '
        '`teacher_temperature` of DINOScheduleHook or lengthen `temperature_epochs`, or lower the learning rate.'
    ),
}


def find_collapse(
    entropy: float, kl: float, marginal_entropy: float, num_outputs: int, *, margin: float, max_kl: float
) -> str | None:
    """The kind of collapse, ``'dominated'`` or ``'uniform'``, or None.

    Both kinds of the paper (arXiv 2104.14294, section 5.3) give every image the same distribution. With K outputs, in nats:

    * dominated: the entropy of the mean distribution is below ``margin log K``. It bounds the mean entropy of the images'
      distributions from above, but that alone proves nothing: a teacher that is sure of different outputs for different images
      has an entropy near 0 as well.
    * uniform: the mean entropy is above ``(1 - margin) log K``, and the divergence of student and teacher is below ``max_kl``. At
      the start the centred teacher is close to uniform too, but the student, at its higher temperature, not yet.

    Args:
        entropy: Mean entropy of the teacher's distributions.
        kl: Mean divergence of the student's from the teacher's.
        marginal_entropy: Entropy of the mean of the teacher's distributions.
        num_outputs: K.
        margin: As a share of log K.
        max_kl: In nats.
    """
    log_outputs = math.log(num_outputs)
    if marginal_entropy < margin * log_outputs:
        return 'dominated'
    if entropy > (1 - margin) * log_outputs and kl < max_kl:
        return 'uniform'
    return None


@HOOKS.register_module()
class CollapseHook(Hook):
    """Warn once, in words, when the means of several intervals in a row meet the criterion of :func:`find_collapse`.

    The values themselves are in the log: ``entropy``, ``kl`` and ``marginal_entropy``.

    Args:
        interval: Iterations whose mean is judged; one transfer from the device each.
        patience: Intervals in a row.
        margin: Of :func:`find_collapse`.
        max_kl: Of :func:`find_collapse`.

    Raises:
        ArgumentError: If ``interval`` or ``patience`` is below 1, or ``margin`` is not in (0, 0.5).
    """

    def __init__(self, *, interval: int = 50, patience: int = 3, margin: float = 0.02, max_kl: float = 0.02) -> None:
        if interval < 1 or patience < 1:
            raise ArgumentError(f'`interval` and `patience` should be at least 1. Found {interval} and {patience}.')
        if not 0 < margin < 0.5:
            raise ArgumentError(f'`margin` should be in (0, 0.5). Found {margin}.')
        self.interval = interval
        self.patience = patience
        self.margin = margin
        self.max_kl = max_kl
        self._pending: list[torch.Tensor] = []
        self._kinds: list[str | None] = []
        self._warned = False

    @master_only
    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None) -> None:
        if self._warned:
            return
        self._pending.append(torch.stack([outputs[name].float() for name in _TERMS]))
        if len(self._pending) < self.interval:
            return
        means = torch.stack(self._pending).mean(0).tolist()
        self._pending.clear()
        model = unwrap(runner.model)
        num_outputs = len(model.centre)
        kind = find_collapse(*means, num_outputs, margin=self.margin, max_kl=self.max_kl)
        self._kinds = [*self._kinds, kind][-self.patience :]
        if kind is not None and self._kinds == [kind] * self.patience:
            self._warned = True
            values = ', '.join(f'{name} {value:.3f}' for name, value in zip(_TERMS, means, strict=True))
            runner.logger.warning(
                f'The training has collapsed by iteration {runner.iter + 1}: {_ADVICE[kind]} Features of such a run are of no '
                f'use; start anew. Over the last {self.interval} iterations: {values}; log of {num_outputs} outputs '
                f'{math.log(num_outputs):.3f}.'
            )
