"""What became of each batch run: a record in a small SQLite file, written while the run is at work.

One run at a time writes, as it holds the batch layer's role; any process reads meanwhile. Nothing
else depends on the file: it may be deleted while no run is at work.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from playhead import disk
from playhead.batch.recompute import ViewRun
from playhead.clock import Clock, SystemClock
from playhead.errors import PlayheadError, WorkspaceError
from playhead.lock import RoleLock

__all__ = [
    "ABANDONED",
    "DONE",
    "FAILED",
    "FILE",
    "RUNNING",
    "BatchRun",
    "Noted",
    "Stage",
    "batch_lock",
    "batch_runs",
    "last_done",
    "noting",
]

logger = logging.getLogger(__name__)

FILE = "runs.db"
KEPT = 1_000

RUNNING, DONE, FAILED, ABANDONED = "running", "done", "failed", "abandoned"

_WAIT_S = 1.0
_READING_WAIT_S = 10.0
_ERROR_CHARACTERS = 2_000
_TABLE = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT NOT NULL, record BLOB NOT NULL
)
"""
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE name = 'runs'"
_ROWS = "SELECT id, status, CAST(record AS BLOB) FROM runs WHERE {} ORDER BY id DESC LIMIT ?"

_Row = tuple[int, str, bytes]


@dataclass(frozen=True)
class Stage:
    """One stage of a run that came to its end: "cleaning playback", "rating pairs", "views"..."""

    name: str
    seconds: float


@dataclass(frozen=True)
class BatchRun:
    """One batch run.

    Attributes:
        id: counts up from 1, without gaps but for runs that could not be noted.
        status: "running", "done", "failed", or "abandoned": its process ended within it.
        why: why it was started, in words.
        full: every day of every view was recomputed.
        process: the number of its process.
        started: naive UTC.
        ended: naive UTC; None while it runs, and if it was abandoned.
        seconds: from its start to its end, or to the end of the last stage that was noted.
        epoch: views are covered up to it; None if it did not come so far.
        stage: the one that it is in, or in which it failed or died; empty if it is done.
        stages: those that came to their end, in their order.
        cleaned_rows: rows written into cleaned tables.
        views: what was done for each view; empty if it did not come so far.
        pruned_blocks: blocks of speed state that were dropped, as batch states cover them.
        error: why it failed; else empty.
        engine: what computed the states: "duckdb" or "spark".
    """

    id: int
    status: str
    why: str
    full: bool
    process: int
    started: datetime
    ended: datetime | None = None
    seconds: float = 0.0
    epoch: int | None = None
    stage: str = ""
    stages: tuple[Stage, ...] = ()
    cleaned_rows: int = 0
    views: tuple[ViewRun, ...] = ()
    pruned_blocks: int = 0
    error: str = ""
    engine: str = "duckdb"

    @property
    def recomputed(self) -> int:
        """Views that were recomputed."""
        return sum(run.status == "recomputed" for run in self.views)

    @property
    def rows(self) -> int:
        """State rows written, of all views."""
        return sum(run.rows for run in self.views)


def batch_lock(path: Path) -> RoleLock:
    """The role of a batch run in a workspace: who holds it may run, and note it."""
    return RoleLock(path / "batch.lock", "batch")


def batch_runs(path: Path, limit: int = 20) -> list[BatchRun]:
    """The last runs of a workspace, the newest first; empty before the first one.

    Args:
        path: the workspace's folder.

    Raises:
        WorkspaceError: the file is damaged, or cannot be read.
    """
    found = _read(path, "true", limit)
    if not any(run.status == RUNNING for run in found):
        return found
    if _is_at_work(path):
        # Of several that seem to run, whoever holds the role is the newest.
        return [run if at == 0 else _judged(run) for at, run in enumerate(found)]
    # A run says how it ended before it lets the role go: what still runs now is dead.
    at_work = {run.id for run in found if run.status == RUNNING}
    again = _read(path, "true", limit)
    return [_judged(run) if run.id in at_work else run for run in again]


def last_done(path: Path) -> BatchRun | None:
    """The last run that did all it had to; None if none is known.

    Raises:
        WorkspaceError: the file is damaged, or cannot be read.
    """
    return next(iter(_read(path, f"status = '{DONE}'", 1)), None)


