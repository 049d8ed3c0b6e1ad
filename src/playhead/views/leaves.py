"""Building a leaf from the lowest aggregating SELECT, and the SELECT that stays above it."""

from collections.abc import Callable
from dataclasses import replace

import sqlglot
from sqlglot import exp

from playhead.errors import NotMergeableError, ViewSyntaxError
from playhead.views.algebra import Aggregate, analyse, normal, split_filter
from playhead.views.binder import Binder
from playhead.views.functions import (
    MERGEABLE,
    WINDOW_ONLY,
    is_session_window,
    is_window_function,
    position,
    refuse,
    refuse_function,
)
from playhead.views.grammar import interval_parts
from playhead.views.kinds import check_kind
from playhead.views.leaf import Latest, Leaf, Session, Window
from playhead.views.rows import EventRows, narrowed, substitute, used_lookups, wide_sql
from playhead.views.scalars import explicit

_WINDOW_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400, "WEEK": 604800}
_WINDOW_MONTHS = {"MONTH": (1, "month"), "QUARTER": (3, "month"), "YEAR": (1, "year")}


def build_leaf(
    name: str, select: exp.Select, rows: EventRows, binder: Binder
) -> tuple[Leaf, exp.Select]:
    """The leaf of an aggregating SELECT, and what of the SELECT stands above it.

    Args:
        name: the leaf's name; the SELECT above reads `name` under the alias `name`.
        select: the SELECT, qualified.
        rows: its FROM, JOINs and WHERE, flattened.
        binder: bound to the topic and the dimensions; learns the leaf's own columns.
    """
    if not _groups(select) and (select.args.get("qualify") or select.find(exp.Window)):
        return _Latest(name, select, rows, binder).build()
    return _Grouped(name, select, rows, binder).build()


def _groups(select: exp.Select) -> bool:
    """Whether a SELECT has a GROUP BY, or an aggregate that is no window function."""
    plain = (n for n in select.find_all(exp.AggFunc) if not is_window_function(n))
    return bool(select.args.get("group") or select.args.get("having") or any(plain))


class _Builder:
    """What both kinds of leaf share: types of expressions, and the leaf's assembly."""

    def __init__(self, name: str, select: exp.Select, rows: EventRows, binder: Binder) -> None:
        self.name = name
        self.select = select
        self.rows = rows
        self.binder = binder
        every = used_lookups(rows.lookups, _all_wide_columns(rows))
        self.wide = wide_sql(rows.topic, tuple(binder.columns(rows.topic)), every)

    def type_of(self, node: exp.Expr) -> str:
        """DuckDB type of an expression over the wide topic."""
        sql = node.sql(dialect="duckdb")
        try:
            return self.binder.describe(f"SELECT {sql} AS x FROM ({self.wide})")[0][1]
        except ViewSyntaxError as error:
            raise ViewSyntaxError(f"{position(node)}{error.message}") from error

    def flat(self, node: exp.Expr) -> exp.Expr:
        """An expression of the SELECT as one over the wide topic."""
        if found := next(filter(is_session_window, node.walk()), None):
            raise refuse_session(found)
        return explicit(substitute(node, self.rows.columns), self.type_of)

    def outer_over(self, items: list[exp.Expr]) -> exp.Select:
        """SELECT of the items from the leaf's relation."""
        outer = exp.Select(expressions=items)
        outer.set("from_", exp.From(this=exp.to_table(self.name).as_(self.name, table=True)))
        return outer

    def column(self, name: str) -> exp.Column:
        """A column of the leaf's relation."""
        return exp.column(exp.to_identifier(name, quoted=True), self.name)

    def assemble(
        self,
        keys: list[tuple[str, str]],
        aggregates: list[tuple[str, Aggregate]],
        *,
        session: Session | None = None,
        latest: Latest | None = None,
        window: Window | None = None,
    ) -> Leaf:
        where = [explicit(c, self.type_of).sql(dialect="duckdb") for c in self.rows.where]
        draft = Leaf(
            name=self.name,
            topic=self.rows.topic,
            event_columns=tuple(self.binder.columns(self.rows.topic)),
            lookups=used_lookups(self.rows.lookups, _all_wide_columns(self.rows)),
            where=" AND ".join(where) or None,
            keys=tuple(keys),
            aggregates=tuple(aggregates),
            session=session,
            latest=latest,
            window=window,
            types={},
        )
        read = _columns_in(draft, session)
        columns = tuple(c for c in draft.event_columns if c.lower() in read)
        lookups = narrowed(draft.lookups, read)
        bound = replace(draft, event_columns=columns or draft.event_columns[:1], lookups=lookups)
        _check_names(bound)
        types = dict(self.binder.describe(bound.partial(source=f"({bound.wide()})")))
        for name, kind in types.items():
            check_kind(name, kind)
        leaf = replace(bound, types=types)
        self.binder.create(self.name, self.binder.describe(leaf.full()))
        return leaf


