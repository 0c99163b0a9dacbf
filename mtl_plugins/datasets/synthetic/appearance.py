"""Light, sky, haze and camera sensor: turns surface colours into a photograph."""

from dataclasses import dataclass

import cv2
import numpy as np

from mtl_plugins.datasets.synthetic.camera import Camera


@dataclass(frozen=True)
class Weather:
    """Light and air of a scene.

    Attributes:
        sun: ``(3,)`` unit vector toward the sun.
        sun_strength, ambient: Light on a surface facing the sun, and from the sky; about 1 together.
        zenith, horizon: RGB of the sky, 0..255.
        cloudiness: 0 clear .. 1 overcast.
        haze: Extinction per metre.
        exposure: Factor on everything.
        temperature: Factor on red, its inverse on blue.
        noise: Standard deviation of the sensor noise in grey levels.
        blur: Standard deviation of the optics' blur in pixels.
        cloud_shift: Where in the cloud and noise tiles this scene looks.
    """

    sun: np.ndarray
    sun_strength: float
    ambient: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    cloudiness: float
    haze: float
    exposure: float
    temperature: float
    noise: float
    blur: float
    cloud_shift: tuple[int, int]


def sample_weather(rng: np.random.Generator) -> Weather:
    """Clear, cloudy, overcast or low sun, with matching sky, haze and exposure."""
    mood = rng.choice(['clear', 'cloudy', 'overcast', 'low sun'], p=[0.35, 0.3, 0.22, 0.13])
    elevation = np.radians(rng.uniform(14, 26) if mood == 'low sun' else rng.uniform(28, 62))
    azimuth = rng.uniform(-np.pi, np.pi)
    sun = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
    strength = {'clear': 0.72, 'cloudy': 0.5, 'overcast': 0.1, 'low sun': 0.7}[mood] * rng.uniform(0.85, 1.1)
    horizon = {'clear': (205, 222, 238), 'cloudy': (208, 216, 224), 'overcast': (205, 208, 212), 'low sun': (246, 214, 176)}[mood]
    zenith = {'clear': (84, 138, 205), 'cloudy': (110, 150, 200), 'overcast': (172, 178, 186), 'low sun': (120, 150, 196)}[mood]
    vary = rng.uniform(0.9, 1.05)
    return Weather(
        sun=sun,
        sun_strength=strength,
        ambient=0.98 - 0.72 * strength,
        zenith=tuple(c * vary for c in zenith),
        horizon=tuple(c * vary for c in horizon),
        cloudiness={'clear': 0.15, 'cloudy': 0.65, 'overcast': 1.0, 'low sun': 0.35}[mood] * rng.uniform(0.7, 1.0),
        haze=float(np.exp(rng.uniform(np.log(4e-4), np.log(6e-3)))),
        exposure=rng.uniform(0.78, 1.2),
        temperature=rng.uniform(0.92, 1.08) * (1.05 if mood == 'low sun' else 1.0),
        noise=rng.uniform(1.0, 5.0),
        blur=rng.uniform(0.35, 0.75),
        cloud_shift=tuple(int(v) for v in rng.integers(0, 1 << 18, 2)),
    )


def shade_sky(weather: Weather, camera: Camera, sky: np.ndarray, clouds: np.ndarray, colour: np.ndarray) -> None:
    """Gradient and clouds on a plane overhead, into ``colour (H, W, 3)`` where ``sky (H, W)``; ``clouds``: square tile 0..1."""
    flat = np.flatnonzero(sky)
    if not len(flat):
        return
    y, x = np.divmod(flat.astype(np.int32), np.int32(camera.width))
    to_world = (camera.rotation.T @ camera.rays).astype(np.float32)
    dx, dy, dz = (row[0] * x + row[1] * y + row[2] for row in to_world)
    height = np.clip(dy / np.hypot(dx, dz), 0.015, 2)
    blend = np.clip(1 - np.exp(-3.5 * height), 0, 1)[:, None]
    pixel = np.array(weather.horizon, np.float32) * (1 - blend) + np.array(weather.zenith, np.float32) * blend
    size = len(clouds)
    u = (dx / (height + 0.08) * 60 + weather.cloud_shift[0]).astype(np.int64) & (size - 1)
    v = (dz / (height + 0.08) * 60 + weather.cloud_shift[1]).astype(np.int64) & (size - 1)
    cover = np.clip((clouds[v, u] - 0.8 + 0.7 * weather.cloudiness) * 3, 0, 1) * np.clip(height * 12, 0, 1)
    grey = np.array([243, 244, 247], np.float32) * (1 - 0.22 * weather.cloudiness * clouds[u, v])[:, None]
    pixel += cover[:, None] * (grey - pixel)
    colour.reshape(-1, 3)[flat] = pixel


def photograph(weather: Weather, colour: np.ndarray, inverse_depth: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Haze, exposure, colour temperature, a film-like tone curve, blur and sensor noise.

    Args:
        colour: ``(H, W, 3)`` float32 RGB, about 0..255; overwritten.
        inverse_depth: ``(H, W)`` float32, 0 = sky (which has its haze already).
        noise: Flat float32 pool of standard normal values.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    haze = 1 - cv2.exp(-weather.haze / np.maximum(inverse_depth, 1e-4))
    haze[inverse_depth == 0] = 0
    colour += haze[..., None] * (np.array(weather.horizon, np.float32) * 0.94 - colour)
    gain = weather.exposure * np.array([weather.temperature, 1.0, 1 / weather.temperature], np.float32)
    sigma = weather.blur
    colour = cv2.GaussianBlur(colour, (3, 3), sigma)
    colour *= gain.astype(np.float32)
    start = weather.cloud_shift[0] % (len(noise) - colour.size) if len(noise) > colour.size else 0
    grain = np.resize(noise[start:], colour.size) if len(noise) < colour.size else noise[start : start + colour.size]
    colour += grain.reshape(colour.shape) * np.float32(weather.noise)
    return _TONE_CURVE[np.clip(colour, 0, 511).astype(np.uint16)]


def _tone_curve() -> np.ndarray:
    """Soft shoulder: 512 linear levels to 8 bits."""
    level = np.arange(512) / 255.0
    return np.clip(255 * (1.06 * level) / (1 + (level / 1.35) ** 3) ** (1 / 3), 0, 255).astype(np.uint8)


_TONE_CURVE = _tone_curve()
