"""CSV and JSON Lines as Arrow batches, in blocks: every record keeps its physical line."""

import csv
import gzip
import io
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from playhead.batch.records import Records, Reject, Splitter, first_record, read_records
from playhead.batch.rows import Reader, Rows, damaged
from playhead.batch.sqltext import identifier, literal
from playhead.errors import LoadError

__all__ = ["CsvReader", "JsonReader"]

SAMPLE_BYTES = 1 << 20
SAMPLE_LINES = 1000
_BOM = b"\xef\xbb\xbf"
_UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException)
_PLACE = (
    pa.field("_file", pa.string()),
    pa.field("_line", pa.int64()),
    pa.field("_record", pa.int64()),
    pa.field("_reject", pa.string()),
    pa.field("_raw", pa.string()),
)
Batches = Iterator[pa.RecordBatch]


class _TextReader(Reader):
    """Streams the parts of a table into DuckDB, and counts records, lines and bytes."""

    _quoted: ClassVar[bool]
    _records = 0
    _bytes_before = 0

    @abstractmethod
    def _schema(self) -> pa.Schema:
        """Of the batches: the format's own columns, then `_PLACE`."""

    @abstractmethod
    def _unknown_columns(self, con: duckdb.DuckDBPyConnection) -> Iterable[tuple[str, ...]]:
        """The unknown columns of each part."""

    @abstractmethod
    def _relation(self) -> str:
        """The rows, as SQL over the registered batches."""

    @abstractmethod
    def _start(self, part: Path) -> int:
        """How many bytes stand before the first record."""

    @abstractmethod
    def _batch(self, part: Path, records: Records) -> pa.RecordBatch:
        """One block of records, rejected ones last."""

    @property
    def _name(self) -> str:
        return f"rows_of_{self._source.table}"

    def open(self, con: duckdb.DuckDBPyConnection, rows: Rows) -> None:
        rows.unknown = tuple(
            dict.fromkeys(name for names in self._unknown_columns(con) for name in names)
        )
        batches = self._kept_failures(rows)
        con.register(self._name, pa.RecordBatchReader.from_batches(self._schema(), batches))
        rows.sql = self._relation()

    def close(self, con: duckdb.DuckDBPyConnection) -> None:
        con.unregister(self._name)

    def _kept_failures(self, rows: Rows) -> Batches:
        """DuckDB hides what its input raises: keep it, so that it can be raised after all."""
        try:
            for batch in self._batches():
                rows.read = self._records
                yield batch
        except _UNREADABLE as error:
            rows.failure = damaged(self._source.name, error)
            raise

    def _batches(self) -> Batches:
        for part in self._source.parts:
            with part.open("rb") as disk, _uncompressed(disk) as file:
                line = 1 + file.read(self._start(part)).count(b"\n")
                for records in read_records(file, Splitter(quoted=self._quoted, line=line)):
                    yield self._batch(part, records)
                    self._report(self._records, self._bytes_before + disk.tell())
                self._bytes_before += disk.tell()

    def _sample(self, part: Path) -> bytes:
        """The first `SAMPLE_BYTES` of one file, uncompressed, its BOM included."""
        label = self._source.part_name(part)
        try:
            with part.open("rb") as disk, _uncompressed(disk) as file:
                start = file.read(SAMPLE_BYTES)
        except _UNREADABLE as error:
            raise damaged(label, error) from error
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise LoadError(f"{label}: is UTF-16", hint="Save it as UTF-8.")
        return start

    def _place(
        self, part: Path, lines: NDArray[np.int64], rejects: Sequence[Reject]
    ) -> list[pa.Array]:
        """The arrays of `_PLACE` for good records on `lines`, followed by the rejects."""
        every = np.concatenate([lines, np.array([r.line for r in rejects], dtype=np.int64)])
        order = np.argsort(np.argsort(every)) if rejects else np.arange(every.size)
        records = self._records + 1 + order
        self._records += every.size
        names = pa.DictionaryArray.from_arrays(
            np.zeros(every.size, np.int32), [self._source.part_name(part)]
        )
        reasons, texts = [r.reason for r in rejects], [r.text for r in rejects]
        return [
            names.cast(pa.string()),
            pa.array(every),
            pa.array(records),
            _after_nulls(lines.size, reasons),
            _after_nulls(lines.size, texts),
        ]


