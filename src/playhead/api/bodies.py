"""An answer as the body of a response, piece by piece: JSON, CSV or an Arrow stream."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec
import pyarrow as pa

from playhead.serving.rowtext import csv_text, json_text

__all__ = ["MEDIA_TYPES", "Format", "body"]

_ARROW_ROWS = 65_536


class Format(StrEnum):
    """How rows are written."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


class _Sink:
    """A file that is read by the pieces that were written into it."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing waits: a piece is there as soon as it was written."""

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def body(
    table: pa.Table, kind: Format, told: Mapping[str, Any], *, text: bool = False
) -> Iterator[bytes | memoryview]:
    """The rows of a table.

    Args:
        told: members of the JSON object before its "rows"; CSV and Arrow have no place for them.
        text: DECIMALs and 64-bit integers as text, for readers whose numbers are doubles.
    """
    if kind is Format.ARROW:
        return _arrow(table)
    if kind is Format.CSV:
        return csv_text(table, text=text)
    return _json(table, told, text=text)


def _json(table: pa.Table, told: Mapping[str, Any], *, text: bool) -> Iterator[bytes | memoryview]:
    opening = msgspec.json.encode(dict(told))[:-1]
    yield opening + (b"," if told else b"") + b'"rows":'
    yield from json_text(table, text=text)
    yield b"}\n"


def _arrow(table: pa.Table) -> Iterator[bytes | memoryview]:
    sink = _Sink()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=_ARROW_ROWS):
            stream.write_batch(batch)
            yield sink.take()
    yield sink.take()
