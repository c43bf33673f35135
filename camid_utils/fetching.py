"""One file from a server to disk: gone on with where it stopped, and under its name only when it is whole.

What has arrived lies hidden beside the file (`.name.part`), with a note of the version that it belongs to
(`.name.note`): a later try, or a later run, asks the server for the rest of that same version.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

import httpx
import tenacity

CONNECTIONS = 4  # at a time: web servers of universities are shared
TRIES = 6  # for one file in one run
PAUSE = 1.0  # seconds after the first failed try; doubles with each further one
LONGEST_PAUSE = 60.0
LONGEST_WISH = 600.0  # a server that asks us to stay away for longer (Retry-After) is asked again by the next run
TIMEOUT = 30.0  # seconds without a single byte
PASSING = {408, 421, 425, 429, 500, 502, 503, 504}  # answers that another try may change
AGENT = "camid-utils (fetches research data sets; resumes, few connections)"

Result = TypeVar("Result")
NAME = re.compile(r"[^\x00-\x1f\x7f<>:\"/\\|?*]+")  # what no file system of today objects to
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for itself
LONGEST_NAME = 200  # bytes; file systems take 255, and ours are longer while they are being fetched


class Refused(Exception):
    """A server's final answer: another try would not change it."""


class Unfinished(Exception):
    """A failure that may pass: worth another try, in `after` seconds at the earliest."""

    def __init__(self, reason: str, after: float = 0.0):
        super().__init__(reason)
        self.after = after


def checked_path(path: str) -> str:
    """`path` if it is a plain relative one, its parts separated by slashes; a ValueError says what is wrong with it.

    No `..`, drive letter, backslash, control character, hidden, reserved or overlong name passes, so that joined to
    a folder it stays in it on any system.
    """
    for part in path.split("/"):
        if part in ("", ".", "..") or part.startswith("."):
            raise ValueError(f"the path {path[:200]!r} has an empty or hidden part, or leads out of its folder")
        if not NAME.fullmatch(part) or part.endswith((" ", ".")) or RESERVED.fullmatch(part):
            raise ValueError(f"the path {path[:200]!r} has a part that is no safe file name")
        if len(part.encode()) > LONGEST_NAME:
            raise ValueError(f"the path {path[:50]!r}... has a name of more than {LONGEST_NAME} bytes")
    return path


def inside(folder: str | Path, path: str) -> Path:
    """The file that a list calls `path`, under `folder`; a ValueError if it could lead elsewhere, by a link too."""
    target = Path(folder) / checked_path(path)
    if not target.parent.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"a link in {folder} leads {path!r} out of that folder; remove the link")
    for file in (target, *beside(target)):
        if file.is_symlink():
            raise ValueError(f"{file} is a link; remove it")
    return target


def beside(target: Path) -> tuple[Path, Path]:
    """Where what has arrived of `target` lies, and the note on its version."""
    return target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.note")


def open_client(timeout: float = TIMEOUT, connections: int = CONNECTIONS) -> httpx.Client:
    """An HTTP client with a bounded number of connections; threads may share it."""
    return httpx.Client(
        timeout=timeout,
        limits=httpx.Limits(max_connections=connections),
        follow_redirects=True,
        headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
    )


def patiently(
    work: Callable[[], Result], tries: int = TRIES, pause: float = PAUSE, sleep: Callable[[float], object] = time.sleep
) -> Result:
    """What `work` returns; tried again after growing pauses while it raises Unfinished, the last of which comes out."""
    growing = tenacity.wait_exponential(multiplier=pause, max=LONGEST_PAUSE)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unfinished),
        stop=tenacity.stop_after_attempt(tries),
        wait=lambda state: max(growing(state), state.outcome.exception().after),
        sleep=sleep,
        reraise=True,
    )
    return retrying(work)


def fetch(
    client: httpx.Client,
    address: str,
    target: Path,
    check: Callable[[Path], object],
    moved: Callable[[int], object] = lambda size: None,
    **patience,
) -> None:
    """Fetch `address` to `target`, going on in the middle of the file if an earlier try or run began it.

    The file takes its name when its length is what the server announced and `check` (of the path where it lies until
    then) raises no ValueError; until then it is hidden beside it. `moved` hears how many bytes came, negative ones
    when what had come is thrown away; an exception from it ends the fetch. `patience`: tries, pause and sleep of
    `patiently`. Raises Refused or Unfinished with the reason, OSError if the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = beside(target)[0]
    moved(_size(part))
    patiently(lambda: _once(client, address, target, check, moved), **patience)


def size_of(client: httpx.Client, address: str) -> int | None:
    """The length of a file in bytes, as a HEAD request tells it; None where it does not."""
    with _said_plainly():
        response = client.head(address)
    return _announced(response) if response.status_code == 200 else None


def read_text(client: httpx.Client, address: str, **patience) -> str:
    """A text file from a server: UTF-8, or UTF-16 with its mark; what cannot be decoded is replaced."""

    def once() -> bytes:
        with _said_plainly():
            response = client.get(address)
        _object(response)
        return response.content

    return decoded(patiently(once, **patience))


def decoded(data: bytes) -> str:
    """Bytes of a text file as text, without a byte order mark."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, errors="replace")


