"""Group commit: what requests bring is decoded and appended together, then each is told."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from playhead.errors import (
    CorruptBlockError,
    EventLogError,
    LogBusyError,
    LogFullError,
    RequestRefusedError,
)
from playhead.eventlog import EventLog
from playhead.gateway.decoding import Batch, Body, BodyDecoder, Outcome

logger = logging.getLogger(__name__)

# A group of this much takes some tens of milliseconds, which the next one waits.
GROUP_BYTES = 4 << 20

_RETRY_S = 2
_STUCK_S = 5.0
_FAILED_FOR_S = 1.0


@dataclass(frozen=True)
class Appended:
    """One append, as it is measured.

    Attributes:
        requests: how many it made durable.
        batch: what it appended.
        seconds: wall time of the append alone.
    """

    requests: int
    batch: Batch
    seconds: float


@dataclass(frozen=True, eq=False)
class _Entry:
    body: Body
    told: asyncio.Future[Outcome]


_Result = tuple[_Entry, Outcome | RequestRefusedError]


class Writer:
    """A thread that decodes and appends what requests hand over, in the order of handing.

    `submit` and `close` are for the event loop's thread.

    Args:
        keys: the column that decides the partition, by topic.
        watch: called in the writer's thread after each append.
    """

    def __init__(
        self,
        log: EventLog,
        decoder: BodyDecoder,
        keys: Mapping[str, str],
        *,
        watch: Callable[[Appended], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._decoder = decoder
        self._keys = keys
        self._watch = watch
        self._waiting: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._busy_since_s: float | None = None
        self._failed: tuple[float, str] | None = None
        self._thread = threading.Thread(target=self._run, name="gateway-writer", daemon=True)
        self._thread.start()

    def submit(self, body: Body) -> asyncio.Future[Outcome]:
        """Hand over the body of one request.

        The future has a result once its events and dead letters are durable. Its exception is
        RequestRefusedError: none of them is, as far as anybody can tell. With 503 the same may
        be sent again; 400, 413 or 429 are about the body itself.

        Raises:
            RequestRefusedError: 503: the writer is closing.
        """
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closing:
                raise RequestRefusedError("the gateway stops", status=503, retry_after_s=_RETRY_S)
            self._waiting.append(_Entry(body, told))
            self._changed.notify()
        return told

    def trouble(self) -> str:
        """Why an append would fail or wait now, in words; empty if it should not."""
        now_s = time.monotonic()
        since_s, failed = self._busy_since_s, self._failed
        if not self._thread.is_alive():
            return "the writer has stopped"
        if since_s is not None and now_s - since_s > _STUCK_S:
            return f"an append has taken {now_s - since_s:.0f} s and is not done"
        if failed is not None and now_s - failed[0] < _FAILED_FOR_S:
            return failed[1]
        return ""

    def close(self, timeout_s: float) -> bool:
        """Append what waits and end the thread; False if that is not done in time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- in the writer's thread ------------------------------------------------------------

    def _run(self) -> None:
        while group := self._take():
            self._busy_since_s = time.monotonic()
            _tell(self._results(group))
            self._busy_since_s = None

    def _take(self) -> list[_Entry]:
        """What waits, in order, up to the bounds of a group; empty at the end."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            group: list[_Entry] = []
            nbytes = 0
            while self._waiting:
                nbytes += len(self._waiting[0].body.content)
                if group and nbytes > GROUP_BYTES:
                    break
                group.append(self._waiting.popleft())
            return group

    def _results(self, group: Sequence[_Entry]) -> list[_Result]:
        """Append a group; where the fault may be one request's own, each alone."""
        try:
            return self._appended(group)
        except Exception as error:
            # Whatever it is, the requests are told, and the thread goes on.
            if len(group) == 1 or _is_logs(error):
                return [(entry, self._refusal(error)) for entry in group]
        results: list[_Result] = []
        for entry in group:
            try:
                results += self._appended([entry], is_again=True)
            except Exception as error:
                results.append((entry, self._refusal(error)))
        return results

    def _appended(self, group: Sequence[_Entry], *, is_again: bool = False) -> list[_Result]:
        batch = self._decoder.batch([entry.body for entry in group], is_again=is_again)
        if batch.tables:
            began_s = time.monotonic()
            self._log.append_all(batch.tables, keys=self._keys)
            self._failed = None
            self._watch(Appended(len(group), batch, time.monotonic() - began_s))
        return list(zip(group, batch.outcomes, strict=True))

    def _refusal(self, error: Exception) -> RequestRefusedError:
        """What the requests are told of a failure."""
        if _is_logs(error):
            logger.error("events were not written: %s", getattr(error, "message", error))
            self._failed = (time.monotonic(), _public(error))
            refused = RequestRefusedError(_public(error), status=503, retry_after_s=_RETRY_S)
        else:
            logger.error("a body could not be worked on", exc_info=error)
            refused = RequestRefusedError("the gateway failed over this body", status=500)
        refused.__cause__ = error
        return refused


def _is_logs(error: Exception) -> bool:
    """Whether the log or its disk failed, and not something about the events of one request."""
    return isinstance(error, (EventLogError, OSError, MemoryError))


def _public(error: Exception) -> str:
    """What a client may know of a failure: no paths."""
    if isinstance(error, LogFullError):
        return "the disk of the event log is full; nothing of this request was kept"
    if isinstance(error, LogBusyError):
        return "the event log is held by another writer; nothing of this request was kept"
    if isinstance(error, CorruptBlockError):
        return "the event log is damaged and takes nothing in"
    return "the event log could not be written; send the same again"


def _tell(results: Sequence[_Result]) -> None:
    """Resolve the futures on the loops that they belong to: one call a group and loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Result]] = {}
    for entry, result in results:
        by_loop.setdefault(entry.told.get_loop(), []).append((entry, result))
    for loop, theirs in by_loop.items():
        # A loop that is closed has nobody who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, theirs)


def _resolve(results: Sequence[_Result]) -> None:
    for entry, result in results:
        if entry.told.done():
            continue
        if isinstance(result, RequestRefusedError):
            entry.told.set_exception(result)
        else:
            entry.told.set_result(result)
