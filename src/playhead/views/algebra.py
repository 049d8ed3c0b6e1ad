"""The aggregate algebra: how each aggregate becomes exact partial states that merge.

An aggregate is rewritten to a few components, each with a partial expression over events and
a merge over its own column, and a result over the components. `full` is the result over the
partial expressions, `final` the result over the merged columns: one formula serves both.

| aggregate | components | result |
|---|---|---|
| COUNT | count (add) | count |
| SUM | sum (add) | sum |
| AVG | sum, count (add) | sum / count |
| MIN, MAX, BOOL_OR, BOOL_AND | itself | itself |
| VAR, STDDEV of exact numbers | count, sum, sum of squares (add) | (n*q - s*s) / (n*(n-1)) |
| ARG_MAX(x, y) | greatest (y, x) with neither NULL | its x |
| COUNT(DISTINCT x) | the values themselves, one tagged row each | their number |
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import sqlglot
from sqlglot import exp

from playhead.errors import NotMergeableError
from playhead.views.functions import ABOVE_ONLY, function_name, refuse, refuse_function
from playhead.views.kinds import FLOATS, WIDE_INTEGERS, TypeOf, is_exact, scale_of

Merge = Literal["sum", "min", "max", "or", "and"]


@dataclass(frozen=True)
class Component:
    """One exact, mergeable part of an aggregate.

    `partials` are SQL aggregate expressions over events, one for each of the component's
    columns (two for ARG_MAX and ARG_MIN: the ordering value, then the value); `suffixes`
    name those columns.
    """

    suffixes: tuple[str, ...]
    partials: tuple[str, ...]
    merge: Merge

    def merged(self, columns: tuple[str, ...], types: tuple[str, ...]) -> tuple[str, ...]:
        """SQL that merges the component's state columns, each of its recorded type."""
        if len(columns) == 2:
            best = f"{self.merge.upper()}({best_of(columns[0], columns[1])})"
            return (f"({best}).y", f"({best}).x")
        call = {"sum": "SUM", "min": "MIN", "max": "MAX", "or": "BOOL_OR", "and": "BOOL_AND"}
        merged = f"{call[self.merge]}({columns[0]})"
        if self.merge == "sum":
            merged = f"CAST({merged} AS {types[0]})"
        return (f"COALESCE({merged}, 0)" if self.suffixes == ("count",) else merged,)


@dataclass(frozen=True)
class Aggregate:
    """An aggregate as components, and its result as SQL over their columns.

    `distinct` holds the SQL of the counted value for COUNT(DISTINCT value), else None.
    """

    components: tuple[Component, ...]
    result: Callable[[tuple[str, ...]], str]
    distinct: str | None = None


def of_one_row(partial: str) -> str:
    """A partial expression's value over a single row, as an expression over that row."""

    def one(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Count):
            value = node.this
            if isinstance(value, exp.Star):
                return exp.cast(exp.Literal.number(1), "BIGINT")
            known = exp.Not(this=exp.Is(this=exp.paren(value.copy()), expression=exp.null()))
            return exp.cast(known, "BIGINT")
        return exp.paren(node.this.copy()) if isinstance(node, exp.AggFunc) else node

    return sqlglot.parse_one(partial, dialect="duckdb").transform(one).sql(dialect="duckdb")


def best_of(order: str, value: str) -> str:
    """A struct that compares by `order`, then by `value`; NULL unless both are there."""
    return (
        f"CASE WHEN {is_known(order)} AND {is_known(value)} THEN {{'y': {order}, 'x': {value}}} END"
    )


def is_known(sql: str) -> str:
    """The condition that an expression is not NULL."""
    operand = sql if re.fullmatch(r'[\w."]+', sql) else f"({sql})"
    return f"{operand} IS NOT NULL"


def ratio(numerator: str, denominator: str) -> str:
    """Division as every engine must do it: in DOUBLE, and NULL where the divisor is zero."""
    return f"CAST({numerator} AS DOUBLE) / NULLIF(CAST({denominator} AS DOUBLE), 0)"


def normal(sql: str, kind: str) -> str:
    """`sql` with one representation for each value: -0.0 becomes 0.0."""
    plain = kind not in FLOATS or re.fullmatch(r'\([\w."]+ \+ 0\)', sql)
    return sql if plain else f"({sql} + 0)"


def split_filter(node: exp.Expr) -> tuple[exp.Expr, exp.Expr | None]:
    """The bare aggregate and its FILTER condition, if it has one."""
    if isinstance(node, exp.Filter):
        return node.this, node.expression.this
    return node, None


