"""Which steps of a camera's processing leave detectable traces, and which of these survive degradation.

Simulated cameras each differ from a base in one step (simulate.cameras.STEPS), a twin in nothing. The area under the
ROC says how well a score separates photos by the base and by one of these (0.5: not at all; 1: always). It needs no
threshold, which degradation would invalidate, as it shifts all scores of a network. So does a scene: photos are
compared with those of the same scene, which all cameras photographed.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import simplejpeg

from ..evaluation import LOG_PROB, vote
from ..experiments import Experiment, predict_test
from ..intervals import bootstrap_weights, interval, judged, two_sided, units
from ..patches import Store, best_positions, cut_patches
from ..planning import Plan
from ..simulate import build, cameras, scenes
from . import baselines
from .open_set import areas

BASE, TWIN = cameras.STEPS.index[:2]
TRACE_COLUMNS = ["network", "step", "degradation", "value", "low", "high", "p", "n", "devices", "scenes", "plateau"]


def told_apart(predictions: pd.DataFrame, seed: int = 0, **labels) -> pd.DataFrame:
    """How well the base and each other camera are told apart: TRACE_COLUMNS, one row per step.

    predictions: per patch, of all cameras, at one degradation. value: area under the ROC of log p(other) - log p(base)
    over the `n` photos of the pair, within each scene and seed, averaged; with its 95 % interval over devices, scenes
    and seeds, and p of its being 0.5. Where it is 0 or 1 all samples are alike: Wilson's interval and a sign test, of
    as many trials as one camera has photos.
    """
    votes, rows, base = vote(predictions), [], f"Base_{BASE}"
    for name, step in cameras.STEPS["step"].drop(BASE).items():
        other = f"Base_{name}"
        own = votes[votes["true"].isin([base, other])]
        code, found = units(own)
        weights = bootstrap_weights(found, [seed, 97], 2000)[:, code]
        score, known = own[LOG_PROB + other] - own[LOG_PROB + base], own["true"] == other
        fold = found.groupby(["seed", "scene"]).ngroup().to_numpy()[code]
        within = pd.DataFrame(areas(own.assign(score=score, known=known, fold=fold), "score", weights=weights))
        often = np.stack([weights[:, (fold == each) & known].sum(axis=1) for each in within], axis=1)
        draws = np.ma.average(np.ma.masked_invalid(within), axis=1, weights=often).filled(np.nan)  # over those drawn
        trials = own.groupby("true")["photo"].nunique().min()
        value, low, high = interval(draws, trials)
        p = max(two_sided(draws[1:] - 0.5), 2 * 0.5**trials)
        low, high = min(low, value), max(high, value)  # with two scenes a draw has the pairs of one
        counts = [own[column].nunique() for column in ("photo", "device", "scene")]
        rows.append([step, value, low, high, p, *counts])
    columns = ["step", "value", "low", "high", "p", "n", "devices", "scenes"]
    return pd.DataFrame(rows, columns=columns).assign(**labels)


def judge(traces: pd.DataFrame) -> pd.DataFrame:
    """Whether each step is told apart (`verdict`, intervals.judged of value - 0.5): one family of tests per network."""
    rows = [judged(own.assign(difference=own["value"] - 0.5)) for _, own in traces.groupby("network", sort=False)]
    return pd.concat(rows, ignore_index=True).drop(columns="difference")


def after_degradation(
    run: Experiment, stores: Callable[..., Store], conditions: dict[str, str], seed: int, **labels
) -> pd.DataFrame:
    """`told_apart` of a trained network on its test photos in stores(degrade=...), for each labelled degradation."""
    labels |= dict(plateau=run.plateau)
    tested = {name: predict_test(run, stores(degrade=how)) for name, how in conditions.items()}
    rows = [told_apart(own, seed, degradation=name, **labels) for name, own in tested.items()]
    return pd.concat(rows, ignore_index=True)[TRACE_COLUMNS]


def retrained(
    catalogue: pd.DataFrame, table: pd.DataFrame, plans: list[Plan], folder: Path, conditions: dict[str, str],
    seed: int, **labels,
) -> pd.DataFrame:  # fmt: skip
    """`told_apart` of the residual baseline, trained and tested on photos degraded alike; plans: of `table`."""
    own, found = table.drop_duplicates("photo").set_index("photo"), []
    used = table["photo"][np.any([plan.part != "unused" for plan in plans], axis=0)]
    catalogue = catalogue[catalogue["photo"].isin(used)]
    for name, how in conditions.items():
        known, tested = baselines.features(baselines.crop_store(catalogue, folder, how), "residual")
        tables = []
        for plan in plans:
            train, val, test = (own.loc[table["photo"][plan.rows(part)].unique()] for part in ("train", "val", "test"))
            logs = baselines.linear(known, tested, train["camera_model"], val["camera_model"])
            tables.append(test.join(logs).reset_index().assign(true=lambda rows: rows["camera_model"], seed=plan.seed))
        found.append(told_apart(pd.concat(tables), seed, degradation=name, plateau=True, **labels))
    return pd.concat(found, ignore_index=True)[TRACE_COLUMNS]


def same_photo(number: int, seed: int, size: tuple[int, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """One photo by each camera, uint8 [h, w, 3], before JPEG and decoded; alike but for step and twin's device."""
    scene, table = scenes.make_scene([seed, *b"steps", number], size), cameras.one_step_cameras()
    alike = table.assign(model=table["model"].where(table["model"] == TWIN, BASE))
    taken = {}
    for name, camera in zip(table["model"], build.make_devices(alike, 1, size, seed).itertuples(), strict=True):
        rng = np.random.default_rng([seed, number])
        raw = cameras.take_photo(scene, camera, cameras.point(scene, camera, rng), rng)
        file = cameras.encode(raw, camera, "2009:04:01 09:00:00", scene.iso, None)
        taken[name] = raw, simplejpeg.decode_jpeg(file, "RGB", strict=True)
    return taken


