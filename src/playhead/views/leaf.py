"""A leaf: the lowest GROUP BY (or latest-by-key) over one topic, and its three plans.

Its state is one relation: the group's keys, for COUNT(DISTINCT) a tag and the values, and the
components of its aggregates. Two states merge by concatenating them and grouping again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from playhead.views.algebra import Aggregate, is_known, normal, of_one_row
from playhead.views.binder import quote
from playhead.views.rows import Lookup, wide_sql

TAG = "distinct__tag"
BATCH_DAY = "batch__day"
SESSION_START, SESSION_END = "session__start", "session__end"


@dataclass(frozen=True)
class Session:
    """A `session_window(event_time, gap)` key: events at most `gap` apart belong together."""

    name: str
    time: str
    gap: str


_UNITS_S = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


@dataclass(frozen=True)
class Window:
    """A key that is a window of event time: its name, and its width in a unit.

    `unit` is "second" for fixed widths, else "month", "quarter" or "year".
    """

    key: str
    width: int
    unit: str

    @property
    def fixed(self) -> timedelta | None:
        return timedelta(seconds=self.width) if self.unit == "second" else None

    @property
    def words(self) -> str:
        """Its width in words, such as "5 minutes"."""
        width, unit = self.width, self.unit
        if unit == "second":
            unit, size = next((u, size) for u, size in _UNITS_S if width % size == 0)
            width //= size
        return f"{width} {unit}{'' if width == 1 else 's'}"

    def end_sql(self, start: str) -> str:
        """SQL of the window's end, exclusive, from SQL of its start."""
        return f"{start} + INTERVAL {self.width} {self.unit.upper()}"


@dataclass(frozen=True)
class Latest:
    """Rows kept by `QUALIFY ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) <= limit`."""

    partition: tuple[str, ...]
    order: tuple[tuple[str, str], ...]  # (state column, "ASC NULLS LAST" or the like)
    limit: int

    def qualify(self, columns: tuple[str, ...], names: Mapping[str, str]) -> str:
        """The QUALIFY clause over expressions `names`; ties are broken by all `columns`."""
        ordered = dict(self.order)
        ranked = [f"{names[c]} {how}" for c, how in self.order]
        ranked += [f"{names[c]} ASC NULLS LAST" for c in columns if c not in ordered]
        order = ", ".join(ranked)
        by = ", ".join(names[c] for c in self.partition)
        partition = f"PARTITION BY {by} " if by else ""
        return f"QUALIFY ROW_NUMBER() OVER ({partition}ORDER BY {order}) <= {self.limit}"


@dataclass(frozen=True)
class Part:
    """Some rows of a partial state: one SELECT over the wide topic.

    Attributes:
        sql: the SELECT.
        keys: what it groups by, as (state column, SQL over the wide topic).
        where: SQL of the rows that it groups; None takes all.
        known: the key that its rows have a value for, too.
        tag: what TAG holds in all of its rows; None in a state without TAG.
        is_set: its rows are the distinct combinations of the keys, and no more: each state
            column that is neither a key nor TAG is NULL.
    """

    sql: str
    keys: tuple[tuple[str, str], ...] = ()
    where: str | None = None
    known: str | None = None
    tag: int | None = None
    is_set: bool = False