class Noted:
    """A run that is at work; what it is told never fails it, whatever the disk does."""

    def __init__(self, path: Path, clock: Clock, first: BatchRun) -> None:
        self._path = path / FILE
        self._clock = clock
        self._run = first
        self._began = self._since = clock.monotonic()
        self._file: sqlite3.Connection | None = None
        self._is_failing = False
        self._write()

    def enter(self, stage: str) -> None:
        """A stage begins, and the one before it has ended."""
        self._end_stage()
        self._run = replace(self._run, stage=stage)
        if not self._is_failing:
            self._write()

    def tell(self, epoch: int, cleaned: int, views: Sequence[ViewRun], pruned: int) -> None:
        """What the run has done: epoch reached, rows cleaned, views, blocks pruned."""
        self._run = replace(
            self._run,
            epoch=epoch,
            cleaned_rows=cleaned,
            views=tuple(views),
            pruned_blocks=pruned,
        )

    def close(self, error: BaseException | None = None) -> None:
        """The run has ended: done, or failed with an error."""
        if error is None:
            self._end_stage()
        status, words = (DONE, "") if error is None else (FAILED, _words(error))
        self._run = replace(
            self._run,
            status=status,
            ended=self._clock.now(),
            seconds=self._clock.monotonic() - self._began,
            error=words,
        )
        self._write()
        self._drop_file()

    def _end_stage(self) -> None:
        now = self._clock.monotonic()
        if self._run.stage:
            stages = (*self._run.stages, Stage(self._run.stage, now - self._since))
            self._run = replace(self._run, stage="", stages=stages, seconds=now - self._began)
        self._since = now

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = _open(self._path)
            self._put(self._file)
        except (sqlite3.Error, OSError, WorkspaceError) as error:
            self._drop_file()
            if not self._is_failing:
                logger.warning("%s: the run goes on, and is not noted: %s", self._path, error)
            self._is_failing = True

    def _put(self, db: sqlite3.Connection) -> None:
        """Write the record in one transaction; the first time, make room for it."""
        run = self._run
        record = msgspec.json.encode(run)
        if run.id:
            values = (run.status, record, run.id)
            db.execute("UPDATE runs SET status = ?, record = ? WHERE id = ?", values)
            return
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE runs SET status = ? WHERE status = ?", (ABANDONED, RUNNING))
            made = db.execute(
                "INSERT INTO runs (status, record) VALUES (?, ?)", (run.status, record)
            )
            number = int(made.lastrowid or 0)
            db.execute("DELETE FROM runs WHERE id <= ?", (number - KEPT,))
        self._run = replace(run, id=number)

    def _drop_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except sqlite3.Error as error:
                logger.debug("%s: %s", self._path, error)


@contextmanager
def noting(
    path: Path,
    why: str,
    *,
    full: bool = False,
    clock: Clock | None = None,
    engine: str = "duckdb",
) -> Iterator[Noted]:
    """Note a run for the block, whose caller holds `batch_lock`; it fails as the block does.

    Args:
        path: the workspace's folder.
        why: why it was started, in words.
        engine: what computes the states.
    """
    clock = clock or SystemClock()
    first = BatchRun(0, RUNNING, why, full, os.getpid(), clock.now(), engine=engine)
    noted = Noted(path, clock, first)
    try:
        yield noted
    except BaseException as error:
        noted.close(error)
        raise
    noted.close()


def _judged(run: BatchRun) -> BatchRun:
    """A record whose run is not at work."""
    return replace(run, status=ABANDONED) if run.status == RUNNING else run


def _is_at_work(path: Path) -> bool:
    return not batch_lock(path).is_free()


def _words(error: BaseException) -> str:
    """What happened, in one paragraph of bounded length."""
    if isinstance(error, PlayheadError):
        return error.message[:_ERROR_CHARACTERS]
    return f"{type(error).__name__}: {error}".rstrip(": ")[:_ERROR_CHARACTERS]


def _decoded(row: _Row) -> BatchRun:
    number, status, record = row
    return replace(msgspec.json.decode(record, type=BatchRun), id=number, status=status)


def _read(path: Path, condition: str, limit: int) -> list[BatchRun]:
    file = path / FILE
    if not file.exists():
        return []
    try:
        connection = disk.connect(file, timeout_s=_READING_WAIT_S)
        try:
            if not connection.execute(_HAS_TABLE).fetchall():
                # Whoever notes the first run is just making it.
                return []
            rows = connection.execute(_ROWS.format(condition), (limit,)).fetchall()
        finally:
            connection.close()
        return [_decoded(row) for row in rows]
    except (sqlite3.Error, msgspec.MsgspecError, TypeError) as error:
        raise _unreadable(file, error) from error


def _open(path: Path) -> sqlite3.Connection:
    connection = disk.connect(
        path, timeout_s=_WAIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        # A crash of the machine may take the last records, and never harms the file.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_TABLE)
    except BaseException:
        connection.close()
        raise
    return connection


def _unreadable(path: Path, error: Exception) -> WorkspaceError:
    return WorkspaceError(
        f"{path} cannot be read: {error}",
        hint=disk.advice(error)
        or "Delete the file while no batch run is at work: it only tells of past runs.",
    )
