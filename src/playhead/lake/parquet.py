"""Writes a query's rows as Parquet: one stream, in partition order, encoded by a few threads.

DuckDB's own partitioned COPY encodes on one thread at its end, and opens a partition again for
every flush: 731 days of 100,000 rows took it 1.1 s and 5 million rows became 6,500 files. One
ordered stream cut here takes half of that, and gives each partition one file, sorted.
"""

import heapq
import io
import logging
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from playhead import disk
from playhead.errors import LakeError
from playhead.lake.checksums import data_file_name
from playhead.lake.metrics import metrics
from playhead.lake.partition import label
from playhead.lake.schema import (
    Column,
    Partition,
    arrow_schema,
    cast_sql,
    quote,
    transform_sql,
)
from playhead.lake.storage import make_folder, sync_all

if TYPE_CHECKING:
    import numpy.typing as npt

logger = logging.getLogger(__name__)

BATCH_ROWS = 122_880
FILE_BYTES = 64 << 20
ROW_GROUP_ROWS = 1 << 20
# In smaller files, setting up zstd and a dictionary for each column costs more than all else.
LARGE_BYTES = 1 << 20
THREADS = min(4, (os.cpu_count() or 1) + 1)
_SAMPLED_ROWS = 4096
_PARTITION = "__partition"


@dataclass(frozen=True)
class Layout:
    """How a table's files look: what a writer needs to know of the table.

    Attributes:
        sort: columns that each file is sorted by, in order, ascending, NULLs last.
        sort_order_id: Iceberg's id of that order; None for an unsorted table.
    """

    name: str
    columns: tuple[Column, ...]
    partition: Partition | None
    spec_id: int
    sort: tuple[str, ...]
    sort_order_id: int | None


@dataclass
class _Chunk:
    """Rows of one partition on their way into one file."""

    partition: int
    batches: list[pa.RecordBatch]
    bytes: int


@dataclass(frozen=True)
class _Piece:
    """Some rows of one partition."""

    partition: int
    rows: pa.RecordBatch
    bytes: int


def write(
    layout: Layout,
    con: duckdb.DuckDBPyConnection,
    query: str | None,
    folder: Path,
    also: Sequence[Iterable[pa.RecordBatch]] = (),
    *,
    tag: str = "",
) -> list[DataFile]:
    """Run `query` and write its rows into new files of `folder`, durably.

    Memory is bounded: DuckDB spills the sort, and at most `THREADS` + 2 chunks of
    `FILE_BYTES` (as Arrow) are held at once.

    Args:
        query: None if there are no rows but `also`.
        also: streams of more rows, each with the table's columns (`arrow_schema`) and in the
            table's order. Rows of a partition are put together, not sorted together: for a
            table whose files are sorted by nothing but the column that cuts it.
        tag: a part of every file's name, where several writers share a folder.

    Returns:
        one entry per file, in partition order; empty if the query has no row.

    Raises:
        LakeError: the query fails, has a column that the table lacks, or a NULL where the
            table needs a value; or the disk is full. Files may be left in `folder`.
    """
    with _explained(layout, folder):
        streams = [_given(layout, batches) for batches in also]
        with ExitStack() as stack:
            if query is not None:
                select = _select(layout, con, query)
                reader = con.execute(select).to_arrow_reader(BATCH_ROWS)
                stack.callback(reader.close)
                streams.append(_selected(layout, reader))
            return _write(layout, streams, folder, tag)


def write_batches(
    layout: Layout, batches: Iterable[pa.RecordBatch], folder: Path, tag: str
) -> list[DataFile]:
    """Write one stream of batches into new files of `folder`, as `write` does.

    Args:
        batches: with the names of the table's columns, in any order of columns and in types that
            can be cast to the table's; their rows are in the table's order.
        tag: as for `write`.

    Raises:
        LakeError: a value or a row does not fit the table; or the disk is full.
    """
    schema = arrow_schema(layout.columns)
    with _explained(layout, folder):
        typed = (_typed(layout, batch.select(schema.names), schema) for batch in batches)
        return _write(layout, [_given(layout, typed)], folder, tag)


