"""Fetch and check the real photographs.

    python -m camid_utils.download dresden --to DIR      the mirror on Kaggle, 53.5 GB (needs: pip install kagglehub)
    python -m camid_utils.download floreview --to DIR    from its public list of addresses
    python -m camid_utils.download check DIR             what is missing, extra, double or not what its EXIF says

The same command again goes on where the last one stopped and tries again what failed. Exit code 0: all is there (or
nothing is wrong), 1: something failed (or was found), 2: it could not be done.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import filelock
import httpx
import numpy as np
import pandas as pd

from . import checking, datasets, fetching, sources
from .files import UNWRITABLE, write_text
from .patches import read_photo
from .progress import progress

USUAL = {"photo": 5e6, "HEIC": 3e6, "video": 60e6}  # bytes of a file, where no server tells; on the large side
ASKED = 64  # files of each kind whose size is asked for; the others are taken to be like them
GIVE_UP_AFTER = 20  # files in a row that failed for a reason that may pass: then the server or the network is away
FAILED = "failed.txt"  # in the reader's folder: what the last run could not fetch, and why


class Stopped(Exception):
    """The run ends before its end."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.what == "check":
            return checking.report(options.folder)
        with fetching.open_client(options.timeout, options.connections) as client:
            with _source(options, client) as (listing, locate):
                return _fetch_or_show(client, listing, locate, options)
    except filelock.Timeout:
        print(f"error: another download into {options.to} is at work; wait for it to end", file=sys.stderr)
    except OSError as error:
        advice = "; make room or give another folder: the same command goes on from there"
        print(f"error: {error}{advice if error.errno in UNWRITABLE else ''}", file=sys.stderr)
    except (fetching.Refused, fetching.Unfinished) as error:
        print(f"error: what there is to fetch cannot be listed: {error}", file=sys.stderr)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m camid_utils.download", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="what", required=True)
    for name, data in (("dresden", "natural photos of 74 cameras"), ("floreview", "photos of 46 phones")):
        command = commands.add_parser(name, help=data)
        command.add_argument("--to", type=Path, required=True, metavar="DIR", help="nothing outside it is written")
        command.add_argument("--devices", nargs="+", default=[], metavar="NAME", help="devices or camera models only")
        command.add_argument("--limit", type=int, metavar="N", help="at most N files, dealt evenly to the devices")
        command.add_argument("--dry-run", action="store_true", help="show what would be fetched and write nothing")
        command.add_argument("--connections", type=int, default=fetching.CONNECTIONS, help="at a time; be polite")
        command.add_argument("--tries", type=int, default=fetching.TRIES, help="for each file")
        command.add_argument("--pause", type=float, default=fetching.PAUSE, help="seconds after a failed try; doubles")
        command.add_argument("--timeout", type=float, default=fetching.TIMEOUT, help="seconds without a byte")
        if name == "floreview":
            command.add_argument("--list", default=sources.FLOREVIEW, help="another list: an address or a file")
            command.add_argument("--videos", action="store_true", help="videos too")
            command.add_argument("--heic", action="store_true", help="HEIC photos too, which the study does not read")
    command = commands.add_parser("check", help="compare a folder with what was published")
    command.add_argument("folder", type=Path, metavar="DIR")
    return parser


@contextmanager
def _source(options: argparse.Namespace, client: httpx.Client) -> Iterator[tuple[pd.DataFrame, Callable]]:
    """What there is to fetch, and a function from an address of the listing to one that HTTP understands."""
    patience = {"tries": options.tries, "pause": options.pause}
    if options.what == "floreview":
        listing = sources.read_list(client, options.list, **patience)
        wanted = ["photo"] + ["video"] * options.videos + ["HEIC"] * options.heic
        yield listing[listing["kind"].isin(wanted)], lambda address: address
        return
    with sources.open_kaggle(options.timeout) as kaggle:
        yield sources.list_dresden(kaggle, **patience), partial(sources.kaggle_address, kaggle)


