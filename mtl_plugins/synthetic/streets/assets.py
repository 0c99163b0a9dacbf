"""Everything drawn once and shared by all scenes: the texture atlas, vehicle templates, clouds, a pool of noise."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from mtl_plugins.synthetic.streets.appearance import NOISE_DEVIATION
from mtl_plugins.synthetic.streets.atlas import Atlas
from mtl_plugins.synthetic.streets.sprites import add_sprites
from mtl_plugins.synthetic.streets.surfaces import add_surfaces, cloud_tile
from mtl_plugins.synthetic.streets.vehicles import Vehicle, build_vehicles

_NOISE_POOL = 1 << 21


@dataclass(frozen=True)
class Assets:
    """The shared drawings. ``noise``: flat uint8, mean 128; ``clouds``: square float32 tile in 0..1."""

    atlas: Atlas
    vehicles: dict[str, list[Vehicle]]
    clouds: np.ndarray
    noise: np.ndarray


@cache
def load_assets() -> Assets:
    """Draw the assets (the same in every process: they do not depend on a scene's seed)."""
    rng = np.random.default_rng(19)
    atlas = Atlas()
    add_surfaces(atlas, rng)
    add_sprites(atlas, rng)
    vehicles = build_vehicles(atlas)
    noise = np.clip(128.5 + NOISE_DEVIATION * rng.standard_normal(_NOISE_POOL, dtype=np.float32), 0, 255).astype(np.uint8)
    return Assets(atlas.freeze(), vehicles, cloud_tile(rng), noise)