@contextmanager
def _explained(layout: Layout, folder: Path) -> Iterator[None]:
    """Turn what fails on the way into files into an error that names the table."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # An error of DuckDB that meets a stream half-way arrives as an OSError without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise LakeError(
                f"{layout.name}: cannot write to {folder}: {error}", hint=disk.advice(error)
            ) from error
        raise LakeError(
            f"{layout.name}: the query to write failed: {error}", hint=disk.advice(error)
        ) from error


def typed_sql(layout: Layout, con: duckdb.DuckDBPyConnection, query: str) -> str:
    """The query, in the table's types and columns.

    Raises:
        LakeError: it has a column that the table lacks.
    """
    query = query.strip().rstrip(";")
    described = con.execute(f"DESCRIBE FROM (\n{query}\n)").fetchall()
    types: dict[str, str] = {row[0]: row[1] for row in described}
    known = [column.name for column in layout.columns]
    if unknown := [name for name in types if name not in known]:
        raise LakeError(
            f"{layout.name}: the query has a column {', '.join(unknown)} that the table lacks",
            hint=f"Leave it out, or add it with create(). The table has {', '.join(known)}.",
        )
    casts = ", ".join(cast_sql(column, types.get(column.name)) for column in layout.columns)
    return f"SELECT {casts} FROM (\n{query}\n)"


def _select(layout: Layout, con: duckdb.DuckDBPyConnection, query: str) -> str:
    """The query, in the table's types, columns and order."""
    partition = f"{transform_sql(layout.partition)} AS {_PARTITION}"
    keys = [f"{_PARTITION} NULLS FIRST"] if layout.partition else []
    keys += [f"{quote(column)} NULLS LAST" for column in layout.sort]
    order = f" ORDER BY {', '.join(keys)}" if keys else ""
    return f"SELECT *, {partition} FROM ({typed_sql(layout, con, query)}){order}"


def _write(
    layout: Layout, streams: Sequence[Iterator[_Piece]], folder: Path, tag: str
) -> list[DataFile]:
    files: list[DataFile] = []
    pending: deque[Future[DataFile]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="lake-write") as pool:
        try:
            for number, chunk in enumerate(_chunks(streams)):
                if not number:
                    make_folder(folder)
                name = f"{label(layout.partition, chunk.partition)}-{number:05d}{tag}"
                pending.append(pool.submit(_write_file, layout, folder, name, chunk))
                if len(pending) > THREADS:
                    files.append(pending.popleft().result())
            files.extend(future.result() for future in pending)
        finally:
            for future in pending:
                future.cancel()
    if files:
        sync_all(folder, [file.file_path for file in files])
    return files


def _chunks(streams: Sequence[Iterator[_Piece]]) -> Iterator[_Chunk]:
    """Cut the ordered streams at every new partition, and wherever a file is large enough."""
    chunk: _Chunk | None = None
    for piece in heapq.merge(*streams, key=lambda piece: piece.partition):
        if chunk and (chunk.partition != piece.partition or chunk.bytes >= FILE_BYTES):
            yield chunk
            chunk = None
        chunk = chunk or _Chunk(piece.partition, [], 0)
        chunk.batches.append(piece.rows)
        chunk.bytes += piece.bytes
    if chunk:
        yield chunk


def _selected(layout: Layout, reader: pa.RecordBatchReader) -> Iterator[_Piece]:
    schema = arrow_schema(layout.columns)
    for partitions, batch in _checked(layout, reader):
        rows = batch.select(range(batch.num_columns - 1))
        yield from _pieces(partitions, _typed(layout, rows, schema))


def _given(layout: Layout, batches: Iterable[pa.RecordBatch]) -> Iterator[_Piece]:
    for batch in batches:
        if batch.num_rows:
            yield from _pieces(_partitions(layout, batch), batch)


def _partitions(layout: Layout, batch: pa.RecordBatch) -> "npt.NDArray[np.int64]":
    """The partition value of each row."""
    if layout.partition is None:
        return np.zeros(batch.num_rows, dtype=np.int64)
    times = batch.column(layout.partition.column)
    if times.null_count:
        raise _unplaced(layout, times.null_count)
    unit = "datetime64[D]" if layout.partition.unit == "day" else "datetime64[M]"
    values: npt.NDArray[np.int64] = times.to_numpy(zero_copy_only=False).astype(unit).astype(int)
    return values


