"""Which camera took a photo, how sure that is, and where in the photo it shows: `python -m camid_utils.identify`."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL.PngImagePlugin import PngImageFile
from scipy.special import softmax
from torch import Tensor, nn
from tqdm import tqdm

from .content import cut
from .degradation import resized
from .experiments import resolve
from .models import Model, load_model, to_input
from .patches import MAX_PIXELS, read_photo
from .plots import readable, save
from .plots_photos import camera_map
from .progress import progress
from .training import chunked, make_fabric

PATCHES = 64  # the most that a photo is asked for: enough for a vote and a map, little enough for a browser
PRECISION = "32-true"  # the page's: in bfloat16 its answers would differ
BATCH = 32  # patches that the network is given at once
# How much a photo looks like those of the known cameras: the largest probability; the share of patches that vote for
# that camera; the mean over patches of their largest probability; minus the distance from the photo's mean features to
# the nearest camera's.
SCORES = ("confidence", "agreement", "clarity", "likeness")
IDENTIFIER = "identifier"  # the name of notebook 06's model files: the best network, with its calibration
SUFFIXES = {".jpg", ".jpeg", ".png"}


def read(path: str | Path) -> np.ndarray:
    """Pixels of a JPEG or PNG as stored, uint8 [height, width, 3]: not rotated, colours not converted, no alpha.

    ValueError, with the path and the reason, for a file that is neither, is damaged or too large.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            png = file.read(8) == b"\x89PNG\r\n\x1a\n"
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    return _read_png(path) if png else read_photo(path)


