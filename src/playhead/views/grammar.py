"""Which SQL a view may hold: every kind of node is either known here or refused by name."""

from sqlglot import exp

from playhead.errors import ViewSyntaxError
from playhead.views.functions import (
    ABOVE_ONLY,
    EXTRACTABLE,
    MERGEABLE,
    SCALAR,
    WINDOW_ONLY,
    function_name,
    is_session_window,
    position,
    refuse,
    refuse_function,
)

_STRUCTURE = (
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Qualify, exp.Order,
    exp.Ordered, exp.Limit, exp.LimitOptions, exp.Offset, exp.Fetch, exp.With, exp.CTE,
    exp.TableAlias, exp.Subquery, exp.SetOperation, exp.Table, exp.Identifier, exp.Column,
    exp.Star, exp.Alias, exp.Dot, exp.Window, exp.WindowSpec, exp.Filter, exp.IgnoreNulls,
    exp.RespectNulls, exp.Distinct,
)  # fmt: skip

_SCALAR_NODES = (
    exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Neg, exp.Not, exp.EQ, exp.NEQ, exp.LT,
    exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is, exp.In, exp.Between,
    exp.Like, exp.ILike, exp.Escape, exp.DPipe, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv,
    exp.Mod, exp.Interval, exp.Var, exp.DataType, exp.DataTypeParam, exp.PropertyEQ,
)  # fmt: skip

_FUNCTIONS = (*SCALAR, *MERGEABLE, *ABOVE_ONLY, *WINDOW_ONLY)

TYPES = {
    exp.DataType.Type.BOOLEAN, exp.DataType.Type.TINYINT, exp.DataType.Type.SMALLINT,
    exp.DataType.Type.INT, exp.DataType.Type.BIGINT, exp.DataType.Type.INT128,
    exp.DataType.Type.DECIMAL, exp.DataType.Type.FLOAT, exp.DataType.Type.DOUBLE,
    exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.DATE,
    exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPNTZ,
}  # fmt: skip
"""Types that CAST may name."""

UNITS = {"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"}
"""Units of DATE_TRUNC; DATE_DIFF takes all but WEEK, INTERVAL all but QUARTER."""

_GROUPING = ("grouping sets are not compiled", "write one view for each grouping")
_ONE_ROW = ("one event must stay one row", "keep to plain columns")
REFUSED_CONSTRUCTS: dict[type[exp.Expr], tuple[str, str, str]] = {
    exp.Cube: ("CUBE", *_GROUPING),
    exp.Rollup: ("ROLLUP", *_GROUPING),
    exp.GroupingSets: ("GROUPING SETS", *_GROUPING),
    exp.Lateral: ("LATERAL", *_ONE_ROW),
    exp.Unnest: ("UNNEST", *_ONE_ROW),
    exp.Explode: ("UNNEST", *_ONE_ROW),
    exp.Pivot: ("PIVOT", *_ONE_ROW),
    exp.TableSample: ("a sample", "it keeps other rows in every run",
                      "filter by a part of the user_id"),
    exp.Array: ("a list", "lists have no canonical form", "GROUP BY the value"),
    exp.Bracket: ("x[...]", "engines count positions differently", "SUBSTRING, or struct.field"),
    exp.Tuple: ("a row (a, b)", "rows have no canonical form", "name each column alone"),
    exp.AtTimeZone: ("AT TIME ZONE", "times are UTC everywhere",
                     "shift by an INTERVAL, or convert in the query on the view"),
    exp.Exists: ("EXISTS", "a correlated subquery has no plan on every engine",
                 "a JOIN above the GROUP BY, or IN (SELECT ...)"),
    exp.Columns: ("COLUMNS(...)", "it hides what is read", "name the columns"),
}  # fmt: skip
"""Constructs that are refused with a reason of their own."""


