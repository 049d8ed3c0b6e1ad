"""Plans in other engines' SQL: what sqlglot leaves to chance is written out here.

Plans are made in DuckDB's dialect, whose meaning is the one that holds. For each construct on
which an engine differs there is one rule, which gives the same digits in the other's words.
"""

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import sqlglot
from sqlglot import exp

from playhead.errors import EngineError
from playhead.views.grammar import interval_parts
from playhead.views.scalars import is_double

Dialect = Literal["duckdb", "spark", "bigquery"]
DIALECTS: tuple[str, ...] = get_args(Dialect)
Rule = Callable[[exp.Expr], exp.Expr]

_MICROS = {
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
    "WEEK": 604_800_000_000,
}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_ORIGIN = 946_857_600_000_000
"""Microseconds of 2000-01-03, a Monday: where DuckDB's TIME_BUCKET starts to count."""


def transpile(sql: str, dialect: str) -> str:
    """A plan in another dialect, with the same meaning.

    Args:
        sql: what `View.plans` or a leaf gives (DuckDB).
        dialect: "duckdb", "spark" (4.x; the session's time zone has to be UTC) or "bigquery".

    Raises:
        EngineError: no such dialect.
    """
    if dialect not in DIALECTS:
        raise EngineError(f"no dialect {dialect!r}", hint=f"There are {', '.join(DIALECTS)}.")
    tree: exp.Expr = sqlglot.parse_one(sql, dialect="duckdb")
    rules = _RULES[dialect]
    for node in reversed(list(tree.walk())):
        if rule := rules.get(type(node)):
            new = rule(node)
            if node is tree:
                tree = new
            elif new is not node:
                node.replace(new)
    return tree.sql(dialect=dialect, pretty=True)


def spark_type(kind: str) -> str:
    """A DuckDB type, by its name, as Spark writes it: HUGEINT is DECIMAL(38, 0)."""
    made = exp.DataType.build(kind, dialect="duckdb")
    for node in list(made.find_all(exp.DataType)):
        if node.this in _SPARK_TYPES:
            other = exp.DataType.build(_SPARK_TYPES[node.this], dialect="spark")
            node.set("this", other.this)
            node.set("expressions", [e.copy() for e in other.expressions])
    return made.sql(dialect="spark")


# -- parts ---------------------------------------------------------------------------------


def _number(value: int) -> exp.Expr:
    return exp.Literal.number(value)


def _call(name: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[a.copy() for a in arguments])


def _cast(node: exp.Expr, kind: str) -> exp.Expr:
    return exp.Cast(this=node, to=exp.DataType.build(kind, dialect="spark"))


def _math(kind: type[exp.Binary], left: exp.Expr, right: exp.Expr) -> exp.Expr:
    return exp.paren(kind(this=left.copy(), expression=right.copy()), copy=False)


def _ten(digits: int) -> exp.Expr:
    return _cast(_number(10**digits), "DOUBLE")


def _texts(node: exp.Expr) -> exp.Expr:
    """CONCAT skips NULLs, and takes any type."""
    parts = [
        part.copy()
        if isinstance(part, exp.Literal)
        else _call("COALESCE", exp.cast(part.copy(), "VARCHAR"), exp.Literal.string(""))
        for part in node.expressions
    ]
    return _call("CONCAT", *parts)


def _like(node: exp.Expr) -> exp.Expr:
    """Where no ESCAPE is given, a backslash in a pattern stands for itself."""
    pattern = node.args["expression"]
    if not isinstance(node.parent, exp.Escape) and isinstance(pattern, exp.Literal):
        node.set("expression", exp.Literal.string(pattern.name.replace("\\", "\\\\")))
    return node


