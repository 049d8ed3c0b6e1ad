"""Computes the states of several leaves from stretches of history that are widened once."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from types import TracebackType
from typing import Protocol, Self

import duckdb
import pyarrow as pa

from playhead.batch.base import StateEngine
from playhead.batch.buckets import bucket_sql, stretches
from playhead.batch.codes import DimensionCodes
from playhead.batch.distinct import Combinations, mark
from playhead.batch.reading import Reading
from playhead.batch.widening import EVENT_DAY, Widening
from playhead.lake import Draft, Snapshot
from playhead.views.leaf import TAG, Leaf, Part, union

__all__ = ["DuckDBStates", "StateMaker", "StatePlan", "StateSink", "state_schema"]

logger = logging.getLogger(__name__)

MARKED_ROWS = 200_000
"""Fewer events are grouped by DuckDB before their values have codes."""

_WIDE = "batch_events"


class DuckDBStates(StateEngine):
    """Computes in this process, a stretch of history at a time.

    Args:
        connection: a session of its own; spills to disk when states outgrow memory.
    """

    name = "duckdb"

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        # A query for each condition lets DuckDB pass over files whose statistics rule it out.
        scan = reading.of(events).scan(columns=["event_time", "epoch", "load_id"])
        parts = " UNION ALL ".join(f"(FROM {scan} WHERE {c})" for c in reading.conditions)
        rows = self._connection.execute(
            f"SELECT CAST(event_time AS DATE) AS day, count(*) FROM ({parts}) GROUP BY day"
        ).fetchall()
        return dict(rows)

    def compute(
        self,
        events: Snapshot,
        reading: Reading,
        days: Mapping[date, int],
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, Draft]],
    ) -> None:
        plans, drafts = [StatePlan.of(leaf) for leaf, _ in leaves], [draft for _, draft in leaves]
        widening = Widening.of([leaf for leaf, _ in leaves])
        read, rows = reading.of(events), sum(days.values())
        with StateMaker(self._connection, widening, plans, dimensions, rows) as states:
            for stretch in stretches(days):
                states.add(stretch.scan(read, reading.condition), stretch.rows(days), drafts)


def state_schema(
    connection: duckdb.DuckDBPyConnection,
    leaf: Leaf,
    events: Snapshot,
    dimensions: Mapping[str, Snapshot],
) -> pa.Schema:
    """The columns of a leaf's states; all are optional.

    Args:
        connection: a DuckDB session of its own.
    """
    plans, widening = [StatePlan.of(leaf)], Widening.of([leaf])
    empty = {name: replace(snapshot, files=()) for name, snapshot in dimensions.items()}
    made = _Schema()
    with StateMaker(connection, widening, plans, empty) as states:
        states.add(f"(FROM {events.scan(partitions=[])} LIMIT 0)", 0, [made])
    return made.schema


@dataclass(frozen=True)
class StatePlan:
    """How a leaf's states are made of widened events, by bucket; can be sent to other processes.

    Attributes:
        parts: its partial plan.
        merge: SQL that merges states of one or more buckets, over `states`.
        keys: state columns; rows of a bucket that differ in one of them are merged apart.
    """

    name: str
    parts: tuple[Part, ...]
    merge: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, leaf: Leaf) -> "StatePlan":
        """The plan of a leaf, which itself cannot be sent."""
        parts = leaf.parts(source=_WIDE, extra=bucket_sql(leaf, EVENT_DAY))
        if leaf.latest is not None:
            keys = leaf.latest.partition
        else:
            # Where a session begins is told by all rows of the keys, whatever they count.
            apart = leaf.distincts if leaf.session is None else ()
            tagged = (TAG, *(name for name, _ in apart)) if apart else ()
            keys = (*(name for name, _ in leaf.keys), *tagged)
        return cls(leaf.name, tuple(parts), leaf.merge(extra=True), keys)


class StateSink(Protocol):
    """Where the states of one leaf go; a `Draft` is one."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the states."""

    def add(
        self,
        con: duckdb.DuckDBPyConnection,
        query: str | None,
        also: Sequence[Iterable[pa.RecordBatch]] = (),
    ) -> None:
        """Take the rows of a query, if there is one, and of streams in order of their buckets."""


class _Schema:
    """Keeps the columns that a query has."""

    schema = pa.schema([])

    def add(
        self,
        con: duckdb.DuckDBPyConnection,
        query: str | None,
        also: Sequence[Iterable[pa.RecordBatch]] = (),
    ) -> None:
        found = con.execute(query or "").to_arrow_table().schema
        self.schema = pa.schema([pa.field(field.name, field.type) for field in found])


class StateMaker:
    """Makes states of some leaves; holds the dimensions in the session until closed.

    Args:
        connection: a DuckDB session of its own.
        widening: of all the leaves.
        plans: of the leaves.
        dimensions: at least those that are looked up, by name.
        rows: how many events there will be, over all stretches.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        widening: Widening,
        plans: Sequence[StatePlan],
        dimensions: Mapping[str, Snapshot],
        rows: int = 0,
    ) -> None:
        self._connection, self._widening, self._plans = connection, widening, plans
        many = plans if rows >= MARKED_ROWS else ()
        parts = (part for plan in many for part in plan.parts if part.is_set)
        keys = {sql for part in parts for _, sql in part.keys}
        scans = {k.dimension: dimensions[k.dimension].scan() for k in widening.lookups}
        self._dimensions = DimensionCodes(connection, widening, scans, keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._dimensions.close()

    def add(self, events: str, rows: int, sinks: Sequence[StateSink]) -> None:
        """Make the states of some events, those of each plan for the sink in its place.

        Args:
            events: a relation of cleaned events.
            rows: how many they are.
        """
        many = rows >= MARKED_ROWS
        kept = "TABLE" if many or len(self._plans) > 1 else "VIEW"
        try:
            marked = self._marked(events) if many else {}
            if not many:
                wide = self._widening.sql(events, self._dimensions.columns)
                self._connection.execute(f"CREATE TEMP {kept} {_WIDE} AS {wide}")
            for plan, sink in zip(self._plans, sinks, strict=True):
                grouped = [part for part in plan.parts if part not in marked]
                also = [marked[part].batches(sink.schema) for part in plan.parts if part in marked]
                sink.add(self._connection, union(grouped) if grouped else None, also)
        finally:
            self._connection.execute(f"DROP {kept} IF EXISTS {_WIDE}")

    def _marked(self, events: str) -> dict[Part, Combinations]:
        """Keep the events widened; the sets among the parts that are worth a matrix, with it."""
        every = list(dict.fromkeys(part for plan in self._plans for part in plan.parts))
        sets = [part for part in every if part.is_set]
        spared = self._dimensions.spared(every)
        self._keep(self._widening.sql(events, self._dimensions.columns, spared))
        found = mark(self._connection, _WIDE, sets, self._dimensions)
        if spared and None in found:
            self._keep(self._widening.sql(events, self._dimensions.columns))
        return {part: one for part, one in zip(sets, found, strict=True) if one is not None}

    def _keep(self, wide: str) -> None:
        """Widen many events once for all that read them."""
        # Where it may, DuckDB hashes the events instead of the dimension, at three times the cost.
        (disabled,) = self._setting("disabled_optimizers")
        self._connection.execute(f"SET disabled_optimizers = '{disabled},build_side_probe_side'")
        try:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_WIDE} AS {wide}")
        finally:
            self._connection.execute(f"SET disabled_optimizers = '{disabled}'")

    def _setting(self, name: str) -> tuple[str, ...]:
        return self._connection.execute(f"SELECT current_setting('{name}')").fetchone() or ("",)
