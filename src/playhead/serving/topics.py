"""Topics as relations: cleaned events, each once, up to the last one that the speed layer counts."""

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from playhead.batch.clean import dedupe_sql
from playhead.contracts import LOG_COLUMNS, TOPICS, Contract
from playhead.eventlog import EventLog
from playhead.lake import Lake, Snapshot
from playhead.lake.tables import ORIGIN, clean_name, raw_name
from playhead.speed.state import StateStore
from playhead.views.binder import quote

EPOCH, LOAD = "playhead.epoch", "playhead.load"


class TopicReader:
    """Makes a topic readable in a session: the cleaned table, what is in the lake beyond it, and
    what is in the event log beyond that.
    """

    def __init__(
        self,
        lake: Lake,
        log: EventLog,
        state: StateStore,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._lake, self._log, self._state = lake, log, state
        self._connection = connection

    def sql(self, topic: str) -> str:
        """A query of the topic's events: contract fields, then partition, offset, ingest_time."""
        contract = TOPICS[topic]
        columns = [*contract.schema.names, *LOG_COLUMNS.names]
        tail = self._tail(contract)
        parts = []
        clean = self._snapshot(clean_name(topic))
        if clean is not None:
            parts.append(f"SELECT {_list(columns)} FROM {clean.scan()}")
        if (fresh := self._fresh(contract, clean, tail)) is not None:
            parts.append(f"SELECT {_list(columns)} FROM ({fresh})")
        if not parts:
            self._register(f"{topic}__none", contract.schema.empty_table(), contract)
            parts.append(f"SELECT {_list(columns)} FROM {topic}__none")
        return " UNION ALL ".join(parts)

    def _snapshot(self, table: str) -> Snapshot | None:
        return self._lake.snapshot(table) if self._lake.exists(table) else None

    def _fresh(
        self, contract: Contract, clean: Snapshot | None, tail: str | None
    ) -> str | None:
        """Events that the cleaned table does not cover, each once, and not in it already."""
        names = [*contract.schema.names, *ORIGIN.names]
        sources = []
        raw = self._snapshot(raw_name(contract.name))
        if raw is not None and (beyond := _beyond(raw, clean)):
            sources.append(f"SELECT {_list(names)} FROM {raw.scan()} WHERE {beyond}")
        if tail is not None:
            sources.append(f"SELECT {_list(names)} FROM {tail}")
        if not sources:
            return None
        keys = " AND ".join(f"{quote(key)} IS NOT NULL" for key in contract.not_null)
        relation = f"(SELECT * FROM ({' UNION ALL '.join(sources)}) WHERE {keys})"
        fresh = dedupe_sql(relation)
        if clean is None:
            return fresh
        known = f"SELECT event_id FROM {clean.scan(columns=['event_id'])}"
        return f"SELECT * FROM ({fresh}) WHERE event_id NOT IN ({known})"

    def _tail(self, contract: Contract) -> str | None:
        """Registers the events that are in state but not in the lake; None if there are none."""
        if contract.name not in self._log.topics():
            return None
        tables = list(self._unsealed(contract.name))
        if not tables:
            return None
        name = f"{contract.name}__tail"
        self._register(name, pa.concat_tables(tables, promote_options="default"), contract)
        return name

    def _unsealed(self, topic: str) -> Iterator[pa.Table]:
        for partition, (offset, end) in self._state.unsealed(topic).items():
            while offset < end:
                events = self._log.read(topic, partition, offset, max_events=end - offset)
                yield events
                offset += events.num_rows

    def _register(self, name: str, events: pa.Table, contract: Contract) -> None:
        """Register events with every column of a raw table, NULL where they lack it."""
        for field in [*contract.schema, *ORIGIN]:
            if field.name not in events.column_names:
                events = events.append_column(field, pa.nulls(events.num_rows, field.type))
        self._connection.register(name, events)


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
