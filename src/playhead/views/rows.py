"""Row-wise SQL over one topic, flattened: projections, filters and lookups by key.

Whatever stands below the lowest GROUP BY (subqueries, CTEs, joins with dimensions) becomes one
`EventRows`: expressions over the flat, wide topic, in which a dimension's column is named
`<dimension>__<column>`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa
from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from playhead.errors import NotMergeableError, ViewSyntaxError
from playhead.views.binder import quote
from playhead.views.functions import position, refuse
from playhead.views.kinds import one_zero
from playhead.views.relations import Relation


@dataclass(frozen=True)
class Lookup:
    """One dimension joined to a topic by key, and the dimension's columns that are read.

    `on` pairs (event column, dimension column). `prefix` names its columns in the wide topic;
    `<prefix>__found` says whether the key was there.
    """

    dimension: str
    on: tuple[tuple[str, str], ...]
    columns: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        if all(event == key for event, key in self.on):
            return self.dimension
        return f"{self.dimension}__by_{'_'.join(event for event, _ in self.on)}"

    @property
    def found(self) -> str:
        return f"{self.prefix}__found"

    def wide(self, column: str) -> str:
        """The name of a dimension's column in the wide topic."""
        return f"{self.prefix}__{column}"


@dataclass
class EventRows:
    """Rows of one topic: output expressions, filters, and the lookups that both rely on."""

    topic: str
    columns: dict[str, exp.Expr]
    where: list[exp.Expr] = field(default_factory=list)
    lookups: list[Lookup] = field(default_factory=list)


def wide_sql(
    topic: str, columns: tuple[str, ...], lookups: tuple[Lookup, ...], *, source: str | None = None
) -> str:
    """SELECT that makes the wide topic from the topic and its dimensions.

    Args:
        topic: the topic's relation, unless `source` names another relation of its shape.
        columns: event columns to keep.
        lookups: dimensions to join; every one keeps all events (LEFT JOIN on a unique key).
    """
    items = [f"e.{quote(column)}" for column in columns]
    joins = []
    for lookup in lookups:
        alias = quote(lookup.prefix)
        items += [f"{alias}.{quote(c)} AS {quote(lookup.wide(c))}" for c in lookup.columns]
        items.append(f"{alias}.{quote(lookup.on[0][1])} IS NOT NULL AS {quote(lookup.found)}")
        on = " AND ".join(f"e.{quote(a)} = {alias}.{quote(b)}" for a, b in lookup.on)
        joins.append(f" LEFT JOIN {quote(lookup.dimension)} AS {alias} ON {on}")
    read = f"{source or quote(topic)} AS e{''.join(joins)}"
    return f"SELECT {', '.join(items) or '1 AS one'} FROM {read}"


def flatten(scope: Scope, inner: dict[str, EventRows], relations: dict[str, Relation]) -> EventRows:
    """The rows that a SELECT's FROM, JOINs and WHERE give, as one `EventRows`.

    Args:
        scope: the SELECT, qualified.
        inner: by alias, the row-wise subqueries or topics among its sources (exactly one).
        relations: dimensions by name.

    Returns:
        Rows whose `columns` are keyed "alias.column" for the SELECT's own sources.
    """
    return _Flattener(scope, inner, relations).run()


