"""How far the speed layer is behind the event log: in events, and in seconds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from playhead.errors import OffsetOutOfRangeError
from playhead.eventlog import EventLog
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.speed.state import StateStore

__all__ = ["Lag", "came_at", "followed_topics", "measure_lag", "read_positions"]

_EVENT = {"event_id", "event_time"}
"""What the speed layer needs of a topic: others it leaves alone."""


@dataclass(frozen=True)
class Lag:
    """One partition of the event log, and how far the speed layer has read it.

    Attributes:
        start, end: the first offset that is there, and the one after the last.
        reached: the first offset that is not in the speed layer's state; never before `start`.
        waited_s: since the event at `reached` came in; 0 if there is none.
    """

    topic: str
    partition: int
    start: int
    end: int
    reached: int
    waited_s: float

    @property
    def events(self) -> int:
        """Events that wait."""
        return max(0, self.end - self.reached)


def followed_topics(log: EventLog) -> list[str]:
    """The topics that the speed layer reads, sorted."""
    names = (name for name in log.topics() if name != ALERTS)
    return [name for name in names if set(log.schema(name).names) >= _EVENT]


def measure_lag(
    log: EventLog,
    reached: Mapping[str, Mapping[int, int]],
    now: datetime,
    topics: Iterable[str],
) -> list[Lag]:
    """Every partition of some topics.

    Args:
        reached: the next offset to be read, by topic and partition; see `read_positions`.
        now: naive UTC.
    """
    found = []
    for topic in topics:
        starts, known = log.start_offsets(topic), reached.get(topic, {})
        for partition, end in log.end_offsets(topic).items():
            start = starts[partition]
            at = max(known.get(partition, start), start)
            waited = _waited_s(log, topic, partition, at, now) if end > at else 0.0
            found.append(Lag(topic, partition, start, end, at, waited))
    return found


def read_positions(state: StateStore) -> dict[str, dict[int, int]]:
    """The next offset that the speed layer reads, by topic and partition."""
    return {topic: at.next for topic, at in state.range_of(state.open_epoch()).items()}


def came_at(log: EventLog, topic: str, partition: int, offset: int) -> datetime | None:
    """When the event at an offset came in (naive UTC); None if it is gone, or not there yet."""
    try:
        first = log.read(topic, partition, offset, max_events=1, columns=())
    except OffsetOutOfRangeError:
        return None
    time: datetime | None = first.column("ingest_time")[0].as_py() if first.num_rows else None
    return time


def _waited_s(log: EventLog, topic: str, partition: int, offset: int, now: datetime) -> float:
    """Seconds since the event at an offset came in."""
    came = came_at(log, topic, partition, offset)
    return 0.0 if came is None else max(0.0, (now - came).total_seconds())
