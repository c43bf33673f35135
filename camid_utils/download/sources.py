"""What there is to download, one row per photo: the package's list of public photographs, FloreView's list of
addresses, Dresden's mirror on Kaggle."""

import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import quote, unquote, urljoin

import httpx
import pandas as pd

from .. import catalogues, datasets, published
from . import fetch

FLOREVIEW = "https://lesc.dinfo.unifi.it/FloreView/FloreView_Dataset.txt"
DRESDEN = "micscodes/dresden-image-database"  # on Kaggle: 53.5 GB
RAW = "https://raw.githubusercontent.com"  # /owner/name/commit/path: a file of a repository on GitHub
SCENES = {  # the public table of Dresden's scenes
    "path": catalogues.LISTING,
    "address": f"{RAW}/polimi-ispl/camera-model-identification-with-cnn/"
    "61b9358bb0f1531ce462b30d161b355a6c70d72e/dresden.csv",
    "blob": "fa7bba8c82ddff5abdeff31e0b8964e5dec4a8ac",
}
COLUMNS = ["path", "address", "device", "camera_model", "size"]
TYPICAL = 5_000_000  # bytes of a photo whose size the source does not give; on the large side
PHONE = re.compile(r"(?:^|/)((D\d+)_([^/]+)/.+)", re.IGNORECASE)  # path from the phone's folder on, device and model


def list_photographs(licensed: bool = False) -> pd.DataFrame:
    """The listing of the public photographs, also blob, collection and licence; licensed: only where one is stated."""
    table = published.photographs()
    places = table["collection"] + "/" + table["commit"] + "/" + table["path"]
    table = table.assign(path=table["file"], address=[f"{RAW}/{quote(place)}" for place in places], size=table["bytes"])
    return table.loc[(table["licence"] != "none") | (not licensed), [*COLUMNS, "blob", "collection", "licence"]]


def blob_name(path: str | Path) -> str:
    """The name that git gives a file's content: SHA-1 of "blob <size>", a zero byte and the bytes."""
    data = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def read_list(client: httpx.Client, address: str = FLOREVIEW) -> pd.DataFrame:
    """The listing of FloreView's photos, from its list on the server."""
    return parse_list(fetch.fetch(client, address).decode("utf-8-sig", errors="replace"), address)


def parse_list(text: str, base: str = FLOREVIEW) -> pd.DataFrame:
    """The listing of a text: one address or path (from the folder of `base`) per line, only photos in phone folders."""
    rows = []
    for line in (line.strip(" \t\"'") for line in text.splitlines()):
        match = PHONE.search(unquote(line.split("?")[0]))
        if match and not line.startswith("#") and catalogues.kind(match[1]) == "photo":
            with suppress(ValueError):  # not an address
                rows.append((match[1], urljoin(base, line), match[2].upper(), match[3], TYPICAL))
    return _listing(rows)


def dresden_listing(files: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """The listing of (path, bytes) pairs on Kaggle: all files named as Dresden's photos are, in any folder."""
    rows = []
    for path, size in files:
        if catalogues.kind(path) == "photo" and (match := datasets.DRESDEN_NAME.fullmatch(PurePosixPath(path).stem)):
            model = published.dresden_spelling(f"{match[1]}_{match[2]}")
            rows.append((path, path, f"{model}_{match[3]}", model, size or TYPICAL))
    return _listing(rows)


def _listing(rows: list[tuple]) -> pd.DataFrame:
    """Rows of COLUMNS as a table, without litter and without paths that could control a terminal."""
    rows = [row for row in rows if row[0].isprintable() and not any(map(catalogues.LITTER.match, row[0].split("/")))]
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[:-1], "string") | {"size": "int64"})
    return table.drop_duplicates("path").sort_values("path", ignore_index=True)


def list_dresden() -> pd.DataFrame:
    """The listing of the Dresden mirror. ValueError with advice if kagglehub is not installed."""
    try:
        from kagglehub.clients import build_kaggle_client
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest
    except ImportError as error:
        raise ValueError("Dresden's mirror is on Kaggle: pip install kagglehub") from error
    request = ApiListDatasetFilesRequest()
    request.owner_slug, request.dataset_slug = DRESDEN.split("/")
    request.page_size = 200
    files, more = [], True
    with build_kaggle_client() as client:
        while more:
            page = _ask_kaggle(client.datasets.dataset_api_client.list_dataset_files, request)
            files += [(file.name, file.total_bytes) for file in page.dataset_files]
            more = request.page_token = page.next_page_token
    return dresden_listing(files)


def fetch_from_kaggle(path: str) -> bytes:
    """One file of the Dresden mirror by kagglehub, which compares lengths and checksums. Raises Failed."""
    import kagglehub

    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    with TemporaryDirectory() as aside:  # force_download: replaces what an earlier try left there
        file = _ask_kaggle(kagglehub.dataset_download, DRESDEN, path, force_download=True, output_dir=aside)
        return Path(file).read_bytes()


@fetch.with_retries
def _ask_kaggle(call: Callable, *arguments, **options):
    """The result of a function of kagglehub, whose errors become Failed."""
    import requests
    from kagglehub.exceptions import DataCorruptionError

    try:
        return call(*arguments, **options)
    except (requests.RequestException, DataCorruptionError) as error:
        status = getattr(getattr(error, "response", None), "status_code", 503)
        after = 0.0 if status in fetch.TEMPORARY else math.inf
        raise fetch.Failed(f"{error} (how to sign in: python -m camid_utils.download --help)", after) from error
