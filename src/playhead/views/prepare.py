"""Rewrites of a view's text around name resolution, so that the compiler sees one form of each.

Before it: functions with several spellings, named windows, implied dimensions. After it:
GROUP BY ALL and ORDER BY ALL.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from sqlglot import exp

from playhead.errors import ViewSyntaxError
from playhead.views.functions import position
from playhead.views.relations import Relation

_STATE = re.compile(r"state_\d+")
_PARTS: dict[str, type[exp.Expr]] = {
    "year": exp.Year, "quarter": exp.Quarter, "month": exp.Month, "week": exp.WeekOfYear,
    "day": exp.Day, "hour": exp.Hour, "minute": exp.Minute, "second": exp.Second,
    "dayofweek": exp.DayOfWeek, "dow": exp.DayOfWeek, "isodow": exp.DayOfWeekIso,
    "dayofweekiso": exp.DayOfWeekIso, "dayofyear": exp.DayOfYear, "doy": exp.DayOfYear,
}  # fmt: skip


def unify(tree: exp.Expr) -> None:
    """One spelling for each function: EXTRACT, DATE(), DATE_ADD and WEEK become others."""
    for node in reversed(list(tree.find_all(exp.Extract, exp.Date, exp.DateAdd, exp.Week))):
        if isinstance(node, exp.Extract):
            node.replace(_PARTS[node.name.lower()](this=node.expression))
        elif isinstance(node, exp.Week):
            node.replace(exp.WeekOfYear(this=node.this))
        elif isinstance(node, exp.Date):
            node.replace(exp.cast(node.this, "DATE"))
        else:
            node.replace(exp.paren(exp.Add(this=node.this, expression=node.expression)))


def compare_with_constants(tree: exp.Expr) -> None:
    """`x IS DISTINCT FROM constant` by <> and IS NULL, which every scan understands."""
    for node in list(tree.find_all(exp.NullSafeEQ, exp.NullSafeNEQ)):
        sides = (node.this, node.args["expression"])
        constants = [side for side in sides if not side.find(exp.Column)]
        if len(constants) != 1:
            continue
        value = sides[1] if constants[0] is sides[0] else sides[0]
        null = exp.Is(this=exp.paren(value.copy()), expression=exp.Null())
        if isinstance(constants[0], exp.Null):
            same: exp.Expr = null
        else:
            equal = exp.EQ(this=value.copy(), expression=constants[0].copy())
            same = exp.And(this=equal, expression=exp.Not(this=null))
        new = same if isinstance(node, exp.NullSafeEQ) else exp.Not(this=exp.paren(same))
        node.replace(exp.paren(new))


def inline_windows(tree: exp.Expr) -> None:
    """`OVER w` with what `WINDOW w AS (...)` says, so that every window stands alone."""
    for select in tree.find_all(exp.Select):
        named = {w.name.lower(): w for w in select.args.get("windows") or []}
        for node in own_nodes(select):
            name = node.args.get("alias") if isinstance(node, exp.Window) else None
            if name is None:
                continue
            if name.name.lower() not in named:
                raise ViewSyntaxError(f"{position(node)}no WINDOW {name.name}")
            node.set("alias", None)
            for part, value in named[name.name.lower()].args.items():
                if part in ("partition_by", "order", "spec") and value and not node.args.get(part):
                    copied = [v.copy() for v in value] if isinstance(value, list) else value.copy()
                    node.set(part, copied)
        select.set("windows", None)


def check_names(tree: exp.Expr, relations: Mapping[str, Relation]) -> None:
    """Refuse CTEs that hide a relation, whose meaning would depend on where they are read.

    Raises:
        ViewSyntaxError: a CTE has the name of a topic, of a dimension or of a state.
    """
    for cte in tree.find_all(exp.CTE):
        name = cte.alias.lower()
        if name in relations or _STATE.fullmatch(name):
            raise ViewSyntaxError(
                f"{position(cte)}WITH {cte.alias} hides a relation of that name",
                hint="Give the CTE another name.",
            )


def join_implied_dimensions(tree: exp.Expr, relations: Mapping[str, Relation]) -> None:
    """Views may read the wide topic: a column that only a dimension has brings its lookup."""
    dimensions = [r for r in relations.values() if r.kind == "dimension" and r.key]
    for select in list(tree.find_all(exp.Select)):
        tables = [s for s in sources(select) if isinstance(s, exp.Table)]
        topics = [t for t in tables if (r := relations.get(t.name.lower())) and r.kind == "topic"]
        if len(topics) == 1 and len(tables) == len(sources(select)):
            _join_implied(select, topics[0], tables, dimensions, relations)


def _join_implied(
    select: exp.Select,
    topic: exp.Table,
    tables: list[exp.Table],
    dimensions: list[Relation],
    relations: Mapping[str, Relation],
) -> None:
    known = {n for t in tables if (r := relations.get(t.name.lower())) for n in _columns(r)}
    known |= _hiding_aliases(select)
    event_columns = _columns(relations[topic.name.lower()])
    usable = [d for d in dimensions if {k.lower() for k in d.key} <= event_columns]
    joined = {t.name.lower() for t in tables}
    for column in own_nodes(select):
        if not isinstance(column, exp.Column) or column.table or column.name.lower() in known:
            continue
        owners = [d for d in usable if column.name.lower() in _columns(d)]
        if len(owners) > 1:
            names = " and ".join(d.name for d in owners)
            raise ViewSyntaxError(
                f"{position(column)}column {column.name} is in {names}",
                hint=f"JOIN the one that is meant, and write {owners[0].name}.{column.name}.",
            )
        for dimension in owners:
            if dimension.name.lower() not in joined:
                joined.add(dimension.name.lower())
                _left_join(select, topic.alias_or_name, dimension)
            column.set("table", exp.to_identifier(dimension.name))


def _columns(relation: Relation) -> set[str]:
    return {name.lower() for name in relation.schema.names}


def _hiding_aliases(select: exp.Select) -> set[str]:
    """Aliases that stand for something else than the column of the same name."""
    return {
        item.alias.lower()
        for item in select.selects
        if item.alias
        and all(c.name.lower() != item.alias.lower() for c in item.find_all(exp.Column))
    }


def _left_join(select: exp.Select, topic: str, dimension: Relation) -> None:
    on = exp.and_(*(exp.column(k, topic).eq(exp.column(k, dimension.name)) for k in dimension.key))
    select.append("joins", exp.Join(this=exp.to_table(dimension.name), side="LEFT", on=on))


def expand_all(tree: exp.Expr) -> None:
    """`GROUP BY ALL` as the outputs without aggregate, `ORDER BY ALL` as all outputs."""
    for query in tree.find_all(exp.Query):
        group = query.args.get("group")
        if group is not None and group.args.get("all"):
            keys = [item.unalias().copy() for item in query.selects if _is_key(item)]
            query.set("group", exp.Group(expressions=keys) if keys else None)
        order = query.args.get("order")
        if order is not None and isinstance(order.expressions[0].this, exp.Var):
            first = order.expressions[0]
            columns = [exp.column(exp.to_identifier(n)) for n in query.named_selects]
            nulls_first = first.args.get("nulls_first")
            order.set(
                "expressions",
                [
                    exp.Ordered(this=c, desc=first.args.get("desc"), nulls_first=nulls_first)
                    for c in columns
                ],
            )


def _is_key(item: exp.Expr) -> bool:
    """Whether GROUP BY ALL takes an output for a key: it reads columns and aggregates nothing."""
    return bool(item.find(exp.Column)) and not item.find(exp.AggFunc, exp.Window)


def spellings(tree: exp.Expr, relations: Iterable[Relation]) -> dict[str, str]:
    """How names that name resolution makes lower-case are written, by the lower-case name."""
    found = {name.lower(): name for relation in relations for name in relation.schema.names}
    found |= {a.alias.lower(): a.alias for a in tree.find_all(exp.Alias)}
    return found


def sources(select: exp.Select) -> list[exp.Expr]:
    """What a SELECT's FROM and JOINs read."""
    first = select.args.get("from_")
    return ([first.this] if first else []) + [j.this for j in select.args.get("joins") or []]


def own_nodes(select: exp.Expr) -> Iterator[exp.Expr]:
    """Nodes of this SELECT, not of the queries inside it (which it gives, but not enters)."""
    return select.walk(prune=lambda n: n is not select and isinstance(n, exp.Query))
