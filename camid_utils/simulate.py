"""Simulated data sets: procedural scenes shot by simulated cameras, in the layouts of Dresden and FloreView.

Nobody needs to download tens of gigabytes to see the study run: the photos made here are read by the same
loaders as the real ones. What is simulated of a camera, and in which order, is in `cameras`.
"""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from scipy import fft

from camid_utils import cameras
from camid_utils.datasets import SIMULATED
from camid_utils.files import alone
from camid_utils.progress import progress

VERSION = 1  # raise it when the same settings give other photos, so that old ones are made again
OVERSAMPLING = 1.4  # scene samples per pixel of the nominal size

_STARTS = {  # of the first photo
    "Dresden": datetime(2009, 4, 1, 9), "FloreView": datetime(2021, 6, 1, 9),
    "Forchheim": datetime(2019, 5, 1, 9), "VISION": datetime(2016, 5, 1, 9),
}  # fmt: skip
MOTIVES = 4  # scenes at each position (Dresden) or location (FloreView)


def power_law_field(rng: np.random.Generator, shape: tuple[int, int], slope: float, stretch: float) -> np.ndarray:
    """Random texture of zero mean and unit variance whose amplitude falls as 1 / frequency**slope.

    Natural scenes have a slope near 1 (Field 1987). stretch: how much longer than wide its grain is.
    """
    y = fft.fftfreq(shape[0])[:, None] * shape[0] * stretch
    x = fft.rfftfreq(shape[1]) * shape[0]
    amplitude = np.maximum(y * y + x * x, 1).astype(np.float32) ** np.float32(-slope / 2)
    amplitude[0, 0] = 0
    spectrum = fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) * amplitude
    field = fft.irfft2(spectrum, s=shape)
    return field / field.std()


def palette(rng: np.random.Generator, colours: int) -> np.ndarray:
    """Reflectances `[colours, 3]` around two or three hues of one place; brightness spread as a logarithm.

    Most hues are those of earth and wood, of plants or of sky and stone; one in ten is anything.
    """
    kinds = [(0.6, 0.35), (1.7, 0.35), (4.0, 0.3), (3.0, 3.0)]  # mean and deviation of hue, radians from red
    own = rng.normal(*rng.choice(kinds, 3, p=[0.4, 0.3, 0.2, 0.1]).T)
    hues = own[rng.integers(rng.integers(2, 4), size=colours)] + rng.normal(0, 0.2, colours)
    strength = rng.beta(2, 3, colours) * rng.uniform(0.5, 1.0)
    bright = np.exp(rng.uniform(np.log(0.04), np.log(0.85), colours))
    wheel = np.cos(hues[:, None] - np.array([0, 2, 4]) * np.pi / 3)
    return np.clip(bright[:, None] * (1 + strength[:, None] * wheel), 0.01, 1).astype(np.float32)


def leaf_map(rng: np.random.Generator, shape: tuple[int, int], leaves: int, horizon: float) -> np.ndarray:
    """Which leaf is seen at each sample of a dead-leaves scene: int16 `[H, W]`, 0 where there is none.

    Lee, Mumford and Huang (2001): leaves fall on one another and radii follow the scale-invariant law r**-3.
    Here they are ellipses or boxes, of a slant and a shape that belong to the scene; none has its centre
    above `horizon` (share of the height).
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
    """Reflectance times shading, `[3, H, W]`: each leaf has a colour, a texture and a gradient of its own."""
    fields = [
        power_law_field(rng, seen.shape, rng.uniform(0.6, 1.5), stretch) for stretch in (1, 1, rng.choice([0.2, 5]))
    ]
    kind, depth = rng.integers(3, size=leaves + 1), rng.gamma(1.5, 0.12, leaves + 1).astype(np.float32)
    slope_y, slope_x = rng.normal(0, 0.5, (2, leaves + 1)).astype(np.float32)
    y = np.linspace(-0.5, 0.5, seen.shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, seen.shape[1], dtype=np.float32)
    relief = depth[seen] * np.choose(kind[seen], fields) + slope_y[seen] * y + slope_x[seen] * x
    colours = palette(rng, leaves + 1)
    return np.moveaxis(colours, -1, 0)[:, seen] * np.exp(np.clip(relief, -2, 1))


def _sky(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A bright, smooth gradient from blue to pale with faint clouds, `[3, H, W]`."""
    down = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    clouds = 1 + np.float32(rng.uniform(0, 0.12)) * power_law_field(rng, shape, 2.0, 0.4)
    blue, pale = np.array([0.35, 0.55, 0.95]), np.array([0.9, 0.92, 0.95]) * rng.uniform(0.8, 1.1)
    gradient = blue[:, None, None] * (1 - down) + pale[:, None, None] * down
    return (gradient * clouds).astype(np.float32)


