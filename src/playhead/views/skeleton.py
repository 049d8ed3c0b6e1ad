"""What stands above the leaves, in a form that no order of rows can change.

Sums are exact and typed, division is DOUBLE and NULL at zero, and wherever an order decides
(LIMIT, ROW_NUMBER, LAG, ...) ties are broken by all columns of the source.
"""

from contextlib import suppress

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from playhead.errors import ViewSyntaxError
from playhead.views.algebra import above, above_window, split_filter
from playhead.views.binder import Binder
from playhead.views.functions import (
    ABOVE_ONLY,
    MERGEABLE,
    WINDOW_ONLY,
    is_window_function,
    position,
    refuse,
    refuse_function,
)
from playhead.views.kinds import FLOATS, TypeOf, bare, one_zero
from playhead.views.prepare import own_nodes, sources
from playhead.views.scalars import explicit

_BY_POSITION = (
    exp.RowNumber,
    exp.Ntile,
    exp.Lag,
    exp.Lead,
    exp.FirstValue,
    exp.LastValue,
    exp.NthValue,
)


def canonical_skeleton(tree: exp.Expr, binder: Binder) -> tuple[exp.Expr, bool]:
    """The tree above the leaves, made canonical; and whether it orders its answer.

    Args:
        tree: qualified, its leaves already replaced by their relations.
        binder: knows the leaves and the dimensions.
    """
    for scope in traverse_scope(tree):  # what a SELECT reads comes before it
        if isinstance(scope.expression, exp.Select):
            _canonical_select(scope.expression, binder)
    for query in tree.find_all(exp.SetOperation):
        if query.args.get("distinct") or not isinstance(query, exp.Union):
            _one_zero_in_outputs(query, binder)
        if any(query.args.get(part) for part in ("order", "limit", "offset")):
            _break_ties(query)
    return tree, bool(tree.args.get("order") or tree.args.get("limit"))


def divide(tree: exp.Expr) -> None:
    """Make every division one that all engines compute alike: in DOUBLE, and NULL by zero."""
    for node in reversed(list(tree.find_all(exp.Div, exp.IntDiv, exp.Mod))):
        right = bare(node.args["expression"])
        if isinstance(right, exp.Nullif) and right.expression == _zero():
            right = right.this
        if isinstance(node, exp.Div):
            node.set("this", _cast_double(node.this))
            right = _cast_double(right)
        node.set("expression", exp.Nullif(this=right.copy(), expression=_zero()))


def _zero() -> exp.Expr:
    return exp.Literal.number(0)


def _cast_double(node: exp.Expr) -> exp.Expr:
    inner = bare(node)
    if isinstance(inner, exp.Cast) and inner.to.this == exp.DataType.Type.DOUBLE:
        return inner.copy()
    return exp.cast(inner.copy(), "DOUBLE")


def _canonical_select(select: exp.Select, binder: Binder) -> None:
    types = _Types(select, binder)
    explicit(select, types)
    types.learn(_typed_parts(select))
    for node in reversed(list(own_nodes(select))):
        if isinstance(node, exp.Window):
            _canonical_window(node, select, binder, types)
        elif _is_plain_aggregate(node):
            _replace(node, above(node, types))
    _one_zero_in_keys(select, types)
    if select.args.get("distinct"):
        _one_zero_in_outputs(select, binder)
    if any(select.args.get(part) for part in ("order", "limit", "offset")):
        _break_ties(select)


class _Types:
    """DuckDB types of expressions over a SELECT's sources."""

    def __init__(self, select: exp.Select, binder: Binder) -> None:
        self._select = select
        self._binder = binder
        self._known: dict[str, str] = {}

    def __call__(self, node: exp.Expr) -> str:
        text = node.sql(dialect="duckdb")
        if text not in self._known:
            parts = ("group",) if node.find(exp.AggFunc) else ()
            probe = _probe(self._select, [exp.alias_(node.copy(), "x")], *parts)
            try:
                self._known[text] = self._binder.describe(probe)[0][1]
            except ViewSyntaxError as error:
                raise ViewSyntaxError(f"{position(node)}{error.message}") from error
        return self._known[text]

    def learn(self, nodes: list[exp.Expr]) -> None:
        """Ask for many types at once, which costs little more than one."""
        if not nodes:
            return
        items = [exp.alias_(node.copy(), f"x{i}") for i, node in enumerate(nodes)]
        with suppress(ViewSyntaxError):  # the one that fails is asked for again, by itself
            described = self._binder.describe(_probe(self._select, items))
            for node, (_, kind) in zip(nodes, described, strict=True):
                self._known[node.sql(dialect="duckdb")] = kind


