"""Which checkpoint is the best, and when a run stops, while the multitask score is 0."""

from types import SimpleNamespace

import pytest

from mtl_plugins.engine.hooks import AtomicCheckpointHook, EarlyStoppingHook
from mtl_plugins.errors import ConfigError
from mtl_plugins.registry import HOOKS

MULTITASK, UNCLIPPED = 'metrics_summary/multitask', 'metrics_summary/multitask_unclipped'


def test_the_best_of_scores_of_zero_is_that_of_the_largest_sum():
    """The first validation used to be kept for good."""
    hook = AtomicCheckpointHook(interval=1, save_best=MULTITASK, rule='greater')
    hook.out_dir = '.'
    runner = SimpleNamespace(message_hub=SimpleNamespace(runtime_info={}), epoch=0)
    runner.message_hub.update_info = runner.message_hub.runtime_info.__setitem__
    kept = []
    for multitask, unclipped in ((0.0, -60.0), (0.0, -20.0), (0.0, -30.0), (3.0, -5.0)):
        runner.epoch += 1
        kept += hook._note_best(runner, {MULTITASK: multitask, UNCLIPPED: unclipped, 'metrics_summary/depth': 1.0})
    assert [(key, score) for key, score, _ in kept] == [(MULTITASK, score) for score in (-60.0, -20.0, 3.0)]
    assert [name.rpartition('_')[2] for _, _, name in kept] == ['1.pth', '2.pth', '4.pth']


def test_a_resumed_run_has_waited_as_long_as_one_that_was_not_interrupted():
    # mmengine's hook begins anew: a run that is killed often enough never stopped.
    unclipped = (-60.0, -30.0, -40.0, -35.0, -50.0)
    rows = [{'epoch': n, 'iter': 10 * n, MULTITASK: 0.0, UNCLIPPED: score} for n, score in enumerate(unclipped, 1)]

    def stops_after(iteration: int) -> int:
        """The validation that stops a run that is resumed at an iteration."""
        loop = SimpleNamespace(stop_training=False)
        runner = SimpleNamespace(train_loop=loop, logger=SimpleNamespace(info=str), iter=iteration)
        runner.earlier_validations = [{key: str(value) for key, value in row.items()} for row in rows if row['iter'] <= iteration]
        hook = EarlyStoppingHook(monitor=MULTITASK, patience=3)
        hook.before_run(runner)
        hook.before_train(runner)
        for row in rows:
            if row['iter'] > iteration:
                hook.after_val_epoch(runner, row)
                if loop.stop_training:
                    return row['epoch']

    assert HOOKS.get('EarlyStoppingHook') is EarlyStoppingHook
    # The second is the best; the third, fourth and fifth are not, wherever the run was killed.
    assert [stops_after(iteration) for iteration in (0, 15, 20, 30, 40)] == [5] * 5


@pytest.mark.parametrize(('monitor', 'rule'), [('metrics_task_semseg/road', None), (MULTITASK, 'more')])
def test_a_rule_that_nothing_tells_is_asked_for(monitor, rule):
    with pytest.raises(ConfigError, match=f"`rule` of EarlyStoppingHook should be 'greater' or 'less' for {monitor}"):
        EarlyStoppingHook(monitor=monitor, rule=rule)
