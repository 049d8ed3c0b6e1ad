"""Building a leaf from the lowest aggregating SELECT, and the SELECT that stays above it."""

from collections.abc import Callable
from dataclasses import replace

import sqlglot
from sqlglot import exp

from playhead.errors import ViewSyntaxError
from playhead.views.algebra import Aggregate, analyse, normal, split_filter
from playhead.views.binder import Binder
from playhead.views.functions import MERGEABLE, WINDOW_ONLY, position, refuse, refuse_function
from playhead.views.leaf import Latest, Leaf, Session, Window
from playhead.views.rows import EventRows, substitute, used_lookups, wide_sql

_WINDOW_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400, "WEEK": 604800}


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
    if select.args.get("qualify") and not select.args.get("group"):
        return _Latest(name, select, rows, binder).build()
    return _Grouped(name, select, rows, binder).build()


class _Builder:
    """What both kinds of leaf share: types of expressions, and the leaf's assembly."""

    def __init__(self, name: str, select: exp.Select, rows: EventRows, binder: Binder) -> None:
        self.name = name
        self.select = select
        self.rows = rows
        self.binder = binder
        every = used_lookups(rows.lookups, _all_wide_columns(rows))
        self.wide = wide_sql(rows.topic, tuple(binder.columns(rows.topic)), every)

    def type_of(self, node: exp.Expression) -> str:
        """DuckDB type of an expression over the wide topic."""
        sql = node.sql(dialect="duckdb")
        try:
            return self.binder.describe(f"SELECT {sql} AS x FROM ({self.wide})")[0][1]
        except ViewSyntaxError as error:
            raise ViewSyntaxError(f"{position(node)}{error.message}") from error

    def flat(self, node: exp.Expression) -> exp.Expression:
        return substitute(node, self.rows.columns)

    def assemble(
        self,
        keys: list[tuple[str, str]],
        aggregates: list[tuple[str, Aggregate]],
        *,
        session: Session | None = None,
        latest: Latest | None = None,
        window: Window | None = None,
    ) -> Leaf:
        where = [c.sql(dialect="duckdb") for c in self.rows.where]
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
        lookups = used_lookups(self.rows.lookups, read)
        bound = _with(draft, event_columns=columns or draft.event_columns[:1], lookups=lookups)
        types = dict(self.binder.describe(bound.partial(source=f"({bound.wide()})")))
        leaf = _with(bound, types=types)
        self.binder.create(self.name, self.binder.describe(leaf.full()))
        return leaf


