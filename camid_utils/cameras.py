"""Simulated cameras: from linear light to a JPEG file, one small function for each step of a real camera.

Images are float32 planes `[channel, row, column]` in red, green, blue order; 1 is the sensor's saturation
until white balance and display white after it.
"""

import io

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage, sparse, special


def _table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), sep=r"\s+", dtype={"subsampling": str})


# Every name is fictional: no such brand or camera exists. Rows 0 and 4, 1 and 5, ... are cousins.
# width, height   pixels, when the data set's nominal size is 640 x 480
# cfa             colour filters of the top-left 2 x 2 pixels, row by row
# blur            standard deviation of the lens's point spread, pixels
# vignette        share of the light lost in the corners
# ca_red, ca_blue lateral chromatic aberration: magnification less green's, 1/1000
# crosstalk       share of light that each colour filter lets through from its neighbours in the spectrum
# full_well       electrons at saturation, ISO 100;  read: read noise, electrons
# prnu, linear    standard deviation of the photo-response non-uniformity and of its row and column part, %
# wb              share of the illuminant's tint that white balance takes away;  wb_red: its bias, %
_COMPACT_HARDWARE = _table("""
brand   model width height cfa  blur vignette ca_red ca_blue crosstalk full_well read prnu linear   wb wb_red
Zembrel C10     640    480 RGGB 0.55     0.25    0.6    -0.4      0.18      9000    9  0.7   0.10 0.92    1.0
Quillor P300    720    480 GRBG 0.45     0.15    0.2    -0.5      0.22     24000   12  0.5   0.05 0.96    0.0
Obrasta Z21     640    480 GBRG 0.65     0.30   -0.7     0.8      0.16      7000    8  0.9   0.20 0.85   -2.0
Teluvi  S5      672    504 BGGR 0.60     0.20    0.9     0.3      0.20      8000   10  0.8   0.08 0.90    2.0
Zembrel C12     672    504 RGGB 0.55     0.28    0.7    -0.4      0.18      8000    9  0.7   0.10 0.92    1.0
Quillor P350    720    480 GRBG 0.45     0.15    0.3    -0.5      0.22     22000   11  0.5   0.05 0.96    0.5
Obrasta Z30     640    480 RGGB 0.60     0.22   -0.5     0.6      0.16      8000    8  0.8   0.15 0.88   -1.0
Teluvi  S7      640    480 BGGR 0.50     0.18    0.5     0.2      0.20     10000    8  0.6   0.08 0.93    1.0
""")
_PHONE_HARDWARE = _table("""
brand   model width height cfa  blur vignette ca_red ca_blue crosstalk full_well read prnu linear   wb wb_red
Pelquon A4      640    480 GRBG 0.60     0.40    0.4     0.5      0.20      5000    4  1.0   0.05 0.94    1.0
Drumsel X1      640    480 RGGB 0.55     0.35   -0.3     0.4      0.17      6000    3  0.8   0.05 0.96   -1.0
Vintoro M5      640    480 BGGR 0.70     0.45    0.6    -0.3      0.22      4000    5  1.0   0.10 0.86    2.0
Kespra  G8      672    504 GBRG 0.55     0.35    0.3     0.3      0.18      6000    3  0.7   0.05 0.97    0.0
Pelquon A6      672    504 GRBG 0.55     0.40    0.3     0.5      0.20      6000    4  0.9   0.05 0.95    1.0
Drumsel X2      640    480 RGGB 0.50     0.32   -0.3     0.3      0.17      7000    3  0.8   0.05 0.97   -0.5
Vintoro M7      704    400 BGGR 0.65     0.42    0.5    -0.3      0.22      4500    5  0.9   0.10 0.90    1.5
Kespra  G9      672    504 GBRG 0.50     0.33    0.3     0.2      0.18      7000    3  0.7   0.05 0.97    0.5
""")

