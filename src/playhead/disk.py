"""What disks demand: SQLite files where nothing can be written, and what a failing disk says."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playhead.errors import WorkspaceError

FULL = "The disk is full: free some space and run the same again; nothing is lost."
FAILS = (
    "The disk fails: look at the system's messages, then run the same again; what was reported "
    "as done is kept, and nothing of this step counts."
)
UNWRITABLE = "Is the disk full or read-only, or may this user not write to the folder?"

UNRECOVERED = (
    "Run any command on it where its folder can be written, or on a copy of the folder: that "
    "takes the changes up."
)

_SMALL_BYTES = 64 << 10

_FULL_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = tuple(os.strerror(number) for number in _FULL_NUMBERS)
_FAILS_TEXTS = (os.strerror(errno.EIO), "disk I/O error")


class Connection(sqlite3.Connection):
    """A connection whose errors are SQLite's, whatever bytes a damaged file puts into them."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(sql, parameters)
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError(f"its text is malformed ({error})") from error


def connect(path: Path, *, timeout_s: float, **options: Any) -> sqlite3.Connection:
    """A connection to a SQLite file, for reading only where nothing can be written.

    Args:
        timeout_s: how long to wait for other processes.
        options: of `sqlite3.connect`.

    Raises:
        WorkspaceError: changes wait in its write-ahead log, and cannot be read here.
        sqlite3.Error: it cannot be opened.
    """
    uri = reading_uri(path)
    connection: sqlite3.Connection = sqlite3.connect(
        uri or path, timeout=timeout_s, uri=uri is not None, factory=Connection, **options
    )
    return connection


def reading_uri(path: Path) -> str | None:
    """How SQLite opens a file that it cannot write to; None if it can, or there is no file.

    SQLite wants its index of the write-ahead log beside the file. Where that is missing and the
    log is empty, nobody is at work on the file: it is read as one that never changes.

    Raises:
        WorkspaceError: that index is missing, and the log is not empty.
    """
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    has_both = log.exists() and index.exists()
    if not path.exists() or _is_writable(path, path if has_both else path.parent):
        return None
    read_only = f"{path.absolute().as_uri()}?mode=ro"
    if has_both:
        return read_only
    if log.exists() and log.stat().st_size:
        raise WorkspaceError(
            f"{path} cannot be read on a read-only disk: changes wait in {log.name}, and "
            f"{index.name} is missing",
            hint=UNRECOVERED,
        )
    return f"{read_only}&immutable=1"


def _is_writable(*paths: Path) -> bool:
    return all(os.access(path, os.W_OK) for path in paths)


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a disk without space."""
    return any(_says_full(one) for one in _causes(error))


def advice(error: BaseException) -> str | None:
    """What to do if an error, or what caused it, comes from a disk that takes no data; else None.

    SQLite does not tell why it cannot make a file: then the advice is a question.
    """
    if is_full(error):
        return FULL
    if any(_says_failing(one) for one in _causes(error)):
        return FAILS
    return UNWRITABLE if is_unexplained(error) else None


def is_unexplained(error: BaseException) -> bool:
    """Whether SQLite could not make or open a file, which it does for many reasons."""
    return any(_is_unopened(_code(one)) for one in _causes(error))


def is_used_up(path: Path) -> bool:
    """Whether the disk of a file has too little space left for a small file."""
    found = os.statvfs(path.parent)
    return found.f_bavail * found.f_frsize < _SMALL_BYTES


def is_undecided(error: BaseException) -> bool:
    """Whether a SQLite transaction failed such that a crash may yet make it count.

    It does where all of its pages were written to the write-ahead log and only their sync, or
    the index of the log, failed; no later transaction has overwritten them then.
    """
    return any(_code(one) & 0xFF == sqlite3.SQLITE_IOERR for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, SQLAlchemy's wrapped one included."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__


def _code(error: BaseException) -> int:
    """SQLite's extended number of an error; 0 if it is none of SQLite's."""
    return getattr(error, "sqlite_errorcode", None) or 0


def _is_unopened(code: int) -> bool:
    refused = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    return code & 0xFF in refused or code == sqlite3.SQLITE_IOERR_SHMOPEN


def _says_full(error: BaseException) -> bool:
    if code := _code(error):
        return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL_NUMBERS
    return any(text in str(error) for text in _FULL_TEXTS)


def _says_failing(error: BaseException) -> bool:
    if code := _code(error):
        return code & 0xFF == sqlite3.SQLITE_IOERR and not _is_unopened(code)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.EIO
    return any(text in str(error) for text in _FAILS_TEXTS)
