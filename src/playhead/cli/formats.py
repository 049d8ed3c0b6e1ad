"""A table of data on stdout, in the format that was asked for."""

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.errors import QueryError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Format", "FormatOption", "LimitOption", "write", "write_json", "write_text"]

TABLE_ROWS = 50
"""Rows that a table shows where no limit is given."""


class Format(StrEnum):
    """How data is written: for people, or for programs."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ARROW = "arrow"


FormatOption = Annotated[
    Format,
    typer.Option("--format", "-f", help="A table to read, or CSV, JSON or an Arrow IPC stream."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        help=f"Rows to write; else all, and the first {TABLE_ROWS} in a table.",
    ),
]


def write(table: "pa.Table", format: Format, *, limit: int | None = None) -> None:  # noqa: A002
    """Write a table to stdout.

    Raises:
        QueryError: Arrow's binary stream is to go to a terminal.
    """
    if format is Format.TABLE:
        _write_table(table, limit or TABLE_ROWS)
        return
    chosen = table if limit is None else table.slice(0, limit)
    if format is Format.ARROW:
        _write_arrow(chosen)
        return
    from playhead.serving.rowtext import csv_text, json_text

    _write_pieces((csv_text if format is Format.CSV else json_text)(chosen))


def write_json(value: Any) -> None:
    """Write dataclasses, mappings and sequences as indented JSON; decimals are exact numbers."""
    import msgspec

    encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_encoded)
    text = msgspec.json.format(encoder.encode(value), indent=2)
    _write_pieces([text, b"\n"])


def write_text(text: str) -> None:
    """Write text as it is."""
    _write_pieces([text.encode()])


def _encoded(value: Any) -> Any:
    """What msgspec cannot encode itself: errors by their text, mappings of any kind."""
    if isinstance(value, BaseException):
        return str(value)
    return dict(value)


def _write_pieces(pieces: Iterable[bytes | memoryview]) -> None:
    sys.stdout.flush()
    put: Callable[[bytes | memoryview], int] = sys.stdout.buffer.write
    for piece in pieces:
        put(piece)
    sys.stdout.buffer.flush()


def _write_arrow(table: "pa.Table") -> None:
    import pyarrow as pa

    if sys.stdout.isatty():
        raise QueryError(
            "an Arrow stream is no text for a terminal",
            hint="Send it to a file or a program: playhead ... --format arrow > answer.arrows",
        )
    sys.stdout.flush()
    with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as stream:
        stream.write_table(table, max_chunksize=65_536)
    sys.stdout.buffer.flush()


def _write_table(table: "pa.Table", rows: int) -> None:
    from playhead.cli.tables import data_table, left_out
    from playhead.cli.terminal import note, print_table, stdout

    console = stdout()
    shown = data_table(table.slice(0, rows), width=console.width if console.is_terminal else None)
    print_table(shown)
    note(left_out(shown, table, min(rows, table.num_rows)))
