"""A model that is published with the results: its two files and its card, written by the notebook that trains it."""

from pathlib import Path

import numpy as np
import pandas as pd

from .. import published
from ..experiments import labels
from ..files import write_text
from ..intervals import formatted
from ..models import Model, load_model, save_model
from ..patches import cut_patches
from ..photos import read_photo
from . import page
from .predict import PATCHES, PUBLISHED, combine, describe_model, predict_photo

FILE = Path(PUBLISHED).name
SIZED = "with the photo's size"  # in the name of a group: answers are among the cameras of that size (content.of_size)
CLOSE = 1e-3  # difference between the probabilities of the two files
CARD = Path(__file__).with_name("card.md")  # with a place for each fact


def leave(folder: Path, model: Model, train: pd.DataFrame, metrics: pd.DataFrame, photos: list[str]) -> dict:
    """Write model.safetensors, model.onnx and README.md, the model's card, into `folder`; returns sizes and agreement.

    model: with info["identification"], its limits and what they do to test photos. train: the catalogue's rows of its
    training photos. metrics: for the card, its tests (intervals.score) and those of its recipe in new collections, also
    by body (content.bodies), which the column `group` names, as they are and SIZED.
    photos: paths of a few test photos, on which the page's network must agree with it. ValueError if it does not, and
    for models of whole photos.
    """
    limits = dict(model.info["identification"])
    tests = metrics.query("part == 'test' and level == 'photo' and metric == 'accuracy'")
    if limits.get("score") != "feature_similarity":
        limits.pop("means", None)  # no answer needs them
    model = model._replace(info=model.info | {"identification": limits})
    file, network = folder / FILE, folder / page.NETWORK
    page.export(load_model(save_model(model, file)), network)  # of a copy on the CPU
    if not (difference := disagreement(model, network, photos)) <= CLOSE:  # nor if it is not a number
        raise ValueError(f"{network} gives probabilities that differ by {difference:.1e}: export it with another torch")
    sizes = {name: f"{path.stat().st_size / 1e6:.1f} MB" for name, path in (("file", file), ("network", network))}
    facts = sizes | {"photos": len(photos), "difference": difference}
    write_text(folder / "README.md", card(model, train, tests, facts))
    return facts


def disagreement(model: Model, network: Path, photos: list[str]) -> float:
    """The largest difference between the probabilities that a model and its ONNX file give for these photos."""
    import onnxruntime  # only here

    session, found = onnxruntime.InferenceSession(network), []
    for photo in map(read_photo, photos):
        corners, *expected = predict_photo(photo, model)
        outputs = session.run(page.OUTPUTS, {"patches": cut_patches(photo, corners, model.input_size)})
        one, other = (dict(combine(*given, model)["cameras"]) for given in (expected, outputs))
        found += [abs(one[name] - other[name]) for name in one]
    return float(np.max(found))


def card(model: Model, train: pd.DataFrame, tests: pd.DataFrame, facts: dict) -> str:
    """The model card in Markdown; tests: the accuracies among the metrics of `leave`, facts: what it returns."""
    licences = published.read("collections").set_index("collection")["licence"].replace("none", "none stated")
    sources = train.groupby("collection")["camera_model"].agg(["size", lambda names: ", ".join(sorted({*names}))])
    sources.insert(0, "licence", licences.reindex(sources.index).fillna("not listed"))
    known = train.groupby("camera_model")[["device", "collection"]].nunique().join(train["camera_model"].value_counts())
    tests = tests.set_index("experiment").fillna({"group": ""})
    tests.index = [", ".join(filter(None, [labels().get(name, name), own])) for name, own in tests["group"].items()]
    reached = tests[["protocol"]].assign(right=formatted(tests), photos=tests["photos"], parts=tests["collections"])
    limit = model.info["identification"]
    return CARD.read_text(encoding="utf-8").format(
        **facts, classes=len(model.class_names), about=describe_model(model), kind=model.net.settings["network"],
        patches=PATCHES, size=model.input_size, info=model.info, limit=limit, trained=len(train),
        refused=100 * limit["known_refused"], accepted=100 * limit["unknown_accepted"],
        reached=_markdown(["test", "split", "photos correctly classified", "photos", "collections"], reached),
        sources=_markdown(["collection", "licence", "photos", "camera models"], sources),
        known=_markdown(["camera model", "devices", "collections", "photos"], known.reindex(model.class_names)),
    )  # fmt: skip


def _markdown(head: list[str], rows: pd.DataFrame) -> str:
    lines = [head, ["---"] * len(head), *rows.itertuples(name=None)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