def retry_after(text: str | None) -> float:
    """The seconds that a Retry-After header asks for (a number or a date), 0 if it says nothing that can be read."""
    text = (text or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a time zone
        return 0.0


def objection(status: int, reason: str, wish: str | None) -> Exception:
    """The error for an answer that is not the file: its status, its words, and its Retry-After header."""
    words = f"the server answers {status} {reason}".strip()
    after = retry_after(wish)
    if status not in PASSING:
        return Refused(words)
    if after > LONGEST_WISH:
        return Refused(f"{words} and asks to come back in {after / 60:.0f} minutes")
    return Unfinished(words, after)


def _object(response: httpx.Response) -> None:
    if response.status_code not in (200, 206):
        raise objection(response.status_code, response.reason_phrase, response.headers.get("Retry-After"))


def _once(client: httpx.Client, address: str, target: Path, check: Callable, moved: Callable) -> None:
    """One try: the rest of the file, then its check and its name."""
    part, note = beside(target)
    version, length = _noted(note)
    if not length or _size(part) != length:  # else an earlier run was stopped between the last byte and the name
        _receive(client, address, part, note, version, length, moved)
    try:
        check(part)
    except ValueError as error:
        _discard(part, note, moved)
        raise Unfinished(str(error).removeprefix(f"{part}: ")) from error
    os.replace(part, target)
    note.unlink(missing_ok=True)


def _receive(
    client: httpx.Client, address: str, part: Path, note: Path, version: str, length: int, moved: Callable
) -> None:
    """Append to `part` what is missing of this version of the file, or begin anew with the version of today."""
    have = _size(part) if version else 0
    headers = {"Range": f"bytes={have}-", "If-Range": version} if have else {}
    with _said_plainly(), client.stream("GET", address, headers=headers) as response:
        whole = _continued(response, have, version, length)
        if response.status_code == 416 or (response.status_code == 206 and not whole):
            _discard(part, note, moved)
            raise Unfinished("the file changed on the server while it was fetched")
        _object(response)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused("the server sends the file compressed, though it was asked not to")
        announced = _announced(response)
        if announced is None and response.headers.get("Transfer-Encoding") != "chunked":
            raise Refused("the server does not say how long the file is, so that a whole one cannot be told")
        if response.status_code == 200:
            _discard(part, note, moved)
            whole = announced or 0
            note.write_text(json.dumps({"version": _version(response), "length": whole}), encoding="utf-8")
        with open(part, "ab") as file:
            for chunk in response.iter_raw():  # as it comes: a chunk of stated size would be lost if cut short
                file.write(chunk)
                file.flush()  # a killed run loses nothing that `moved` has heard of
                moved(len(chunk))
    if whole and _size(part) != whole:
        raise Unfinished(f"{_size(part):,} of {whole:,} bytes came")


def _continued(response: httpx.Response, have: int, version: str, length: int) -> int:
    """The length of the whole file, if the answer goes on where our bytes end, in the same version; else 0."""
    place = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if not place or int(place[1]) != have or not have or _version(response) not in ("", version):
        return 0
    return int(place[2]) if length in (0, int(place[2])) else 0


def _version(response: httpx.Response) -> str:
    """What an If-Range header may name: the strong ETag, else the date of the last change, else nothing (RFC 9110)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _announced(response: httpx.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _noted(note: Path) -> tuple[str, int]:
    """Version and length of the file that has begun to arrive; nothing where the note is missing or damaged."""
    try:
        entry = json.loads(note.read_text(encoding="utf-8"))
        return str(entry["version"]), int(entry["length"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "", 0


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _discard(part: Path, note: Path, moved: Callable) -> None:
    """Throw away what has come."""
    moved(-_size(part))
    part.unlink(missing_ok=True)
    note.unlink(missing_ok=True)


@contextmanager
def _said_plainly() -> Iterator[None]:
    """What the HTTP library raises, as Refused or Unfinished."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise Refused(f"the address cannot be fetched: {error}") from error
    except httpx.TransportError as error:
        raise Unfinished(f"the connection failed: {str(error) or type(error).__name__}") from error