class _Grouped(_Builder):
    """GROUP BY, DISTINCT, or aggregates over the whole topic."""

    def build(self) -> tuple[Leaf, exp.Select]:
        self._outputs: dict[str, str] = {}  # SQL of a key or aggregate -> its column
        self._taken: set[str] = set()
        keys, session, window = self._keys()
        self._aggregates: list[tuple[str, Aggregate]] = []
        outer = self._outer()
        leaf = self.assemble(keys, self._aggregates, session=session, window=window)
        return leaf, outer

    def _grouping(self) -> list[exp.Expression]:
        group = self.select.args.get("group")
        if group is not None:
            return list(group.expressions)
        if self.select.args.get("distinct"):
            return [item.unalias() for item in self.select.selects]
        return []

    def _keys(self) -> tuple[list[tuple[str, str]], Session | None, Window | None]:
        keys, session, window = [], None, None
        for number, node in enumerate(self._grouping(), 1):
            name = self._name_for(node, f"key_{number}")
            if _is_session(node):
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

    def _session(self, node: exp.Expression, name: str, seen: Session | None) -> Session:
        if seen is not None:
            raise ViewSyntaxError(f"{position(node)}a view has one session_window")
        time, gap = _session_arguments(node)
        flat = self.flat(time)
        if not self.type_of(flat).startswith("TIMESTAMP"):
            raise ViewSyntaxError(f"{position(node)}session_window needs a time and a gap")
        return Session(name, flat.sql(dialect="duckdb"), gap)

    def _name_for(self, node: exp.Expression, default: str) -> str:
        """The output's own name where the node is a whole output, else a default."""
        text = node.sql(dialect="duckdb")
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
        self._outputs[text] = default
        return default

    def _outer(self) -> exp.Select:
        """The SELECT over the leaf's columns: outputs, HAVING, QUALIFY, ORDER BY, LIMIT."""
        outer = exp.Select(expressions=[self._lift_item(item) for item in self.select.selects])
        outer.set("from_", exp.From(this=exp.to_table(self.name).as_(self.name, table=True)))
        if having := self.select.args.get("having"):
            outer.set("where", exp.Where(this=self._lift(having.this)))
        for part in ("windows", "qualify", "order", "limit", "offset"):
            value = self.select.args.get(part)
            if value:
                lifted = [self._lift(v) for v in value] if isinstance(value, list) else self._lift(value)
                outer.set(part, lifted)
        return outer

    def _lift_item(self, item: exp.Expression) -> exp.Expression:
        return exp.alias_(self._lift(item.unalias()), item.alias_or_name, quoted=True)

    def _lift(self, node: exp.Expression) -> exp.Expression:
        """`node` with keys and aggregates replaced by the leaf's columns."""
        aliases = {item.alias_or_name for item in self.select.selects}

        def one(part: exp.Expression) -> exp.Expression:
            key = self._outputs.get(part.sql(dialect="duckdb")) if _may_be_key(part) else None
            if key is not None:
                return self._column(key)
            if _is_aggregate(part):
                return self._column(self._aggregate(part))
            if isinstance(part, exp.Column) and (part.table or part.name not in aliases):
                raise ViewSyntaxError(
                    f"{position(part)}column {part.name} is neither a GROUP BY key nor aggregated",
                    hint=f"Add it to GROUP BY, or take MIN({part.name}) or MAX({part.name}).",
                )
            return part

        return node.copy().transform(one, copy=False)

    def _column(self, name: str) -> exp.Column:
        return exp.column(exp.to_identifier(name, quoted=True), self.name)

    def _aggregate(self, node: exp.Expression) -> str:
        text = node.sql(dialect="duckdb")
        if text in self._outputs:
            return self._outputs[text]
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
        columns: list[tuple[str, str]] = []
        for item in self.select.selects:
            self._add(columns, self.flat(item.unalias()), item.alias_or_name)
        outer = self._outer([name for name, _ in columns])
        partition = tuple(
            self._add(columns, self.flat(e), f"partition_{i}")
            for i, e in enumerate(window.args.get("partition_by") or [], 1)
        )
        order = tuple(
            (self._add(columns, self.flat(o.this), f"order_{i}"), bool(o.args.get("desc")))
            for i, o in enumerate(window.args["order"].expressions, 1)
        )
        leaf = self.assemble(columns, [], latest=Latest(partition, order, limit))
        return leaf, outer

    def _add(self, columns: list[tuple[str, str]], flat: exp.Expression, name: str) -> str:
        """The state column that holds the expression, added if none does yet."""
        sql = normal(flat.sql(dialect="duckdb"), self.type_of(flat))
        known = {text: column for column, text in columns}
        if sql in known and name not in {i.alias_or_name for i in self.select.selects}:
            return known[sql]
        columns.append((name, sql))
        return name

    def _ranking(self) -> tuple[exp.Window, int]:
        condition = self.select.args["qualify"].this.unnest()
        if isinstance(condition, (exp.EQ, exp.LTE)):
            window, bound = condition.this, condition.expression
            if isinstance(window, exp.Window) and self._merges(window, condition, bound):
                return window, int(bound.name)
        raise refuse(
            self.select.args["qualify"],
            "a window function over raw events",
            "only the latest rows of a key can be merged",
            "QUALIFY ROW_NUMBER() OVER (PARTITION BY key ORDER BY event_time DESC) = 1",
        )

    def _merges(
        self, window: exp.Window, condition: exp.Expression, bound: exp.Expression
    ) -> bool:
        """Whether the condition keeps the first n rows by a total order, and nothing else."""
        functions = [f for f in self.select.find_all(exp.AggFunc) if not isinstance(f, WINDOW_ONLY)]
        return (
            isinstance(window.this, exp.RowNumber)
            and window.args.get("order") is not None
            and isinstance(bound, exp.Literal)
            and bound.is_int
            and int(bound.name) >= 1
            and (isinstance(condition, exp.LTE) or bound.name == "1")
            and len(list(self.select.find_all(exp.Window))) == 1
            and not functions
        )

    def _outer(self, names: list[str]) -> exp.Select:
        items = [
            exp.alias_(exp.column(exp.to_identifier(n, quoted=True), self.name), n, quoted=True)
            for n in names
        ]
        outer = exp.Select(expressions=items)
        outer.set("from_", exp.From(this=exp.to_table(self.name).as_(self.name, table=True)))
        by_text = {item.unalias().sql("duckdb"): item.alias_or_name for item in self.select.selects}
        for part in ("order", "limit", "offset"):
            value = self.select.args.get(part)
            if value is not None:
                outer.set(part, value.copy().transform(_renamed(self.name, by_text), copy=False))
        return outer