def _fetch_or_show(client: httpx.Client, listing: pd.DataFrame, locate: Callable, options: argparse.Namespace) -> int:
    """Select, estimate, then show (--dry-run) or fetch; returns the exit code."""
    folder = options.to.expanduser()
    refused = [(f"a line of the list, {line!r}", reason) for line, reason in listing.attrs["refused"]]
    chosen = select(listing, options.devices, options.limit)
    absent = with_sizes(client, chosen[~_there(chosen, folder)], options.connections)
    need = int(absent["expected"].sum()) - sum(_arrived(folder, path) for path in absent["path"])
    print(
        f"{len(chosen):,} files: {len(chosen) - len(absent):,} there, {len(absent):,} to fetch, {_said(absent, need)}"
    )
    if options.dry_run:
        print(overview(chosen, absent).to_string(index=False))
        _print_failures(refused)
        return 0
    checked_room(folder, need)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".download.lock", timeout=0):
        patience = {"tries": options.tries, "pause": options.pause}
        failures, end = fetch_all(client, absent, folder, locate, options.connections, **patience)
        if options.what == "dresden":
            failures += fetch_scenes(client, folder, **patience)
        failures = refused + failures
        _write_failures(folder, failures)
    _print_failures(failures)
    print(f"{_there(chosen, folder).sum():,} of {len(chosen):,} files are in {folder}{end and f'; {end}'}")
    return int(bool(failures or end))


def select(listing: pd.DataFrame, devices: list[str] | tuple = (), limit: int | None = None) -> pd.DataFrame:
    """The files of these devices or camera models (all, without a name), at most `limit`, dealt evenly to the devices.

    Names are those of the columns device and camera_model, or of FloreView's folders (D27_DOOGEE_S96Pro), in any case.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: give 1 or more")
    if devices:
        both = listing["device"] + "_" + listing["camera_model"]
        keys = [column.str.casefold() for column in (listing["device"], listing["camera_model"], both)]
        names = {name.casefold() for name in devices}
        unknown = names - set(pd.concat(keys))
        if unknown:
            known = ", ".join(sorted(set(listing["device"] + " (" + listing["camera_model"] + ")")))
            raise ValueError(f"no device or camera model is called {', '.join(sorted(unknown))}; there are {known}")
        listing = listing[np.logical_or.reduce([key.isin(names) for key in keys])]
    if limit is not None:
        turn = listing.groupby("device").cumcount().sort_values(kind="stable")
        listing = listing.loc[turn.index[:limit]].sort_index()
    return listing


def with_sizes(client: httpx.Client, files: pd.DataFrame, connections: int = fetching.CONNECTIONS) -> pd.DataFrame:
    """The files with a column `expected`, bytes: their size, or that of their kind as the server tells it of a sample.

    At most ASKED files of a kind are asked for, spread over the list; where no server tells, USUAL stands in.
    """
    files = files.assign(expected=files["size"].astype("Float64"))
    for kind, rows in files[files["size"].isna()].groupby("kind"):
        asked = rows.index[np.unique(np.linspace(0, len(rows) - 1, ASKED).round().astype(int))]
        with ThreadPoolExecutor(connections) as pool:
            told = list(pool.map(partial(_told, client), files.loc[asked, "address"]))
        sizes = pd.Series(told, asked, dtype="Float64").dropna()
        files.loc[rows.index, "expected"] = sizes.mean() if len(sizes) else USUAL[kind]
        files.loc[sizes.index, "expected"] = sizes
    return files.astype({"expected": "int64"})


def _told(client: httpx.Client, address: str) -> int | None:
    """A file's size, if the server tells it at once."""
    try:
        return fetching.size_of(client, address)
    except (fetching.Refused, fetching.Unfinished):
        return None


def overview(chosen: pd.DataFrame, absent: pd.DataFrame) -> pd.DataFrame:
    """A row a device: how many of its files were chosen, how many are to be fetched, and how many megabytes that is."""
    groups = chosen.groupby(["device", "camera_model"])
    table = groups.size().rename("files").to_frame()
    to_fetch = absent.groupby(["device", "camera_model"])["expected"]
    table["to fetch"] = to_fetch.size()
    table["MB"] = (to_fetch.sum() / 1e6).round(1)
    return table.fillna(0).astype({"to fetch": int}).reset_index()


