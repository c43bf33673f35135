"""The confusion matrices of a run as one page for any browser, which each run ends with.

The page (web/) has its data, script and style inside and loads nothing. It shows simulated photographs as thumbnails;
real ones are never copied: where they are public, it links to them.
"""

import io
import json
from base64 import b64encode
from gzip import compress
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from .. import published
from ..catalogues import folder_name
from ..evaluation import class_names, log_probabilities, predicted, vote
from ..experiments import listed
from ..files import write_text
from ..project import read_record, resolve
from .tables import read_tables

WEB, NAME = Path(__file__).parent / "web", "confusion_matrices.html"
PICTURES = 510_000  # bytes of the page's thumbnails
PER_CELL, SIDE, QUALITY = 6, 96, 30  # thumbnails per cell of confused classes, their longer side, WebP quality
TOP = 3  # probabilities kept per photo
HEADER = "header"  # word in the label of a look-up by the file's header, whose answers stand beside the networks'
UNIT = ["dataset", "photo", "seed"]
ZERO = ord("#")  # small numbers are packed as letters, from this one on: none is a control character or a quote


def build(out: str | Path) -> Path | None:
    """Write html/confusion_matrices.html of a run's folder from its predictions and metrics; None if it tested nothing.

    Thumbnails show simulated photographs in the run's data folder, where that is on this machine, and none in a run
    without galleries.
    """
    out, ids = Path(out), listed()
    paths = {name: out / "predictions" / f"{name}.parquet" for name in ids.index}
    tables = {name: pd.read_parquet(path) for name, path in paths.items() if path.is_file()}
    tables = {name: table for name, table in tables.items() if "fold" not in table}  # a fold has classes of its own
    tests = {name: rows for name, table in tables.items() if len(rows := table[table["part"] == "test"])}
    if not tests:
        return None
    scores = read_tables(out / "metrics").query("metric == 'accuracy' and part == 'test'")
    photos = pd.concat([test[["dataset", "photo", "camera_model", "device"]] for test in tests.values()])
    photos = photos.drop_duplicates(UNIT[:2]).sort_values(UNIT[:2], ignore_index=True)
    datasets, devices = list(photos["dataset"].unique()), pd.factorize(_keys(photos, photos.columns.drop("photo")))
    protocols = scores.drop_duplicates("experiment").set_index("experiment")["protocol"]
    answers, found = _header_answers(tests, ids["label"], protocols), []
    for name, test in tests.items():
        scored = scores[scores["experiment"] == name].set_index("level")
        one = {"id": name, **ids.loc[name, ["label", "level", "notebook"]]}
        one["dataset"], one["protocol"] = datasets.index(test["dataset"].iloc[0]), protocols.get(name, "")
        one["plateau"] = scored["plateau"].ne(False).all().item()
        one["accuracy"] = {level: list(row) for level, *row in scored[["value", "low", "high"]].dropna().itertuples()}
        found.append(one | experiment(test, photos, answers.get(one["protocol"], pd.Series())))
    record = read_record(out)
    facts = {
        "profile": record.get("profile", out.name),
        "notebooks": dict(name.split("_", 1) for name in record.get("notebooks", {})),
        "datasets": [[name, "simulated" in name] for name in datasets],
        "devices": [device for *_, device in devices[1]],
        "photos": {"name": list(photos["photo"]), "device": devices[0].tolist(), "link": links(photos)},
    }
    given = record.get("parameters", {})
    shown = "data_dir" in given and given.get("galleries", True)
    pictures = thumbnails(found, photos, resolve(given["data_dir"]), PICTURES) if shown else {}
    forms = dict.fromkeys(("photo", "seed", "true", "header"), list)
    forms |= dict.fromkeys(("top", "share", "votes"), letters)
    # like numbers stand side by side, which gzip makes a third smaller
    facts["units"] = {name: [form(one[name]) for one in found] for name, form in forms.items()}
    facts["experiments"] = [{key: one[key] for key in one if key not in forms} for one in found]
    return write_text(out / "html" / NAME, assemble(facts, pictures))


def _keys(table: pd.DataFrame, columns: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[columns])


def _header_answers(tests: dict[str, pd.DataFrame], labels: pd.Series, protocols: pd.Series) -> dict[str, pd.Series]:
    """The class that a look-up by the file's header names, by UNIT, for each protocol under which there is one."""
    found: dict[str, list[pd.Series]] = {}
    for name in [name for name in tests if HEADER in labels[name]]:
        votes = vote(tests[name])
        found.setdefault(protocols.get(name, ""), []).append(pd.Series(predicted(votes), _keys(votes, UNIT)))
    return {protocol: pd.concat(rows).groupby(level=UNIT).first() for protocol, rows in found.items()}