@dataclass(frozen=True)
class Leaf:
    """The state of a view (or one of several), and how it is made, merged and finished.

    Plans are DuckDB SQL. `partial` reads the wide topic under the name `events`, `merge` reads
    `states`, `final` reads the merged states under the leaf's own `name`; `full` reads the
    topic and its dimensions.
    """

    name: str
    topic: str
    event_columns: tuple[str, ...]
    lookups: tuple[Lookup, ...]
    where: str | None
    keys: tuple[tuple[str, str], ...]  # (name, SQL over the wide topic)
    aggregates: tuple[tuple[str, Aggregate], ...]  # (output name, aggregate)
    session: Session | None
    latest: Latest | None
    window: Window | None
    types: Mapping[str, str]  # DuckDB type of each state column

    # -- what the state holds ------------------------------------------------------------

    @property
    def distincts(self) -> tuple[tuple[str, str], ...]:
        """(state column, SQL of the counted value) of each COUNT(DISTINCT value)."""
        return tuple((name, a.distinct) for name, a in self.aggregates if a.distinct is not None)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """State columns that identify a group, before tag and values."""
        plain = tuple(name for name, _ in self.keys)
        return (*plain, SESSION_START, SESSION_END) if self.session else plain

    @property
    def components(self) -> tuple[tuple[tuple[str, ...], tuple[str, ...], int, int], ...]:
        """(state columns, partial SQL, aggregate's index, component's index), each once."""
        seen: dict[tuple[str, ...], None] = {}
        found = []
        for i, (name, aggregate) in enumerate(self.aggregates):
            for j, component in enumerate(aggregate.components):
                if component.partials not in seen:
                    seen[component.partials] = None
                    columns = tuple(f"{name}__{suffix}" for suffix in component.suffixes)
                    found.append((columns, component.partials, i, j))
        return tuple(found)

    @property
    def state_columns(self) -> tuple[str, ...]:
        """Every column of the state, in order."""
        tagged = (TAG, *(name for name, _ in self.distincts)) if self.distincts else ()
        return (*self.key_columns, *tagged, *(c for cols, *_ in self.components for c in cols))

    def _columns_of(self, aggregate: Aggregate) -> tuple[str, ...]:
        by_partials = {partials: columns for columns, partials, *_ in self.components}
        return tuple(c for part in aggregate.components for c in by_partials[part.partials])

    # -- plans ---------------------------------------------------------------------------

    def wide(self, *, source: str | None = None) -> str:
        """SELECT that makes this leaf's wide topic from the topic and the dimensions."""
        return wide_sql(self.topic, self.event_columns, self.lookups, source=source)

    def partial(self, *, extra: str | None = None, source: str = "events") -> str:
        """Events -> states.

        Args:
            extra: SQL over events of one more leading key, named BATCH_DAY, by which the batch
                layer keeps states apart.
            source: relation that holds the wide topic.
        """
        return union(self.parts(extra=extra, source=source))

    def parts(self, *, extra: str | None = None, source: str = "events") -> list[Part]:
        """The SELECTs that make up `partial`, no two of which give the same group."""
        if self.latest is not None:
            return [Part(self._latest_rows(source, extra))]
        keys = ([(BATCH_DAY, extra)] if extra else []) + list(self.keys)
        rows = self._event_rows(source, keys)
        if self.session:
            keys = [*keys, (SESSION_START, SESSION_START), (SESSION_END, SESSION_END)]
        # Without keys and components there is nothing to keep beside the distinct values.
        tags = [None] if keys or self.components else []
        return [self._tagged(rows, keys, tag) for tag in (*tags, *dict(self.distincts))]

    def single(self, *, source: str = "events") -> str:
        """Events of which each is alone in its group -> states, without grouping.

        Only for a state of plain groups: without sessions, latest rows or distinct values.
        """
        items = [f"{sql} AS {quote(name)}" for name, sql in self.keys]
        for columns, partials, *_ in self.components:
            for column, partial in zip(columns, partials, strict=True):
                items.append(f"{of_one_row(partial)} AS {quote(column)}")
        return f"SELECT {', '.join(items)}\nFROM {source}{_where(self.where)}"

    def merge(self, *, source: str = "states", extra: bool = False) -> str:
        """States of any parts, concatenated -> one state."""
        lead = (BATCH_DAY,) if extra else ()
        if self.latest is not None:
            return self._latest_merge(source, lead)
        keys = (*lead, *self.key_columns)
        rows = quote(source)
        if self.session:
            plain = [quote(key) for key in (*lead, *(name for name, _ in self.keys))]
            others = [quote(c) for c in (*lead, *self.state_columns)]
            bounds = {SESSION_START: "part__start", SESSION_END: "part__end"}
            parts = ", ".join(f"{c} AS {bounds[c]}" if c in bounds else c for c in others)
            rows = _sessionize(
                f"SELECT {parts} FROM {rows}", plain, "part__start", "part__end", self.session.gap
            )
        tagged = (TAG, *(name for name, _ in self.distincts)) if self.distincts else ()
        group = [quote(key) for key in (*keys, *tagged)]
        items = group + self.merged_components
        return f"SELECT {', '.join(items)}\nFROM {rows}{_group_by(group)}"

    def final(self) -> str:
        """The merged state, read under the leaf's name -> keys and aggregates."""
        if self.latest is not None:
            return f"SELECT {', '.join(self._outputs({}))}\nFROM {quote(self.name)}"
        source = quote(self.name)
        if self.distincts:
            group = [quote(key) for key in self.key_columns]
            counted = [f"COUNT({quote(n)}) AS {quote(n)}" for n, _ in self.distincts]
            items = group + counted + self.merged_components
            source = f"(SELECT {', '.join(items)} FROM {source}{_group_by(group)}) AS merged"
        return f"SELECT {', '.join(self._outputs(self._column_results()))}\nFROM {source}"

    def full(self) -> str:
        """The topic and its dimensions -> keys and aggregates, in one pass over all events."""
        rows = f"({self.wide()}) AS events"
        if self.latest is not None:
            columns = ", ".join(quote(name) for name, _ in self.keys)
            return f"SELECT {columns}\nFROM ({self._latest_rows(rows, None)})"
        keys = list(self.keys)
        if self.session:
            keys += [(SESSION_START, SESSION_START), (SESSION_END, SESSION_END)]
        source = self._event_rows(rows, list(self.keys))
        results = {
            name: f"COUNT(DISTINCT {a.distinct})"
            if a.distinct is not None
            else a.result(tuple(p for c in a.components for p in c.partials))
            for name, a in self.aggregates
        }
        inner = [f"{sql} AS {quote(name)}" for name, sql in [*keys, *results.items()]]
        where = "" if self.session else _where(self.where)
        group = [sql for _, sql in keys]
        grouped = f"SELECT {', '.join(inner)}\nFROM {source}{where}{_group_by(group)}"
        if not self.session:
            return grouped
        outputs = ", ".join(self._outputs({name: quote(name) for name in results}))
        return f"SELECT {outputs}\nFROM ({grouped})"

    # -- parts of plans ------------------------------------------------------------------

    def _event_rows(self, source: str, keys: list[tuple[str, str]]) -> str:
        """The relation that a GROUP BY reads: the events, with session bounds where asked."""
        if self.session is None:
            return source
        filtered = f"SELECT * FROM {source}{_where(self.where)}"
        time = self.session.time
        return _sessionize(filtered, [sql for _, sql in keys], time, time, self.session.gap)

    def _tagged(self, rows: str, keys: list[tuple[str, str]], value: str | None) -> Part:
        """One tag's rows: the components (tag 0), or the distinct values of one count."""
        group, grouped = [sql for _, sql in keys], list(keys)
        items = [f"{sql} AS {quote(name)}" for name, sql in keys]
        conditions = [] if self.session or self.where is None else [self.where]
        for number, (name, sql) in enumerate(self.distincts, 1):
            if number == 1:
                items.append(f"{self._tag(value)} AS {TAG}")
            if name == value:
                items.append(f"{sql} AS {quote(name)}")
                group.append(sql)
                grouped.append((name, sql))
                conditions.append(is_known(sql))
            else:
                items.append(f"{self._null(name)} AS {quote(name)}")
        for columns, partials, *_ in self.components:
            for column, partial in zip(columns, partials, strict=True):
                made = partial if value is None else self._null(column)
                items.append(f"{made} AS {quote(column)}")
        where = _where(" AND ".join(f"({c})" for c in conditions) or None)
        return Part(
            f"SELECT {', '.join(items)}\nFROM {rows}{where}{_group_by(group)}",
            tuple(grouped),
            None if self.session else self.where,
            value,
            self._tag(value) if self.distincts else None,
            is_set=self.session is None and (value is not None or not self.components),
        )

    def _tag(self, value: str | None) -> int:
        return 0 if value is None else [n for n, _ in self.distincts].index(value) + 1

    def _null(self, column: str) -> str:
        return f"CAST(NULL AS {self.types[column]})" if column in self.types else "NULL"

    @property
    def merged_components(self) -> list[str]:
        """SELECT items that merge each component of several rows."""
        items = []
        for columns, _, i, j in self.components:
            component = self.aggregates[i][1].components[j]
            types = tuple(self.types[column] for column in columns)
            merged = component.merged(tuple(quote(column) for column in columns), types)
            items += [f"{sql} AS {quote(c)}" for sql, c in zip(merged, columns, strict=True)]
        return items

    def _column_results(self) -> dict[str, str]:
        return {
            name: f"COALESCE({quote(name)}, 0)"
            if a.distinct is not None
            else a.result(tuple(normal(quote(c), self.types[c]) for c in self._columns_of(a)))
            for name, a in self.aggregates
        }

    def _outputs(self, results: Mapping[str, str]) -> list[str]:
        """SELECT items: plain keys, the session as a struct [start, end), then aggregates."""
        read = ((normal(quote(n), self.types.get(n, "")), quote(n)) for n, _ in self.keys)
        items = [name if sql == name else f"{sql} AS {name}" for sql, name in read]
        if self.session:
            end = f"{SESSION_END} + {self.session.gap}"
            struct = f"{{'start': {SESSION_START}, 'end': {end}}}"
            items.append(f"{struct} AS {quote(self.session.name)}")
        return items + [f"{sql} AS {quote(name)}" for name, sql in results.items()]

    def _latest_rows(self, source: str, extra: str | None) -> str:
        assert self.latest is not None  # noqa: S101 - narrows the type for both plans
        names = dict(self.keys)
        items = [f"{sql} AS {quote(name)}" for name, sql in self.keys]
        lead = [f"{extra} AS {BATCH_DAY}"] if extra else []
        qualify = self.latest.qualify(tuple(names), names)
        if extra:
            qualify = _with_partition(qualify, extra)
        return f"SELECT {', '.join(lead + items)}\nFROM {source}{_where(self.where)}\n{qualify}"

    def _latest_merge(self, source: str, lead: tuple[str, ...]) -> str:
        assert self.latest is not None  # noqa: S101 - narrows the type for both plans
        names = {name: quote(name) for name, _ in self.keys}
        qualify = self.latest.qualify(tuple(names), names)
        if lead:
            qualify = _with_partition(qualify, lead[0])
        columns = ", ".join([*lead, *names.values()])
        return f"SELECT {columns}\nFROM {quote(source)}\n{qualify}"