def _renamed(table: str, by_text: dict[str, str]) -> Callable[[exp.Expression], exp.Expression]:
    def one(node: exp.Expression) -> exp.Expression:
        name = by_text.get(node.sql("duckdb")) if _may_be_key(node) else None
        return node if name is None else exp.column(exp.to_identifier(name, quoted=True), table)

    return one


def _may_be_key(node: exp.Expression) -> bool:
    return isinstance(node, (exp.Condition, exp.Func)) and not isinstance(node, exp.Ordered)


def _is_aggregate(node: exp.Expression) -> bool:
    """An aggregate of the GROUP BY itself, not the function of an OVER clause."""
    call, _ = split_filter(node)
    if not isinstance(call, exp.AggFunc) or isinstance(call, WINDOW_ONLY):
        return False
    holder = node.parent
    return not (isinstance(holder, exp.Window) and holder.this is node)


def _is_session(node: exp.Expression) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() == "session_window"


def _session_arguments(node: exp.Expression) -> tuple[exp.Expression, str]:
    """The time and the gap of `session_window(time, '30 minutes' | INTERVAL ...)`."""
    arguments = node.expressions
    if len(arguments) == 2:
        time, gap = arguments
        if isinstance(gap, exp.Literal) and gap.is_string:
            gap = exp.Interval(this=gap)
        if isinstance(gap, exp.Interval):
            text = gap.this.name if gap.unit is None else f"{gap.this.name} {gap.unit.name}"
            amount, _, unit = text.strip().partition(" ")
            singular = unit.strip().upper().removesuffix("S")
            if amount.isdigit() and singular in _WINDOW_SECONDS:
                return time, f"INTERVAL '{amount}' {singular}"
    raise ViewSyntaxError(
        f"{position(node)}session_window takes a time and a gap",
        hint="Write session_window(event_time, '30 minutes').",
    )


def _window(node: exp.Expression, name: str, kind: str) -> Window | None:
    """The window of event time that a key stands for, if it does."""
    if not kind.startswith("TIMESTAMP") and kind != "DATE":
        return None
    if isinstance(node, exp.Cast) and kind == "DATE" and _is_event_time(node.this):
        return Window(name, 86400, "second")
    if isinstance(node, exp.DateBin) and _is_event_time(node.expression):
        width = node.this
        unit = width.unit.name.upper().removesuffix("S") if width.unit else ""
        if unit in _WINDOW_SECONDS and width.this.name.isdigit():
            return Window(name, int(width.this.name) * _WINDOW_SECONDS[unit], "second")
    if isinstance(node, (exp.TimestampTrunc, exp.DateTrunc)) and _is_event_time(node.this):
        unit = node.unit.name.upper()
        if unit in _WINDOW_SECONDS:
            return Window(name, _WINDOW_SECONDS[unit], "second")
        return Window(name, 3 if unit == "QUARTER" else 1, "month" if unit != "YEAR" else "year")
    return None


def _is_event_time(node: exp.Expression) -> bool:
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


def _with(leaf: Leaf, **changes: object) -> Leaf:
    return replace(leaf, **changes)  # type: ignore[arg-type]
