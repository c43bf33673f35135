"""One file from a web server to disk: resumed where it stopped, and given its own name only when it is complete.

What has arrived is kept hidden beside the file (`.name.part`) with a note of its version (`.name.note`). A later try,
or a later run, asks the server only for the rest of that same version.
"""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import tenacity

from ..photos import FORMATS

CONNECTIONS = 4  # at the same time: universities' web servers are shared
TRIES = 6  # for one file in one run
PAUSE = 1.0  # seconds after the first failed try; doubles after each further one
LONGEST_WAIT = 600.0  # seconds; a server that asks for a longer pause (Retry-After) is left to the next run
TIMEOUT = 30.0  # seconds without a single byte
TEMPORARY = {408, 421, 425, 429, 500, 502, 503, 504}  # status codes that another try may change
HEADERS = {"User-Agent": "camid-utils (research data sets; resumes, few connections)", "Accept-Encoding": "identity"}
NAME = re.compile(  # one part of a path, safe on common file systems: neither hidden nor reserved by Windows
    r"(?!\.|(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\.|$))[^<>:\"/\\|?*]*[^<>:\"/\\|?*. ]",
    re.IGNORECASE,
)
LONGEST_NAME = 200  # bytes; file systems allow 255, and the hidden names are longer
IMAGE = re.compile(b"|".join([rb"\xff\xd8", *FORMATS]), re.DOTALL)  # how image files begin


class Failed(ValueError):
    """A download failed; `after`: seconds until another try may help, infinite if none will."""

    def __init__(self, reason: str, after: float = 0.0):
        super().__init__(reason)
        self.after = after


# Decorator: calls the function again, after growing pauses, while it raises Failed; raises its last error
with_retries = tenacity.retry(
    retry=tenacity.retry_if_exception(lambda error: isinstance(error, Failed) and error.after <= LONGEST_WAIT),
    stop=lambda state: state.attempt_number >= TRIES,
    wait=lambda state: max(PAUSE * 2 ** (state.attempt_number - 1), state.outcome.exception().after),
    reraise=True,
)


def inside(folder: str | Path, path: str) -> Path:
    """The file `path` in `folder`; a ValueError if it is unsafe on any system or a link leads elsewhere."""
    for part in path.split("/"):
        if not (part.isprintable() and NAME.fullmatch(part)) or len(part.encode()) > LONGEST_NAME:
            raise ValueError("its path leaves the folder or has a part that is not a safe file name")
    target = Path(folder, path)
    links = [file for file in (target, *partial_files(target)) if file.is_symlink()]
    if links or not target.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"a link leads out of {folder}; remove the link")
    return target


def partial_files(target: Path) -> tuple[Path, Path]:
    """The hidden places of what has arrived of `target`, and of the note of its version."""
    return target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.note")


def open_client() -> httpx.Client:
    """An HTTP client with a limited number of connections; threads may share it."""
    limits = httpx.Limits(max_connections=CONNECTIONS)
    return httpx.Client(timeout=TIMEOUT, limits=limits, follow_redirects=True, headers=HEADERS)


@with_retries
def fetch(client: httpx.Client, address: str, target: Path, check: Callable[[Path], object]) -> str:
    """Download `address` to `target`; resumes in the middle of the file if an earlier try or run began it.

    Returns what `accept` returns: a reason to doubt the file, or "". Raises Failed or OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, note = partial_files(target)
    try:
        whole = _receive(client, address, part, note)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Failed(f"the connection failed: {str(error) or type(error).__name__}") from error
    doubt = accept(part, target, check, whole)
    note.unlink(missing_ok=True)
    return doubt


def accept(file: Path, target: Path, check: Callable[[Path], object], whole: bool = True) -> str:
    """Give a file its name; returns why `check` refuses it (ValueError), or "".

    A file that `check` refuses is removed, and Failed raised, unless it is a `whole` image: that will not change. If
    `check` itself raises Failed, it is another file: always removed.
    """
    doubt = ""
    try:
        check(file)
    except (ValueError, MemoryError) as error:
        doubt = str(error).removeprefix(f"{file}: ") or type(error).__name__
        if isinstance(error, Failed) or not (whole and IMAGE.match(file.read_bytes())):
            file.unlink()
            raise Failed(doubt, math.inf if whole else 0.0) from error
    try:
        os.replace(file, target)
    except PermissionError as error:  # on Windows, while a virus scanner reads the new file
        raise Failed(f"{target} cannot be written ({error.strerror})") from error
    return doubt


def printable(text: str) -> str:
    """A text from elsewhere as one line that cannot control a terminal."""
    return text if text.isprintable() else repr(text)


def _receive(client: httpx.Client, address: str, part: Path, note: Path) -> bool:
    """Append what is missing of the version in `note`, or start again; returns whether one answer surely had it all."""
    version = note.read_text(encoding="utf-8", errors="replace").strip() if note.is_file() else ""
    undamaged = version and version.isascii() and version.isprintable()
    have = part.stat().st_size if undamaged and part.is_file() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    with client.stream("GET", address, headers=headers) as response:
        if address.startswith("https:") and "http" in {step.url.scheme for step in (*response.history, response)}:
            raise Failed("the server redirects to http, where anyone on the way can change a file", math.inf)
        length = int(response.headers.get("Content-Length", 0))
        if response.status_code in (206, 416):
            place = re.fullmatch(rf"bytes {have}-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not (have and place and _version(response) in ("", version)):
                part.unlink(missing_ok=True)
                raise Failed("the file changed on the server during the download")
            length = int(place[1])
        elif response.status_code != 200:
            wait = response.headers.get("Retry-After", "")  # counts if it is in seconds
            after = math.inf if response.status_code not in TEMPORARY else float(wait) if wait.isdecimal() else 0.0
            raise Failed(f"the server answered {response.status_code} {response.reason_phrase}", after)
        else:
            part.unlink(missing_ok=True)  # first, so that the new version's note is never beside old bytes
            note.write_text(_version(response), encoding="utf-8")
        with open(part, "ab", buffering=0) as file:
            for chunk in response.iter_raw():  # as it comes: what is in a buffer is lost if the run is killed
                file.write(chunk)
    if length and part.stat().st_size != length:
        raise Failed(f"{part.stat().st_size:,} of {length:,} bytes arrived")
    return response.status_code == 200 and not {"content-length", "transfer-encoding"}.isdisjoint(response.headers)


def _version(response: httpx.Response) -> str:
    """What an If-Range header may name: the strong ETag, else the date of the last change, else "" (RFC 9110)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
