import numpy as np
import torch

from mtl_plugins.labels.depth_map import decode_depth
from mtl_plugins.models.data_preprocessors import MultiTaskDataPreprocessor
from tests.models.builders import MEAN, STD, make_batch


def test_a_batch_against_numpy():
    batch = make_batch((5, 7))
    batch['length_scale'] = torch.tensor([1.0, 0.5])
    codes = batch['targets']['depth'].numpy().copy()
    images = batch['inputs'].numpy().copy()
    result = MultiTaskDataPreprocessor(mean=MEAN, std=STD)({**batch, 'metainfo': [dict(a=1), dict(a=2)]}, training=True)
    expected = ((images.astype(np.float64) - MEAN) / STD).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(result['inputs'].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert result['inputs'].is_contiguous(memory_format=torch.channels_last)
    metres = decode_depth(codes) * np.array([1.0, 0.5], np.float32)[:, None, None]
    np.testing.assert_array_equal(result['targets']['depth'].numpy(), metres)
    assert result['targets']['semseg'].dtype == torch.uint8
    assert torch.equal(result['sample_idx'], batch['sample_idx']) and result['metainfo'] == [dict(a=1), dict(a=2)]
    assert np.array_equal(batch['inputs'].numpy(), images) and np.array_equal(batch['targets']['depth'].numpy(), codes)


def test_float_images_stay_as_they_are_and_float_depth_is_metres():
    batch = make_batch((4, 4))
    batch['inputs'] = batch['inputs'].float()
    before = batch['inputs'].clone()
    batch['targets']['depth'] = torch.full((2, 4, 4), 12.5)
    del batch['length_scale'], batch['sample_idx']
    result = MultiTaskDataPreprocessor(mean=MEAN, std=STD)(batch)
    assert torch.equal(batch['inputs'], before) and (result['targets']['depth'] == 12.5).all()
    assert set(result) == {'inputs', 'targets'}


def test_padding_is_black_ignored_and_invalid():
    preprocessor = MultiTaskDataPreprocessor(mean=MEAN, std=STD, size_divisor=8)
    assert not preprocessor.state_dict()
    result = preprocessor(make_batch((5, 9)))
    assert result['inputs'].shape == (2, 3, 8, 16)
    torch.testing.assert_close(result['inputs'][0, :, -1, -1], -torch.tensor(MEAN) / torch.tensor(STD))
    assert (result['targets']['semseg'][:, 5:] == 255).all() and (result['targets']['semseg'][:, :, 9:] == 255).all()
    assert not result['targets']['depth'][:, 5:].any() and not result['targets']['depth'][:, :, 9:].any()
