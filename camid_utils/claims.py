"""The paper's claims, a rule each: what our figures say of it, in words, and whether they bear it out.

A rule takes the evidence (`evidence.read`: named tables) and returns (our figures in words, verdict). It knows no
result: change the numbers and the verdict changes. A claim counts as reproduced only where an interval shows it:
"better" needs an interval above zero, "no different" one within `NEAR` of it; what stays open is not reproduced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from math import log

import pandas as pd

from .evidence import (
    NOTEBOOKS,
    Evidence,
    EvidenceMissing,
    contrast,
    figure,
    in_figures,
    in_points,
    percent,
    simulated,
    table,
)
from .fingerprints import QUESTIONS
from .report import TABLE2, change_in_words

REPRODUCED = "reproduced"
DIRECTION = "reproduced in direction"
NOT = "not reproduced"
CANNOT = "cannot be tested without the real data"

NEAR = 0.05  # accuracies certainly less than 5 points apart count as no different
LEARNT = 0.9  # a network has learnt something when its loss is below this share of guessing's, ln(classes)
WHOLE = 0.9  # real data with fewer than this share of the paper's classes are too partial to test its figures on
CLASSES = {"Dresden": 27, "FloreView": 39}  # in the paper

Finding = tuple[str, str]  # our figures in words, verdict


def shown(holds: bool, dataset: str) -> str:
    """The verdict on a claim that simulated photographs can test in direction only, and real ones fully."""
    if not holds:
        return NOT
    return DIRECTION if simulated(dataset) else REPRODUCED


def comparable(row: pd.Series) -> bool:
    """Whether a metrics row may be held against a figure of the paper: real photographs, of nearly all its classes."""
    return row["dataset"] in CLASSES and row["classes"] >= WHOLE * CLASSES[row["dataset"]]


# the data


def dresden_photos(evidence: Evidence) -> Finding:
    """16,982 natural images: as many as the public listing names."""
    listed, printed = int(evidence["dresden_models"]["photos"].sum()), 16_982
    return f"public listing: {listed:,} photos", REPRODUCED if listed == printed else NOT


def dresden_cameras(evidence: Evidence) -> Finding:
    """74 devices of 27 models: as many as the public listing names."""
    listing = evidence["dresden_models"]
    counts = int(listing["devices"].sum()), len(listing)
    return "public listing: {} devices of {} models".format(*counts), REPRODUCED if counts == (74, 27) else NOT


def floreview_phones(evidence: Evidence) -> Finding:
    """46 phones of 11 brands: only the real data set can tell."""
    data = table(evidence, "datasets")
    if "FloreView" not in data.index:
        return f"ours are {', '.join(data.index)}", CANNOT
    if not {"devices", "brands"} <= set(data.columns):
        raise EvidenceMissing(NOTEBOOKS["datasets"])
    counts = tuple(int(data.loc["FloreView", column]) for column in ("devices", "brands"))
    verdict = CANNOT if counts[0] < WHOLE * 46 else REPRODUCED if counts == (46, 11) else NOT
    return "FloreView as read: {} phones of {} brands".format(*counts), verdict


def floreview_classes(evidence: Evidence) -> Finding:
    """39 classes: only the real data set can tell."""
    row = figure(evidence, "efficientnet-released", "photo")
    said = f"{row['classes']} classes, {row['dataset']}"
    return said, CANNOT if simulated(row["dataset"]) else REPRODUCED if row["classes"] == 39 else NOT


def class_is_brand(evidence: Evidence) -> Finding:
    """39 outputs that stand for brands: there would have to be as many brands."""
    names = evidence["floreview_models"]["camera_model"]
    brands = names.str.split("_").str[0].nunique()
    said = f"the authors' {len(names)} folders, a phone model each, are of {brands} brands"
    return said, REPRODUCED if brands == CLASSES["FloreView"] else NOT


# CameraConvNet on Dresden


def network(evidence: Evidence) -> Finding:
    """The layers of Table 1, counted, against the parameters of the released network."""
    ours, theirs = (int(evidence["network"][k].iloc[0]) for k in ("parameters", "published"))
    return f"{ours:,} parameters at full width and 27 classes", REPRODUCED if ours == theirs else NOT


def settings(evidence: Evidence) -> Finding:
    """SGD at rate 0.001 trains the network: does any short run at that rate learn?"""
    rates, row = table(evidence, "02_rates"), figure(evidence, "cameraconvnet-patch")
    said = "; ".join(
        f"rate {run['learning_rate']:g}, input {run['input_range']}: {100 * run['val_accuracy']:.1f} %, "
        f"loss {run['val_loss']:.2f}"
        for run in rates.to_dict("records")
    )
    ours = rates.loc[rates["learning_rate"] == 0.001, "val_loss"]
    learnt = bool((ours < LEARNT * log(row["classes"])).any())
    return f"validation after {rates['epochs'].max()} epochs, {row['dataset']}: {said}", shown(learnt, row["dataset"])


def printed(evidence: Evidence, row: int, metric: str) -> Finding:
    """A figure of Table 2 against our validation figure of the same recipe."""
    name = {"accuracy": "val_accuracy", "log loss": "val_loss"}[metric]
    paper = evidence["table2"][name].iloc[row]
    val, test = (figure(evidence, *TABLE2[row][:2], part, metric) for part in ("val", "test"))
    verdict = CANNOT if not comparable(val) else REPRODUCED if val["low"] <= paper <= val["high"] else NOT
    return f"{in_figures(val)}; {in_figures(test)}", verdict


def one_epoch(evidence: Evidence) -> Finding:
    """Accuracy and loss of one row belong to one epoch: is the epoch of the best accuracy that of the lowest loss?"""
    runs, dataset = table(evidence, "02_two_epochs"), figure(evidence, "cameraconvnet-patch")["dataset"]
    apart = runs[runs["accuracy_epoch"] != runs["loss_epoch"]]
    said = f"best accuracy and lowest loss in different epochs in {len(apart)} of {len(runs)} runs, {dataset}"
    if len(apart):
        gain, cost = (apart["its_accuracy"] - apart["accuracy_there"]), (apart["its_loss"] - apart["loss_there"])
        said += f"; joined they flatter by up to {100 * gain.max():.1f} points or {cost.max():.2f} of loss"
    return said, shown(apart.empty, dataset)


def close_to_original(evidence: Evidence) -> Finding:
    """Close to the 94.1 % of the original: within 5 points of it."""
    original = float(evidence["others"].set_index("source").loc["Baroffio et al. 2016", "figure"])
    row = figure(evidence, "cameraconvnet-patch", part="val")
    near = row["low"] > original - NEAR and row["high"] < original + NEAR
    return in_figures(row), CANNOT if not comparable(row) else REPRODUCED if near else NOT


def holds_on_new(evidence: Evidence) -> Finding:
    """The figure is of photographs that are new to the network: with new scenes and devices it must stay."""
    row = contrast(evidence, "equal-scene+device", "equal-patch")
    return in_points(row), shown(row["low"] > -NEAR, row["dataset"])


def learns_models(evidence: Evidence) -> Finding:
    """The network captures what is specific to a model: better than guessing on new scenes and devices."""
    row = figure(evidence, "equal-scene+device")
    guess = 1 / row["classes"]
    return f"{in_figures(row)}; guessing: {100 * guess:.1f} %", shown(row["low"] > guess, row["dataset"])


def best_model(evidence: Evidence) -> Finding:
    """The best epoch went into the transfer: is the one of the printed accuracy the best of the authors' own log?"""
    epochs = evidence["dresden_log"].set_index("epoch")
    taken = (epochs["val_accuracy"] - evidence["table2"]["val_accuracy"].iloc[0]).abs().idxmin()
    best = {epochs["val_accuracy"].idxmax(), epochs["val_loss"].idxmin()}
    said = f"authors' log: epoch {taken} was taken; highest accuracy and lowest loss are in"
    return f"{said} {' and '.join(map(str, sorted(best)))}", REPRODUCED if taken in best else NOT


