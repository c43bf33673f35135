"""Simulated cameras: from linear light to a JPEG file, one small function for each step of a real camera.

Images are float32 `[3, H, W]`; 1 is the sensor's saturation, after white balance display white. `camera` is a row of
`build.make_devices`.
"""

import io
import os
from importlib.resources import files

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage, sparse, special

from .scenes import OVERSAMPLING, Scene

View = tuple[float, float, float]  # y, x of the photo's top-left corner and width of a pixel, all in scene samples

_MODELS = pd.read_csv(files(__package__) / "models.csv", comment="#", skipinitialspace=True)
COMPACTS, PHONES = (rows.drop(columns="kind").reset_index(drop=True) for _, rows in _MODELS.groupby("kind"))
STEPS = pd.read_csv(
    files(__package__) / "steps.csv", comment="#", skipinitialspace=True, keep_default_na=False, index_col="model"
)  # by model: the step in which it differs from the first, and the columns of that step
GREY, BRIGHT = 0.18, 0.5  # mean exposure of photos and of flat-field frames: shares of the sensor's saturation
BASE, OTHER = "C10", "Z21"  # in their columns as far apart as compacts of two brands usually are
PROCESSING = list(_MODELS.loc[:, "demosaic":])  # columns of what the software does; those before are of the hardware
# the standard tables (ITU-T T.81, Annex K.1) at three qualities; two makers' own: steps grow linearly with frequency
JPEG_OPTIONS = {f"k{quality}": {"quality": quality} for quality in (90, 93, 95)}
for _name, _first, _slope in (("even", 2, 0.4), ("steep", 1, 0.8)):
    _steps = _first + _slope * np.add.outer(np.arange(8), np.arange(8)).ravel()
    JPEG_OPTIONS[_name] = {"qtables": [np.rint(factor * _steps).astype(int).tolist() for factor in (1, 1.5)]}


def one_step_cameras() -> pd.DataFrame:
    """Rows as those of COMPACTS, one per row of STEPS: those of BASE, with the step's columns from OTHER."""
    by_model = COMPACTS.set_index("model")
    table = by_model.loc[[BASE] * len(STEPS)].assign(brand="Base").set_index(STEPS.index)
    for model, columns in STEPS["columns"].items():
        for column in columns.split():
            table.at[model, column] = by_model.at[OTHER, column]
    return table.reset_index()


def point_spread(pixels: int, start: float, step: float, blur: float, length: int) -> sparse.csr_array:
    """Weights `[pixels, length]` from scene samples to pixels: a Gaussian spread collected by square pixels.

    start, step: left edge of the first pixel and width of a pixel, in scene samples; blur: deviation in pixels.
    """
    edges = start + step * np.arange(pixels + 1)
    reach = int(np.ceil(step * (0.5 + 3 * blur)))
    taps = np.floor(edges[:-1] + step / 2).astype(int)[:, None] + np.arange(-reach, reach + 1)
    left, right = ((edge[:, None] - taps - 0.5) / (blur * step) for edge in (edges[:-1], edges[1:]))
    weights = special.ndtr(right) - special.ndtr(left)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    taps = np.clip(taps, 0, length - 1)
    row_ends = np.arange(0, weights.size + 1, taps.shape[1])
    return sparse.csr_array((weights.ravel(), taps.ravel(), row_ends), shape=(pixels, length))


def lens_image(light: np.ndarray, camera, view: View) -> np.ndarray:
    """Lens blur and lateral chromatic aberration, in one resampling: light `[3, H, W]` -> `[3, height, width]`."""
    top, left, step = view
    image = np.empty((3, camera.height, camera.width), np.float32)
    for c, excess in enumerate((camera.ca_red, 0, camera.ca_blue)):  # magnification (Johnson and Farid 2006)
        zoom = 1 + excess / 1000
        axis_y, axis_x = camera.height * (0.5 + camera.off_y), camera.width * (0.5 + camera.off_x)
        y, x = top + step * axis_y * (1 - zoom), left + step * axis_x * (1 - zoom)
        rows = point_spread(camera.height, y, step * zoom, camera.blur / zoom, light.shape[1])
        columns = point_spread(camera.width, x, step * zoom, camera.blur / zoom, light.shape[2])
        image[c] = (columns @ np.ascontiguousarray((rows @ light[c]).T)).T
    return image


def vignette(image: np.ndarray, camera) -> np.ndarray:
    """Light falls off towards the corners as cos^4 of the angle to the axis (natural vignetting)."""
    y = np.linspace(-1, 1, camera.height, dtype=np.float32)[:, None] - np.float32(2 * camera.off_y)
    x = np.linspace(-1, 1, camera.width, dtype=np.float32) - np.float32(2 * camera.off_x)
    tangent2 = (1 - camera.vignette) ** -0.5 - 1  # of the corner's angle, squared
    return image / (1 + np.float32(tangent2 / 2) * (y * y + x * x)) ** 2