class _Flattener:
    def __init__(
        self, scope: Scope, inner: dict[str, EventRows], relations: dict[str, Relation]
    ) -> None:
        self._select = scope.expression
        self._relations = relations
        (self._alias, base), *_ = inner.items()
        self._rows = EventRows(
            base.topic,
            {f"{self._alias}.{name}": node for name, node in base.columns.items()},
            list(base.where),
            list(base.lookups),
        )

    def run(self) -> EventRows:
        where = self._select.args.get("where")
        free = list(_conjuncts(where.this)) if where else []
        joins: list[exp.Join] = list(self._select.args.get("joins") or [])
        first = self._select.args["from_"].this
        if first.alias_or_name != self._alias:
            self._swap_first(first, joins)
        for join in joins:
            free = self._join(join, free)
        self._rows.where += [self.substitute(condition) for condition in free]
        return self._rows

    def _swap_first(self, first: exp.Expr, joins: list[exp.Join]) -> None:
        """`FROM dimension JOIN topic`: the same rows as `FROM topic JOIN dimension`, if inner."""
        at = next(i for i, join in enumerate(joins) if join.this.alias_or_name == self._alias)
        kind = _join_kind(joins[at])
        if kind not in ("", "CROSS", "INNER"):
            raise refuse(
                joins[at],
                f"{kind} JOIN with the dimension on the left",
                "rows without events are no events, and would be counted in every part",
                "put the topic first, or join the dimension above the GROUP BY",
            )
        joins[at] = exp.Join(this=first, on=joins[at].args.get("on"))

    def _join(self, join: exp.Join, free: list[exp.Expr]) -> list[exp.Expr]:
        """Turn one join into a lookup; returns the filters that are still to be applied."""
        table, alias, side = join.this, join.this.alias_or_name, join.side
        kind = _join_kind(join)
        if kind not in ("", "CROSS", "INNER", "LEFT", "LEFT OUTER"):
            raise refuse(
                join,
                f"{kind} JOIN below the GROUP BY",
                "only rows of the topic may be counted, each once",
                "INNER or LEFT JOIN a dimension by its key",
            )
        relation = self._relations.get(table.name.lower())
        if not isinstance(table, exp.Table) or relation is None:
            raise refuse(
                join,
                f"a join of events with {alias}",
                "it is no dimension, so a part of the events would meet a part of it",
                "JOIN the dimension itself by its key and filter in WHERE, or aggregate first and "
                "join above the GROUP BY",
            )
        on = list(_conjuncts(join.args["on"])) if join.args.get("on") else []
        candidates = on if side == "LEFT" else on + free
        lookup, used = self._lookup(relation, alias, candidates)
        rest = [condition for condition in candidates if not any(condition is u for u in used)]
        if side == "LEFT" and rest:
            raise refuse(
                join,
                f"LEFT JOIN {alias} on more than its key",
                "it is a lookup by key",
                "move the other conditions into a CASE, or use an inner JOIN",
            )
        self._bind(lookup, alias, relation, inner=side != "LEFT")
        return rest if side != "LEFT" else free

    def _lookup(
        self, relation: Relation, alias: str, candidates: list[exp.Expr]
    ) -> tuple[Lookup, list[exp.Expr]]:
        pairs: dict[str, tuple[str, exp.Expr]] = {}
        for condition in candidates:
            if (found := self._equality(condition, alias, relation)) and (
                not relation.key or found[1] in relation.key
            ):
                pairs.setdefault(found[1], (found[0], condition))
        key = relation.key or tuple(sorted(pairs))
        if not key or set(pairs) != set(key):
            want = ", ".join(relation.key) or "a column"
            raise NotMergeableError(
                f"the join with {relation.name} is refused: it is not an equality of plain event "
                f"columns with the dimension's key ({want}), so an event could be counted twice",
                hint=f"Instead: JOIN {relation.name} USING ({want}).",
            )
        on = tuple((pairs[column][0], column) for column in key)
        for event, column in on:
            self._check_key(relation, event, column)
        return Lookup(relation.name, on), [pairs[column][1] for column in key]

    def _check_key(self, relation: Relation, event: str, column: str) -> None:
        """A lookup compares keys as they are: no engine converts one side's type for it."""
        ours = self._relations[self._rows.topic.lower()].schema.field(event).type
        theirs = relation.schema.field(column).type
        if not _same_key_type(ours, theirs):
            raise NotMergeableError(
                f"the join with {relation.name} is refused: {event} is {ours} and "
                f"{relation.name}.{column} is {theirs}, which engines convert differently",
                hint="Instead: give both columns the same type, a text or a whole number.",
            )

    def _equality(
        self, condition: exp.Expr, alias: str, relation: Relation
    ) -> tuple[str, str] | None:
        """(event column, dimension column) if `condition` is `event column = alias.column`."""
        if not isinstance(condition, exp.EQ):
            return None
        for ours, theirs in ((condition.left, condition.right), (condition.right, condition.left)):
            if isinstance(theirs, exp.Column) and theirs.table == alias:
                value = self._rows.columns.get(_key(ours)) if isinstance(ours, exp.Column) else None
                if isinstance(value, exp.Column) and not _of_dimension(value, self._rows.lookups):
                    return value.name, _real_names(relation)[theirs.name]
        return None

    def _bind(self, lookup: Lookup, alias: str, relation: Relation, *, inner: bool) -> None:
        """Make the dimension's columns visible under the alias, and note the lookup."""
        if any(k.prefix == lookup.prefix and k.on != lookup.on for k in self._rows.lookups):
            raise NotMergeableError(
                f"two joins with {relation.name} by different columns are refused: it has no "
                "declared key, so one name would stand for two lookups",
                hint="Instead: give the schema of a dimension whose key is declared.",
            )
        self._rows.lookups.append(lookup)
        found = exp.column(lookup.found)
        if inner:
            self._rows.where.append(found)
        of_key = {key: event for event, key in lookup.on}
        for lower, name in _real_names(relation).items():
            if name in of_key:
                event = exp.column(of_key[name])
                value: exp.Expr = event if inner else exp.Case().when(found.copy(), event)
            else:
                value = exp.column(lookup.wide(name))
                if pa.types.is_floating(relation.schema.field(name).type):
                    value = one_zero(value)
            self._rows.columns.setdefault(f"{alias}.{lower}", value)

    def substitute(self, node: exp.Expr) -> exp.Expr:
        return substitute(node, self._rows.columns)


