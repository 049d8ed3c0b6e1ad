"""The gateway: events a second over HTTP, validated and durable, and how long an answer takes.

The load generator has a process of its own, on the same machine. The limit, measured in the same
run, is the same HTTP server that reads bodies and answers; the peer is a plain FastAPI service
with pydantic models that appends to a file. Every event has an id of its own, and what is in the
event log afterwards is counted against what was acknowledged.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop

from benchmarks.collectors import PEER_FILE, READY
from benchmarks.measure import Figure, alone, show
from playhead.eventlog import SqliteEventLog

EVENTS = 1_000
_HEAD = b"POST /v1/events HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
_ID_DIGITS = 12
_START_S = 20.0


@dataclass(frozen=True)
class Load:
    """How bodies are sent.

    Attributes:
        events: in each body.
        bodies: how many in all.
        connections: that send at once, each waiting for its answer.
        per_second: bodies that begin each second, come what may (open loop); 0: each connection
            sends as soon as it has its answer (closed loop).
    """

    events: int
    bodies: int
    connections: int = 8
    per_second: float = 0.0


class Bodies:
    """Requests that differ in all of their event ids: made once, patched in place."""

    def __init__(self, events: int, first: int) -> None:
        one = json.dumps(_event(), separators=(",", ":")).encode()
        body = b"[" + b",".join([one] * events) + b"]"
        head = _HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
        self._request = bytearray(head + body)
        view: npt.NDArray[np.uint8] = np.frombuffer(self._request, np.uint8)
        rows = view[len(head) + 1 :].reshape(events, len(one) + 1)
        at = one.index(b"#" * _ID_DIGITS)
        self._ids = rows[:, at : at + _ID_DIGITS]
        places = one.index(b"!!!!!!")
        numbers = "".join(f"{i:06d}" for i in range(events)).encode()
        rows[:, places : places + 6] = np.frombuffer(numbers, np.uint8).reshape(events, 6)
        users = one.index(b"******")
        rows[:, users : users + 6] = np.frombuffer(numbers, np.uint8).reshape(events, 6)
        self._number = first

    def next(self) -> bytes:
        """The next request."""
        self._ids[:] = np.frombuffer(b"%012d" % self._number, np.uint8)
        self._number += 1
        return bytes(self._request)


def _event() -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "event_id": "#" * _ID_DIGITS + "-" + "!" * 6,
        "event_type": "watch",
        "event_time": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "user_id": "user_******",
        "session_id": "session_0123456789",
        "device_type": "Smart TV",
        "movie_id": "movie_0042",
        "watch_date": now.strftime("%Y-%m-%d"),
        "watch_duration_minutes": 57.25,
        "progress_percentage": 43.5,
        "action": "stopped",
        "quality": "4K",
        "location_country": "United States",
        "is_download": False,
        "user_rating": 4,
    }


@dataclass
class Sent:
    """What came of a load."""

    accepted: int = 0
    failed: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


async def send(port: int, load: Load) -> Sent:
    """Send a load to a server on this machine; a latency counts from when a body was due."""
    sent = Sent()
    due: asyncio.Queue[float] = asyncio.Queue()
    began_s = time.perf_counter()
    senders = [_sender(port, load, n, due, sent) for n in range(load.connections)]
    tasks = [asyncio.create_task(sender) for sender in senders]
    for number in range(load.bodies):
        if load.per_second:
            due_s = began_s + number / load.per_second
            await asyncio.sleep(max(due_s - time.perf_counter(), 0))
            due.put_nowait(due_s)
        else:
            due.put_nowait(0.0)
    for _ in tasks:
        due.put_nowait(-1.0)
    await asyncio.gather(*tasks)
    sent.seconds = time.perf_counter() - began_s
    return sent


async def _sender(
    port: int, load: Load, number: int, due: "asyncio.Queue[float]", sent: Sent
) -> None:
    first = (os.getpid() % 10_000) * 100_000_000 + number * 1_000_000
    bodies = Bodies(load.events, first)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (due_s := await due.get()) >= 0:
        request = bodies.next()
        at_s = due_s or time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        sent.latencies_s.append(time.perf_counter() - at_s)
        if head.startswith(b"HTTP/1.1 202"):
            sent.accepted += load.events
        else:
            sent.failed += load.events
    writer.close()


def measure(kind: str, folder: str, workers: int, load: Load, what: str) -> Figure:
    """Run a server and a load against it, and count what it kept.

    Raises:
        SystemExit: an answer was no 202, or what was kept is not what was acknowledged.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    with closing(socket.create_server(("127.0.0.1", 0), backlog=512)) as listener:
        port = listener.getsockname()[1]
        loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        with _server(kind, place, listener, workers), loop as runner:
            sent = runner.run(send(port, load))
    if sent.failed:
        raise SystemExit(f"{kind}: {sent.failed} events were not taken")
    checked = _checked(kind, place, sent.accepted)
    low, high = (float(np.percentile(sent.latencies_s, q)) * 1000 for q in (50, 99))
    rate = len(sent.latencies_s) / sent.seconds
    note = f"{rate:,.0f} requests/s, p50 {low:.1f} ms, p99 {high:.1f} ms{checked}"
    extra = {"p50_ms": low, "p99_ms": high, "requests_per_second": rate}
    return Figure(f"{kind}, {what}", sent.accepted, sent.seconds, note=note, extra=extra)


