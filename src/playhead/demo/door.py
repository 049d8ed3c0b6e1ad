"""What goes through a gateway's door in bulk: recorded events as Arrow, until all are answered."""

import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import local
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from playhead.errors import PlayheadError

__all__ = ["Door", "renamed", "without"]

_ROWS = 5_000
_AGAIN_S = 0.2
_TIMEOUT_S = 60.0
_ACCEPTED = 202
_AGAIN = frozenset({408, 429, 502, 503, 504})


@dataclass(frozen=True)
class _Refused:
    index: int


@dataclass(frozen=True)
class _Told:
    """An answer of the gateway, as far as it counts here."""

    accepted: int
    rejected: list[_Refused] = field(default_factory=list)


class Door:
    """Sends what is appended to a gateway; `append` returns once all of it is answered.

    Requests that fail, or are put off by 503, are sent again.

    Args:
        key: that may write; None: none is needed.
        check: raises if the gateway is gone for good.
        connections: so many requests are under way at once.
        patience_s: how long one request may be refused.

    Attributes:
        accepted: events that the gateway has for good.
        refused: ids of the events that it refused for good.
        acknowledged: ids of those that it accepted; kept only if `keeps_ids`.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        check: Callable[[], None] = lambda: None,
        *,
        connections: int = 2,
        patience_s: float = 120.0,
        keeps_ids: bool = False,
    ) -> None:
        self._where = urlsplit(url)
        self._headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._check, self._patience_s, self._keeps_ids = check, patience_s, keeps_ids
        # A connection takes one request at a time: each thread has its own.
        self._mine = local()
        self._opened: list[HTTPConnection] = []
        self._pool = ThreadPoolExecutor(connections, "demo-door")
        self.accepted = 0
        self.refused: set[str] = set()
        self.acknowledged: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        for connection in self._opened:
            connection.close()

    def append(self, topic: str, events: pa.Table | pa.RecordBatch, *, key: str) -> None:
        """Send events; the gateway finds their topic and partition itself.

        Raises:
            PlayheadError: the gateway refuses requests, or does not answer any more.
        """
        starts = range(0, events.num_rows, _ROWS)
        parts = [events.slice(start, _ROWS) for start in starts]
        for part, told in zip(parts, self._pool.map(self._deliver, parts), strict=True):
            self.accepted += told.accepted
            ids = part.column("event_id").to_pylist() if told.rejected or self._keeps_ids else []
            bad = {ids[one.index] for one in told.rejected}
            self.refused |= bad
            self.acknowledged |= set(ids) - bad

    def _deliver(self, events: pa.Table | pa.RecordBatch) -> _Told:
        """One request, until it is answered."""
        body = _stream(events)
        until = time.monotonic() + self._patience_s
        while True:
            self._check()
            try:
                status, answer = self._post(body)
            except (OSError, HTTPException) as error:
                # It may have been taken all the same: repeats of an event count once.
                status, answer = 503, str(error).encode() or type(error).__name__.encode()
                self._mine.connection = None
            if status == _ACCEPTED:
                return msgspec.json.decode(answer, type=_Told)
            if status not in _AGAIN or time.monotonic() > until:
                raise PlayheadError(
                    f"the gateway at {self._where.netloc} takes no events: status {status}: "
                    f"{answer[:500].decode(errors='replace')}"
                )
            time.sleep(_AGAIN_S)

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection: HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = HTTPConnection(
                self._where.hostname or "", self._where.port or 80, timeout=_TIMEOUT_S
            )
            self._mine.connection = connection
            self._opened.append(connection)
        connection.request("POST", "/v1/events", body, self._headers)
        response = connection.getresponse()
        return response.status, response.read()


def _stream(events: pa.Table | pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.schema) as writer:
        writer.write(events)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def renamed(events: pa.Table | pa.RecordBatch, prefix: str) -> pa.Table | pa.RecordBatch:
    """The events under other ids: data sets that number theirs alike are sent side by side."""
    place = events.schema.get_field_index("event_id")
    ids = pc.binary_join_element_wise(pa.scalar(prefix), events.column("event_id"), "")
    return events.set_column(place, events.schema.field(place), ids)


def without(events: pa.Table | pa.RecordBatch, ids: Collection[str]) -> pa.Table | pa.RecordBatch:
    """The events but for those with some ids."""
    if not ids:
        return events
    found = pc.is_in(events.column("event_id"), pa.array(sorted(ids), pa.string()))
    return events.filter(pc.invert(found))