# CameraConvNet on FloreView


def transfer_drops(evidence: Evidence) -> Finding:
    """The transferred network is far below the one on Dresden: intervals apart."""
    low, high = figure(evidence, "transfer-released-patch"), figure(evidence, "cameraconvnet-patch")
    return f"{in_figures(low)}; {in_figures(high)}", shown(low["high"] < high["low"], low["dataset"])


def _largest_fall(evidence: Evidence, notebook: str, experiment: str) -> tuple[float, str, str]:
    """The largest fall of validation accuracy from one epoch to the next, the sentence that says it, and the data."""
    epochs = table(evidence, f"{notebook}_epochs")
    epochs = epochs[epochs["run"] == experiment]
    if epochs.empty:
        raise EvidenceMissing(notebook)
    steps = epochs["val_accuracy"].diff().where(epochs["epoch"].diff() == 1, 0.0)
    fall, dataset = max(0.0, -steps.min()), figure(evidence, experiment)["dataset"]
    said = f"largest fall between epochs {100 * fall:.1f} points, {epochs['epoch'].max()} epochs, {dataset}"
    return fall, said, dataset


def transfer_unstable(evidence: Evidence) -> Finding:
    """Validation accuracy jumps from epoch to epoch."""
    fall, said, dataset = _largest_fall(evidence, "03", "transfer-released-patch")
    return said, shown(fall > NEAR, dataset)


