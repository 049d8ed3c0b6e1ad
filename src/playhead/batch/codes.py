"""Small numbers for the values of expressions, so that combinations of them can be counted off.

Numbers and days are coded by their distance from the least one; what a dimension gives by its
place in a list that the dimension's rows carry along, at no cost for an event; what is computed
from one such column by a list of that column's values, of which it is computed once; anything
else by its place in a list of the values found, with a join. DuckDB makes the lists, and so
decides which values are equal.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import sqlglot
from sqlglot import exp

from playhead.batch.widening import Widening
from playhead.views.binder import quote
from playhead.views.leaf import Part
from playhead.views.rows import Lookup

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Code", "DimensionCodes", "EventCodes"]

MAX_RANGE = 1 << 20
"""Numbers and days have codes by distance if that is never larger."""

ROWS_PER_VALUE = 4
"""Other values have codes if there are this many rows for each of them."""

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


@dataclass(frozen=True)
class Code:
    """The numbers of an expression's values.

    Attributes:
        sql: a number that a row has, an INTEGER from 0 on.
        values: (n,) the expression's values, each once; the first is NULL.
        of: (m,) the place among `values` for each number; None where number and place are one.
    """

    sql: str
    values: pa.Array
    of: "npt.NDArray[np.int32] | None" = None

    @property
    def places(self) -> "npt.NDArray[np.int32]":
        """(m,) the place among `values` for each number."""
        return np.arange(len(self.values), dtype=np.int32) if self.of is None else self.of


class DimensionCodes:
    """Numbers carried by the rows of dimensions, which stand in the session under their names.

    Args:
        widening: what joins the dimensions to events.
        scans: by dimension, the relation that it is.
        expressions: SQL over the widened events; those that are plainly a column of a dimension,
            or the event's key of one, get numbers.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        widening: Widening,
        scans: Mapping[str, str],
        expressions: Collection[str],
    ) -> None:
        self._con = con
        self._names = tuple(sorted({lookup.dimension for lookup in widening.lookups}))
        self.columns: dict[str, tuple[str, ...]] = {}
        self.codes: dict[str, Code] = {}
        self.keys: dict[str, Lookup] = {}
        lists: dict[tuple[str, str], pa.Array] = {}
        for name in self._names:
            lookups = [lookup for lookup in widening.lookups if lookup.dimension == name]
            wanted = sorted({c for k in lookups for c in _numbered(k, expressions)})
            kept = {c for k in lookups for c in (*k.columns, *(key for _, key in k.on))}
            self._define(name, scans[name], sorted(kept), wanted, lists)
            for lookup in lookups:
                self._take(lookup, expressions, lists)

    def _define(
        self,
        name: str,
        scan: str,
        kept: Sequence[str],
        wanted: Sequence[str],
        lists: dict[tuple[str, str], pa.Array],
    ) -> None:
        """Make a dimension readable under its name, with the numbers of some of its columns."""
        if not wanted:
            self._con.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS FROM {scan}")
            return
        items = ", ".join(
            f"CASE WHEN {quote(c)} IS NOT NULL THEN CAST(dense_rank() OVER "
            f"(ORDER BY {quote(c)} NULLS LAST) AS INTEGER) END AS {quote(_number(c))}"
            for c in wanted
        )
        self._con.execute(
            f"CREATE OR REPLACE TEMP TABLE {quote(name)} AS "
            f"SELECT {', '.join(map(quote, kept))}, {items} FROM {scan}"
        )
        self.columns[name] = tuple(_number(c) for c in wanted)
        for c in wanted:
            query = (
                f"SELECT any_value({quote(c)}) FROM {quote(name)} WHERE {quote(c)} IS NOT NULL "
                f"GROUP BY {quote(_number(c))} ORDER BY {quote(_number(c))}"
            )
            lists[name, c] = _with_null(self._con.execute(query).to_arrow_table().column(0))

    def _take(
        self,
        lookup: Lookup,
        expressions: Collection[str],
        lists: Mapping[tuple[str, str], pa.Array],
    ) -> None:
        """Note which expressions a lookup gives the numbers of."""
        for column in _numbered(lookup, expressions):
            code = Code(
                f"coalesce({quote(lookup.wide(_number(column)))}, 0)",
                lists[lookup.dimension, column],
            )
            if wide := _named(lookup.wide(column), expressions):
                self.codes[wide] = code
            if (key := _key(lookup, expressions)) and lookup.on[0][1] == column:
                self.codes[key] = code
                self.keys[key] = lookup

    def spared(self, parts: Iterable[Part]) -> dict[str, str]:
        """Events' keys that no part reads where the dimension knows them, with that condition.

        Their numbers say enough: to hold each event's own text costs as much as a join.
        """
        read: set[str] = set()
        for part in parts:
            others = [sql for _, sql in part.keys if sql not in self.keys]
            for sql in (*others, part.where) if part.is_set else (part.sql,):
                read |= _columns(sql)
        return {
            lookup.on[0][0]: quote(lookup.found)
            for key, lookup in self.keys.items()
            if key not in read and quote(key) not in read
        }

    def close(self) -> None:
        """Forget the dimensions."""
        for name in self._names:
            kind = "TABLE" if name in self.columns else "VIEW"
            self._con.execute(f"DROP {kind} IF EXISTS {quote(name)}")


