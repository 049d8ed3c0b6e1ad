"""The producer: `send` returns at once, and a thread delivers in batches, until acknowledged."""

import atexit
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, Unpack

from playhead.client.errors import (
    EventError,
    FlushTimeoutError,
    ProducerClosedError,
    ProducerError,
    ProducerFullError,
)
from playhead.client.events import written
from playhead.client.options import ProducerOptions, Stats
from playhead.client.sending import (
    Answer,
    Endpoint,
    Gateway,
    UnansweredError,
    pause_s,
    refused,
    rejections,
)
from playhead.client.spool import Spool
from playhead.client.waiting import Memory, Waiting

__all__ = ["Producer"]

logger = logging.getLogger(__name__)

_REFUSED_PAUSE_S = 60.0

Settled = Callable[[ProducerError | None], None]
"""Told once that a flush is done, or why it cannot be."""


class _Flush(NamedTuple):
    """Somebody waits until `target` events are settled."""

    target: int
    tell: Settled


class Producer:
    """Sends events to a gateway, each until it is acknowledged or rejected; safe for threads.

    Events go out in the order of `send`. A request that is not answered, or with 408, 429 or
    5xx, is sent again, with growing pauses, for as long as it takes: each event has an id, and
    counts once. One request that is too large is halved.

    Args:
        url: of the gateway, such as "http://127.0.0.1:8600".
        key: with scope write; none where the gateway needs none.
        options: see `ProducerOptions`.

    Raises:
        SpoolError: another process uses the spool, or it cannot be written.
        ProducerError: the address or an option cannot be used.
    """

    def __init__(
        self, url: str, key: str | None = None, **options: Unpack[ProducerOptions]
    ) -> None:
        spool = options.get("spool")
        max_bytes = int(options.get("spool_mb", 256) * 1_000_000)
        self._batch_events = options.get("batch_events", 500)
        self._batch_bytes = options.get("batch_bytes", 1_000_000)
        self._linger_s = options.get("linger_ms", 50) / 1000
        self._on_rejected = options.get("on_rejected")
        self._on_error = options.get("on_error")
        queue_events, timeout_s = options.get("queue_events", 100_000), options.get("timeout_s", 10)
        sizes = (max_bytes, queue_events, self._batch_events, self._batch_bytes)
        if min(sizes) < 1 or self._linger_s < 0 or timeout_s <= 0:
            raise ProducerError("sizes of batches and of what may wait, and times, are above 0")
        self._gateway = Gateway(
            Endpoint.of(url),
            key,
            timeout_s=timeout_s,
            compress=options.get("compress", True),
        )
        self._waiting: Waiting = (
            Memory(queue_events, max_bytes) if spool is None else Spool(Path(spool), max_bytes)
        )
        self._has_spool = spool is not None
        self._process = os.getpid()
        lock = threading.RLock()
        self._changed, self._room = threading.Condition(lock), threading.Condition(lock)
        self._taken = self._waiting.events
        self._due_at = time.monotonic()
        self._sent = self._acknowledged = self._rejected = self._retries = 0
        self._flushes: list[_Flush] = []
        self._last_failure = ""
        self._is_halted = self._is_closed = self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="playhead-producer", daemon=True)
        self._thread.start()
        atexit.register(self._close_at_exit)

    # -- for the caller ----------------------------------------------------------------------

    def send(self, event: Mapping[str, Any], *, block: bool = False) -> None:
        """Take an event, which gets an event_id and an event_time if it has none.

        Args:
            block: wait while there is no room, instead of raising ProducerFullError; not where
                the gateway refuses requests, as that may last for ever, nor in a callback.

        Raises:
            EventError: it cannot be written as JSON, or is larger than all that may wait.
            ProducerFullError: there is no room.
            SpoolError: the disk takes no more.
            ProducerClosedError: the producer is closed.
        """
        record = written(event)
        self._check_process()
        with self._changed:
            self._check_open()
            while not self._waiting.append(record):
                if not self._waiting.events:
                    raise EventError(f"the event takes {len(record):,} bytes: more than may wait")
                if not block or self.is_halted or self._is_own_thread():
                    raise self._full()
                self._room.wait()
                self._check_open()
            self._sent += 1
            self._taken += 1
            self._wake(len(record))

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every event sent so far is acknowledged or rejected.

        Also tries again at once where the gateway refused requests.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            FlushTimeoutError: some are not yet; they stay where they are.
            ProducerRefusedError: the gateway refuses requests; events stay where they are.
            ProducerClosedError: the producer was closed meanwhile.
            ProducerError: called from a callback, which it would wait for.
        """
        if self._is_own_thread():
            raise ProducerError("a callback cannot wait for the delivery that it is part of")
        done = threading.Event()
        outcome: list[ProducerError | None] = []

        def tell(error: ProducerError | None) -> None:
            outcome.append(error)
            done.set()

        waiting = self.when_settled(tell)
        if not done.wait(timeout):
            self.forget(waiting)
            raise self.not_settled(timeout)
        if outcome[0] is not None:
            raise outcome[0]

    def close(self, timeout: float = 10.0) -> None:
        """Deliver what waits, for `timeout` seconds at most, and stop; may be called twice.

        What is left stays in the spool, for the next producer with that folder.

        Raises:
            ProducerError: without a spool, some events were not delivered, and are lost.
        """
        if self._process != os.getpid():
            return
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._room.notify_all()
        try:
            self.flush(timeout)
        except ProducerError as error:
            logger.debug("closing: %s", error.message)
        finally:
            self._stop()
        if left := self._waiting.events:
            self._tell_left(left)

    @property
    def is_halted(self) -> bool:
        """Whether the gateway refused the last request, so that the next one waits for a minute."""
        return self._is_halted

    def stats(self) -> Stats:
        """What happened so far."""
        self._check_process()
        with self._changed:
            waiting = self._waiting.events
            return Stats(
                sent=self._sent,
                acknowledged=self._acknowledged,
                rejected=self._rejected,
                waiting=waiting,
                spooled=waiting if self._has_spool else 0,
                retries=self._retries,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except ProducerError as lost:
            logger.error("%s", lost.message)

    # -- flushing ----------------------------------------------------------------------------

    def when_settled(self, tell: Settled) -> "_Flush":
        """Have `tell` called, from any thread, once what was sent so far is settled."""
        self._check_process()
        with self._changed:
            flush = _Flush(self._taken, tell)
            left, is_over = self._waiting.events, self._is_stopping
            if left and not is_over:
                self._flushes.append(flush)
                self._is_halted = False
                self._changed.notify_all()
                return flush
        tell(_closed() if left else None)
        return flush

    def forget(self, flush: "_Flush") -> None:
        """Nobody waits for it any more."""
        with self._changed:
            if flush in self._flushes:
                self._flushes.remove(flush)

    def not_settled(self, timeout: float | None) -> FlushTimeoutError:
        """The error of a flush that took too long."""
        told = f"; last: {self._last_failure}" if self._last_failure else ""
        return FlushTimeoutError(
            f"{self.stats().waiting:,} events wait after {timeout} s{told}",
            hint="They stay where they are, and delivery goes on.",
        )

    # -- the thread that delivers ------------------------------------------------------------

    def _run(self) -> None:
        try:
            is_over = False
            while not is_over:
                try:
                    is_over = not self._work()
                except ProducerError as error:
                    self._halt(error)
                except Exception as error:
                    logger.exception("delivery failed")
                    self._halt(ProducerError(f"delivery failed: {type(error).__name__}: {error}"))
        finally:
            with self._changed:
                self._is_stopping = True
                self._waiting.close()
                for flush in self._flushes:
                    flush.tell(_closed())
            self._gateway.close()

    def _work(self) -> bool:
        """Wait for the next batch and deliver it; False at the end."""
        with self._changed:
            while not self._is_stopping and not self._is_due():
                self._changed.wait(self._until_due_s())
            if self._is_stopping:
                return False
            records = self._waiting.take(self._batch_events, self._batch_bytes)
            if not records:
                # What was damaged is gone: that settles it, and makes room.
                self._room.notify_all()
                self._tell_settled()
        if records:
            self._deliver(records)
        return True

    def _is_due(self) -> bool:
        if not self._waiting.events:
            return False
        if self._is_halted:
            return time.monotonic() >= self._due_at
        is_whole = (
            self._waiting.events >= self._batch_events
            or self._waiting.size_bytes >= self._batch_bytes
        )
        return is_whole or bool(self._flushes) or time.monotonic() >= self._due_at

    def _until_due_s(self) -> float | None:
        if not self._waiting.events:
            return None
        return max(self._due_at - time.monotonic(), 0.0)

    def _wake(self, size: int) -> None:
        """Wake the thread for the first event of a batch, and for the one that fills it."""
        events, held = self._waiting.events, self._waiting.size_bytes
        if events == 1:
            self._due_at = time.monotonic() + self._linger_s
        fills = events == self._batch_events or held - size < self._batch_bytes <= held
        if events == 1 or fills:
            self._changed.notify()

    def _deliver(self, records: list[bytes]) -> None:
        """Send a batch until it is settled, or refused, or the producer stops."""
        parts = deque([records])
        while parts:
            part = parts.popleft()
            answer = self._answer(b"[" + b",".join(part) + b"]")
            if answer is None:
                return
            if answer.status == 202:
                self._settle(part, rejections(answer, len(part)))
            elif answer.status != 413:
                raise refused(answer)
            elif len(part) == 1:
                self._settle(part, {0: "larger than the gateway takes"})
            else:
                middle = len(part) // 2
                parts.extendleft((part[middle:], part[:middle]))

    def _answer(self, body: bytes) -> Answer | None:
        """The gateway's word on a body, however often it must be asked; None at the end."""
        failures = 0
        while not self._is_stopping:
            asked_s = 0.0
            try:
                answer = self._gateway.post(body)
            except UnansweredError as error:
                self._last_failure = error.message
            else:
                if not answer.is_temporary:
                    self._last_failure = ""
                    return answer
                asked_s, self._last_failure = answer.retry_after_s, f"status {answer.status}"
            failures += 1
            with self._changed:
                self._retries += 1
                self._wait(pause_s(failures, asked_s))
        return None

    def _wait(self, pause: float) -> None:
        until = time.monotonic() + pause
        while not self._is_stopping and (rest := until - time.monotonic()) > 0:
            self._changed.wait(rest)

    def _settle(self, records: Sequence[bytes], reasons: Mapping[int, str]) -> None:
        for index, reason in reasons.items():
            if self._on_rejected is not None:
                try:
                    self._on_rejected(json.loads(records[index]), reason)
                except Exception:
                    logger.exception("on_rejected failed")
        if reasons and self._on_rejected is None:
            first = next(iter(reasons.values()))
            logger.warning("%d events were rejected; the first: %s", len(reasons), first)
        with self._changed:
            self._rejected += len(reasons)
            self._acknowledged += len(records) - len(reasons)
            self._waiting.drop(records)
            self._is_halted = False
            self._due_at = time.monotonic() + self._linger_s
            self._room.notify_all()
            self._tell_settled()

    def _tell_settled(self) -> None:
        settled = self._taken - self._waiting.events
        done = [flush for flush in self._flushes if flush.target <= settled]
        for flush in done:
            self._flushes.remove(flush)
            flush.tell(None)

    def _halt(self, error: ProducerError) -> None:
        """Send nothing for a minute, or until somebody flushes, and tell why."""
        with self._changed:
            self._is_halted = True
            self._due_at = time.monotonic() + _REFUSED_PAUSE_S
            self._last_failure = error.message
            self._room.notify_all()
            told, self._flushes = self._flushes, []
            for flush in told:
                flush.tell(error)
        if self._on_error is None:
            logger.error("%s; %d events wait", error.message, self._waiting.events)
            return
        try:
            self._on_error(error)
        except Exception:
            logger.exception("on_error failed")

    # -- ending ------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()

    def _check_process(self) -> None:
        """Before any lock: one that was held at the fork is held for ever in the child."""
        if self._process != os.getpid():
            raise ProducerClosedError(
                f"the producer was made by process {self._process}, before a fork",
                hint="Make a producer in each process.",
            )

    def _full(self) -> ProducerFullError:
        where = "on disk" if self._has_spool else "in memory"
        told = f"; last: {self._last_failure}" if self._last_failure else ""
        return ProducerFullError(
            f"no room for the event: {self._waiting.events:,} wait {where} "
            f"({self._waiting.size_bytes:,} bytes){told}",
            hint="It was not taken: send it again later, or with block=True.",
        )

    def _stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            self._room.notify_all()
        # Whoever waits for an answer has waited for `close` already.
        self._gateway.abort()
        if not self._is_own_thread():
            self._thread.join(5.0)
        atexit.unregister(self._close_at_exit)

    def _tell_left(self, left: int) -> None:
        if self._has_spool:
            logger.warning("%d events are left in the spool for the next producer", left)
            return
        told = f"; last: {self._last_failure}" if self._last_failure else ""
        raise ProducerError(
            f"{left:,} events were not delivered, and are lost{told}",
            hint="With spool=FOLDER they would wait for the next producer.",
        )

    def _is_own_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except ProducerError as error:
            logger.error("%s", error.message)


def _closed() -> ProducerClosedError:
    return ProducerClosedError("the producer is closed")