def strengths(photos: list[dict[str, tuple[np.ndarray, np.ndarray]]]) -> pd.DataFrame:
    """How much each step changes photos (`same_photo`): one row per camera but the base.

    changed: columns of models.csv; before_jpeg, rms: root mean square difference from the base, in grey levels, before
    and after JPEG; psnr: peak signal-to-noise ratio after JPEG, dB.
    """
    table, rows = cameras.one_step_cameras().set_index("model"), []
    for name, (step, columns) in cameras.STEPS.iloc[1:].iterrows():
        values = [(column, *table.loc[[BASE, name], column]) for column in columns.split()]
        changes = [f"{column} {old} → {new}" for column, old, new in values if old != new]
        pairs = [zip(own[BASE], own[name], strict=True) for own in photos]  # before and after JPEG
        gaps = [[np.mean((a.astype(float) - b) ** 2) for a, b in pair] for pair in pairs]
        before, after = np.sqrt(np.mean(gaps, axis=0))
        text = ", ".join(changes) or "only the device"
        rows.append([step, text, before, after, 20 * np.log10(255 / after), len(photos)])
    return pd.DataFrame(rows, columns=["step", "changed", "before_jpeg", "rms", "psnr", "photos"])


def crops(photo: dict[str, tuple[np.ndarray, np.ndarray]], size: int, gain: int) -> tuple[list[np.ndarray], list[str]]:
    """For a grid: one crop by each camera, then its difference from the base's times `gain`, around grey; titles."""
    corner = best_positions(photo[BASE][1], size, 1)
    cut = [cut_patches(written, corner, size)[0].astype(int) for _, written in photo.values()]
    gaps = [np.clip(128 + gain * (own - cut[0]), 0, 255) for own in cut]
    return [picture.astype(np.uint8) for picture in cut + gaps], [*cameras.STEPS["step"], *[""] * len(gaps)]
