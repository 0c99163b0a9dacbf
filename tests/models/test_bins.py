"""What the picture of bins draws is what the head predicts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mtl_plugins.errors import ConfigError
from mtl_plugins.models.decode_heads.bins_depth_heads import find_bins, require_bins
from mtl_plugins.registry import MODELS
from tests import tiny  # noqa: F401  # registers the backbone


def make_model(**depth):
    torch.manual_seed(0)
    head = dict(type='DeepLabV3PlusHead', channels=16, skip_channels=8)
    return MODELS.build(
        dict(
            type='MultiTaskSegmentor',
            data_preprocessor=dict(type='MultiTaskDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, size_divisor=16),
            backbone=dict(type='TinyBackbone'),
            decode_head=dict(
                type='BranchedHead',
                head=head,
                task_heads=dict(depth=dict(type='FixedBinsDepthHead', num_bins=8, channels=16, head=head)),
            ),
            tasks=dict(
                semseg=dict(type='SemSegTask', num_classes=19), depth=dict(type='DepthTask', representation='metres', **depth)
            ),
        )
    ).eval()


def test_bins_and_depth_are_the_models_own():
    model = make_model()
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    found = find_bins(model)
    depth, bins = found.predict(image)
    assert found.label == 'depth'
    # Eight equal cells of log depth between 4 and 300 m.
    np.testing.assert_allclose(bins, 4 * 75 ** ((np.arange(8) + 0.5) / 8), rtol=1e-5)
    with torch.inference_mode():
        inputs = model.data_preprocessor(dict(inputs=torch.from_numpy(image)[None]))['inputs']
        expected = model.predict_arrays(inputs)['depth'][0, :40, :50]
    np.testing.assert_array_equal(depth, expected.numpy())
    assert not found.head._forward_pre_hooks


def test_the_label_of_the_bins_is_the_one_that_their_task_learns():
    # The name `depth` was written into the code: a task that learns another label drew nothing.
    model = make_model(label='range')
    assert find_bins(model).label == 'range'
    assert find_bins(model).predict(np.zeros((16, 16, 3), np.uint8))[0].shape == (16, 16)


def test_a_model_without_bins_is_refused_in_one_sentence():
    model = SimpleNamespace(decode_head=torch.nn.Conv2d(1, 1, 1))
    assert find_bins(model) is None
    with pytest.raises(ConfigError, match=r'depth head with bins.*Found Conv2d'):
        require_bins(model)