def _typed_parts(select: exp.Select) -> list[exp.Expr]:
    """GROUP BY keys and the arguments of aggregates, whose types decide their form."""
    group = select.args.get("group")
    parts = [key for key in group.expressions if not _is_constant(key)] if group else []
    for node in own_nodes(select):
        if _is_plain_aggregate(node):
            call, _ = split_filter(node)
            argument = call.this
            if isinstance(argument, exp.Distinct):
                argument = argument.expressions[0]
            parts += [a for a in (argument, call.args.get("expression")) if _is_typed(a)]
    return parts


def _is_typed(node: object) -> bool:
    return isinstance(node, exp.Expr) and not isinstance(node, exp.Star)


def _is_plain_aggregate(node: exp.Expr) -> bool:
    call, _ = split_filter(node)
    if not isinstance(call, exp.AggFunc) or isinstance(call, WINDOW_ONLY):
        return False
    if is_window_function(node) or (
        isinstance(node.parent, exp.Filter) and node is node.parent.this
    ):
        return False
    if not isinstance(call, (*MERGEABLE, *ABOVE_ONLY)):
        raise refuse_function(call)
    return True


def _one_zero_in_keys(select: exp.Select, type_of: TypeOf) -> None:
    """GROUP BY takes -0.0 and 0.0 for one key, so the key has to be written as one of them."""
    group = select.args.get("group")
    keys = [k.copy() for k in group.expressions] if group else []
    floats = [key for key in keys if not _is_constant(key) and type_of(key) in FLOATS]
    for node in reversed(list(own_nodes(select))) if floats else []:
        if node in floats:
            node.replace(one_zero(exp.paren(node)))


def _one_zero_in_outputs(query: exp.Query, binder: Binder) -> None:
    """The same for DISTINCT and for set operations."""
    described = binder.describe(_with_ctes(query, query.sql(dialect="duckdb")))
    for select in _arms(query):
        for item, (_, kind) in zip(select.selects, described, strict=True):
            if kind in FLOATS:
                value = item.unalias()
                value.replace(one_zero(exp.paren(value)))


def _is_constant(node: exp.Expr) -> bool:
    return node.find(exp.Column) is None


def _arms(query: exp.Expr) -> list[exp.Select]:
    """The SELECTs that a set operation is made of."""
    if isinstance(query, exp.SetOperation):
        return _arms(query.left) + _arms(query.right)
    inner = query.unnest() if isinstance(query, exp.Subquery) else query
    return [inner] if isinstance(inner, exp.Select) else _arms(inner)


def _replace(node: exp.Expr, sql: str) -> None:
    new = sqlglot.parse_one(sql, dialect="duckdb")
    node.replace(exp.paren(new) if isinstance(new, exp.Binary) else new)


def _canonical_window(
    node: exp.Window, select: exp.Select, binder: Binder, type_of: TypeOf
) -> None:
    call, _ = split_filter(node.this)
    if isinstance(call, (exp.IgnoreNulls, exp.RespectNulls)):
        call = call.this
    if spec := node.args.get("spec"):
        for part in ("kind", "start_side", "end_side", "start", "end"):
            if isinstance(spec.args.get(part), str):
                spec.set(part, spec.args[part].upper())
    if isinstance(call, _BY_POSITION) or _by_rows(node):
        _check_frame(node, call)
        order = node.args.get("order") or exp.Order(expressions=[])
        known = {o.this.sql("duckdb") for o in order.expressions}
        for column in _source_columns(select, binder):
            if column.sql("duckdb") not in known:
                order.append("expressions", exp.Ordered(this=column, nulls_first=False))
        node.set("order", order)
    if isinstance(call, exp.AggFunc) and not isinstance(call, WINDOW_ONLY):
        _replace(node, above_window(node, type_of))


