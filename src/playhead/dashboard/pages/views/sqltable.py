"""Answers as tables of people's browsers, whatever their columns are called.

Names of columns come with views and with queries: rows name them by their place, so that no name
can mean anything to the page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from playhead.dashboard.drawing.parts import Unit
from playhead.dashboard.drawing.tables import Column, cell
from playhead.dashboard.questions import Reply

__all__ = ["MOST_SHOWN", "answer_columns", "answer_rows", "grid_columns", "grid_rows"]

MOST_SHOWN = 1_000


def grid_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """The first rows of a reply's table."""
    table = replies[0].table
    assert table is not None  # noqa: S101 - a card draws only what is there
    return answer_rows(table)


def answer_rows(table: pa.Table, most: int = MOST_SHOWN) -> list[dict[str, Any]]:
    """The first rows of any table, as JSON."""
    columns = [_values(column) for column in table.slice(0, most).columns]
    names = [f"c{place}" for place in range(len(columns))]
    if not columns:
        return []
    return [
        {"id": number} | dict(zip(names, row, strict=True))
        for number, row in enumerate(zip(*columns, strict=True))
    ]


def grid_columns(
    units: Mapping[str, Unit | None], about: Mapping[str, str] | None = None
) -> list[Column]:
    """Columns by name, with their units, for rows of `answer_rows`."""
    told = about or {}
    return [
        Column(f"c{place}", name, unit, told.get(name, ""))
        for place, (name, unit) in enumerate(units.items())
    ]


def answer_columns(table: pa.Table) -> list[Column]:
    """All columns of any table, for rows of `answer_rows`."""
    return [
        Column(
            f"c{place}", field.name, Unit("", 6) if is_number(field.type) else None, str(field.type)
        )
        for place, field in enumerate(table.schema)
    ]


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind)
    )


def is_time(kind: pa.DataType) -> bool:
    """Whether values of a type are days or moments."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return [cell(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, ArithmeticError):
        # Times that Python does not know: nanoseconds, years beyond 9999.
        return _texts(column)


def _texts(column: pa.ChunkedArray) -> list[Any]:
    try:
        texts: list[Any] = pc.cast(column, pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return ["(cannot be shown)"] * len(column)
    return texts