def filters_do_not_transfer(evidence: Evidence) -> Finding:
    """Rightly fed, frozen Dresden filters fall short of training anew, or are no better than random ones."""
    random, scratch = (
        contrast(evidence, "transfer-matched-strict", f"transfer-{other}-strict") for other in ("random", "scratch")
    )
    useless, short = random["high"] < NEAR, scratch["high"] < 0
    return f"{in_points(random)}; {in_points(scratch)}", shown(useless or short, random["dataset"])


def filters_to_blame(evidence: Evidence) -> Finding:
    """The low figure comes from the filters: then feeding them rightly and leaving the pixels alone changes nothing."""
    row = contrast(evidence, "transfer-matched-strict", "transfer-released-strict")
    return in_points(row), shown(row["high"] < NEAR, row["dataset"])


def fine_tuned(evidence: Evidence) -> Finding:
    """The low figure is what fine-tuning gives: then training every layer, rightly fed, gives no more."""
    row = contrast(evidence, "transfer-finetuned-strict", "transfer-released-strict")
    return in_points(row), shown(row["high"] < NEAR, row["dataset"])


def dresden_start_helps(evidence: Evidence) -> Finding:
    """Starting from Dresden is worth it: better than the same network and training from random weights."""
    row = contrast(evidence, "transfer-finetuned-strict", "transfer-scratch-strict")
    return in_points(row), shown(row["low"] > 0, row["dataset"])


# EfficientNet on FloreView


def wide_margin(evidence: Evidence) -> Finding:
    """EfficientNet is far above the transferred network: intervals apart, photo against photo."""
    high, low = (figure(evidence, name, "photo") for name in ("efficientnet-released", "transfer-released-patch"))
    return f"{in_figures(high)}; voted: {in_figures(low)}", shown(high["low"] > low["high"], high["dataset"])


def matches_dresden(evidence: Evidence) -> Finding:
    """EfficientNet on phones does as well as CameraConvNet on Dresden: certainly less than 5 points apart."""
    one, two = figure(evidence, *TABLE2[2][:2]), figure(evidence, *TABLE2[0][:2])
    near = max(one["high"] - two["low"], two["high"] - one["low"]) < NEAR
    return f"{in_figures(one)}; {in_figures(two)}", shown(near, one["dataset"])


def beats_scratch(evidence: Evidence) -> Finding:
    """EfficientNet on squashed photos beats a CameraConvNet trained from scratch on the same phones."""
    one, two = figure(evidence, "design-squashed", "photo"), figure(evidence, "transfer-scratch-strict", "photo")
    return f"{in_figures(one)}; voted: {in_figures(two)}", shown(one["low"] > two["high"], one["dataset"])


def pretraining_wins(evidence: Evidence) -> Finding:
    """ImageNet's weights make the difference: better than the same network and training from random weights."""
    row = contrast(evidence, "design-base", "design-scratch", "photo")
    return in_points(row), shown(row["low"] > 0, row["dataset"])


def generalises(evidence: Evidence) -> Finding:
    """Strong generalisation: better than guessing in new scenes on new phones, and no worse than in the scenes seen."""
    row, seen = figure(evidence, "design-squashed", "photo"), contrast(evidence, "design-photo", "design-base", "photo")
    holds = row["low"] > 1 / row["classes"] and seen["low"] <= 0
    return f"{in_figures(row)}, new scenes and phones; {in_points(seen)}", shown(holds, row["dataset"])


def stable(evidence: Evidence) -> Finding:
    """Validation accuracy improves throughout."""
    fall, said, dataset = _largest_fall(evidence, "04", "efficientnet-released")
    return said, shown(fall <= NEAR, dataset)


def sees_traces(evidence: Evidence) -> Finding:
    """The network names the camera by its traces: without them the paper's squashed photos do worse."""
    rows = table(evidence, "04_traces")
    rows = rows[rows["experiment"] == "design-squashed"].set_index("group")
    if not {"intact", "traces destroyed"} <= set(rows.index):
        raise EvidenceMissing("04")
    dataset = figure(evidence, "design-squashed", "photo")["dataset"]
    said = "; ".join(f"{name}: {percent(row)}" for name, row in rows.iterrows())
    without = rows.loc["traces destroyed"]
    said += f"; {change_in_words(without)}"
    return f"{said}, {rows['n'].max()} photos, {dataset}", shown(without["change_high"] < 0, dataset)


