"""One sample from (seed, split, index) to arrays: the generator without files."""

from dataclasses import dataclass

import numpy as np

from mtl_plugins.synthetic.streets.appearance import photograph, shade_sky
from mtl_plugins.synthetic.streets.assets import load_assets
from mtl_plugins.synthetic.streets.renderer import (
    SKY_FACE,
    Canvas,
    depth_map,
    draw_faces,
    ground_buffers,
    normal_map,
    shade_faces,
)
from mtl_plugins.synthetic.streets.scene_sampler import Scene, sample_scene
from mtl_plugins.synthetic.streets.street import ground_light, shade_ground

SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class Rendering:
    """``image (H, W, 3)`` uint8 RGB, ``label (H, W)`` uint8 class, ``depth (H, W)`` float32 metres (infinite: sky), and if
    asked for ``normals (H, W, 3)`` float32 unit vectors, x right, y up, z towards the camera (zero: sky)."""

    image: np.ndarray
    label: np.ndarray
    depth: np.ndarray
    normals: np.ndarray | None = None


def render_scene(scene: Scene, with_normals: bool = False) -> Rendering:
    """Render a scene with the shared assets."""
    assets = load_assets()
    camera, weather, faces = scene.camera, scene.weather, scene.faces
    buffers = ground_buffers(camera, scene.ground)
    arrays = draw_faces(buffers, camera, faces, assets.atlas, weather.sun * weather.sun_strength, weather.ambient)
    canvas = Canvas(camera.height, camera.width)
    shade_faces(buffers, arrays, faces, camera, assets.atlas, canvas)
    light = ground_light(faces, buffers, camera, scene.ground, weather)
    shade_ground(scene.plan, buffers, camera, scene.ground, assets.atlas, light, canvas)
    shade_sky(weather, camera, buffers.face == SKY_FACE, assets.clouds, canvas)
    depth = depth_map(buffers)
    normals = normal_map(buffers, arrays, camera, scene.ground) if with_normals else None
    image = photograph(weather, canvas, depth, assets.noise)
    return Rendering(image, canvas.label.reshape(canvas.shape), depth, normals)


def render_sample(seed: int, split: str, index: int, size: tuple[int, int], with_normals: bool = False) -> Rendering:
    """The sample that belongs to (seed, split, index), whatever else is rendered."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return render_scene(sample_scene(rng, size, load_assets()), with_normals)