# demosaic      bilinear; malvar (Malvar, He and Cutler 2004); menon (Menon, Andriani and Calvagno 2007);
#               menon1 (the same without its refining step)
# denoise       variance that the luma filter takes for noise, in units of the sensor's own; window: its width
# chroma        width of the box filter over colour differences, pixels; 1 leaves them alone
# saturation    gain of colour differences after colour correction
# contrast      strength of the S-shaped part of the tone curve, 0 to 1
# local         exponent of local tone mapping; 0 is none
# radius,amount standard deviation of the unsharp mask's blur, pixels, and its gain
# tables        quantisation tables, a key of JPEG_TABLES
_COMPACT_PROCESSING = _table("""
demosaic window denoise chroma saturation contrast local radius amount tables subsampling
malvar        3     1.0      3       1.25     0.30   0.0    1.0   0.60 k93    4:2:2
menon         3     0.3      1       1.05     0.15   0.0    0.8   0.40 steep  4:4:4
bilinear      3     1.5      5       1.35     0.40   0.0    1.2   0.90 k90    4:2:0
bilinear      5     1.0      3       1.20     0.25   0.0    1.5   0.70 k93    4:2:2
malvar        3     1.3      3       1.25     0.35   0.0    1.0   0.75 k93    4:2:2
menon         3     0.5      1       1.10     0.20   0.0    0.8   0.55 steep  4:2:2
malvar        3     2.0      5       1.30     0.40   0.0    1.2   0.80 k90    4:2:0
malvar        5     0.7      3       1.15     0.20   0.0    1.5   0.55 even   4:2:0
""")
_PHONE_PROCESSING = _table("""
demosaic window denoise chroma saturation contrast local radius amount tables subsampling
malvar        5     2.5      7       1.25     0.25  0.30    0.9   1.10 k95    4:2:0
menon1        5     1.5      5       1.15     0.20  0.40    0.7   0.90 k95    4:2:0
bilinear      5     4.0      9       1.35     0.35  0.20    1.3   1.50 k90    4:2:0
menon         7     2.0      5       1.10     0.15  0.45    1.0   0.80 even   4:2:0
malvar        5     2.0      5       1.25     0.25  0.35    0.9   1.00 k95    4:2:0
menon1        5     1.2      5       1.20     0.20  0.45    0.7   0.80 k95    4:2:0
bilinear      5     3.0      7       1.30     0.35  0.25    1.3   1.30 k93    4:2:0
malvar        7     1.6      5       1.10     0.15  0.50    1.0   0.70 even   4:2:0
""")

MODELS = {
    "Dresden": pd.concat([_COMPACT_HARDWARE, _COMPACT_PROCESSING], axis=1),
    "FloreView": pd.concat([_PHONE_HARDWARE, _PHONE_PROCESSING], axis=1),
}