def _read_png(path: Path) -> np.ndarray:
    """An 8-bit PNG; ValueError for what Pillow cannot decode and for 16-bit samples, which no camera's JPEG gave."""
    try:
        with open(path, "rb") as file:
            header = file.read(25)  # ISO/IEC 15948, 11.2.2: after the signature width, height and bit depth
        width, height = (int.from_bytes(header[start : start + 4]) for start in (16, 20))
        if header[24:] == b"\x10":
            raise ValueError("a PNG of 16 bits a sample; save it with 8")
        if width * height > MAX_PIXELS:
            raise ValueError(f"its header claims {width} x {height} pixels")
        with warnings.catch_warnings(action="ignore"), PngImageFile(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def positions(height: int, width: int, size: int, most: int = PATCHES) -> np.ndarray:
    """Top left corners [n, 2] (y, x) of at most `most` patches in evenly spaced rows and columns, edges included.

    Neighbours overlap by half where the photo is small, less or not at all where it is large.
    """
    if most < 4:
        raise ValueError(f"most={most}: a photo larger than a patch has one in each corner, four at the least")
    _check_size(height, width, size)

    def count(length: int, step: int) -> int:
        return -(-(length - size) // step) + 1

    step = max(1, size // 2)
    while count(height, step) * count(width, step) > most:
        step += 1
    ys, xs = (_spread(length - size, count(length, step)) for length in (height, width))
    return np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=2).reshape(-1, 2)


def _check_size(height: int, width: int, size: int) -> None:
    if min(height, width) < size:
        raise ValueError(f"smaller ({width} x {height} pixels) than a patch ({size} x {size})")


def _spread(room: int, count: int) -> np.ndarray:
    """`count` whole numbers evenly from 0 to `room`; a single one in the middle."""
    return np.arange(count) * room // (count - 1) if count > 1 else np.array([room // 2])


class Seen(NamedTuple):
    """What a model makes of a photo's n patches."""

    corners: np.ndarray  # int [n, 2], top left (y, x)
    log_probs: np.ndarray  # float [n, classes]
    features: np.ndarray  # float [n, d], what the network's classifier is given


def network(net: nn.Module, patches: Tensor, input_range: str) -> tuple[Tensor, Tensor]:
    """Log-probabilities [n, classes] and features [n, d] of uint8 patches [n, size, size, 3], as the page has them."""
    features = net.features(to_input(patches.permute(0, 3, 1, 2), input_range))
    return net.classifier(features).log_softmax(1), features


@torch.inference_mode()
def look(photo: np.ndarray, model: Model, fabric=None) -> Seen:
    """What the model makes of a photo, uint8 [height, width, 3].

    A model trained on whole photos squashed gets the whole photo: one "patch" at (0, 0). It was trained on photos
    decoded at a reduced scale (see patches), which differ from this one by a grey level or two. ValueError for a photo
    smaller than the model's input.
    """
    size, fabric = model.input_size, fabric or make_fabric(PRECISION)
    device = next(model.net.parameters()).device
    if model.info.get("kind") == "resize":
        _check_size(*photo.shape[:2], size)
        corners, patches = np.zeros((1, 2), int), resized(photo, size, size)[None]
    else:
        corners = positions(*photo.shape[:2], size)
        patches = cut(photo, corners, size)
    steps = []
    for rows in chunked(np.arange(len(patches)), BATCH):
        with fabric.autocast():
            step = network(model.net, torch.from_numpy(patches[rows]).to(device), model.input_range)
        steps.append([values.double().cpu().numpy() for values in step])
    return Seen(corners, *map(np.concatenate, zip(*steps, strict=True)))


def ready(model: Model, fabric) -> Model:
    """The model with its network on the device that `look` will use."""
    return model._replace(net=fabric.setup_module(model.net))


def answer(log_probs: np.ndarray, features: np.ndarray, model: Model) -> dict:
    """What the patches' log-probabilities [n, classes] and features [n, d] say together.

    Probabilities are the softmax of the patches' mean log-probability over the temperature that notebook 06 fitted
    (Guo et al. 2017). Keys: cameras (list of [name, probability], likeliest first), patches, agreed (patches that
    name the likeliest camera), SCORES (likeness only where the model has its cameras' mean features), score (the one
    the model goes by), unknown (whether it is below the threshold).
    """
    calibration = model.info.get("identification", {})
    mean = log_probs.mean(axis=0)
    probabilities = softmax(mean / calibration.get("temperature", 1.0))
    order = np.argsort(-probabilities, kind="stable")
    agreed = int((log_probs.argmax(axis=1) == order[0]).sum())
    scores = {
        "confidence": float(probabilities[order[0]]),
        "agreement": agreed / len(log_probs),
        "clarity": float(np.exp(log_probs.max(axis=1)).mean()),
    }
    if "means" in calibration:
        distances = np.linalg.norm(features.mean(axis=0) - np.array(calibration["means"]), axis=1)
        scores["likeness"] = -float(distances.min())
    score, threshold = scores[calibration.get("score", "confidence")], calibration.get("threshold")
    return {
        "cameras": [[model.class_names[i], float(probabilities[i])] for i in order],
        "patches": len(log_probs),
        "agreed": agreed,
        **scores,
        "score": score,
        "unknown": threshold is not None and score < threshold,
    }


def latest_model(data: str | Path = "data") -> Path:
    """The newest model under the data folder: of those of notebook 06, else of the best ones of notebook 04."""
    for name in (IDENTIFIER, "efficientnet-best"):
        found = resolve(data).glob(f"*/models/*/{name}-[0-9]*.safetensors")
        if newest := max(found, key=lambda path: path.stat().st_mtime, default=None):
            return newest
    raise FileNotFoundError(f"no trained model under {resolve(data)}: run `make study` first, or give --model FILE")


def photos_of(arguments: Iterable[str]) -> list[Path]:
    """The files that are named, and the photos in folders that are named, at any depth."""
    found = []
    for path in map(Path, arguments):
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        found += inside
    return found


def identified(path: Path, model: Model, fabric=None) -> tuple[dict, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The answer for one photo, with its name and the seconds taken; and what a map shows: pixels, corners, log_probs.

    ValueError, with the path and the reason, for a photo that cannot be used.
    """
    started = time.perf_counter()
    photo = read(path)
    try:
        seen = look(photo, model, fabric)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    found = {"photo": str(path), **answer(seen.log_probs, seen.features, model)}
    return found | {"seconds": round(time.perf_counter() - started, 3)}, (photo, seen.corners, seen.log_probs)


def in_words(found: dict) -> str:
    """An answer as a person reads it."""
    cameras = [(readable([name])[0], probability) for name, probability in found["cameras"]]
    lines = [f"{name:<28} {probability:6.1%}" for name, probability in cameras[:3]]
    patches = f"{found['agreed']} of {found['patches']} patches name {cameras[0][0]}"
    lines.append(patches if found["patches"] > 1 else "looked at as a whole, not patch by patch")
    if found["unknown"]:
        lines.insert(0, "none of the known cameras, it seems; of those the likeliest are")
    return "\n".join([found["photo"], *(f"  {line}" for line in lines)])


def about(model: Model) -> str:
    """Which model answers, and how often it errs about unknown cameras where that was measured."""
    text = f"{len(model.class_names)} cameras, learned from {model.info['dataset']} photographs"
    known = model.info.get("identification", {})
    if known.get("threshold") is None:
        return text + '; it has no threshold for unknown cameras (notebook 06 measures one), so "none" is no answer'
    if not {"known_refused", "unknown_accepted"} <= known.keys():
        return text + '; it can answer "none", how rightly was not measured'
    return (
        f"{text}. Of test photos it took {known['known_refused']:.0%} of known cameras for unknown, "
        f"and {known['unknown_accepted']:.0%} of unknown cameras for known"
    )


def map_path(out: Path, number: int, photo: Path, several: bool) -> Path:
    """Where a photo's map goes: `out` itself, or beside it with the photo's number and name where there are several."""
    return out.with_name(f"{out.stem}-{number}-{photo.stem}{out.suffix}") if several else out


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 0: every photo has an answer; 1: some could not be read; 2: it could not go on."""
    options = _parser().parse_args(arguments)
    try:
        model = load_model(options.model or latest_model())
        photos = photos_of(options.photos)
        if options.map and options.map.suffix != ".png":
            raise ValueError(f"--map {options.map}: maps are PNG files, give a name that ends in .png")
        if not photos:
            raise FileNotFoundError(f"no photo in {', '.join(options.photos)}: JPEG and PNG files are read")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    fabric = make_fabric(PRECISION)
    model, failures = ready(model, fabric), 0
    print(about(model), file=sys.stderr)
    for number, path in enumerate(progress(photos, "photos", unit="photo", disable=len(photos) < 5), 1):
        try:
            found, shown = identified(path, model, fabric)
        except ValueError as error:
            failures += 1
            tqdm.write(f"left out: {error}", file=sys.stderr)
            continue
        tqdm.write(json.dumps(found) if options.json else in_words(found), file=sys.stdout)
        if options.map:
            figure = camera_map(*shown, model.class_names, about(model))
            target = map_path(options.map, number, path, len(photos) > 1)
            try:
                save(figure, target.parent, target.stem)
            except OSError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
    if failures:
        print(f"{failures} of {len(photos)} photos could not be read", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m camid_utils.identify", description=__doc__)
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="JPEG or PNG files, or folders of them")
    parser.add_argument("--model", metavar="FILE", help="a model file (default: the newest best one under data/)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with all cameras and scores")
    parser.add_argument("--map", type=Path, metavar="OUT.png", help="draw what each part of the photo looks like")
    return parser


if __name__ == "__main__":
    sys.exit(main())