def make_scene(seed: list[int], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int]:
    """A place to photograph: linear light `[3, H, W]`, its illuminant's colour `[3]`, the ISO it calls for.

    size: width and height of the photos; the scene has `OVERSAMPLING` times as many samples each way. Two
    scenes in five show sky. Light is that of a lamp, the sun or a clouded sky, with soft shadows.
    """
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
    if open_air:
        scene = np.where(seen == 0, _sky(rng, shape), scene)
    return scene, light, int(100 * 2 ** rng.integers(0, 2 if open_air else 4))


def frame(scene: np.ndarray, camera, rng: np.random.Generator) -> tuple[float, float, float]:
    """Where a photographer points the camera: the `view` of `lens_image`, 84 to 97 % of the widest."""
    step = rng.uniform(0.84, 0.97) * min(scene.shape[1] / camera.height, scene.shape[2] / camera.width)
    slack_y, slack_x = scene.shape[1] - step * camera.height, scene.shape[2] - step * camera.width
    return slack_y * rng.uniform(0.1, 0.9), slack_x * rng.uniform(0.1, 0.9), step


def make_exif(camera, when: str, iso: int, orientation: int | None) -> Image.Exif:
    """Make, model, date and ISO; the orientation where the camera has a sensor for it."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = camera.brand, camera.model, when
    exif.get_ifd(0x8769).update({0x8827: iso, 0x9003: when})
    if orientation is not None:
        exif[0x0112] = orientation
    return exif


@contextlib.contextmanager
def single_precision() -> Iterator[None]:
    """Let colour-demosaicing work in float32, in half the time; the setting is global, hence the way back."""
    import colour  # slow to import, and needed only where photos are made

    colour.utilities.set_default_float_dtype(np.float32)
    try:
        yield
    finally:
        colour.utilities.set_default_float_dtype(np.float64)


def shoot(folder: Path, kind: str, scene: int, photos: pd.DataFrame, seed: int, size: tuple[int, int]) -> int:
    """Make one scene and write all photos of it, rows of `plan`, below the folder; returns how many.

    One phone photo in four is held upright: its stored pixels stay as wide as ever, see the scene turned, and
    carry orientation 6. Each photo has its own random stream, so the order of work does not matter.
    """
    light, illuminant, iso = make_scene([seed, *kind.encode(), 2, scene], size)
    turned = np.ascontiguousarray(np.rot90(light, axes=(1, 2)))
    with single_precision():
        for photo in photos.itertuples(index=False):
            rng = np.random.default_rng([seed, *kind.encode(), 3, photo.shot])
            upright = kind != "Dresden" and rng.random() < 0.25
            view = turned if upright else light
            pixels = cameras.take_photo(view, illuminant, iso, photo, frame(view, photo, rng), rng)
            when = _STARTS[kind] + timedelta(days=scene, seconds=30 * photo.shot)
            orientation = None if kind == "Dresden" else 6 if upright else 1
            exif = make_exif(photo, f"{when:%Y:%m:%d %H:%M:%S}", iso, orientation)
            (folder / photo.path).write_bytes(cameras.encode(pixels, photo, exif))
    return len(photos)


def make_devices(kind: str, models: int, per_model: int, size: tuple[int, int], seed: int) -> pd.DataFrame:
    """A row a device: its model's row, with `device` (from 0 in each model) and its own small deviations.

    kind: "Dresden" (compact cameras) or "FloreView" (phones); size: width and height that replace 640 x 480,
    rounded to multiples of 8. Devices of a model differ in their sensor's pattern, in `wb_red` and `wb_blue`
    (%) and in the lens: `blur`, `vignette` and `off_x`, `off_y`, where its axis meets the sensor (shares of
    width and height). Raises ValueError where the table has too few models or a photo would be tiny.
    """
    table = cameras.MODELS[kind]
    if not 1 <= models <= len(table) or per_model < 1:
        raise ValueError(f"{models} models x {per_model} devices: give 1 to {len(table)} and 1 or more")
    if min(size) < 64:
        raise ValueError(f"photos of {size[0]} x {size[1]} pixels: give 64 or more each way")
    rows = table.iloc[np.repeat(np.arange(models), per_model)].reset_index(drop=True)
    rows["device"] = np.tile(np.arange(per_model), models)
    keys = [(seed, 0, *row.model.encode(), row.device) for row in rows.itertuples()]
    red, blue, blur, vignette, off_x, off_y = np.transpose(
        [np.random.default_rng(key).standard_normal(6) for key in keys]
    )
    return rows.assign(
        width=[round(w / 640 * size[0] / 8) * 8 for w in rows["width"]],
        height=[round(h / 480 * size[1] / 8) * 8 for h in rows["height"]],
        wb_red=rows["wb_red"] + 0.8 * red,
        wb_blue=0.8 * blue,
        blur=rows["blur"] * (1 + 0.04 * np.clip(blur, -2, 2)),
        vignette=rows["vignette"] * (1 + 0.04 * vignette),
        off_x=0.01 * off_x,
        off_y=0.01 * off_y,
        seed=seed,
    )


def plan(kind: str, fleet: pd.DataFrame, scenes: int, shots: int) -> pd.DataFrame:
    """A row a photo: its device's row, with `unit`, `scene`, `position`, `motive`, `capture`, `shot`, `path`.

    fleet: from `make_devices`, its rows numbered from 1 by unit; shot numbers all photos from 1; path is
    relative to the root and follows the data set's own naming. Raises ValueError where there is no photo.
    """
    if scenes < 1 or shots < 1:
        raise ValueError(f"{scenes} scenes x {shots} shots: give 1 or more of each")
    taken = pd.MultiIndex.from_product([range(scenes), range(1, shots + 1)], names=["scene", "capture"])
    photos = fleet.assign(unit=range(1, len(fleet) + 1)).merge(taken.to_frame(index=False), how="cross")
    photos = photos.assign(
        position=photos["scene"] // MOTIVES + 1,
        motive=photos["scene"] % MOTIVES + 1,
        shot=range(1, len(photos) + 1),
    )
    name = {
        "Dresden": "{p.brand}_{p.model}_{p.device}/{p.brand}_{p.model}_{p.device}_{p.shot}.JPG",
        "FloreView": "D{p.unit:02d}_{p.brand}_{p.model}/Nat/jpeg-h264/L{p.position}/S{p.motive}/"
        "D{p.unit:02d}_L{p.position}S{p.motive}C{p.capture}.jpg",
    }[kind]
    return photos.assign(path=[name.format(p=photo) for photo in photos.itertuples()])


def listing(photos: pd.DataFrame) -> pd.DataFrame:
    """The columns of Dresden's public listing, `dresden.csv`, for the rows of `plan`."""
    table = photos.rename(columns={"device": "instance", "position": "position_num", "motive": "motive_num"})
    table["filename"] = table["path"].str.rsplit("/").str[-1]
    table["position_name"] = "Simulated place " + table["position_num"].astype(str)
    table["motive_name"] = "scene " + (table["scene"] + 1).astype(str)
    columns = "filename brand model instance shot position_num position_name motive_num motive_name".split()
    return table.sort_values("filename")[columns].assign(url="")


