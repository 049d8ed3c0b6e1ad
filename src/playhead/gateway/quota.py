"""How many events a key may send: a token bucket for each key that has a bound."""

import math
import threading
from dataclasses import dataclass

from playhead.clock import Clock
from playhead.errors import RequestRefusedError
from playhead.keys import Key

BURST_S = 2.0
"""So many seconds' worth of events may come at once after a pause."""


@dataclass
class _Bucket:
    rate: float
    tokens: float
    at_s: float

    def wait_s(self, now_s: float, events: int) -> float:
        """Seconds until so many events may come; 0 if they may now.

        More than the bucket ever holds may come when it is full, and are paid for afterwards.
        """
        burst = self.rate * BURST_S
        self.tokens = min(burst, self.tokens + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        return max(min(events, burst) - self.tokens, 0.0) / self.rate


class Quotas:
    """The buckets of one worker; each worker has its share of a key's bound. For any thread.

    Args:
        workers: how many share the work.
        clock: its monotonic time fills the buckets.
    """

    def __init__(self, workers: int, clock: Clock) -> None:
        self._workers = workers
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def check(self, key: Key | None) -> None:
        """Refuse a key that may not send a single event now, before its body is read.

        Raises:
            RequestRefusedError: 429, with the time until it may.
        """
        self._spend(key, 1, is_spent=False)

    def take(self, key: Key | None, events: int) -> None:
        """Count the events of a body, or refuse all of them.

        Raises:
            RequestRefusedError: 429, with the time until they may come.
        """
        self._spend(key, events, is_spent=True)

    def _spend(self, key: Key | None, events: int, *, is_spent: bool) -> None:
        if key is None or key.events_per_second is None:
            return
        rate = key.events_per_second / self._workers
        with self._lock:
            now_s = self._clock.monotonic()
            bucket = self._buckets.get(key.id)
            if bucket is None or bucket.rate != rate:
                bucket = self._buckets[key.id] = _Bucket(rate, rate * BURST_S, now_s)
            wait_s = bucket.wait_s(now_s, events)
            if is_spent and wait_s <= 0:
                bucket.tokens -= events
        if wait_s > 0:
            raise RequestRefusedError(
                f"key {key.id} may send {key.events_per_second:,} events a second; nothing was"
                " taken in",
                status=429,
                retry_after_s=max(math.ceil(wait_s), 1),
            )
