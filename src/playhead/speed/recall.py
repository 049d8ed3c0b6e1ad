"""What the speed layer has to remember when it starts: ids of recent events, the newest time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from datetime import datetime, timedelta
from typing import TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.contracts import TOPICS
from playhead.eventlog import EventLog, next_offset
from playhead.eventlog.keys import hash_pairs
from playhead.lake import Lake
from playhead.lake.tables import raw_name
from playhead.speed.dedupe import SeenEvents
from playhead.speed.idfiles import Remembered
from playhead.speed.state import StateStore
from playhead.views.binder import quote

LOAD = "playhead.load"
_READ_EVENTS = 131_072
_READ_IDS = 262_144
_AHEAD = 4

_Hashes = npt.NDArray[np.uint64]
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class Recaller:
    """Reads what was taken in before, from the lake and from the event log.

    Args:
        connection: a DuckDB session of its own.
        pool: reads and hashes beside the caller.
    """

    def __init__(
        self,
        log: EventLog,
        state: StateStore,
        lake: Lake,
        connection: duckdb.DuckDBPyConnection,
        pool: Executor,
    ) -> None:
        self._log, self._state, self._lake = log, state, lake
        self._connection = connection
        self._pool = pool

    def since(
        self, topic: str, *, now: datetime, window: timedelta, last: datetime | None = None
    ) -> datetime:
        """When the dedupe window starts.

        It ends with the last event if none came within it: then the clock was set forward, or
        nothing ran for so long, and what was sent last may be sent again first.

        Args:
            last: when the last event came, where that is known; None: the lake is asked.
        """
        start = now - window
        silent = self._log.offset_at(topic, start) == self._log.end_offsets(topic)
        if silent and last is not None:
            return min(now, last) - window
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
        self._recall_log(topic, seen, self._state.unsealed(topic), now)
        return loads

    def resume(
        self,
        topic: str,
        seen: SeenEvents,
        kept: Remembered,
        position: Mapping[int, int],
        *,
        now: datetime,
        since: datetime,
    ) -> int | None:
        """Remember what came after what was kept of a topic, up to `position`.

        Args:
            seen: what was kept; what came before `since` is forgotten.

        Returns:
            The last load that is remembered; None if what was kept does not fit the position or
            what the event log holds.
        """
        starts = self._log.start_offsets(topic)
        if kept.next.keys() != position.keys():
            return None
        if not all(starts[p] <= kept.next[p] <= after for p, after in position.items()):
            return None
        seen.forget_before(since)
        # A partition may have been added since.
        starts = self._log.start_offsets(topic) if position.keys() - kept.next.keys() else {}
        missed = {p: (kept.next.get(p, starts.get(p, 0)), at) for p, at in position.items()}
        self._recall_log(topic, seen, missed, now)
        if self.loaded(topic) <= kept.loads:
            return kept.loads
        where = f"load_id > {kept.loads} AND ingest_time >= TIMESTAMP '{since}'"
        return self._recall_lake(topic, seen, where, now)

    def _recall_log(
        self,
        topic: str,
        seen: SeenEvents,
        stretches: Mapping[int, tuple[int, int]],
        now: datetime,
    ) -> None:
        """Remember the ids of [first, next) by partition."""
        events = sum(after - first for first, after in stretches.values())
        if events > _READ_EVENTS:
            seen.expect(events)
        pieces = [
            (partition, offset, min(offset + _READ_EVENTS, after))
            for partition, (first, after) in stretches.items()
            for offset in range(first, after, _READ_EVENTS)
        ]

        def read(piece: tuple[int, int, int]) -> tuple[_Hashes, _Hashes, datetime]:
            return self._read(topic, *piece)

        for first, second, arrived in _ahead(self._pool, read, pieces):
            if not len(first):
                continue
            seen.remember(seen.unseen_hashes(first, second), now, arrived)

    def _read(
        self, topic: str, partition: int, offset: int, after: int
    ) -> tuple[_Hashes, _Hashes, datetime]:
        """Both halves of the hashes of a stretch's ids, and when its last event came."""
        tables = []
        while offset < after:
            events = self._log.read(
                topic, partition, offset, max_events=after - offset, columns=["event_id"]
            )
            tables.append(events)
            offset = next_offset(events, offset)
        together = pa.concat_tables(tables)
        arrived = pc.max(together.column("ingest_time")).as_py()
        return (*hash_pairs(together.column("event_id")), arrived)

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
        for first, second in _ahead(self._pool, lambda b: hash_pairs(b.column(0)), ids):
            seen.remember(seen.unseen_hashes(first, second), now)
        return int(snapshot.properties.get(LOAD, 0))

    def loaded(self, topic: str) -> int:
        """The topic's last load in the lake; 0 for none."""
        if not self._lake.exists(raw_name(topic)):
            return 0
        return int(self._lake.properties(raw_name(topic)).get(LOAD, 0))

    def newest(self, topic: str) -> datetime | None:
        """The highest event time seen, by either layer; None before any event."""
        return NewestEvents(self._lake, self._state).of(topic, self._connection)


def _ahead(
    pool: Executor, make: Callable[[_Given], _Made], given: Iterable[_Given]
) -> Iterator[_Made]:
    """What `make` makes of each, in order; a few are made ahead of whoever asks."""
    waiting: deque[Future[_Made]] = deque()
    for one in given:
        waiting.append(pool.submit(make, one))
        if len(waiting) >= _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class NewestEvents:
    """The highest event time of topics; what the lake says is read once for each snapshot."""

    def __init__(self, lake: Lake, state: StateStore) -> None:
        self._lake, self._state = lake, state
        self._in_lake: dict[str, tuple[int | None, datetime | None]] = {}

    def of(self, topic: str, connection: duckdb.DuckDBPyConnection) -> datetime | None:
        """Of a topic, in the lake or in state; None before any event."""
        progress = self._state.progress().get(topic)
        times = [progress.max_event_time] if progress else []
        if self._lake.exists(raw_name(topic)):
            times.append(self._of_snapshot(topic, connection))
        return max((time for time in times if time is not None), default=None)

    def _of_snapshot(self, topic: str, connection: duckdb.DuckDBPyConnection) -> datetime | None:
        snapshot = self._lake.snapshot(raw_name(topic))
        known = self._in_lake.get(topic)
        if known is None or known[0] != snapshot.id:
            scan = snapshot.scan(partitions=snapshot.partitions[-1:], columns=["event_time"])
            row = connection.execute(f"SELECT MAX(event_time) FROM {scan}").fetchone()
            known = self._in_lake[topic] = snapshot.id, row[0] if row else None
        return known[1]