def _finished(root: Path, note: str) -> bool:
    """Whether the root holds the photos that the note describes; an error where it holds files of others."""
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; name a folder for the simulated photos")
    if (root / SIMULATED).is_file():
        return (root / SIMULATED).read_text(encoding="utf-8") == note
    if root.is_dir() and any(root.iterdir()):
        raise FileExistsError(f"{root} has files but no {SIMULATED}: not ours to replace; name a new or empty folder")
    return False


def build(
    root: str | Path,
    name: str,
    note: str,
    photos: pd.DataFrame,
    write: Callable[..., int],
    workers: int,
    tables: dict[str, pd.DataFrame],
) -> Path:
    """Make a data set beside the root and move it into place when whole, unless it is there already.

    note: the marker's text; simulated photos with another note are replaced, other files never. photos: a row a
    photo, with `scene` and `path`; write(folder, scene, photos) writes those of a scene and returns how many.
    tables: CSV files by name.
    """
    final = Path(root).resolve()
    if _finished(final, note):
        return Path(root)
    with alone(final) as aside:
        if _finished(final, note):  # another process made them while this one waited
            return Path(root)
        new = aside / "new"
        for folder in photos["path"].str.rsplit("/", n=1).str[0].unique():
            (new / folder).mkdir(parents=True)
        jobs = (joblib.delayed(write)(folder=new, scene=scene, photos=part) for scene, part in photos.groupby("scene"))
        with progress(total=len(photos), desc=f"simulating {name}", unit="photo") as bar:
            for done in joblib.Parallel(workers, return_as="generator_unordered")(jobs):
                bar.update(done)
        for file, table in tables.items():
            table.to_csv(new / file, index=False)
        (new / SIMULATED).write_text(note, encoding="utf-8")
        if final.exists():
            final.rename(aside / "old")
        new.rename(final)
    return Path(root)