class CsvReader(_TextReader):
    """CSV by RFC 4180: comma, double quote, a header, UTF-8; CRLF and a BOM are fine."""

    _quoted = True

    def _schema(self) -> pa.Schema:
        return pa.schema([*((name, pa.string()) for name in self._columns), *_PLACE])

    def _relation(self) -> str:
        return self._name

    def _unknown_columns(self, con: duckdb.DuckDBPyConnection) -> Iterable[tuple[str, ...]]:
        self._headers = {part: self._header(part) for part in self._source.parts}
        for part, (names, _) in self._headers.items():
            if names:
                yield self._check(self._source.part_name(part), names)

    def _start(self, part: Path) -> int:
        return self._headers[part][1]

    def _header(self, part: Path) -> tuple[tuple[str, ...], int]:
        """The column names of one file, and the bytes before its data; no names if it is empty."""
        start = self._sample(part)
        text = start.removeprefix(_BOM).lstrip(b"\r\n")
        if not text:
            return (), len(start)
        header = first_record(text)
        if header is None:
            raise LoadError(
                f"{self._source.part_name(part)}: the header cannot be read",
                hint="The first line names the columns, with commas between them, in UTF-8.",
            )
        names = next(csv.reader(io.StringIO(header.decode(), newline="")))
        return tuple(name.strip() for name in names), len(start) - len(text) + len(header)

    def _batch(self, part: Path, records: Records) -> pa.RecordBatch:
        table, rejects, lines = self._parse(self._headers[part][0], records)
        rejects = [*records.rejects, *rejects]
        nulls = pa.nulls(len(rejects), pa.string())
        values = [pa.concat_arrays([*table[name].chunks, nulls]) for name in self._columns]
        place = self._place(part, lines, rejects)
        return pa.RecordBatch.from_arrays([*values, *place], schema=self._schema())

    def _parse(
        self, names: tuple[str, ...], records: Records
    ) -> tuple[pa.Table, list[Reject], NDArray[np.int64]]:
        """The values of the good records; those of another width than the header are rejected."""
        rejects: list[Reject] = []
        kept = np.ones(records.lines.size, dtype=np.bool_)

        def reject(row: pyarrow.csv.InvalidRow) -> str:
            kept[row.number - 1] = False
            reason = f"has {row.actual_columns} columns, the header has {row.expected_columns}"
            rejects.append(Reject(int(records.lines[row.number - 1]), reason, row.text))
            return "skip"

        if not records.body:
            empty = pa.schema([(name, pa.string()) for name in self._columns]).empty_table()
            return empty, rejects, records.lines
        table = pyarrow.csv.read_csv(
            pa.BufferReader(records.body),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, column_names=names, block_size=len(records.body)
            ),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=reject
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=self._columns,
                include_missing_columns=True,
                column_types={name: pa.string() for name in self._columns},
                null_values=[""],
                strings_can_be_null=True,
                check_utf8=False,
            ),
        )
        return table, rejects, records.lines[kept]


