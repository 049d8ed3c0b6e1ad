"""Scalar expressions whose result depends on a type that the text does not show.

Rounding, casting and date arithmetic differ between engines by the type of their argument.
Here that type is written into the expression, so that a dialect can see it; what no engine
does alike is refused.
"""

from collections.abc import Callable

from sqlglot import exp

from playhead.views.functions import refuse
from playhead.views.kinds import FLOATS, INTEGERS, WIDE_INTEGERS, TypeOf

_INTEGER_TYPES = {
    exp.DataType.Type.TINYINT, exp.DataType.Type.SMALLINT, exp.DataType.Type.INT,
    exp.DataType.Type.BIGINT, exp.DataType.Type.INT128,
}  # fmt: skip
_TEXT_TYPES = {exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT}
_WHOLE = (exp.Round, exp.Floor, exp.Ceil)


def explicit(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    """The expression with the types that its functions depend on written out.

    Args:
        node: changed in place where it is not itself replaced.
        type_of: DuckDB type of a part of it.

    Raises:
        NotMergeableError: a conversion that engines do differently.
    """
    found = [part for part in node.find_all(*_RULES) if _belongs(part, node)]
    for part in reversed(found):
        new = _RULES[type(part)](part, type_of)
        if new is not part:
            if part is node:
                node = new
            part.replace(new)
    return node


def _belongs(part: exp.Expr, node: exp.Expr) -> bool:
    """Whether the part is not inside a query below the node."""
    holder = part.find_ancestor(exp.Query)
    return holder is None or holder is node or holder is node.find_ancestor(exp.Query)


def is_double(node: exp.Expr) -> bool:
    """Whether an expression shows by itself that it is a DOUBLE."""
    inner = node.unnest()
    return isinstance(inner, exp.Div) or (
        isinstance(inner, exp.Cast) and inner.to.this == exp.DataType.Type.DOUBLE
    )


def _as_double(node: exp.Expr) -> exp.Expr:
    return node if is_double(node) else exp.cast(node.copy(), "DOUBLE")


def _round(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    if type_of(node.this) in FLOATS:
        node.set("this", _as_double(node.this))
    return node


def _cast(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    target = node.args["to"].this
    if target == exp.DataType.Type.DECIMAL and type_of(node.this) in FLOATS:
        node.set("this", _as_double(node.this))
    elif target in _INTEGER_TYPES and not isinstance(node.this.unnest(), _WHOLE):
        kind = type_of(node.this)
        if kind.startswith("DECIMAL"):
            node.set("this", exp.Round(this=node.this.copy(), decimals=exp.Literal.number(0)))
        elif kind in FLOATS:
            raise refuse(
                node,
                f"CAST of a {kind} to a whole number",
                "engines round it differently",
                f"CAST(FLOOR(...) AS {node.args['to']}) or ROUND",
            )
    elif target in _TEXT_TYPES:
        _no_text_of_floats(node, node.this, type_of)
    return node


def _no_text_of_floats(node: exp.Expr, value: exp.Expr, type_of: TypeOf) -> None:
    if (kind := type_of(value)) in FLOATS:
        raise refuse(
            node,
            f"text of a {kind}",
            "engines print floating point differently",
            "text of CAST(x AS DECIMAL(18, 6))",
        )


def _concat(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    parts = (
        node.expressions if isinstance(node, exp.Concat) else [node.this, node.args["expression"]]
    )
    for part in parts:
        if not isinstance(part, (exp.Literal, exp.DPipe)):
            _no_text_of_floats(node, part, type_of)
    return node


def _whole_division(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    for side in (node.this, node.args["expression"]):
        if type_of(side) not in INTEGERS | WIDE_INTEGERS:
            raise refuse(node, f"// of {type_of(side)}", "it divides whole numbers", "FLOOR(a / b)")
    return node


def _difference(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    """DATE - DATE is a number of days."""
    if isinstance(node.args["expression"], exp.Interval):
        return _shift(node, type_of)
    if type_of(node.this) != "DATE" or type_of(node.args["expression"]) != "DATE":
        return node
    return exp.DateDiff(
        this=node.this.copy(), expression=node.args["expression"].copy(), unit=exp.var("DAY")
    )


def _shift(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    """DATE +- INTERVAL is a TIMESTAMP."""
    if isinstance(node.expression, exp.Interval) and type_of(node.this) == "DATE":
        node.set("this", exp.cast(node.this.copy(), "TIMESTAMP"))
    return node


def _bucket(node: exp.Expr, type_of: TypeOf) -> exp.Expr:
    """The bucket of a DATE is a DATE."""
    if type_of(node.expression) != "DATE":
        return node
    bucket = node.copy()
    bucket.set("expression", exp.cast(node.expression.copy(), "TIMESTAMP"))
    return exp.cast(bucket, "DATE")


_RULES: dict[type[exp.Expr], Callable[[exp.Expr, TypeOf], exp.Expr]] = {
    exp.Round: _round,
    exp.Floor: _round,
    exp.Ceil: _round,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Concat: _concat,
    exp.DPipe: _concat,
    exp.IntDiv: _whole_division,
    exp.Add: _shift,
    exp.Sub: _difference,
    exp.DateBin: _bucket,
}
