"""Writing files so that nothing half-written is ever taken for whole, and no two processes make the same thing."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from filelock import FileLock

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def complete(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name `path` only when the block ends without error."""
    path = Path(path)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    with _said_clearly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def alone(target: str | Path) -> Iterator[Path]:
    """A hidden, empty folder beside `target` to build it in, while no other process does; it is gone afterwards.

    Who comes second waits, and takes over if the first one dies: the lock is the operating system's and dies with its
    holder. What killed processes left behind is removed first.
    """
    target = Path(target)
    aside = target.with_name(f".{target.name}.partial")
    with _said_clearly(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                yield aside
            finally:
                shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _said_clearly(path: Path) -> Iterator[None]:
    """A full disk or a folder that may not be written to, in words that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE or "cannot be written" in str(error):  # another fault, or said already
            raise
        advice = "make room or give another folder, then start the same command again: it goes on from there"
        raise OSError(error.errno, f"{error.strerror}: {path} cannot be written; {advice}") from error


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 text file, whole or not at all."""
    with complete(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def write_csv(path: str | Path, table: pd.DataFrame) -> Path:
    """Write a table of results without its index, numbers to six digits, whole or not at all."""
    return write_text(path, table.to_csv(index=False, float_format="%.6g"))
