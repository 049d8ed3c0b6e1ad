"""The event log on Kafka's brokers: one event a message, JSON, keyed by its partition key."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Message, TopicPartition

from playhead.clock import Clock, SystemClock
from playhead.contracts import LOG_COLUMNS, TOPICS
from playhead.contracts.validate import Rejected
from playhead.errors import EventLogError, OffsetOutOfRangeError
from playhead.eventlog.base import Appended, EventLog, Kept, Retention, marked
from playhead.eventlog.kafka.catalog import Catalog, Topic
from playhead.eventlog.kafka.cluster import Admin, Brokers
from playhead.eventlog.kafka.codec import Decoded, encode
from playhead.eventlog.kafka.groups import Groups
from playhead.eventlog.kafka.letters import LETTERS, Letters
from playhead.eventlog.kafka.reading import Fetched, Readers
from playhead.eventlog.kafka.writing import INGEST, VERSION, Outgoing, Writer
from playhead.eventlog.keys import partition_of
from playhead.eventlog.offsets import (
    Head,
    check_commit,
    check_read,
    deletable,
    lagging,
    microseconds,
)
from playhead.eventlog.schemas import check_key, conform, selected

logger = logging.getLogger(__name__)

_SCANNED = 1_000


class KafkaEventLog(EventLog):
    """An event log on Kafka's brokers, for many machines.

    What differs from the contract of `EventLog`, since a broker knows no append of many messages:

    - An append that raises LogAwayError may have kept a part of its events, and keeps it. Append
      the same again: events that repeat an id are dropped by whoever reads. Everything else that
      can be wrong is found before the first message is sent, and then nothing is kept.
    - Readers may see an append's first events before its last ones.
    - Others may write too. Their messages have the broker's time as `ingest_time`; where several
      machines write, it may go back by as much as their clocks differ. A message that is no event
      of its topic goes to `dead_letters`, with its bytes, offset and reason, when it is first
      read; its offset has no row, like those that compaction or a transaction's marks leave empty:
      `next_offset` says where to go on after a read.
    - Retention by the brokers (`playhead topics create`) waits for no group.

    Every call raises LogAwayError about `Brokers.patience_s` after the brokers fell silent; all
    goes on by itself when they are back.
    """

    def __init__(self, brokers: Brokers, *, clock: Clock | None = None) -> None:
        """Connect on first use.

        Args:
            clock: gives `ingest_time`, and the now of `retain`.

        Raises:
            SettingError: the client does not take its settings.
        """
        self._clock = clock or SystemClock()
        self._admin = Admin(brokers)
        self._catalog = Catalog(self._admin)
        self._groups = Groups(self._admin)
        self._writer = Writer(brokers)
        self._readers = Readers(brokers)
        self._letters = Letters()
        self._heads: dict[str, dict[int, Head]] = {}
        self._latest_us: dict[str, int] = {}
        self._closing = threading.Lock()
        self._closed = False

    @property
    def catalog(self) -> Catalog:
        """The topics as the brokers have them."""
        return self._catalog

    @property
    def brokers(self) -> Brokers:
        """How the brokers are reached."""
        return self._admin.brokers

    def newest_schema(self, topic: str) -> pa.Schema:
        """A topic's fields as any process has made them until now."""
        known = self._topic(topic)
        return self._catalog.topics().get(topic, known).schema

    def create_topic(self, topic: str, schema: pa.Schema, *, partitions: int = 3) -> None:
        self._check_open()
        self._catalog.create(topic, schema, partitions)

    def topics(self) -> list[str]:
        self._check_open()
        return sorted(self._catalog.topics())

    def partitions(self, topic: str) -> int:
        return self._topic(topic).partitions

    def schema(self, topic: str) -> pa.Schema:
        return self._topic(topic).schema

    def append_all(
        self,
        events: Mapping[str, pa.Table | pa.RecordBatch],
        *,
        keys: Mapping[str, str] | None = None,
    ) -> dict[str, list[Appended]]:
        keys = keys or {}
        known = {topic: self._topic(topic) for topic in events}
        tables = {}
        for name, topic in known.items():
            check_key(name, keys.get(name, "user_id"), topic.schema)
            tables[name] = conform(name, events[name], topic.schema)
        outgoing = [
            _outgoing(known[name], table, keys.get(name, "user_id"))
            for name, table in tables.items()
            if table.num_rows
        ]
        appended: dict[str, list[Appended]] = {name: [] for name in events}
        if outgoing:
            with self._writer.lock:
                now_us = microseconds(self._clock.now())
                times = {o.topic.name: max(now_us, self._latest(o.topic)) for o in outgoing}
                sent = self._writer.send(outgoing, times)
                self._latest_us |= times
            appended |= sent.wait()
        return appended

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
        known = self._topic(topic)
        fields = selected(topic, known.schema, columns)
        end = self._end_for(known, partition, offset)
        if offset == end:
            return _with_log_columns(fields.empty_table(), partition, [], [])
        stop = min(end, offset + max_events)
        try:
            fetched = self._readers.fetch(known.place, partition, offset, stop, is_more=stop < end)
        except OffsetOutOfRangeError:
            check_read(topic, partition, offset, self._fresh_heads(known))
            raise
        return self._table(known, partition, offset, fetched, fields)

    def start_offsets(self, topic: str) -> dict[int, int]:
        known = self._topic(topic)
        return self._admin.starts(known.place, known.partitions)

    def end_offsets(self, topic: str) -> dict[int, int]:
        known = self._topic(topic)
        ends = self._admin.ends(known.place, known.partitions)
        before = self._heads.get(topic, {})
        none = Head(0, 0, 0)
        self._heads[topic] = {
            p: Head(before.get(p, none).start_offset, end, 0) for p, end in ends.items()
        }
        return ends

    def offset_at(self, topic: str, time: datetime) -> dict[int, int]:
        known, time_us = self._topic(topic), microseconds(time)
        # A negative time would mean something else to the brokers: the start, or the end.
        found = self._admin.since(known.place, known.partitions, max(time_us // 1_000, 0))
        ends = self.end_offsets(topic)
        return {
            partition: self._later_than(known, partition, at, ends[partition], time_us)
            for partition, at in found.items()
        }

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        known = self._topic(topic)
        heads = {p: Head(0, end, 0) for p, end in self.end_offsets(topic).items()}
        check_commit(group, topic, offsets, heads)
        if offsets:
            self._groups.commit(group, known, offsets)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        return self._groups.committed(group, self._topic(topic))

    def groups(self, topic: str) -> list[str]:
        return self._groups.names(self._topic(topic))

    def forget(self, group: str, topic: str) -> None:
        self._groups.forget(group, self._topic(topic))

    def retain(self, age: timedelta) -> Retention:
        self._check_open()
        cutoff = self._clock.now() - age
        deleted = 0
        kept: list[Kept] = []
        for name in self.topics():
            known = self._topic(name)
            aged = self.offset_at(name, cutoff)
            commits = {group: self.committed(group, name) for group in self.groups(name)}
            starts = self.start_offsets(name)
            limits = {}
            for partition, start in starts.items():
                committed = {group: at.get(partition, 0) for group, at in commits.items()}
                kept += lagging(name, partition, start, aged[partition], committed)
                limit = deletable(start, aged[partition], committed)
                if limit > start:
                    limits[partition] = max(start, self._append_start(known, partition, limit))
            deleted += self._delete(known, starts, limits)
        return Retention(cutoff, deleted, tuple(kept))

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._writer.close()
        self._readers.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EventLogError(f"The event log at {self._admin.brokers.addresses} is closed.")

    def _topic(self, name: str) -> Topic:
        self._check_open()
        return self._catalog.topic(name)

    # -- reading -------------------------------------------------------------------------

    def _end_for(self, topic: Topic, partition: int, offset: int) -> int:
        """The end of a partition as last known, if it is behind the offset; else as of now."""
        head = self._heads.get(topic.name, {}).get(partition)
        if head is not None and head.start_offset <= offset < head.end_offset:
            return head.end_offset
        return check_read(topic.name, partition, offset, self._fresh_heads(topic)).end_offset

    def _fresh_heads(self, topic: Topic) -> dict[int, Head]:
        starts, ends = self.start_offsets(topic.name), self.end_offsets(topic.name)
        heads = {p: Head(starts[p], max(end, starts[p]), 0) for p, end in ends.items()}
        self._heads[topic.name] = heads
        return heads

    def _table(
        self, topic: Topic, partition: int, offset: int, fetched: Fetched, fields: pa.Schema
    ) -> pa.Table:
        messages = fetched.messages
        decoded = self._decoded(topic, [_value(message) for message in messages])
        times = [_ingest_us(message) for message in messages]
        offsets = [message.offset() or 0 for message in messages]
        if decoded.refused:
            self.refuse(topic.name, partition, decoded.refused, offsets, times)
            bad = {refused.index for refused in decoded.refused}
            good = [row for row in range(len(messages)) if row not in bad]
            times, offsets = [times[row] for row in good], [offsets[row] for row in good]
        events = decoded.events.select(fields.names)
        table = _with_log_columns(events, partition, offsets, times)
        return marked(table, offset, fetched.after)

    def _decoded(self, topic: Topic, values: Sequence[bytes | None]) -> Decoded:
        decoded = topic.decoder.decode(values)
        if decoded.refused:
            # Perhaps another process has given the topic a field since.
            newer = self._catalog.topics().get(topic.name, topic)
            if newer.schema != topic.schema:
                again = newer.decoder.decode(values)
                names = topic.schema.names
                return Decoded(again.events.select(names), again.refused)
        return decoded

    def refuse(
        self,
        topic: str,
        partition: int,
        refused: Sequence[Rejected],
        offsets: Sequence[int],
        times_us: Sequence[int],
    ) -> None:
        """Keep what is no event among the dead letters, before anybody goes on behind it.

        Args:
            refused: messages of one partition, in the order of their offsets.
            offsets, times_us: of the messages that `refused` counts.
        """
        letters = self._letters.of(topic, partition, refused, offsets, times_us)
        if letters is None:
            return
        if topic == LETTERS or LETTERS not in self._catalog.topics():
            logger.error(
                "topic %s, partition %d: %d messages are no events, and there is no topic for "
                "dead letters; the first is at offset %d: %s",
                topic,
                partition,
                letters.num_rows,
                offsets[refused[0].index],
                refused[0].reason,
            )
        else:
            self.append(LETTERS, letters, key="letter_id")
        self._letters.note(topic, partition, offsets[refused[-1].index])

    # -- times ---------------------------------------------------------------------------

    def _latest(self, topic: Topic) -> int:
        """The newest ingest time of a topic, as far as this process knows; read once."""
        if topic.name not in self._latest_us:
            newest = 0
            for partition, head in self._fresh_heads(topic).items():
                if head.end_offset > head.start_offset:
                    at = head.end_offset - 1
                    messages = self._messages(topic, partition, at, head.end_offset)
                    newest = max([newest, *map(_ingest_us, messages)])
            self._latest_us[topic.name] = newest
        return self._latest_us[topic.name]

    def _messages(self, topic: Topic, partition: int, offset: int, end: int) -> list[Message]:
        return self._readers.fetch(topic.place, partition, offset, end).messages

    def _later_than(self, topic: Topic, partition: int, offset: int, end: int, time_us: int) -> int:
        """From an offset of the right millisecond to that of the right microsecond."""
        if offset < 0:
            return end
        if time_us % 1_000 == 0 or time_us < 0:
            return offset
        while offset < end:
            stop = min(end, offset + _SCANNED)
            fetched = self._readers.fetch(topic.place, partition, offset, stop)
            for message in fetched.messages:
                if _ingest_us(message) >= time_us:
                    return message.offset() or 0
            offset = fetched.after
        return end

    # -- retention -----------------------------------------------------------------------

    def _append_start(self, topic: Topic, partition: int, limit: int) -> int:
        """The offset of the first event of the append that `limit` is in: they go together."""
        if limit >= self._heads[topic.name][partition].end_offset:
            return limit
        messages = self._messages(topic, partition, limit, limit + 1)
        found = _ingest(messages[0]) if messages else None
        return limit if found is None else limit - found[1]

    def _delete(self, topic: Topic, starts: Mapping[int, int], limits: Mapping[int, int]) -> int:
        places = [
            TopicPartition(topic.place, partition, limit)
            for partition, limit in limits.items()
            if limit > starts[partition]
        ]
        if not places:
            return 0
        self._heads.pop(topic.name, None)
        timeout_s = self._admin.brokers.patience_s
        self._admin.ask(
            f"Topic {topic.name}: old events cannot be deleted",
            lambda: self._admin.client.delete_records(places, request_timeout=timeout_s),
        )
        return sum(limits[place.partition] - starts[place.partition] for place in places)


def _outgoing(topic: Topic, table: pa.Table, key: str) -> Outgoing:
    keys = table.column(key)
    contract = TOPICS.get(topic.name)
    headers = [] if contract is None else [(VERSION, b"%d" % contract.version)]
    return Outgoing(
        topic,
        encode(table),
        keys.to_pylist(),
        partition_of(keys, topic.partitions).tolist(),
        headers,
    )


def _value(message: Message) -> bytes | None:
    value = message.value()
    return value.encode() if isinstance(value, str) else value


def _ingest_us(message: Message) -> int:
    """From our header, or the broker's own time of a message of others."""
    found = _ingest(message)
    return int(message.timestamp()[1]) * 1_000 if found is None else found[0]


def _ingest(message: Message) -> tuple[int, int] | None:
    """Ingest time in microseconds, and the place in the append; None of a message of others."""
    headers: Iterable[tuple[str, Any]] = message.headers() or ()
    for name, value in headers:
        if name == INGEST:
            try:
                time_us, place = value.split(b"/")
                return int(time_us), int(place)
            except (AttributeError, ValueError):
                return None
    return None


def _with_log_columns(
    events: pa.Table, partition: int, offsets: Sequence[int], times_us: Sequence[int]
) -> pa.Table:
    added = [
        pa.array(np.full(len(offsets), partition, dtype=np.int32)),
        pa.array(offsets, pa.int64()),
        pa.array(times_us, pa.int64()).view(pa.timestamp("us")),
    ]
    schema = pa.schema([*events.schema, *LOG_COLUMNS])
    return pa.Table.from_arrays([*events.columns, *added], schema=schema)
