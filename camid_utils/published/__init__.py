"""What was published about the study, as data: one CSV file per table, read by `read`.

Sources: the paper ("Camera Model Identification with a Data-Driven Model"), its authors' released notebooks,
training log and web page, and the public listing of the Dresden natural images.
"""

from functools import cache
from importlib.resources import files

import pandas as pd

TABLES = {
    "table2": "headline accuracy and loss of each model: the paper's Table 2",
    "dresden_log": "losses and accuracies of CameraConvNet on Dresden in 16 of 128 epochs: the authors' training log",
    "dresden_models": "devices and natural photos of each Dresden camera model: the public listing",
    "floreview_models": "photos of each FloreView phone: the authors' folders",
    "disagreements": "where the paper and the released code, log and web page disagree, and why it matters",
    "claims": "what the paper claims, what its code or log says, and which of our results are evidence",
    "corpora": "phones, models, scenes and versions per photo of two more corpora: the papers named there",
    "others": "figures that other studies report, with their data and split",
}
COUNTS = {"Dresden": "dresden_models", "FloreView": "floreview_models"}  # data set: the table of its counts
CONVNET_PARAMETERS = 45_233_179  # CameraConvNet at 27 classes: the paper's Table 1


def read(name: str) -> pd.DataFrame:
    """One published table by its name in `TABLES`; accuracies are fractions, NA is what was not published."""
    if name not in TABLES:
        raise ValueError(f"there is no published table {name!r}; choose one of {', '.join(TABLES)}")
    return pd.read_csv(files(__name__) / f"{name}.csv", keep_default_na=False, na_values=[""])


@cache
def dresden_spelling(camera_model: str) -> str:
    """A camera model as the Dresden listing spells it, in any letter case; unknown names stay unchanged."""
    known = {name.casefold(): name for name in read("dresden_models")["camera_model"]}
    return known.get(camera_model.casefold(), camera_model)


def compare(counts: pd.DataFrame, dataset: str | None) -> pd.DataFrame:
    """Numbers of photos and devices by camera model (the index) beside the published ones of a data set.

    Columns: camera_model, photos, published_photos, devices, published_devices (NA for FloreView) and status.
    No row for a data set without published numbers.
    """
    columns = ["photos", "published_photos", "devices", "published_devices"]
    if dataset not in COUNTS:
        return pd.DataFrame(columns=["camera_model", *columns, "status"])
    theirs = read(COUNTS[dataset]).set_index("camera_model").add_prefix("published_")
    table = counts.join(theirs, how="outer").reindex(columns=columns).astype("Int64").sort_index()
    table["status"] = [_status(row) for row in table.to_dict("records")]
    return table.rename_axis("camera_model").reset_index()


def _status(row: dict) -> str:
    """One row of `compare` in words."""
    if pd.isna(row["photos"]):
        return "missing"
    if pd.isna(row["published_photos"]):
        return "extra"
    parts = []
    for noun in ("device", "photo"):
        theirs = row[f"published_{noun}s"]
        gap = 0 if pd.isna(theirs) else row[f"{noun}s"] - theirs
        if gap:
            parts.append(f"{abs(gap)} {noun}{'s' * (abs(gap) > 1)} {'more' if gap > 0 else 'fewer'}")
    return ", ".join(parts) or "as published"
