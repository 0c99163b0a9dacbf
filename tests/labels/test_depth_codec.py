import math

import numpy as np
import pytest

from mtl_plugins.labels.depth_map import DECODE_TABLE, decode_depth, encode_depth, encode_label

CODES = np.arange(1, 256, dtype=np.uint8)


def _reference_code(depth: float, rounding: str) -> int:
    """The definition: disparity = 1/300 + (code - 1)/254 * (1/4 - 1/300)."""
    position = (1 / min(max(float(depth), 4.0), 300.0) - 1 / 300) / (1 / 4 - 1 / 300) * 254
    return 1 + (math.floor(position + 0.5) if rounding == 'nearest' else math.floor(position))


def _depths_near_every_step(rounding: str, ulps: int = 6) -> np.ndarray:
    """The float32 numbers around each depth at which the code changes, the ends of the range, and a dense grid."""
    offset = 0.5 if rounding == 'nearest' else 0.0
    disparity = 1 / 300 + (np.arange(255) + offset) / 254 * (1 / 4 - 1 / 300)
    steps = np.concatenate([1 / disparity, [4, 300]]).astype(np.float32)
    neighbours = steps.view(np.int32)[:, None] + np.arange(-ulps, ulps + 1, dtype=np.int32)
    grid = np.geomspace(0.5, 900, 20_000).astype(np.float32)
    return np.concatenate([neighbours.view(np.float32).ravel(), grid, np.float32([-5, 0, 1e-30, 1e30])])


def test_decode_table_is_the_definition():
    assert DECODE_TABLE[0] == 0
    for code in range(1, 256):
        disparity = 1 / 300 + (code - 1) / 254 * (1 / 4 - 1 / 300)
        assert DECODE_TABLE[code] == pytest.approx(1 / disparity, rel=1e-15)
    decoded = decode_depth(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert decoded.shape == (16, 16) and decoded.dtype == np.float32
    np.testing.assert_allclose(decoded.ravel(), DECODE_TABLE, rtol=6e-8)
    assert decoded[0, 1] == 300 and decoded[-1, -1] == 4


@pytest.mark.parametrize('rounding', ['nearest', 'truncate'])
def test_encode_equals_the_scalar_reference_at_every_step(rounding):
    depth = _depths_near_every_step(rounding)
    expected = [_reference_code(value, rounding) for value in depth]
    np.testing.assert_array_equal(encode_depth(depth, rounding), expected)
    assert min(expected) == 1 and max(expected) == 255


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_every_code_survives_nearest(dtype):
    np.testing.assert_array_equal(encode_depth(DECODE_TABLE[1:].astype(dtype)), CODES)
    np.testing.assert_array_equal(encode_label(DECODE_TABLE.astype(dtype)), np.arange(256))


def test_labels_beyond_the_range_are_invalid():
    depth = np.array([3.999, 4, 300, 300.01, 0, -1, np.nan, np.inf, -np.inf], dtype=np.float32)
    assert encode_label(depth).tolist() == [0, 255, 1, 0, 0, 0, 0, 0, 0]


def test_bad_input():
    with pytest.raises(ValueError, match='`depth` should be finite'):
        encode_depth(np.array([1, np.nan], np.float32))
    with pytest.raises(ValueError, match=r"`rounding` should be 'nearest' or 'truncate'. Found 'up'."):
        encode_depth(np.ones(1, np.float32), 'up')
    with pytest.raises(TypeError, match=r'`code` should be uint8. Found int64.'):
        decode_depth(np.ones(1, np.int64))
