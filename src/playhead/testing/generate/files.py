"""Files that take one block of rows after the other: Parquet and CSV."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from playhead.testing.generate.spec import BLOCK_ROWS, DUPLICATES


class TableFile(ABC):
    """A file being written beside its final name, which it takes when it is whole.

    A context manager: leaving it by an error removes what was written.
    """

    suffix: str

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        """Add a block's rows; all blocks have the same columns."""
        shown = self._prepare(table)
        if self._writer is None:
            self._writer = self._open(self._part, shown.schema)
        self._write(self._writer, shown)

    def _prepare(self, table: pa.Table) -> pa.Table:
        return table

    @abstractmethod
    def _open(self, path: Path, schema: pa.Schema) -> Any: ...

    @abstractmethod
    def _write(self, writer: Any, table: pa.Table) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)


class ParquetFile(TableFile):
    """Parquet, one row group a block; dictionaries on the page, plain types in the schema."""

    suffix = "parquet"

    def _open(self, path: Path, schema: pa.Schema) -> Any:
        # The first column is the key: a dictionary of unique values would only be thrown away.
        repeating = [field.name for field in schema if field.name != schema.names[0]]
        return pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=repeating,
            column_encoding={schema.names[0]: "DELTA_BYTE_ARRAY"},
            store_schema=False,
            store_decimal_as_integer=True,
        )

    def _write(self, writer: Any, table: pa.Table) -> None:
        writer.write_table(table, row_group_size=2 * BLOCK_ROWS)


class CsvFile(TableFile):
    """CSV as the real files have it: True and False, 12.0 and 12.5, nothing for null."""

    suffix = "csv"

    def _prepare(self, table: pa.Table) -> pa.Table:
        return pa.table({name: _text(table[name]) for name in table.column_names})

    def _open(self, path: Path, schema: pa.Schema) -> Any:
        # A header from the writer would be quoted, which the real files' is not.
        sink = path.open("wb")
        sink.write((",".join(schema.names) + "\n").encode())
        options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
        return _CsvWriter(sink, pa_csv.CSVWriter(sink, schema, write_options=options))

    def _write(self, writer: Any, table: pa.Table) -> None:
        writer.write(table)


class _CsvWriter:
    """Arrow's CSV writer and the file under it, closed together."""

    def __init__(self, sink: Any, writer: Any) -> None:
        self._sink = sink
        self._writer = writer

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()
        self._sink.close()


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if pa.types.is_decimal(column.type):
        short = pc.utf8_rtrim(column.cast(pa.string()), "0")
        whole = pc.ends_with(short, ".")
        return pc.if_else(whole, pc.binary_join_element_wise(short, "0", ""), short)
    if pa.types.is_dictionary(column.type):
        return column.cast(pa.string())
    return column


FORMATS: Final[dict[str, type[TableFile]]] = {"parquet": ParquetFile, "csv": CsvFile}
NAMES: Final = tuple(DUPLICATES)
