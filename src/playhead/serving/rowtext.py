"""Rows as text, made by DuckDB: every row of a table becomes one line of CSV or JSON.

Nothing is done per row in Python: the text of a whole batch is one Arrow buffer, which is
written as it is.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count

import pyarrow as pa
from duckdb import DuckDBPyConnection
from duckdb.sqltypes import DuckDBPyType

from playhead.engines import connect

__all__ = ["csv_text", "json_text"]

_BATCH_ROWS = 20_000
_RELATION = "rows"


def csv_text(table: pa.Table, *, text: bool = False) -> Iterator[memoryview]:
    """A header and the rows (RFC 4180 quoting, lines end with a line feed), piece by piece.

    NULL is an empty field and an empty string is `""`; dates and times are ISO 8601, decimals
    exact, nested values JSON.

    Args:
        text: as for JSON, within nested values.
    """
    manner = _Manner(text)
    names = ",".join(_quoted_name(name) for name in table.column_names)
    yield memoryview(f"{names}\n".encode())
    null = '""' if table.num_columns == 1 else ""

    def line(columns: Sequence[tuple[str, DuckDBPyType]]) -> str:
        fields = (f"coalesce({_csv_field(sql, kind, manner)}, '{null}')" for sql, kind in columns)
        return " || ',' || ".join(fields) + " || chr(10)"

    yield from _texts(table, line)


def json_text(table: pa.Table, *, text: bool = False) -> Iterator[memoryview]:
    """A JSON array with an object a row, piece by piece.

    Decimals and integers are numbers with all their digits, dates and times ISO 8601 strings,
    structs objects, lists arrays; a number that is none (NaN, infinity) is null.

    Args:
        text: DECIMALs and integers of 64 bits or more are strings, in nested values too.
    """
    manner = _Manner(text)

    def line(columns: Sequence[tuple[str, DuckDBPyType]]) -> str:
        members = [
            (name, _json_value(sql, kind, manner))
            for name, (sql, kind) in zip(table.column_names, columns, strict=True)
        ]
        return f"',' || chr(10) || {_json_object(members)}"

    opening = memoryview(b"[")
    for piece in _texts(table, line):
        yield opening
        # Every row begins with a comma; the first has nothing before it.
        yield piece[1:] if opening else piece
        opening = memoryview(b"")
    yield memoryview(b"[]\n" if opening else b"\n]\n")


def _texts(
    table: pa.Table, line: Callable[[Sequence[tuple[str, DuckDBPyType]]], str]
) -> Iterator[memoryview]:
    """The rows' text, in the table's order.

    Args:
        line: SQL of a row's text, given SQL and type of each column.
    """
    with _session().cursor() as connection:
        columns = _register(connection, table)
        reader = connection.execute(f"SELECT {line(columns)} FROM {_RELATION}").to_arrow_reader(
            _BATCH_ROWS
        )
        for batch in reader:
            yield from _buffer(batch.column(0))


@cache
def _session() -> DuckDBPyConnection:
    """One for all texts of this process: opening one costs more than a page of rows."""
    return connect()


def _register(connection: DuckDBPyConnection, table: pa.Table) -> list[tuple[str, DuckDBPyType]]:
    # By number, as a query may give two columns one name.
    names = [f"c{number}" for number in range(table.num_columns)]
    connection.register(_RELATION, table.rename_columns(names))
    return list(zip(names, connection.table(_RELATION).types, strict=True))


def _buffer(texts: pa.StringArray) -> Iterator[memoryview]:
    """The bytes of all texts, one after the other, without a copy."""
    if not len(texts):
        return
    _, offsets, data = texts.buffers()
    positions = memoryview(offsets).cast("i")
    start, end = positions[texts.offset], positions[texts.offset + len(texts)]
    yield memoryview(data)[start:end]


# -- CSV ---------------------------------------------------------------------------------


def _quoted_name(name: str) -> str:
    if name and not any(character in name for character in ',"\r\n'):
        return name
    return '"' + name.replace('"', '""') + '"'


def _csv_field(sql: str, kind: DuckDBPyType, manner: "_Manner") -> str:
    if kind.id in _NESTED:
        return _csv_quoted(f"CASE WHEN {sql} IS NOT NULL THEN {_json_value(sql, kind, manner)} END")
    if kind.id in _PLAIN or _is_time(kind):
        return _text(sql, kind)
    return _csv_quoted(_text(sql, kind))


def _csv_quoted(text: str) -> str:
    special = " OR ".join(f"contains({text}, {c})" for c in ("'\"'", "','", "chr(10)", "chr(13)"))
    return (
        f"CASE WHEN {text} = '' OR {special} "
        f"THEN '\"' || replace({text}, '\"', '\"\"') || '\"' ELSE {text} END"
    )


# -- JSON --------------------------------------------------------------------------------


class _Manner:
    """How values are written.

    Attributes:
        text: numbers that doubles may not hold are strings.
        numbers: for names of lambda parameters, each used once.
    """

    def __init__(self, text: bool) -> None:
        self.text = text
        self.numbers = count()


def _json_value(sql: str, kind: DuckDBPyType, manner: _Manner) -> str:
    """SQL of the value as JSON text, never NULL."""
    if kind.id == "struct":
        members = [
            (name, _json_value(f"struct_extract({sql}, {_literal(name)})", child, manner))
            for name, child in _children(kind).items()
        ]
        made = _json_object(members)
    elif kind.id in ("list", "array"):
        made = _json_list(sql, _children(kind)["child"], manner)
    elif kind.id == "map":
        made = _json_map(sql, _children(kind)["value"], manner)
    elif kind.id in _FLOATS:
        made = f"CASE WHEN isfinite({sql}) THEN {_text(sql, kind)} END"
    elif kind.id in _WIDE and manner.text:
        made = f"'\"' || {_text(sql, kind)} || '\"'"
    elif kind.id in _PLAIN:
        made = _text(sql, kind)
    else:
        made = f"CAST(to_json({_text(sql, kind)}) AS VARCHAR)"
    return f"CASE WHEN {sql} IS NULL THEN 'null' ELSE coalesce({made}, 'null') END"


def _json_object(members: Sequence[tuple[str, str]]) -> str:
    parts = (
        f"{_literal(json.dumps(name, ensure_ascii=False) + ':')} || {value}"
        for name, value in members
    )
    return "'{' || " + " || ',' || ".join(parts) + " || '}'"


def _json_list(sql: str, child: DuckDBPyType, manner: _Manner) -> str:
    item = f"item{next(manner.numbers)}"
    made = _json_value(item, child, manner)
    return f"'[' || array_to_string(list_transform({sql}, lambda {item}: {made}), ',') || ']'"


def _json_map(sql: str, child: DuckDBPyType, manner: _Manner) -> str:
    entry = f"entry{next(manner.numbers)}"
    made = _json_value(f"{entry}.value", child, manner)
    member = f"CAST(to_json(CAST({entry}.key AS VARCHAR)) AS VARCHAR) || ':' || {made}"
    entries = f"list_transform(map_entries({sql}), lambda {entry}: {member})"
    return f"'{{' || array_to_string({entries}, ',') || '}}'"


# -- values ------------------------------------------------------------------------------

_NESTED = {"struct", "list", "array", "map"}
_FLOATS = {"float", "double"}
_WIDE = {"bigint", "hugeint", "ubigint", "uhugeint", "decimal"}
_PLAIN = {
    *_FLOATS, *_WIDE, "boolean",
    "tinyint", "smallint", "integer", "utinyint", "usmallint", "uinteger",
}  # fmt: skip
"""Types whose text is a number or a boolean in JSON, and needs no quotes in CSV."""


def _children(kind: DuckDBPyType) -> dict[str, DuckDBPyType]:
    """The types inside a nested type, by name; an array's length is not one."""
    return {name: child for name, child in kind.children if isinstance(child, DuckDBPyType)}


def _is_time(kind: DuckDBPyType) -> bool:
    return str(kind.id).startswith(("date", "time"))


def _text(sql: str, kind: DuckDBPyType) -> str:
    """SQL of the value as text: ISO 8601 for times, with Z for those in UTC."""
    text = f"CAST({sql} AS VARCHAR)"
    if kind.id == "decimal" and dict(kind.children)["precision"] == dict(kind.children)["scale"]:
        # DuckDB leaves out the zero before the point, which JSON wants.
        text = f"CASE WHEN {sql} < 0 THEN '-0' || substr({text}, 2) ELSE '0' || {text} END"
    if str(kind.id).startswith("timestamp"):
        text = f"replace({text}, ' ', 'T')"
        if "zone" in str(kind.id):
            text = f"replace({text}, '+00', 'Z')"
    return text


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