class _Grouped(_Builder):
    """GROUP BY, DISTINCT, or aggregates over the whole topic."""

    def build(self) -> tuple[Leaf, exp.Select]:
        self._outputs: dict[str, str] = {}  # SQL of a key or aggregate -> its column
        self._kinds: set[type] = set()  # of those keys and aggregates
        self._taken: set[str] = set()
        keys, session, window = self._keys()
        self._aggregates: list[tuple[str, Aggregate]] = []
        outer = self._outer()
        leaf = self.assemble(keys, self._aggregates, session=session, window=window)
        return leaf, outer

    def _grouping(self) -> list[exp.Expr]:
        group = self.select.args.get("group")
        if group is not None:
            return list(group.expressions)
        if _groups(self.select):
            return []
        return [item.unalias() for item in self.select.selects]

    def _keys(self) -> tuple[list[tuple[str, str]], Session | None, Window | None]:
        keys, session, window = [], None, None
        for number, node in enumerate(self._grouping(), 1):
            name = self._name_for(node, f"key_{number}")
            if is_session_window(node):
                session = self._session(node, name, session)
                continue
            flat = self.flat(node)
            if found := flat.find(exp.AggFunc):
                raise ViewSyntaxError(f"{position(found)}an aggregate cannot be a GROUP BY key")
            kind = self.type_of(flat)
            sql = normal(flat.sql(dialect="duckdb"), kind)
            # A bare literal in GROUP BY would be read as a position.
            keys.append((name, sql if flat.find(exp.Column) else f"CAST({sql} AS {kind})"))
            window = window or _window(flat, name, kind)
        return keys, session, window

    def _session(self, node: exp.Expr, name: str, seen: Session | None) -> Session:
        if seen is not None:
            raise ViewSyntaxError(f"{position(node)}a view has one session_window")
        time, gap = _session_arguments(node)
        flat = self.flat(time)
        if not self.type_of(flat).startswith("TIMESTAMP"):
            raise ViewSyntaxError(f"{position(node)}session_window needs a time and a gap")
        return Session(name, flat.sql(dialect="duckdb"), gap)

    def _name_for(self, node: exp.Expr, default: str) -> str:
        """The output's own name where the node is a whole output, else a default."""
        for item in self.select.selects:
            if item.unalias() == node and item.alias_or_name.lower() not in self._taken:
                default = item.alias_or_name
                break
        else:
            if isinstance(node, exp.Column) and node.name.lower() not in self._taken:
                default = node.name
        while default.lower() in self._taken:
            default += "_"
        self._taken.add(default.lower())
        self._outputs[node.sql(dialect="duckdb")] = default
        self._kinds.add(type(node))
        return default

    def _outer(self) -> exp.Select:
        """The SELECT over the leaf's columns: outputs, HAVING, QUALIFY, ORDER BY, LIMIT."""
        outer = self.outer_over([self._lift_item(item) for item in self.select.selects])
        if having := self.select.args.get("having"):
            outer.set("where", exp.Where(this=self._lift(having.this)))
        if self.select.args.get("distinct") and _groups(self.select):
            outer.set("distinct", exp.Distinct())
        for part in ("qualify", "order", "limit", "offset"):
            if value := self.select.args.get(part):
                outer.set(part, self._lift(value))
        return outer

    def _lift_item(self, item: exp.Expr) -> exp.Expr:
        return exp.alias_(self._lift(item.unalias()), item.alias_or_name, quoted=True)

    def _lift(self, node: exp.Expr) -> exp.Expr:
        """`node` with keys and aggregates replaced by the leaf's columns."""
        aliases = {item.alias_or_name for item in self.select.selects}

        def one(part: exp.Expr) -> exp.Expr:
            if not _is_value(part):
                return part
            known = type(part) in self._kinds
            if known and (key := self._outputs.get(part.sql(dialect="duckdb"))):
                return self.column(key)
            if _is_aggregate(part):
                return self.column(self._aggregate(part))
            if is_session_window(part):
                raise refuse_session(part)
            if isinstance(part, exp.Column) and (part.table or part.name not in aliases):
                raise ViewSyntaxError(
                    f"{position(part)}column {part.name} is neither a GROUP BY key nor aggregated",
                    hint=f"Add it to GROUP BY, or take MIN({part.name}) or MAX({part.name}).",
                )
            return part

        return node.copy().transform(one, copy=False)

    def _aggregate(self, node: exp.Expr) -> str:
        call, _ = split_filter(node)
        if not isinstance(call, MERGEABLE):
            raise refuse_function(call)
        name = self._name_for(node, f"value_{len(self._aggregates) + 1}")
        self._aggregates.append((name, analyse(self.flat(node), self.type_of)))
        return name