def _pieces(partitions: "npt.NDArray[np.int64]", rows: pa.RecordBatch) -> Iterator[_Piece]:
    row_bytes = rows.nbytes / rows.num_rows
    for start, stop in _runs(partitions):
        count = stop - start
        yield _Piece(int(partitions[start]), rows.slice(start, count), int(row_bytes * count))


def _checked(
    layout: Layout, reader: pa.RecordBatchReader
) -> "Iterator[tuple[npt.NDArray[np.int64], pa.RecordBatch]]":
    """The batches with rows, their partition values apart; refuses rows that have none."""
    lost = 0
    for batch in reader:
        values = batch.column(batch.num_columns - 1)
        lost += values.null_count
        if lost and values.null_count < batch.num_rows:
            break
        if not lost and batch.num_rows:
            yield values.to_numpy(zero_copy_only=False).astype(np.int64), batch
    if lost:
        raise _unplaced(layout, lost)


def _unplaced(layout: Layout, count: int) -> LakeError:
    cut = layout.partition
    by = f"{cut.column}, by whose {cut.unit} the table is cut" if cut else "partition"
    return LakeError(
        f"{layout.name}: {count} rows have no {by}",
        hint="Leave these rows out, or give them a time.",
    )


def _typed(layout: Layout, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The table's columns of a batch, with their field ids; required ones hold no NULL."""
    arrays = [
        array if array.type == field.type else array.cast(field.type)
        for array, field in zip(batch.columns, schema, strict=True)
    ]
    for column, array in zip(layout.columns, arrays, strict=True):
        if column.required and array.null_count:
            raise LakeError(
                f"{layout.name}: column {column.name} is required, "
                f"and {array.null_count} of {len(array)} rows have no value",
                hint="Leave these rows out, or make the column optional.",
            )
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _runs(values: "npt.NDArray[np.int64]") -> Iterator[tuple[int, int]]:
    """Start and stop of every run of equal values."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return pairwise(cuts)


def _write_file(layout: Layout, folder: Path, name: str, chunk: _Chunk) -> DataFile:
    sink = pa.BufferOutputStream()
    collected: list[Any] = []
    large = chunk.bytes > LARGE_BYTES
    table = pa.Table.from_batches(chunk.batches)
    pq.write_table(
        table,
        sink,
        compression="zstd" if large else "snappy",
        use_dictionary=_repeating(table) if large else False,
        row_group_size=ROW_GROUP_ROWS,
        store_schema=False,
        store_decimal_as_integer=True,
        write_page_checksum=True,
        metadata_collector=collected,
    )
    body = sink.getvalue()
    path = folder / data_file_name(name, zlib.crc32(body))
    with path.open("xb", buffering=0) as file:
        _write_all(file, memoryview(body))
    return _entry(layout, path, chunk.partition, collected[0])


def _repeating(table: pa.Table) -> list[str]:
    """Columns whose values come again and again: a dictionary of all others is made in vain."""
    rows = np.linspace(0, table.num_rows - 1, min(table.num_rows, _SAMPLED_ROWS), dtype=np.int64)
    sample = table.take(rows)
    flat = (
        name
        for name, kind in zip(sample.schema.names, sample.schema.types, strict=True)
        if not pa.types.is_nested(kind)
    )
    return [
        name for name in flat if 2 * pc.count_distinct(sample[name], "all").as_py() <= len(rows)
    ]


def _write_all(file: io.FileIO, body: memoryview) -> None:
    """An unbuffered file may take less than it is given; whoever is on a full disk hears of it."""
    while body:
        body = body[file.write(body) :]


def _entry(layout: Layout, path: Path, partition: int, footer: Any) -> DataFile:
    """The manifest entry of a file just written; `footer` is its Parquet metadata."""
    fields: dict[str, Any] = metrics(layout.columns, footer)
    entry = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=str(path),
        file_format=FileFormat.PARQUET,
        partition=Record(partition) if layout.partition else Record(),
        record_count=footer.num_rows,
        file_size_in_bytes=path.stat().st_size,
        sort_order_id=layout.sort_order_id,
        nan_value_counts=None,
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        **fields,
    )
    entry.spec_id = layout.spec_id
    return entry
