"""Looks into an event log's file, damaged or not, and puts sound blocks into its holes."""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from playhead import disk, mirror
from playhead.errors import EventLogError
from playhead.eventlog.blocks import Header, encode
from playhead.eventlog.catalog import Catalog, read_commits, read_heads
from playhead.eventlog.connections import TABLES, UNMIRRORED
from playhead.eventlog.offsets import Head

_SHOWN_ERRORS = 20
_TIMEOUT_S = 30
_COLUMNS = "first_offset, events, raw_bytes, ingest_us, schema_version, crc32"


@dataclass(frozen=True, slots=True)
class Hole:
    """Offsets [first, end) of a partition that cannot be read: damaged or missing blocks."""

    topic: str
    partition: int
    first: int
    end: int


class LogInspector:
    """Reads an event log's file past the checks that opening it as a log makes.

    Changes nothing but in `mend`. Processes may write to the log meanwhile.

    Args:
        path: an existing file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def problems(self, *, quick: bool = False) -> list[str]:
        """What is wrong with the file's structure and small tables, in words.

        Args:
            quick: leave out SQLite's own check, which reads the whole file.
        """
        try:
            with self._reading() as db:
                found = mirror.missing_bytes(self._path)
                found += mirror.schema_differences(db, TABLES, without=UNMIRRORED)
                found += mirror.differences(db)
                if not quick:
                    rows = db.execute(f"PRAGMA integrity_check({_SHOWN_ERRORS})").fetchall()
                    found += [str(text) for (text,) in rows if text != "ok"]
                return found
        except sqlite3.Error as error:
            return [str(error)]

    def topics(self) -> dict[str, int]:
        """The topics' numbers, by name.

        Raises:
            EventLogError: the file cannot be read so far.
        """
        with self._explained("its topics"), self._reading() as db:
            return dict(db.execute("SELECT name, topic_id FROM topics ORDER BY name").fetchall())

    def heads(self, topic_id: int) -> dict[int, Head]:
        """What each partition of a topic holds.

        Raises:
            EventLogError: a row is damaged or cannot be read.
        """
        with self._explained(f"topic number {topic_id}"), self._reading() as db:
            return read_heads(db, topic_id)

    def commits(self, topic_id: int) -> dict[str, dict[int, int]]:
        """What each consumer group has committed, by group and partition."""
        with self._explained(f"groups of topic number {topic_id}"), self._reading() as db:
            return read_commits(db, topic_id)

    def holes(
        self, topic: str, topic_id: int, partition: int, head: Head, *, quick: bool = False
    ) -> list[Hole]:
        """The offsets between the partition's start and end that no sound block holds.

        Args:
            quick: trust bodies, and look only at which offsets there are.
        """
        found: list[Hole] = []
        at = head.start_offset
        while at < head.end_offset:
            try:
                with self._reading() as db:
                    for first, end in self._sound(db, topic_id, partition, at, quick=quick):
                        if first > at:
                            found.append(Hole(topic, partition, at, min(first, head.end_offset)))
                        at = max(at, end)
                        if at >= head.end_offset:
                            break
                    else:
                        found.append(Hole(topic, partition, at, head.end_offset))
                        at = head.end_offset
            except sqlite3.Error:
                end = self._next_readable(topic_id, partition, at, head.end_offset)
                found.append(Hole(topic, partition, at, end))
                at = end
        return _joined(found)

    def _sound(
        self, db: sqlite3.Connection, topic_id: int, partition: int, start: int, *, quick: bool
    ) -> Iterator[tuple[int, int]]:
        """[first, end) of the sound blocks that reach beyond `start`, ascending."""
        body = "NULL" if quick else "body"
        rows = db.execute(
            f"SELECT {_COLUMNS}, {body} FROM blocks INDEXED BY blocks_by_offset"
            " WHERE topic_id = ? AND partition = ? AND first_offset >= ? ORDER BY first_offset",
            (topic_id, partition, start),
        )
        for *numbers, crc32, content in rows:
            header = Header(topic_id, partition, *numbers)
            if quick or header.seal(zlib.crc32(content)) == crc32:
                yield header.first_offset, header.first_offset + header.events

    def _next_readable(self, topic_id: int, partition: int, at: int, end: int) -> int:
        """The first offset of a later block that SQLite can still read; `end` if there is none."""
        try:
            with self._reading() as db:
                offsets = db.execute(
                    "SELECT first_offset FROM blocks INDEXED BY blocks_by_offset WHERE"
                    " topic_id = ? AND partition = ? AND first_offset > ? ORDER BY first_offset",
                    (topic_id, partition, at),
                ).fetchall()
                for (offset,) in offsets:
                    if self._is_readable(db, topic_id, partition, offset):
                        return int(offset)
        except sqlite3.Error:
            return end
        return end

    def _is_readable(
        self, db: sqlite3.Connection, topic_id: int, partition: int, offset: int
    ) -> bool:
        try:
            db.execute(
                "SELECT body FROM blocks WHERE topic_id = ? AND partition = ? AND first_offset = ?",
                (topic_id, partition, offset),
            ).fetchone()
        except sqlite3.Error:
            return False
        return True

    def mend(self, hole: Hole, parts: Sequence[tuple[pa.RecordBatch, int]]) -> None:
        """Put sound blocks in the place of a hole, in one transaction.

        Args:
            parts: all events of the hole in order, each with its ingest time (microseconds since
                1970 UTC); columns as in the topic's newest schema.

        Raises:
            EventLogError: the events are not those of the hole in number, or SQLite refused.
        """
        count = sum(batch.num_rows for batch, _ in parts)
        if count != hole.end - hole.first:
            raise EventLogError(
                f"topic {hole.topic}, partition {hole.partition}: {count} events cannot take the "
                f"place of the offsets {hole.first} to {hole.end - 1}"
            )
        with self._explained("mending"), closing(self._connect("rw")) as db:
            db.execute("BEGIN IMMEDIATE")
            known = Catalog(self._path).topic(db, hole.topic)
            db.execute(
                "DELETE FROM blocks WHERE topic_id = ? AND partition = ?"
                " AND first_offset >= ? AND first_offset < ?",
                (known.topic_id, hole.partition, hole.first, hole.end),
            )
            offset = hole.first
            for batch, ingest_us in parts:
                block = encode(hole.partition, batch)
                header = Header(
                    known.topic_id,
                    hole.partition,
                    offset,
                    block.events,
                    block.raw_bytes,
                    ingest_us,
                    known.version.number,
                )
                row = (*header.values(), header.seal(block.crc32), block.body)
                db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                offset += block.events
            db.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect("ro")) as db:
            db.execute("BEGIN")
            yield db

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = disk.reading_uri(self._path) if mode == "ro" else None
        return sqlite3.connect(
            uri or f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_TIMEOUT_S,
            isolation_level=None,
            factory=disk.Connection,
        )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise EventLogError(f"the event log {self._path}: {what}: {error}") from error


def _joined(holes: Sequence[Hole]) -> list[Hole]:
    """Holes that touch, as one."""
    found: list[Hole] = []
    for hole in holes:
        if found and found[-1].end == hole.first:
            found[-1] = Hole(hole.topic, hole.partition, found[-1].first, hole.end)
        else:
            found.append(hole)
    return found
