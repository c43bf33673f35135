"""What was published about the study, as data: one CSV file per table, read by `read`.

Sources: the paper ("Camera Model Identification with a Data-Driven Model"), its authors' released notebooks,
training log and web page, the public listing of the Dresden natural images, and public repositories of photographs.
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
    "photographs": "original photographs of cameras and phones in public repositories, with size and git blob name",
    "collections": "these repositories: the commit that holds the photographs, and the licence it states; owner: who "
    "took them, if not the repository's owner; room: what several show, as one sees in the photos; mixed_device: what "
    "the list takes for one device, but is several by versions of software and by sensor noise",
}
COUNTS = {"Dresden": "dresden_models", "FloreView": "floreview_models"}  # data set: the table of its counts
CONVNET_PARAMETERS = 45_233_179  # at 27 classes, known of the released network


def read(name: str) -> pd.DataFrame:
    """One published table by its name in `TABLES`; accuracies are fractions, NA is what was not published."""
    return pd.read_csv(files(__name__) / f"{name}.csv", keep_default_na=False, na_values=[""])


def photographs() -> pd.DataFrame:
    """The public photographs, a row each: what both tables say, and camera_model and device, which name the file."""
    table = read("photographs").merge(read("collections"), how="left", on="collection", validate="many_to_one")
    return table.join(table["file"].str.extract(r"(?P<camera_model>.+)/(?P<device>.+)_\d+\.jpg"))


def owner(collections: pd.Series) -> pd.Series:
    """Who took the photos of each collection: by its name, "owner/repository", unless the table names another."""
    return collections.replace(_other_owners()).str.split("/").str[0]


@cache
def _other_owners() -> dict[str, str]:
    return read("collections").dropna(subset="owner").set_index("collection")["owner"].to_dict()


@cache
def dresden_spelling(camera_model: str) -> str:
    """A camera model as the Dresden listing spells it, in any letter case; unknown names stay unchanged."""
    known = {name.casefold(): name for name in read("dresden_models")["camera_model"]}
    return known.get(camera_model.casefold(), camera_model)
