"""The loss of DINO and its centres against a written-out NumPy reference and closed forms."""

import math

import numpy as np
import pytest
import torch

from mtl_plugins.models.dino import dino_terms, distribution_entropy, sinkhorn_centre
from tests.models.dino_reference import NUM_OUTPUTS, make_logits, reference_terms, softmax


@pytest.mark.parametrize('num_global', [1, 2])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_loss_and_its_terms_are_the_written_out_ones(dtype, tolerance, num_global):
    student, teacher, centre = make_logits(5, 0), make_logits(num_global, 1), make_logits(1, 2, scale=0.3)[0, 0]
    expected = reference_terms(student, teacher, centre, 0.1, 0.04)
    tensors = [torch.tensor(array, dtype=dtype) for array in (student, teacher, centre)]
    terms = dino_terms(*tensors, student_temperature=0.1, teacher_temperature=0.04)
    for found, reference in zip(terms[:3], expected, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), reference, rtol=tolerance, atol=tolerance)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        within = dino_terms(*tensors, student_temperature=0.1, teacher_temperature=0.04)
    assert torch.equal(within.loss, terms.loss)


def test_the_gradient_pulls_the_student_to_the_other_views_and_leaves_the_teacher():
    student, teacher = (torch.tensor(make_logits(views, seed), requires_grad=True) for views, seed in ((4, 0), (2, 1)))
    centre = torch.zeros(NUM_OUTPUTS, dtype=torch.float64)
    dino_terms(student, teacher, centre, student_temperature=0.1, teacher_temperature=0.05).loss.sum().backward()
    assert teacher.grad is None
    p, q = (teacher.detach() / 0.05).softmax(-1), (student.detach() / 0.1).softmax(-1)
    for view in range(4):
        others = [p[i] for i in range(2) if i != view]
        expected = sum(q[view] - other for other in others) / 0.1 / (2 * 3)
        torch.testing.assert_close(student.grad[view], expected)


def test_a_single_view_has_no_pair():
    with pytest.raises(ValueError, match='at least two views'):
        dino_terms(torch.ones(1, 3, 4), torch.ones(1, 3, 4), torch.zeros(4), student_temperature=1, teacher_temperature=1)


def test_the_sinkhorn_centre_is_the_written_out_normalisation_of_rows_and_columns():
    logits = make_logits(2, 0, scale=0.3).reshape(6, -1) + np.linspace(0, 0.4, NUM_OUTPUTS)
    shares = np.exp(logits / 0.05)
    for _ in range(3):
        shares /= shares.sum(0)
        shares /= shares.sum(1, keepdims=True)
    centre = sinkhorn_centre(torch.tensor(logits), 0.05).numpy()
    np.testing.assert_allclose([softmax(row) for row in (logits - centre) / 0.05], shares, rtol=1e-9, atol=1e-12)
    converged = sinkhorn_centre(torch.tensor(logits), 0.05, iterations=200).numpy()
    mean = np.mean([softmax(row) for row in (logits - converged) / 0.05], axis=0)
    np.testing.assert_allclose(mean, 1 / NUM_OUTPUTS, rtol=1e-6)


def test_the_sinkhorn_centre_stands_the_coldest_teacher():
    logits = torch.eye(NUM_OUTPUTS)[:5] * 2 - 1
    centre = sinkhorn_centre(logits, 0.003)
    assert centre.isfinite().all() and ((logits - centre) / 0.003).softmax(-1).isfinite().all()


def test_entropy_of_certainty_and_of_ignorance():
    certain, ignorant = torch.eye(5)[0], torch.full((5,), 0.2)
    assert distribution_entropy(certain) == 0
    assert distribution_entropy(ignorant).item() == pytest.approx(math.log(5))
