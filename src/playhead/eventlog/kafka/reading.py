"""Fetches messages from an offset on, by consumers that stay where they are."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from playhead.errors import EventLogError, OffsetOutOfRangeError
from playhead.eventlog.kafka.cluster import Brokers, away, explain, refused_setting

_CONSUMERS = 32
_IDLE_S = 60.0
_POLL_S = 0.1
_FIRST = 256
_MOST = 50_000
_READ_BYTES = 64 << 20
_FATAL = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Messages of one partition, in order.

    Attributes:
        after: where to go on; all offsets before it that are not among the messages hold none.
    """

    messages: list[Message]
    after: int


@dataclass(eq=False, slots=True)
class _Reader:
    """A consumer, and the place behind the last message that it gave."""

    consumer: Consumer
    place: tuple[str, int] = ("", -1)
    position: int = -1
    used_at: float = field(default_factory=time.monotonic)

    def move(self, place: tuple[str, int], offset: int) -> None:
        if (self.place, self.position) != (place, offset):
            self.consumer.assign([TopicPartition(*place, offset)])
            self.place, self.position = place, offset

    def rest(self) -> None:
        """Fetch nothing until it is moved again."""
        self.consumer.unassign()
        self.position = -1


class Readers:
    """A bounded number of consumers, each for a partition, that fetch ahead of who reads on.

    Safe to use from any thread.
    """

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._changed = threading.Condition()
        self._idle: list[_Reader] = []
        self._count = 0
        self._closed = False

    def fetch(
        self, topic: str, partition: int, offset: int, end: int, *, is_more: bool = False
    ) -> Fetched:
        """The messages of the offsets [offset, end), or the first of them.

        Args:
            topic: its name at the brokers.
            end: not behind the end of the partition.
            is_more: there is more behind `end`, which is likely to be asked for next.

        Raises:
            OffsetOutOfRangeError: the offset is not there any more.
            LogAwayError: the brokers do not answer in time.
        """
        with self._reader((topic, partition), offset) as reader:
            reader.move((topic, partition), offset)
            fetched = self._read(reader, end)
            if fetched.after >= end and not is_more:
                # A fetch that waits at the end for news would hold up the next one.
                reader.rest()
            return fetched

    def close(self) -> None:
        """Let go of all consumers that nobody uses; may be called twice."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._count -= len(idle)
            self._changed.notify_all()
        for reader in idle:
            reader.consumer.close()

    def _read(self, reader: _Reader, end: int) -> Fetched:
        place = f"Topic {reader.place[0]}, partition {reader.place[1]}"
        until = time.monotonic() + self._brokers.patience_s
        messages: list[Message] = []
        size, count = 0, _FIRST
        while reader.position < end and size < _READ_BYTES:
            for message in reader.consumer.consume(min(end - reader.position, count), _POLL_S):
                error = message.error()
                if error is None:
                    offset = message.offset() or 0
                    if offset >= end:
                        # Its offset was skipped by none of ours: others wrote with transactions.
                        self._stop_before(reader, end)
                        break
                    messages.append(message)
                    size += len(message)
                    reader.position = offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    reader.position = max(reader.position, message.offset() or 0)
                else:
                    self._refuse(place, reader.position, error)
            if messages:
                average = max(size // len(messages), 64)
                count = min(max((_READ_BYTES - size) // average, 1), _MOST)
            if time.monotonic() > until and reader.position < end and not messages:
                raise away(self._brokers, f"{place} cannot be read", "no answer in time")
            if messages and time.monotonic() > until:
                break
        return Fetched(messages, min(reader.position, end))

    def _stop_before(self, reader: _Reader, end: int) -> None:
        reader.position = end
        reader.consumer.assign([TopicPartition(*reader.place, end)])

    def _refuse(self, place: str, offset: int, error: KafkaError) -> None:
        """Raise what no patience mends."""
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise OffsetOutOfRangeError(f"{place}: offset {offset} was deleted by retention.")
        if error.fatal() or error.code() in _FATAL:
            raise explain(self._brokers, f"{place} cannot be read", error)

    @contextmanager
    def _reader(self, place: tuple[str, int], offset: int) -> Iterator[_Reader]:
        reader = self._take(place, offset)
        try:
            yield reader
        except BaseException:
            with self._changed:
                self._count -= 1
                self._changed.notify()
            reader.consumer.close()
            raise
        reader.used_at = time.monotonic()
        with self._changed:
            is_over = self._closed
            if is_over:
                self._count -= 1
            else:
                self._idle.append(reader)
            self._changed.notify()
        if is_over:
            reader.consumer.close()

    def _take(self, place: tuple[str, int], offset: int) -> _Reader:
        with self._changed:
            while True:
                if self._closed:
                    raise EventLogError("The event log on Kafka is closed.")
                found = self._best(place, offset)
                if found is not None:
                    self._idle.remove(found)
                    break
                if self._count < _CONSUMERS:
                    self._count += 1
                    break
                if not self._changed.wait(self._brokers.patience_s):
                    raise away(self._brokers, "Events cannot be read", "too many readers")
            stale = self._stale()
        for reader in stale:
            reader.consumer.close()
        return found or self._made()

    def _best(self, place: tuple[str, int], offset: int) -> _Reader | None:
        """An idle reader of the partition, best of this offset; of others if there are too many."""
        here = [reader for reader in self._idle if reader.place == place]
        if here:
            return next((reader for reader in here if reader.position == offset), here[0])
        if self._count >= _CONSUMERS and self._idle:
            return min(self._idle, key=lambda reader: reader.used_at)
        return None

    def _stale(self) -> list[_Reader]:
        """Readers that nobody has used for long, taken out."""
        since = time.monotonic() - _IDLE_S
        stale = [reader for reader in self._idle if reader.used_at < since]
        self._idle = [reader for reader in self._idle if reader.used_at >= since]
        self._count -= len(stale)
        return stale

    def _made(self) -> _Reader:
        try:
            return _Reader(Consumer(self._brokers.client(**_SETTINGS, **self._group())))
        except (KafkaException, ValueError) as error:
            with self._changed:
                self._count -= 1
            raise refused_setting(self._brokers, error) from error

    def _group(self) -> dict[str, str]:
        # Never joined: partitions are assigned, and offsets committed by the log itself.
        return {"group.id": f"{self._brokers.prefix}reader"}


_SETTINGS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "check.crcs": True,
    "fetch.wait.max.ms": 20,
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 50,
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 8 << 10,
}
