"""A gateway of the tests' own: keeps events in memory, by id, and fails in the ways it is told."""

import gzip
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Fault = Callable[["Request"], bool]
"""What to do with a request instead; True if it was answered, or never will be."""


class Request(BaseHTTPRequestHandler):
    """One request; `events` are its body's."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True
    server: "_Server"
    events: list[dict[str, Any]]

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at what was recorded."""

    def do_OPTIONS(self) -> None:
        self.reply(204, None)

    def do_GET(self) -> None:
        page = self.server.gateway.pages.get(urlsplit(self.path).path)
        if page is None:
            self.reply(404, {"detail": "no such page"})
            return
        self.send_response(200)
        self.send_header("Content-Type", page[0])
        self.send_header("Content-Length", str(len(page[1])))
        self.end_headers()
        self.wfile.write(page[1])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        read = json.loads(body)
        self.events = read if isinstance(read, list) else [read]
        gateway = self.server.gateway
        with gateway.lock:
            gateway.requests.append((dict(self.headers), self.path))
            fault = gateway.faults.popleft() if gateway.faults else gateway.always
        if fault is None or not fault(self):
            self.accept()

    def accept(self, *, answer: bool = True) -> None:
        """Keep the events, and say so."""
        gateway = self.server.gateway
        rejected = []
        with gateway.lock:
            for index, event in enumerate(self.events):
                if reason := gateway.reason(event):
                    rejected.append({"index": index, "reason": reason})
                    continue
                gateway.came.append(event["event_id"])
                gateway.kept.setdefault(event["event_id"], event)
        if answer:
            accepted = len(self.events) - len(rejected)
            self.reply(202, {"accepted": accepted, "rejected": rejected})

    def reply(self, status: int, body: object, **headers: str) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "*, authorization")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        """Close the connection, with no answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    gateway: "RecordingGateway"

    def __init__(self, *arguments: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def handle_error(self, *_: object) -> None:
        """Clients that are killed leave broken connections."""


class RecordingGateway:
    """What came, and how to fail.

    Attributes:
        kept: accepted events by id, the first of each.
        came: ids in the order in which they were accepted, repeats included.
        requests: headers and path of each request.
        faults: of the next requests, one each; then `always`.
        reason: why an event is to be rejected; empty: it is not.
        pages: content type and content by path, for GET.
    """

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.came: list[str] = []
        self.requests: list[tuple[dict[str, str], str]] = []
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.reason: Callable[[dict[str, Any]], str] = lambda _: ""
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.lock = threading.Lock()
        self.port = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        self._server = _Server(("127.0.0.1", self.port), Request)
        self._server.gateway = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be away: connections are cut, and new ones are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            for connection in list(self._server.connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._server = None

    def values(self, name: str) -> list[Any]:
        """A field of all kept events, in the order in which they came first."""
        return [event.get(name) for event in list(self.kept.values())]

    def query(self, name: str) -> set[str]:
        """The values of a query parameter over all requests."""
        return {
            v for _, path in self.requests for v in parse_qs(urlsplit(path).query).get(name, [])
        }

    def wait_for(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until so many events are kept."""
        until = time.monotonic() + timeout_s
        while len(self.kept) < count:
            assert time.monotonic() < until, f"{len(self.kept)} of {count} events came"
            time.sleep(0.01)


@contextmanager
def recording() -> Iterator[RecordingGateway]:
    """A gateway that listens on a free port of loopback."""
    gateway = RecordingGateway()
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def status(code: int, detail: str = "", **headers: str) -> Fault:
    """Refuse the request."""

    def fault(request: Request) -> bool:
        request.reply(code, {"status": code, "detail": detail}, **headers)
        return True

    return fault


def lose_answer(request: Request) -> bool:
    """Keep the events and hang up."""
    request.accept(answer=False)
    request.hang_up()
    return True


def cut_answer(request: Request) -> bool:
    """Keep the events and break off in the middle of the answer."""
    request.accept(answer=False)
    request.wfile.write(b'HTTP/1.1 202 Accepted\r\nContent-Length: 40\r\n\r\n{"accepted": ')
    request.hang_up()
    return True


def hang_up(request: Request) -> bool:
    """Lose request and answer."""
    request.hang_up()
    return True
