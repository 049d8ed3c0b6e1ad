"""Tables for people: columns with units, sorted and searched in the browser."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

import pyarrow as pa
from nicegui import ui

from playhead.dashboard.drawing.parts import Unit

__all__ = ["Column", "as_table", "cell", "columns_of", "data_table", "table_rows"]

ROWS_SHOWN = 500
_MOST_UNSEARCHED = 10
_OPEN = "open"
_OPEN_SLOT = """
<q-td :props="props"><q-btn flat dense round size="sm" icon="open_in_full" aria-label="Show more"
@click="$parent.$emit('open', props.row)" /></q-td>
"""
_HEAD_SLOT = """
<q-th :props="props">{{ props.col.label }}<q-tooltip v-if="props.col.about" class="tip">{{
props.col.about }}</q-tooltip></q-th>
"""
_SEARCH = """(rows, terms, cols, value) => rows.filter(row => cols.some(col =>
[value(col, row), col.note ? row[col.note] : ''].some(text =>
String(text).toLowerCase().includes(String(terms).toLowerCase()))))"""
_LINK_SLOT = """
<q-td :props="props"><a v-if="props.col.link" :href="props.row[props.col.link]">{{ props.value
}}</a><template v-else>{{ props.value }}</template><div v-if="props.col.note" class="hint">{{
props.row[props.col.note] }}</div></q-td>
"""


@dataclass(frozen=True)
class Column:
    """A column of a table as people read it.

    Attributes:
        name: of the rows' member.
        label: its heading; empty: the name.
        unit: of its numbers; None: it is text.
        about: what it means, shown on its heading.
        link: the rows' member with the address that its text leads to; empty: to none.
        note: the rows' member that is shown below its text in small print; empty: none.
        is_whole: its text is short and stays on one line, as numbers do.
    """

    name: str
    label: str = ""
    unit: Unit | None = None
    about: str = ""
    link: str = ""
    note: str = ""
    is_whole: bool = False


def data_table(
    rows: list[dict[str, Any]],
    columns: Sequence[Column],
    rows_shown: int,
    *,
    searched: bool = True,
    on_open: Callable[[dict[str, Any]], Any] | None = None,
) -> ui.table:
    """A table whose rows are JSON already; each row has an "id".

    Args:
        on_open: told the row that someone wants to know more of; it then has a button for that.
    """
    search = None
    if searched and len(rows) > min(rows_shown, _MOST_UNSEARCHED):
        search = (
            ui.input(placeholder="Search")
            .props('dense outlined clearable aria-label="Search the table"')
            .classes("search")
        )
    shown = [_quasar(column) for column in columns]
    if on_open is not None:
        shown.append({"name": _OPEN, "label": "", "field": "id", "align": "right"})
    table = (
        ui.table(
            rows=rows,
            columns=shown,
            row_key="id",
            pagination={"rowsPerPage": rows_shown},
        )
        .props("flat dense wrap-cells")
        .classes("data")
    )
    table.add_slot("header-cell", _HEAD_SLOT)
    for column in columns:
        if column.link or column.note:
            table.add_slot(f"body-cell-{column.name}", _LINK_SLOT)
    if on_open is not None:
        table.add_slot(f"body-cell-{_OPEN}", _OPEN_SLOT)
        table.on(_OPEN, lambda event: on_open(event.args))
    if search is not None:
        table._props[":filter-method"] = _SEARCH
        search.bind_value_to(table, "filter")
    if len(rows) <= rows_shown:
        table.props("hide-pagination")
    return table


def table_rows(table: pa.Table, most: int = ROWS_SHOWN) -> list[dict[str, Any]]:
    """The first rows of a table as JSON for `data_table`."""
    rows = table.slice(0, most).to_pylist()
    return [{"id": n} | {k: cell(v) for k, v in row.items()} for n, row in enumerate(rows)]


def columns_of(table: pa.Table) -> list[Column]:
    """All columns of a table."""
    return [
        Column(field.name, field.name, Unit("", 6) if _is_number(field.type) else None)
        for field in table.schema
    ]


def as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> pa.Table:
    """The rows of `data_table` as a table with those columns, for a file of them."""
    names = [name for column in columns for name in (column.name, column.note) if name]
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])


def cell(value: Any) -> Any:
    """A value as a table's cell shows it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, (Decimal, int)):
        # Beyond 15 digits a browser's numbers are others.
        digits = sum(sign.isdigit() for sign in str(value))
        return str(value) if digits > 15 else float(value) if value % 1 else int(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, date) else str(value)


def _quasar(column: Column) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": column.name,
        "label": column.label or column.name,
        "field": column.name,
        "sortable": True,
        "align": "left",
        "about": column.about,
        "link": column.link,
        "note": column.note,
    }
    if column.is_whole or column.unit is not None:
        told["classes"] = "whole"
    if column.unit is not None:
        script = column.unit.script.replace("Number(v)", "(Number(v) * 100)", 1)
        told["align"] = "right"
        script = script if column.unit.is_share else column.unit.script
        told[":format"] = f"v => typeof v === 'string' ? v : ({script})(v)"
    return told


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind)
    )
