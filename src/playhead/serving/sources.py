"""Where a leaf's states come from: the batch layer's table, speed states, events that wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from playhead.batch.buckets import bucket_of
from playhead.lake import Snapshot
from playhead.serving.singles import mark_singles, partial_of_marked, pays
from playhead.speed.compact import plain
from playhead.speed.records import Block
from playhead.speed.windows import end_of
from playhead.views.binder import quote
from playhead.views.leaf import Leaf, Window

_TIME = pa.timestamp("us")


@dataclass(frozen=True)
class Span:
    """Event time [start, end), naive UTC: windows that start in it."""

    start: datetime = datetime(1, 1, 1)
    end: datetime = datetime(9999, 12, 31, 23, 59, 59, 999_999)

    def events(self, window: Window) -> "Span":
        """Where the events of those windows lie."""
        return Span(self.start, end_of(self.end, window))

    def covers(self, other: "Span") -> bool:
        """Whether all of the other one lies in this one."""
        return self.start <= other.start and other.end <= self.end

    @property
    def bounds_us(self) -> tuple[int, int]:
        """The first and the last microsecond since 1970."""
        return _us(self.start), _us(self.end) - 1


@dataclass(frozen=True)
class Source:
    """What one leaf's states are made of at one moment.

    Attributes:
        name: the state's own.
        batch: the batch layer's table; None: never built.
        blocks: the speed layer's, of epochs that the batch layer does not cover.
        within: windows elsewhere may be left out; None: all count.
        since_block, newest: as `StateView` has them.
    """

    leaf: Leaf
    name: str
    batch: Snapshot | None
    blocks: tuple[Block, ...]
    within: Span | None
    since_block: int
    newest: int


def _us(time: datetime) -> int:
    past = time.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds


def merged_states(connection: duckdb.DuckDBPyConnection, source: Source) -> str:
    """SQL of a leaf's merged state, over relations that are made readable in the session."""
    leaf, name, blocks, within = source.leaf, source.name, source.blocks, source.within
    columns = _columns(leaf)
    where = _window_filter(leaf, within)
    states = [f"SELECT {columns} FROM {scan}{where}" for scan in _batch(leaf, source.batch, within)]
    merged = [block.rows for block in blocks if block.kind == "states"]
    if merged:
        connection.register(f"{name}__states", pa.concat_tables(merged))
        states.append(f"SELECT {columns} FROM {quote(f'{name}__states')}{where}")
    events = [block.rows for block in blocks if block.kind == "events"]
    if events:
        asked = [_events_in(table, leaf, within) for table in events]
        partial = _partial(connection, leaf, f"{name}__events", _together(asked))
        fresh = f"SELECT {columns} FROM (\n{partial}\n)"
        if not states:
            return fresh
        states.append(fresh)
    if not states:
        nulls = (f"CAST(NULL AS {leaf.types[c]}) AS {quote(c)}" for c in leaf.state_columns)
        states = [f"SELECT {', '.join(nulls)} WHERE FALSE"]
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS {' UNION ALL '.join(states)}")
    return leaf.merge(source=name)


def _partial(connection: duckdb.DuckDBPyConnection, leaf: Leaf, name: str, events: pa.Table) -> str:
    """SQL of the states of events, which are registered in the session."""
    if pays(leaf, events.num_rows) and mark_singles(connection, leaf, name, events):
        return partial_of_marked(leaf, quote(name))
    connection.register(name, events)
    return leaf.partial(source=quote(name))


def state_rows(leaf: Leaf, batch: Snapshot) -> str:
    """SQL of the rows of a batch layer's table; several of them may have one key."""
    return f"SELECT {_columns(leaf)} FROM {batch.scan(columns=leaf.state_columns)}"


def _columns(leaf: Leaf) -> str:
    return ", ".join(
        f"CAST({quote(c)} AS {leaf.types[c]}) AS {quote(c)}" for c in leaf.state_columns
    )


def _batch(leaf: Leaf, batch: Snapshot | None, within: Span | None) -> list[str]:
    """Scans of the batch layer's table: none if it holds nothing that is asked for."""
    if batch is None or not batch.files:
        return []
    partitions = None
    if within is not None:
        first, last = bucket_of(leaf, within.start.date()), within.end.date()
        partitions = [p for p in batch.partitions if first <= p <= last]
        if not partitions:
            return []
    return [batch.scan(partitions=partitions, columns=leaf.state_columns)]


def _window_filter(leaf: Leaf, within: Span | None) -> str:
    if within is None or leaf.window is None:
        return ""
    return f" WHERE {in_span(leaf.window.key, within)}"


def in_span(key: str, span: Span) -> str:
    """SQL of the condition that a window key lies in a stretch of event time."""
    start = f"CAST({quote(key)} AS TIMESTAMP)"
    return f"{start} >= TIMESTAMP '{span.start}' AND {start} < TIMESTAMP '{span.end}'"


def _events_in(events: pa.Table, leaf: Leaf, within: Span | None) -> pa.Table:
    """Those of some events whose windows are asked for."""
    if within is None or leaf.window is None:
        return events
    span = within.events(leaf.window)
    times = events.column("event_time").cast(_TIME)
    asked = pc.and_(
        pc.greater_equal(times, pa.scalar(span.start, _TIME)),
        pc.less(times, pa.scalar(span.end, _TIME)),
    )
    return events.filter(asked)


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    """Events of several blocks as one relation; DuckDB reads each chunk's own codes."""
    if all(table.schema.equals(tables[0].schema) for table in tables):
        return pa.concat_tables(tables)
    return pa.concat_tables([plain(table) for table in tables], promote_options="permissive")
