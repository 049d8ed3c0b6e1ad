"""What stands above the leaves, in a form that no order of rows can change.

Sums are exact and typed, division is DOUBLE and NULL at zero, and wherever an order decides
(LIMIT, ROW_NUMBER, LAG, ...) ties are broken by all columns of the source.
"""

import sqlglot
from sqlglot import exp

from playhead.errors import ViewSyntaxError
from playhead.views.algebra import TypeOf, above, above_window, split_filter
from playhead.views.binder import Binder
from playhead.views.functions import ABOVE_ONLY, MERGEABLE, WINDOW_ONLY, position, refuse_function

_BY_POSITION = (
    exp.RowNumber,
    exp.Ntile,
    exp.Lag,
    exp.Lead,
    exp.FirstValue,
    exp.LastValue,
    exp.NthValue,
)


def canonical_skeleton(tree: exp.Expression, binder: Binder) -> tuple[exp.Expression, bool]:
    """The tree above the leaves, made canonical; and whether it orders its answer.

    Args:
        tree: qualified, its leaves already replaced by their relations.
        binder: knows the leaves and the dimensions.
    """
    for select in reversed(list(tree.find_all(exp.Select))):
        _canonical_select(select, binder)
    if isinstance(tree, exp.SetOperation) and (tree.args.get("order") or tree.args.get("limit")):
        _break_ties(tree)
    ordered = bool(tree.args.get("order") or tree.args.get("limit"))
    return tree, ordered


def divide(tree: exp.Expression) -> None:
    """Make every division one that all engines compute alike."""
    for node in reversed(list(tree.find_all(exp.Div, exp.IntDiv, exp.Mod))):
        if _guarded(node):
            continue
        if isinstance(node, exp.Div):
            left, right = (_cast_double(side) for side in (node.left, node.right))
            node.replace(exp.Div(this=left, expression=exp.Nullif(this=right, expression=_zero())))
        else:
            node.set("expression", exp.Nullif(this=node.right.copy(), expression=_zero()))


def _guarded(node: exp.Expression) -> bool:
    right = node.right
    return isinstance(right, exp.Nullif) and right.expression == _zero()


def _zero() -> exp.Literal:
    return exp.Literal.number(0)


def _cast_double(node: exp.Expression) -> exp.Expression:
    inner = node.unnest() if isinstance(node, exp.Paren) else node
    if isinstance(inner, exp.Cast) and inner.to.this == exp.DataType.Type.DOUBLE:
        return inner.copy()
    return exp.cast(inner.copy(), "DOUBLE")


def _canonical_select(select: exp.Select, binder: Binder) -> None:
    def type_of(node: exp.Expression) -> str:
        return _type_in(select, node, binder)

    for node in reversed(list(_own(select))):
        if isinstance(node, exp.Window):
            _canonical_window(node, select, binder, type_of)
        elif _is_plain_aggregate(node):
            _replace(node, above(node, type_of))
    if any(select.args.get(part) for part in ("order", "limit", "offset")):
        _break_ties(select)


def _own(select: exp.Select) -> list[exp.Expression]:
    return list(select.walk(prune=lambda n: n is not select and isinstance(n, exp.Query)))


def _is_plain_aggregate(node: exp.Expression) -> bool:
    call, _ = split_filter(node)
    if not isinstance(call, exp.AggFunc) or isinstance(call, WINDOW_ONLY):
        return False
    if isinstance(node.parent, (exp.Filter, exp.Window)) and node.parent.this is node:
        return False
    if not isinstance(call, (*MERGEABLE, *ABOVE_ONLY)):
        raise refuse_function(call)
    return True


def _replace(node: exp.Expression, sql: str) -> None:
    new = sqlglot.parse_one(sql, dialect="duckdb")
    node.replace(exp.paren(new) if isinstance(new, exp.Binary) else new)


def _canonical_window(
    node: exp.Window, select: exp.Select, binder: Binder, type_of: TypeOf
) -> None:
    call, _ = split_filter(node.this)
    if isinstance(call, _BY_POSITION) or _by_rows(node):
        order = node.args.get("order") or exp.Order(expressions=[])
        known = {o.this.sql("duckdb") for o in order.expressions}
        for column in _source_columns(select, binder):
            if column.sql("duckdb") not in known:
                order.append("expressions", exp.Ordered(this=column, nulls_first=False))
        node.set("order", order)
    if isinstance(call, exp.AggFunc) and not isinstance(call, WINDOW_ONLY):
        _replace(node, above_window(node, type_of))


def _by_rows(node: exp.Window) -> bool:
    spec = node.args.get("spec")
    return spec is not None and str(spec.args.get("kind", "")).upper() == "ROWS"


def _source_columns(select: exp.Select, binder: Binder) -> list[exp.Expression]:
    """What tells the rows of a window's input apart: the GROUP BY keys, or every source column."""
    group = select.args.get("group")
    if group is not None:
        return [key.copy() for key in group.expressions]
    probe = _probe(select, [exp.Star()])
    names = [name for name, _ in binder.describe(probe)]
    aliases = [t.alias_or_name for t in _sources(select)]
    if len(aliases) == 1:
        return [exp.column(exp.to_identifier(name, quoted=True), aliases[0]) for name in names]
    found = []
    for alias in aliases:
        star = exp.Column(this=exp.Star(), table=exp.to_identifier(alias))
        for name, _ in binder.describe(_probe(select, [star])):
            found.append(exp.column(exp.to_identifier(name, quoted=True), alias))
    return found


def _sources(select: exp.Select) -> list[exp.Expression]:
    first = select.args.get("from_")
    return ([first.this] if first else []) + [j.this for j in select.args.get("joins") or []]


def _probe(select: exp.Select, items: list[exp.Expression]) -> str:
    """A query over the same sources, with the CTEs that the SELECT can see."""
    probe = exp.Select(expressions=[item.copy() for item in items])
    for part in ("from_", "joins"):
        value = select.args.get(part)
        if value:
            copied = [v.copy() for v in value] if isinstance(value, list) else value.copy()
            probe.set(part, copied)
    ctes = _visible_ctes(select)
    text = probe.sql(dialect="duckdb")
    if not ctes:
        return text
    return f"WITH {', '.join(cte.sql(dialect='duckdb') for cte in ctes)} {text}"


def _visible_ctes(select: exp.Select) -> list[exp.CTE]:
    levels: list[list[exp.CTE]] = []
    node: exp.Expression | None = select
    inside: exp.Expression | None = None
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
    return [cte for level in reversed(levels) for cte in level]


def _type_in(select: exp.Select, node: exp.Expression, binder: Binder) -> str:
    try:
        return binder.describe(_probe(select, [exp.alias_(node.copy(), "x")]))[0][1]
    except ViewSyntaxError as error:
        raise ViewSyntaxError(f"{position(node)}{error.message}") from error


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