def _without_qualify(node: exp.Expr) -> exp.Expr:
    """QUALIFY as a WHERE above a subquery that has its windows, and ORDER BY's, as columns."""
    qualify = node.args.get("qualify")
    if qualify is None:
        return node
    hidden: list[exp.Expr] = []

    def hide(part: exp.Expr) -> exp.Expr:
        hidden.append(exp.alias_(part.copy(), f"_q{len(hidden) + 1}"))
        return exp.column(hidden[-1].alias, "_q")

    def hide_read(part: exp.Expr) -> exp.Expr:
        return hide(part) if isinstance(part, (exp.Window, exp.AggFunc, exp.Column)) else part

    inner, outputs = node.copy(), [item.alias_or_name for item in node.args["expressions"]]
    above: dict[str, exp.Expr] = {}
    for part in ("with_", "order", "limit", "offset", "distinct"):
        if value := inner.args.get(part):
            above[part] = value
            inner.set(part, None)
    inner.set("qualify", None)
    condition = qualify.this.copy().transform(hide_read)
    for ordered in above["order"].expressions if "order" in above else []:
        of_output = isinstance(ordered.this, exp.Column) and not ordered.this.table
        if not of_output or ordered.this.name not in outputs:
            ordered.set("this", hide(ordered.this))
    inner.set("expressions", [*inner.args["expressions"], *hidden])
    outer = exp.Select(expressions=[exp.column(exp.to_identifier(n), "_q") for n in outputs])
    outer.set("from_", exp.From(this=exp.Subquery(this=inner, alias=exp.TableAlias(this="_q"))))
    outer.set("where", exp.Where(this=condition))
    for part, value in above.items():
        outer.set(part, value)
    return outer


# -- Spark ---------------------------------------------------------------------------------


def _spark_micros(node: exp.Expr) -> exp.Expr:
    return _call("UNIX_MICROS", _cast(node.copy(), "TIMESTAMP_LTZ"))


def _spark_bucket(node: exp.Expr) -> exp.Expr:
    amount, unit = interval_parts(node.this) or (1, "DAY")
    time = node.args["expression"]
    if unit in _MONTHS:
        width = amount * _MONTHS[unit]
        months = _math(exp.Sub, _spark_months(time), _number(2000 * 12 + 1))
        start = exp.Sub(this=months, expression=_call("PMOD", months, _number(width)))
        made = _call("ADD_MONTHS", exp.cast(exp.Literal.string("2000-01-01"), "DATE"), start)
        return _cast(made, "TIMESTAMP_NTZ")
    micros = _spark_micros(time)
    since = exp.Sub(this=micros.copy(), expression=_number(_ORIGIN))
    rest = _call("PMOD", since, _number(amount * _MICROS[unit]))
    made = _call("TIMESTAMP_MICROS", exp.Sub(this=micros, expression=rest))
    return _cast(made, "TIMESTAMP_NTZ")


def _spark_truncate(node: exp.Expr) -> exp.Expr:
    made = _call("DATE_TRUNC", exp.Literal.string(node.args["unit"].name), node.this)
    return _cast(made, "TIMESTAMP_NTZ")


def _spark_months(node: exp.Expr) -> exp.Expr:
    years = exp.Mul(this=_call("YEAR", node), expression=_number(12))
    return _math(exp.Add, years, _call("MONTH", node))


def _spark_difference(node: exp.Expr) -> exp.Expr:
    """The number of unit borders between two times."""
    unit = node.args["unit"].name.upper()

    def at(side: exp.Expr) -> exp.Expr:
        if unit == "YEAR":
            return _call("YEAR", side)
        if unit == "QUARTER":
            years = exp.Mul(this=_call("YEAR", side), expression=_number(4))
            return _math(exp.Add, years, _call("QUARTER", side))
        if unit == "MONTH":
            return _spark_months(side)
        if unit == "DAY":
            return _call("UNIX_DATE", _cast(side.copy(), "DATE"))
        micros = _spark_micros(side)
        rest = _call("PMOD", micros, _number(_MICROS[unit]))
        whole = _math(exp.Sub, micros, rest)
        return exp.IntDiv(this=whole, expression=_number(_MICROS[unit]))

    return _cast(_math(exp.Sub, at(node.this), at(node.args["expression"])), "BIGINT")


def _spark_round(node: exp.Expr) -> exp.Expr:
    """DuckDB rounds the scaled double, Spark the double's shortest text."""
    digits = node.args.get("decimals")
    if digits is None or not is_double(node.this):
        return node
    places = int(digits.name) if isinstance(digits, exp.Literal) else -int(digits.this.name)
    scale = _ten(abs(places))
    up, down = (exp.Mul, exp.Div) if places >= 0 else (exp.Div, exp.Mul)
    return _math(down, _call("ROUND", _math(up, node.this, scale)), scale)