def _simulate(
    root, kind: str, seed: int, models: int, devices: int, scenes: int, shots: int, size, workers: int
) -> Path:
    """One of this module's two data sets, whole, in the root."""
    settings = f"models={models} devices={devices} scenes={scenes} shots={shots} size={size[0]}x{size[1]}"
    note = (
        "Simulated photographs: procedural scenes, simulated cameras with fictional names; none is real.\n"
        f"{kind} layout, version={VERSION} seed={seed} {settings}\n"
    )
    photos = plan(kind, make_devices(kind, models, devices, size, seed), scenes, shots)
    tables = {"dresden.csv": listing(photos)} if kind == "Dresden" else {}
    write = partial(shoot, kind=kind, seed=seed, size=size)
    return build(root, kind, note, photos, write, workers, tables)


def simulate_dresden(
    root: str | Path,
    seed: int = 0,
    models: int = 8,
    devices: int = 2,
    scenes: int = 24,
    shots: int = 1,
    size: tuple[int, int] = (640, 480),
    workers: int = -1,
) -> Path:
    """Simulated compact cameras in the layout of the Dresden image database, `dresden.csv` included.

    models: 1 to 8; devices of each model; scenes, each shot `shots` times by every device; size: nominal
    width and height of a photo (some models differ); workers: processes, -1 for one a core. The photos depend
    on all else, never on the workers. Returns the root. One that already holds these photos is left as it is,
    simulated photos of other settings are replaced, anything else in the root raises FileExistsError.
    """
    return _simulate(root, "Dresden", seed, models, devices, scenes, shots, size, workers)


def simulate_floreview(
    root: str | Path,
    seed: int = 0,
    models: int = 8,
    devices: int = 2,
    scenes: int = 24,
    shots: int = 1,
    size: tuple[int, int] = (640, 480),
    workers: int = -1,
) -> Path:
    """Simulated phones in the layout of FloreView as published, natural stills only; else as the above."""
    return _simulate(root, "FloreView", seed, models, devices, scenes, shots, size, workers)
