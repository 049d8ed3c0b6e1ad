"""Which windows a query can show, from its WHERE: the states of others need not be read."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from playhead.serving.sources import Span

_LOWER, _UPPER = (exp.GT, exp.GTE), (exp.LT, exp.LTE)
_TURNED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE, exp.EQ: exp.EQ,
}  # fmt: skip
_FIXED = (
    exp.Literal, exp.Cast, exp.Paren, exp.Interval, exp.Add, exp.Sub, exp.Neg, exp.DataType,
    exp.DataTypeParam, exp.Var, exp.IntervalSpan,
)  # fmt: skip
_FIRST, _LAST = Span().start, Span().end


def spans_asked(
    connection: duckdb.DuckDBPyConnection, sql: str, windows: Mapping[str, str]
) -> dict[str, Span]:
    """A stretch of event time by relation; the query shows no window that starts elsewhere.

    Args:
        connection: computes the constants of the conditions.
        sql: one SELECT, of DuckDB's dialect.
        windows: the column that holds the start of each row's window, by relation.

    Returns:
        Only relations that the query reads once, with a condition on that column.
    """
    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except (SqlglotError, RecursionError):
        return {}
    found = {}
    for name, key in windows.items():
        tables = [t for t in tree.find_all(exp.Table) if t.name.lower() == name.lower()]
        if len(tables) == 1 and (span := _span(connection, tables[0], key)) != Span():
            found[name] = span
    return found


def _span(connection: duckdb.DuckDBPyConnection, table: exp.Table, key: str) -> Span:
    """What the WHERE beside a table leaves of its windows."""
    select = table.parent.parent if isinstance(table.parent, exp.From) else None
    where = select.args.get("where") if isinstance(select, exp.Select) else None
    if select is None or where is None:
        return Span()
    joins = select.args.get("joins") or []
    if any(join.side in ("RIGHT", "FULL") for join in joins):
        return Span()
    names = {table.alias_or_name.lower()} | ({""} if not joins else set())
    start, end = _FIRST, _LAST
    for kind, column, constant in _conditions(where.this):
        if column.name.lower() != key.lower() or column.table.lower() not in names:
            continue
        if kind in (*_LOWER, exp.EQ) and _is_constant(constant, now=kind in _LOWER):
            start = max(start, _time(connection, constant) or _FIRST)
        if kind in (*_UPPER, exp.EQ) and _is_constant(constant, now=False):
            end = min(end, _after(_time(connection, constant) or _LAST))
    return Span(start, max(start, end))


def _conditions(node: exp.Expr) -> Iterator[tuple[type[exp.Expr], exp.Column, exp.Expr]]:
    """(comparison, column, other side) of those that all have to hold."""
    node = node.unnest()
    if isinstance(node, exp.And):
        yield from _conditions(node.this)
        yield from _conditions(node.expression)
    elif isinstance(node, exp.Between) and isinstance(node.this, exp.Column):
        yield exp.GTE, node.this, node.args["low"]
        yield exp.LTE, node.this, node.args["high"]
    elif type(node) in _TURNED:
        left, right = node.this.unnest(), node.expression.unnest()
        if isinstance(left, exp.Column):
            yield type(node), left, right
        if isinstance(right, exp.Column):
            yield _TURNED[type(node)], right, left


def _is_constant(node: exp.Expr, *, now: bool) -> bool:
    """Whether the query sees the value that is computed here, or (with `now`) a later one."""
    first = node if now else None
    while isinstance(first, (exp.Add, exp.Sub, exp.Paren, exp.Cast)):
        first = first.this
    return all(isinstance(n, _FIXED) or (n is first and _is_now(n)) for n in node.walk())


def _is_now(node: exp.Expr) -> bool:
    if isinstance(node, exp.Anonymous):
        return node.name.lower() == "now" and not node.expressions
    return isinstance(node, (exp.CurrentTimestamp, exp.CurrentDate))


def _time(connection: duckdb.DuckDBPyConnection, constant: exp.Expr) -> datetime | None:
    """The value of a constant; None where it is no time."""
    try:
        sql = f"SELECT CAST(({constant.sql(dialect='duckdb')}) AS TIMESTAMP)"
        row = connection.execute(sql).fetchone()
    except duckdb.Error:
        return None
    return row[0] if row and isinstance(row[0], datetime) else None


def _after(time: datetime) -> datetime:
    """The next instant."""
    return time + timedelta(microseconds=1) if time < _LAST else _LAST