def _spark_cast(node: exp.Expr) -> exp.Expr:
    """A DOUBLE becomes a DECIMAL as in DuckDB: scaled, moved away from zero by 1e-9, rounded."""
    target = node.args["to"]
    if target.this in _SPARK_TYPES:
        node.set("to", exp.DataType.build(_SPARK_TYPES[target.this], dialect="spark"))
    if target.this != exp.DataType.Type.DECIMAL or not is_double(node.this):
        return node
    precision, scale = (int(p.name) for p in target.expressions)
    value = _math(exp.Mul, node.this, _ten(scale))
    nudge = _math(exp.Mul, _call("SIGN", node.this), _cast(exp.Literal.string("1e-9"), "DOUBLE"))
    whole = _cast(_call("RINT", _math(exp.Add, value, nudge)), f"DECIMAL({precision}, 0)")
    unit = _cast(exp.Literal.string(f"1e-{scale}"), f"DECIMAL({scale + 1}, {scale})")
    node.set("this", _math(exp.Mul, whole, unit) if scale else whole)
    return node


_SPARK_TYPES = {
    exp.DataType.Type.INT128: "DECIMAL(38, 0)",
    exp.DataType.Type.UINT128: "DECIMAL(38, 0)",
    exp.DataType.Type.UBIGINT: "DECIMAL(20, 0)",
    exp.DataType.Type.UINT: "BIGINT",
    exp.DataType.Type.USMALLINT: "INT",
    exp.DataType.Type.UTINYINT: "SMALLINT",
    exp.DataType.Type.TIMESTAMP: "TIMESTAMP_NTZ",
    exp.DataType.Type.TIMESTAMP_NS: "TIMESTAMP_NTZ",
    exp.DataType.Type.TIMESTAMPTZ: "TIMESTAMP_LTZ",
}


def _spark_whole(node: exp.Expr) -> exp.Expr:
    """FLOOR and CEIL of a DOUBLE stay DOUBLE."""
    return exp.cast(node.copy(), "DOUBLE") if is_double(node.this) else node


def _spark_bare(node: exp.Expr) -> exp.Expr:
    """Spark reads `FROM t WHERE (x)` as a table alias with a list of columns."""
    return node.this if isinstance(node.this, (exp.Column, exp.Boolean, exp.Null)) else node


_SPARK: dict[type[exp.Expr], Rule] = {
    exp.Paren: _spark_bare,
    exp.Select: _without_qualify,
    exp.DateBin: _spark_bucket,
    exp.TimestampTrunc: _spark_truncate,
    exp.DateTrunc: _spark_truncate,
    exp.DateDiff: _spark_difference,
    exp.DayOfWeek: lambda node: _math(exp.Sub, _call("DAYOFWEEK", node.this), _number(1)),
    exp.DayOfWeekIso: lambda node: _math(exp.Add, _call("WEEKDAY", node.this), _number(1)),
    exp.WeekOfYear: lambda node: _call("WEEKOFYEAR", node.this),
    exp.Sign: lambda node: exp.cast(node.copy(), "TINYINT"),
    exp.Round: _spark_round,
    exp.Floor: _spark_whole,
    exp.Ceil: _spark_whole,
    exp.Cast: _spark_cast,
    exp.TryCast: _spark_cast,
    exp.Concat: _texts,
    exp.Like: _like,
    exp.ILike: _like,
}


# -- BigQuery ------------------------------------------------------------------------------


def _bigquery_unit(node: exp.Expr) -> exp.Expr:
    unit = node.args["unit"].name.upper()
    return exp.var("ISOWEEK" if unit == "WEEK" else unit)


def _bigquery_bucket(node: exp.Expr) -> exp.Expr:
    _, unit = interval_parts(node.this) or (1, "DAY")
    origin = "2000-01-01" if unit in _MONTHS else "2000-01-03"
    start = exp.cast(exp.Literal.string(origin), "DATETIME", dialect="bigquery")
    time = exp.cast(node.args["expression"].copy(), "DATETIME", dialect="bigquery")
    return _call("DATETIME_BUCKET", time, node.this, start)


def _bigquery_truncate(node: exp.Expr) -> exp.Expr:
    time = exp.cast(node.this.copy(), "DATETIME", dialect="bigquery")
    return _call("DATETIME_TRUNC", time, _bigquery_unit(node))


def _bigquery_difference(node: exp.Expr) -> exp.Expr:
    end, start = (
        exp.cast(side.copy(), "DATETIME", dialect="bigquery")
        for side in (node.this, node.args["expression"])
    )
    return _call("DATETIME_DIFF", end, start, _bigquery_unit(node))


def _bigquery_part(part: str, shift: int = 0) -> Rule:
    def rule(node: exp.Expr) -> exp.Expr:
        made = exp.Extract(this=exp.var(part), expression=node.this.copy())
        return _math(exp.Add, made, _number(shift)) if shift else made

    return rule


