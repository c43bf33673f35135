"""One file from a web server, and safe places for files."""

import math
import re
from pathlib import Path

import httpx
import tenacity

CONNECTIONS = 4  # at the same time: universities' web servers are shared
TRIES = 6  # for one file in one run
PAUSE = 1.0  # seconds after the first failed try; doubles after each further one
LONGEST_WAIT = 600.0  # seconds; a server that asks for a longer pause (Retry-After) is left to the next run
TIMEOUT = 30.0  # seconds without a single byte
TEMPORARY = {408, 421, 425, 429, 500, 502, 503, 504}  # status codes that another try may change
HEADERS = {"User-Agent": "camid-utils (research data sets; few connections)"}
NAME = re.compile(r'(?!\.)[^\0-\x1f<>:"/\\|?*]+')  # one part of a path, not hidden, that means the same on all systems
LONGEST_NAME = 200  # bytes; file systems allow 255, and unfinished files have longer names


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


def inside(folder: Path, path: str) -> Path:
    """The file `path` in `folder`; ValueError if it could lie elsewhere on any system, or be hidden."""
    if not all(NAME.fullmatch(part) and len(part.encode()) <= LONGEST_NAME for part in path.split("/")):
        raise ValueError("its path leaves the folder or has a part that is not a safe file name")
    return folder / path


def open_client() -> httpx.Client:
    """An HTTP client that threads may share."""
    return httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers=HEADERS)


@with_retries
def fetch(client: httpx.Client, address: str) -> bytes:
    """The content of the file at `address`, of the length that the server announces, if it does. Raises Failed."""
    try:
        response = client.get(address)
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Failed(f"the connection failed: {str(error) or type(error).__name__}") from error
    if address.startswith("https:") and "http" in {step.url.scheme for step in (*response.history, response)}:
        raise Failed("the server redirects to http, where anyone on the way can change a file", math.inf)
    if response.status_code != 200:
        wait = response.headers.get("Retry-After", "")  # counts if it is in seconds
        after = math.inf if response.status_code not in TEMPORARY else float(wait) if wait.isdecimal() else 0.0
        raise Failed(f"the server answered {response.status_code}", after)
    return response.content
