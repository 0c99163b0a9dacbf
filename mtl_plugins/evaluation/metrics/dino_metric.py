"""The loss of self-distillation on views of the validation split, and what tells whether it collapsed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.metrics.streaming_metric import StreamingMetric
from mtl_plugins.registry import METRICS

_TERMS = ('loss', 'entropy', 'kl')


@METRICS.register_module()
class DINOMetric(StreamingMetric):
    """``dino/loss``, ``dino/entropy`` and ``dino/kl``, means over images of the terms of :class:`DINOTerms`, in nats.

    Also ``dino/marginal_entropy``, of the mean of the teacher's distributions over the whole split. Its excess over
    ``dino/entropy`` is the mutual information of image and output: 0 if the teacher says the same of every image. It is at most
    the logarithm of the number of outputs.

    Samples: dicts with ``loss``, ``entropy``, ``kl`` and ``probabilities``, as :meth:`DINO.predict` gives them.
    """

    default_prefix = 'dino'

    def reset(self) -> None:
        self._sums = np.zeros(len(_TERMS))
        self._probabilities: np.ndarray | None = None

    def update(self, sample: Mapping[str, Any]) -> None:
        terms = np.array([float(sample[name]) for name in _TERMS])
        if not np.isfinite(terms).all():
            raise ArgumentError(f'{", ".join(_TERMS)} should be finite. Found {terms.tolist()}.')
        self._sums += terms
        probabilities = sample['probabilities'].double().cpu().numpy()
        self._probabilities = probabilities if self._probabilities is None else self._probabilities + probabilities

    def counters(self) -> list[np.ndarray]:
        if self._probabilities is None:
            raise ArgumentError('A process has no validation sample. Use fewer processes or more samples.')
        return [self._sums, self._probabilities]

    def score_rules(self) -> dict[str, str | None]:
        return {'dino/loss': 'less', **dict.fromkeys(('dino/entropy', 'dino/kl', 'dino/marginal_entropy'))}

    def scores(self) -> dict[str, float]:
        num_samples = self._num_samples[0]
        shares = self._probabilities[self._probabilities > 0] / num_samples
        scores = {f'dino/{name}': float(total / num_samples) for name, total in zip(_TERMS, self._sums, strict=True)}
        return scores | {'dino/marginal_entropy': float(-(shares * np.log(shares)).sum())}