def check_grammar(tree: exp.Query) -> None:
    """Refuse what no part of a view may hold.

    Raises:
        NotMergeableError: a construct or a function outside the canonical set.
        ViewSyntaxError: a relation that is no bare name.
    """
    for node in tree.walk():
        if isinstance(node, exp.Func):
            _check_function(node)
        elif named := REFUSED_CONSTRUCTS.get(type(node)):
            raise refuse(node, *named)
        elif not isinstance(node, (*_STRUCTURE, *_SCALAR_NODES, *_FUNCTIONS)):
            raise refuse(
                node, _shown(node), "it is not in the canonical grammar", "what docs/views.md lists"
            )
        if check := _CHECKS.get(type(node)):
            check(node)


def _shown(node: exp.Expr) -> str:
    text = node.sql(dialect="duckdb")
    return text if 0 < len(text) <= 40 else node.key.upper()


def _check_function(node: exp.Func) -> None:
    if is_session_window(node):
        return
    if named := REFUSED_CONSTRUCTS.get(type(node)):
        raise refuse(node, *named)
    if not isinstance(node, _FUNCTIONS):
        raise refuse_function(node)
    if isinstance(node, exp.AggFunc) and isinstance(node.this, exp.Distinct):
        _check_distinct(node)
    if isinstance(node, exp.AggFunc) and any(isinstance(a, exp.Order) for a in node.args.values()):
        raise refuse(
            node,
            f"ORDER BY inside {function_name(node).upper()}",
            "aggregates take no order",
            "leave it out",
        )


def _check_distinct(node: exp.AggFunc) -> None:
    name = function_name(node).upper()
    if not isinstance(node, exp.Count):
        raise refuse(
            node,
            f"{name}(DISTINCT ...)",
            "a value seen in two parts would be added twice",
            f"GROUP BY the value first (one row each), then {name} above it",
        )
    values = node.this.expressions
    if len(values) != 1 or isinstance(values[0], (exp.Star, exp.Tuple)):
        raise refuse(
            node,
            "COUNT(DISTINCT a, b)",
            "it takes one value",
            "GROUP BY a, b first, then COUNT(*) above it",
        )


def _check_more_arguments(node: exp.Expr) -> None:
    if node.args.get("expressions") or node.args.get("count"):
        name = function_name(node).upper()
        raise refuse(
            node,
            f"{name}(..., n)",
            "a list has no exact merge",
            "QUALIFY ROW_NUMBER() OVER (...) <= n",
        )


def _check_extract(node: exp.Expr) -> None:
    if node.name.lower() not in EXTRACTABLE:
        raise refuse(node, f"EXTRACT({node.name})", "engines differ on it", "year to second")


def _check_unit(node: exp.Expr) -> None:
    unit = node.args.get("unit")
    if isinstance(node, exp.DateDiff) and unit is not None and unit.name.upper() == "WEEK":
        raise refuse(
            node,
            "DATE_DIFF('week', ...)",
            "engines count other borders",
            "DATE_DIFF('day', a, b) // 7 for whole weeks",
        )
    if unit is None or unit.name.upper() not in UNITS:
        raise refuse(
            node,
            f"the unit of {function_name(node).upper()}",
            "engines differ on it",
            f"one of {', '.join(sorted(UNITS)).lower()}, as a literal",
        )


def _check_interval(node: exp.Expr) -> None:
    parts = interval_parts(node)
    if parts is None and not is_session_window(node.parent):
        raise refuse(
            node,
            _shown(node),
            "engines read other intervals differently",
            "INTERVAL '<whole number>' with one unit, year to second",
        )


def interval_parts(node: exp.Expr) -> tuple[int, str] | None:
    """Amount and singular unit of `INTERVAL '5 minutes'` or `INTERVAL 5 MINUTE`."""
    if not isinstance(node, exp.Interval) or not isinstance(node.this, exp.Literal):
        return None
    text = node.this.name if node.unit is None else f"{node.this.name} {node.unit.name}"
    amount, _, unit = text.strip().partition(" ")
    unit = unit.strip().upper().removesuffix("S")
    if not amount.isdigit() or unit not in UNITS - {"QUARTER"}:
        return None
    return int(amount), unit


def _check_bucket(node: exp.Expr) -> None:
    if interval_parts(node.this) is None:
        raise refuse(
            node,
            "TIME_BUCKET",
            "its width must be known",
            "TIME_BUCKET(INTERVAL '5 minutes', event_time)",
        )
    if node.args.get("unit") or node.args.get("zone"):
        raise refuse(
            node,
            "TIME_BUCKET with an origin",
            "engines have no such form",
            "TIME_BUCKET(width, event_time - shift) + shift",
        )


