"""An event log in memory, for tests and for trying things out."""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from playhead.clock import Clock, SystemClock
from playhead.errors import EventLogError, UnknownTopicError
from playhead.eventlog.base import Appended, EventLog, Kept, Retention
from playhead.eventlog.blocks import split, widen, with_log_columns
from playhead.eventlog.offsets import (
    Head,
    check_commit,
    check_read,
    deletable,
    lagging,
    microseconds,
)
from playhead.eventlog.schemas import (
    check_key,
    check_topic,
    conform,
    evolve,
    selected,
    without_metadata,
)


@dataclass(frozen=True, slots=True)
class _Run:
    """Events of one partition that were appended together."""

    first_offset: int
    ingest_us: int
    events: pa.RecordBatch

    @property
    def end_offset(self) -> int:
        return self.first_offset + int(self.events.num_rows)


@dataclass(slots=True)
class _Partition:
    head: Head = Head(0, 0, 0)  # noqa: RUF009 - frozen
    runs: list[_Run] = field(default_factory=list)

    def append(self, batch: pa.RecordBatch, ingest_us: int) -> None:
        run = _Run(self.head.end_offset, ingest_us, batch)
        self.runs.append(run)
        self.head = Head(self.head.start_offset, run.end_offset, ingest_us)

    def offset_at(self, time_us: int) -> int:
        at = bisect_left(self.runs, time_us, key=lambda run: run.ingest_us)
        if at == len(self.runs):
            return self.head.end_offset
        return self.runs[at].first_offset

    def delete(self, limit: int) -> int:
        """Delete whole runs before `limit`; how many events went."""
        count = bisect_right(self.runs, limit, key=lambda run: run.end_offset)
        if count == 0:
            return 0
        start = self.runs[count - 1].end_offset
        deleted = start - self.head.start_offset
        self.runs = self.runs[count:]
        self.head = Head(start, self.head.end_offset, self.head.ingest_us)
        return deleted


@dataclass(slots=True)
class _Topic:
    schema: pa.Schema
    partitions: list[_Partition]
    commits: dict[str, dict[int, int]] = field(default_factory=dict)

    def heads(self) -> dict[int, Head]:
        return {number: part.head for number, part in enumerate(self.partitions)}


