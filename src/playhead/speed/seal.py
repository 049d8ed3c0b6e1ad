"""Sealing: an epoch's events, exactly those that the state counts, appended to the lake."""

import json
import logging
from collections.abc import Iterator, Mapping

import duckdb
import pyarrow as pa

from playhead.eventlog import EventLog
from playhead.lake import Lake, raw_table
from playhead.speed.state import Position, StateStore

logger = logging.getLogger(__name__)

EPOCH = "playhead.epoch"
OFFSETS = "playhead.offsets"
GROUP = "speed"


class Sealer:
    """Moves epochs from the event log to the lake, each once.

    Args:
        connection: a DuckDB session of its own.
        read_events: events read from the log at once.
    """

    def __init__(
        self,
        log: EventLog,
        state: StateStore,
        lake: Lake,
        connection: duckdb.DuckDBPyConnection,
        *,
        read_events: int = 65_536,
    ) -> None:
        self._log = log
        self._state = state
        self._lake = lake
        self._connection = connection
        self._read_events = read_events

    def seal(self) -> int | None:
        """Seal the open epoch; None if it holds no events."""
        epoch = self._state.cut()
        if epoch is not None:
            self._finish(epoch)
        return epoch

    def resume(self) -> None:
        """Finish the epochs that a dead process had begun to seal."""
        for epoch, status in self._state.epochs():
            if status == "sealing":
                self._finish(epoch)

    def _finish(self, epoch: int) -> None:
        ranges = self._state.range_of(epoch)
        for topic, position in ranges.items():
            if any(position.next[p] > first for p, first in position.first.items()):
                self._append(epoch, topic, position)
        self._state.sealed(epoch)
        for topic, position in ranges.items():
            self._log.commit(GROUP, topic, position.next)
        logger.info("sealed epoch %d", epoch)

    def _append(self, epoch: int, topic: str, position: Position) -> None:
        """Append one topic's events, unless the lake holds this epoch already."""
        spec = raw_table(topic, self._log.schema(topic))
        spec.create_in(self._lake)

        def not_there(properties: Mapping[str, str]) -> bool:
            return int(properties.get(EPOCH, 0)) < epoch

        if not not_there(self._lake.properties(spec.name)):
            return
        ranges = {str(p): [first, position.next[p]] for p, first in position.first.items()}
        reader = pa.RecordBatchReader.from_batches(
            self._schema(topic), self._batches(topic, position)
        )
        self._connection.register("sealed_events", reader)
        try:
            self._lake.append(
                spec.name,
                self._connection,
                f"SELECT *, CAST({epoch} AS BIGINT) AS epoch, CAST(NULL AS BIGINT) AS load_id "
                "FROM sealed_events",
                properties={EPOCH: str(epoch), OFFSETS: json.dumps(ranges)},
                guard=not_there,
            )
        finally:
            self._connection.unregister("sealed_events")

    def _schema(self, topic: str) -> pa.Schema:
        start = self._log.start_offsets(topic)
        return self._log.read(topic, 0, start[0], max_events=1).schema

    def _batches(self, topic: str, position: Position) -> Iterator[pa.RecordBatch]:
        for partition, first in position.first.items():
            offset, end = first, position.next[partition]
            while offset < end:
                count = min(self._read_events, end - offset)
                events = self._log.read(topic, partition, offset, max_events=count)
                yield from events.to_batches()
                offset += events.num_rows
