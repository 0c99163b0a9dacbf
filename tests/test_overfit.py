"""Every system can learn eight generated images by heart."""

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from benchmarks.scenes import render_arrays
from mtl_plugins.config.load import load_config
from mtl_plugins.labels.depth_codec import encode_label
from mtl_plugins.registry import MODELS
from tests.fake_miniscapes import LABELS
from tests.tiny import CONFIGS

# A crop of whole frames, as in training, with six classes of 224 pixels and more. Whole frames rendered at 64x64 would measure
# resolution: the best map at stride 4 that was found has 82 mIoU and 19 SI-logRMSE on them, on this crop 94 and 1.3.
FRAME = (256, 512)
CROP = (slice(None), slice(168, 232), slice(328, 392))
ITERATIONS = 300
LEARNING_RATE = 1e-3


SCORES = dict(semseg='metrics_task_semseg/nan_mean_iou', depth='metrics_task_depth/si_log_rmse')
NAMES = 'joint adaptive_depth transformer_multitask-cross fixed_bins distilled transformer_multitask-self branched'.split()
# Least mIoU over the classes that occur and largest SI-logRMSE on the training images.
GOALS = {f'{name}_r18-d16_1xb16-32e': (90.0, 12.0) for name in (*NAMES, 'deeplabv3plus-depth', 'deeplabv3plus-semseg')}
# Its 2x2 maps, at stride 32, cannot draw the small classes.
GOALS['baseline_r18-d32_1xb16-16e'] = (60.0, 12.0)


def measure(model, data: dict) -> dict[str, float]:
    """mIoU and SI-logRMSE of the tasks that the model has, in evaluation mode."""
    model.eval()
    batch = model.data_preprocessor(data)
    with torch.inference_mode():
        predictions = {task: maps.numpy() for task, maps in model.predict_arrays(batch['inputs']).items()}
    model.train()
    scores = {}
    for task, maps in predictions.items():
        scorer = LABELS[task].scorer()
        for label, prediction in zip(batch['targets'][task].numpy(), maps, strict=True):
            scorer.add(scorer.measure(label, prediction))
        scores[task] = scorer.scores()[SCORES[task]]
    return scores


def render_crops(number: int) -> dict:
    """A batch, as the loader gives it, of a crop of generated scenes."""
    scenes = render_arrays(number, FRAME, seed=0)
    images, labels, depths = (np.ascontiguousarray(maps[CROP]) for maps in (scenes.images, scenes.labels, scenes.depths))
    targets = dict(semseg=torch.from_numpy(labels), depth=torch.from_numpy(encode_label(depths)))
    return dict(inputs=torch.from_numpy(images), targets=targets)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'goal'), GOALS.items(), ids=list(GOALS))
def test_a_system_learns_eight_images_by_heart(name, goal):
    """Its model is trained at its real width, on all eight images at once."""
    torch.manual_seed(0)
    (path,) = CONFIGS.glob(f'*/{name}_miniscapes-256x256.py')
    model = MODELS.build(load_config(str(path)).model)
    data = render_crops(8)
    optimizer = OptimWrapper(torch.optim.Adam(model.parameters(), lr=LEARNING_RATE))
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer.optimizer, ITERATIONS, power=0.9)
    for iteration in range(1, ITERATIONS + 1):
        model.train_step(data, optimizer)
        schedule.step()
        if iteration % 25 == 0:
            scores = measure(model, data)
            print(name, iteration, {task: round(score, 1) for task, score in scores.items()}, flush=True)
            if scores.get('semseg', 100.0) > goal[0] and scores.get('depth', 0.0) < goal[1]:
                return
    pytest.fail(f'The goal was not met: {scores}')
