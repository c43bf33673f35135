"""What photographs of the same places and things cannot tell: three tests in which knowing the content helps little.

New collections: the protocol collection (splits.split); some show a room that training saw (`room_seen`). Matched
content: the test photos of models that photographed the same things, in one collection, answered among these models.
No content: flat fields and white walls.
"""

import numpy as np
import pandas as pd

from .. import intervals, published
from ..evaluation import LOG_PROB, class_names, log_probabilities, predicted, vote, with_logits
from ..identify.predict import size_key
from ..planning import ANOTHER, SAME, Plan
from ..splits import FOLDS, TEST_DEVICES


def matched(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of collections from which a seed tests two or more classes, which the column `group` names.

    Answers are among these classes: the others get the log-probability -inf, the rest are normalised.
    """
    parts = []
    for _, own in predictions.groupby(["seed", "collection"]):
        names = sorted(own["true"].unique())
        if len(names) > 1:
            logs = np.where(np.isin(class_names(own), names), log_probabilities(own), -np.inf)
            parts.append(with_logits(own, logs).assign(group=", ".join(names)))
    return pd.concat(parts).sort_index().reset_index(drop=True)


def bodies(predictions: pd.DataFrame, table: pd.DataFrame, plans: list[Plan]) -> pd.Series:
    """SAME where a row's device is one that its seed was trained on, else ANOTHER; plans: of `table`, one per seed."""
    known = {plan.seed: set(table["device"].iloc[plan.rows("train")]) for plan in plans}
    same = [device in known[seed] for seed, device in zip(predictions["seed"], predictions["device"], strict=True)]
    return pd.Series(np.where(same, SAME, ANOTHER), predictions.index, name="body")


def room_seen(predictions: pd.DataFrame, table: pd.DataFrame, plans: list[Plan]) -> pd.Series:
    """Whether training saw photos by the row's class from a collection with the same `room` (published "collections").

    plans: of `table`, one per seed.
    """
    rooms = published.read("collections").dropna(subset="room").set_index("collection")["room"]
    rows = pd.concat([table.iloc[plan.rows("train")].assign(seed=plan.seed) for plan in plans])
    seen = set(zip(rows["seed"], rows["camera_model"], rows["collection"].map(rooms), strict=True))
    room = predictions["collection"].map(rooms)
    keys = zip(predictions["seed"], predictions["true"], room, strict=True)
    return pd.Series([key in seen for key in keys], predictions.index) & room.notna()


def no_content(table: pd.DataFrame, seed: int) -> Plan:
    """A plan for flat fields, all classes of which have photos enough: seeds 0 and 1 (and so on) are two folds.

    Tested are every second device of a class, or, of a single device, the later or the earlier half of its photos by
    name. Of the rest, the third that is nearest to the test in this order is for validation.
    """
    photos = table.drop_duplicates("photo").sort_values(["device", "photo"])
    part = pd.Series("train", photos["photo"].to_numpy(), name="part")
    for _, own in photos.groupby("camera_model"):
        code = pd.factorize(own["device"])[0]
        if code.max() == 0:
            code = np.arange(len(own)) < len(own) * TEST_DEVICES
        test = code % FOLDS == seed % FOLDS
        rest = own["photo"][~test]
        third = len(rest) // 3
        nearest = rest[len(rest) - third :] if test[-1] else rest[:third]
        part[own["photo"][test]], part[nearest] = "test", "val"
    names = sorted(photos["camera_model"].unique())
    labels = pd.Index(names).get_indexer(table["camera_model"])
    parts = part[table["photo"]].to_numpy(str)
    return Plan("no content", "camera_model", seed, parts, labels, names, "every class is in every part")


def brands(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions of the brand, the column true, one row per photo: that of the model named has the highest."""
    votes = vote(predictions)
    names, logs = class_names(votes), log_probabilities(votes)
    brand_of = np.array([name.split("_")[0] for name in names])
    found = votes.drop(columns=[LOG_PROB + name for name in names]).assign(true=votes["brand"])
    best = {LOG_PROB + brand: logs[:, brand_of == brand].max(axis=1) for brand in np.unique(brand_of)}
    return found.assign(**best)


def of_size(
    predictions: pd.DataFrame, catalogue: pd.DataFrame, table: pd.DataFrame, plans: list[Plan], alone: bool = False
) -> pd.DataFrame:
    """Predictions among the classes that took training photos of the photo's size, one row per photo, as by `identify`.

    Where training saw no photo of this size, all classes remain. alone: not by pixels, but by how many training photos
    of this size a class took. catalogue: of these photos and of those trained on; plans: of `table`, one per seed.
    """
    sizes, found = pd.Series([*map(size_key, catalogue["height"], catalogue["width"])], catalogue["photo"]), []
    for plan in plans:
        train = table.iloc[plan.rows("train")].drop_duplicates("photo")
        votes = vote(predictions[predictions["seed"] == plan.seed])
        counts = pd.crosstab(sizes[train["photo"]].to_numpy(), train[plan.target].to_numpy())
        counts = counts.reindex(sizes[votes["photo"]], columns=class_names(votes), fill_value=0).to_numpy(float)
        every = train[plan.target].value_counts()[class_names(votes)].to_numpy(float)
        counts = np.where(counts.sum(axis=1, keepdims=True), counts, every)
        with np.errstate(divide="ignore"):  # of classes without photos of this size
            logs = np.log(counts) if alone else np.where(counts, log_probabilities(votes), -np.inf)
        found.append(with_logits(votes, logs))
    return pd.concat(found, ignore_index=True)


def by_class(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy per photo of each method (column) for each class (index)."""
    votes = {name: vote(table) for name, table in predictions.items()}
    right = {name: (predicted(own) == own["true"]).groupby(own["true"]).mean() for name, own in votes.items()}
    return pd.DataFrame(right).rename_axis("class")


def chosen_elsewhere(predictions: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """For each class the recipe that is best for the other classes (leave one out), and all photos as it predicts them.

    predictions: by recipe. The first table is `by_class` with the columns recipe and value, its accuracy for the class.
    """
    accuracy = by_class(predictions)
    recipes = [accuracy.drop(index=name).mean().idxmax() for name in accuracy.index]
    chosen = list(zip(accuracy.index, recipes, strict=True))
    choice = accuracy.assign(recipe=recipes, value=[accuracy.loc[key] for key in chosen])
    rows = [predictions[recipe][predictions[recipe]["true"] == name] for name, recipe in chosen]
    return choice, pd.concat(rows, ignore_index=True)


def scores(predictions: dict[str, pd.DataFrame], protocol: str, pooled: str = "") -> pd.DataFrame:
    """Metrics per photo (intervals.score) of each experiment by the column `group`, and if `pooled` of all together."""
    rows = []
    for name, table in predictions.items():
        parts = [*table.groupby("group"), *([(pooled, table)] if pooled else [])]
        options = dict(experiment=name, protocol=protocol, level="photo", seed=int(table["seed"].min()))
        rows += [intervals.score(own, **options).assign(group=group) for group, own in parts]
    return pd.concat(rows, ignore_index=True).drop(columns=["plateau", "published"])
