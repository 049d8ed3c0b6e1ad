"""Events as clients send them, and the raw HTTP of clients that behave badly."""

import itertools
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playhead.eventlog import EventLog, SqliteEventLog

_numbers = itertools.count()


def watch(user: str = "u1", **fields: Any) -> dict[str, Any]:
    """A good playback event with an id of its own."""
    now = datetime.now(UTC) + timedelta(seconds=fields.pop("seconds", 0))
    event = {
        "event_id": f"event-{next(_numbers)}",
        "event_type": "watch",
        "event_time": now.isoformat(),
        "user_id": user,
        "session_id": "s1",
        "device_type": "Mobile",
        "movie_id": "movie_0001",
        "action": "started",
        "quality": "HD",
    }
    return event | fields


def page_view(user: str = "u1", **fields: Any) -> dict[str, Any]:
    """A good interaction event."""
    event = {
        "event_id": f"event-{next(_numbers)}",
        "event_type": "page_view",
        "event_time": datetime.now(UTC).isoformat(),
        "user_id": user,
        "session_id": "s1",
        "device_type": "Mobile",
        "page": "/home",
    }
    return event | fields


def body_of(*events: dict[str, Any]) -> bytes:
    return json.dumps(events).encode()


def rows(log: EventLog, topic: str) -> list[dict[str, Any]]:
    """All events of a topic, partition after partition."""
    found: list[dict[str, Any]] = []
    for partition, end in log.end_offsets(topic).items():
        offset = 0
        while offset < end:
            table = log.read(topic, partition, offset)
            found += table.to_pylist()
            offset += table.num_rows
    return found


@contextmanager
def log_of(workspace: Path) -> Iterator[EventLog]:
    with SqliteEventLog(workspace / "log.db") as log:
        yield log


def ids(workspace: Path, topic: str = "playback") -> list[str]:
    with log_of(workspace) as log:
        return [row["event_id"] for row in rows(log, topic)]


def post_head(length: int | None, *headers: str) -> bytes:
    """The head of a POST of events."""
    lines = ["POST /v1/events HTTP/1.1", "Host: test", *headers]
    lines += [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([*lines, "", ""]).encode()


class Raw:
    """One connection, byte by byte."""

    def __init__(self, port: int, timeout_s: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer; status 0 if the connection ended."""
        line = self._file.readline()
        if not line:
            return 0, {}, b""
        headers = {}
        while (header := self._file.readline().strip()) != b"":
            name, _, value = header.decode().partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers, self._file.read(int(headers.get("content-length", 0)))

    def is_closed(self) -> bool:
        """Whether the server has closed; waits for it."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True