def _check_substring(node: exp.Expr) -> None:
    start = node.args.get("start")
    if not (isinstance(start, exp.Literal) and start.is_int and int(start.name) >= 1):
        raise refuse(
            node,
            "SUBSTRING from another place than a positive literal",
            "engines count from 0 or from the end differently",
            "LEFT or RIGHT",
        )


def _check_side(node: exp.Expr) -> None:
    count = node.expression
    if not (isinstance(count, exp.Literal) and count.is_int):
        raise refuse(
            node,
            f"{function_name(node).upper()} of a computed length",
            "engines differ on negative lengths",
            "a literal length",
        )


def _check_cast(node: exp.Expr) -> None:
    if node.args["to"].this not in TYPES or node.args["to"].args.get("nested"):
        raise refuse(
            node,
            f"CAST to {node.args['to'].sql('duckdb')}",
            "engines differ on it",
            "BOOLEAN, integers, DECIMAL, DOUBLE, VARCHAR, DATE or TIMESTAMP",
        )


def _check_with(node: exp.Expr) -> None:
    if node.args.get("recursive"):
        raise refuse(node, "WITH RECURSIVE", "its state has no bound", "one GROUP BY per step")


def _check_distinct_on(node: exp.Expr) -> None:
    if node.args.get("on"):
        raise refuse(
            node,
            "DISTINCT ON",
            "its order is implied",
            "QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY event_time DESC) = 1",
        )


def _check_limit(node: exp.Expr) -> None:
    options = node.args.get("limit_options")
    if options and (options.args.get("percent") or options.args.get("with_ties")):
        raise refuse(
            node,
            "LIMIT with PERCENT or TIES",
            "engines lack it",
            "QUALIFY RANK() OVER (ORDER BY ...) <= n",
        )


def _check_order(node: exp.Expr) -> None:
    if not isinstance(node.parent, (exp.Query, exp.Window)):
        raise refuse(
            node, "ORDER BY inside an aggregate", "aggregates take no order", "leave it out"
        )


def _check_frame(node: exp.Expr) -> None:
    if str(node.args.get("kind", "")).upper() == "GROUPS" or node.args.get("exclude"):
        raise refuse(node, "a GROUPS or EXCLUDE frame", "engines lack it", "ROWS or RANGE")


def _check_table(node: exp.Expr) -> None:
    alias = node.args.get("alias")
    if node.args.get("db") or not isinstance(node.this, exp.Identifier):
        raise ViewSyntaxError(
            f"{position(node)}{node.sql(dialect='duckdb')} is no topic or dimension",
            hint="A view reads topics and dimensions by their bare names.",
        )
    if alias is not None and alias.args.get("columns"):
        raise refuse(
            node,
            "a table alias with column names",
            "it hides what is read",
            "name the columns in a SELECT",
        )


def _check_join(node: exp.Expr) -> None:
    if isinstance(node, exp.Join) and node.method in ("ASOF", "POSITIONAL"):
        raise refuse(node, f"{node.method} JOIN", "engines lack it", "an equality on a key")


_CHECKS = {
    exp.Max: _check_more_arguments,
    exp.Min: _check_more_arguments,
    exp.ArgMax: _check_more_arguments,
    exp.ArgMin: _check_more_arguments,
    exp.Extract: _check_extract,
    exp.DateTrunc: _check_unit,
    exp.TimestampTrunc: _check_unit,
    exp.DateDiff: _check_unit,
    exp.DateBin: _check_bucket,
    exp.Interval: _check_interval,
    exp.Substring: _check_substring,
    exp.Left: _check_side,
    exp.Right: _check_side,
    exp.Cast: _check_cast,
    exp.TryCast: _check_cast,
    exp.With: _check_with,
    exp.Distinct: _check_distinct_on,
    exp.Limit: _check_limit,
    exp.Fetch: _check_limit,
    exp.Order: _check_order,
    exp.WindowSpec: _check_frame,
    exp.Table: _check_table,
    exp.Join: _check_join,
}
