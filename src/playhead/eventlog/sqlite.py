"""The embedded event log: one SQLite file in WAL mode that holds blocks of Arrow IPC."""

import itertools
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from playhead.clock import Clock, SystemClock
from playhead.errors import CorruptBlockError, EventLogError, LogFullError
from playhead.eventlog.base import Appended, EventLog, Kept, Retention
from playhead.eventlog.blocks import (
    Block,
    Header,
    decode,
    encode,
    split,
    widen,
    with_log_columns,
)
from playhead.eventlog.catalog import (
    Catalog,
    Topic,
    Version,
    read_commits,
    read_heads,
    write_commits,
    write_heads,
)
from playhead.eventlog.connections import Connections
from playhead.eventlog.offsets import (
    Head,
    check_commit,
    check_read,
    deletable,
    lagging,
    microseconds,
)
from playhead.eventlog.schemas import check_key, check_topic, conform, selected

# Up to this size an append is encoded before it takes the write lock; a larger one holds the lock
# while it encodes, and a few blocks in memory.
_ENCODED_AHEAD_BYTES = 64 << 20
_READ_BYTES = 64 << 20
_DELETED_AT_ONCE = 256
_DELETED_AT_ONCE_BYTES = 64 << 20
_VACUUMED_PAGES = 512

_INSERT_BLOCK = "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT_BLOCKS = """
SELECT first_offset, events, raw_bytes, ingest_us, schema_version, crc32, body
FROM blocks INDEXED BY blocks_by_offset
WHERE topic_id = :topic AND partition = :partition AND first_offset >= coalesce(
    (SELECT max(first_offset) FROM blocks
     WHERE topic_id = :topic AND partition = :partition AND first_offset <= :offset), :offset)
ORDER BY first_offset
"""
_SELECT_OFFSETS_AT = """
SELECT partition, coalesce(
    (SELECT first_offset FROM blocks INDEXED BY blocks_by_time
     WHERE topic_id = heads.topic_id AND partition = heads.partition AND ingest_us >= :time
     ORDER BY ingest_us, first_offset LIMIT 1), end_offset)