class _Latest(_Builder):
    """`QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY time DESC) <= n` over raw events."""

    def build(self) -> tuple[Leaf, exp.Select]:
        window, limit = self._ranking()
        self._columns = [
            (item.alias_or_name, self._sql(item.unalias())) for item in self.select.selects
        ]
        outer = self._outer()
        partition = tuple(
            self._column_of(key, f"partition_{number}")
            for number, key in enumerate(window.args.get("partition_by") or [], 1)
        )
        order: dict[str, str] = {}
        for number, item in enumerate(window.args["order"].expressions, 1):
            how = "DESC" if item.args.get("desc") else "ASC"
            nulls = "FIRST" if item.args.get("nulls_first") else "LAST"
            column = self._column_of(item.this, f"order_{number}")
            order.setdefault(column, f"{how} NULLS {nulls}")
        latest = Latest(partition, tuple(order.items()), limit)
        return self.assemble(self._columns, [], latest=latest), outer

    def _sql(self, node: exp.Expr) -> str:
        flat = self.flat(node)
        return normal(flat.sql(dialect="duckdb"), self.type_of(flat))

    def _column_of(self, node: exp.Expr, name: str) -> str:
        """The state column that holds the expression, added under a free name if none does."""
        sql = self._sql(node)
        for column, text in self._columns:
            if text == sql:
                return column
        while name in {column.lower() for column, _ in self._columns}:
            name += "_"
        self._columns.append((name, sql))
        return name

    def _ranking(self) -> tuple[exp.Window, int]:
        qualify = self.select.args.get("qualify")
        condition = qualify.this.unnest() if qualify else None
        if isinstance(condition, (exp.EQ, exp.LTE)):
            window, bound = condition.this, condition.expression
            if isinstance(window, exp.Window) and self._merges(window, condition, bound):
                return window, int(bound.name)
        raise refuse_window(self.select.find(exp.Window) or self.select)

    def _merges(self, window: exp.Window, condition: exp.Expr, bound: exp.Expr) -> bool:
        """Whether the condition keeps the first n rows by a total order, and nothing else."""
        return (
            isinstance(window.this, exp.RowNumber)
            and window.args.get("order") is not None
            and isinstance(bound, exp.Literal)
            and bound.is_int
            and int(bound.name) >= 1
            and (isinstance(condition, exp.LTE) or bound.name == "1")
            and len(list(self.select.find_all(exp.Window))) == 1
        )

    def _outer(self) -> exp.Select:
        names = [name for name, _ in self._columns]
        outer = self.outer_over([exp.alias_(self.column(n), n, quoted=True) for n in names])
        if self.select.args.get("distinct"):
            outer.set("distinct", exp.Distinct())
        by_text = {item.unalias().sql("duckdb"): item.alias_or_name for item in self.select.selects}
        for part in ("order", "limit", "offset"):
            if value := self.select.args.get(part):
                outer.set(part, value.copy().transform(self._renamed(by_text), copy=False))
        return outer

    def _renamed(self, by_text: dict[str, str]) -> Callable[[exp.Expr], exp.Expr]:
        def one(node: exp.Expr) -> exp.Expr:
            if not _is_value(node):
                return node
            if name := by_text.get(node.sql("duckdb")):
                return self.column(name)
            if isinstance(node, exp.Column) and node.table:
                raise ViewSyntaxError(
                    f"{position(node)}ORDER BY {node.name}, which is no output column",
                    hint=f"Add {node.name} to the SELECT.",
                )
            return node

        return one