def experiment(test: pd.DataFrame, photos: pd.DataFrame, answers: pd.Series) -> dict:
    """An experiment's test as the page reads it; photos: all photos, by whose position a photo is named.

    names: the classes of the network, then true classes that it does not know; all other numbers point to them.
    A unit is a photo under one seed: its photo (the difference from the one before), seed, true class, TOP classes and
    their percentages, and how many of its patches name each class; no votes where every photo is one patch. header: see
    `_header_answers`. order, brand_order: see `similar`.
    """
    units, classes = vote(test), class_names(test)
    places = _keys(photos, UNIT[:2]).get_indexer(_keys(units, UNIT[:2]))
    units = units.assign(place=places).sort_values(["place", "seed"], ignore_index=True)
    names = [*classes, *sorted(set(units["true"]) - set(classes))]
    brand_of = dict(zip(test["true"], test["brand"], strict=True))
    brands, brand_names = pd.factorize(pd.Series(names).map(lambda name: brand_of.get(name, name.split("_")[0])))
    true, logs = pd.Index(names).get_indexer(units["true"]), log_probabilities(units)
    top = np.argsort(-logs, axis=1, kind="stable")[:, :TOP]
    share = np.rint(100 * np.exp(np.take_along_axis(logs, top, axis=1))).astype(int)
    votes = np.zeros((len(units), len(names)), int)
    np.add.at(votes, (_keys(units, UNIT).get_indexer(_keys(test, UNIT)), log_probabilities(test).argmax(1)), 1)
    one, merged = np.eye(len(names), dtype=int), np.eye(len(brand_names), dtype=int)[brands]
    counts = {"patch": one[true].T @ votes, "photo": one[true].T @ one[top[:, 0]]}
    return {
        "names": names, "classes": len(classes), "brands": brands.tolist(), "brand_names": list(brand_names),
        "seeds": test["seed"].nunique(),
        "order": {level: similar(matrix) for level, matrix in counts.items()},
        "brand_order": {level: similar(merged.T @ matrix @ merged) for level, matrix in counts.items()},
        "photo": np.diff(units["place"], prepend=0).tolist(), "seed": units["seed"].tolist(), "true": true.tolist(),
        "top": top.tolist(), "share": share.tolist(), "votes": votes.tolist() if (votes.sum(1) > 1).any() else [],
        "header": pd.Index(names).get_indexer(answers.reindex(_keys(units, UNIT))).tolist() if len(answers) else [],
    }  # fmt: skip


def letters(numbers: list[list[int]]) -> str:
    """Whole numbers as letters, row by row; JavaScript reads them back with charCodeAt."""
    return "".join(map(chr, (np.array(numbers, int).ravel() + ZERO).tolist()))


def similar(counts: np.ndarray) -> list[int]:
    """An order of the classes in which confused ones are neighbours; counts: [true, predicted].

    Average linkage of the symmetrised confusion, with the leaves in optimal order (Bar-Joseph et al. 2001).
    """
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    both = (shares + shares.T) * (1 - np.eye(len(counts)))
    if len(counts) < 3 or not both.any():
        return list(range(len(counts)))
    distances = squareform(both.max() - both, checks=False)
    return leaves_list(linkage(distances, "average", optimal_ordering=True)).tolist()


def links(photos: pd.DataFrame) -> list[str]:
    """The address of each photo's public original, "" where none is known; simulated photos have none."""
    places = {
        row.file.rsplit("/", 1)[-1]: f"https://github.com/{row.collection}/blob/{row.commit}/{quote(row.path)}"
        for row in published.photographs().itertuples()
    }
    rows = photos[["dataset", "photo"]].itertuples(index=False)
    return ["" if "simulated" in dataset else places.get(photo.rsplit("/", 1)[-1], "") for dataset, photo in rows]


def thumbnails(experiments: list[dict], photos: pd.DataFrame, data: Path, room: int) -> dict[int, str]:
    """Simulated photos that were confused, by position, as WebP in data addresses, until `room` bytes are full.

    data: the run's data folder; photos that are not there are left out. Always next comes the photo that stands in most
    cells without a picture, over all experiments; once all cells have one, each gets another, up to PER_CELL.
    """
    rows = pd.concat([
        pd.DataFrame({"photo": np.cumsum(one["photo"]), "true": one["true"], "named": [top[0] for top in one["top"]],
                      "experiment": i})
        for i, one in enumerate(experiments)
    ])  # fmt: skip
    rows = rows[(rows["true"] != rows["named"])].drop_duplicates()
    rows = rows[photos["dataset"].str.contains("simulated")[rows["photo"]].to_numpy()]
    cells = {int(photo): {*own.drop(columns="photo").itertuples(index=False)} for photo, own in rows.groupby("photo")}
    paths = {place: data / folder_name(photos["dataset"][place]) / photos["photo"][place] for place in cells}
    cells = {place: own for place, own in cells.items() if paths[place].is_file()}
    found: dict[int, str] = {}
    for _ in range(PER_CELL):
        shown: set[tuple] = set()
        while any(gains := [len(own - shown) for own in cells.values()]):
            place = [*cells][np.argmax(gains)]
            text = f"data:image/webp;base64,{b64encode(_thumbnail(paths[place])).decode()}"
            room -= len(text) + 12  # with its number and marks
            if room < 0:
                return found
            found[place] = text
            shown |= cells.pop(place)
    return found


def _thumbnail(path: Path) -> bytes:
    picture, file = Image.open(path), io.BytesIO()
    picture.draft("RGB", (2 * SIDE, 2 * SIDE))
    picture.thumbnail((SIDE, SIDE))
    picture.convert("RGB").save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def assemble(facts: dict, pictures: dict[int, str]) -> str:
    """The page's text, with style, script, facts (JSON, gzip, base64) and thumbnails inside."""
    style, script = (f"\n{(WEB / name).read_text(encoding='utf-8')}" for name in ("matrices.css", "matrices.js"))
    packed = compress(json.dumps(facts, separators=(",", ":"), ensure_ascii=False).encode(), 9, mtime=0)
    parts = {
        '<link rel="stylesheet" href="matrices.css" />': f"<style>{style}</style>",
        '<script src="matrices.js"></script>': f"<script>{script}</script>",
        "{{facts}}": b64encode(packed).decode(),
        "{{pictures}}": json.dumps(pictures, separators=(",", ":")),
    }
    page = (WEB / "matrices.html").read_text(encoding="utf-8")
    for place, text in parts.items():
        page = page.replace(place, text)
    return page