def union(parts: Iterable[Part]) -> str:
    """The rows of all parts."""
    return "\nUNION ALL\n".join(part.sql for part in parts)


def _with_partition(qualify: str, key: str) -> str:
    """The same QUALIFY within each `key` as well."""
    if "PARTITION BY " in qualify:
        return qualify.replace("PARTITION BY ", f"PARTITION BY {key}, ", 1)
    return qualify.replace("OVER (", f"OVER (PARTITION BY {key} ", 1)


def _where(condition: str | None) -> str:
    return f"\nWHERE {condition}" if condition else ""


def _group_by(group: list[str]) -> str:
    return f"\nGROUP BY {', '.join(group)}" if group else ""


def _sessionize(rows: str, keys: list[str], start: str, end: str, gap: str) -> str:
    """Rows, each with the bounds of the session that its interval belongs to (gaps and islands).

    An interval opens a new session if it starts more than `gap` after everything before it.
    Rows with equal bounds are peers of the RANGE frame, so they share one number.
    """
    by = f"PARTITION BY {', '.join(keys)} " if keys else ""
    order = f"ORDER BY {start}, {end}"
    reach = f"MAX({end}) OVER ({by}{order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    opens = f"CASE WHEN {start} <= {reach} + {gap} THEN 0 ELSE 1 END AS session__opens"
    number = f"SUM(session__opens) OVER ({by}{order} RANGE UNBOUNDED PRECEDING) AS session__number"
    numbered = f"PARTITION BY {', '.join([*keys, 'session__number'])}"
    return (
        f"(SELECT *, MIN({start}) OVER ({numbered}) AS {SESSION_START}, "
        f"MAX({end}) OVER ({numbered}) AS {SESSION_END}\n"
        f"FROM (SELECT *, {number}\nFROM (SELECT *, {opens}\n"
        f"FROM ({rows})\nWHERE {is_known(start)})))"
    )
