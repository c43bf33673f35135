"""Where files belong, what ran on which data (run.json), and progress bars."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .files import expanded, write_text

PROJECT = Path(__file__).resolve().parents[1]  # the folder of notebooks/, runs/, results/ and data/
HEADLESS = "CAMID_HEADLESS"  # environment variable that the runner sets for kernels of unattended notebooks
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "simplejpeg", "pillow")


def resolve(path: str | Path) -> Path:
    """A parameter's path: relative ones start at the project's folder, wherever a notebook runs."""
    return PROJECT / expanded(path)  # papermill turns a folder named 2024 into a number


def progress(*args, **options):
    """A progress bar of tqdm: a widget in JupyterLab, text in a terminal and in a headless run."""
    from tqdm import auto, std  # slow to import, and not needed to find a folder

    return (std.tqdm if os.environ.get(HEADLESS) else auto.tqdm)(*args, **options)


def has_bfloat16() -> bool:
    """Whether the processor has bfloat16 instructions; without them bfloat16 is hundreds of times slower."""
    import torch  # slow to import, and not needed to find a folder

    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, text=True, check=True).stdout.strip()


def commit() -> dict[str, str | bool | None]:
    """The commit that runs, and whether the tree was clean; None outside a clone."""
    try:
        return {"commit": _git("rev-parse", "HEAD"), "clean": not _git("status", "--porcelain", "--", ".", ":!results")}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "clean": None}


def code_changed_since(earlier: str) -> list[str]:
    """The files that differ between an earlier commit and the present one, without results, tests and Markdown."""
    return _git("diff", "--name-only", earlier, "HEAD", "--", ".", ":!results", ":!tests", ":!*.md").splitlines()


def environment() -> dict[str, str]:
    """Versions and hardware that figures may depend on."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(terse=True),
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.machine(),
        "cores": str(os.cpu_count()),
        "gpu": gpu,
        "bfloat16": "yes" if has_bfloat16() or gpu != "none" else "no",
    }


def write_run_record(out: Path, profile: str, parameters: dict, name: str, seconds: float, failure: str) -> None:
    """run.json: what ran, with what, on what, for how long. failure: why the notebook failed, or "".

    Entries of notebooks not run this time are kept, unless they ran with other parameters.
    """
    datasets, finished = out / "metrics" / "datasets.json", datetime.now(UTC).isoformat(timespec="seconds")
    present = environment()
    entry = {"seconds": seconds, **commit(), "processor": present["processor"], "gpu": present["gpu"]}
    entry |= {"finished": finished, "failure": failure}
    record = {
        "profile": profile,
        **commit(),
        "parameters": parameters,
        "datasets": json.loads(datasets.read_text(encoding="utf-8")) if datasets.is_file() else {},
        "environment": present,
    }
    earlier = read_record(out)  # as late as possible: other processes add their entries
    kept = earlier["notebooks"] if earlier.get("parameters") == parameters else {}
    record["notebooks"] = dict(sorted((kept | {name: entry}).items()))
    write_text(out / "run.json", json.dumps(record, indent=2) + "\n")


def read_record(out: Path) -> dict:
    """run.json of a run or of published results, empty where there is none."""
    path = out / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return record | {"notebooks": dict(record.get("notebooks", {}))} if record else {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and start the same command again") from error
