"""The event log: durable appends of small batches and of large ones, and reading them back.

The limit, measured in the same run, is the disk itself: writing the same bytes to a file with one
fsync for each append. What is read is compared with what was appended.
"""

import argparse
import os
import tempfile
from pathlib import Path

import pyarrow as pa

from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, event_tables
from playhead.clock import SystemClock
from playhead.contracts import TOPICS
from playhead.eventlog import SqliteEventLog

TOPIC = "playback"


def measure_disk(folder: str, events: int, at_once: int) -> Figure:
    """The limit: the same events as Arrow streams in one file, each append synced."""
    tables = list(event_tables(events, Audience.numbered(100_000, 1_000), at_once=at_once))
    bodies = [_stream(table) for table in tables]

    def write() -> None:
        with (Path(folder) / f"disk-{at_once}").open("wb", buffering=0) as file:
            for body in bodies:
                file.write(body)
                os.fsync(file.fileno())

    seconds, _ = timed(write)
    return _figure("file and fsync", events, at_once, seconds)


def measure_append(folder: str, events: int, at_once: int) -> Figure:
    """Durable appends to three partitions."""
    tables = list(event_tables(events, Audience.numbered(100_000, 1_000), at_once=at_once))
    with _log(folder, at_once) as log:
        log.create_topic(TOPIC, TOPICS[TOPIC].schema)

        def append() -> None:
            for table in tables:
                log.append(TOPIC, table)

        seconds, _ = timed(append)
    return _figure("append", events, at_once, seconds)


def measure_read(folder: str, events: int, at_once: int, columns: list[str] | None) -> Figure:
    """Reading every partition from its start to its end."""
    with _log(folder, at_once) as log:
        seconds, ids = timed(lambda: _read(log, columns))
    wanted = sum(t.num_rows for t in event_tables(events, Audience.numbered(9, 9)))
    if ids != wanted:
        raise SystemExit(f"{ids} events were read, and {wanted} appended")
    what = "all columns" if columns is None else f"{len(columns)} columns"
    return _figure(f"read, {what}", events, at_once, seconds, "each event once")


def _read(log: SqliteEventLog, columns: list[str] | None) -> int:
    seen = 0
    for partition, end in log.end_offsets(TOPIC).items():
        offset = 0
        while offset < end:
            events = log.read(TOPIC, partition, offset, columns=columns)
            offset += events.num_rows
        seen += offset
    return seen


def _log(folder: str, at_once: int) -> SqliteEventLog:
    return SqliteEventLog(Path(folder) / f"log-{at_once}.db", clock=SystemClock())


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _figure(what: str, events: int, at_once: int, seconds: float, checked: str = "") -> Figure:
    note = f"{events / at_once / seconds:,.0f} appends/s" if "read" not in what else checked
    return Figure(f"{what} ({at_once:,} events at once)", events, seconds, note=note)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench log", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--small", type=int, default=1_000, help="events in a small append")
    parser.add_argument("--large", type=int, default=100_000, help="events in a large append")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    few = min(options.events, 500 * options.small)
    narrow = ["event_id", "event_time", "user_id", "movie_id"]
    with tempfile.TemporaryDirectory() as folder:
        figures = []
        for events, at_once in ((few, options.small), (options.events, options.large)):
            figures.append(alone(measure_disk, folder, events, at_once))
            figures.append(alone(measure_append, folder, events, at_once))
            figures.append(alone(measure_read, folder, events, at_once, None))
            figures.append(alone(measure_read, folder, events, at_once, narrow))
    show("log", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
