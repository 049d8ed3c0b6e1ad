"""Freshness: from the start of an append until a merged query shows its events.

A producer appends at a steady rate, 20 times a second; a speed layer runs in another process; a
reader asks for the newest windows of a view again and again, 10 ms after each answer, and notes
when the count of sessions reached what had been appended. The answer is compared with the number
of events that were sent before a figure is printed. `device_quality` has few groups;
`engagement_health` has one for nearly every event below the windows, all of them in one window.
With `--engines spark` the events are on a broker, and the speed layer runs on Spark.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import Figure, alone, show
from benchmarks.workload import Audience, Engine, engine_for, new_workspace, playback_events
from playhead.assemble import Workspace

PER_SECOND = 20
PAUSE_S = 0.01
USERS, MOVIES = 100_000, 1_000
WARM = 1_000


def measure(folder: str, engine: Engine, view: str, rate: int, seconds: int) -> Figure:
    """Latencies of every append at one rate, once the layer is at work."""
    engine.choose()
    path = Path(folder) / "workspace"
    new_workspace(path, USERS, MOVIES).close()
    at_once = rate // PER_SECOND
    appended: list[tuple[float, int]] = []
    with Workspace(path) as workspace, _speed_layer(path):
        start = datetime.now(UTC).replace(tzinfo=None)
        audience = Audience.numbered(USERS, MOVIES)
        _warm(workspace, rate * seconds, replace(audience, start=start - timedelta(days=3)))
        audience = replace(audience, start=start)
        tables = [_now(n, at_once, rate * seconds, audience) for n in range(PER_SECOND * seconds)]
        producer = threading.Thread(target=_produce, args=(workspace, tables, appended))
        producer.start()
        shown = _watch(path, view, start, at_once * len(tables))
        producer.join()
    latencies = _latencies(appended, shown)
    late = appended[-1][0] - appended[0][0] - seconds
    return Figure(
        f"{engine}: {view}, {rate:,} events/s",
        at_once * len(tables),
        appended[-1][0] - appended[0][0],
        note=(
            f"p50 {np.percentile(latencies, 50):.0f} ms, p99 {np.percentile(latencies, 99):.0f} ms,"
            f" worst {max(latencies):.0f} ms; every event counted once; {len(shown):,} answers"
            + (f"; the producer was {late:.1f} s late" if late > 1 else "")
        ),
        extra={
            "p50_ms": float(np.percentile(latencies, 50)),
            "p99_ms": float(np.percentile(latencies, 99)),
        },
    )


def _warm(workspace: Workspace, first: int, audience: Audience) -> None:
    """Have the first events taken in, for which engines start: they are of another day."""
    workspace.log.append("playback", playback_events(first, WARM, audience, first + WARM))
    deadline = time.perf_counter() + 600
    while sum(seen.events for seen in workspace.state.progress().values()) < WARM:
        time.sleep(0.1)
        if time.perf_counter() > deadline:
            raise SystemExit("the speed layer takes nothing in")


def _now(number: int, at_once: int, total: int, audience: Audience) -> pa.Table:
    """The events of one append, all of its moment."""
    table = playback_events(number * at_once, at_once, audience, total)
    moment = audience.start + timedelta(seconds=number / PER_SECOND)
    times = pa.repeat(pa.scalar(moment, pa.timestamp("us")), at_once)
    return table.set_column(table.schema.get_field_index("event_time"), "event_time", times)


def _produce(
    workspace: Workspace, tables: list[pa.Table], appended: list[tuple[float, int]]
) -> None:
    began, sent = time.perf_counter(), 0
    for number, table in enumerate(tables):
        time.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
        at = time.perf_counter()
        workspace.log.append("playback", table)
        sent += table.num_rows
        appended.append((at, sent))


def _watch(path: Path, view: str, start: datetime, total: int) -> list[tuple[float, int]]:
    """When an answer was there, and how many sessions it counted, until it counts all."""
    shown: list[tuple[float, int]] = []
    since = start - timedelta(days=1)
    deadline = time.perf_counter() + 600
    with Workspace(path) as workspace:
        while not shown or shown[-1][1] < total:
            answer = workspace.view(view, since=since).to_arrow()
            counted = pc.sum(answer.column("sessions")).as_py() or 0
            shown.append((time.perf_counter(), int(counted)))
            time.sleep(PAUSE_S)
            if shown[-1][1] > total or time.perf_counter() > deadline:
                raise SystemExit(f"{shown[-1][1]} sessions are counted, and {total} were sent")
    return shown


def _latencies(appended: list[tuple[float, int]], shown: list[tuple[float, int]]) -> list[float]:
    """Milliseconds from each append to the first answer that counts it."""
    counts = [count for _, count in shown]
    places = np.searchsorted(np.maximum.accumulate(counts), [sent for _, sent in appended])
    return [(shown[place][0] - at) * 1e3 for (at, _), place in zip(appended, places, strict=True)]


@contextmanager
def _speed_layer(path: Path) -> Iterator[None]:
    """A speed layer in a process of its own, as `playhead speed` runs it."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_run, args=(path, stop))
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join()


def _run(path: Path, stop: Event) -> None:
    ended = threading.Event()

    def end() -> None:
        stop.wait()
        ended.set()

    threading.Thread(target=end, daemon=True).start()
    with Workspace(path) as workspace:
        workspace.speed(ended)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; every rate in processes of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench freshness", description=__doc__)
    parser.add_argument("--rates", default="5000,50000,200000", help="events a second")
    parser.add_argument("--views", default="device_quality,engagement_health")
    parser.add_argument("--seconds", type=int, default=20, help="how long, at each rate")
    parser.add_argument("--engines", default="duckdb", help="duckdb,spark compares them")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    figures = []
    for name in options.engines.split(","):
        for view in options.views.split(","):
            for rate in (int(rate) for rate in options.rates.split(",")):
                with (
                    tempfile.TemporaryDirectory() as folder,
                    engine_for(name, 2, Path(folder)) as engine,
                ):
                    figures.append(alone(measure, folder, engine, view, rate, options.seconds))
    show("freshness", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
