"""The pinhole camera and the ground it stands on.

World axes: X right, Y up, Z forward along the street, in metres; the camera stands above X = Z = 0.
Camera axes: x right, y down, z forward; *depth* is z. A pixel centre has integer coordinates.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Pinhole camera; angles in radians, positive pitch looks down, positive yaw looks right.

    Size and focal length are in pixels, ``elevation`` is the height of the optical centre above the ground under it, in metres.
    """

    height: int
    width: int
    focal: float
    elevation: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    @cached_property
    def rotation(self) -> np.ndarray:
        """``(3, 3)``, world to camera axes."""
        (cy, cp, cr), (sy, sp, sr) = np.cos([self.yaw, self.pitch, self.roll]), np.sin([self.yaw, self.pitch, self.roll])
        yaw = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        roll = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
        return roll @ pitch @ yaw @ np.diag([1.0, -1.0, 1.0])

    @cached_property
    def rays(self) -> np.ndarray:
        """``(3, 3)``: pixel ``(x, y, 1)`` to the camera ray with z = 1."""
        f, cx, cy = self.focal, (self.width - 1) / 2, (self.height - 1) / 2
        return np.array([[1 / f, 0, -cx / f], [0, 1 / f, -cy / f], [0, 0, 1]])

    @property
    def position(self) -> np.ndarray:
        return np.array([0.0, self.elevation, 0.0])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points ``(..., 3)`` to camera axes."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """Camera points ``(..., 3)`` with z > 0 to pixels ``(..., 2)``."""
        centre = np.array([(self.width - 1) / 2, (self.height - 1) / 2])
        return points[..., :2] / points[..., 2:] * self.focal + centre

    def plane_maps(self, origin: np.ndarray, edge_u: np.ndarray, edge_v: np.ndarray) -> np.ndarray:
        """Affine maps ``(N, 3, 3)`` that texture planes perspective-correctly.

        A plane holds the points ``origin + a edge_u + b edge_v``, each ``(N, 3)`` in the world; its map applied to a pixel
        ``(x, y, 1)`` gives ``(a / z, b / z, 1 / z)``.
        """
        columns = np.stack([edge_u @ self.rotation.T, edge_v @ self.rotation.T, self.to_camera(origin)], axis=-1)
        # Planes seen edge-on have no inverse; the small ridge keeps the batch invertible, and they cover no pixel anyway.
        degenerate = np.abs(np.linalg.det(columns)) < 1e-9
        columns[degenerate] += np.eye(3) * 1e-2
        return np.linalg.inv(columns) @ self.rays


@dataclass(frozen=True)
class Ground:
    """Ground of two slopes that meet at ``hinge``, and a street that bends on it.

    ``Y = slope_near * min(Z, hinge) + slope_far * max(Z - hinge, 0)``; the street's axis lies at
    ``X = bend / 2 * Z^2`` up to ``BEND_END``, straight beyond. ``lateral`` coordinates are X minus the axis.
    """

    slope_near: float = 0.0
    slope_far: float = 0.0
    hinge: float = 50.0
    bend: float = 0.0

    BEND_END = 130.0

    def y(self, z: float) -> float:
        return self.slope_near * min(z, self.hinge) + self.slope_far * max(z - self.hinge, 0.0)

    def slope(self, z: float) -> float:
        return self.slope_near if z < self.hinge else self.slope_far

    def axis_x(self, z):
        """X of the street's axis at ``z`` (a float or an array)."""
        inner = np.clip(z, 0.0, self.BEND_END)
        return self.bend * inner * (z - inner / 2) * (z > 0)

    def heading(self, z: float) -> float:
        """dX/dZ of the street's axis."""
        return self.bend * min(max(z, 0.0), self.BEND_END)

    def point(self, lateral: float, z: float) -> tuple[float, float, float]:
        inner = min(max(z, 0.0), self.BEND_END)
        return lateral + self.bend * inner * (z - inner / 2), self.y(z), z

    def plane_maps(self, camera: Camera) -> np.ndarray:
        """``(2, 3, 3)``: maps of pixels to ``(X / z, Z / z, 1 / z)`` on the near and the far slope (z: depth)."""
        origins = np.array([[0.0, 0.0, 0.0], [0.0, (self.slope_near - self.slope_far) * self.hinge, 0.0]])
        across = np.array([[1.0, 0.0, 0.0]] * 2)
        along = np.array([[0.0, self.slope_near, 1.0], [0.0, self.slope_far, 1.0]])
        return camera.plane_maps(origins, across, along)

    @property
    def is_crest(self) -> bool:
        """The far part falls away, so that it hides behind the near one."""
        return self.slope_far < self.slope_near
