"""Surface normals of planes fitted to depth, for data without measured ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mtl_plugins.errors import ArgumentError
from mtl_plugins.labels.depth_map import DepthMap
from mtl_plugins.labels.surface_normals import SurfaceNormals, encode_normals


def fit_normals(
    metres: np.ndarray, focal: tuple[float, float], centre: tuple[float, float], window: int, tolerance: float
) -> np.ndarray:
    r"""Return the normal at each pixel of the plane fitted to the known depth in a window around it.

    In pixel coordinates :math:`(u, v)` the inverse depth of a plane is linear, so that the fit has a closed form:

    .. math::
        \min_{a, b, c} \sum_{(u, v)} \left(\frac{1}{Z_{uv}} - a u - b v - c\right)^2, \qquad
        n \propto (-a f_x,\; b f_y,\; a c_x + b c_y + c)

    Args:
        metres: Depth ``(H, W)``, 0 = unknown.
        focal: Focal lengths :math:`f_x, f_y` in pixels.
        centre: Principal point :math:`c_x, c_y`.
        window: Side of the window.
        tolerance: Greatest root mean square deviation from the plane, as a share of the depth.

    Returns:
        float64 vectors ``(H, W, 3)``: x right, y up, z towards the camera. Zero where the depth is unknown, where less than half
        of the window is known, and where the window crosses an edge, so that the deviation is above ``tolerance``.
    """
    known = metres > 0
    q = np.divide(1, metres, out=np.zeros(metres.shape), where=known)
    v, u = np.indices(metres.shape, dtype=np.float64)

    def total(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values * known, cv2.CV_64F, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)

    count = total(np.ones(metres.shape))
    is_fitted = known & (2 * count >= window**2)
    share = np.divide(1, count, out=np.zeros(metres.shape), where=is_fitted)
    mean_u, mean_v, mean_q = (total(each) * share for each in (u, v, q))
    uu, uv, vv = (total(u * u) * share - mean_u**2, total(u * v) * share - mean_u * mean_v, total(v * v) * share - mean_v**2)
    uq, vq, qq = (
        total(u * q) * share - mean_u * mean_q,
        total(v * q) * share - mean_v * mean_q,
        total(q * q) * share - mean_q**2,
    )
    determinant = np.where(is_fitted, uu * vv - uv * uv, 1)
    a, b = (vv * uq - uv * vq) / determinant, (uu * vq - uv * uq) / determinant
    is_fitted &= np.sqrt(np.maximum(qq - a * uq - b * vq, 0)) * metres <= tolerance
    normals = np.stack([-a * focal[0], b * focal[1], mean_q + a * (centre[0] - mean_u) + b * (centre[1] - mean_v)], axis=-1)
    return np.where(is_fitted[..., None], normals, 0)


class NormalsFromDepth(SurfaceNormals):
    """Surface normals of planes fitted to a depth map, see :func:`fit_normals`. They are coarse.

    Fine structure below ``window`` pixels is lost, pixels near depth edges are unknown, and steps of depth (millimetres of a
    sensor, centimetres of an 8-bit copy) tilt the normals. Scores against them say how well a model agrees with its depth sensor.
    Values, views and codes are those of :class:`SurfaceNormals`, and a converted data set holds them as such.

    Args:
        path: Template of the depth map.
        focal: Focal length in pixels of the depth map, one number or those along x and y.
        centre: Principal point, in pixels from the centre of the first pixel; the middle of the image by default.
        window: Odd side of the window, 3 to 99.
        tolerance: Greatest root mean square deviation from the plane, as a share of the depth.
        **depth: Of :class:`~mtl_plugins.labels.depth_map.DepthMap`: ``encoding``, ``scale``, ``ignore``, ...
    """

    def __init__(
        self,
        *,
        name: str,
        focal: float | Sequence[float],
        path: str = '{split}/depth/{stem}.png',
        centre: Sequence[float] | None = None,
        window: int = 9,
        tolerance: float = 0.02,
        **depth: Any,
    ) -> None:
        super().__init__(name=name, path=path)
        focal = tuple(focal) if isinstance(focal, Sequence) else (focal, focal)
        if len(focal) != 2 or not all(0 < each < np.inf for each in focal):
            raise ArgumentError(f'`focal` of {name} should be one or two positive numbers of pixels. Found {focal}.')
        if centre is not None and len(centre) != 2:
            raise ArgumentError(f'`centre` of {name} should be two numbers of pixels. Found {centre}.')
        if window not in range(3, 100, 2):
            raise ArgumentError(f'`window` of {name} should be an odd number from 3 to 99. Found {window}.')
        self.focal, self.centre, self.window, self.tolerance = focal, centre, window, tolerance
        self._depth = DepthMap(name=name, path=path, **depth)
        self.templates = self._depth.templates

    def decoding(self) -> Mapping[str, Any]:
        return dict(super().decoding(), _depth=self._depth.decoding())

    def decode(self, path: str, *others: str, size: tuple[int, int] | None = None) -> np.ndarray:
        return self.from_metres(self._depth.to_values(self._depth.decode(path, *others, size=size)))

    def from_metres(self, metres: np.ndarray) -> np.ndarray:
        """Return the stored map of metres ``(H, W)``."""
        height, width = metres.shape
        centre = self.centre or ((width - 1) / 2, (height - 1) / 2)
        return encode_normals(fit_normals(metres, self.focal, centre, self.window, self.tolerance))

    def plain_config(self) -> dict[str, Any]:
        return dict(type=SurfaceNormals.__name__)
