"""What an event log promises, whoever implements it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import pyarrow as pa

_AFTER = b"next_offset"
_LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the events of one append went, in one partition.

    The events have the offsets first_offset .. first_offset + count - 1, in the order in which
    they were given.
    """

    partition: int
    first_offset: int
    count: int

    @property
    def end_offset(self) -> int:
        """The offset after the last one."""
        return self.first_offset + self.count


@dataclass(frozen=True, slots=True)
class Kept:
    """Events that are old enough to go, but that a consumer group has not committed yet."""

    topic: str
    partition: int
    group: str
    events: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What one run of retention did.

    Attributes:
        cutoff: events ingested before it were to go (UTC).
        deleted_events: how many went, over all topics.
        kept: what stayed for a lagging group, one entry per group and partition; two groups that
            lag behind the same events both name them.
    """

    cutoff: datetime
    deleted_events: int
    kept: tuple[Kept, ...]


def next_offset(events: pa.Table, offset: int) -> int:
    """Where to go on after a read.

    Args:
        events: what `EventLog.read` gave for `offset`.
    """
    after = (events.schema.metadata or {}).get(_AFTER)
    return offset + int(events.num_rows) if after is None else int(after)


def event_offsets(
    log: "EventLog", topic: str, partition: int, since: int, until: int
) -> Iterator[int]:
    """The offsets in [since, until) that hold an event; those that are gone are left out.

    Raises:
        LogAwayError: the log's servers are away.
    """
    offset = max(since, log.start_offsets(topic).get(partition, 0))
    until = min(until, log.end_offsets(topic).get(partition, 0))
    while offset < until:
        count = min(_LOOKED_AT, until - offset)
        events = log.read(topic, partition, offset, max_events=count, columns=())
        yield from events.column("offset").to_pylist()
        offset = next_offset(events, offset)


def marked(events: pa.Table, offset: int, after: int) -> pa.Table:
    """The events with the note that reading goes on at `after`, where `next_offset` needs it."""
    if offset + events.num_rows == after:
        return events
    return events.replace_schema_metadata({_AFTER: b"%d" % after})


class EventLog(ABC):
    """Topics of events in partitions, appended to at the end and read from anywhere.

    **Offsets** count from 0 in each partition, without gaps in what `append` writes; where others
    write to the same brokers, an offset may hold no event. Retention deletes from the front, so a
    partition holds the offsets start .. end - 1, and never uses an offset twice.

    **Order**: events with the same key go to the same partition for ever, and keep the order in
    which they were given, within an append and from one append to the next.

    **Durable on return**: what `append`, `commit`, `create_topic` and `forget` did survives a
    crash of the process and of the machine. If they raise, nothing of it was kept.

    **Who may call**: any number of threads may share one object, and any number of processes may
    open the same log; reading never blocks appending. An object must not be carried over a fork:
    open the log again in the child.

    **The end**: `close` may be called twice; every other method then raises EventLogError. Closing
    loses nothing. The object is also a context manager that closes itself.

    Every method that takes a topic raises UnknownTopicError if `create_topic` never named it.
    """

    @abstractmethod
    def create_topic(self, topic: str, schema: pa.Schema, *, partitions: int = 3) -> None:
        """Make sure that the topic exists with at least the fields of `schema`.

        May be called on every start. An existing topic gains the fields of `schema` that it lacks
        (they read as NULL in older events); fields that only the topic has stay, so an older
        program may still call this.

        Args:
            topic: 1 to 200 of the characters a-z A-Z 0-9 . _ -
            schema: the events' fields; not nullable means required.
            partitions: fixed once the topic exists.

        Raises:
            ContractError: a field has changed its type, a new one is required, the topic requires
                a field that is missing, or a name or type cannot be used.
            EventLogError: the topic exists with another number of partitions.
        """

    @abstractmethod
    def topics(self) -> list[str]:
        """The names of all topics, sorted."""

    @abstractmethod
    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; they are numbered from 0."""

    @abstractmethod
    def schema(self, topic: str) -> pa.Schema:
        """The fields of the topic's events, without those that the event log adds on reading."""

    def append(
        self, topic: str, events: pa.Table | pa.RecordBatch, *, key: str = "user_id"
    ) -> list[Appended]:
        """Append events: all of them, durably, or none.

        Each goes to the partition of its key (`partition_of`; a null key to partition 0). All of
        them get the same `ingest_time`, which never goes back within a partition. Readers see
        either none or all.

        Args:
            events: columns in any order; optional ones may be missing. Types must be the topic's,
                or differ only in width or encoding without losing a value. May be empty.
            key: a string column of the topic.

        Returns:
            One entry for each partition that got events, by partition; none for no events.

        Raises:
            ContractError: the events do not fit the topic's schema.
            LogFullError: no space left (retryable).
            LogBusyError: another process did not let go of the log in time (retryable).
        """
        return self.append_all({topic: events}, keys={topic: key})[topic]

    @abstractmethod
    def append_all(
        self,
        events: Mapping[str, pa.Table | pa.RecordBatch],
        *,
        keys: Mapping[str, str] | None = None,
    ) -> dict[str, list[Appended]]:
        """Append events to several topics as `append` does: all of them, durably, or none.

        Dearer than one `append` only by what is written: a single sync makes all durable.

        Args:
            events: by topic.
            keys: the string column that decides the partition, by topic; "user_id" where a
                topic is not named.

        Returns:
            For each topic of `events`, what `append` returns.

        Raises:
            What `append` raises; nothing was kept of any topic.
        """

    @abstractmethod
    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        max_events: int = 65_536,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """The events from `offset` on, in order.

        Never waits for events to come. There may be fewer than `max_events` (memory is bounded in
        bytes too): go on at `next_offset(table, offset)`, which is greater than `offset` unless
        that is the end of the partition. Before the end there is at least one event, unless all
        the offsets that were looked at hold none.

        Args:
            offset: start .. end of the partition.
            max_events: 1 or more; offsets from offset + max_events on are not looked at.
            columns: which of the topic's fields to read, in this order; None: all.

        Returns:
            The fields, then partition (int32), offset (int64) and ingest_time (timestamp[us],
            UTC), which are always there.

        Raises:
            OffsetOutOfRangeError: the offset was deleted by retention, or is past the end.
            CorruptBlockError: what is stored there is damaged.
            EventLogError: no such partition or column.
        """

    @abstractmethod
    def start_offsets(self, topic: str) -> dict[int, int]:
        """The first offset that can be read, for every partition."""

    @abstractmethod
    def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset that the next event will get, for every partition.

        Cheap: meant to be polled many times a second for news.
        """

    @abstractmethod
    def offset_at(self, topic: str, time: datetime) -> dict[int, int]:
        """The first offset ingested at `time` (UTC) or later, for every partition.

        The end offset where there is none, the start offset where older events are gone.
        """

    @abstractmethod
    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Note that the group has done with all before `offsets`, and register the group.

        From then on retention keeps what the group has not committed, in all partitions of the
        topic (those never committed count from the start). Going back is allowed; offset 0 always
        is, and registers a group that has read nothing yet. No offsets change nothing.

        Raises:
            OffsetOutOfRangeError: an offset is negative or past the end; nothing was committed.
            EventLogError: no such partition, or an empty group name; nothing was committed.
        """

    @abstractmethod
    def committed(self, group: str, topic: str) -> dict[int, int]:
        """What the group committed last, by partition; empty for an unknown group."""

    @abstractmethod
    def groups(self, topic: str) -> list[str]:
        """The groups registered on the topic, sorted."""

    @abstractmethod
    def forget(self, group: str, topic: str) -> None:
        """Drop the group's offsets on the topic, so that retention no longer waits for it.

        An unknown group is no error.
        """

    @abstractmethod
    def retain(self, age: timedelta) -> Retention:
        """Delete events that were ingested more than `age` ago, from the front of each partition.

        May keep somewhat more than asked, since it deletes in units of storage, but never deletes
        what a registered group has not committed: that is in `Retention.kept`, and logged.
        Appends and reads go on meanwhile.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
