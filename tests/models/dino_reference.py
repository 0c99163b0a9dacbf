"""The loss of DINO written out in NumPy, and logits for it."""

import numpy as np

NUM_OUTPUTS = 24


def make_logits(num_views: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-scale, scale, (num_views, 3, NUM_OUTPUTS))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def reference_terms(student, teacher, centre, student_temperature, teacher_temperature):
    """Loss, entropy and divergence of each image, one pair at a time, in float64."""
    num_views, batch, _ = student.shape
    loss, entropy, kl = np.zeros((3, batch))
    pairs = [(i, j) for i in range(len(teacher)) for j in range(num_views) if i != j]
    for image in range(batch):
        for i, j in pairs:
            p = softmax((teacher[i, image] - centre) / teacher_temperature)
            q = softmax(student[j, image] / student_temperature)
            loss[image] -= (p * np.log(q)).sum() / len(pairs)
            kl[image] += (p * np.log(p / q)).sum() / len(pairs)
        for logits in teacher[:, image]:
            p = softmax((logits - centre) / teacher_temperature)
            entropy[image] -= (p * np.log(p)).sum() / len(teacher)
    return loss, entropy, kl