class JsonReader(_TextReader):
    """JSON Lines: one object a line, UTF-8."""

    _quoted = False

    def _schema(self) -> pa.Schema:
        return pa.schema([("text", pa.string()), *_PLACE])

    def _unknown_columns(self, con: duckdb.DuckDBPyConnection) -> Iterable[tuple[str, ...]]:
        return (self._check_sample(part, con) for part in self._source.parts)

    def _start(self, part: Path) -> int:
        return len(_BOM) if self._sample(part).startswith(_BOM) else 0

    def _check_sample(self, part: Path, con: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
        """Check the fields of the first lines as a header is checked; later lines one by one."""
        sample = self._sample(part).removeprefix(_BOM)
        label = self._source.part_name(part)
        if sample.lstrip()[:1] == b"[":
            raise LoadError(
                f"{label}: is one JSON array", hint="Write one object a line (JSON Lines)."
            )
        lines = sample.decode(errors="replace").splitlines()[:SAMPLE_LINES]
        keys = con.execute(
            "SELECT DISTINCT unnest(json_keys(line)) FROM (SELECT unnest($lines) AS line) "
            "WHERE json_valid(line)",
            {"lines": lines},
        ).fetchall()
        if not keys:
            return ()
        names = sorted(name for (name,) in keys)
        return self._check(label, names)

    def _batch(self, part: Path, records: Records) -> pa.RecordBatch:
        ends = np.flatnonzero(np.frombuffer(records.body, np.uint8) == ord("\n")) + 1
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        good = pa.StringArray.from_buffers(
            ends.size, pa.py_buffer(offsets), pa.py_buffer(records.body)
        )
        text = pa.concat_arrays([good, pa.nulls(len(records.rejects), pa.string())])
        place = self._place(part, records.lines, records.rejects)
        return pa.RecordBatch.from_arrays([text, *place], schema=self._schema())

    def _relation(self) -> str:
        """Values as text: `3.0` and `"3.0"` alike; `null` and an absent field are NULL."""
        known = ", ".join(literal(name) for name in self._columns)
        paths = ", ".join(literal(f'$."{name}"') for name in self._columns)
        unknown = "NULL" if self._ignore_unknown else f"list_filter(keys, k -> k NOT IN ({known}))"
        values = ", ".join(self._value(i, name) for i, name in enumerate(self._columns, 1))
        return f"""(
            WITH parsed AS (
                SELECT *, CASE WHEN json_valid(text) THEN json_type(text) END AS kind
                FROM {self._name}
            ), opened AS (
                SELECT *,
                    CASE WHEN kind = 'OBJECT' THEN json_extract_string(text, [{paths}]) END AS v,
                    CASE WHEN kind = 'OBJECT' THEN json_keys(text) END AS keys
                FROM parsed
            ), judged AS (
                SELECT * REPLACE (CASE
                    WHEN _reject IS NOT NULL THEN _reject
                    WHEN kind IS NULL THEN 'line is no JSON'
                    WHEN kind <> 'OBJECT' THEN 'line is no JSON object'
                    WHEN len({unknown}) > 0 THEN
                        'unknown field ' || array_to_string({unknown}, ', ')
                    END AS _reject)
                FROM opened
            )
            SELECT {values}, _file, _line, _record, _reject,
                CASE WHEN _reject IS NOT NULL
                    THEN coalesce(_raw, rtrim(text, chr(13) || chr(10))) END AS _raw
            FROM judged
        )"""

    def _value(self, position: int, name: str) -> str:
        """DuckDB passes a JSON number through a float: a decimal is read from the text itself."""
        value = f"v[{position}]"
        if any(f.source == name and pa.types.is_decimal(f.type) for f in self._contract.fields):
            number = literal(rf'"{name}"\s*:\s*(-?[0-9][0-9.eE+-]*)')
            value = f"coalesce(nullif(regexp_extract(text, {number}, 1), ''), {value})"
        return f"CASE WHEN _reject IS NULL THEN nullif({value}, '') END AS {identifier(name)}"


@contextmanager
def _uncompressed(disk: BinaryIO) -> Iterator[BinaryIO]:
    """The file's content; gzip is known by its first bytes, whatever the file's name."""
    packed = disk.read(2) == b"\x1f\x8b"
    disk.seek(0)
    if packed:
        with gzip.GzipFile(fileobj=disk) as file:
            yield cast("BinaryIO", file)
    else:
        yield disk


def _after_nulls(nulls: int, texts: Sequence[str]) -> pa.Array:
    return pa.concat_arrays([pa.nulls(nulls, pa.string()), pa.array(texts, pa.string())])
