"""Blocks: runs of events of one partition, as Arrow IPC record batches with a checksum.

A block's body is one encapsulated IPC message; the schema message is kept once per version of
the topic's schema. The schema message and the bodies behind it are a complete IPC stream, so any
number of blocks is decoded by one call, and unwanted columns are skipped without being copied.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.contracts import LOG_COLUMNS
from playhead.eventlog.keys import partition_of

BLOCK_EVENTS = 65_536
BLOCK_BYTES = 16 << 20

# Halves the bytes to sync and to keep; on small blocks it costs more time than it saves.
_COMPRESSED_FROM_EVENTS = 2_048
_HEADER = struct.Struct("<7q")


@dataclass(frozen=True, slots=True)
class Block:
    """Encoded events of one partition; `crc32` covers the body alone."""

    partition: int
    events: int
    raw_bytes: int
    body: pa.Buffer
    crc32: int


@dataclass(frozen=True, slots=True)
class Header:
    """Where a block stands; part of its checksum, so a block cannot pass for another one.

    Attributes:
        raw_bytes: about what its events take when decoded.
    """

    topic_id: int
    partition: int
    first_offset: int
    events: int
    raw_bytes: int
    ingest_us: int
    schema_version: int

    def values(self) -> tuple[int, ...]:
        """The fields, in order."""
        return (
            self.topic_id,
            self.partition,
            self.first_offset,
            self.events,
            self.raw_bytes,
            self.ingest_us,
            self.schema_version,
        )

    def seal(self, body_crc32: int) -> int:
        """The checksum of body and header together."""
        return zlib.crc32(_HEADER.pack(*self.values()), body_crc32)


def split(table: pa.Table, key: str, partitions: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Cut events into batches of one partition each, keeping their order within it.

    Works through the table in slices, so memory beyond the table is a few blocks.

    Args:
        table: events with the topic's schema; any number of chunks.
        key: the string column that decides the partition.

    Yields:
        Partition and batch: 1 to `BLOCK_EVENTS` events, about `BLOCK_BYTES` unless one event is
        larger.
    """
    for batch in _slices(table, partitions):
        if partitions == 1:
            runs = [(0, batch)]
        else:
            runs = _by_partition(batch, partition_of(batch.column(key), partitions))
        # Runs can be too large only together, which spares measuring each one.
        whole = batch.num_rows <= BLOCK_EVENTS and batch.nbytes <= BLOCK_BYTES
        for partition, run in runs:
            yield from ((partition, part) for part in ([run] if whole else _cut(run)))


def encode(partition: int, batch: pa.RecordBatch) -> Block:
    """The batch as a block; the buffers of a large one are compressed by LZ4."""
    large = batch.num_rows >= _COMPRESSED_FROM_EVENTS
    body = _compressed(batch) if large else batch.serialize()
    raw_bytes = batch.nbytes if large else body.size
    return Block(partition, batch.num_rows, raw_bytes, body, zlib.crc32(body))


def decode(
    schema_message: bytes, bodies: Sequence[bytes], columns: Sequence[str] | None
) -> pa.Table:
    """The events of blocks that share a schema version.

    Args:
        schema_message: the IPC message of that version's schema.
        columns: which to decode; names that the schema lacks are left out; None: all.

    Raises:
        pyarrow.ArrowInvalid, OSError: the bytes are no such stream.
    """
    options = pa.ipc.IpcReadOptions(use_threads=False)
    names = pa.ipc.read_schema(pa.py_buffer(schema_message)).names
    wanted = [name for name in names if columns is None or name in columns]
    if columns is not None:
        # Arrow takes "no fields" for "all fields"; the first one carries the number of rows.
        options.included_fields = [names.index(name) for name in wanted] or [0]
    stream = pa.py_buffer(b"".join([schema_message, *bodies]))
    with pa.ipc.open_stream(stream, options=options) as reader:
        return reader.read_all().select(wanted)


def widen(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`, in its order; those that the table lacks are null."""
    columns = [
        table.column(field.name)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    if not columns:
        return table.select([])
    return pa.Table.from_arrays(columns, schema=schema)


def with_log_columns(
    table: pa.Table, partition: int, offset: int, ingested: Sequence[tuple[int, int]]
) -> pa.Table:
    """The table and what the event log adds: partition, offset, ingest_time.

    Args:
        table: n rows, or no columns.
        offset: of the first row.
        ingested: runs of rows (count, microseconds since 1970 UTC), n in all.
    """
    counts = np.array([count for count, _ in ingested], dtype=np.int64)
    rows = int(counts.sum())
    times = np.array([time_us for _, time_us in ingested], dtype=np.int64)
    added = [
        pa.array(np.full(rows, partition, dtype=np.int32)),
        pa.array(np.arange(offset, offset + rows, dtype=np.int64)),
        pa.array(np.repeat(times, counts)).view(pa.timestamp("us")),
    ]
    schema = pa.schema([*table.schema, *LOG_COLUMNS])
    return pa.Table.from_arrays([*table.columns, *added], schema=schema)


def _slices(table: pa.Table, partitions: int) -> Iterator[pa.RecordBatch]:
    if table.num_rows == 0:
        return
    event_bytes = max(table.nbytes // table.num_rows, 1)
    rows = partitions * min(BLOCK_EVENTS, max(BLOCK_BYTES // event_bytes, 1))
    for low in range(0, table.num_rows, rows):
        yield from table.slice(low, rows).combine_chunks().to_batches()


def _compressed(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
        end = sink.tell()
    # The stream begins with the schema message, which blocks do without.
    start = batch.schema.serialize().size
    return sink.getvalue().slice(start, end - start)


def _by_partition(
    batch: pa.RecordBatch, owner: npt.NDArray[np.int32]
) -> list[tuple[int, pa.RecordBatch]]:
    # The sort of 16-bit integers is a radix sort: linear, and stable.
    ordered = batch.take(pa.array(np.argsort(owner.astype(np.uint16), kind="stable")))
    counts = np.bincount(owner)
    starts = np.cumsum(counts) - counts
    return [
        (partition, ordered.slice(int(starts[partition]), int(counts[partition])))
        for partition in np.flatnonzero(counts).tolist()
    ]


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = batch.num_rows
    if rows > BLOCK_EVENTS or (rows > 1 and batch.nbytes > BLOCK_BYTES):
        yield from _cut(batch.slice(0, rows // 2))
        yield from _cut(batch.slice(rows // 2))
    else:
        yield batch
