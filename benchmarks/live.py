"""The whole path as it runs in production: `playhead up`, and events that come over HTTP.

freshness    from when a POST was due until GET /v1/views/... shows its events, at a steady rate
spike        ten times the base rate for some time: how long an answer takes, and the draining
query        events a second with and without a heavy query that runs all the while

The load comes from one process on the same machine, in bodies of 1,000 events. What is refused or
cut off is sent again under the same ids, as clients do. In the end every acknowledged event has
to be there once, by its id. Every part has a platform and a workspace of its own.
"""

import argparse
import asyncio
import http.client
import operator
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import psutil
import uvloop

from benchmarks.crowd import EVENTS, Crowd, Pace, Pool, Sent
from benchmarks.measure import Figure, show
from benchmarks.workload import Audience, new_workspace
from playhead.assemble import Workspace
from playhead.platform.control import bring_down, platform_status, start_detached

USERS, MOVIES = 100_000, 1_000
PAUSE_S = 0.01
START, STOP = timedelta(seconds=120), timedelta(seconds=30)
DRAIN_S = 600.0
QUIET_S, QUIET_SHARE = 60.0, 0.3
VIEW = "device_quality"
HEAVY = """
SELECT country, subscription_plan, COUNT(*) AS n, SUM(r.range * length(user_id) % 7) AS weight
FROM users, range(3000) AS r GROUP BY ALL ORDER BY n DESC LIMIT 10
"""


class Platform:
    """A platform that runs, and a crowd that sends to it."""

    def __init__(self, path: Path, gateway: str, api: str) -> None:
        self.path = path
        self._api = urlsplit(api).netloc
        self.crowd = Crowd(urlsplit(gateway).netloc, Pool(Audience.numbered(USERS, MOVIES)))
        self._since = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"

    def send(self, pace: Pace) -> Sent:
        """Send at a pace, to the end."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self.crowd.send(pace))

    def shown(self, connection: http.client.HTTPConnection) -> int:
        """How many events the view counts now."""
        told = _asked(connection, "GET", f"/v1/views/{VIEW}?since={self._since}")
        return sum(row["sessions"] for row in told["rows"])

    def connection(self) -> http.client.HTTPConnection:
        """One to the API, which the caller closes."""
        return http.client.HTTPConnection(self._api, timeout=120)

    def watch(self, until: Callable[[int], bool]) -> list[tuple[float, int]]:
        """When each answer was there and what it counted, until one that will do.

        Raises:
            SystemExit: there is none.
        """
        seen: list[tuple[float, int]] = []
        connection, deadline = self.connection(), time.perf_counter() + DRAIN_S
        while not seen or not until(seen[-1][1]):
            counted = self.shown(connection)
            seen.append((time.perf_counter(), counted))
            time.sleep(PAUSE_S)
            if time.perf_counter() > deadline:
                raise SystemExit(f"{seen[-1][1]:,} events are counted after {DRAIN_S:g} s")
        connection.close()
        return seen

    def query_cpu_s(self) -> float:
        """Seconds of a core that the API's processes for queries took so far."""
        (api,) = (part for part in platform_status(self.path).parts if part.name == "api")
        total = 0.0
        for cell in psutil.Process(api.pid).children(recursive=True):
            used = cell.cpu_times()
            total += used.user + used.system
        return total


def _asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> dict[str, Any]:
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != http.client.OK:
        raise SystemExit(f"{method} {path}: {answer.status} {content[:300]!r}")
    told: dict[str, Any] = msgspec.json.decode(content)
    return told


@contextmanager
def running(folder: str, name: str) -> Iterator[Platform]:
    """A platform of a new workspace, warm; its events are counted by their ids at the end."""
    path = Path(folder) / name
    new_workspace(path, USERS, MOVIES).close()
    status = start_detached(path, START)
    urls = status.urls or {}
    platform = Platform(path, urls["gateway"], urls["api"])
    try:
        platform.send(Pace(bodies=10, connections=1))
        platform.watch(lambda count: count == platform.crowd.acknowledged)
        # The first run of the batch layer, and the processes for queries.
        _wait_for_quiet(path)
        yield platform
    finally:
        bring_down(path, STOP)
    check_ids(path, platform.crowd)


