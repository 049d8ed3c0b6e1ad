"""Topics as relations: cleaned events, each once, up to the last that the speed layer counts."""

import json
from collections.abc import Iterator, Mapping, Sequence

import duckdb
import pyarrow as pa

from playhead.batch.repeats import dedupe_sql
from playhead.contracts import LOG_COLUMNS, TOPICS, Contract
from playhead.eventlog import EventLog, next_offset
from playhead.lake import Lake, Snapshot
from playhead.lake.tables import ORIGIN, clean_name, raw_name
from playhead.speed.state import StateStore
from playhead.views.binder import quote

EPOCH, LOAD, OFFSETS = "playhead.epoch", "playhead.load", "playhead.offsets"


class TopicReader:
    """Makes a topic readable in a session: the cleaned table, what is in the lake beyond it, and
    what is in the event log beyond that.
    """

    def __init__(self, lake: Lake, log: EventLog, state: StateStore) -> None:
        self._lake, self._log, self._state = lake, log, state

    def sql(self, connection: duckdb.DuckDBPyConnection, topic: str) -> str:
        """A query of the topic's events: contract fields, then partition, offset, ingest_time."""
        contract = TOPICS[topic]
        # In the order in which events move on, so that none slips through: what leaves the
        # event log meanwhile is in the lake, what is cleaned meanwhile is in the raw table.
        unsealed = self._state.unsealed(topic)
        clean = self._snapshot(clean_name(topic))
        raw = self._snapshot(raw_name(topic))
        columns = _list([*contract.schema.names, *LOG_COLUMNS.names])
        parts = [] if clean is None else [f"SELECT {columns} FROM {clean.scan()}"]
        sources = []
        if raw is not None and (beyond := _beyond(raw, clean)):
            sources.append(f"{raw.scan()} WHERE {beyond}")
        tail, rows = self._register(connection, contract, _after(unsealed, raw))
        if rows or not (parts or sources):
            sources.append(tail)
        if sources:
            parts.append(f"SELECT {columns} FROM ({_fresh(contract, clean, sources)})")
        return " UNION ALL ".join(parts)

    def _snapshot(self, table: str) -> Snapshot | None:
        return self._lake.snapshot(table) if self._lake.exists(table) else None

    def _register(
        self,
        connection: duckdb.DuckDBPyConnection,
        contract: Contract,
        ranges: Mapping[int, tuple[int, int]],
    ) -> tuple[str, int]:
        """Register events of the log with every column of a raw table: the relation, its rows."""
        events = pa.concat_tables(
            [contract.schema.empty_table(), *self._read(contract.name, ranges)],
            promote_options="default",
        )
        for field in [*contract.schema, *ORIGIN]:
            if field.name not in events.column_names:
                events = events.append_column(field, pa.nulls(events.num_rows, field.type))
        connection.register(f"{contract.name}__tail", events)
        return f"{contract.name}__tail", events.num_rows

    def _read(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Iterator[pa.Table]:
        for partition, (offset, end) in ranges.items():
            while offset < end:
                events = self._log.read(topic, partition, offset, max_events=end - offset)
                yield events
                offset = next_offset(events, offset)


def _after(
    unsealed: Mapping[int, tuple[int, int]], raw: Snapshot | None
) -> dict[int, tuple[int, int]]:
    """The offsets of `unsealed` that the raw table does not hold."""
    sealed = json.loads(raw.properties.get(OFFSETS, "{}")) if raw is not None else {}
    ends = {int(partition): end for partition, (_, end) in sealed.items()}
    return {p: (max(first, ends.get(p, 0)), last) for p, (first, last) in unsealed.items()}


def _fresh(contract: Contract, clean: Snapshot | None, sources: Sequence[str]) -> str:
    """Events that the cleaned table does not cover, each once, and not in it already.

    Args:
        sources: what stands behind FROM, for each place where such events are.
    """
    names = _list([*contract.schema.names, *ORIGIN.names])
    rows = " UNION ALL ".join(f"SELECT {names} FROM {source}" for source in sources)
    keys = " AND ".join(f"{quote(key)} IS NOT NULL" for key in contract.not_null)
    fresh = dedupe_sql(f"(SELECT * FROM ({rows}) WHERE {keys})")
    if clean is None:
        return fresh
    known = f"(SELECT event_id FROM {clean.scan(columns=['event_id'])})"
    return f"SELECT fresh.* FROM ({fresh}) AS fresh ANTI JOIN {known} AS known USING (event_id)"


def _beyond(raw: Snapshot, clean: Snapshot | None) -> str | None:
    """The condition of raw rows that the cleaned table does not cover; None if it covers all."""
    if clean is None or EPOCH not in clean.properties:
        return "TRUE"
    epoch, load = int(clean.properties[EPOCH]), int(clean.properties.get(LOAD, 0))
    if int(raw.properties.get(EPOCH, -1)) <= epoch and int(raw.properties.get(LOAD, 0)) <= load:
        return None
    return f"(epoch > {epoch} OR load_id > {load})"


def _list(names: list[str]) -> str:
    return ", ".join(quote(name) for name in names)
