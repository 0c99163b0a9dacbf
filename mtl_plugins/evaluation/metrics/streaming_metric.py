"""The part that all metrics share: constant memory, and one exact sum over processes."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.evaluator import BaseMetric

from mtl_plugins.errors import ArgumentError, EvaluationError


class StreamingMetric(BaseMetric):
    """A metric that adds each image to a few counters, which are summed over processes in ``evaluate``.

    A distributed sampler repeats samples until every process has equally many. With W processes the sample with
    ``sample_idx`` i counts in process ``i % W`` only, which is where mmengine's ``DefaultSampler`` without shuffling puts
    it first. ``evaluate`` checks that as many samples were counted as the data set holds.

    Subclasses implement ``reset``, ``update``, ``counters`` and ``scores``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._num_samples = np.zeros(1, dtype=np.int64)
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Start from zero."""

    @abstractmethod
    def update(self, sample: Mapping[str, Any]) -> None:
        """Add one sample, a ``SegDataSample`` as a dict; raise ValueError if a map is missing or invalid."""

    @abstractmethod
    def counters(self) -> list[np.ndarray]:
        """The int64 and float64 arrays that hold the state; summed over processes in place."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """The scores under their full names."""

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Adds the samples that belong to this process.

        Raises:
            EvaluationError: If a sample is invalid (a prediction that is not finite, say); the message names its image. Also
                if several processes evaluate samples without ``sample_idx``.
        """
        world_size, rank = get_world_size(), get_rank()
        for sample in data_samples:
            if world_size > 1:
                if 'sample_idx' not in sample:
                    raise EvaluationError('`sample_idx` should be in every data sample to evaluate with several processes.')
                if sample['sample_idx'] % world_size != rank:
                    continue
            try:
                self.update(sample)
            except (TypeError, ValueError) as error:
                raise EvaluationError(f'Cannot evaluate {_sample_name(sample)}: {error}') from error
            self._num_samples += 1

    def evaluate(self, size: int) -> dict[str, float]:
        """The scores over all processes; resets the metric.

        Args:
            size: Number of samples of the data set.

        Raises:
            EvaluationError: If another number of samples was counted.
        """
        arrays = [self._num_samples, *self.counters()]
        for array in arrays:
            all_reduce(torch.from_numpy(array))
        num_samples = int(self._num_samples[0])
        scores = self.scores()
        self._num_samples[:] = 0
        self.reset()
        if num_samples != size:
            raise EvaluationError(
                f'{type(self).__name__} counted {num_samples} samples, the data set holds {size}. Evaluate every sample once, '
                'in order: use a sampler without shuffling, such as `DefaultSampler(shuffle=False)`.'
            )
        return scores

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The scores of this process alone. ``results`` is unused: nothing is collected per sample."""
        return self.scores()


def get_map(sample: Mapping[str, Any], key: str) -> np.ndarray:
    """The ``(H, W)`` array of a ``PixelData`` entry ``(1, H, W)``, or ``(H, W, 3)`` of vectors ``(3, H, W)``, on the host.

    Half precision becomes float32. Raise ValueError if the entry is missing or not one map.
    """
    if key not in sample:
        raise ValueError(f'`{key}` is missing.')
    data = sample[key]['data']
    if data.ndim != 3 or len(data) not in (1, 3):
        raise ArgumentError(f'`{key}` should have the shape (1, H, W) or (3, H, W). Found {tuple(data.shape)}.')
    return to_values(data)


def to_values(data: torch.Tensor) -> np.ndarray:
    """The ``(H, W)`` array of a map ``(1, H, W)``, or ``(H, W, 3)`` of vectors ``(3, H, W)``; half precision becomes float32."""
    if data.dtype in (torch.float16, torch.bfloat16):
        data = data.float()
    data = data.detach()
    return (data[0] if len(data) == 1 else data.permute(1, 2, 0)).cpu().numpy()


def _sample_name(sample: Mapping[str, Any]) -> str:
    return str(sample.get('img_path') or f'sample {sample.get("sample_idx", "without index")}')