def analyse(node: exp.Expr, type_of: TypeOf) -> Aggregate:
    """The components of one aggregate call, FILTER included.

    Args:
        node: the call, with its columns already those of the flat topic.
        type_of: DuckDB type of an expression over the same columns.

    Raises:
        NotMergeableError: it has no exact mergeable state.
    """
    call, condition = split_filter(node)
    if isinstance(call, exp.Count):
        return _count(call, condition, type_of)
    if isinstance(call, exp.CountIf):
        both = exp.and_(call.this, condition) if condition else call.this
        return _simple("count", f"COUNT(CASE WHEN {_sql(both)} THEN 1 END)", "sum")
    if isinstance(call, (exp.ArgMax, exp.ArgMin)):
        return _arg_best(call, condition, type_of)
    handler = _BY_ONE_ARGUMENT.get(type(call))
    if handler is None:
        raise refuse_function(call)
    argument = call.this.expressions[0] if isinstance(call.this, exp.Distinct) else call.this
    return handler(call, argument, _when(condition, _sql(argument)), type_of)


def _sql(node: exp.Expr) -> str:
    return node.sql(dialect="duckdb")


def shown(node: exp.Expr) -> str:
    """SQL for a message, in the user's words: without what the compiler wrote into it."""

    def plain(part: exp.Expr) -> exp.Expr:
        inner = part.unnest()
        if isinstance(inner, exp.Add) and inner.expression == exp.Literal.number(0):
            value: exp.Expr = inner.this.copy()
            return value
        if isinstance(part, exp.Column):
            part.set("table", None)
        return part

    return _sql(node.copy().transform(plain).unnest())


def _when(condition: exp.Expr | None, value: str) -> str:
    return value if condition is None else f"CASE WHEN {_sql(condition)} THEN {value} END"


def _simple(suffix: str, partial: str, merge: Merge) -> Aggregate:
    return Aggregate((Component((suffix,), (partial,), merge),), lambda columns: columns[0])


def _count(call: exp.Count, condition: exp.Expr | None, type_of: TypeOf) -> Aggregate:
    argument = call.this
    if isinstance(argument, exp.Distinct):
        value = argument.expressions[0]
        counted = normal(_when(condition, _sql(value)), type_of(value))
        return Aggregate((), lambda columns: columns[0], distinct=counted)
    if argument is None or isinstance(argument, exp.Star):
        return _simple("count", _count_of(_when(condition, "1") if condition else "*"), "sum")
    return _simple("count", _count_of(_when(condition, _sql(argument))), "sum")


def _count_of(argument: str) -> str:
    return f"COUNT({argument})"


def _exact(call: exp.Expr, argument: exp.Expr, type_of: TypeOf) -> str:
    """The type of a summed argument, which has to be exact."""
    kind = type_of(argument)
    if kind == "BOOLEAN" or is_exact(kind):
        return kind
    name, text = function_name(call).upper(), shown(argument)
    if kind in FLOATS:
        raise refuse(
            call,
            f"{name} of a {kind}",
            "floating-point sums depend on the order of the rows",
            f"{name}(CAST({text} AS DECIMAL(18, 6)))",
        )
    raise refuse(call, f"{name} of {kind}", "it is no number", "COUNT, MIN or MAX")


def exact_sum(value: str, kind: str) -> tuple[str, str]:
    """SQL of an exact sum in its state's type, and the type that a reader sees.

    Sums of 64-bit integers are carried in DECIMAL(38, 0), so that a part cannot overflow
    where the whole does not.
    """
    if kind.startswith("DECIMAL"):
        scale = kind.rstrip(")").split(",")[1].strip()
        return f"CAST(SUM({value}) AS DECIMAL(38, {scale}))", f"DECIMAL(38, {scale})"
    if kind in WIDE_INTEGERS:
        return f"CAST(SUM({value}) AS DECIMAL(38, 0))", "BIGINT"
    number = f"CAST({value} AS INTEGER)" if kind == "BOOLEAN" else value
    return f"CAST(SUM({number}) AS BIGINT)", "BIGINT"


def _sum(call: exp.Expr, argument: exp.Expr, value: str, type_of: TypeOf) -> Aggregate:
    kind = _exact(call, argument, type_of)
    partial, shown = exact_sum(value, kind)
    component = Component(("sum",), (partial,), "sum")
    if kind in WIDE_INTEGERS:
        return Aggregate((component,), lambda columns: f"CAST({columns[0]} AS {shown})")
    return Aggregate((component,), lambda columns: columns[0])


def _average(call: exp.Expr, argument: exp.Expr, value: str, type_of: TypeOf) -> Aggregate:
    partial, _ = exact_sum(value, _exact(call, argument, type_of))
    parts = (
        Component(("sum",), (partial,), "sum"),
        Component(("count",), (_count_of(value),), "sum"),
    )
    return Aggregate(parts, lambda columns: ratio(columns[0], columns[1]))


