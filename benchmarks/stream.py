"""The speed layer over a real broker: on Spark with one core and with two, and in one process.

In one run, over the same topic on one broker on loopback: all built-in views of playback, from the
first event read until the last one is in state, with its offsets in the lake's journal where Spark
takes it in. Each part has a workspace and a process of its own; its first events, which start
engines and compile plans, are not measured. What each has counted, and one view's answer, are
compared. The limit is the event log read and decoded, and nothing else. What a driver alone does
for each event is measured apart: it gets place, time and the hash of the id from the workers, and
looks the id up among as many as it remembers at most.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, Engine, event_tables, new_workspace
from playhead.assemble import Workspace
from playhead.cluster.broker import Broker
from playhead.config import SparkSettings
from playhead.engines.packing import pack, unpack_all
from playhead.engines.spark import spark_session
from playhead.engines.spark.conf import session_settings
from playhead.errors import EngineError
from playhead.eventlog import next_offset
from playhead.speed.config import SpeedConfig
from playhead.speed.dedupe import SeenEvents
from playhead.speed.layer import Step
from playhead.speed.spark.messages import FIRST, KNOWN, PLACE, REFUSED, SECOND

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

TOPIC = "playback"
WARM = 50_000
MICRO_BATCH, PIECES = 100_000, 4
"""Events of a micro-batch whose share the driver does, and in how many pieces they come."""
_PATIENCE_S = 1_200.0


def send(engine: Engine, folder: str, events: int, users: int, movies: int) -> Figure:
    """Put events into the topic; those to warm up come first."""
    engine.choose()
    with new_workspace(Path(folder), users, movies) as workspace:
        tables = event_tables(events, Audience.numbered(users, movies))
        seconds, _ = timed(lambda: [workspace.log.append(TOPIC, table) for table in tables])
    return Figure("appended", events, seconds)


def measure_read(engine: Engine, folder: str) -> Figure:
    """The limit: every event read and decoded by one process."""
    engine.choose()
    with Workspace(Path(folder)) as workspace:
        log = workspace.log

        def read() -> int:
            count = 0
            for partition, end in log.end_offsets(TOPIC).items():
                offset = 0
                while offset < end:
                    events = log.read(TOPIC, partition, offset, max_events=100_000)
                    count += events.num_rows
                    offset = next_offset(events, offset)
            return count

        seconds, count = timed(read)
    return Figure("read and decoded, one process", count, seconds)


def measure(engine: Engine, folder: str, events: int, users: int, movies: int) -> Figure:
    """A speed layer from the log's start to its end; what comes after the first micro-batches."""
    stop = threading.Event()
    taken: list[tuple[float, int]] = [(time.perf_counter(), 0)]

    def on_step(step: Step) -> None:
        if step.waiting:
            raise EngineError(step.waiting)
        taken.append((time.perf_counter(), taken[-1][1] + step.events))
        if taken[-1][1] >= events or taken[-1][0] - taken[0][0] > _PATIENCE_S:
            stop.set()

    engine.choose()
    with new_workspace(Path(folder), users, movies) as workspace:
        workspace.speed(stop, on_step=on_step)
        rows = len(workspace.view("engagement_health"))
        counted = sum(seen.events for seen in workspace.state.progress().values())
    began, skipped = next(one for one in taken if one[1] >= WARM)
    ended, count = next(one for one in taken if one[1] >= events)
    batches = len({n for at, n in taken if at > began})
    return Figure(
        str(engine),
        count - skipped,
        ended - began,
        note=f"{counted:,} events, {rows:,} rows; {batches} micro-batches",
        extra={"counted": counted, "rows": rows},
    )


def measure_driver(engine: Engine, events: int) -> Figure:
    """The driver's share of micro-batches, each of which the workers have ready."""
    engine.choose()
    random = np.random.default_rng(7)

    def ids(count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        first, second = random.integers(0, 1 << 64, size=(2, count), dtype=np.uint64)
        return first, second

    seen, now = SeenEvents(window=timedelta(days=1)), datetime(2026, 1, 1)
    while len(seen) < SpeedConfig().dedupe_limit - events:
        seen.remember(seen.unseen_hashes(*ids(1_000_000)), now)
    held = len(seen)
    session = spark_session(session_settings(SparkSettings(master=f"local[{engine.cores}]")))
    frames = []
    for first in range(0, events, MICRO_BATCH):
        pieces = [
            pack(_known(start, ids(MICRO_BATCH // PIECES)))
            for start in range(first, first + MICRO_BATCH, MICRO_BATCH // PIECES)
        ]
        frame = session.createDataFrame(pa.table({"known": pa.array(pieces, pa.binary())}))
        frames.append(frame.persist())
        frames[-1].count()

    def take(frame: "DataFrame") -> int:
        known = unpack_all(frame.toArrow().column("known"))
        known = known.sort_by([(name, "ascending") for name in PLACE])
        arrived = known.column("ingest_time").cast(pa.int64()).to_numpy()
        first, second = (known.column(name).to_numpy() for name in (FIRST, SECOND))
        unseen = seen.unseen_hashes(first, second, arrived)
        seen.remember(unseen, now)
        return int(unseen.mask.sum())

    take(frames[0])
    seconds, counts = timed(lambda: sum(map(take, frames[1:])))
    return Figure("the driver's share", counts, seconds, note=f"{held:,} ids remembered")


def _known(offset: int, ids: Sequence[npt.NDArray[np.uint64]]) -> pa.Table:
    """What workers tell of so many events of a partition."""
    count = len(ids[0])
    times = pa.array(np.arange(count), pa.timestamp("us"))
    columns = {
        "partition": pa.array(np.zeros(count), pa.int32()),
        "offset": pa.array(np.arange(offset, offset + count)),
        "ingest_time": times,
        "event_time": times,
        FIRST: ids[0],
        SECOND: ids[1],
        REFUSED: pa.array(np.zeros(count, dtype=np.bool_)),
    }
    return pa.table(columns).select(KNOWN.names).cast(KNOWN)


def main(arguments: list[str] | None = None) -> None:
    """Send, measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench stream", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--movies", type=int, default=1_000)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    size = (options.events, options.users, options.movies)
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "broker") as broker:
        folder, embedded = Path(name), Engine("duckdb", brokers=broker.address)
        alone(send, embedded, str(folder / "sent"), *size)
        figures = [alone(measure_read, embedded, str(folder / "sent"))]
        engines = [Engine("spark", cores, broker.address) for cores in (1, 2)]
        for number, engine in enumerate([embedded, *engines]):
            figures.append(alone(measure, engine, str(folder / f"{number}"), *size))
        figures.append(alone(measure_driver, engines[-1], 10 * MICRO_BATCH))
    if len({tuple(f.extra.values()) for f in figures if f.extra}) != 1:
        raise SystemExit(f"the layers differ: {', '.join(f.note for f in figures)}")
    show("stream", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