FROM heads WHERE topic_id = :topic ORDER BY partition
"""


@dataclass(frozen=True, slots=True)
class _Stored:
    header: Header
    body: bytes


class SqliteEventLog(EventLog):
    """An event log in one file, for one machine.

    An append is one transaction, synced to disk before it returns (WAL, synchronous=FULL), so
    many small appends cost a sync each. Blocks carry a CRC-32 that is checked on every read.
    Space of deleted events is used again, and given back to the disk beyond a quarter of the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        """Open the file, making it if it is not there (its folder must be).

        Args:
            path: must be on a local disk: SQLite's WAL needs shared memory.
            clock: gives `ingest_time`, and the now of `retain`.
            timeout: how long to wait for other processes that write.

        Raises:
            WorkspaceError: the file is something else, of a newer format, or cannot be opened.
        """
        self._path = path
        self._clock = clock or SystemClock()
        self._connections = Connections(path, timeout)
        self._catalog = Catalog(path)

    def create_topic(self, topic: str, schema: pa.Schema, *, partitions: int = 3) -> None:
        check_topic(topic, schema, partitions)
        with self._connections.writing() as connection:
            self._catalog.create(connection, topic, schema, partitions)

    def topics(self) -> list[str]:
        with self._connections.reading() as connection:
            return self._catalog.names(connection)

    def partitions(self, topic: str) -> int:
        with self._connections.reading() as connection:
            return self._catalog.topic(connection, topic).partitions

    def schema(self, topic: str) -> pa.Schema:
        with self._connections.reading() as connection:
            return self._catalog.topic(connection, topic).version.schema

    def append_all(
        self,
        events: Mapping[str, pa.Table | pa.RecordBatch],
        *,
        keys: Mapping[str, str] | None = None,
    ) -> dict[str, list[Appended]]:
        keys = keys or {}
        with self._connections.reading() as connection:
            topics = {topic: self._catalog.topic(connection, topic) for topic in events}
        tables = {}
        for topic, known in topics.items():
            check_key(topic, keys.get(topic, "user_id"), known.version.schema)
            tables[topic] = conform(topic, events[topic], known.version.schema)
        is_ahead = sum(table.nbytes for table in tables.values()) <= _ENCODED_AHEAD_BYTES
        blocks: dict[str, Iterable[Block]] = {}
        for topic, table in tables.items():
            if table.num_rows:
                parts = split(table, keys.get(topic, "user_id"), topics[topic].partitions)
                encoded = itertools.starmap(encode, parts)
                blocks[topic] = list(encoded) if is_ahead else encoded
        appended: dict[str, list[Appended]] = {topic: [] for topic in events}
        if blocks:
            with self._connections.writing() as connection:
                for topic, encoding in blocks.items():
                    appended[topic] = self._store(connection, topics[topic], encoding)
        return appended

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        max_events: int = 65_536,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        if max_events < 1:
            raise EventLogError(f"max_events is {max_events}; read at least one event.")
        with self._connections.reading() as connection:
            known = self._catalog.topic(connection, topic)
            fields = selected(topic, known.version.schema, columns)
            head = check_read(topic, partition, offset, read_heads(connection, known.topic_id))
            if offset == head.end_offset:
                return with_log_columns(fields.empty_table(), partition, offset, [])
            place = f"topic {topic}, partition {partition}, offset {offset}"
            try:
                stored = self._fetch(connection, known, partition, offset, max_events)
                versions = {
                    number: self._catalog.version(connection, known.topic_id, number)
                    for number in {block.header.schema_version for block in stored}
                }
            except sqlite3.DatabaseError as error:
                raise self._connections.explain(error, place) from error
        table = self._decoded(topic, stored, versions, fields)
        return table.slice(offset - stored[0].header.first_offset, max_events)

    def start_offsets(self, topic: str) -> dict[int, int]:
        heads = self._heads(topic)
        return {partition: head.start_offset for partition, head in heads.items()}

    def end_offsets(self, topic: str) -> dict[int, int]:
        heads = self._heads(topic)
        return {partition: head.end_offset for partition, head in heads.items()}

    def offset_at(self, topic: str, time: datetime) -> dict[int, int]:
        with self._connections.reading() as connection:
            known = self._catalog.topic(connection, topic)
            values = {"topic": known.topic_id, "time": microseconds(time)}
            return dict(connection.execute(_SELECT_OFFSETS_AT, values).fetchall())

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        with self._connections.writing() as connection:
            known = self._catalog.topic(connection, topic)
            check_commit(group, topic, offsets, read_heads(connection, known.topic_id))
            write_commits(connection, known.topic_id, group, offsets)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        with self._connections.reading() as connection:
            known = self._catalog.topic(connection, topic)
            return read_commits(connection, known.topic_id).get(group, {})

    def groups(self, topic: str) -> list[str]:
        with self._connections.reading() as connection:
            known = self._catalog.topic(connection, topic)
            return sorted(read_commits(connection, known.topic_id))

    def forget(self, group: str, topic: str) -> None:
        with self._connections.writing() as connection:
            known = self._catalog.topic(connection, topic)
            connection.execute(
                "DELETE FROM commits WHERE topic_id = ? AND group_name = ?",
                (known.topic_id, group),
            )

    def retain(self, age: timedelta) -> Retention:
        cutoff = self._clock.now() - age
        with suppress(LogFullError):
            # On a full disk, deleting finds room only in the part of the WAL that this frees.
            self._checkpoint()
        deleted = 0
        kept: list[Kept] = []
        for topic in self.topics():
            for partition in range(self.partitions(topic)):
                kept += self._lagging(topic, partition, cutoff)
                while count := self._delete_some(topic, partition, cutoff):
                    deleted += count
        self._shrink()
        return Retention(cutoff, deleted, tuple(kept))

    def close(self) -> None:
        self._connections.close()

    def _heads(self, topic: str) -> dict[int, Head]:
        with self._connections.reading() as connection:
            return read_heads(connection, self._catalog.topic(connection, topic).topic_id)

    def _store(
        self, connection: sqlite3.Connection, known: Topic, blocks: Iterable[Block]
    ) -> list[Appended]:
        heads = read_heads(connection, known.topic_id)
        ends = {partition: head.end_offset for partition, head in heads.items()}
        latest_us = max(head.ingest_us for head in heads.values())
        ingest_us = max(microseconds(self._clock.now()), latest_us)
        for block in blocks:
            header = Header(
                known.topic_id,
                block.partition,
                ends[block.partition],
                block.events,
                block.raw_bytes,
                ingest_us,
                known.version.number,
            )
            row = (*header.values(), header.seal(block.crc32), block.body)
            connection.execute(_INSERT_BLOCK, row)
            ends[block.partition] += block.events
        appended = [
            Appended(partition, head.end_offset, ends[partition] - head.end_offset)
            for partition, head in heads.items()
            if ends[partition] > head.end_offset
        ]
        grown = {
            part.partition: Head(heads[part.partition].start_offset, part.end_offset, ingest_us)
            for part in appended
        }
        write_heads(connection, known.topic_id, grown)
        return appended

    def _fetch(
        self,
        connection: sqlite3.Connection,
        known: Topic,
        partition: int,
        offset: int,
        max_events: int,
    ) -> list[_Stored]:
        """The blocks from the one that holds `offset` on, checked, as many as one read may take."""
        values = {"topic": known.topic_id, "partition": partition, "offset": offset}
        stored: list[_Stored] = []
        next_offset, raw_bytes = offset, 0
        for *numbers, crc32, body in connection.execute(_SELECT_BLOCKS, values):
            header = Header(known.topic_id, partition, *numbers)
            first, events = header.first_offset, header.events
            follows = first == next_offset if stored else first <= offset < first + events
            if not follows or header.seal(zlib.crc32(body)) != crc32:
                # What is sound before the damage is returned; the next read meets it first.
                break
            stored.append(_Stored(header, body))
            next_offset, raw_bytes = first + events, raw_bytes + header.raw_bytes
            if next_offset - offset >= max_events or raw_bytes >= _READ_BYTES:
                break
        if not stored:
            raise self._corrupt_block(known.name, partition, offset)
        return stored

    def _decoded(
        self,
        topic: str,
        stored: Sequence[_Stored],
        versions: Mapping[int, Version],
        fields: pa.Schema,
    ) -> pa.Table:
        parts = []
        for number, group in itertools.groupby(stored, lambda block: block.header.schema_version):
            blocks = list(group)
            first = blocks[0].header
            try:
                bodies = [block.body for block in blocks]
                part = widen(decode(versions[number].message, bodies, fields.names), fields)
            except (pa.ArrowException, OSError) as error:
                raise self._corrupt_block(topic, first.partition, first.first_offset) from error
            if part.num_rows != sum(block.header.events for block in blocks):
                raise self._corrupt_block(topic, first.partition, first.first_offset)
            parts.append(part)
        first = stored[0].header
        ingested = [(block.header.events, block.header.ingest_us) for block in stored]
        return with_log_columns(
            pa.concat_tables(parts), first.partition, first.first_offset, ingested
        )

    def _lagging(self, topic: str, partition: int, cutoff: datetime) -> list[Kept]:
        with self._connections.reading() as connection:
            known = self._catalog.topic(connection, topic)
            start, aged, committed = _aged(connection, known, partition, cutoff)
        return lagging(topic, partition, start, aged, committed)

    def _delete_some(self, topic: str, partition: int, cutoff: datetime) -> int:
        """Delete some blocks in one short transaction; how many events went, 0 if none is left."""
        with self._connections.writing() as connection:
            known = self._catalog.topic(connection, topic)
            start, aged, committed = _aged(connection, known, partition, cutoff)
            end = _blocks_end(connection, known, partition, deletable(start, aged, committed))
            if end is None:
                return 0
            at = (end, known.topic_id, partition)
            connection.execute(
                "DELETE FROM blocks WHERE first_offset < ? AND topic_id = ? AND partition = ?", at
            )
            head = read_heads(connection, known.topic_id)[partition]
            write_heads(connection, known.topic_id, {partition: replace(head, start_offset=end)})
            return end - start

    def _shrink(self) -> None:
        """Give free pages back to the disk, in short transactions, but keep some for reuse."""
        with self._connections.session() as connection:
            while True:
                (free,) = connection.execute("PRAGMA freelist_count").fetchone()
                (pages,) = connection.execute("PRAGMA page_count").fetchone()
                if free <= max(pages // 4, _VACUUMED_PAGES):
                    break
                # Only executescript runs this statement to its end: it has a step for each page.
                connection.executescript(f"PRAGMA incremental_vacuum({_VACUUMED_PAGES})")
        # The file itself shrinks when the write-ahead log is copied into it.
        self._checkpoint()

    def _checkpoint(self) -> None:
        with self._connections.session() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _corrupt_block(self, topic: str, partition: int, offset: int) -> CorruptBlockError:
        return self._corrupt(
            f"topic {topic}, partition {partition}", f"the block at offset {offset}"
        )

    def _corrupt(self, place: str, what: str) -> CorruptBlockError:
        return CorruptBlockError(
            f"The event log {self._path} is damaged: {place}, {what} is missing or fails its"
            " checksum.",
            hint="Run `playhead rebuild --all`: what the lake holds too is mended from it. Or"
            " restore the file from a backup.",
        )


def _aged(
    connection: sqlite3.Connection, known: Topic, partition: int, cutoff: datetime
) -> tuple[int, int, dict[str, int]]:
    """The first offset, the one behind all that is older than `cutoff`, and groups' commits."""
    head = read_heads(connection, known.topic_id)[partition]
    values = {"topic": known.topic_id, "time": microseconds(cutoff)}
    aged = dict(connection.execute(_SELECT_OFFSETS_AT, values).fetchall())[partition]
    commits = read_commits(connection, known.topic_id)
    return head.start_offset, aged, {group: at.get(partition, 0) for group, at in commits.items()}


def _blocks_end(
    connection: sqlite3.Connection, known: Topic, partition: int, limit: int
) -> int | None:
    """Where the first few whole blocks before `limit` end; None if there are none."""
    end, size = None, 0
    for first, events, body_bytes in connection.execute(
        "SELECT first_offset, events, length(body) FROM blocks INDEXED BY blocks_by_offset"
        " WHERE topic_id = ? AND partition = ? AND first_offset < ? ORDER BY first_offset LIMIT ?",
        (known.topic_id, partition, limit, _DELETED_AT_ONCE),
    ):
        size += body_bytes
        if first + events > limit or (end is not None and size > _DELETED_AT_ONCE_BYTES):
            break
        end = first + events
    return end
