"""The README's tables, of the committed results of two profiles: `python -m camid_utils.readme` writes them into it."""

from __future__ import annotations

import re

import pandas as pd

from .experiments import PROJECT
from .files import write_text
from .report import NAMES, accuracy_bars, read_contrasts, read_metrics

FINDINGS = {  # contrasts that the README shows: what is changed, and from what
    ("equal-scene+device", "equal-patch"): "CameraConvNet: new scenes and devices, less patches dealt at random",
    ("transfer-range-strict", "transfer-released-strict"): "transfer: input range matched, less as released",
    ("transfer-still-strict", "transfer-released-strict"): "transfer: no rotation or jitter, less as released",
    ("transfer-matched-strict", "transfer-released-strict"): "transfer: both, less as released",
    ("transfer-matched-strict", "transfer-range-strict"): "transfer, range matched: no rotation or jitter, less with",
    ("transfer-adapted-strict", "transfer-released-strict"): "transfer: statistics adapted, less as released",
    ("transfer-matched-strict", "transfer-random-strict"): "transfer: Dresden filters, less random filters (frozen)",
    (
        "transfer-matched-strict",
        "transfer-scratch-strict",
    ): "transfer: frozen Dresden filters, less training from nothing",
    ("design-scratch", "design-base"): "EfficientNet: not pretrained, less pretrained",
    ("design-squashed", "design-base"): "EfficientNet: whole photo squashed, less native crops",
    ("design-rotated", "design-base"): "EfficientNet: rotated, less not",
    ("design-linear", "design-base"): "EfficientNet: head without ReLUs, less with",
    (
        "design-photo",
        "design-base",
    ): "EfficientNet: split by `photo` (scenes and devices shared, more of each in training), less by `scene+device`",
    ("devices-fingerprint", "devices-network"): "single devices: sensor-noise fingerprint, less network",
    ("devices-fingerprint-within", "devices-network-within"): "single devices of one model: the same",
}
HEADLINES = [  # what the README's table shows
    "cameraconvnet-patch", "equal-patch", "equal-scene+device", "transfer-released-patch", "transfer-matched-patch",
    "transfer-finetuned-patch", "transfer-scratch-patch", "efficientnet-released", "efficientnet-best",
]  # fmt: skip


def results_table(profiles: dict[str, pd.DataFrame]) -> str:
    """The README's results as Markdown: the paper's figures beside ours, of each profile's metrics."""
    names = list(profiles)
    head = ["experiment", "split", "paper, real photographs (validation)", *(f"ours, `{name}`" for name in names)]
    lines = [f"| {' | '.join([*head, 'test photos'])} |", "|---" * (len(head) + 1) + "|"]
    bars = [accuracy_bars(table).set_index("experiment") for table in profiles.values()]
    for name in (name for name in HEADLINES if name in bars[0].index):
        rows = [table.loc[name] for table in bars]
        paper = f"{100 * rows[0]['published']:.1f} %" if pd.notna(rows[0]["published"]) else "not tested"
        unit = {"patch": "patches", "photo": "photos"}[rows[0]["level"]]
        data = f"{unit} of {' and '.join(str(row['photos']) for row in rows)}, {rows[0]['dataset']}"
        cells = [NAMES[name], f"`{rows[0]['protocol']}`", paper, *map(_in_percent, rows), data]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _in_percent(row: pd.Series) -> str:
    """An accuracy in per cent with its interval, as Markdown."""
    return f"**{100 * row['value']:.1f} %** ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def findings(contrasts: pd.DataFrame) -> pd.DataFrame:
    """The contrasts that answer the study's questions (FINDINGS), one row each, in that order."""
    rows = contrasts.drop_duplicates(["a", "b"]).set_index(["a", "b"], drop=False)
    return rows.loc[[pair for pair in FINDINGS if pair in rows.index]].reset_index(drop=True)


def effects_table(profiles: dict[str, pd.DataFrame]) -> str:
    """The README's effects as Markdown: points of test accuracy, from each profile's contrasts."""
    head = ["effect on test accuracy, in points", *(f"`{name}`" for name in profiles)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (a, b), words in FINDINGS.items():
        found = [table[(table["a"] == a) & (table["b"] == b)].to_dict("records") for table in profiles.values()]
        lines.append(f"| {' | '.join([words, *(_effect(rows[0]) if rows else 'not run' for rows in found)])} |")
    return "\n".join(lines) + "\n"


def _effect(row: dict) -> str:
    """A contrast in points of accuracy, with its interval, bold where that leaves out zero."""
    decided = row["low"] > 0 or row["high"] < 0
    points = f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    return f"**{points}**" if decided else f"{points}, not decided"


def filled(text: str) -> str:
    """The README with its two tables as the committed results have them: of `default`, and of `full` if it is there."""
    folders = {name: PROJECT / "results" / name / "metrics" for name in ("default", "full")}
    folders = {name: folder for name, folder in folders.items() if folder.is_dir()}
    tables = {
        "results": results_table({name: read_metrics(folder) for name, folder in folders.items()}),
        "effects": effects_table({name: read_contrasts(folder) for name, folder in folders.items()}),
    }
    for name, table in tables.items():
        text = re.sub(rf"(<!-- {name}: .*?-->\n).*?(<!-- /{name} -->)", rf"\g<1>{table}\g<2>", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    README = PROJECT / "README.md"
    write_text(README, filled(README.read_text(encoding="utf-8")))
