"""Unit vectors as three bytes: code ``k`` in 1..255 is ``(k - 128) / 127``, three zeros are unknown.

The codes are symmetric: mirroring a component maps ``k`` to ``256 - k`` exactly.
"""

import numpy as np

DECODE_TABLE = np.concatenate([[0.0], (np.arange(1, 256) - 128) / 127])
DECODE_TABLE.setflags(write=False)
_DECODE_TABLE_FLOAT32 = DECODE_TABLE.astype(np.float32)


def decode_normals(codes: np.ndarray) -> np.ndarray:
    """float32 unit vectors of codes ``(..., 3)`` uint8; zero where unknown.

    Raises:
        TypeError: If ``codes`` is not uint8.
    """
    if codes.dtype != np.uint8:
        raise TypeError(f'`codes` should be uint8. Found {codes.dtype}.')
    return _normalised(_DECODE_TABLE_FLOAT32[codes])


def encode_normals(vectors: np.ndarray) -> np.ndarray:
    """Codes ``(..., 3)`` uint8 of vectors of any length; unknown where a vector is zero or not finite.

    A component's code is at most 1/254 off.
    """
    unit = _normalised(np.where(np.isfinite(vectors).all(-1, keepdims=True), vectors, 0))
    codes = (unit * 127 + 128.5).astype(np.uint8)
    return np.where(unit.any(-1, keepdims=True), codes, np.uint8(0))


def _normalised(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.square(vectors).sum(-1, keepdims=True))
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
