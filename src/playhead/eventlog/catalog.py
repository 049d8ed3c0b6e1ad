"""Topics, schema versions, heads and commits, as rows of the event log's SQLite file."""

import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa

from playhead.errors import CorruptBlockError, EventLogError, UnknownTopicError
from playhead.eventlog.offsets import Head
from playhead.eventlog.schemas import evolve, without_metadata


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a topic's schema, and its IPC message."""

    number: int
    schema: pa.Schema
    message: bytes


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as its row says, with its newest schema."""

    name: str
    topic_id: int
    partitions: int
    version: Version


class Catalog:
    """Reads and writes those rows through a connection that the caller is in a transaction with.

    Keeps the parsed schemas, which never change. Safe to use from any thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._versions: dict[tuple[int, int], Version] = {}

    def topic(self, connection: sqlite3.Connection, name: str) -> Topic:
        """The topic of that name, or UnknownTopicError."""
        found = self._find(connection, name)
        if found is None:
            names = ", ".join(self.names(connection)) or "no topic yet"
            raise UnknownTopicError(
                f"The event log {self._path} has no topic {name}.", hint=f"It has {names}."
            )
        return found

    def names(self, connection: sqlite3.Connection) -> list[str]:
        """All topics' names, sorted."""
        return [name for (name,) in connection.execute("SELECT name FROM topics ORDER BY name")]

    def create(
        self, connection: sqlite3.Connection, name: str, schema: pa.Schema, partitions: int
    ) -> None:
        """Add the topic, or the fields that it lacks, or nothing."""
        found = self._find(connection, name)
        if found is None:
            self._insert(connection, name, without_metadata(schema), partitions)
            return
        if found.partitions != partitions:
            raise EventLogError(
                f"Topic {name} has {found.partitions} partitions, not {partitions}; their number"
                " is fixed.",
                hint="Ask for the same number, or use another topic.",
            )
        grown = evolve(name, found.version.schema, schema)
        if grown != found.version.schema:
            _insert_version(connection, found.topic_id, found.version.number + 1, grown)

    def version(self, connection: sqlite3.Connection, topic_id: int, number: int) -> Version:
        """One version of a topic's schema, or CorruptBlockError."""
        if (topic_id, number) not in self._versions:
            row = connection.execute(
                "SELECT message, crc32 FROM schemas WHERE topic_id = ? AND version = ?",
                (topic_id, number),
            ).fetchone()
            if row is None or zlib.crc32(row[0]) != row[1]:
                raise CorruptBlockError(
                    f"The event log {self._path} is damaged: version {number} of the schema of"
                    f" topic number {topic_id} is missing or fails its checksum.",
                    hint="Restore the file from a backup.",
                )
            schema = pa.ipc.read_schema(pa.py_buffer(row[0]))
            self._versions[topic_id, number] = Version(number, schema, row[0])
        return self._versions[topic_id, number]

    def _find(self, connection: sqlite3.Connection, name: str) -> Topic | None:
        row = connection.execute(
            "SELECT topic_id, partitions, (SELECT max(version) FROM schemas"
            " WHERE schemas.topic_id = topics.topic_id) FROM topics WHERE name = ?",
            (name,),
        ).fetchone()
        if row is None:
            return None
        topic_id, partitions, number = row
        return Topic(name, topic_id, partitions, self.version(connection, topic_id, number))

    def _insert(
        self, connection: sqlite3.Connection, name: str, schema: pa.Schema, partitions: int
    ) -> None:
        connection.execute(
            "INSERT INTO topics (name, partitions) VALUES (?, ?)", (name, partitions)
        )
        (topic_id,) = connection.execute("SELECT last_insert_rowid()").fetchone()
        _insert_version(connection, topic_id, 1, schema)
        empty = Head(0, 0, 0)
        connection.executemany(
            "INSERT INTO heads VALUES (?, ?, 0, 0, 0, ?)",
            [(topic_id, p, empty.seal(topic_id, p)) for p in range(partitions)],
        )


def read_heads(connection: sqlite3.Connection, topic_id: int) -> dict[int, Head]:
    """What each partition holds, by partition.

    Raises:
        CorruptBlockError: a row fails its checksum.
    """
    rows = connection.execute(
        "SELECT partition, start_offset, end_offset, ingest_us, crc32 FROM heads"
        " WHERE topic_id = ? ORDER BY partition",
        (topic_id,),
    )
    heads = {}
    for partition, start, end, ingest_us, crc32 in rows:
        head = heads[partition] = Head(start, end, ingest_us)
        if head.seal(topic_id, partition) != crc32:
            path = connection.execute("PRAGMA database_list").fetchone()[2]
            raise CorruptBlockError(
                f"The event log {path} is damaged: topic number {topic_id}, partition {partition},"
                " the row that says what it holds fails its checksum.",
                hint="Restore the file from a backup.",
            )
    return heads


def write_heads(connection: sqlite3.Connection, topic_id: int, heads: Mapping[int, Head]) -> None:
    """Replace what some partitions hold."""
    connection.executemany(
        "UPDATE heads SET start_offset = ?, end_offset = ?, ingest_us = ?, crc32 = ?"
        " WHERE topic_id = ? AND partition = ?",
        [
            (*astuple(head), head.seal(topic_id, partition), topic_id, partition)
            for partition, head in heads.items()
        ],
    )


def read_commits(connection: sqlite3.Connection, topic_id: int) -> dict[str, dict[int, int]]:
    """Committed offsets by group and partition, both sorted."""
    commits: dict[str, dict[int, int]] = {}
    for group, partition, offset in connection.execute(
        "SELECT group_name, partition, next_offset FROM commits WHERE topic_id = ?"
        " ORDER BY group_name, partition",
        (topic_id,),
    ):
        commits.setdefault(group, {})[partition] = offset
    return commits


def write_commits(
    connection: sqlite3.Connection, topic_id: int, group: str, offsets: Mapping[int, int]
) -> None:
    """Replace the group's offsets in these partitions."""
    connection.executemany(
        "INSERT INTO commits VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
        [(group, topic_id, partition, offset) for partition, offset in offsets.items()],
    )


def _insert_version(
    connection: sqlite3.Connection, topic_id: int, number: int, schema: pa.Schema
) -> None:
    message = schema.serialize().to_pybytes()
    connection.execute(
        "INSERT INTO schemas VALUES (?, ?, ?, ?)",
        (topic_id, number, zlib.crc32(message), message),
    )
