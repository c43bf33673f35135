"""Download and check the real photographs.

    python -m camid_utils.download photographs --to DIR  photos by 44 camera models, from public repositories: 4.3 GB
    python -m camid_utils.download dresden --to DIR      natural photos of 74 cameras, from Kaggle: 53.5 GB
    python -m camid_utils.download floreview --to DIR    stills of 46 phones, from the university's server: tens of GB
    python -m camid_utils.download check DIR             what is missing, extra, duplicate, broken or of another camera

The same command resumes an interrupted download and tries again what failed; DIR/failed.txt lists it. Only complete
files are kept: with the listed content or, where no list gives it, photos that can be decoded. Ctrl-C stops it.

The public photographs belong to their owners. Each collection is a repository on GitHub; what it states as its licence
is shown before the download, and --licensed leaves out collections that state none. A licence for code need not cover
photographs. Only files with exactly the listed content are accepted; others are named, and so is what is gone.

Dresden needs `pip install kagglehub`. If Kaggle asks you to sign in, put a token from kaggle.com/settings into the
environment variable KAGGLE_API_TOKEN. dresden.csv, the public table of the photos' scenes, is downloaded too.

Exit code 0: all is there (or nothing is wrong); 1: a download failed (or something is wrong); 2: it had to stop.
"""

import argparse
import io
import math
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import filelock
import pandas as pd

from ..files import atomic_path, command, expanded, named_path, write_text
from ..photos import read_photo
from ..project import progress
from . import check, fetch, sources

GIVE_UP_AFTER = 20  # temporary failures in a row: then the server or the network is down
STALLED = 1800  # seconds without a finished file: kagglehub itself would wait forever
DATA = {
    "photographs": "public photographs by 44 camera models",
    "dresden": "natural photos of 74 cameras",
    "floreview": "photos of 46 phones",
}
FAILED = "failed.txt"  # in the user's folder: what the last run could not download, and why


