"""Data as a table that people can read: what fits the terminal, or all where there is none."""

import math
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text

__all__ = ["data_table", "left_out"]

WIDEST_CELL = 48
"""On a terminal, longer text ends with an ellipsis."""

_NULL = "NULL"
_GAP = "…"
_PADDING = 3  # a border and a space on both sides


def data_table(rows: pa.Table, *, width: int | None) -> Table:
    """The rows as a table.

    Args:
        width: columns of the terminal; in the middle, columns of the table are left out until
            the rest fits. None shows every column and every character.
    """
    on_terminal = width is not None
    columns = [_cells(column, on_terminal=on_terminal) for column in rows.columns]
    widths = [
        max([len(name), *(cell.cell_len for cell in cells)])
        for name, cells in zip(rows.column_names, columns, strict=True)
    ]
    kept = list(range(len(columns))) if width is None else fitting(widths, width)
    table = Table()
    for place in kept:
        if place is None:
            table.add_column(_GAP, no_wrap=True)
        else:
            justify: Any = "right" if _is_number(rows.schema.field(place).type) else "left"
            table.add_column(Text(rows.column_names[place]), justify=justify, no_wrap=True)
    for number in range(rows.num_rows):
        table.add_row(*(Text(_GAP) if p is None else columns[p][number] for p in kept))
    return table


def fitting(widths: list[int], width: int) -> list[int | None]:
    """Columns that fit `width` characters, from both ends; None stands for those left out."""
    if _drawn(widths) <= width:
        return list(range(len(widths)))
    head, tail = 1, 0
    while head + tail < len(widths):
        more = (head + 1, tail) if head <= tail + 1 else (head, tail + 1)
        chosen = [*widths[: more[0]], 1, *widths[len(widths) - more[1] :]]
        if _drawn(chosen) > width:
            break
        head, tail = more
    if head + tail == len(widths):
        return list(range(len(widths)))
    return [*range(head), None, *range(len(widths) - tail, len(widths))]


def left_out(shown: Table, table: pa.Table, rows: int) -> str:
    """A line that says how many rows there are, and what of them the table does not show."""
    total = f"{table.num_rows:,} row{'' if table.num_rows == 1 else 's'}"
    if rows < table.num_rows:
        total = f"the first {rows:,} of {total}"
    names = {str(column.header) for column in shown.columns}
    if _GAP in names:
        missing = [name for name in table.column_names if name not in names]
        total += f"; columns left out: {', '.join(missing)} (--format csv has everything)"
    elif rows < table.num_rows:
        total += " (--limit shows more, --format csv all)"
    return total


def _drawn(widths: list[int]) -> int:
    return sum(widths) + _PADDING * len(widths) + 1


def _cells(column: pa.ChunkedArray, *, on_terminal: bool) -> list[Text]:
    return [_cell(value, on_terminal=on_terminal) for value in column.to_pylist()]


def _cell(value: Any, *, on_terminal: bool) -> Text:
    if value is None:
        return Text(_NULL, style="dim")
    if isinstance(value, float) and on_terminal and math.isfinite(value):
        return Text(f"{value:.6g}")
    text = _printable(_plain(value))
    if on_terminal and len(text) > WIDEST_CELL:
        text = text[: WIDEST_CELL - 1] + _GAP
    return Text(text)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return _NULL if value is None else str(value)


def _printable(text: str) -> str:
    """The text with line breaks and control characters as escapes: they would break the table."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