def _is_value(node: exp.Expr) -> bool:
    """Whether a node can be a key or an aggregate: constants stay as they are."""
    return isinstance(node, (exp.Condition, exp.Filter)) and not isinstance(node, exp.Literal)


def _is_aggregate(node: exp.Expr) -> bool:
    """An aggregate of the GROUP BY itself, not the function of an OVER clause."""
    call, _ = split_filter(node)
    if not isinstance(call, exp.AggFunc) or isinstance(call, WINDOW_ONLY):
        return False
    return not is_window_function(node)


def refuse_session(node: exp.Expr) -> NotMergeableError:
    """The refusal of a session_window that is no GROUP BY key."""
    return refuse(
        node,
        "session_window inside an expression",
        "a session is known only once the states are merged",
        "session_window(event_time, '30 minutes') AS s as a GROUP BY key of its own, and s.start "
        "above it",
    )


def refuse_window(node: exp.Expr) -> NotMergeableError:
    """The refusal of a window function below the lowest GROUP BY."""
    return refuse(
        node,
        "a window function over raw events",
        "it needs all events of its partition at once",
        "session_window(event_time, '30 minutes') as a GROUP BY key, ARG_MAX, or QUALIFY "
        "ROW_NUMBER() OVER (PARTITION BY key ORDER BY event_time DESC) = 1",
    )


def _session_arguments(node: exp.Expr) -> tuple[exp.Expr, str]:
    """The time and the gap of `session_window(time, '30 minutes' | INTERVAL ...)`."""
    arguments = node.expressions
    if len(arguments) == 2:
        time, gap = arguments
        if isinstance(gap, exp.Literal) and gap.is_string:
            gap = exp.Interval(this=gap)
        parts = interval_parts(gap)
        if parts is not None and parts[1] in _WINDOW_SECONDS:
            return time, f"INTERVAL '{parts[0]}' {parts[1]}"
    raise ViewSyntaxError(
        f"{position(node)}session_window takes a time and a gap",
        hint="Write session_window(event_time, '30 minutes').",
    )


def _window(node: exp.Expr, name: str, kind: str) -> Window | None:
    """The window of event time that a key stands for, if it does."""
    if not kind.startswith("TIMESTAMP") and kind != "DATE":
        return None
    if isinstance(node, exp.Cast) and kind == "DATE" and _is_event_time(node.this):
        return Window(name, 86400, "second")
    if isinstance(node, exp.DateBin) and _is_event_time(node.expression):
        amount, unit = interval_parts(node.this) or (0, "")
        if unit in _WINDOW_SECONDS:
            return Window(name, amount * _WINDOW_SECONDS[unit], "second")
    if isinstance(node, (exp.TimestampTrunc, exp.DateTrunc)) and _is_event_time(node.this):
        unit = node.args["unit"].name.upper()
        if unit in _WINDOW_SECONDS:
            return Window(name, _WINDOW_SECONDS[unit], "second")
        return Window(name, *_WINDOW_MONTHS[unit])
    return None


def _is_event_time(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and node.name.lower() == "event_time"


def _all_wide_columns(rows: EventRows) -> set[str]:
    nodes = [*rows.columns.values(), *rows.where]
    return {c.name for node in nodes for c in node.find_all(exp.Column)}


def _columns_in(leaf: Leaf, session: Session | None) -> set[str]:
    """Lower-case names of the wide columns that the leaf's own expressions read."""
    texts = [sql for _, sql in leaf.keys] + [leaf.where or "TRUE"]
    texts += [p for _, a in leaf.aggregates for c in a.components for p in c.partials]
    texts += [a.distinct for _, a in leaf.aggregates if a.distinct]
    texts += [session.time] if session else []
    trees = [sqlglot.parse_one(text, dialect="duckdb") for text in texts]
    return {c.name.lower() for tree in trees for c in tree.find_all(exp.Column)}


def _check_names(leaf: Leaf) -> None:
    """Refuse two columns of one name, in the state or in the wide topic."""
    wide = [lookup.wide(c) for lookup in leaf.lookups for c in lookup.columns]
    wide += [lookup.found for lookup in leaf.lookups]
    for columns in (leaf.state_columns, (*leaf.event_columns, *wide)):
        seen: set[str] = set()
        for name in (column.lower() for column in columns):
            if name in seen:
                raise ViewSyntaxError(f"two columns are named {name}", hint="Rename one of them.")
            seen.add(name)
