"""HTTP connections with bounds on their headers, their number and their idleness."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from playhead.gateway.answers import PROBLEM, Receive, Scope, Send, problem_body

HEADER_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 30
MAX_CONNECTIONS = 2_000

_MAX_HEADER_BYTES = 32 << 10
_MAX_HEADERS = 100
# Waking the application costs more than a copy of a body of this size; all connections together
# keep no more than this.
_MOST_KEPT_BYTES = 512 << 10
_LEAST_KEPT_BYTES = 64 << 10
_KEPT_BYTES = 128 << 20
# Connections beyond the limit get an answer as long as there are not many of them, too.
_MAX_REFUSED_CONNECTIONS = 500


@contextmanager
def quiet(level: int = logging.ERROR) -> Iterator[None]:
    """Within the block the HTTP server logs nothing below a level.

    What a client does wrong is told in its answer; a line for each would let it fill the log.
    """
    server = logging.getLogger("uvicorn.error")
    before = server.level
    server.setLevel(level)
    try:
        yield
    finally:
        server.setLevel(before)


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP connection, which closes on senders that take too long or send too much.

    The line and headers of a request have to come within `HEADER_SECONDS` of its first byte (of
    the connection, for the first one), and within 32 KiB and 100 headers.

    Attributes:
        most_connections: of a process; those beyond it are answered 503 and closed.
    """

    most_connections = MAX_CONNECTIONS

    _deadline: asyncio.TimerHandle | None = None
    _in_headers = False
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or let it know that there are too many."""
        super().connection_made(transport)
        opened = len(self.connections)
        if opened > self.most_connections + _MAX_REFUSED_CONNECTIONS:
            transport.abort()
        elif opened > self.most_connections:
            self.app = _TooMany(self.most_connections)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; outside of a request, the time for its headers begins."""
        if self._deadline is None and self._is_between_requests():
            self._arm()
        super().data_received(data)
        if self._in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > _MAX_HEADER_BYTES and not self.transport.is_closing():
                self._refuse(431, f"the headers have more than {_MAX_HEADER_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Note that a request's first byte is there."""
        self._in_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start a request whose line and headers are there."""
        self._in_headers = False
        self._disarm()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > _MAX_HEADER_BYTES or len(self.headers) > _MAX_HEADERS:
            self._refuse(431, f"the headers have more than {_MAX_HEADER_BYTES} bytes or lines")
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body; the application is woken when it is whole, or much."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > self._most_kept_bytes:
            self.flow.pause_reading()
            cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close."""
        if not self.transport.is_closing():
            self._refuse(400, msg)

    @property
    def _most_kept_bytes(self) -> int:
        """Of a body that the application has not asked for yet: less, if there are many."""
        share = _KEPT_BYTES // max(1, len(self.connections))
        return min(max(share, _LEAST_KEPT_BYTES), _MOST_KEPT_BYTES)

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408, f"the headers were not whole after {HEADER_SECONDS:g} s")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without a request, unless one is being answered, and close."""
        if self._is_between_requests():
            body = problem_body(status, detail)
            length = str(len(body)).encode()
            head = (b"content-type: " + PROBLEM, b"content-length: " + length, b"connection: close")
            self.transport.write(STATUS_LINE[status] + b"\r\n".join(head) + b"\r\n\r\n" + body)
        self.transport.close()


class _TooMany:
    """The application of a connection too many."""

    def __init__(self, most: int) -> None:
        self._body = problem_body(503, f"more than {most:,} connections are open")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, Any]] = [
            (b"content-type", PROBLEM),
            (b"content-length", str(len(self._body)).encode()),
            (b"retry-after", b"1"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})
