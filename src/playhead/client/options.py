"""How a producer works, and what it did so far."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from playhead.client.errors import ProducerError

__all__ = ["ProducerOptions", "Stats"]


class ProducerOptions(TypedDict, total=False):
    """How a producer works; each may be left out.

    Attributes:
        spool: a folder of this producer's own. With it, events wait on disk and outlive the
            process, killed at any moment; without, they wait in memory.
        spool_mb: what waiting events may take, on disk or in memory (256).
        batch_events: of one request, at most (500).
        batch_bytes: of one request before compression, at most (1,000,000); a larger event goes
            alone.
        linger_ms: how long an event waits for others to share its request (50).
        timeout_s: how long connecting, sending or the answer may stand still (10).
        queue_events: events that may wait in memory, where there is no spool (100,000).
        compress: bodies go out as gzip (True).
        on_rejected: called with each event that the gateway rejects, and the reason; by default
            a warning is logged. Both callbacks are called from the producer's thread, and cannot
            wait for it: they may `send`, and not `flush`.
        on_error: called when the gateway refuses whole requests (a wrong key, say), after which
            events stay where they are for a minute, or until the next `flush`; by default an
            error is logged.
    """

    spool: Path | None
    spool_mb: float
    batch_events: int
    batch_bytes: int
    linger_ms: float
    timeout_s: float
    queue_events: int
    compress: bool
    on_rejected: Callable[[dict[str, Any], str], None] | None
    on_error: Callable[[ProducerError], None] | None


class Stats(NamedTuple):
    """What a producer did so far.

    Attributes:
        sent: events given to `send`.
        acknowledged: events that the gateway has for good.
        rejected: events that it will not take.
        waiting: events that are neither yet, those of an earlier process included.
        spooled: how many of these are on disk.
        retries: requests that were sent again.
    """

    sent: int
    acknowledged: int
    rejected: int
    waiting: int
    spooled: int
    retries: int
