"""What there is to fetch: the public list of FloreView's addresses, and the files of Dresden's mirror on Kaggle.

Both become a listing: a row a file, with the columns of COLUMNS. `path` is where the file goes below the reader's
folder, in a layout that `datasets` reads; `size` is in bytes, NA where the source does not tell.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import pandas as pd

from camid_utils import datasets, fetching, published

FLOREVIEW = "https://lesc.dinfo.unifi.it/FloreView/FloreView_Dataset.txt"
DRESDEN = "micscodes/dresden-image-database"  # on Kaggle: 53.5 GB
SCENES = (  # the public table of Dresden's scenes, datasets.LISTING
    "https://raw.githubusercontent.com/polimi-ispl/camera-model-identification-with-cnn/"
    "61b9358bb0f1531ce462b30d161b355a6c70d72e/dresden.csv"
)
COLUMNS = ["path", "address", "device", "camera_model", "kind", "size"]
PAGE = 200  # files that Kaggle names in one answer
DEVICE_FOLDER = re.compile(r"(D\d+)_(.+)", re.IGNORECASE)
ADVICE = "sign in: put a token from kaggle.com/settings into the environment variable KAGGLE_API_TOKEN"


def read_list(client: httpx.Client, address: str = FLOREVIEW, **patience) -> pd.DataFrame:
    """The listing of FloreView from its list of addresses, on a server or in a local file (then relative to FLOREVIEW).

    Raises ValueError if nothing in the list is in FloreView's layout, FileNotFoundError if there is no such file.
    """
    if urlsplit(address).scheme in ("http", "https"):
        text, base = fetching.read_text(client, address, **patience), address
    else:
        text, base = fetching.decoded(Path(address).expanduser().read_bytes()), FLOREVIEW
    listing = parsed_list(text, base)
    if listing.empty:
        raise ValueError(f"{address} names no file in FloreView's layout (D27_DOOGEE_S96Pro/...); give another --list")
    return listing


def parsed_list(text: str, base: str = FLOREVIEW) -> pd.DataFrame:
    """The listing that a text gives, an address or path a line; paths are below the folder of `base`.

    Empty lines and those that begin with # are passed over, files in no phone's folder are counted in
    `attrs["skipped"]`, and lines that no safe file can be made from stand in `attrs["refused"]` as (line, reason).
    """
    rows, refused, skipped = {}, [], Counter()
    for line in dict.fromkeys(line.strip().strip("\"'").strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        try:
            row = _floreview_row(line, base)
        except ValueError as error:
            refused.append((line[:200], str(error)))
            continue
        if row is None:
            skipped["in no phone's folder"] += 1
        elif row["path"] in rows:
            refused.append((line[:200], f"another line of the list gives {row['path']} too"))
        else:
            rows[row["path"]] = row
    return _listing(rows.values(), refused, skipped)


def _floreview_row(line: str, base: str) -> dict | None:
    """A line of the list as a row of the listing; None if it is in no phone's folder, a ValueError if it is unsafe."""
    address = urlsplit(line)
    if address.scheme not in ("", "http", "https"):
        raise ValueError(f"{address.scheme}: is no address of a web server")
    parts = unquote(address.path).split("/")
    if ".." in parts or any("\\" in part for part in parts):
        raise ValueError("its path leads out of its folder")
    start = next((i for i, part in enumerate(parts[:-1]) if DEVICE_FOLDER.fullmatch(part)), None)
    if start is None:
        return None
    device, camera_model = DEVICE_FOLDER.fullmatch(parts[start]).groups()
    path = fetching.checked_path("/".join(parts[start:]))
    return dict(
        zip(COLUMNS, [path, urljoin(base, line), device.upper(), camera_model, datasets.kind(path), pd.NA], strict=True)
    )


def _listing(rows, refused: list[tuple[str, str]], skipped: Counter) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS[:-1], "string") | {"size": "Int64"})
    table = table.sort_values("path", ignore_index=True)
    table.attrs = {"refused": refused, "skipped": dict(skipped)}
    return table


@contextmanager
def open_kaggle(timeout: float = fetching.TIMEOUT) -> Iterator:
    """Kaggle's client as kagglehub makes it, signed in where the reader's environment has a token; it writes nothing.

    kagglehub's own `dataset_download` is not used: it writes to the final name at once, goes on without asking whether
    the file changed, and waits without end for a server that stalls. Raises ImportError, with what to do, where
    kagglehub is not installed.
    """
    try:
        from kagglehub.clients import build_kaggle_client
    except ImportError as error:
        raise ImportError("Dresden's mirror is on Kaggle: pip install kagglehub") from error
    with build_kaggle_client() as client:
        session = client.http_client()._session
        session.send = functools.partial(session.send, timeout=timeout)  # it sets no time limit of its own
        yield client


def list_dresden(kaggle, dataset: str = DRESDEN, **patience) -> pd.DataFrame:
    """The listing of the Dresden mirror, with sizes: all files named as Dresden's photos, wherever they lie."""
    from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest

    request = ApiListDatasetFilesRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    request.page_size = PAGE
    files = []
    while True:
        call = kaggle.datasets.dataset_api_client.list_dataset_files
        answer = fetching.patiently(functools.partial(_asked, call, request), **patience)
        files += [(file.name, file.total_bytes) for file in answer.dataset_files]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    listing = dresden_listing(files)
    if listing.empty:
        raise ValueError(f"none of {len(files)} files of {dataset} is named as Dresden's photos; perhaps it has moved")
    return listing


def dresden_listing(files: list[tuple[str, int]]) -> pd.DataFrame:
    """The listing of (path, size in bytes) pairs; other names are counted as skipped, unsafe ones refused."""
    spelling = {name.casefold(): name for name in published.read("dresden_models")["camera_model"]}
    rows, refused, skipped = {}, [], Counter()
    for path, size in files:
        match = datasets.DRESDEN_NAME.fullmatch(path.rsplit("/", 1)[-1])
        if match is None:
            skipped["not named as Dresden's photos"] += 1
            continue
        model = spelling.get(f"{match[1]}_{match[2]}".casefold(), f"{match[1]}_{match[2]}")
        try:
            row = [fetching.checked_path(path), path, f"{model}_{match[3]}", model, "photo", size or pd.NA]
            rows[path] = dict(zip(COLUMNS, row, strict=True))
        except ValueError as error:
            refused.append((path[:200], str(error)))
    return _listing(rows.values(), refused, skipped)


def kaggle_address(kaggle, path: str, dataset: str = DRESDEN) -> str:
    """Where the file that a Kaggle data set calls `path` can be fetched from now: a signed address of its storage."""
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    request.file_name = path
    with _asked(kaggle.datasets.dataset_api_client.download_dataset, request) as response:
        return response.url  # its body is left unread: `fetching` asks for it, or for what is missing of it


def _asked(call: Callable, request):
    """Kaggle's answer; what goes wrong, as `fetching` says it."""
    import requests  # kagglehub's own HTTP library

    try:
        return call(request)
    except requests.HTTPError as error:
        answer = error.response
        words = answer.reason if answer.status_code >= 400 else str(error)  # some errors come with a status of 200
        problem = fetching.objection(answer.status_code, words, answer.headers.get("Retry-After"))
        if answer.status_code in (401, 403):
            problem = fetching.Refused(f"{problem}; {ADVICE}")
        raise problem from error
    except requests.RequestException as error:
        raise fetching.Unfinished(f"Kaggle cannot be reached: {error}") from error