def _bigquery_iso_day(node: exp.Expr) -> exp.Expr:
    """Monday is 1; BigQuery's Sunday is 1."""
    day = exp.Extract(this=exp.var("DAYOFWEEK"), expression=node.this.copy())
    week = _call("MOD", exp.Add(this=day, expression=_number(5)), _number(7))
    return _math(exp.Add, week, _number(1))


def _bigquery_extreme(node: exp.Expr) -> exp.Expr:
    """MAX or MIN of a struct, which BigQuery lacks: the first by the struct's own fields."""
    struct = node.this.find(exp.Struct)
    if struct is None:
        return node
    down = isinstance(node, exp.Max)
    fields = [exp.Ordered(this=f.args["expression"].copy(), desc=down) for f in struct.expressions]
    ordered = exp.Order(this=exp.IgnoreNulls(this=node.this.copy()), expressions=fields)
    first = exp.Limit(this=ordered, expression=_number(1))
    made = exp.Bracket(this=exp.ArrayAgg(this=first), expressions=[_number(0)], offset=0, safe=True)
    return exp.paren(made, copy=False)


def _bigquery_best(name: str) -> Rule:
    """GREATEST and LEAST skip NULLs."""

    def rule(node: exp.Expr) -> exp.Expr:
        values = exp.Array(expressions=[node.this.copy(), *(e.copy() for e in node.expressions)])
        unnested = exp.Unnest(
            expressions=[values], alias=exp.TableAlias(this=exp.to_identifier("v"))
        )
        best = exp.Select(expressions=[exp.func(name, exp.column("v"))])
        best.set("from_", exp.From(this=unnested))
        return best.subquery()

    return rule


def _bigquery_type(node: exp.Expr) -> exp.Expr:
    target = node.args["to"]
    if target.this == exp.DataType.Type.DECIMAL and target.expressions:
        precision, scale = (int(p.name) for p in target.expressions)
        small = precision - scale <= 29 and scale <= 9
        kind = f"{'NUMERIC' if small else 'BIGNUMERIC'}({precision}, {scale})"
        node.set("to", exp.DataType.build(kind, dialect="bigquery"))
    elif target.this in _BIGQUERY_TYPES:
        node.set("to", exp.DataType.build(_BIGQUERY_TYPES[target.this], dialect="bigquery"))
    return node


_BIGQUERY_TYPES = {
    exp.DataType.Type.INT128: "BIGNUMERIC",
    exp.DataType.Type.UINT128: "BIGNUMERIC",
    exp.DataType.Type.UBIGINT: "NUMERIC",
    exp.DataType.Type.TIMESTAMP: "DATETIME",
    exp.DataType.Type.TIMESTAMPNTZ: "DATETIME",
    exp.DataType.Type.TIMESTAMP_NS: "DATETIME",
}


def _bigquery_escape(node: exp.Expr) -> exp.Expr:
    """LIKE ... ESCAPE as a pattern that a backslash escapes."""
    like, mark = node.this, node.args["expression"].name
    pattern = like.args["expression"]
    if not isinstance(pattern, exp.Literal):
        raise EngineError("BigQuery has no LIKE ... ESCAPE over a computed pattern")
    text, escaped = "", False
    for letter in pattern.name:
        if letter == mark and not escaped:
            escaped = True
            continue
        text += f"\\{letter}" if escaped or letter == "\\" else letter
        escaped = False
    plain: exp.Expr = like.copy()
    plain.set("expression", exp.Literal.string(text))
    return plain


_BIGQUERY: dict[type[exp.Expr], Rule] = {
    exp.DateBin: _bigquery_bucket,
    exp.TimestampTrunc: _bigquery_truncate,
    exp.DateTrunc: _bigquery_truncate,
    exp.DateDiff: _bigquery_difference,
    exp.DayOfWeek: _bigquery_part("DAYOFWEEK", -1),
    exp.DayOfWeekIso: _bigquery_iso_day,
    exp.WeekOfYear: _bigquery_part("ISOWEEK"),
    exp.Max: _bigquery_extreme,
    exp.Min: _bigquery_extreme,
    exp.Greatest: _bigquery_best("MAX"),
    exp.Least: _bigquery_best("MIN"),
    exp.Cast: _bigquery_type,
    exp.TryCast: _bigquery_type,
    exp.Concat: _texts,
    exp.Like: _like,
    exp.ILike: _like,
    exp.Escape: _bigquery_escape,
}

_RULES: Mapping[str, Mapping[type[exp.Expr], Rule]] = {
    "duckdb": {},
    "spark": _SPARK,
    "bigquery": _BIGQUERY,
}
