"""What a model says about one photo: where its patches lie, what each looks like, and what they say together."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp, softmax
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ..batches import batch_rows, best_device
from ..models import Model, to_input
from ..patches import cut_patches
from ..photos import header_key, resize
from ..project import resolve

PATCHES = 64  # at most, per photo: enough for a vote and a map, few enough for a browser
# How much a photo looks like those of the known cameras: the largest probability; the logarithm of the sum of the
# exponentials of a patch's logits, mean over patches (minus the energy of Liu et al. 2020); minus the distance of the
# photo's mean features to the nearest camera's.
SCORES = ("confidence", "energy", "feature_similarity")
IDENTIFIER = "identifier"  # name of notebook 06's model files: the best network with its calibration
PUBLISHED = "results/photographs/model/model.safetensors"  # it knows real cameras


class PatchPredictions(NamedTuple):  # of a photo's n patches
    corners: np.ndarray  # int [n, 2], top left (y, x)
    logits: np.ndarray  # float [n, classes]
    features: np.ndarray  # float [n, d], the input of the network's classifier


class PatchNetwork(nn.Module):
    """Logits [n, classes] and features [n, d] of uint8 patches [n, size, size, 3]; the page runs it too."""

    def __init__(self, model: Model):
        super().__init__()
        self.net, self.input_range = model.net, model.input_range

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.features(to_input(patches.permute(0, 3, 1, 2), self.input_range))
        return self.net.classifier(features), features


def patch_positions(height: int, width: int, size: int, margin: float = 0.0, align: int = 1) -> np.ndarray:
    """Top left corners [n, 2] (y, x) of at most PATCHES evenly spaced patches, half overlapping in small photos.

    margin: the share of each side that is left out at either end, as far as one patch fits; align: corners are moved up
    and left to multiples of so many pixels.
    """
    if min(height, width) < size:
        raise ValueError(f"smaller ({width} x {height} pixels) than a patch ({size} x {size})")
    sides, step = np.array([height, width]), max(1, size // 2)
    first = np.minimum((margin * sides).astype(int), (sides - size) // 2)
    room = sides - 2 * first - size
    while (counts := -(-room // step) + 1).prod() > PATCHES:
        step += 1
    ys, xs = (np.arange(n) * length // max(1, n - 1) for n, length in zip(counts, room, strict=True))
    ys, xs = (np.unique((places + start) // align * align) for places, start in zip((ys, xs), first, strict=True))
    return np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=2).reshape(-1, 2)


def few_threads() -> threadpool_limits:
    """Half of PyTorch's threads, at most 4, or OMP_NUM_THREADS: with more, all wait for the one on a busy core."""
    few = max(1, min(4, torch.get_num_threads() // 2))
    return threadpool_limits(None if "OMP_NUM_THREADS" in os.environ else few, "openmp")


def predict_photo(photo: np.ndarray, model: Model) -> PatchPredictions:
    """What the model says about a photo uint8 [h, w, 3], in float32; ValueError if it is smaller than a patch."""
    size, device = model.input_size, best_device()
    corners = patch_positions(*photo.shape[:2], size, model.info.get("margin", 0.0), model.info.get("align", 1))
    if model.info.get("kind") == "resize":  # the whole photo as one patch
        corners, patches = np.zeros((1, 2), int), resize(photo, size, size)[None]
    else:
        patches = cut_patches(photo, corners, size)
    network, chunks = PatchNetwork(model).to(device), batch_rows(np.arange(len(patches)), 32)
    try:
        with torch.inference_mode():
            steps = [network(torch.from_numpy(patches[rows]).to(device)) for rows in chunks]
    finally:
        model.net.cpu()  # where all other code expects it
    return PatchPredictions(corners, *(torch.cat(values).cpu().double().numpy() for values in zip(*steps, strict=True)))


def fitting(model: Model, sizes: Iterable[str]) -> np.ndarray:
    """Which cameras took training photos of each of these sizes (`size_key`): bool [sizes, classes]."""
    seen = model.info.get("sizes", {})
    return np.array([np.isin(model.class_names, seen.get(size, [])) for size in sizes])


def combine(logits: np.ndarray, features: np.ndarray, model: Model, size: str = "") -> dict:
    """The answer of a photo's patches, from their logits [n, classes] and features [n, d].

    Probabilities: softmax of the mean logits over notebook 06's temperature (Guo et al. 2017). size: the photo's
    `size_key`; if some cameras took training photos of this size, only these are possible. Keys: cameras ([name,
    probability], most probable first; 0 where not possible), pixels (the same by the pixels alone), patches, votes (for
    the first camera), SCORES (feature_similarity if the model has mean features), score (the model's own), size_unseen
    (no training photo has the size), unknown (that, or the score is below the threshold).
    """
    calibration, sizes = model.info.get("identification", {}), model.info.get("sizes", {})
    fits = fitting(model, [size])[0]
    possible = fits if fits.any() else ~fits
    among = np.where(possible, logits, -np.inf)
    cameras, pixels = (_ranked(each, model, calibration.get("temperature", 1.0)) for each in (among, logits))
    first = model.class_names.index(cameras[0][0])
    found = {"confidence": cameras[0][1], "energy": float(logsumexp(among, axis=1).mean())}
    if "means" in calibration:
        distances = np.linalg.norm(features.mean(axis=0) - np.array(calibration["means"]), axis=1)
        found["feature_similarity"] = -float(distances[possible].min())
    chosen = calibration.get("score", "confidence")
    if chosen not in found:
        raise ValueError(f"the model's score {chosen!r} is not one of {', '.join(found)}: run notebook 06 again")
    size_unseen = bool(sizes and size and size not in sizes)
    unknown = "threshold" in calibration and (size_unseen or found[chosen] < calibration["threshold"])
    votes = int((among.argmax(axis=1) == first).sum())
    return {"cameras": cameras, "pixels": pixels, "patches": len(logits), "votes": votes, **found,
            "score": found[chosen], "size_unseen": size_unseen, "unknown": unknown}  # fmt: skip


def _ranked(logits: np.ndarray, model: Model, temperature: float) -> list[list]:
    """[name, probability] of each class, from the mean of its logits [n, classes]; most probable first."""
    values = logits.mean(axis=0)
    probabilities = softmax(values / temperature)
    return [[model.class_names[i], float(probabilities[i])] for i in np.argsort(-values, kind="stable")]


def parts_statistic(corners: np.ndarray, logits: np.ndarray) -> tuple[float, list]:
    """How much better two cameras explain a photo than one: gain in log-likelihood per patch, and the two sides.

    The largest gain over all straight seams with at least two rows (or columns) of patches on each side; each side gets
    its own most likely class, such as [("left", 3), ("right", 0)]. 0 and [] where no seam gains. Arrays: as `combine`.
    """
    best, found = 0.0, []
    for axis, names in ((1, ("left", "right")), (0, ("top", "bottom"))):
        for place in np.unique(corners[:, axis])[2:-1]:
            first = corners[:, axis] < place
            sums = [logits[side].sum(axis=0) for side in (first, ~first)]
            gain = float(sums[0].max() + sums[1].max() - (sums[0] + sums[1]).max())
            if gain > best + 1e-9:  # of equal seams the first, whatever the rounding
                best, found = gain, [(name, int(each.argmax())) for name, each in zip(names, sums, strict=True)]
    return best / len(logits), found


def compare_parts(corners: np.ndarray, logits: np.ndarray, model: Model) -> dict:
    """Whether the parts of a photo look like different cameras: keys parts_statistic, parts_differ and parts.

    They differ above the model's limit, if it has one; then parts is, for example, [["left", "A"], ["right", "B"]].
    """
    statistic, sides = parts_statistic(corners, logits)
    differ = statistic > model.info.get("identification", {}).get("splice_threshold", np.inf)
    parts = [[side, model.class_names[i]] for side, i in sides] if differ else []
    return {"parts_statistic": statistic, "parts_differ": differ, "parts": parts}


def seen_headers(photos: pd.DataFrame) -> dict[str, dict]:
    """For a model's info: headers, for each `header_key` of training photos [camera model, photos], most first."""
    sides = photos[["path", "height", "width"]].itertuples(index=False)
    seen = photos["camera_model"].groupby(np.array([header_key(*photo) for photo in sides]))
    counts = {key: own.value_counts().sort_index().sort_values(ascending=False, kind="stable") for key, own in seen}
    return {"headers": {key: [[str(name), int(n)] for name, n in own.items()] for key, own in counts.items() if key}}


def seen_sizes(photos: pd.DataFrame) -> dict[str, dict]:
    """For the info of a model that is to rely on them: sizes, for each `size_key` of training photos camera models."""
    keys = np.array([*map(size_key, photos["height"], photos["width"])])
    sizes = photos["camera_model"].groupby(keys).unique()
    return {"sizes": {key: sorted(map(str, names)) for key, names in sizes.items()}}


def size_key(height: int, width: int) -> str:
    """A photo's sides, upright or not: for example "2848 x 4288"."""
    return " x ".join(map(str, sorted((int(height), int(width)))))


def compare_header(key: str, size: str, answer: dict, model: Model) -> dict:
    """What a photo's header and size say beside its pixels: keys header, size and rests_on.

    key, size: its `header_key` and `size_key`; answer: of `combine` and `compare_parts`. header, size: their entries in
    `seen_headers` and `seen_sizes`. rests_on: sentences, "" if the model knows no headers of training photos.
    """
    seen, sized = (model.info.get(name, {}).get(own, []) for name, own in (("headers", key), ("sizes", size)))
    found = {"header": seen, "size": sized, "rests_on": ""}
    if "headers" not in model.info:
        return found
    names, first = [name for name, _ in seen], answer["pixels"][0][0]
    refused = answer["unknown"] or answer["parts_differ"]
    pixels = first.replace("_", " ")
    if answer["parts_differ"]:
        pixels = "different cameras in its parts"
    elif answer["unknown"]:
        pixels = "none of the known cameras of its size" if sized else "none of the known cameras"
    if not key:
        text = "It has no JPEG header."
    elif not seen:
        text = "The header is one that training never saw."
    elif first in names and not refused:
        text = f"The header says {_any_of(names)}; the pixels agree."
    else:
        text = f"The header says {_any_of(names)}, the pixels say {pixels}: they disagree."
    if sized:
        text += f" Training photos of this size are by {_any_of(sized)}{' only' if len(sized) == 1 else ''}"
        text += "." if seen or refused or first in sized else f"; the pixels alone favour {pixels}."
    elif not seen and "sizes" in model.info:
        text += " No training photo has this size: the photo is by another camera, was taken at another setting,"
        text += " or was cropped or scaled."
    return found | {"rests_on": text}


def _any_of(names: list[str]) -> str:
    """Up to three cameras, and how many others."""
    names = [name.replace("_", " ") for name in names]
    return " or ".join(names if len(names) <= 3 else [*names[:3], f"{len(names) - 3} others"])


def describe_model(model: Model) -> str:
    """What the model was trained on, and how often it errs, as far as that was measured."""
    data, rates = model.info["dataset"], model.info.get("identification", {})
    text = f"{len(model.class_names)} cameras, trained on {data}{'' if data.endswith('photographs') else ' photos'}"
    if "elsewhere" in rates:
        own = rates["elsewhere"]
        named, misnamed, refused = (f"{100 * own[key]:.0f} %" for key in ("named", "misnamed", "refused"))
        text += f". Of {own['photos']} photos by other bodies of known cameras, in places that training never saw,"
        text += f" models like it named the right camera for {named}, a wrong one for {misnamed}, and refused {refused}"
    if "threshold" not in rates:
        return f'{text}. It always names one of them: no threshold for "none of the known cameras" was measured.'
    known, unknown = (f"{100 * rates[key]:.0f} %" for key in ("known_refused", "unknown_accepted"))
    text += f". Models like it, trained without some cameras, refused {known} of their answers about {rates['photos']}"
    text += f" test photos by cameras they knew; of {rates['unknown_photos']} by others they named {unknown}"
    if "splice_threshold" in rates:
        found, alarms = (f"{100 * rates[key]:.0f} %" for key in ("splice_detected", "splice_false_alarms"))
        text += f"; {found} of splices were detected, {alarms} of untouched photos called spliced"
    return f"{text}."


def default_model() -> Path:
    """The newest model of photographs of your own (FloreView), else PUBLISHED, else any other under data/.

    An identifier of notebook 06 comes before the best network of notebook 04.
    """
    found = []
    for name in (IDENTIFIER, "efficientnet-best"):
        paths = resolve("data").glob(f"*/models/*/{name}-[0-9]*.safetensors")
        found += sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    own = [path for path in found if not path.parent.name.startswith(("simulated", "public"))]
    for path in (*own, published := resolve(PUBLISHED), *found):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no model: {published} is missing, and none was trained; give --model FILE")