def _number(column: str) -> str:
    return f"{column}__number"


def _named(column: str, expressions: Collection[str]) -> str | None:
    """The expression that is this column of the widened events and no more, if there is one."""
    return next((sql for sql in (column, quote(column)) if sql in expressions), None)


def _key(lookup: Lookup, expressions: Collection[str]) -> str | None:
    """The expression that is the event's key of a lookup by one key."""
    return _named(lookup.on[0][0], expressions) if len(lookup.on) == 1 else None


def _numbered(lookup: Lookup, expressions: Collection[str]) -> list[str]:
    """The dimension's columns that expressions ask of a lookup."""
    found = {column for column in lookup.columns if _named(lookup.wide(column), expressions)}
    if _key(lookup, expressions):
        found.add(lookup.on[0][1])
    return sorted(found)


class EventCodes:
    """Codes of expressions over the widened events, with what the session holds for them.

    Args:
        relation: the table of widened events.
        dimensions: the numbers that it has from dimensions.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, relation: str, dimensions: DimensionCodes
    ) -> None:
        self._con = con
        self._relation = relation
        self._dimensions = dimensions
        self._lists: list[str] = []
        self.joins = ""

    def of(self, expressions: Collection[str]) -> dict[str, Code]:
        """The codes of those expressions that have few enough values."""
        known = self._dimensions.codes
        found = {sql: self._completed(sql, known[sql]) for sql in expressions if sql in known}
        bases = {sql: _only_column(sql) for sql in sorted(set(expressions) - set(found))}
        ranged = self._ranges({base or sql for sql, base in bases.items()})
        for sql, base in bases.items():
            if base and base in ranged:
                found[sql] = self._computed(sql, base, ranged[base])
            elif code := ranged.get(sql) or self._listed(sql):
                found[sql] = code
        return found

    def _ranges(self, expressions: Collection[str]) -> dict[str, Code]:
        """Codes of numbers and days that are close enough together."""
        names = {sql: f"x{i}" for i, sql in enumerate(sorted(expressions))}
        if not names:
            return {}
        rows = (
            f"(SELECT {', '.join(f'{x} AS {n}' for x, n in names.items())} FROM {self._relation})"
        )
        types = {name: kind for name, kind, *_ in self._rows(f"DESCRIBE FROM {rows}")}
        extents = ", ".join(_extent(name, types[name]) for name in names.values())
        (told,) = self._rows(f"SELECT {extents} FROM {rows}")
        made = {
            sql: _ranged(sql, types[name], extent)
            for (sql, name), extent in zip(names.items(), told, strict=True)
        }
        return {sql: code for sql, code in made.items() if code is not None}

    def _computed(self, sql: str, column: str, code: Code) -> Code:
        """The code of what is computed from one column, by the column's values."""
        if sql == column:
            return code
        relation = "batch_column"
        self._con.register(relation, pa.table({"x": code.values}))
        try:
            ranked = self._con.execute(
                f"SELECT y, CASE WHEN y IS NULL THEN 0 "
                f"ELSE dense_rank() OVER (ORDER BY y NULLS LAST) END AS place "
                f"FROM (SELECT {sql} AS y, row_number() OVER () AS i "
                f"FROM (SELECT x AS {column} FROM {relation})) ORDER BY i"
            ).to_arrow_table()
        finally:
            self._con.unregister(relation)
        places = ranked.column("place").to_numpy().astype(np.int32)
        known, firsts = np.unique(places, return_index=True)
        values = ranked.column("y").take(firsts[known > 0])
        return Code(code.sql, _with_null(values), places)

    def _completed(self, sql: str, code: Code) -> Code:
        """The code of an event's key, with the keys that the dimension does not know."""
        if (lookup := self._dimensions.keys.get(sql)) is None:
            return code
        stray = f"CASE WHEN NOT {quote(lookup.found)} THEN {sql} END"
        unknown, number = self._list(stray, after=len(code.values) - 1)
        if not len(unknown):
            return code
        carried = quote(lookup.wide(_number(lookup.on[0][1])))
        values = pa.concat_arrays([code.values, unknown.cast(code.values.type)])
        return Code(f"coalesce({carried}, {number}, 0)", values)

    def _listed(self, sql: str) -> Code | None:
        """A code by a list of the values."""
        counts = f"SELECT approx_count_distinct({sql}), count(*) FROM {self._relation}"
        ((values, rows),) = self._rows(counts)
        if values * ROWS_PER_VALUE > rows:
            return None
        listed, number = self._list(sql)
        return Code(f"coalesce({number}, 0)", _with_null(listed))

    def _list(self, sql: str, after: int = 0) -> tuple[pa.Array, str]:
        """The values of an expression in order, and the column of their numbers once joined."""
        table, value, number = (f"batch_{x}_{len(self._lists)}" for x in ("list", "value", "code"))
        self._lists.append(table)
        self._con.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {value}, "
            f"CAST({after} + row_number() OVER (ORDER BY {value}) AS INTEGER) AS {number} "
            f"FROM (SELECT DISTINCT {sql} AS {value} FROM {self._relation}) "
            f"WHERE {value} IS NOT NULL"
        )
        query = f"SELECT {value} FROM {table} ORDER BY {number}"
        values = self._con.execute(query).to_arrow_table().column(0).combine_chunks()
        if not len(values):
            return values, "NULL"
        self.joins += f" LEFT JOIN {table} ON ({sql}) = {value}"
        return values, number

    def close(self) -> None:
        """Drop the lists."""
        for table in self._lists:
            self._con.execute(f"DROP TABLE IF EXISTS {table}")

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._con.execute(query).fetchall()