def _join_kind(join: exp.Join) -> str:
    return " ".join(word for word in (join.method, join.side, join.kind) if word)


def _real_names(relation: Relation) -> dict[str, str]:
    return {name.lower(): name for name in relation.schema.names}


def _of_dimension(column: exp.Column, lookups: list[Lookup]) -> bool:
    return any(column.name.startswith(f"{lookup.prefix}__") for lookup in lookups)


def _same_key_type(ours: pa.DataType, theirs: pa.DataType) -> bool:
    kinds = _plain(ours), _plain(theirs)
    if any(pa.types.is_null(kind) for kind in kinds):
        return True
    whole = all(pa.types.is_integer(kind) for kind in kinds)
    return whole or (kinds[0] == kinds[1] and not pa.types.is_floating(kinds[0]))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without what only its storage tells."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pa.string() if text else kind


def substitute(node: exp.Expr, columns: dict[str, exp.Expr]) -> exp.Expr:
    """`node` with every "alias.column" replaced by its expression over the wide topic.

    Raises:
        ViewSyntaxError: a column that is not among `columns`.
    """

    def one(part: exp.Expr) -> exp.Expr:
        if isinstance(part, exp.Column):
            value = columns.get(_key(part))
            if value is None:
                raise ViewSyntaxError(f"{position(part)}no column {part.sql(dialect='duckdb')}")
            value = value.copy()
            value.meta.update(part.this.meta)
            atomic = not isinstance(value, (exp.Binary, exp.Unary, exp.Between, exp.In))
            return value if atomic else exp.paren(value)
        if isinstance(part, exp.Coalesce) and (same := _same_key(part, columns)) is not None:
            return same
        return part

    return node.copy().transform(one, copy=False)


def _same_key(node: exp.Coalesce, columns: dict[str, exp.Expr]) -> exp.Expr | None:
    """`COALESCE(event.key, dimension.key)`, which USING writes, is the event's key."""
    parts = [node.this, *node.expressions]
    values = [columns.get(_key(p)) if isinstance(p, exp.Column) else None for p in parts]
    first = values[0]
    if not isinstance(first, exp.Column) or any(value is None for value in values):
        return None
    names = {c.name for value in values if value is not None for c in _results(value)}
    return first.copy() if names == {first.name} else None


def _results(value: exp.Expr) -> Iterator[exp.Expr]:
    """What a key expression made by `_bind` can give: the event's key (or NULL)."""
    if isinstance(value, exp.Case) and not value.args.get("default"):
        yield from (branch.args["true"] for branch in value.args["ifs"])
    else:
        yield value


def _key(column: exp.Column) -> str:
    return f"{column.table}.{column.name}"


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    """Conditions that all have to hold, each safe to stand beside AND."""
    inner = node.unnest()
    if isinstance(inner, exp.And):
        yield from _conjuncts(inner.left)
        yield from _conjuncts(inner.right)
    else:
        yield exp.paren(inner) if isinstance(inner, exp.Or) else inner


def used_lookups(lookups: list[Lookup], read: set[str]) -> tuple[Lookup, ...]:
    """The distinct lookups, each with just the dimension columns that are read."""
    merged: dict[str, Lookup] = {lookup.prefix: lookup for lookup in lookups}
    result = []
    for lookup in merged.values():
        start = f"{lookup.prefix}__"
        columns = sorted(
            name.removeprefix(start)
            for name in read
            if name.startswith(start) and name != lookup.found and _owner(name, merged) == lookup
        )
        if columns or lookup.found in read:
            result.append(replace(lookup, columns=tuple(columns)))
    return tuple(result)


def narrowed(lookups: tuple[Lookup, ...], read: set[str]) -> tuple[Lookup, ...]:
    """The lookups with the columns that are read, by lower-case name in the wide topic."""
    kept = [
        replace(k, columns=tuple(c for c in k.columns if k.wide(c).lower() in read))
        for k in lookups
    ]
    return tuple(k for k in kept if k.columns or k.found.lower() in read)


def _owner(name: str, lookups: dict[str, Lookup]) -> Lookup | None:
    """The lookup with the longest prefix that the wide column begins with."""
    fits = [prefix for prefix in lookups if name.startswith(f"{prefix}__")]
    return lookups[max(fits, key=len)] if fits else None
