"""SQLite connections to one event log file: its format, its transactions, its errors."""

import itertools
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from playhead import disk, mirror
from playhead.errors import (
    CorruptBlockError,
    EventLogError,
    LogBusyError,
    LogFullError,
    PlayheadError,
    WorkspaceError,
)

FORMAT = 2
_APPLICATION_ID = 0x50484C47  # "PHLG"

# Large pages keep the chains of pages that hold a block short.
_PAGE_BYTES = 16_384
_WAL_PAGES = 512
_WAL_KEPT_BYTES = 64 << 20
_CACHE_KIB = 16_384

_SHORT_WAIT_S, _LONG_WAIT_S = 0.0005, 0.005
_SHORT_WAITS = 100

TABLES = """
CREATE TABLE topics (
    topic_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    partitions INTEGER NOT NULL
) STRICT;
CREATE TABLE schemas (
    topic_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (topic_id, version)
) STRICT;
CREATE TABLE heads (
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    ingest_us INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    events INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    ingest_us INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX blocks_by_offset ON blocks (topic_id, partition, first_offset);
CREATE INDEX blocks_by_time ON blocks (topic_id, partition, ingest_us, first_offset);
CREATE TABLE commits (
    group_name TEXT NOT NULL,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic_id, group_name, partition)
) STRICT, WITHOUT ROWID;
"""

# Heads change with every append and carry a checksum in their rows instead.
UNMIRRORED = ("heads", "blocks")
BACKUP = "Restore the file from a backup; `playhead verify` says what else is damaged."


