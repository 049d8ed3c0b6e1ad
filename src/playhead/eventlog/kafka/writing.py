"""Sends events to the brokers, and waits until all of them are kept."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from playhead.errors import ContractError, EventLogError
from playhead.eventlog.base import Appended
from playhead.eventlog.kafka.catalog import Topic
from playhead.eventlog.kafka.cluster import (
    MESSAGE_BYTES,
    Brokers,
    away,
    explain,
    refused_setting,
)

INGEST = "ingest"
"""Header: `<us>/<place>`, in decimal digits.

When the event came into the log, microseconds since 1970 UTC, and which one of its append's events
in this partition it is, counting from 0. One header, since each costs readers as much as the rest
of a message.
"""

VERSION = "contract_version"
"""Header: the version of the contract that the event was written by, in decimal digits."""

_POLL_S = 0.1
_FULL_S = 0.005
# Keys, headers and the message's own frame come on top of its value.
_FRAME_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Events of one topic, in order.

    Attributes:
        values: JSON, one for each event.
        keys: as long as `values`.
        partitions: as long as `values`.
        headers: that all have.
    """

    topic: Topic
    values: Sequence[bytes]
    keys: Sequence[str | None]
    partitions: Sequence[int]
    headers: Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class _Receipt:
    """What became of the messages of one append; written by the thread that polls."""

    producer: Producer
    wanted: int = -1
    told: int = 0
    failed: KafkaError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def count(self) -> None:
        self.told += 1
        if self.told == self.wanted:
            self.done.set()


class _Part:
    """The messages of one append in one partition; called for each that is kept, or is not."""

    __slots__ = ("_receipt", "offsets")

    def __init__(self, receipt: _Receipt) -> None:
        self._receipt = receipt
        self.offsets: list[int] = []

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.offsets.append(message.offset() or 0)
        else:
            self._receipt.failed = error
        self._receipt.count()


