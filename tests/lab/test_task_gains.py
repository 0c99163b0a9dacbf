"""delta_m, mean ranks and intervals against sums written out."""

import numpy as np
import pytest

from mtl_plugins.lab.experiments.task_gains import delta_m, mean_and_interval, mean_ranks, relative_changes

RULES = {
    'semseg': {'iou': 'greater', 'accuracy': 'greater'},
    'depth': {'rel': 'less'},
    'normals': {'mean': 'less', 'in_11': 'greater'},
}
SINGLE = {'iou': 40.0, 'accuracy': 80.0, 'rel': 0.25, 'mean': 20.0, 'in_11': 50.0}
JOINT = {'iou': 42.0, 'accuracy': 76.0, 'rel': 0.2, 'mean': 21.0, 'in_11': 45.0}


def test_delta_m_is_the_mean_over_tasks_of_the_signed_changes_of_their_metrics():
    semseg = ((42 - 40) / 40 + (76 - 80) / 80) / 2
    depth = -(0.2 - 0.25) / 0.25
    normals = (-(21 - 20) / 20 + (45 - 50) / 50) / 2
    changes = relative_changes(JOINT, SINGLE, RULES)
    assert changes == pytest.approx({'semseg': 100 * semseg, 'depth': 100 * depth, 'normals': 100 * normals})
    assert delta_m(JOINT, SINGLE, RULES) == pytest.approx(100 * (semseg + depth + normals) / 3)
    assert delta_m(SINGLE, SINGLE, RULES) == 0


def test_delta_m_does_not_depend_on_units_or_on_how_many_metrics_a_task_has():
    millimetres = [{**scores, 'rel': 1000 * scores['rel']} for scores in (JOINT, SINGLE)]
    assert delta_m(*millimetres, RULES) == pytest.approx(delta_m(JOINT, SINGLE, RULES))
    twice = {**RULES, 'depth': {'rel': 'less', 'rel again': 'less'}}
    doubled = [{**scores, 'rel again': scores['rel']} for scores in (JOINT, SINGLE)]
    assert delta_m(*doubled, twice) == pytest.approx(delta_m(JOINT, SINGLE, RULES))


def test_ranks_are_those_of_a_table_written_by_hand():
    scores = {'a': {'iou': 3.0, 'accuracy': 1.0, 'rel': 1.0}, 'b': {'iou': 2.0, 'accuracy': 1.0, 'rel': 3.0}}
    scores['c'] = {'iou': 1.0, 'accuracy': 0.0, 'rel': 2.0}
    rules = {task: RULES[task] for task in ('semseg', 'depth')}
    # iou 1, 2, 3; accuracy 1.5, 1.5, 3; rel 1, 3, 2.
    assert mean_ranks(scores, rules) == pytest.approx({'a': (1.25 + 1) / 2, 'b': (1.75 + 3) / 2, 'c': (3 + 2) / 2})


def test_the_interval_is_that_of_the_tables_of_t():
    # 97.5 % quantiles for 1, 2 and 4 degrees of freedom as printed in tables.
    for values, quantile in (([1.0, 3.0], 12.706), ([1.0, 2.0, 6.0], 4.303), ([2.0, 4.0, 4.0, 5.0, 9.0], 2.776)):
        mean, half_width = mean_and_interval(values)
        assert mean == pytest.approx(np.mean(values))
        assert half_width == pytest.approx(quantile * np.std(values, ddof=1) / np.sqrt(len(values)), rel=2e-4)
    assert mean_and_interval([7.0]) == (7.0, None)


@pytest.mark.parametrize(
    ('baseline', 'rules', 'words'),
    [
        ({**SINGLE, 'iou': 0.0}, RULES, ['`baseline`', 'iou']),
        (SINGLE, {**RULES, 'depth': {}}, ['`rules`', 'depth']),
        (SINGLE, {**RULES, 'depth': {'rel': 'lower'}}, ['`rules`', "'lower'", 'rel']),
    ],
)
def test_what_has_no_meaning_is_refused(baseline, rules, words):
    with pytest.raises(ValueError) as caught:
        delta_m(JOINT, baseline, rules)
    assert all(word in str(caught.value) for word in words)