class Connections:
    """A pool of connections: as many as threads use at once, each in one transaction at a time.

    Safe to use from any thread of the process that made it. `close` waits for nobody: connections
    in use are closed when they come back.
    """

    def __init__(self, path: Path, timeout: timedelta) -> None:
        """Open the file, making it if it is not there.

        Args:
            timeout: how long to wait for other writers.

        Raises:
            WorkspaceError: the file is something else, or of a newer format.
        """
        self._path = path
        self._timeout_s = timeout.total_seconds()
        self._process = os.getpid()
        self._closed = False
        self._idle: deque[sqlite3.Connection] = deque()
        self._write_lock = threading.Lock()
        try:
            with self.session() as connection:
                self._prepare(connection)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file and stands in nobody's way."""
        with self.session() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in the only write transaction: committed at the end, durably, or undone.

        Raises:
            LogFullError, LogBusyError: nothing was kept; try again later.
        """
        with self._turn(), self.session() as connection:
            self._begin(connection)
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def session(self) -> Iterator[sqlite3.Connection]:
        """A connection outside any transaction; what an error leaves open is rolled back."""
        connection = self._take()
        try:
            yield connection
        except sqlite3.Error as error:
            self._let_go(connection, error)
            raise self.explain(error) from error
        except BaseException:
            _roll_back(connection)
            self._give_back(connection)
            raise
        self._give_back(connection)

    def close(self) -> None:
        """Close the idle connections, and the others as they come back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def explain(self, error: sqlite3.Error, place: str = "") -> PlayheadError:
        """What SQLite's error means for the event log; `place` is what was being read."""
        code = getattr(error, "sqlite_errorcode", None) or 0
        if disk.is_full(error) or (disk.is_unexplained(error) and disk.is_used_up(self._path)):
            return LogFullError(
                f"The event log {self._path} has no space left ({error}); nothing was kept.",
                hint=f"{disk.FULL} A shorter retention keeps the event log smaller.",
            )
        if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return self._busy()
        if code == sqlite3.SQLITE_NOTADB:
            return self._foreign()
        if code & 0xFF == sqlite3.SQLITE_CORRUPT:
            return CorruptBlockError(
                f"The event log {self._path} is damaged{place and f' at {place}'}: {error}.",
                hint=BACKUP,
            )
        if "no such table" in str(error) or "malformed" in str(error):
            return CorruptBlockError(
                f"The event log {self._path} is damaged{place and f' at {place}'}: {error}.",
                hint=BACKUP,
            )
        return EventLogError(
            f"The event log {self._path} failed: {error}.", hint=disk.advice(error)
        )

    def _busy(self) -> LogBusyError:
        return LogBusyError(
            f"The event log {self._path} was locked by another writer for"
            f" {self._timeout_s:g} s; nothing was kept.",
            hint="Try again; look for a process that is stuck.",
        )

    def _take(self) -> sqlite3.Connection:
        if self._closed:
            raise EventLogError(f"The event log {self._path} is closed.")
        if os.getpid() != self._process:
            raise EventLogError(
                f"The event log {self._path} was opened before this process was forked.",
                hint="Open it again in the child process.",
            )
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _let_go(self, connection: sqlite3.Connection, error: sqlite3.Error) -> None:
        """Close a connection that failed; if only space was lacking, keep it.

        With its last connection the write-ahead log's files go, and a full disk takes no new ones:
        nobody could even read.
        """
        if disk.is_full(error):
            with suppress(sqlite3.Error):
                _roll_back(connection)
                self._give_back(connection)
                return
        connection.close()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)
        if self._closed:
            self.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        # Threads of this process queue here, which is fairer than SQLite's polling.
        if not self._write_lock.acquire(timeout=self._timeout_s):
            raise self._busy()
        try:
            yield
        finally:
            self._write_lock.release()

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin the only write transaction, waiting for other processes up to the timeout.

        SQLite's own waiting soon sleeps for tens of milliseconds between two tries, which lets
        one of two busy writers starve.
        """
        deadline = time.monotonic() + self._timeout_s
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            for tries in itertools.count():
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    code = getattr(error, "sqlite_errorcode", 0)
                    if code & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                        raise
                time.sleep(_SHORT_WAIT_S if tries < _SHORT_WAITS else _LONG_WAIT_S)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(self._timeout_s * 1000)}")

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = disk.connect(
                self._path,
                timeout_s=self._timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise WorkspaceError(
                f"The event log {self._path} cannot be opened: {error}.",
                hint="Does its folder exist, may this user write to it, and is there space?",
            ) from error
        try:
            _configure(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self.explain(error) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        made = self._check_format(connection)
        if made and (wrong := self.damage(connection)):
            raise CorruptBlockError(
                f"The event log {self._path} is damaged: {'; '.join(wrong)}.", hint=BACKUP
            )
        connection.execute("COMMIT")
        if not made:
            self._create(connection)
        # A process that died while it made the file may have left out this step.
        in_wal = connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        if not in_wal and disk.reading_uri(self._path) is None:
            self._switch_to_wal(connection)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have been first.
        if not self._check_format(connection):
            for statement in TABLES.split(";"):
                connection.execute(statement)
            mirror.create(connection, without=UNMIRRORED)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")

    def _check_format(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is an event log already; False: it is empty. Needs a transaction."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == _APPLICATION_ID and version > FORMAT:
            raise WorkspaceError(
                f"The event log {self._path} has format {version}; this Playhead reads formats"
                f" up to {FORMAT}.",
                hint="Use the Playhead that wrote it, or a newer one.",
            )
        if application == _APPLICATION_ID and version < FORMAT:
            raise WorkspaceError(
                f"The event log {self._path} has format {version}, of an older Playhead; this one"
                f" reads format {FORMAT}.",
                hint="Make a new workspace and load the data again.",
            )
        if application == _APPLICATION_ID:
            return True
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables or application:
            raise self._foreign()
        return False

    def damage(self, connection: sqlite3.Connection) -> list[str]:
        """What is wrong with the small tables, in words. Needs a transaction."""
        wrong = mirror.missing_bytes(self._path)
        wrong = wrong or mirror.schema_differences(connection, TABLES, without=UNMIRRORED)
        if wrong:
            return wrong
        wrong = mirror.differences(connection)
        lost = connection.execute(
            "SELECT name FROM topics WHERE partitions <>"
            " (SELECT count(*) FROM heads WHERE heads.topic_id = topics.topic_id)"
        )
        return wrong + [f"heads of partitions of topic {name} are missing" for (name,) in lost]

    def _foreign(self) -> WorkspaceError:
        return WorkspaceError(
            f"{self._path} is not an event log.",
            hint="Name another file, or move this one away.",
        )

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait for the lock that this needs, whatever the timeout.
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    # Overwriting deleted blocks with zeros would double what retention writes.
    connection.execute("PRAGMA secure_delete = OFF")
    if sys.platform == "darwin":
        # There fsync alone leaves the data in the drive's own cache.
        connection.execute("PRAGMA fullfsync = ON")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
