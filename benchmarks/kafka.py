"""The event log on a real broker, against the client library's own bare loops.

In one run, on one broker on loopback: the same bytes by plain `produce` and plain `consume`,
without headers, checks, offsets of what was written, or tables; then through the event log. What
is read is counted. Needs `playhead[kafka]`, Java and the broker's jars.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, event_tables
from playhead.cluster.broker import Broker
from playhead.contracts import TOPICS
from playhead.eventlog import next_offset, partition_of

if TYPE_CHECKING:
    from playhead.eventlog.kafka import KafkaEventLog

TOPIC = "playback"
PARTITIONS = 3
_QUEUE = {"queue.buffering.max.messages": 500_000, "queue.buffering.max.kbytes": 131_072}
_PRODUCER = {"enable.idempotence": True, "acks": "all", "compression.type": "zstd", "linger.ms": 2}


def measure_produce(address: str, events: int, at_once: int) -> Figure:
    """The limit of writing: the messages' bytes by plain `produce`, flushed every `at_once`."""
    from confluent_kafka import Producer

    from playhead.eventlog.kafka.codec import encode

    batches = [
        (encode(t), t.column("user_id").to_pylist(), _homes(t)) for t in _tables(events, at_once)
    ]
    _make(address, "bare.")
    producer = Producer({"bootstrap.servers": address, **_PRODUCER, **_QUEUE})
    producer.list_topics(timeout=10)
    for value in batches[0][0]:
        # The broker's own code is compiled while it works.
        producer.produce(f"bare.{TOPIC}", value, partition=0)
    producer.flush()

    def write() -> None:
        for values, keys, homes in batches:
            for value, key, home in zip(values, keys, homes, strict=True):
                producer.produce(f"bare.{TOPIC}", value, key, home)
            producer.flush()

    seconds, _ = timed(write)
    return _figure("bare produce", events, seconds, at_once)


def measure_append(address: str, events: int, at_once: int, prefix: str) -> Figure:
    """Durable appends to three partitions."""
    tables = list(_tables(events, at_once))
    with _make(address, prefix) as log:
        log.append(TOPIC, tables[0].slice(0, 1))

        def append() -> None:
            for table in tables:
                log.append(TOPIC, table)

        seconds, _ = timed(append)
    return _figure("append", events, seconds, at_once)


def measure_consume(address: str, prefix: str) -> Figure:
    """The limit of reading: all messages of the topic by plain `consume`, and their bytes."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    with _make(address, prefix) as log:
        wanted = sum(log.end_offsets(TOPIC).values())
    consumer = Consumer({"bootstrap.servers": address, "group.id": "bare"})
    places = [TopicPartition(f"{prefix}{TOPIC}", p, OFFSET_BEGINNING) for p in range(PARTITIONS)]
    consumer.assign(places)

    def read() -> int:
        seen = 0
        while seen < wanted:
            seen += sum(m.value() is not None for m in consumer.consume(10_000, 0.1))
        return seen

    seconds, seen = timed(read)
    consumer.close()
    return _figure("bare consume", seen, seconds)


def measure_read(address: str, prefix: str, columns: list[str] | None) -> Figure:
    """Reading every partition of the event log from its start to its end, as tables."""
    with _make(address, prefix) as log:
        ends = log.end_offsets(TOPIC)

        def read() -> int:
            seen = 0
            for partition, end in ends.items():
                offset = 0
                while offset < end:
                    events = log.read(TOPIC, partition, offset, columns=columns)
                    seen += events.num_rows
                    offset = next_offset(events, offset)
            return seen

        seconds, seen = timed(read)
    if seen != sum(ends.values()):
        raise SystemExit(f"{seen} events were read, and {sum(ends.values())} are there")
    return _figure(f"read, {len(columns) if columns else 'all'} columns", seen, seconds)


def measure_poll(address: str, prefix: str, times: int) -> Figure:
    """Asking where a topic ends, as the speed layer does for news."""
    with _make(address, prefix) as log:
        began = time.perf_counter()
        for _ in range(times):
            log.end_offsets(TOPIC)
        seconds = time.perf_counter() - began
    return Figure("end offsets, asked", times, seconds, note=f"{1_000 * seconds / times:.1f} ms")


def _make(address: str, prefix: str) -> "KafkaEventLog":
    from playhead.eventlog.kafka import Brokers, KafkaEventLog

    log = KafkaEventLog(Brokers(address, prefix))
    log.create_topic(TOPIC, TOPICS[TOPIC].schema, partitions=PARTITIONS)
    return log


def _tables(events: int, at_once: int) -> Iterator[pa.Table]:
    return event_tables(events, Audience.numbered(100_000, 1_000), at_once=at_once)


def _homes(table: pa.Table) -> list[int]:
    homes: list[int] = partition_of(table.column("user_id"), PARTITIONS).tolist()
    return homes


def _figure(what: str, events: int, seconds: float, at_once: int = 0) -> Figure:
    name = f"{what} ({at_once:,} events at once)" if at_once else what
    return Figure(name, events, seconds, note=f"{events / seconds:,.0f} events/s")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench kafka", description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--small", type=int, default=1_000, help="events in a small append")
    parser.add_argument("--large", type=int, default=50_000, help="events in a large append")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    few = min(options.events, 100 * options.small)
    narrow = ["event_id", "event_time", "user_id", "movie_id"]
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "broker") as broker:
        at, large, small = broker.address, options.large, options.small
        figures = [
            alone(measure_produce, at, options.events, large),
            alone(measure_append, at, options.events, large, "large."),
            alone(measure_produce, at, few, small),
            alone(measure_append, at, few, small, "small."),
            alone(measure_consume, at, "large."),
            alone(measure_read, at, "large.", None),
            alone(measure_read, at, "large.", narrow),
            alone(measure_poll, at, "large.", 300),
        ]
    show("kafka", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
