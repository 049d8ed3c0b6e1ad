"""What goes over HTTP: recorded events through a producer, and bad ones among them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from playhead.client import FlushTimeoutError, Producer, ProducerError, ProducerFullError
from playhead.client.events import new_id
from playhead.errors import PlayheadError

__all__ = ["GatewayLog"]

_SESSIONS = "playback"
_ROWS = 1_000
_LOOK_S = 1.0
_CLOSE_S = 0.5
_TIMEOUT_S = 60.0

_SPOILING: tuple[Callable[[], Mapping[str, Any]], ...] = (
    lambda: {"event_type": "teleport"},
    lambda: {"device_type": "Fridge"},
    lambda: {"user_id": None},
    lambda: {"event_time": datetime.now(UTC) + timedelta(days=1)},
    lambda: {"event_time": "yesterday"},
    lambda: {"mood": "good"},
)
"""What an app may get wrong, each as the fields that it changes."""


class GatewayLog:
    """Sends what is appended to a gateway; `settle` waits until all of it is durable.

    Args:
        check: raises if the gateway is gone for good.
        patience_s: how long nothing may be acknowledged.

    Attributes:
        refused: how many events were, by reason.
        started: when the first one was sent, on the monotonic clock; 0 before.
    """

    def __init__(
        self, url: str, key: str | None, check: Callable[[], None], *, patience_s: float
    ) -> None:
        self._check = check
        self._patience_s = patience_s
        self._bad = _endless()
        self._last: dict[str, Any] = {}
        self.refused: Counter[str] = Counter()
        self.started = 0.0
        # This machine's loopback is faster than packing.
        self._producer = Producer(
            url,
            key,
            batch_events=_ROWS,
            timeout_s=_TIMEOUT_S,
            compress=False,
            on_rejected=self._note,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(ProducerError):
            self._producer.close(_CLOSE_S)

    def append(self, topic: str, events: pa.Table | pa.RecordBatch, *, key: str) -> None:
        """Send events; the gateway finds their topic and partition itself.

        Raises:
            PlayheadError: the gateway refuses requests.
        """
        self.started = self.started or time.monotonic()
        for start in range(0, events.num_rows, _ROWS):
            rows = events.slice(start, _ROWS).to_pylist()
            for event in rows:
                self._send(_without_nulls(event))
            if topic == _SESSIONS:
                self._last = rows[-1]

    def spoil(self) -> None:
        """Send the last session once more with something wrong in it, as a new event."""
        if self._last:
            change = next(self._bad)()
            self._send(_without_nulls({**self._last, "event_id": new_id(), **change}))

    def settle(self) -> None:
        """Wait until everything is acknowledged or refused.

        Raises:
            PlayheadError: the gateway is gone, or answers no more.
        """
        since, done = time.monotonic(), -1
        while True:
            try:
                self._producer.flush(_LOOK_S)
            except FlushTimeoutError as error:
                self._check()
                stats = self._producer.stats()
                if stats.acknowledged + stats.rejected != done:
                    since, done = time.monotonic(), stats.acknowledged + stats.rejected
                if time.monotonic() - since > self._patience_s:
                    raise PlayheadError(error.message, hint=error.hint) from error
            except ProducerError as error:
                raise PlayheadError(error.message, hint=error.hint) from error
            else:
                return

    @property
    def accepted(self) -> int:
        """Events that the gateway has for good."""
        return self._producer.stats().acknowledged

    def _send(self, event: Mapping[str, Any]) -> None:
        try:
            try:
                self._producer.send(event)
            except ProducerFullError:
                self.settle()
                self._producer.send(event)
        except ProducerError as error:
            raise PlayheadError(error.message, hint=error.hint) from error

    def _note(self, _: dict[str, Any], reason: str) -> None:
        self.refused[reason] += 1


def _without_nulls(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value is not None}


def _endless() -> Iterator[Callable[[], Mapping[str, Any]]]:
    while True:
        yield from _SPOILING
