"""Events that an epoch and a load both hold, though neither layer could know of the other's."""

import duckdb
import pyarrow as pa

from playhead.eventlog import EventLog, next_offset
from playhead.lake import Lake
from playhead.lake.tables import raw_name
from playhead.speed.records import Active
from playhead.speed.state import StateStore

_KEPT = 1_000


class OverlapCounter:
    """Counts the events of an epoch that a later load has brought, too.

    The speed layer drops what was loaded before the epoch began. A file that holds events which
    the speed layer has counted already is the one thing that it cannot know: these are counted
    here, so that serving never adds them up twice.
    """

    def __init__(self, lake: Lake, log: EventLog, state: StateStore) -> None:
        self._lake, self._log, self._state = lake, log, state
        self._counted: dict[tuple[object, ...], int] = {}

    def count(
        self, connection: duckdb.DuckDBPyConnection, topic: str, active: Active, load: int
    ) -> int:
        """Events of the epoch that loads after `active.load`, up to `load`, hold as well."""
        key = self._key(topic, active, load)
        if key not in self._counted:
            if len(self._counted) >= _KEPT:
                self._counted.clear()
            self._counted[key] = self._count(connection, topic, active, load)
        return self._counted[key]

    def known(self, topic: str, active: Active, load: int) -> int | None:
        """The same if it was counted before; None if it was not."""
        return self._counted.get(self._key(topic, active, load))

    def _key(self, topic: str, active: Active, load: int) -> tuple[object, ...]:
        position = self._state.range_of(active.epoch).get(topic)
        offsets = tuple(sorted(position.next.items())) if position else ()
        return (topic, active.epoch, active.load, load, offsets)

    def _count(
        self, connection: duckdb.DuckDBPyConnection, topic: str, active: Active, load: int
    ) -> int:
        raw = self._lake.snapshot(raw_name(topic)).scan(columns=["event_id", "epoch", "load_id"])
        if active.status == "sealed":
            ids = f"(SELECT event_id FROM {raw} WHERE epoch = {active.epoch})"
        else:
            connection.register("epoch_ids", self._ids(topic, active.epoch))
            ids = "epoch_ids"
        row = connection.execute(f"""
            SELECT COUNT(DISTINCT event_id) FROM {ids} AS counted
            SEMI JOIN (
                SELECT event_id FROM {raw} WHERE load_id > {active.load} AND load_id <= {load}
            ) AS brought USING (event_id)
            ANTI JOIN (
                SELECT event_id FROM {raw}
                WHERE load_id <= {active.load} OR epoch < {active.epoch}
            ) AS known USING (event_id)
        """).fetchone()
        return int(row[0]) if row else 0

    def _ids(self, topic: str, epoch: int) -> pa.Table:
        """The ids of an epoch that is not in the lake yet, from the event log."""
        tables = [pa.table({"event_id": pa.array([], pa.string())})]
        position = self._state.range_of(epoch).get(topic)
        for partition, offset in position.first.items() if position else ():
            end = position.next[partition] if position else offset
            while offset < end:
                events = self._log.read(
                    topic, partition, offset, max_events=end - offset, columns=["event_id"]
                )
                tables.append(events.select(["event_id"]))
                offset = next_offset(events, offset)
        return pa.concat_tables(tables, promote_options="permissive")
