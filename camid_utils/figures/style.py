"""The look of all figures and what they share: colours, headings, grids of pictures, saving."""

import io
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython import display, get_ipython
from matplotlib.text import Annotation
from PIL import Image

from ..files import atomic_path

OURS, PAPER, GREY = "#1f6f8b", "#d1495b", "#8d99ae"
STYLE = {
    "figure.dpi": 100, "savefig.dpi": 110, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
    "font.size": 10, "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8,
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "image.cmap": "mako",
}  # fmt: skip
SERIES = [OURS, "#edae49", "#7b4b94", "#3a8f5c", PAPER, GREY]  # told apart by marker and line style as well
MARKERS, DASHES = "osD^vX", ["-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1))]


def use_style() -> None:
    """Set the study's look; called once per notebook."""
    sns.set_theme(style="ticks", rc=STYLE)


def save(fig: plt.Figure, folder: str | Path, name: str, exact: bool = False) -> None:
    """Write `fig` as folder/name.png, atomically and without a date, and show it; exact: in more than 256 colours."""
    path, drawn = Path(folder) / f"{name}.png", io.BytesIO()
    fig.savefig(drawn, format="png", metadata={"Software": None})
    plt.close(fig)
    picture = Image.open(drawn).convert("RGB")
    picture = picture if exact else picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    with atomic_path(path) as partial:
        picture.save(partial, "PNG", optimize=True)
    if get_ipython():
        display.display(display.Image(path))


def heading(fig: plt.Figure, title: str, note: str, legend_of: plt.Axes | None = None) -> plt.Figure:
    """The figure with its title and, under it, which data it shows; below, the legend of one of its panels for all."""
    lines = textwrap.wrap(note, int(16 * fig.get_figwidth()))  # letters per inch at this size
    top = fig.suptitle(title + "\n" * len(lines), x=0.01, ha="left", fontsize=11)
    below = (0, 0), (0, 4), top, "offset points"
    fig.add_artist(Annotation("\n".join(lines), *below, va="bottom", fontsize=8, color="0.4"))
    if legend_of and any(entries := legend_of.get_legend_handles_labels()):
        fig.legend(*entries, loc="outside lower center", ncols=2)
    return fig


def bare_axes(rows: int, columns: int, size: tuple[float, float], title: str, note: str) -> tuple:
    """A figure with its heading, and its axes [rows, columns] for pictures of `size` (width, height in inches)."""
    fig, axes = plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows + 0.6), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    heading(fig, title, note)
    return fig, axes


def photo_range(rows: pd.DataFrame) -> str:
    """How many photos these rows are based on (columns photos and photos_b, or n): ", 40 to 384 photos", or ""."""
    counts = rows.reindex(columns=["photos", "photos_b"] if "photos" in rows else ["n"])
    fewest, most = counts.min(axis=None), counts.max(axis=None)
    text = f"{fewest:,.0f} to {most:,.0f}" if fewest < most else f"{most:,.0f}"
    return "" if pd.isna(most) else f", {text} photos"


def readable(names) -> list[str]:
    """Class names as people write them."""
    return [str(name).replace("_", " ") for name in names]
