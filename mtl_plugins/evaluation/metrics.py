"""Metrics of a validation, in constant memory and with one exact sum over processes."""

import functools
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mtl_plugins.errors import ArgumentError, EvaluationError
from mtl_plugins.evaluation.functional.depth_errors import DepthScorer
from mtl_plugins.evaluation.functional.on_device import start_measuring
from mtl_plugins.evaluation.functional.scorer import Scorer
from mtl_plugins.evaluation.scores import (
    SUMMARY_MULTITASK,
    SUMMARY_UNCLIPPED,
    TASK_SUMMARIES,
    multitask_scores,
    rule_of,
    rules_of,
    scores_of,
)
from mtl_plugins.labels.label_kind import sample_field
from mtl_plugins.labels.presets import MINISCAPES_LABELS, MINISCAPES_TASKS, build_labels
from mtl_plugins.registry import METRICS

GPU = 'cuda'


class StreamingMetric(BaseMetric):
    """Base of metrics that add each image to a few counters, which ``evaluate`` sums over processes.

    A distributed sampler repeats samples until every process has equally many. With W processes the sample with
    ``sample_idx`` i counts in process ``i % W`` only, which is where mmengine's ``DefaultSampler`` without shuffling puts
    it first.
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
        """Return the int64 and float64 arrays that hold the state; processes sum them up in place."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Return the scores by their full names."""

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Add the samples that belong to this process.

        Raises:
            EvaluationError: If a sample is invalid, with the name of its image, or if several processes evaluate samples
                without ``sample_idx``.
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
                name = sample.get('img_path') or f'sample {sample.get("sample_idx", "without index")}'
                raise EvaluationError(f'Cannot evaluate {name}: {error}') from error
            self._num_samples += 1

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the scores over all processes, and start from zero.

        Raises:
            EvaluationError: If not exactly ``size`` samples were counted.
        """
        for array in [self._num_samples, *self.counters()]:
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
        return self.scores()


@METRICS.register_module()
class MultiTaskMetric(StreamingMetric):
    """The scores of each label, ``metrics_task_<label>/*`` and ``metrics_summary/<label>``, and :func:`multitask_scores`.

    The kind of a label, as the data set has it, chooses its scores. A sample without a label does not count for it; the scores of
    a label that no sample has are NaN, with a warning. ``metrics_summary/multitask`` is 0 for a single task, and then cannot
    drive ``save_best``. Classes and depth on a GPU are compared there, and a batch waits for it once.

    Args:
        tasks: Names of the labels; by default all that the data set reads, ``load_config`` fills in those of the model. Without
            a data set the labels are MiniScapes'.
        protocol: How depth is compared, of :class:`DepthScorer`: ``'courses'``, ``'mtan'`` or ``'eigen'``.
        alignment: To what the predicted depth is fitted first, of the same: None, ``'median'``, ``'log'`` or ``'linear'``.

    Attributes:
        protocol: The two in words.
        scorers: The counters by label; those of the last evaluation, summed over processes, until the next sample comes.

    Raises:
        ArgumentError: If ``tasks`` is a string or empty, or a protocol or an alignment is unknown.
        ConfigError: If the data set has no label of a name.
    """

    default_prefix = 'metrics_summary'

    def __init__(self, tasks: Sequence[str] | None = None, protocol: str = 'courses', alignment: str | None = None) -> None:
        if isinstance(tasks, str) or (tasks is not None and not tasks):
            raise ArgumentError(f'`tasks` should be a sequence of names of labels. Found {tasks!r}.')
        self.tasks = None if tasks is None else tuple(tasks)
        self.protocol = f'{protocol}, {alignment} alignment' if alignment else protocol
        self._depth_scorer = functools.partial(DepthScorer, protocol=protocol, alignment=alignment)
        self._depth_scorer('depth')  # Says now what is wrong.
        self.scorers: dict[str, Scorer] = {}
        self._measured: dict[tuple[int, str], Any] = {}
        super().__init__()

    def reset(self) -> None:
        self._is_new = True

    def _start(self) -> None:
        """Make the scorers, whose kinds are known only once the data set is."""
        if self._is_new:
            configs, names = (self.dataset_meta or {}).get('labels'), self.tasks
            if configs is None:
                configs, names = MINISCAPES_LABELS, names or MINISCAPES_TASKS
            self.scorers = {name: kind.scorer() for name, kind in build_labels(configs, names).items()}
            for name, scorer in self.scorers.items():
                if type(scorer) is DepthScorer:
                    self.scorers[name] = self._depth_scorer(name)
            self._is_new = False

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        self._start()
        self._measured = self._measure_on_device(data_samples)
        try:
            super().process(data_batch, data_samples)
        finally:
            self._measured = {}

    def _measure_on_device(self, samples: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], Any]:
        """Results of :meth:`Scorer.measure` by the identity of the sample and the name of the label, of valid maps on a GPU."""
        started = []
        for sample in samples:
            for name, scorer in self.scorers.items():
                maps = [sample.get(f'{prefix}_{sample_field(name)}') for prefix in ('gt', 'pred')]
                if None not in maps and all(each['data'].device.type == GPU for each in maps):
                    measuring = start_measuring(scorer, *(each['data'].detach() for each in maps))
                    if measuring is not None:
                        started.append(((id(sample), name), *measuring))
        if not started:
            return {}
        vectors = torch.cat([vector for _, vector, _ in started]).cpu().numpy()
        ends = np.cumsum([len(vector) for _, vector, _ in started])
        pairs = zip(started, np.split(vectors, ends[:-1]), strict=True)
        # What is invalid is measured again on the host, which says why.
        return {key: finish(vector) for (key, _, finish), vector in pairs if vector[0] == 0}

    def update(self, sample: Mapping[str, Any]) -> None:
        for name, scorer in self.scorers.items():
            if (id(sample), name) in self._measured:
                scorer.add(self._measured[id(sample), name])
                continue
            field = sample_field(name)
            prediction = get_map(sample, f'pred_{field}')
            if f'gt_{field}' in sample:
                scorer.add(scorer.measure(get_map(sample, f'gt_{field}'), prediction))

    def counters(self) -> list[np.ndarray]:
        self._start()
        return [array for scorer in self.scorers.values() for array in scorer.counters()]

    def score_rules(self) -> dict[str, str | None]:
        """Return the names of the scores, each with ``'greater'`` or ``'less'``, whichever is better; None if neither is."""
        self._start()
        rules = rules_of(self.scorers.values())
        if rules.keys() >= set(TASK_SUMMARIES):
            rules |= {name: rule_of(name) for name in (SUMMARY_MULTITASK, SUMMARY_UNCLIPPED)}
        return rules

    def scores(self) -> dict[str, float]:
        for name, scorer in self.scorers.items():
            if scorer.is_empty():
                print_log(f'No evaluated image has a valid label of {name}: its scores are NaN.', 'current', logging.WARNING)
        scores = scores_of(self.scorers.values())
        return scores | multitask_scores(scores)


@METRICS.register_module()
class IoUMetric(MultiTaskMetric):
    """The scores of the label ``semseg`` alone, without those of several labels."""

    def __init__(self) -> None:
        super().__init__(tasks=['semseg'])

    def scores(self) -> dict[str, float]:
        return {name: score for name, score in super().scores().items() if name != SUMMARY_MULTITASK}


@METRICS.register_module()
class DINOMetric(StreamingMetric):
    """``dino/loss``, ``dino/entropy`` and ``dino/kl``, means over images of the terms of :class:`DINOTerms`, in nats.

    Also ``dino/marginal_entropy``, of the mean of the teacher's distributions over the whole split. Its excess over
    ``dino/entropy`` is the mutual information of image and output: 0 if the teacher says the same of every image. It is at most
    the logarithm of the number of outputs.

    Samples: dicts with ``loss``, ``entropy``, ``kl`` and ``probabilities``, as :meth:`DINO.predict` gives them.
    """

    default_prefix = 'dino'
    _terms = ('loss', 'entropy', 'kl')

    def reset(self) -> None:
        self._sums = np.zeros(len(self._terms))
        self._probabilities: np.ndarray | None = None

    def update(self, sample: Mapping[str, Any]) -> None:
        terms = np.array([float(sample[name]) for name in self._terms])
        if not np.isfinite(terms).all():
            raise ArgumentError(f'{", ".join(self._terms)} should be finite. Found {terms.tolist()}.')
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
        scores = {f'dino/{name}': float(total / num_samples) for name, total in zip(self._terms, self._sums, strict=True)}
        return scores | {'dino/marginal_entropy': float(-(shares * np.log(shares)).sum())}


def get_map(sample: Mapping[str, Any], key: str) -> np.ndarray:
    """Return :func:`to_values` of a ``PixelData`` entry ``(1 or 3, H, W)``; raise ValueError if it is missing or not one map."""
    if key not in sample:
        raise ValueError(f'`{key}` is missing.')
    data = sample[key]['data']
    if data.ndim != 3 or len(data) not in (1, 3):
        raise ArgumentError(f'`{key}` should have the shape (1, H, W) or (3, H, W). Found {tuple(data.shape)}.')
    return to_values(data)


def to_values(data: torch.Tensor) -> np.ndarray:
    """Return ``(H, W)`` of a map ``(1, H, W)``, or ``(H, W, 3)`` of vectors ``(3, H, W)``; half precision becomes float32."""
    if data.dtype in (torch.float16, torch.bfloat16):
        data = data.float()
    data = data.detach()
    return (data[0] if len(data) == 1 else data.permute(1, 2, 0)).cpu().numpy()