# ITU-T T.81 (1992), Annex K.1: the example tables that most encoders scale; row by row.
_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA = np.full((8, 8), 99)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def scaled_tables(quality: int) -> list[np.ndarray]:
    """The standard luma and chroma tables at a quality of 50 to 100, scaled as the IJG's library does."""
    return [np.clip((table * (200 - 2 * quality) + 50) // 100, 1, 255) for table in (_LUMA, _CHROMA)]


def sloped_tables(first: float, slope: float) -> list[np.ndarray]:
    """A maker's own luma and chroma tables: steps grow linearly with frequency, chroma's 1.5 times luma's."""
    steps = first + slope * np.add.outer(np.arange(8), np.arange(8))
    return [np.rint(steps).astype(int), np.rint(1.5 * steps).astype(int)]


JPEG_TABLES = {
    "k90": scaled_tables(90),
    "k93": scaled_tables(93),
    "k95": scaled_tables(95),
    "even": sloped_tables(2, 0.4),
    "steep": sloped_tables(1, 0.8),
}


def point_spread(pixels: int, start: float, step: float, blur: float, length: int) -> sparse.csr_array:
    """Rows of weights that turn a scene line into a pixel line: a Gaussian spread collected by square pixels.

    pixels, length: pixels in the photo's line and samples in the scene's; start, step: left edge of the first
    pixel and width of a pixel, in scene samples; blur: standard deviation in pixels. Each row sums to 1.
    """
    edges = start + step * np.arange(pixels + 1)
    reach = int(np.ceil(step * (0.5 + 3 * blur)))
    taps = np.floor(edges[:-1] + step / 2).astype(int)[:, None] + np.arange(-reach, reach + 1)
    left, right = ((edge[:, None] - taps - 0.5) / (blur * step) for edge in (edges[:-1], edges[1:]))
    weights = special.ndtr(right) - special.ndtr(left)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    taps = np.clip(taps, 0, length - 1)
    return sparse.csr_array(
        (weights.ravel(), taps.ravel(), np.arange(0, weights.size + 1, taps.shape[1])), shape=(pixels, length)
    )


def lens_image(scene: np.ndarray, camera, view: tuple[float, float, float]) -> np.ndarray:
    """The scene on the sensor: lens blur and lateral chromatic aberration, both linear, in one resampling.

    scene: `[3, H, W]`; view: y and x where the photo's top-left corner lies in the scene, and the width of a
    pixel, all in scene samples. Chromatic aberration is a magnification of red and blue about the lens axis
    (Johnson and Farid 2006). Returns `[3, height, width]`.
    """
    top, left, step = view
    image = np.empty((3, camera.height, camera.width), np.float32)
    for c, excess in enumerate((camera.ca_red, 0, camera.ca_blue)):
        zoom = 1 + excess / 1000
        axis_y, axis_x = camera.height * (0.5 + camera.off_y), camera.width * (0.5 + camera.off_x)
        y, x = top + step * axis_y * (1 - zoom), left + step * axis_x * (1 - zoom)
        rows = point_spread(camera.height, y, step * zoom, camera.blur / zoom, scene.shape[1])
        columns = point_spread(camera.width, x, step * zoom, camera.blur / zoom, scene.shape[2])
        image[c] = (columns @ np.ascontiguousarray((rows @ scene[c]).T)).T
    return image


def vignette(image: np.ndarray, camera) -> np.ndarray:
    """Light falls off towards the corners as cos^4 of the angle to the axis (natural vignetting)."""
    y = np.linspace(-1, 1, camera.height, dtype=np.float32)[:, None] - np.float32(2 * camera.off_y)
    x = np.linspace(-1, 1, camera.width, dtype=np.float32) - np.float32(2 * camera.off_x)
    tangent2 = (1 - camera.vignette) ** -0.5 - 1  # of the corner's angle, squared
    return image / (1 + np.float32(tangent2 / 2) * (y * y + x * x)) ** 2


def mix(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a 3 x 3 colour matrix to `[3, H, W]`."""
    return np.einsum("ij,jyx->iyx", matrix.astype(np.float32), image)


def crosstalk(share: float) -> np.ndarray:
    """3 x 3 matrix from scene to sensor colours: filters overlap with their neighbours; rows sum to 1."""
    return np.array([[1 - share, share, 0], [share / 2, 1 - share, share / 2], [0, share, 1 - share]])


def meter(image: np.ndarray) -> float:
    """Exposure that brings the mean of green to 18 % grey, less where over 2 % would saturate."""
    green = image[1, ::4, ::4]
    return float(min(0.18 / green.mean(), 1.0 / np.quantile(green, 0.98)))


def mosaic(image: np.ndarray, cfa: str) -> np.ndarray:
    """What a colour filter array lets through (Bayer 1976): `[3, H, W]` -> `[H, W]`."""
    raw = np.empty(image.shape[1:], image.dtype)
    for i, colour in enumerate(cfa):
        site = np.s_[i // 2 :: 2, i % 2 :: 2]
        raw[site] = image["RGB".index(colour)][site]
    return raw


def sensor_pattern(camera) -> np.ndarray:
    """A device's photo-response non-uniformity (Lukas et al. 2006): its relative gain less 1, `[H, W]`."""
    rng = np.random.default_rng([camera.seed, 1, *camera.model.encode(), camera.device])
    pattern = np.float32(camera.prnu / 100) * rng.standard_normal((camera.height, camera.width), dtype=np.float32)
    lines = rng.standard_normal((camera.height, 1)) + rng.standard_normal(camera.width)
    return pattern + np.float32(camera.linear / 100) * lines.astype(np.float32)


def noise_variance(signal: np.ndarray, camera, iso: int) -> np.ndarray:
    """Variance of shot and read noise at a signal of 0 to 1 (Foi et al. 2008)."""
    electrons = camera.full_well * 100 / iso
    return signal / np.float32(electrons) + np.float32((camera.read / electrons) ** 2)


def expose(raw: np.ndarray, camera, iso: int, rng: np.random.Generator) -> np.ndarray:
    """Electrons counted by a real sensor: gain pattern, shot and read noise, saturation at 1."""
    signal = raw * (1 + sensor_pattern(camera))
    signal += np.sqrt(noise_variance(signal, camera, iso)) * rng.standard_normal(raw.shape, dtype=np.float32)
    return np.clip(signal, 0, 1)


def white_balance(light: np.ndarray, camera) -> np.ndarray:
    """Gains of red, green, blue for light of sensor colour `[3]`, imperfect as in life; the least is 1."""
    seen = (light / light[1]) ** camera.wb
    gains = np.array([1 + camera.wb_red / 100, 1, 1 + camera.wb_blue / 100]) / seen
    return (gains / gains.min()).astype(np.float32)


def balance(raw: np.ndarray, gains: np.ndarray, cfa: str) -> np.ndarray:
    """White balance of a mosaic; what exceeds the display's white is clipped: highlights stay neutral."""
    tile = gains[["RGB".index(colour) for colour in cfa]].reshape(2, 2)
    return np.minimum(raw * np.tile(tile, (raw.shape[0] // 2, raw.shape[1] // 2)), 1)


def demosaic(raw: np.ndarray, cfa: str, method: str) -> np.ndarray:
    """Fill in the two colours that each pixel lacks: `[H, W]` -> `[3, H, W]`; methods as in the tables above.

    Reflection first continues the frame in the period of the filters, as a real sensor has a margin.
    """
    import colour_demosaicing as cd  # slow to import, and needed only where photos are made

    image = {
        "bilinear": cd.demosaicing_CFA_Bayer_bilinear,
        "malvar": cd.demosaicing_CFA_Bayer_Malvar2004,
        "menon": cd.demosaicing_CFA_Bayer_Menon2007,
        "menon1": lambda raw, cfa: cd.demosaicing_CFA_Bayer_Menon2007(raw, cfa, refining_step=False),
    }[method](np.pad(raw, 4, mode="reflect"), cfa)
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
    red, blue = image[0] - image[1], image[2] - image[1]
    if camera.chroma > 1:
        red, blue = ndimage.uniform_filter(red, camera.chroma), ndimage.uniform_filter(blue, camera.chroma)
    green = grey - (red + blue) / 4
    return np.stack([green + red, green, green + blue])


def colour_matrix(camera) -> np.ndarray:
    """3 x 3 matrix from sensor to display colours: undoes the filters' crosstalk, then raises saturation."""
    grey = np.array([0.2126, 0.7152, 0.0722])  # luminance of sRGB's primaries, IEC 61966-2-1
    saturate = camera.saturation * np.eye(3) + (1 - camera.saturation) * grey
    return saturate @ np.linalg.inv(crosstalk(camera.crosstalk))


def local_tone(image: np.ndarray, exponent: float) -> np.ndarray:
    """Lift dark regions and hold bright ones by a power of the blurred luma (cf. Durand and Dorsey 2002)."""
    if exponent == 0:
        return image
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
    """Unsharp mask on luma: adds `amount` times what a Gaussian blur takes away."""
    grey = luma(image)
    return image + np.float32(amount) * (grey - ndimage.gaussian_filter(grey, radius, truncate=2.5))


def take_photo(
    scene: np.ndarray,
    light: np.ndarray,
    iso: int,
    camera,
    view: tuple[float, float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """One photo by one device, from linear light to pixels before JPEG.

    scene: `[3, H, W]` linear light; light: `[3]`, colour of its illuminant; camera: a row of
    `simulate.make_devices`, as `itertuples` gives it; view: as in `lens_image`. Returns uint8
    `[height, width, 3]`.
    """
    filters = crosstalk(camera.crosstalk)
    image = vignette(lens_image(mix(scene, filters), camera, view), camera)
    image *= np.float32(meter(image) * 2 ** rng.uniform(-0.2, 0.2))
    raw = expose(mosaic(image, camera.cfa), camera, iso, rng)
    gains = white_balance(filters @ light, camera)
    image = demosaic(balance(raw, gains, camera.cfa), camera.cfa, camera.demosaic)
    image = mix(denoise(image, camera, iso), colour_matrix(camera))
    image = tone_curve(local_tone(image, camera.local), camera.contrast)
    image = sharpen(image, camera.radius, camera.amount)
    return np.ascontiguousarray(np.moveaxis(np.clip(np.rint(image * 255), 0, 255).astype(np.uint8), 0, -1))


def encode(pixels: np.ndarray, camera, exif: Image.Exif) -> bytes:
    """A JPEG file with the model's quantisation tables and chroma subsampling, and the EXIF given."""
    buffer = io.BytesIO()
    tables = [table.ravel().tolist() for table in JPEG_TABLES[camera.tables]]
    Image.fromarray(pixels).save(buffer, "JPEG", qtables=tables, subsampling=camera.subsampling, exif=exif)
    return buffer.getvalue()