def _check_frame(node: exp.Window, call: exp.Expr) -> None:
    """Refuse a value by its place in a frame whose end is a group of equal rows."""
    if not isinstance(call, (exp.FirstValue, exp.LastValue, exp.NthValue)) or _by_rows(node):
        return
    spec = node.args.get("spec")
    start = spec.args.get("start") if spec else "UNBOUNDED"
    end = spec.args.get("end") if spec else "CURRENT ROW"
    if start == "UNBOUNDED" and (end == "UNBOUNDED" or isinstance(call, exp.FirstValue)):
        return
    raise refuse(
        node,
        f"{call.sql_name()} without a ROWS frame",
        "which of several equal rows stands at the frame's end is not said",
        "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW (or AND UNBOUNDED FOLLOWING)",
    )


def _by_rows(node: exp.Window) -> bool:
    spec = node.args.get("spec")
    return spec is not None and str(spec.args.get("kind", "")).upper() == "ROWS"


def _source_columns(select: exp.Select, binder: Binder) -> list[exp.Expr]:
    """What tells the rows of a window's input apart: the GROUP BY keys, or every source column."""
    group = select.args.get("group")
    if group is not None:
        return [key.copy() for key in group.expressions]
    aliases = [t.alias_or_name for t in sources(select)]
    found: list[exp.Expr] = []
    for alias in aliases:
        star = exp.Column(this=exp.Star(), table=exp.to_identifier(alias))
        for name, _ in binder.describe(_probe(select, [star])):
            found.append(exp.column(exp.to_identifier(name, quoted=True), alias))
    return found


def _probe(select: exp.Select, items: list[exp.Expr], *parts: str) -> str:
    """A query over the same sources, with the CTEs that the SELECT can see."""
    probe = exp.Select(expressions=[item.copy() for item in items])
    for part in ("from_", "joins", *parts):
        value = select.args.get(part)
        if value:
            copied = [v.copy() for v in value] if isinstance(value, list) else value.copy()
            probe.set(part, copied)
    return _with_ctes(select, probe.sql(dialect="duckdb"))


def _with_ctes(query: exp.Query, text: str) -> str:
    """The text with the CTEs in front that the query can see."""
    ctes = ", ".join(cte.sql(dialect="duckdb") for cte in _visible_ctes(query))
    return f"WITH {ctes} FROM ({text})" if ctes else text


def _visible_ctes(select: exp.Query) -> list[exp.CTE]:
    levels: list[list[exp.CTE]] = []
    node: exp.Expr | None = select
    inside: exp.Expr | None = None
    while node is not None:
        holder = node.args.get("with_")
        if isinstance(holder, exp.With):
            level = []
            for cte in holder.expressions:
                if cte is inside:
                    break
                level.append(cte)
            levels.append(level)
        if isinstance(node, exp.CTE):
            inside = node
        node = node.parent
    # Of two CTEs of one name, the inner one is seen.
    return list({cte.alias: cte for level in reversed(levels) for cte in level}.values())


def _break_ties(select: exp.Query) -> None:
    """Order by every output at last, so that LIMIT keeps the same rows in any engine."""
    order = select.args.get("order") or exp.Order(expressions=[])
    named = {o.this.sql("duckdb") for o in order.expressions}
    for item in select.selects:
        reference = exp.column(exp.to_identifier(item.alias_or_name, quoted=True))
        texts = {reference.sql("duckdb"), item.unalias().sql("duckdb"), item.alias_or_name}
        if not texts & named:
            order.append("expressions", exp.Ordered(this=reference, nulls_first=False))
    for ordered in order.expressions:
        if ordered.args.get("nulls_first") is None:
            ordered.set("nulls_first", False)
    select.set("order", order)
