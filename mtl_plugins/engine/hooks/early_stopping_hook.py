"""Early stopping that knows the scores of this package."""

from typing import Any

from mmengine.hooks import EarlyStoppingHook as MMEngineEarlyStoppingHook

from mtl_plugins.errors import ConfigError
from mtl_plugins.evaluation.scores import rule_of, with_ties_broken
from mtl_plugins.records.metrics_file import read_row
from mtl_plugins.registry import HOOKS


@HOOKS.register_module()
class EarlyStoppingHook(MMEngineEarlyStoppingHook):
    """mmengine's hook of this name; ``metrics_summary/multitask`` of 0 is compared by its unclipped sum, as checkpoints are.

    A resumed run has waited as long as the validations in its ``metrics.csv`` say, up to the checkpoint it continues from.

    Args:
        monitor: Name of the score.
        rule: ``'greater'`` or ``'less'``; None is the rule of the summaries of this package.
        **kwargs: Further arguments of mmengine's hook.

    Raises:
        ConfigError: If ``rule`` is None and the name of the score does not tell it, or is none of the two.
    """

    def __init__(self, monitor: str, rule: str | None = None, **kwargs: Any) -> None:
        rule = rule or rule_of(monitor)
        if rule not in ('greater', 'less'):
            raise ConfigError(f"`rule` of EarlyStoppingHook should be 'greater' or 'less' for {monitor}. Found {rule!r}.")
        super().__init__(monitor, rule, **kwargs)

    def before_train(self, runner) -> None:
        stop, reason = False, ''
        for row in runner.earlier_validations:
            metrics = with_ties_broken(read_row(row))
            if self.monitor in metrics:
                stop, reason = self._check_stop_condition(metrics[self.monitor])
        # A run that was killed after its last validation has no further epoch.
        if stop and runner.resumed_validation is not None:
            runner.train_loop.stop_training = True
            runner.logger.info(reason)

    def after_val_epoch(self, runner, metrics: dict[str, float]) -> None:
        super().after_val_epoch(runner, with_ties_broken(metrics))