def _only_column(sql: str) -> str | None:
    """The one column that an expression is computed from."""
    columns = _columns(sql)
    return columns.pop() if len(columns) == 1 else None


def _columns(sql: str | None) -> set[str]:
    """The columns that some SQL reads, as it writes them."""
    if sql is None:
        return set()
    found = sqlglot.parse_one(sql, dialect="duckdb").find_all(exp.Column)
    return {column.sql(dialect="duckdb") for column in found}


def _ranged(sql: str, kind: str, extent: Mapping[str, Any] | None) -> Code | None:
    """A code by the distance from the least value."""
    if extent is None or extent["low"] is None or extent["odd"]:
        return None
    low, high = extent["low"], extent["high"]
    if high - low >= MAX_RANGE:
        return None
    values = pa.array(range(low, high + 1), pa.int64())
    if kind == "DATE":
        values = values.cast(pa.int32()).cast(pa.date32())
    number = f"CAST({_distance(f'({sql})', kind)} - ({low}) + 1 AS INTEGER)"
    return Code(f"coalesce({number}, 0)", _with_null(values))


def _with_null(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    return pa.concat_arrays([pa.nulls(1, values.type), *chunks])


def _extent(name: str, kind: str) -> str:
    """SQL of the least and the greatest number of a column, and whether one is out of range."""
    if kind not in (*_NUMBERS, "DATE"):
        return "NULL"
    number = _distance(name, kind)
    # Infinite days have no distance.
    odd = f"coalesce(NOT bool_and(isfinite({name})), false)" if kind == "DATE" else "false"
    return f"{{'low': min({number}), 'high': max({number}), 'odd': {odd}}}"


def _distance(sql: str, kind: str) -> str:
    if kind == "DATE":
        return f"datediff('day', DATE '1970-01-01', {sql})"
    return f"CAST({sql} AS BIGINT)"