class Writer:
    """An idempotent producer, with a thread that hears what became of its messages.

    Started with the first message. Safe to use from any thread: the messages of one call stand
    together, and calls in the order in which they came.
    """

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._known: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @property
    def lock(self) -> threading.Lock:
        """To be held from choosing an ingest time until `send` has returned."""
        return self._lock

    def send(self, outgoing: Sequence[Outgoing], ingest_us: Mapping[str, int]) -> "Sent":
        """Hand all messages over, while `lock` is held; `Sent.wait` waits for the brokers.

        Args:
            ingest_us: microseconds since 1970 UTC, by topic.

        Raises:
            ContractError: an event is larger than a topic takes; nothing was sent.
            LogAwayError: the brokers do not answer; a part may have been sent.
        """
        for topic in outgoing:
            _check_sizes(topic)
        producer = self._started()
        for topic in outgoing:
            self._meet(producer, topic.topic)
        receipt = _Receipt(producer)
        parts = {t.topic.name: self._queue(t, ingest_us, receipt) for t in outgoing}
        receipt.wanted = sum(len(topic.values) for topic in outgoing)
        if receipt.told >= receipt.wanted:
            receipt.done.set()
        return Sent(self, receipt, parts)

    def close(self) -> None:
        """Wait for what is under way, and let go; may be called twice."""
        with self._lock:
            self._stopping.set()
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.flush(self._brokers.patience_s)
        if self._thread is not None:
            self._thread.join()

    def wait(self, receipt: _Receipt) -> None:
        """Wait until all messages are kept.

        Raises:
            LogAwayError: the brokers do not answer in time.
            EventLogError: they refuse one.
        """
        what = "Events cannot be written"
        # The producer gives up by itself before that.
        if not receipt.done.wait(2 * self._brokers.patience_s + 1):
            raise away(self._brokers, what, "no answer in time")
        if receipt.failed is not None:
            self._drop_if_fatal(receipt.producer, receipt.failed)
            raise explain(self._brokers, what, receipt.failed)

    def _started(self) -> Producer:
        if self._stopping.is_set():
            raise EventLogError("The event log on Kafka is closed.")
        if self._producer is None:
            try:
                self._producer = Producer(self._brokers.client(**_settings(self._brokers)))
            except (KafkaException, ValueError) as error:
                raise refused_setting(self._brokers, error) from error
            self._known = {}
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="kafka-writer", daemon=True)
            self._thread.start()
        return self._producer

    def _listen(self) -> None:
        while not self._stopping.is_set():
            producer = self._producer
            if producer is None:
                self._stopping.wait(_POLL_S)
            else:
                producer.poll(_POLL_S)

    def _meet(self, producer: Producer, topic: Topic) -> None:
        """Let the producer learn of the topic's partitions, when they are new to it."""
        if self._known.get(topic.name) != topic.partitions:
            try:
                producer.list_topics(topic.place, timeout=self._brokers.patience_s)
            except KafkaException as error:
                what = f"Topic {topic.name} cannot be written to"
                raise explain(self._brokers, what, error.args[0]) from error
            self._known[topic.name] = topic.partitions

    def _queue(
        self,
        outgoing: Outgoing,
        ingest_us: Mapping[str, int],
        receipt: _Receipt,
    ) -> dict[int, _Part]:
        topic, time_us = outgoing.topic, ingest_us[outgoing.topic.name]
        parts = {number: _Part(receipt) for number in sorted(set(outgoing.partitions))}
        places = dict.fromkeys(parts, 0)
        rows = zip(outgoing.values, outgoing.keys, outgoing.partitions, strict=True)
        milliseconds = time_us // 1_000
        for value, key, number in rows:
            send = partial(
                receipt.producer.produce,
                topic.place,
                value,
                key,
                number,
                on_delivery=parts[number],
                timestamp=milliseconds,
                headers=[(INGEST, b"%d/%d" % (time_us, places[number])), *outgoing.headers],
            )
            places[number] += 1
            try:
                send()
            except BufferError:
                self._when_free(receipt, send)
            except KafkaException as error:
                self._drop_if_fatal(receipt.producer, error.args[0])
                what = f"Topic {topic.name}: events cannot be sent"
                raise explain(self._brokers, what, error.args[0]) from error
        return parts

    def _when_free(self, receipt: _Receipt, produce: Callable[[], None]) -> None:
        """Try again until the queue has room: it empties, or its messages fail in time."""
        while receipt.failed is None:
            try:
                produce()
                return
            except BufferError:
                time.sleep(_FULL_S)
        raise explain(self._brokers, "Events cannot be sent", receipt.failed)

    def _drop_if_fatal(self, producer: Producer, error: KafkaError) -> None:
        """Begin with a new producer after an error that ends the one that had it."""
        if not error.fatal():
            return
        if self._producer is producer:
            self._producer = None
        # Whoever waits for it is told; the thread listens to the new one.
        producer.purge()
        producer.poll(0)


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages that were handed over."""

    writer: Writer
    receipt: _Receipt
    parts: Mapping[str, Mapping[int, _Part]]

    def wait(self) -> dict[str, list[Appended]]:
        """Where they are kept, by topic: a run for each partition, or more if others wrote too.

        Raises:
            LogAwayError, EventLogError: they may not all be kept.
        """
        self.writer.wait(self.receipt)
        return {
            topic: [run for number, part in parts.items() for run in runs(number, part.offsets)]
            for topic, parts in self.parts.items()
        }


def runs(partition: int, offsets: Sequence[int]) -> list[Appended]:
    """Offsets, in order, as runs without gaps."""
    if offsets[-1] - offsets[0] == len(offsets) - 1:
        return [Appended(partition, offsets[0], len(offsets))]
    starts = [0, *(i for i in range(1, len(offsets)) if offsets[i] != offsets[i - 1] + 1)]
    ends = [*starts[1:], len(offsets)]
    return [
        Appended(partition, offsets[start], end - start)
        for start, end in zip(starts, ends, strict=True)
    ]


def _check_sizes(outgoing: Outgoing) -> None:
    largest = max(map(len, outgoing.values), default=0)
    if largest > MESSAGE_BYTES - _FRAME_BYTES:
        raise ContractError(
            f"Topic {outgoing.topic.name}: an event takes {largest:,} bytes as JSON, and at most"
            f" {MESSAGE_BYTES - _FRAME_BYTES:,} are kept."
        )


def _settings(brokers: Brokers) -> dict[str, Any]:
    return {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "zstd",
        "linger.ms": 2,
        "message.timeout.ms": int(1_000 * brokers.patience_s),
        "message.max.bytes": MESSAGE_BYTES,
        "batch.size": 1 << 20,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 128 << 10,
    }
