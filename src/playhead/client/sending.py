"""One connection to a gateway: a body of events goes out, an answer comes back."""

import json
import os
import socket
import threading
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from playhead.client import events
from playhead.client.errors import ProducerError, ProducerRefusedError

if TYPE_CHECKING:
    from http.client import HTTPConnection

__all__ = ["Answer", "Endpoint", "Gateway", "UnansweredError", "pause_s", "refused", "rejections"]

_PATH = "/v1/events"
_ANSWER_BYTES = 16 << 20
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_LONGEST_ASKED_S = 300.0


class UnansweredError(ProducerError):
    """No answer came: the gateway may or may not have the events."""


class Answer(NamedTuple):
    """What the gateway said.

    Attributes:
        status: of HTTP.
        body: JSON, of whatever content type.
        retry_after_s: how long it asks to be left alone.
    """

    status: int
    body: bytes
    retry_after_s: float = 0.0

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may be taken later."""
        return self.status in (408, 425, 429) or self.status >= 500


class Endpoint(NamedTuple):
    """Where a gateway listens."""

    is_secure: bool
    host: str
    port: int | None
    path: str

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Read an address such as "https://events.example:8600"; the path of events is added.

        Raises:
            ProducerError: it is no address of HTTP.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ProducerError(f"{url!r} is no address: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ProducerError(
                f"{url!r} is no address of a gateway", hint='Such as "http://127.0.0.1:8600".'
            )
        path = parts.path.rstrip("/")
        if not _is_plain(path):
            raise ProducerError(
                f"{url!r} is no address: its path holds blanks, or letters beyond ASCII"
            )
        whole = path if path.endswith(_PATH) else path + _PATH
        return cls(parts.scheme == "https", parts.hostname, port, whole)


class Gateway:
    """Posts bodies over a connection that is kept alive; one thread posts, any may abort."""

    def __init__(
        self, endpoint: Endpoint, key: str | None, *, timeout_s: float, compress: bool
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._compress = compress
        self._lock = threading.Lock()
        self._is_closed = False
        self._connection: HTTPConnection | None = None
        self._headers = {"Content-Type": "application/json", "User-Agent": "playhead-producer"}
        # A key read from a file ends with a line break.
        if key := (key or "").strip():
            if not _is_plain(key):
                raise ProducerError("the key holds characters that no key has")
            self._headers["Authorization"] = f"Bearer {key}"
        if compress:
            self._headers["Content-Encoding"] = "gzip"

    def post(self, body: bytes) -> Answer:
        """Send a body and wait for the answer.

        Raises:
            UnansweredError: none came, or not whole, or not in time.
        """
        from http.client import HTTPException

        packed = _gzip(body) if self._compress else body
        was_kept = self._connection is not None
        try:
            try:
                return self._post(packed)
            except (ConnectionError, HTTPException):
                # The server had closed the connection while it was idle.
                if not was_kept:
                    raise
                self._disconnect()
                return self._post(packed)
        except (OSError, HTTPException) as error:
            self._disconnect()
            told = str(error) or type(error).__name__
            raise UnansweredError(f"no answer from {self._endpoint.host}: {told}") from error

    def abort(self) -> None:
        """Have a post that waits for an answer fail, and later ones; from any thread."""
        with self._lock:
            self._is_closed = True
            connected = None if self._connection is None else self._connection.sock
        if connected is not None:
            # Of the plain socket: TLS would say goodbye, which is for who reads and writes.
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; for the thread that posts."""
        self._disconnect()

    def _disconnect(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, body: bytes) -> Answer:
        from http.client import IncompleteRead

        connection = self._connected()
        headers = {**self._headers, "Playhead-Sent-At": events.now()}
        # A server that refuses a body answers before it has read it, and stops reading.
        with suppress(BrokenPipeError):
            connection.request("POST", self._endpoint.path, body, headers)
        response = connection.getresponse()
        content = response.read(_ANSWER_BYTES)
        if response.length:
            raise IncompleteRead(content, response.length)
        if response.will_close:
            self._disconnect()
        return Answer(response.status, content, _seconds(response.getheader("Retry-After")))

    def _connected(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection

        with self._lock:
            if self._is_closed:
                raise ConnectionAbortedError("the producer is closed")
            if self._connection is None:
                make = HTTPSConnection if self._endpoint.is_secure else HTTPConnection
                where = self._endpoint
                self._connection = make(where.host, where.port, timeout=self._timeout_s)
            return self._connection


def pause_s(failures: int, asked_s: float = 0.0) -> float:
    """How long to wait after so many failures in a row: exponential back-off with full jitter.

    Args:
        failures: 1 after the first.
        asked_s: what the gateway asked for, which comes on top, so that clients do not return
            all at once.
    """
    most = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
    return most * _share() + min(asked_s, _LONGEST_ASKED_S)


def _share() -> float:
    """A random number in [0, 1); importing `random` would take long."""
    return int.from_bytes(os.urandom(6), "big") / (1 << 48)


def rejections(answer: Answer, count: int) -> dict[int, str]:
    """Reason by index of each event that a 202 rejects.

    Raises:
        ProducerRefusedError: the answer is not a gateway's.
    """
    try:
        told = json.loads(answer.body)
        reasons = {int(one["index"]): str(one["reason"]) for one in told["rejected"]}
        is_sound = told["accepted"] + len(reasons) == count
    except (ValueError, KeyError, TypeError) as error:
        raise _strange(answer) from error
    if not is_sound or any(not 0 <= index < count for index in reasons):
        raise _strange(answer)
    return reasons


def _strange(answer: Answer) -> ProducerRefusedError:
    return ProducerRefusedError(
        "the answer is not one of a gateway",
        status=answer.status,
        hint="Is the address the one of a gateway, with no other server before it?",
    )


def refused(answer: Answer) -> ProducerRefusedError:
    """The error for a status that sending again would not change."""
    try:
        problem = json.loads(answer.body)
        detail = str(problem.get("detail") or problem.get("title") or "")
    except (ValueError, AttributeError):
        detail = ""
    told = f"the gateway refuses requests with status {answer.status}"
    return ProducerRefusedError(
        f"{told}: {detail}" if detail else told,
        status=answer.status,
        hint="Events stay where they are; it is tried again in a minute, or by `flush`.",
    )


def _is_plain(text: str) -> bool:
    """Whether HTTP can carry it as it is: visible ASCII only."""
    return all("!" <= letter <= "~" for letter in text)


def _gzip(body: bytes) -> bytes:
    # The lowest level: three times smaller at a tenth of the time of the highest.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def _seconds(value: str | None) -> float:
    """A Retry-After header: seconds, or a date; 0 if there is none that can be read."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)
