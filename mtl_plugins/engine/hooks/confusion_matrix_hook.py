"""Which class is taken for which, in the log back ends."""

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.evaluation.functional.confusion_matrix import ConfusionScorer
from mtl_plugins.evaluation.metrics.label_metric import LabelMetric
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.confusion_picture import render_confusion_matrix
from mtl_plugins.visualization.plots import to_array


@HOOKS.register_module()
class ConfusionMatrixHook(Hook):
    """Draw the confusion matrix of each class map after a validation, from the counts that the scores are computed from.

    The pictures are ``confusion/<label>``, shares of the pixels of each label, and ``confusion/<label>_counts``.

    Args:
        interval: Draw at every so many validations; 0 never.

    Raises:
        ValueError: If ``interval`` is negative.
    """

    priority = 'LOW'

    def __init__(self, *, interval: int = 1) -> None:
        if interval < 0:
            raise ValueError(f'`interval` should not be negative. Found {interval}.')
        self.interval = interval
        self._validations = 0

    @master_only
    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        if runner._train_loop is None or isinstance(runner._train_loop, dict):
            return  # a validation without training
        self._validations += 1
        if not self.interval or self._validations % self.interval:
            return
        for metric in runner.val_loop.evaluator.metrics:
            for name, scorer in metric.scorers.items() if isinstance(metric, LabelMetric) else ():
                if isinstance(scorer, ConfusionScorer) and not scorer.is_empty():
                    title = f'{name}, validation at iteration {runner.iter}'
                    for suffix, normalised in (('', True), ('_counts', False)):
                        picture = to_array(render_confusion_matrix(scorer.confusion, scorer.classes, normalised, title))
                        runner.visualizer.add_image(f'confusion/{name}{suffix}', picture, step=runner.iter)
