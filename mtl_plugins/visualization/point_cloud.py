"""Predicted depth as points in space: a PLY file, and a page that shows them."""

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtl_plugins.errors import ArgumentError

_TEMPLATE = Path(__file__).parent / 'templates' / 'point_cloud.html'
# Horizontal angle of view of a camera that nothing is known of: that of a 31 mm lens on 35 mm film, as in many telephones 26.
ASSUMED_ANGLE = 60.0
# What a page holds at most; it draws about so many points 30 times in a second without a graphics card.
MAX_POINTS = 250_000
# Coordinates in a page are whole parts of the largest one.
_STEPS = 32767


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera, in pixels: column u and row v look along ``((u - cx) / fx, (v - cy) / fy, 1)``: right, down, forward."""

    fx: float
    fy: float
    cx: float
    cy: float
    is_assumed: bool = False

    def __post_init__(self) -> None:
        if not (self.fx > 0 and self.fy > 0 and np.isfinite([self.fx, self.fy, self.cx, self.cy]).all()):
            raise ArgumentError(
                f'`intrinsics` should be finite, fx and fy positive. Found {(self.fx, self.fy, self.cx, self.cy)}.'
            )

    @classmethod
    def from_angle(cls, size: tuple[int, int], angle: float = ASSUMED_ANGLE) -> 'Intrinsics':
        """Return a camera of square pixels with the axis in the middle and a horizontal angle of view in degrees."""
        if not 0 < angle < 180:
            raise ArgumentError(f'`angle` of view should be between 0 and 180 degrees. Found {angle}.')
        focal = size[1] / 2 / np.tan(np.deg2rad(angle) / 2)
        return cls(float(focal), float(focal), (size[1] - 1) / 2, (size[0] - 1) / 2, is_assumed=True)

    def resized(self, old: tuple[int, int], new: tuple[int, int]) -> 'Intrinsics':
        """Return the camera of an image that was resized from one height and width to another."""
        y, x = new[0] / old[0], new[1] / old[1]
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return Intrinsics(self.fx * x, self.fy * y, cx, cy, self.is_assumed)


@dataclass(frozen=True)
class PointCloud:
    """Points ``(N, 3)`` float32 in metres, x right, y up, z towards the camera, and their colours ``(N, 3)`` uint8 by name."""

    points: np.ndarray
    colours: Mapping[str, np.ndarray]


def make_point_cloud(
    depth: np.ndarray, pictures: Mapping[str, np.ndarray], intrinsics: Intrinsics, max_depth: float = np.inf
) -> PointCloud:
    """Return a point for each pixel of ``depth`` ``(H, W)``, metres along the axis of the camera, from above 0 to ``max_depth``.

    ``pictures`` are its colours ``(H, W, 3)`` uint8 by name.
    """
    rows, columns = np.nonzero((depth > 0) & (depth <= max_depth))
    z = depth[rows, columns].astype(np.float32)
    x = (columns - intrinsics.cx) / intrinsics.fx * z
    y = (rows - intrinsics.cy) / intrinsics.fy * z
    points = np.stack([x, -y, -z], axis=-1).astype(np.float32)
    return PointCloud(points, {name: picture[rows, columns] for name, picture in pictures.items()})


def encode_ply(cloud: PointCloud, comment: str = '') -> bytes:
    """Return a binary PLY file of the points with the first of their colours; ``comment`` is a line of its header."""
    vertices = np.empty(len(cloud.points), [('xyz', '<f4', 3), ('rgb', 'u1', 3)])
    vertices['xyz'], vertices['rgb'] = cloud.points, next(iter(cloud.colours.values()))
    header = [
        'ply',
        'format binary_little_endian 1.0',
        f'comment {" ".join(comment.split())}'.strip(),
        f'element vertex {len(vertices)}',
    ]
    header += [f'property float {axis}' for axis in 'xyz'] + [f'property uchar {name}' for name in ('red', 'green', 'blue')]
    return '\n'.join([*header, 'end_header', '']).encode('ascii', 'replace') + vertices.tobytes()


def render_viewer(cloud: PointCloud, title: str, note: str = '', max_points: int = MAX_POINTS) -> str:
    """Return a page without other files that shows the points, evenly thinned to ``max_points``, for turning and zooming.

    Raises:
        ArgumentError: If there is no point.
    """
    number = len(cloud.points)
    if not number:
        raise ArgumentError('`cloud` is empty: it should have at least one point.')
    chosen = np.linspace(0, number - 1, min(number, max_points)).round().astype(np.int64)
    points = cloud.points[chosen]
    scale = float(np.abs(points).max()) / _STEPS
    data = dict(
        count=len(chosen),
        total=number,
        scale=scale,
        points=_pack((points / scale).round().astype('<i2')),
        colours={name: _pack(colours[chosen]) for name, colours in cloud.colours.items()},
    )
    # Nothing in it can end the element: JSON within HTML.
    packed = json.dumps(data).replace('<', '\\u003c')
    page = _TEMPLATE.read_text(encoding='utf-8')
    for name, text in dict(title=html.escape(title), note=html.escape(note)).items():
        page = page.replace(f'{{{{ {name} }}}}', text)
    return page.replace('{{ data }}', packed)


def _pack(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