def _wait_for_quiet(path: Path) -> None:
    """Until a platform that nobody asks for anything takes little time of the cores."""
    started = time.monotonic()
    used_s, looked_s = _cpu_s(path), started
    while looked_s - started < QUIET_S:
        time.sleep(1)
        now_used_s, now_s = _cpu_s(path), time.monotonic()
        if now_used_s - used_s < QUIET_SHARE * (now_s - looked_s):
            return
        used_s, looked_s = now_used_s, now_s


def _cpu_s(path: Path) -> float:
    """Seconds of a core that all processes of a platform took so far."""
    total = 0.0
    for part in platform_status(path).parts:
        own = psutil.Process(part.pid)
        for process in (own, *own.children(recursive=True)):
            used = process.cpu_times()
            total += used.user + used.system
    return total


def check_ids(path: Path, crowd: Crowd) -> None:
    """Compare what is in the workspace with what was acknowledged.

    Raises:
        SystemExit: an acknowledged event is missing, or one is there twice.
    """
    number = "CAST(substr(event_id, 1, 12) AS BIGINT) AS number"
    counts = "COUNT(*) AS events, COUNT(DISTINCT event_id) AS ids"
    with Workspace(path) as workspace:
        workspace.speed(drain=True)
        table = workspace.query(f"SELECT {number}, {counts} FROM playback GROUP BY 1").to_arrow()
    found, events, ids = (table.column(name).to_numpy() for name in ("number", "events", "ids"))
    if not (events == ids).all():
        raise SystemExit(f"{int((events - ids).sum()):,} events are there twice")
    whole = found[ids == EVENTS]
    missing = np.setdiff1d(np.array(sorted(crowd.numbers)), whole)
    if len(missing):
        raise SystemExit(f"events of {len(missing):,} acknowledged bodies are missing")


# -- freshness -----------------------------------------------------------------------------


def measure_freshness(folder: str, rate: int, seconds: int) -> Figure:
    """Post at a rate over one connection, so in order; ask for the view again and again."""
    with running(folder, "freshness") as platform:
        before = platform.crowd.acknowledged
        bodies = rate * seconds // EVENTS
        pace = Pace(bodies, connections=1, per_second=rate / EVENTS)
        wanted = before + bodies * EVENTS
        with ThreadPoolExecutor(1) as beside:
            sending = beside.submit(platform.send, pace)
            seen = platform.watch(lambda count: count >= wanted or _has_failed(sending))
            sent = sending.result()
    counts = np.maximum.accumulate([count for _, count in seen])
    if counts[-1] != wanted:
        raise SystemExit(f"{counts[-1]:,} events are counted, and {wanted:,} were sent")
    reached = before + EVENTS * np.arange(1, len(sent.due_s) + 1)
    shown_s = np.array([at for at, _ in seen])[np.searchsorted(counts, reached)]
    late_ms = (shown_s - np.array(sent.due_s)) * 1e3
    p50, p99 = (float(np.percentile(late_ms, q)) for q in (50, 99))
    behind_s = sent.seconds - seconds
    return Figure(
        f"freshness at {rate:,} events/s",
        bodies * EVENTS,
        sent.seconds,
        note=f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, worst {late_ms.max():.0f} ms until "
        f"/v1/views/{VIEW} shows them; answers p99 {sent.p99_ms:.0f} ms; {len(seen):,} reads; "
        "all there once" + (f"; the sender was {behind_s:.1f} s late" if behind_s > 1 else ""),
        extra={"p50_ms": p50, "p99_ms": p99, "answer_p99_ms": sent.p99_ms},
    )


def _has_failed(work: Future[Sent]) -> bool:
    return work.done() and work.exception() is not None


# -- spike ---------------------------------------------------------------------------------


def measure_spike(folder: str, base: int, seconds: int) -> list[Figure]:
    """The base rate, then ten times as much, and the time until everything is counted."""
    figures = []
    with running(folder, "spike") as platform:
        for times, lasting in ((1, 5), (10, seconds)):
            rate = base * times
            bodies = rate * lasting // EVENTS
            pace = Pace(bodies, 16, rate / EVENTS, lasting)
            began_s = time.perf_counter()
            sent = platform.send(pace)
            wanted = platform.crowd.acknowledged
            ended_s = began_s + sent.seconds
            seen = platform.watch(partial(operator.le, wanted))
            drain_s = max(0.0, seen[-1][0] - ended_s)
            offered = len(sent.answer_s) / bodies
            figures.append(
                Figure(
                    f"{'spike' if times > 1 else 'before'}, {rate:,} events/s for {lasting} s",
                    len(sent.answer_s) * EVENTS,
                    sent.seconds,
                    note=f"{offered:.0%} of it could be sent and was accepted; answers p50 "
                    f"{sent.p50_ms:.0f} ms, p99 {sent.p99_ms:.0f} ms; {sent.refused:,} refused "
                    f"and sent again; all counted {drain_s:.1f} s after the last answer, once",
                    extra={
                        "answer_p99_ms": sent.p99_ms,
                        "drain_s": drain_s,
                        "refused": float(sent.refused),
                    },
                )
            )
    return figures