@command
def main(arguments: list[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m camid_utils.download", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="what", required=True)
    for name, data in DATA.items():
        add = commands.add_parser(name, help=data, description=f"Download {data}.").add_argument
        add("--to", type=named_path, required=True, metavar="DIR", help="the folder of the photos")
        add("--devices", nargs="+", default=[], metavar="NAME", help="only these devices or camera models")
        add("--limit", type=int, metavar="N", help="at most N photos, spread evenly over the devices")
        add("--dry-run", action="store_true", help="show what would be downloaded from each device and write nothing")
        if name == "photographs":
            add("--licensed", action="store_true", help="only collections that state a licence")
        if name == "floreview":
            add("--list", default=sources.FLOREVIEW, metavar="URL", help="another list of addresses")
    add = commands.add_parser("check", help="what is wrong with a folder").add_argument
    add("folder", type=named_path, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        return check.report(options.folder) if options.what == "check" else download(options)
    except filelock.Timeout as error:
        raise ValueError(f"another download into {options.to} is running; wait for it to finish") from error


def download(options: argparse.Namespace) -> int:
    """List and select the photos of a data set, then show (--dry-run) or download them; returns the exit code."""
    folder, dresden = expanded(options.to), options.what == "dresden"
    print("reading the list of photos", flush=True)
    with fetch.open_client() as client:
        if options.what == "photographs":
            listing = sources.list_photographs(options.licensed)
        else:
            listing = sources.list_dresden() if dresden else sources.read_list(client, options.list)
        from_server = partial(fetch.fetch, client)
        chosen = select(listing, options.devices, options.limit)
        absent = _absent(chosen, folder)
        need = absent["size"].sum()
        print(f"{len(absent):,} of {len(chosen):,} photos to download, about {need / 1e9:.2f} GB")
        if "licence" in absent and len(absent):
            licences = absent.groupby("collection").agg(photos=("path", "size"), licence=("licence", "first"))
            print(f"what the collections, repositories on GitHub, state as their licences:\n{licences.to_string()}")
        if options.dry_run:
            print(absent.groupby(["device", "camera_model"])["size"].agg(photos="size", bytes="sum").to_string())
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        if need > (free := shutil.disk_usage(folder).free):
            raise ValueError(f"{folder} has only {free / 1e9:.2f} GB free; choose --devices or another folder")
        with filelock.FileLock(folder / ".download.lock", timeout=0):
            failures = fetch_all(absent, folder, sources.fetch_from_kaggle if dresden else from_server)
            if dresden:
                failures += fetch_all(_absent(pd.DataFrame([sources.SCENES]), folder), folder, from_server)
            (folder / FAILED).unlink(missing_ok=True)
            if failures:
                write_text(folder / FAILED, "\n".join(failures) + "\n")
                print("\n  ".join(["failed:", *failures[:20], f"all {len(failures):,} are in {folder / FAILED}"]))
    print(f"{len(chosen) - len(_absent(chosen, folder)):,} of {len(chosen):,} photos are in {folder}")
    return int(bool(failures))


def select(listing: pd.DataFrame, devices: list[str], limit: int | None) -> pd.DataFrame:
    """At most `limit` photos of these devices, models or FloreView folders (none: all), spread over the devices."""
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: give 1 or more")
    if listing.empty:
        raise ValueError("the list names no photo in the data set's layout; it may have moved")
    names = {name.casefold() for name in devices}
    device, model = listing["device"], listing["camera_model"]
    keys = pd.DataFrame([device, model, device + "_" + model]).T.map(str.casefold)
    if unknown := names.difference(*keys.to_numpy().T):
        known = ", ".join(sorted(set(device + " (" + model + ")")))
        raise ValueError(f"no device or camera model is called {', '.join(sorted(unknown))}; there are {known}")
    if names:
        listing = listing[keys.isin(names).any(axis=1)]
    turn = listing.groupby("device").cumcount().sort_values(kind="stable")
    return listing.loc[turn.index[:limit]].sort_index()


def fetch_all(files: pd.DataFrame, folder: Path, fetch_file: Callable[[str], bytes]) -> list[str]:
    """Download files (columns path, address, perhaps blob) to `folder`; returns a line for each that failed."""

    def one(file) -> tuple[str, bool]:
        """Why it failed, or "", and whether that is temporary."""
        try:
            with atomic_path(fetch.inside(folder, file.path)) as unfinished:
                unfinished.write_bytes(fetch_file(file.address))
                if "blob" not in files:
                    read_photo(unfinished)
                elif sources.blob_name(unfinished) != file.blob:
                    raise ValueError("its content is not the listed one")
            return "", False
        except ValueError as error:
            reason = str(error).rpartition(f"{Path(file.path).name}: ")[2]
            return f"{file.path}: {reason}", getattr(error, "after", math.inf) < math.inf

    failures, in_a_row, end = [], 0, ""
    bar = progress(total=len(files), unit="photo", disable=len(files) < 2)
    # The pool's threads end with the process, so that Ctrl-C need not wait; kagglehub draws a bar for each file
    with bar, ThreadPool(fetch.CONNECTIONS) as pool, redirect_stderr(io.StringIO()):
        results = pool.imap_unordered(one, files.itertuples())
        try:
            for _ in range(len(files)):
                failure, temporary = results.next(timeout=STALLED)
                bar.update()
                failures += [failure] if failure else []
                in_a_row = in_a_row + 1 if temporary else 0
                if in_a_row >= GIVE_UP_AFTER:
                    end = f"not tried: {in_a_row} in a row failed; start the same command again later"
                    break
        except (KeyboardInterrupt, multiprocessing.TimeoutError) as stop:
            end = f"stopped ({type(stop).__name__}); start the same command again"
    return [*sorted(failures), f"the other photos: {end}"] if end else sorted(failures)


def _absent(files: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The files that are not in `folder`, or, where a list gives exact sizes, of another size there."""
    exact = {"blob", "size"} <= {*files}

    def there(file) -> bool:
        path = folder / file.path
        return os.path.isfile(path) and (not exact or path.stat().st_size == file.size)  # False for names too long

    return files[[not there(file) for file in files.itertuples()]]


if __name__ == "__main__":
    sys.exit(main())
