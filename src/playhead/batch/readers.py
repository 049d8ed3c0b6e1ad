"""Turns the files of one table into rows of text in DuckDB, each row knowing its file and line.

The rows of every format have the contract's source columns as text (NULL where the file has
nothing), and `_file`, `_line` (from 1: the physical line of CSV and JSON Lines, the row of
Parquet), `_record` (from 1, over all parts), `_reject` (why the record cannot be read, else NULL)
and `_raw` (a rejected record's own text).
"""

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import duckdb

from playhead.batch.rows import Progress, Reader, Rows, damaged, source_columns
from playhead.batch.sources import Source
from playhead.batch.sqltext import identifier, literal, type_sql
from playhead.batch.textfiles import CsvReader, JsonReader
from playhead.batch.values import typed_name
from playhead.contracts import Contract

__all__ = ["Progress", "Rows", "open_rows", "source_columns"]


@contextmanager
def open_rows(
    source: Source,
    contract: Contract,
    con: duckdb.DuckDBPyConnection,
    *,
    ignore_unknown: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[Rows]:
    """Open the files of one table in the session `con` for one reading, in bounded memory.

    Raises:
        LoadError: a required column is missing, an unknown one is there (unless
            `ignore_unknown`), or the files cannot be read; what fails only while DuckDB reads
            is raised when the block is left.
    """
    total = source.size_bytes

    def report(rows: int, bytes_read: int) -> None:
        if progress is not None:
            progress(Progress(source.table, rows, bytes_read, total))

    reader = _READERS[source.format](source, contract, ignore_unknown=ignore_unknown, report=report)
    rows = Rows()
    try:
        reader.open(con, rows)
        yield rows
        report(rows.read, total)
    except duckdb.Error as error:
        if rows.failure is not None:
            raise rows.failure from error
        raise
    finally:
        reader.close(con)


class _ParquetReader(Reader):
    """Parquet, scanned by DuckDB itself; columns of any type are taken as their text."""

    def open(self, con: duckdb.DuckDBPyConnection, rows: Rows) -> None:
        self._types = self._read_types(con)
        rows.unknown = self._check(self._source.name, tuple(self._types))
        counts = self._row_counts(con)
        rows.read = sum(counts)
        rows.typed = frozenset(name for name in self._columns if self._is_typed(name))
        rows.sql = self._relation(counts, rows.typed)

    def close(self, con: duckdb.DuckDBPyConnection) -> None:
        """DuckDB opens and closes the files by itself."""

    @property
    def _scan(self) -> str:
        return f"[{', '.join(literal(str(part)) for part in self._source.parts)}]"

    def _read_types(self, con: duckdb.DuckDBPyConnection) -> dict[str, str]:
        sql = f"DESCRIBE SELECT * FROM read_parquet({self._scan}, union_by_name = true)"
        try:
            return {row[0]: row[1] for row in con.execute(sql).fetchall()}
        except duckdb.Error as error:
            raise damaged(self._source.name, error) from error

    def _row_counts(self, con: duckdb.DuckDBPyConnection) -> list[int]:
        sql = f"SELECT file_name, num_rows FROM parquet_file_metadata({self._scan})"
        counts = dict(con.execute(sql).fetchall())
        return [counts[str(part)] for part in self._source.parts]

    def _is_typed(self, name: str) -> bool:
        """Whether a column already has the one type that the contract gives its values."""
        wanted = {type_sql(f.type) for f in self._contract.fields if f.source == name}
        kind = self._types.get(name, "").replace(",", ", ")
        return kind != "VARCHAR" and wanted == {kind}

    def _relation(self, counts: list[int], typed: Collection[str]) -> str:
        natives = [f"file.{identifier(name)} AS {typed_name(name)}" for name in sorted(typed)]
        values = ", ".join([*(self._value(name) for name in self._columns), *natives])
        return f"""(
            SELECT {values}, part.label AS _file, file_row_number + 1 AS _line,
                file_row_number + 1 + part.before AS _record,
                NULL::VARCHAR AS _reject, NULL::VARCHAR AS _raw
            FROM {self._parts(counts)}
        )"""

    def _parts(self, counts: list[int]) -> str:
        """The files, each row with its part: its label, and how many records come `before` it."""
        befores = itertools.accumulate(counts, initial=0)
        parts = [
            f"({literal(str(part))}, {literal(self._source.part_name(part))}, {before})"
            for part, before in zip(self._source.parts, befores, strict=False)
        ]
        named = f"(VALUES {', '.join(parts)}) AS part(path, label, before)"
        if len(parts) == 1:
            return f"read_parquet({self._scan}, file_row_number = true) AS file, {named}"
        return (
            f"read_parquet({self._scan}, union_by_name = true, filename = true, "
            f"file_row_number = true) AS file JOIN {named} ON part.path = file.filename"
        )

    def _value(self, name: str) -> str:
        """A NaN is how data frames write a missing number."""
        column = f"file.{identifier(name)}"
        match self._types.get(name):
            case None:
                text = "NULL::VARCHAR"
            case "DOUBLE" | "FLOAT":
                text = f"CASE WHEN NOT isnan({column}) THEN {column}::VARCHAR END"
            case _:
                text = f"nullif({column}::VARCHAR, '')"
        return f"{text} AS {identifier(name)}"


_READERS: dict[str, type[Reader]] = {
    "csv": CsvReader,
    "json": JsonReader,
    "parquet": _ParquetReader,
}
