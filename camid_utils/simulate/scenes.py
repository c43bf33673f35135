"""Places to photograph: procedural scenes with natural statistics, lit by a lamp, the sun or a clouded sky."""

from typing import NamedTuple

import numpy as np
from scipy import fft

OVERSAMPLING = 1.4  # scene samples per pixel of the nominal size


class Scene(NamedTuple):
    light: np.ndarray  # linear light `[3, H, W]`: red, green, blue
    illuminant: np.ndarray  # its colour `[3]`
    iso: int  # the sensitivity that a photographer would choose


def power_law_field(rng: np.random.Generator, shape: tuple[int, int], slope: float, stretch: float) -> np.ndarray:
    """Texture of unit variance, amplitude 1 / frequency**slope (Field 1987); stretch: length / width of the grain."""
    y = fft.fftfreq(shape[0])[:, None] * shape[0] * stretch
    x = fft.rfftfreq(shape[1]) * shape[0]
    amplitude = np.maximum(y * y + x * x, 1).astype(np.float32) ** np.float32(-slope / 2)
    amplitude[0, 0] = 0
    spectrum = fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * amplitude
    field = fft.irfft2(spectrum, s=shape)
    return field / field.std()


def palette(rng: np.random.Generator, colours: int) -> np.ndarray:
    """Reflectances `[colours, 3]` around two or three hues; brightness is log-uniform."""
    # earth and wood, plants, sky and stone, anything: mean and standard deviation of the hue, radians from red
    kinds = [(0.6, 0.35), (1.7, 0.35), (4.0, 0.3), (3.0, 3.0)]
    own = rng.normal(*rng.choice(kinds, 3, p=[0.4, 0.3, 0.2, 0.1]).T)
    hues = own[rng.integers(rng.integers(2, 4), size=colours)] + rng.normal(0, 0.2, colours)
    strength = rng.beta(2, 3, colours) * rng.uniform(0.5, 1.0)
    bright = np.exp(rng.uniform(np.log(0.04), np.log(0.85), colours))
    wheel = np.cos(hues[:, None] - np.array([0, 2, 4]) * np.pi / 3)
    return np.clip(bright[:, None] * (1 + strength[:, None] * wheel), 0.01, 1).astype(np.float32)


def leaf_map(rng: np.random.Generator, shape: tuple[int, int], leaves: int, horizon: float) -> np.ndarray:
    """The visible leaf at each sample of a dead-leaves scene: int16 `[H, W]`, 0 where there is none.

    Radii follow the scale-invariant law r**-3 (Lee, Mumford and Huang 2001); leaves are ellipses or boxes, alike in
    slant and shape, with their centres below `horizon` (share of the height).
    """
    height, width = shape
    smallest, largest = height * rng.uniform(0.008, 0.015), height * rng.uniform(0.2, 0.4)
    radii = (smallest**-2 - rng.random(leaves) * (smallest**-2 - largest**-2)) ** -0.5
    ys, xs = height * rng.uniform(horizon, 1.05, leaves), width * rng.uniform(-0.05, 1.05, leaves)
    slants = rng.uniform(0, np.pi) + rng.normal(0, rng.choice([0.05, 0.4, 3.0]), leaves)
    shapes = np.exp(rng.normal(0, rng.uniform(0.1, 0.7), leaves))
    boxes = rng.random(leaves) < rng.choice([0.0, 0.3, 0.9])
    seen = np.zeros(shape, np.int16)
    for i in range(leaves):
        reach = radii[i] * max(shapes[i], 1 / shapes[i]) * (1.42 if boxes[i] else 1)
        top, left = max(0, int(ys[i] - reach)), max(0, int(xs[i] - reach))
        window = seen[top : int(ys[i] + reach) + 2, left : int(xs[i] + reach) + 2]
        dy = (np.arange(top, top + window.shape[0], dtype=np.float32) - np.float32(ys[i]))[:, None]
        dx = np.arange(left, left + window.shape[1], dtype=np.float32) - np.float32(xs[i])
        cos, sin = np.float32(np.cos(slants[i]) / radii[i]), np.float32(np.sin(slants[i]) / radii[i])
        u, v = (cos * dx + sin * dy) / np.float32(shapes[i]), (cos * dy - sin * dx) * np.float32(shapes[i])
        inside = np.maximum(np.abs(u), np.abs(v)) < 1 if boxes[i] else u * u + v * v < 1
        window[inside] = i + 1
    return seen


def _surface(rng: np.random.Generator, seen: np.ndarray, leaves: int) -> np.ndarray:
    """Reflectance times shading, `[3, H, W]`: each leaf has its own colour, texture and gradient."""
    stretches = (1, 1, rng.choice([0.2, 5]))
    fields = [power_law_field(rng, seen.shape, rng.uniform(0.6, 1.5), stretch) for stretch in stretches]
    kind, depth = rng.integers(3, size=leaves + 1), rng.gamma(1.5, 0.12, leaves + 1).astype(np.float32)
    slope_y, slope_x = rng.normal(0, 0.5, (2, leaves + 1)).astype(np.float32)
    y = np.linspace(-0.5, 0.5, seen.shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, seen.shape[1], dtype=np.float32)
    relief = depth[seen] * np.choose(kind[seen], fields) + slope_y[seen] * y + slope_x[seen] * x
    return palette(rng, leaves + 1).T[:, seen] * np.exp(np.clip(relief, -2, 1))


def make_scene(seed: list[int], size: tuple[int, int]) -> Scene:
    """A random scene for photos of `size` (width, height), `OVERSAMPLING` times as large; two in five show sky."""
    rng = np.random.default_rng(seed)
    shape = (round(size[1] * OVERSAMPLING), round(size[0] * OVERSAMPLING))
    open_air = rng.random() < 0.4
    leaves = int(rng.integers(700, 1800))
    seen = leaf_map(rng, shape, leaves, rng.uniform(0.25, 0.55) if open_air else -0.05)
    warmth = rng.uniform(-0.25, 0.1) if open_air else rng.uniform(-0.25, 0.45)
    light = np.exp([warmth, 0, -1.1 * warmth]).astype(np.float32)
    depth = np.float32(rng.uniform(0.1, 0.5))
    shadow = np.exp(depth * np.clip(power_law_field(rng, shape, 2.0, 1.0), -2, 2))
    scene = _surface(rng, seen, leaves) * shadow * light[:, None, None]
    if open_air:  # the sky is bright, from blue to pale, with faint clouds
        down = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
        clouds = 1 + np.float32(rng.uniform(0, 0.12)) * power_law_field(rng, shape, 2.0, 0.4)
        blue, pale = np.array([0.35, 0.55, 0.95]), np.array([0.9, 0.92, 0.95]) * rng.uniform(0.8, 1.1)
        sky = (blue[:, None, None] * (1 - down) + pale[:, None, None] * down) * clouds
        scene = np.where(seen == 0, sky.astype(np.float32), scene)
    return Scene(scene, light, int(100 * 2 ** rng.integers(0, 2 if open_air else 4)))
