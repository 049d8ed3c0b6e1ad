"""What the speed layer has to remember when it starts: ids of recent events, the newest time."""

from datetime import datetime, timedelta

import duckdb

from playhead.contracts import TOPICS
from playhead.eventlog import EventLog
from playhead.lake import Lake
from playhead.lake.tables import raw_name
from playhead.speed.dedupe import SeenEvents
from playhead.speed.state import StateStore
from playhead.views.binder import quote

LOAD = "playhead.load"
_READ_EVENTS = 65_536
_READ_IDS = 1_000_000


class Recaller:
    """Reads what was taken in before, from the lake and from the event log.

    Args:
        connection: a DuckDB session of its own.
    """

    def __init__(
        self,
        log: EventLog,
        state: StateStore,
        lake: Lake,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._log, self._state, self._lake = log, state, lake
        self._connection = connection

    def since(self, topic: str, *, now: datetime, window: timedelta) -> datetime:
        """When the dedupe window starts.

        It ends with the last event if none came within it: then the clock was set forward, or
        nothing ran for so long, and what was sent last may be sent again first.
        """
        start = now - window
        silent = self._log.offset_at(topic, start) == self._log.end_offsets(topic)
        if not silent or not self._lake.exists(raw_name(topic)):
            return start
        scan = self._lake.scan(raw_name(topic), columns=["ingest_time", "load_id"])
        row = self._connection.execute(
            f"SELECT MAX(ingest_time) FROM {scan} WHERE load_id IS NULL"
        ).fetchone()
        return min(now, row[0]) - window if row and row[0] else start

    def recall(self, topic: str, seen: SeenEvents, *, now: datetime, since: datetime) -> int:
        """Remember every id that came at `since` or later, as if it came now.

        Returns:
            The last load that is remembered.
        """
        loads = self._recall_lake(topic, seen, f"ingest_time >= TIMESTAMP '{since}'", now)
        for partition, (offset, end) in self._state.unsealed(topic).items():
            while offset < end:
                events = self._log.read(
                    topic,
                    partition,
                    offset,
                    max_events=min(_READ_EVENTS, end - offset),
                    columns=["event_id"],
                )
                seen.add(events.column("event_id"), now)
                offset += events.num_rows
        return loads

    def recall_loads(self, topic: str, seen: SeenEvents, *, now: datetime, after: int) -> int:
        """Remember the ids of the loads after `after`; the last load that is remembered."""
        return self._recall_lake(topic, seen, f"load_id > {after}", now)

    def _recall_lake(self, topic: str, seen: SeenEvents, where: str, now: datetime) -> int:
        if not self._lake.exists(raw_name(topic)):
            return 0
        snapshot = self._lake.snapshot(raw_name(topic))
        # Cleaning drops a row without its keys, so an event of its id is not counted yet.
        keys = TOPICS[topic].not_null if topic in TOPICS else ()
        where = " AND ".join([where, *(f"{quote(key)} IS NOT NULL" for key in keys)])
        ids = self._connection.execute(
            f"SELECT event_id FROM {snapshot.scan()} WHERE {where}"
        ).to_arrow_reader(_READ_IDS)
        for batch in ids:
            seen.add(batch.column(0), now)
        return int(snapshot.properties.get(LOAD, 0))

    def loaded(self, topic: str) -> int:
        """The topic's last load in the lake; 0 for none."""
        if not self._lake.exists(raw_name(topic)):
            return 0
        return int(self._lake.properties(raw_name(topic)).get(LOAD, 0))

    def newest(self, topic: str) -> datetime | None:
        """The highest event time seen, by either layer; None before any event."""
        return newest_event(self._lake, self._state, self._connection, topic)


def newest_event(
    lake: Lake, state: StateStore, connection: duckdb.DuckDBPyConnection, topic: str
) -> datetime | None:
    """The highest event time of a topic, in the lake or in state; None before any event."""
    progress = state.progress().get(topic)
    times = [progress.max_event_time] if progress else []
    if lake.exists(raw_name(topic)):
        snapshot = lake.snapshot(raw_name(topic))
        scan = snapshot.scan(partitions=snapshot.partitions[-1:], columns=["event_time"])
        times += connection.execute(f"SELECT MAX(event_time) FROM {scan}").fetchone() or ()
    return max((time for time in times if time is not None), default=None)
