"""The scores of the labels of a data set."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mtl_plugins.errors import ArgumentError
from mtl_plugins.evaluation.functional.on_device import start_measuring
from mtl_plugins.evaluation.functional.scorer import Scorer
from mtl_plugins.evaluation.metrics.streaming_metric import StreamingMetric, get_map
from mtl_plugins.evaluation.scores import (
    SUMMARY_MULTITASK,
    SUMMARY_UNCLIPPED,
    TASK_SUMMARIES,
    multitask_scores,
    rule_of,
    rules_of,
    scores_of,
)
from mtl_plugins.labels.label_kind import LabelKind, sample_field
from mtl_plugins.labels.presets import MINISCAPES_LABELS, MINISCAPES_TASKS, build_labels
from mtl_plugins.registry import METRICS

GPU = 'cuda'


class LabelMetric(StreamingMetric):
    """The scores of each label, ``metrics_task_<label>/*`` and ``metrics_summary/<label>``.

    What the scores of a label are is up to its kind: IoU, errors in metres, angles, F-measures. The kinds are those of the data
    set. A sample without a label does not count for it; the scores of a label that no sample has are NaN, with a warning.
    Classes and depth that lie on a GPU are compared there, and a batch waits for it once.

    Args:
        tasks: Names of the labels; by default all that the data set reads, ``load_config`` fills in those of the model. Without
            a data set the labels are MiniScapes'.

    Attributes:
        scorers: The counters by label; those of the last evaluation, summed over processes, until the next sample comes.

    Raises:
        ConfigError: If the data set has no label of a name.
    """

    default_prefix = 'metrics_summary'

    def __init__(self, tasks: Sequence[str] | None = None) -> None:
        if isinstance(tasks, str) or (tasks is not None and not tasks):
            raise ArgumentError(f'`tasks` should be a sequence of names of labels. Found {tasks!r}.')
        self.tasks = None if tasks is None else tuple(tasks)
        self.scorers: dict[str, Scorer] = {}
        self._measured: dict[tuple[int, str], Any] = {}
        super().__init__()

    def reset(self) -> None:
        self._kinds: dict[str, LabelKind] | None = None

    def _start(self) -> None:
        """The kinds are known only once the data set is."""
        if self._kinds is None:
            configs, names = (self.dataset_meta or {}).get('labels'), self.tasks
            if configs is None:
                configs, names = MINISCAPES_LABELS, names or MINISCAPES_TASKS
            self._kinds = build_labels(configs, names)
            self.scorers = {name: kind.scorer() for name, kind in self._kinds.items()}

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
        measured = {}
        for (key, _, finish), vector in zip(started, np.split(vectors, ends[:-1]), strict=True):
            # What is invalid is measured again on the host, which says why.
            if vector[0] == 0:
                measured[key] = finish(vector)
        return measured

    def update(self, sample: Mapping[str, Any]) -> None:
        self._start()
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
        """The names of the scores, each with ``'greater'`` or ``'less'``, whichever is better; None if neither is."""
        self._start()
        return rules_of(self.scorers.values())

    def scores(self) -> dict[str, float]:
        self._start()
        for name, scorer in self.scorers.items():
            if scorer.is_empty():
                print_log(f'No evaluated image has a valid label of {name}: its scores are NaN.', 'current', logging.WARNING)
        return scores_of(self.scorers.values())


@METRICS.register_module()
class IoUMetric(LabelMetric):
    """The scores of the label ``semseg`` alone: IoU per class and means, over one confusion matrix of the split."""

    def __init__(self) -> None:
        super().__init__(tasks=['semseg'])


@METRICS.register_module()
class DepthMetric(LabelMetric):
    """The scores of the label ``depth`` alone: errors per image, averaged over the images that have a valid pixel."""

    def __init__(self) -> None:
        super().__init__(tasks=['depth'])


@METRICS.register_module()
class MultiTaskMetric(LabelMetric):
    """:class:`LabelMetric` with the common scores of :func:`multitask_scores`.

    ``metrics_summary/multitask`` is 0 for a single task, and then cannot drive ``save_best``.
    """

    def score_rules(self) -> dict[str, str | None]:
        rules = super().score_rules()
        if rules.keys() >= set(TASK_SUMMARIES):
            rules |= {name: rule_of(name) for name in (SUMMARY_MULTITASK, SUMMARY_UNCLIPPED)}
        return rules

    def scores(self) -> dict[str, float]:
        scores = super().scores()
        return scores | multitask_scores(scores)