def _spread(call: exp.Expr, argument: exp.Expr, value: str, type_of: TypeOf) -> Aggregate:
    """Variance and standard deviation by the exact sums of x and x*x (textbook identity).

    A DECIMAL is summed as a whole number of its last digit, because products of DECIMALs with
    a scale are rounded by some engines.
    """
    kind = _exact(call, argument, type_of)
    scale = scale_of(kind)
    if scale > 6:
        raise refuse(
            call,
            f"{function_name(call).upper()} of {kind}",
            "its squares need more than 38 digits",
            f"CAST({shown(argument)} AS DECIMAL(18, 6))",
        )
    number = f"CAST({value} AS INTEGER)" if kind == "BOOLEAN" else value
    scaled = f"({number}) * {10**scale}" if scale else number
    whole = f"CAST({scaled} AS DECIMAL(38, 0))"
    parts = (
        Component(("count",), (_count_of(value),), "sum"),
        Component(("total",), (f"CAST(SUM({whole}) AS DECIMAL(38, 0))",), "sum"),
        Component(("squares",), (f"CAST(SUM({whole} * {whole}) AS DECIMAL(38, 0))",), "sum"),
    )
    population = isinstance(call, (exp.VariancePop, exp.StddevPop))
    root = isinstance(call, (exp.Stddev, exp.StddevSamp, exp.StddevPop))
    unit = 10 ** (2 * scale)
    return Aggregate(parts, lambda c: _spread_result(c, unit, population=population, root=root))


def _spread_result(columns: tuple[str, ...], unit: int, *, population: bool, root: bool) -> str:
    n, s, q = columns
    whole = f"CAST({n} AS DECIMAL(38, 0))"
    divisor = f"{whole} * {whole}" if population else f"{whole} * ({whole} - 1)"
    scaled = f"{divisor} * {unit}" if unit > 1 else divisor
    variance = ratio(f"({whole} * {q} - {s} * {s})", f"({scaled})")
    return f"SQRT({variance})" if root else variance


def _extreme(call: exp.Expr, argument: exp.Expr, value: str, type_of: TypeOf) -> Aggregate:
    name: Merge = "min" if isinstance(call, exp.Min) else "max"
    return _simple(name, f"{name.upper()}({normal(value, type_of(argument))})", name)


def _logical(call: exp.Expr, _argument: exp.Expr, value: str, _type_of: TypeOf) -> Aggregate:
    merge: Merge = "or" if isinstance(call, exp.LogicalOr) else "and"
    return _simple(merge, f"BOOL_{merge.upper()}({value})", merge)


def _arg_best(
    call: exp.ArgMax | exp.ArgMin, condition: exp.Expr | None, type_of: TypeOf
) -> Aggregate:
    """Ties go to the greatest x (for ARG_MIN the least): the same in any order of rows."""
    order = normal(_when(condition, _sql(call.expression)), type_of(call.expression))
    value = normal(_sql(call.this), type_of(call.this))
    merge: Merge = "max" if isinstance(call, exp.ArgMax) else "min"
    best = f"({merge.upper()}({best_of(order, value)}))"
    component = Component(("order", "value"), (f"{best}.y", f"{best}.x"), merge)
    return Aggregate((component,), lambda columns: columns[1])


_BY_ONE_ARGUMENT: dict[type, Callable[[exp.Expr, exp.Expr, str, TypeOf], Aggregate]] = {
    exp.Sum: _sum,
    exp.Avg: _average,
    exp.Min: _extreme,
    exp.Max: _extreme,
    exp.LogicalOr: _logical,
    exp.LogicalAnd: _logical,
    exp.Stddev: _spread,
    exp.StddevSamp: _spread,
    exp.StddevPop: _spread,
    exp.Variance: _spread,
    exp.VariancePop: _spread,
}


def above(node: exp.Expr, type_of: TypeOf) -> str:
    """An aggregate above the lowest GROUP BY, in a form that no order of rows can change."""
    call, _ = split_filter(node)
    if isinstance(call, ABOVE_ONLY):
        return _sql(node)
    aggregate = analyse(node, type_of)
    if aggregate.distinct is not None:
        return f"COUNT(DISTINCT {aggregate.distinct})"
    return aggregate.result(tuple(p for c in aggregate.components for p in c.partials))


def above_window(window: exp.Window, type_of: TypeOf) -> str:
    """An aggregate used as a window function, by the same formulas, each part OVER the window."""
    if isinstance(split_filter(window.this)[0], ABOVE_ONLY):
        raise NotMergeableError(f"{_sql(window)} is refused: no engine-independent form")
    aggregate = analyse(window.this, type_of)
    if aggregate.distinct is not None:
        raise refuse(window, "COUNT(DISTINCT) OVER", "engines lack it", "GROUP BY first")
    if any(len(component.partials) == 2 for component in aggregate.components):
        raise refuse(window, "ARG_MAX OVER", "engines differ on it", "GROUP BY first")
    bare = window.copy()
    bare.set("this", exp.Identifier(this="x"))
    over = _sql(bare).removeprefix("x ")
    parts = []
    for component in aggregate.components:
        for partial in component.partials:
            parts.append(_over(partial, over))
    return aggregate.result(tuple(parts))


def _over(partial: str, over: str) -> str:
    """`CAST(SUM(x) AS T)` -> `CAST(SUM(x) OVER (...) AS T)`."""
    if partial.startswith("CAST("):
        inner, kind = partial.removeprefix("CAST(").rsplit(" AS ", 1)
        return f"CAST({inner} {over} AS {kind}"
    return f"{partial} {over}"