def fetch_all(
    client: httpx.Client, files: pd.DataFrame, folder: Path, locate: Callable, connections: int, **patience
) -> tuple[list[tuple[str, str]], str]:
    """Fetch files (columns path, address, kind, expected) into `folder`, several at a time.

    Returns the failures, (path, reason) in the order of the paths, and why it ended early ("" if it did not).
    Raises OSError if the folder cannot be written to.
    """
    stop, lock, done = threading.Event(), threading.Lock(), itertools.count(1)
    bar = progress(total=int(files["expected"].sum()), unit="B", unit_scale=True, disable=files.empty)

    def moved(size: int) -> None:
        if stop.is_set():
            raise Stopped
        with lock:
            bar.update(size)

    def one(path: str, address: str, kind: str, expected: int) -> None:
        target = fetching.inside(folder, path)
        settings = {**patience, "sleep": stop.wait}
        found = fetching.patiently(partial(locate, address), **settings)
        fetching.fetch(client, found, target, read_photo if kind == "photo" else _not_empty, moved, **settings)
        with lock:
            bar.total += target.stat().st_size - expected  # so that the time left is of what is really to come
            bar.set_postfix_str(f"{next(done):,} of {len(files):,} files", refresh=False)

    with bar, ThreadPoolExecutor(connections) as pool:
        jobs = zip(files["path"], files["address"], files["kind"], files["expected"], strict=True)
        futures = {pool.submit(one, *job): job[0] for job in jobs}
        try:
            return _gathered(futures)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def fetch_scenes(client: httpx.Client, folder: Path, **patience) -> list[tuple[str, str]]:
    """Fetch the public table of Dresden's scenes into `folder`, unless it is there; failures as in fetch_all."""
    target = folder / datasets.LISTING
    try:
        if not target.is_file():
            fetching.fetch(client, sources.SCENES, target, _is_listing, **patience)
    except (fetching.Refused, fetching.Unfinished) as error:
        return [(datasets.LISTING, f"{error}; without it no photo has a scene")]
    return []


def _is_listing(path: Path) -> None:
    if b"filename" not in path.read_bytes()[:1000]:
        raise ValueError("it is not the table of Dresden's scenes")


def _gathered(futures: dict[Future, str]) -> tuple[list[tuple[str, str]], str]:
    """The failures among jobs as they end, and why the run is to end before they have all been done."""
    failures, in_a_row = [], 0
    try:
        for future in as_completed(futures):
            error = future.exception()
            if error is None:
                in_a_row = 0
                continue
            known = isinstance(error, (fetching.Refused, fetching.Unfinished, ValueError, OSError))
            if not known or getattr(error, "errno", None) in UNWRITABLE:
                raise error
            failures.append((futures[future], str(error)))
            in_a_row = in_a_row + 1 if isinstance(error, fetching.Unfinished) else 0
            if in_a_row >= GIVE_UP_AFTER:
                end = f"ended because {in_a_row} files in a row failed; start the same command again later"
                return sorted(failures), end
    except KeyboardInterrupt:
        return sorted(failures), "stopped; the same command goes on from here"
    return sorted(failures), ""


def _not_empty(path: Path) -> None:
    if not path.stat().st_size:
        raise ValueError("the file is empty")


def checked_room(folder: Path, need: int) -> None:
    """A ValueError if the disk of `folder` has no room for `need` bytes."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        raise ValueError(f"{_gb(need)} are to come, {place} has {_gb(free)} free; choose --devices or another folder")


def _there(files: pd.DataFrame, folder: Path) -> pd.Series:
    return files["path"].map(lambda path: (folder / path).is_file()).astype(bool)


def _arrived(folder: Path, path: str) -> int:
    """Bytes that an earlier run left of a file."""
    part = fetching.beside(folder / path)[0]
    return part.stat().st_size if part.is_file() else 0


def _said(absent: pd.DataFrame, need: int) -> str:
    asked = f"estimated from the sizes of up to {ASKED} files of a kind"
    return f"{_gb(need)}, {'as the source says' if absent['size'].notna().all() else asked}"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _write_failures(folder: Path, failures: list[tuple[str, str]]) -> None:
    """The failures in a small text file; no file where there are none."""
    if failures:
        lines = ["# What the last download could not fetch; the next one tries again.", *map("\t".join, failures)]
        write_text(folder / FAILED, "\n".join(lines) + "\n")
    else:
        (folder / FAILED).unlink(missing_ok=True)


def _print_failures(failures: list[tuple[str, str]], most: int = 20) -> None:
    for path, reason in failures[:most]:
        print(f"failed: {path}: {reason}")
    if len(failures) > most:
        print(f"... and {len(failures) - most} more: see {FAILED}")


if __name__ == "__main__":
    sys.exit(main())
