"""What counts as the collapse of DINO, and the warning."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger

from mtl_plugins.engine.hooks import CollapseHook
from mtl_plugins.engine.hooks.dino_hooks import find_collapse
from mtl_plugins.models.dino import dino_terms, distribution_entropy


def make_terms(
    logits_BK: torch.Tensor, *, student: torch.Tensor | None = None, temperature: float = 0.04
) -> dict[str, torch.Tensor]:
    """What is logged for two views with the same logits."""
    teacher = logits_BK.expand(2, *logits_BK.shape)
    student = teacher if student is None else student.expand(2, *student.shape)
    centre = torch.zeros(logits_BK.shape[1])
    terms = dino_terms(student, teacher, centre, student_temperature=0.1, teacher_temperature=temperature)
    marginal = distribution_entropy(terms.probabilities.mean(0))
    return dict(entropy=terms.entropy.mean(), kl=terms.kl.mean(), marginal_entropy=marginal)


torch.manual_seed(0)
SITUATIONS = {
    'dominated': (make_terms(torch.eye(64)[:1].repeat(16, 1)), 'dominated'),
    'uniform': (make_terms(1e-3 * torch.randn(16, 64)), 'uniform'),
    # Sure, but of another output for each image: what training aims at, though the entropy is as low.
    'sure': (make_terms(torch.eye(64)[:16]), None),
    'undecided': (make_terms(0.1 * torch.randn(16, 64)), None),
    # The centred teacher of the first steps; the student is yet to follow.
    'beginning': (make_terms(1e-3 * torch.randn(16, 64), student=0.1 * torch.randn(16, 64)), None),
}


@pytest.mark.parametrize('name', SITUATIONS)
def test_collapse_is_told_from_certainty(name):
    terms, expected = SITUATIONS[name]
    values = [terms[key].item() for key in ('entropy', 'kl', 'marginal_entropy')]
    assert find_collapse(*values, 64, margin=0.02, max_kl=0.02) == expected


@pytest.mark.parametrize(('kind', 'words'), [('dominated', 'one output dominates'), ('uniform', 'Sharpening is too weak')])
def test_collapse_is_said_once_and_in_words(kind, words, caplog):
    logger = MMLogger.get_instance('collapse')
    logger.addHandler(caplog.handler)
    runner = SimpleNamespace(iter=0, logger=logger, model=SimpleNamespace(centre=torch.zeros(64)))
    hook = CollapseHook(interval=2, patience=3)
    for outputs in [SITUATIONS['sure'][0]] * 6 + [SITUATIONS[kind][0]] * 12:
        hook.after_train_iter(runner, 0, outputs=outputs)
        runner.iter += 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert words in message and 'start anew' in message
    # Three intervals of two after the six steps that were fine.
    assert 'by iteration 12' in message