# single devices, future work, web page


def instances(evidence: Evidence) -> Finding:
    """Single phones are told apart: better than the right model and a guess among its devices."""
    row, rows = figure(evidence, "devices-network", "photo"), evidence["metrics"]
    others = rows[(rows["dataset"] == row["dataset"]) & ~rows["experiment"].str.startswith("devices")]
    if others.empty:
        raise EvidenceMissing("04")
    guess = others["classes"].max() / row["classes"]
    return f"{in_figures(row)}; the right model and a guess: {100 * guess:.1f} %", shown(
        row["low"] > guess, row["dataset"]
    )


def sensor_noise(evidence: Evidence) -> Finding:
    """Sensor noise tells the devices of one model apart: area under the ROC curve above a half."""
    rows = table(evidence, "04b_fingerprints")
    asked = (rows["question"] == QUESTIONS[1]) & (rows["answer"] == "fingerprint")
    rows = rows[asked & (rows["metric"] == "area under the ROC")].dropna(subset=["low"])
    dataset = figure(evidence, "devices-network", "photo")["dataset"]
    if rows.empty:
        return f"no two devices of one model in {dataset}", CANNOT
    row = rows.iloc[0]
    said = "area under the ROC curve {value:.3f} ({low:.3f} to {high:.3f}), {n} photos".format(**row)
    return f"{said}, {dataset}", shown(row["low"] > 0.5, dataset)


def augmentation_helps(evidence: Evidence) -> Finding:
    """Degradation in training helps on degraded photos: by the paired interval somewhere, nowhere the other way."""
    rows = table(evidence, "04_robustness")
    rows = rows[(rows["kind"] != "intact") & ~rows["adapted"]]
    trained = rows[rows["experiment"] == "efficientnet-best-degraded"]
    if trained.empty:
        raise EvidenceMissing("04")
    better, worse = int((trained["change_low"] > 0).sum()), int((trained["change_high"] < 0).sum())
    said = f"{len(trained)} degradations: clearly better in {better}, clearly worse in {worse}, "
    said += f"mean {100 * trained['change'].mean():+.1f} points, {trained['n'].max()} photos"
    dataset = figure(evidence, "efficientnet-best", "photo")["dataset"]
    return f"{said}, {dataset}", shown(better > 0 and worse == 0, dataset)


def adaptation_helps(evidence: Evidence) -> Finding:
    """Domain adaptation helps the transfer."""
    row = contrast(evidence, "transfer-adapted-strict", "transfer-released-strict")
    return in_points(row), shown(row["low"] > 0, row["dataset"])


def web_page(evidence: Evidence) -> Finding:
    """The page shows the phone that was predicted: its natural order of names is the training's alphabetical one."""
    names = sorted(evidence["floreview_models"]["camera_model"])
    natural = sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    moved = sum(a != b for a, b in zip(names, natural, strict=True))
    return f"{moved} of {len(names)} names stand elsewhere in the other order", NOT if moved else REPRODUCED


_NAMED = (
    dresden_photos, dresden_cameras, floreview_phones, floreview_classes, class_is_brand, network, settings,
    holds_on_new, one_epoch, close_to_original, learns_models, best_model, transfer_drops, transfer_unstable,
    filters_do_not_transfer, filters_to_blame, fine_tuned, dresden_start_helps, wide_margin, matches_dresden,
    beats_scratch, pretraining_wins, generalises, stable, sees_traces, instances, sensor_noise, augmentation_helps,
    adaptation_helps, web_page,
)  # fmt: skip
RULES: dict[str, Callable[[Evidence], Finding]] = {  # by the claim's id in published/claims.csv
    **{rule.__name__.replace("_", "-"): rule for rule in _NAMED},
    "dresden-accuracy": partial(printed, row=0, metric="accuracy"),
    "dresden-loss": partial(printed, row=0, metric="log loss"),
    "transfer-accuracy": partial(printed, row=1, metric="accuracy"),
    "transfer-loss": partial(printed, row=1, metric="log loss"),
    "efficientnet-accuracy": partial(printed, row=2, metric="accuracy"),
    "efficientnet-loss": partial(printed, row=2, metric="log loss"),
}