def mosaic(image: np.ndarray, cfa: str) -> np.ndarray:
    """What a colour filter array passes (Bayer 1976): `[3, H, W]` -> `[H, W]`."""
    tile = np.array(["RGB".index(colour) for colour in cfa]).reshape(2, 2)
    return np.choose(np.tile(tile, (image.shape[1] // 2, image.shape[2] // 2)), image)


def sensor_pattern(camera) -> np.ndarray:
    """A device's photo-response non-uniformity (Lukas et al. 2006): its relative gain minus 1, `[H, W]`."""
    rng = np.random.default_rng([camera.seed, 1, *camera.model.encode(), camera.device])
    pattern = np.float32(camera.prnu / 100) * rng.standard_normal((camera.height, camera.width), dtype=np.float32)
    lines = rng.standard_normal((camera.height, 1)) + rng.standard_normal(camera.width)
    return pattern + np.float32(camera.linear / 100) * lines.astype(np.float32)


def noise_variance(signal: np.ndarray, camera, iso: int) -> np.ndarray:
    """Variance of shot and read noise at a signal of 0 to 1 (Foi et al. 2008)."""
    electrons = camera.full_well * 100 / iso
    return signal / np.float32(electrons) + np.float32((camera.read / electrons) ** 2)


def expose(raw: np.ndarray, camera, iso: int, rng: np.random.Generator) -> np.ndarray:
    """What the sensor records: gain pattern, shot and read noise, saturation at 1."""
    signal = raw * (1 + sensor_pattern(camera))
    signal += np.sqrt(noise_variance(signal, camera, iso)) * rng.standard_normal(raw.shape, dtype=np.float32)
    return np.clip(signal, 0, 1)


def white_balance(raw: np.ndarray, light: np.ndarray, camera) -> np.ndarray:
    """Imperfect white balance of a mosaic for light of sensor colour `[3]`; clipped, so that highlights are neutral."""
    seen = (light / light[1]) ** camera.wb
    gains = np.array([1 + camera.wb_red / 100, 1, 1 + camera.wb_blue / 100]) / seen
    gains = (gains / gains.min()).astype(np.float32)[:, None, None]
    return np.minimum(raw * mosaic(np.broadcast_to(gains, (3, *raw.shape)), camera.cfa), 1)


def demosaic(raw: np.ndarray, cfa: str, method: str) -> np.ndarray:
    """Fill in the two colours that each pixel lacks: `[H, W]` -> `[3, H, W]`; methods as in models.csv."""
    os.environ.setdefault("COLOUR_SCIENCE__DEFAULT_FLOAT_DTYPE", "float32")  # read on import; twice as fast
    import colour_demosaicing as cd  # slow to import, and needed only where photos are made

    framed = np.pad(raw, 4, mode="reflect")  # keeps the period of the filters; a real sensor has a margin, too
    image = {
        "bilinear": cd.demosaicing_CFA_Bayer_bilinear,
        "malvar": cd.demosaicing_CFA_Bayer_Malvar2004,
        "menon": cd.demosaicing_CFA_Bayer_Menon2007,
        "menon1": lambda raw, cfa: cd.demosaicing_CFA_Bayer_Menon2007(raw, cfa, refining_step=False),
    }[method](framed, cfa)
    return np.clip(np.moveaxis(image[4:-4, 4:-4], -1, 0), 0, 1).astype(np.float32)


def luma(image: np.ndarray) -> np.ndarray:
    """(R + 2 G + B) / 4, the luma of the reversible colour transform of JPEG 2000."""
    return (image[0] + image[2] + 2 * image[1]) / 4


def denoise(image: np.ndarray, camera, iso: int) -> np.ndarray:
    """Local Wiener filter on luma (Lee 1980) and a box filter on R - G and B - G."""
    grey = luma(image)
    mean = ndimage.uniform_filter(grey, camera.window)
    variance = np.maximum(ndimage.uniform_filter(grey * grey, camera.window) - mean * mean, 1e-9)
    noise = camera.denoise * noise_variance(mean, camera, iso)
    grey = mean + np.maximum(1 - noise / variance, 0) * (grey - mean)
    red, blue = (ndimage.uniform_filter(image[c] - image[1], camera.chroma) for c in (0, 2))
    green = grey - (red + blue) / 4
    return np.stack([green + red, green, green + blue])


def local_tone(image: np.ndarray, exponent: float) -> np.ndarray:
    """Brighten dark regions and darken bright ones by a power of the blurred luma (cf. Durand and Dorsey 2002)."""
    small = Image.fromarray(luma(image)).resize([max(1, n // 24) for n in image.shape[:0:-1]], Image.Resampling.BOX)
    base = np.asarray(small.resize(image.shape[:0:-1], Image.Resampling.BICUBIC))
    return image * np.clip(0.2 / np.maximum(base, 0.01), 0.4, 6) ** np.float32(exponent)


def tone_curve(image: np.ndarray, contrast: float) -> np.ndarray:
    """Linear light to display values: the curve of sRGB (IEC 61966-2-1), then a smoothstep mixed in."""
    light = np.linspace(0, 1, 8192)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    value += contrast * (value * value * (3 - 2 * value) - value)
    return value.astype(np.float32)[(np.clip(image, 0, 1) * 8191).astype(np.int16)]


def sharpen(image: np.ndarray, radius: float, amount: float) -> np.ndarray:
    """Unsharp mask on luma: adds `amount` times the difference from its Gaussian blur."""
    grey = luma(image)
    return image + np.float32(amount) * (grey - ndimage.gaussian_filter(grey, radius, truncate=2.5))


def make_wall(seed: list[int], size: tuple[int, int]) -> Scene:
    """A wall out of focus, to make flat-field frames of `size` (width, height): neutral light that changes slowly."""
    slope_y, slope_x = np.random.default_rng(seed).normal(0, 0.15, 2)
    width, height = (round(OVERSAMPLING * side) for side in size)
    light = np.exp(slope_y * np.linspace(-0.5, 0.5, height)[:, None] + slope_x * np.linspace(-0.5, 0.5, width))
    return Scene(np.stack([light.astype(np.float32)] * 3), np.ones(3, np.float32), 100)


def point(scene: Scene, camera, rng: np.random.Generator) -> View:
    """Where a photographer points the camera: a view of 84 to 97 % of the widest."""
    _, height, width = scene.light.shape
    step = rng.uniform(0.84, 0.97) * min(height / camera.height, width / camera.width)
    slack_y, slack_x = height - step * camera.height, width - step * camera.width
    return slack_y * rng.uniform(0.1, 0.9), slack_x * rng.uniform(0.1, 0.9), step


def take_photo(scene: Scene, camera, view: View, rng: np.random.Generator, grey: float = GREY) -> np.ndarray:
    """One photo by one device, from linear light to pixels before JPEG: uint8 `[height, width, 3]`; grey: exposure."""
    share = camera.crosstalk  # colour filters overlap with their neighbours: from scene to sensor colours
    filters = np.array([[1 - share, share, 0], [share / 2, 1 - share, share / 2], [0, share, 1 - share]])
    image = np.einsum("ij,jyx->iyx", filters.astype(np.float32), scene.light)
    image = vignette(lens_image(image, camera, view), camera)
    green = image[1, ::4, ::4]  # is exposed to a mean of `grey`, or lower where over 2 % would saturate
    image *= np.float32(float(min(grey / green.mean(), 1.0 / np.quantile(green, 0.98))) * 2 ** rng.uniform(-0.2, 0.2))
    raw = expose(mosaic(image, camera.cfa), camera, scene.iso, rng)
    raw = white_balance(raw, filters @ scene.illuminant, camera)
    image = denoise(demosaic(raw, camera.cfa, camera.demosaic), camera, scene.iso)
    weights = np.array([0.2126, 0.7152, 0.0722])  # luminance of sRGB's primaries, IEC 61966-2-1
    saturate = camera.saturation * np.eye(3) + (1 - camera.saturation) * weights
    matrix = saturate @ np.linalg.inv(filters)  # from sensor to display colours
    image = np.einsum("ij,jyx->iyx", matrix.astype(np.float32), image)
    image = tone_curve(local_tone(image, camera.local), camera.contrast)
    image = sharpen(image, camera.radius, camera.amount)
    return np.ascontiguousarray(np.moveaxis(np.clip(np.rint(image * 255), 0, 255).astype(np.uint8), 0, -1))


def encode(pixels: np.ndarray, camera, when: str, iso: int, orientation: int | None) -> bytes:
    """A JPEG file with the model's quantisation tables and subsampling; EXIF: make, model, date, ISO, orientation."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x010F], exif[0x0110], exif[0x0132] = camera.brand, camera.model, when
    exif.get_ifd(0x8769).update({0x8827: iso, 0x9003: when})
    if orientation is not None:
        exif[0x0112] = orientation
    options = JPEG_OPTIONS[camera.tables] | {"subsampling": camera.subsampling}
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, **options)
    return buffer.getvalue()
