"""Dead letters as files: NDJSON and CSV for reading, Parquet for keeping."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from playhead import disk
from playhead.batch.deadletters import DeadLetters, Wanted
from playhead.contracts import to_json_lines
from playhead.errors import WorkspaceError

__all__ = ["ExportFormat", "export", "export_to"]

ExportFormat = Literal["ndjson", "csv", "parquet"]


def export(letters: DeadLetters, wanted: Wanted, sink: BinaryIO, format: ExportFormat) -> int:  # noqa: A002
    """Write letters with their bodies, newest first; how many.

    In the text formats a body is text where it is UTF-8; where it is not, `body_base64` holds it
    and `body` is empty. Memory is bounded, however many there are.
    """
    reader = letters.read(wanted, as_text=format != "parquet")
    if format == "ndjson":
        return _write_lines(reader, sink)
    written = 0
    with _writer(sink, reader.schema, format) as writer:
        for batch in reader:
            writer.write_batch(batch)
            written += batch.num_rows
    return written


def export_to(letters: DeadLetters, wanted: Wanted, path: Path, format: ExportFormat) -> int:  # noqa: A002
    """Write letters to a file, which is there whole or not at all; how many.

    Raises:
        WorkspaceError: the file cannot be written.
    """
    part = path.parent / f"{path.name}.part"
    try:
        with part.open("wb") as sink:
            written = export(letters, wanted, sink, format)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)
    except OSError as error:
        raise WorkspaceError(
            f"{path} cannot be written: {error.strerror}", hint=disk.advice(error)
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return written


def _write_lines(batches: Iterable[pa.RecordBatch], sink: BinaryIO) -> int:
    written = 0
    for batch in batches:
        sink.write(to_json_lines(pa.Table.from_batches([batch])))
        written += batch.num_rows
    return written


def _writer(
    sink: BinaryIO,
    schema: pa.Schema,
    format: ExportFormat,  # noqa: A002
) -> pa_csv.CSVWriter | pq.ParquetWriter:
    if format == "csv":
        return pa_csv.CSVWriter(sink, schema)
    return pq.ParquetWriter(sink, schema, compression="zstd")
