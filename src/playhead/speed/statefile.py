"""The file of the speed layer's state: its tables, its transactions, its errors."""

import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playhead import disk, mirror
from playhead.errors import StateError, WorkspaceError

FORMAT = 3
BUSY_TIMEOUT_S = 30
_WAL_KEPT_BYTES = 64 << 20
REBUILD = "Run `playhead rebuild --all`: speed state is made anew from the lake and the event log."

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY, status TEXT NOT NULL, opened TEXT NOT NULL, sealed TEXT
) STRICT;
CREATE TABLE ranges (
    epoch INTEGER NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (epoch, topic, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE loads (
    epoch INTEGER NOT NULL, topic TEXT NOT NULL, load_id INTEGER NOT NULL,
    PRIMARY KEY (epoch, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE states (
    state TEXT PRIMARY KEY, since_epoch INTEGER NOT NULL, pruned_to INTEGER NOT NULL,
    since_block INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE bodies (
    body INTEGER PRIMARY KEY AUTOINCREMENT, crc32 INTEGER NOT NULL, bytes BLOB NOT NULL
) STRICT;
CREATE TABLE blocks (
    block INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL, epoch INTEGER NOT NULL,
    kind TEXT NOT NULL, level INTEGER NOT NULL, rows INTEGER NOT NULL,
    first_us INTEGER, last_us INTEGER, dimensions TEXT NOT NULL,
    oldest INTEGER NOT NULL, newest INTEGER NOT NULL,
    body INTEGER NOT NULL REFERENCES bodies
) STRICT;
CREATE INDEX blocks_by_state ON blocks (state, epoch, kind, level);
CREATE INDEX blocks_by_body ON blocks (body);
CREATE TABLE topics (
    topic TEXT PRIMARY KEY, max_event_time TEXT, events INTEGER NOT NULL,
    duplicates INTEGER NOT NULL, late INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE windows (
    view TEXT NOT NULL, window_start TEXT NOT NULL, status TEXT NOT NULL,
    revision INTEGER NOT NULL, late INTEGER NOT NULL,
    PRIMARY KEY (view, window_start)
) STRICT, WITHOUT ROWID;
CREATE TABLE alerts (
    alert_id TEXT NOT NULL, revision INTEGER NOT NULL, view TEXT NOT NULL,
    window_start TEXT NOT NULL, window_end TEXT NOT NULL, level TEXT NOT NULL,
    keys TEXT NOT NULL, detail TEXT NOT NULL, raised_at TEXT NOT NULL, published INTEGER NOT NULL,
    PRIMARY KEY (alert_id, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_by_publication ON alerts (published);
CREATE INDEX alerts_by_window ON alerts (view, window_start);
"""


class StateFile:
    """One SQLite file. Threads take turns; other processes read while one writes.

    Args:
        path: made if it is not there.

    Raises:
        WorkspaceError: the file was written by a newer Playhead.
        StateError: it cannot be opened, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.RLock()
        self._writes = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = disk.connect(
            path, timeout_s=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        if self._format() == 0:
            self._use_write_ahead_log()
            with self.writing():
                if self._format() == 0:
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    mirror.create(self._db)
                    self._db.execute(
                        "INSERT INTO epochs VALUES (1, 'open', strftime('%Y-%m-%d %H:%M:%f'), NULL)"
                    )
                    self._db.execute(f"PRAGMA user_version = {FORMAT}")
        if self._format() > FORMAT:
            raise WorkspaceError(
                f"{self.path} has format {self._format()}, and this Playhead knows {FORMAT}",
                hint="Use the newer Playhead that wrote it.",
            )
        if self._format() < FORMAT:
            raise WorkspaceError(
                f"{self.path} has format {self._format()}, of an older Playhead; this one reads "
                f"format {FORMAT}",
                hint=REBUILD,
            )
        with self.reading():
            if wrong := self.damage():
                raise StateError(f"{self.path} is damaged: {'; '.join(wrong)}", hint=REBUILD)

    def damage(self) -> list[str]:
        """What is wrong with the tables beside the blocks' bodies, in words; empty if sound."""
        if short := mirror.missing_bytes(self.path):
            return short
        with self.reading() as db:
            return mirror.schema_differences(db, _TABLES) or mirror.differences(db)

    def damaged_bodies(self) -> Iterator[int]:
        """The bodies of blocks whose bytes fail their checksum, one read at a time."""
        for (body,) in self.rows("SELECT body FROM bodies ORDER BY body"):
            try:
                found = self.rows("SELECT crc32, bytes FROM bodies WHERE body = ?", body)
            except StateError:
                yield body
                continue
            # A body that is gone meanwhile was compacted or pruned.
            if found and zlib.crc32(found[0][1]) != found[0][0]:
                yield body

    def _format(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _use_write_ahead_log(self) -> None:
        """SQLite does not wait by itself when two processes change the mode at once."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._turn:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when the block ends, undone if it raises.

        Within another one, a part of it.
        """
        with self._turn:
            if self._writes:
                yield self._db
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._writes = True
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                self._undo()
                if isinstance(error, sqlite3.Error):
                    raise self._failed(error) from error
                raise
            finally:
                self._writes = False

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.ProgrammingError:
            return  # The file was closed: nothing is under way any more.

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one moment; within `writing`, of what it has written so far."""
        with self._turn:
            nested = self._in_transaction()
            try:
                if not nested:
                    self._db.execute("BEGIN")
                yield self._db
            except sqlite3.Error as error:
                raise self._failed(error) from error
            finally:
                if not nested:
                    self._undo()

    def _in_transaction(self) -> bool:
        try:
            return self._db.in_transaction
        except sqlite3.ProgrammingError:
            return False

    @contextmanager
    def attached(self, path: Path, name: str) -> Iterator[None]:
        """Another SQLite file's tables beside the own ones for the block, as `name.table`."""
        with self._turn:
            try:
                self._db.execute(f"ATTACH ? AS {name}", (str(path),))
            except sqlite3.Error as error:
                raise StateError(f"{path} cannot be read: {error}") from error
            try:
                yield
            finally:
                self._db.execute(f"DETACH {name}")

    def pinned(self) -> sqlite3.Connection:
        """Another connection, which sees the file as it is now whatever is written; close it."""
        db = disk.connect(self.path, timeout_s=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            db.execute("BEGIN")
            db.execute("SELECT COUNT(*) FROM meta").fetchone()
        except sqlite3.Error as error:
            db.close()
            raise self._failed(error) from error
        return db

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """The rows of one query."""
        with self._turn:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StateError:
        if isinstance(error, sqlite3.ProgrammingError):
            return StateError(f"{self.path} is closed: {error}")
        if "locked" in str(error):
            hint = "Another process is at work on it: if that one is stopped or stuck, end it."
        elif "not a database" in str(error) or "malformed" in str(error):
            hint = REBUILD
        else:
            hint = disk.advice(error) or "Nothing of this step was kept."
        return StateError(f"{self.path}: {error}", hint=hint)