def _checked(kind: str, place: Path, accepted: int) -> str:
    if kind == "echo":
        return ""
    if kind == "pydantic":
        with (place / PEER_FILE).open("rb") as file:
            kept = sum(1 for _ in file)
    else:
        with SqliteEventLog(place / "log.db") as log:
            kept = sum(log.end_offsets("playback").values())
    if kept != accepted:
        raise SystemExit(f"{kind}: {accepted} events were acknowledged, and {kept} are there")
    return ", all there"


@contextmanager
def _server(kind: str, place: Path, listener: socket.socket, workers: int) -> Iterator[None]:
    fd = listener.fileno()
    told = [sys.executable, "-m", "benchmarks.collectors", kind, str(place), str(fd)]
    processes = [
        subprocess.Popen([*told, str(n + 1), str(workers)], pass_fds=[fd]) for n in range(workers)
    ]
    try:
        _wait_for(listener.getsockname()[1])
        while kind == "gateway" and len(list(place.glob(f"{READY}-*"))) < workers:
            time.sleep(0.05)
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(20)


def _wait_for(port: int) -> None:
    """Until a server answers anything."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as probe:
            probe.settimeout(_START_S)
            probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            if probe.recv(16):
                return
        time.sleep(0.05)
    raise SystemExit("the server does not answer")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; generator and server have a process each."""
    parser = argparse.ArgumentParser(prog="playhead bench gateway", description=__doc__)
    parser.add_argument("--bodies", type=int, default=3_000, help="of 1,000 events, closed loop")
    parser.add_argument("--rate", type=int, default=100_000, help="events/s of the open loop")
    parser.add_argument("--workers", type=int, default=2, help="of the gateway")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    many, few = options.bodies, max(options.bodies // 6, 50)
    at_once = options.connections
    closed = Load(EVENTS, many, at_once)
    opened = Load(EVENTS, few, 16, options.rate / EVENTS)
    ones = Load(1, many * 4, at_once)
    runs = [
        ("gateway", closed, "1,000 events a body, full speed"),
        ("gateway", Load(EVENTS, many, 8), "1,000 events a body, 8 connections"),
        ("echo", closed, "1,000 events a body, full speed"),
        ("pydantic", Load(EVENTS, few, at_once), "1,000 events a body, full speed"),
        ("gateway", opened, f"1,000 events a body, {options.rate:,} events/s"),
        ("gateway", ones, "1 event a body, full speed"),
        ("echo", ones, "1 event a body, full speed"),
        ("pydantic", Load(1, many, at_once), "1 event a body, full speed"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        figures = [
            alone(measure, kind, folder, options.workers if kind == "gateway" else 1, load, what)
            for kind, load, what in runs
        ]
    show("gateway", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