class MemoryEventLog(EventLog):
    """An event log that lasts as long as the object; for the threads of one process.

    It keeps the contract of `EventLog` in all but durability and other processes.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Make an empty one.

        Args:
            clock: gives `ingest_time`, and the now of `retain`.
        """
        self._clock = clock or SystemClock()
        self._topics: dict[str, _Topic] = {}
        self._lock = threading.Lock()
        self._closed = False

    def create_topic(self, topic: str, schema: pa.Schema, *, partitions: int = 3) -> None:
        check_topic(topic, schema, partitions)
        with self._locked():
            known = self._topics.get(topic)
            if known is None:
                parts = [_Partition() for _ in range(partitions)]
                self._topics[topic] = _Topic(without_metadata(schema), parts)
            elif len(known.partitions) != partitions:
                raise EventLogError(
                    f"Topic {topic} has {len(known.partitions)} partitions, not {partitions}."
                )
            else:
                known.schema = evolve(topic, known.schema, schema)

    def topics(self) -> list[str]:
        with self._locked():
            return sorted(self._topics)

    def partitions(self, topic: str) -> int:
        with self._known(topic) as known:
            return len(known.partitions)

    def schema(self, topic: str) -> pa.Schema:
        with self._known(topic) as known:
            return known.schema

    def append_all(
        self,
        events: Mapping[str, pa.Table | pa.RecordBatch],
        *,
        keys: Mapping[str, str] | None = None,
    ) -> dict[str, list[Appended]]:
        keys = keys or {}
        with self._locked():
            batches = {}
            for topic, given in events.items():
                known, key = self._topic(topic), keys.get(topic, "user_id")
                check_key(topic, key, known.schema)
                table = conform(topic, given, known.schema)
                batches[topic] = list(split(table, key, len(known.partitions)))
            return {topic: self._store(topic, parts) for topic, parts in batches.items()}

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        max_events: int = 65_536,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        if max_events < 1:
            raise EventLogError(f"max_events is {max_events}; read at least one event.")
        with self._known(topic) as known:
            fields = selected(topic, known.schema, columns)
            check_read(topic, partition, offset, known.heads())
            runs = known.partitions[partition].runs
            start = bisect_right(runs, offset, key=lambda run: run.end_offset)
            end = bisect_left(runs, offset + max_events, key=lambda run: run.first_offset)
            taken = runs[start:end]
        if not taken:
            return with_log_columns(fields.empty_table(), partition, offset, [])
        parts = [widen(pa.Table.from_batches([run.events]), fields) for run in taken]
        ingested = [(run.events.num_rows, run.ingest_us) for run in taken]
        table = with_log_columns(
            pa.concat_tables(parts), partition, taken[0].first_offset, ingested
        )
        return table.slice(offset - taken[0].first_offset, max_events)

    def start_offsets(self, topic: str) -> dict[int, int]:
        with self._known(topic) as known:
            return {number: head.start_offset for number, head in known.heads().items()}

    def end_offsets(self, topic: str) -> dict[int, int]:
        with self._known(topic) as known:
            return {number: head.end_offset for number, head in known.heads().items()}

    def offset_at(self, topic: str, time: datetime) -> dict[int, int]:
        with self._known(topic) as known:
            time_us = microseconds(time)
            return {number: part.offset_at(time_us) for number, part in enumerate(known.partitions)}

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        with self._known(topic) as known:
            check_commit(group, topic, offsets, known.heads())
            if offsets:
                known.commits.setdefault(group, {}).update(offsets)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        with self._known(topic) as known:
            return dict(sorted(known.commits.get(group, {}).items()))

    def groups(self, topic: str) -> list[str]:
        with self._known(topic) as known:
            return sorted(known.commits)

    def forget(self, group: str, topic: str) -> None:
        with self._known(topic) as known:
            known.commits.pop(group, None)

    def retain(self, age: timedelta) -> Retention:
        cutoff = self._clock.now() - age
        deleted = 0
        kept: list[Kept] = []
        with self._locked():
            for topic, known in sorted(self._topics.items()):
                for number, part in enumerate(known.partitions):
                    aged = part.offset_at(microseconds(cutoff))
                    committed = {group: at.get(number, 0) for group, at in known.commits.items()}
                    start = part.head.start_offset
                    kept += lagging(topic, number, start, aged, committed)
                    deleted += part.delete(deletable(start, aged, committed))
        return Retention(cutoff, deleted, tuple(kept))

    def close(self) -> None:
        self._closed = True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise EventLogError("The event log in memory is closed.")
            yield

    @contextmanager
    def _known(self, topic: str) -> Iterator[_Topic]:
        with self._locked():
            yield self._topic(topic)

    def _topic(self, topic: str) -> _Topic:
        if topic not in self._topics:
            raise UnknownTopicError(
                f"The event log in memory has no topic {topic}.",
                hint=f"It has {', '.join(sorted(self._topics)) or 'no topic yet'}.",
            )
        return self._topics[topic]

    def _store(self, topic: str, batches: list[tuple[int, pa.RecordBatch]]) -> list[Appended]:
        known = self._topics[topic]
        before = known.heads()
        latest_us = max(head.ingest_us for head in before.values())
        ingest_us = max(microseconds(self._clock.now()), latest_us)
        for partition, batch in batches:
            known.partitions[partition].append(batch, ingest_us)
        return [
            Appended(number, before[number].end_offset, count)
            for number, head in known.heads().items()
            if (count := head.end_offset - before[number].end_offset)
        ]
