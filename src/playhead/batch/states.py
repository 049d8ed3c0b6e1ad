"""Computes the states of several leaves from stretches of history that are widened once."""

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from playhead.batch.base import StateEngine
from playhead.batch.buckets import bucket_sql, stretches
from playhead.batch.codes import DimensionCodes
from playhead.batch.distinct import Combinations, mark
from playhead.batch.reading import Reading
from playhead.batch.widening import EVENT_DAY, Widening
from playhead.lake import Draft, Snapshot
from playhead.views.leaf import Leaf, Part, union

__all__ = ["DuckDBStates", "StateMaker", "state_schema"]

logger = logging.getLogger(__name__)

MARKED_ROWS = 200_000
"""Fewer events are grouped by DuckDB before their values have codes."""

_WIDE = "batch_events"
_KEEP = f"CREATE OR REPLACE TEMP TABLE {_WIDE} AS FROM {{}}"


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
        widening: Widening,
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, Draft]],
    ) -> None:
        read, rows = reading.of(events), sum(days.values())
        scans = {k.dimension: dimensions[k.dimension].scan() for k in widening.lookups}
        with StateMaker(self._connection, widening, scans, rows) as states:
            for stretch in stretches(days):
                states.add(stretch.scan(read, reading.condition), stretch.rows(days), leaves)


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
    widening = Widening((leaf,))
    scans = {k.dimension: dimensions[k.dimension].scan(partitions=[]) for k in widening.lookups}
    with StateMaker(connection, widening, scans) as states:
        return states.schema(leaf, f"(FROM {events.scan(partitions=[])} LIMIT 0)")


class StateMaker:
    """Makes states of the leaves of a widening; holds its dimensions in the session until closed.

    Args:
        connection: a DuckDB session of its own.
        scans: by dimension, the relation that it is.
        rows: how many events there will be, over all stretches.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        widening: Widening,
        scans: Mapping[str, str],
        rows: int = 0,
    ) -> None:
        self._connection = connection
        self._widening = widening
        keys = {
            sql
            for leaf in (widening.leaves if rows >= MARKED_ROWS else ())
            for part in _parts(leaf, _WIDE)
            for _, sql in part.keys
            if part.is_set
        }
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

    def schema(self, leaf: Leaf, events: str) -> pa.Schema:
        """The columns of a leaf's states; all are optional.

        Args:
            events: a relation of no event.
        """
        wide = f"({self._widening.sql(events)})"
        schema = self._connection.execute(union(_parts(leaf, wide))).to_arrow_table().schema
        return pa.schema([pa.field(field.name, field.type) for field in schema])

    def add(self, events: str, rows: int, leaves: Sequence[tuple[Leaf, Draft]]) -> None:
        """Add the states of some events, each leaf's into its draft.

        Args:
            events: a relation of cleaned events.
            rows: how many they are.
        """
        many = rows >= MARKED_ROWS
        kept = many or len(leaves) > 1
        wide = f"({self._widening.sql(events, self._dimensions.columns)})"
        parts = [_parts(leaf, _WIDE if kept else wide) for leaf, _ in leaves]
        try:
            marked = self._marked(events, parts) if many else {}
            if kept and not many:
                self._connection.execute(_KEEP.format(wide))
            for (_, draft), some in zip(leaves, parts, strict=True):
                grouped = [part for part in some if part not in marked]
                also = [marked[part].batches(draft.schema) for part in some if part in marked]
                draft.add(self._connection, union(grouped) if grouped else None, also)
        finally:
            self._connection.execute(f"DROP TABLE IF EXISTS {_WIDE}")

    def _marked(self, events: str, parts: Sequence[Sequence[Part]]) -> dict[Part, Combinations]:
        """Keep the events widened; the sets among the parts that are worth a matrix, with it."""
        every = list(dict.fromkeys(part for some in parts for part in some))
        sets = [part for part in every if part.is_set]
        spared = self._dimensions.spared(every)
        self._keep(f"({self._widening.sql(events, self._dimensions.columns, spared)})")
        found = mark(self._connection, _WIDE, sets, self._dimensions)
        if spared and None in found:
            self._keep(f"({self._widening.sql(events, self._dimensions.columns)})")
        return {part: one for part, one in zip(sets, found, strict=True) if one is not None}

    def _keep(self, wide: str) -> None:
        """Widen many events once for all that read them."""
        # Where it may, DuckDB hashes the events instead of the dimension, at three times the cost.
        (disabled,) = self._setting("disabled_optimizers")
        self._connection.execute(f"SET disabled_optimizers = '{disabled},build_side_probe_side'")
        try:
            self._connection.execute(_KEEP.format(wide))
        finally:
            self._connection.execute(f"SET disabled_optimizers = '{disabled}'")

    def _setting(self, name: str) -> tuple[str, ...]:
        return self._connection.execute(f"SELECT current_setting('{name}')").fetchone() or ("",)


def _parts(leaf: Leaf, wide: str) -> list[Part]:
    """The leaf's partial plan over a widened relation, by bucket."""
    return leaf.parts(source=wide, extra=bucket_sql(leaf, EVENT_DAY))
