"""Light, sky, haze and camera sensor: turns surface colours into a photograph."""

from dataclasses import dataclass

import cv2
import numpy as np

from mtl_plugins.synthetic.streets.camera import Camera
from mtl_plugins.synthetic.streets.renderer import Canvas

NOISE_DEVIATION = 32.0
_SKY_STEPS = 48


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


# Strength of the sun, RGB of the horizon and of the zenith, cloudiness.
_MOODS = {
    'clear': (0.72, (205, 222, 238), (84, 138, 205), 0.15),
    'cloudy': (0.5, (208, 216, 224), (110, 150, 200), 0.65),
    'overcast': (0.1, (205, 208, 212), (172, 178, 186), 1.0),
    'low sun': (0.7, (246, 214, 176), (120, 150, 196), 0.35),
}


def sample_weather(rng: np.random.Generator) -> Weather:
    """Clear, cloudy, overcast or low sun, with matching sky, haze and exposure."""
    mood = rng.choice(list(_MOODS), p=[0.35, 0.3, 0.22, 0.13])
    elevation = np.radians(rng.uniform(14, 26) if mood == 'low sun' else rng.uniform(28, 62))
    azimuth = rng.uniform(-np.pi, np.pi)
    sun = np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])
    strength, horizon, zenith, cloudiness = _MOODS[mood]
    strength *= rng.uniform(0.85, 1.1)
    vary = rng.uniform(0.9, 1.05)
    return Weather(
        sun=sun,
        sun_strength=strength,
        ambient=0.98 - 0.72 * strength,
        zenith=tuple(c * vary for c in zenith),
        horizon=tuple(c * vary for c in horizon),
        cloudiness=cloudiness * rng.uniform(0.7, 1.0),
        haze=float(np.exp(rng.uniform(np.log(4e-4), np.log(6e-3)))),
        exposure=rng.uniform(0.85, 1.35),
        temperature=rng.uniform(0.92, 1.08) * (1.05 if mood == 'low sun' else 1.0),
        noise=rng.uniform(1.0, 5.0),
        blur=rng.uniform(0.35, 0.75),
        cloud_shift=tuple(int(v) for v in rng.integers(0, 1 << 18, 2)),
    )


def shade_sky(weather: Weather, camera: Camera, sky: np.ndarray, clouds: np.ndarray, canvas: Canvas) -> None:
    """Gradient, and clouds on a plane overhead, where ``sky (H, W)``; ``clouds``: square tile in 0..1."""
    flat = np.flatnonzero(sky)
    y, x = np.divmod(flat.astype(np.int32), np.int32(camera.width))
    to_world = (camera.rotation.T @ camera.rays).astype(np.float32)
    dx, dy, dz = (row[0] * x.astype(np.float32) + row[1] * y.astype(np.float32) + row[2] for row in to_world)
    height = np.clip(dy / np.sqrt(dx * dx + dz * dz), 0.015, 2)
    size = len(clouds)
    spread = 60 / (height + np.float32(0.08))
    u = (dx * spread + weather.cloud_shift[0]).astype(np.int64) & (size - 1)
    v = (dz * spread + weather.cloud_shift[1]).astype(np.int64) & (size - 1)
    density = clouds.ravel().take(v * size + u)
    cover = np.clip((density - np.float32(0.8 - 0.7 * weather.cloudiness)) * 3, 0, 1) * np.minimum(height * 12, 1)
    blend = 1 - np.exp(-3.5 * height)
    steps = np.linspace(0, 1, _SKY_STEPS)[:, None]
    clear = np.array(weather.horizon) * (1 - steps) + np.array(weather.zenith) * steps
    cloud = np.array([243, 244, 247]) * (1 - 0.1 * weather.cloudiness)
    base = canvas.add_colours((clear[:, None] + steps[None] * (cloud - clear[:, None])).reshape(-1, 3))
    last = np.float32(_SKY_STEPS - 0.51)
    canvas.entry[flat] = base + (blend * last).astype(np.int64) * _SKY_STEPS + (cover * last).astype(np.int64)
    canvas.brightness[flat] = 1 - np.float32(0.16 * weather.cloudiness) * density * cover


def photograph(weather: Weather, canvas: Canvas, depth: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Haze, exposure, colour temperature, a soft shoulder, blur and sensor noise, as uint8 RGB ``(H, W, 3)``.

    ``depth`` is infinite for the sky, whose colour holds its haze already; ``noise`` a flat pool with the mean 128 and the
    standard deviation ``NOISE_DEVIATION``.
    """
    clear = cv2.exp(np.where(np.isinf(depth), 0, np.float32(-weather.haze) * depth))
    gains = weather.exposure * weather.temperature, weather.exposure, weather.exposure / weather.temperature
    planes = []
    for plane, air, gain in zip(canvas.planes(), weather.horizon, gains, strict=True):
        air_light = np.float32(0.94 * air)
        plane -= air_light
        plane *= clear
        plane += air_light
        plane *= np.float32(gain)
        plane *= 1.1 - plane * np.float32(1 / 1200)
        planes.append(cv2.convertScaleAbs(np.minimum(plane, 255, out=plane)))
    image = cv2.GaussianBlur(cv2.merge(planes), (3, 3), weather.blur)
    start = weather.cloud_shift[0] % max(len(noise) - image.size, 1)
    grain = np.resize(noise[start:], image.shape)
    strength = weather.noise / NOISE_DEVIATION
    return cv2.addWeighted(image, 1, grain, strength, -128 * strength)