# -- beside a heavy query ------------------------------------------------------------------


def measure_query(folder: str, seconds: int) -> list[Figure]:
    """As fast as it goes, with a heavy query beside it, and again without."""
    pace = Pace(connections=8, seconds=seconds)
    cores = os.cpu_count() or 1
    with running(folder, "query") as platform:
        first = platform.send(pace)
        with _analyst(platform) as asked:
            used_s = platform.query_cpu_s()
            beside = platform.send(pace)
            share = (platform.query_cpu_s() - used_s) / (beside.seconds * cores)
        last = platform.send(pace)
    alone = (first.per_second + last.per_second) / 2
    falls = 1 - beside.per_second / alone
    told = f"{len(asked)} queries answered; they took {share:.0%} of the cores"
    return [
        _ingested("alone, before", first),
        _ingested(
            "beside a heavy query",
            beside,
            f"{falls:.1%} less than alone; {told}",
            falls=falls,
            query_share=share,
        ),
        _ingested("alone, after", last),
    ]


def _ingested(name: str, sent: Sent, more: str = "", **extra: float) -> Figure:
    answers = f"answers p50 {sent.p50_ms:.0f} ms, p99 {sent.p99_ms:.0f} ms"
    return Figure(
        f"ingestion {name}",
        len(sent.answer_s) * EVENTS,
        sent.seconds,
        note="; ".join(filter(None, (answers, more, "all there once"))),
        extra={"answer_p99_ms": sent.p99_ms, **extra},
    )


@contextmanager
def _analyst(platform: Platform) -> Iterator[list[float]]:
    """Somebody who asks the heavy query again and again; when each answer came."""
    answered: list[float] = []
    ends = threading.Event()
    body = msgspec.json.encode({"sql": HEAVY})

    def ask() -> None:
        """Ask until the end; whatever it raises comes out of the `with` block."""
        connection = platform.connection()
        while not ends.is_set():
            connection.request("POST", "/v1/query", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            # One that takes too long is ended, and asked again: it was heavy all the while.
            if answer.status not in (http.client.OK, http.client.GATEWAY_TIMEOUT):
                raise SystemExit(f"the query: {answer.status} {content[:300]!r}")
            answered.append(time.perf_counter())
        connection.close()

    with ThreadPoolExecutor(1) as beside:
        asking = beside.submit(ask)
        time.sleep(1)
        try:
            yield answered
        finally:
            ends.set()
        asking.result()


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="playhead bench live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", default="freshness,spike,query")
    parser.add_argument("--rate", type=int, default=50_000, help="events/s of freshness")
    parser.add_argument("--seconds", type=int, default=20, help="of freshness")
    parser.add_argument("--base", type=int, default=20_000, help="events/s before the spike")
    parser.add_argument("--spike-seconds", type=int, default=30, help="of the spike; 300 in full")
    parser.add_argument("--query-seconds", type=int, default=8, help="of each ingestion")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    for name in ("GATEWAY", "API"):
        os.environ[f"PLAYHEAD_{name}_ADDRESS"] = "127.0.0.1:0"
    os.environ["PLAYHEAD_DASHBOARD_ADDRESS"] = ""
    measures: dict[str, Callable[[str], list[Figure]]] = {
        "freshness": lambda folder: [measure_freshness(folder, options.rate, options.seconds)],
        "spike": lambda folder: measure_spike(folder, options.base, options.spike_seconds),
        "query": lambda folder: measure_query(folder, options.query_seconds),
    }
    for part in options.parts.split(","):
        with tempfile.TemporaryDirectory() as folder:
            show(f"live: {part}", measures[part](folder), as_json=options.format == "json")


if __name__ == "__main__":
    main()
