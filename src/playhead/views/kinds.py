"""Kinds of DuckDB types, by name."""

from collections.abc import Callable

from sqlglot import exp

from playhead.errors import NotMergeableError

INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"}
WIDE_INTEGERS = {"BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT"}
FLOATS = {"FLOAT", "DOUBLE"}
TypeOf = Callable[[exp.Expr], str]


def is_exact(kind: str) -> bool:
    """Whether sums of this type are the same in any order."""
    return kind in INTEGERS or kind in WIDE_INTEGERS or kind.startswith("DECIMAL")


def scale_of(kind: str) -> int:
    """Digits after the point of an exact type."""
    return int(kind.rstrip(")").split(",")[1]) if kind.startswith("DECIMAL") else 0


def bare(node: exp.Expr) -> exp.Expr:
    """The expression without the parentheses around it (a subquery keeps its own)."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def check_kind(column: str, kind: str) -> None:
    """Refuse a column of a type that engines do not keep alike."""
    if kind == "INTERVAL":
        raise NotMergeableError(
            f"column {column} is refused: engines keep an INTERVAL differently",
            hint="Instead: DATE_DIFF('second', a, b).",
        )


def one_zero(node: exp.Expr) -> exp.Expr:
    """A floating-point expression whose -0.0 is 0.0.

    It also keeps DuckDB from handing a comparison down to a scan of Arrow data, where NaN is
    less than nothing, while it is the greatest number everywhere else.
    """
    return exp.paren(exp.Add(this=node.copy(), expression=exp.Literal.number(0)))
