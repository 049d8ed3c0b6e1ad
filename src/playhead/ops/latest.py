"""The last result of something that many ask for at once, and that one of them makes."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Latest"]

Made = TypeVar("Made")


class Latest(Generic[Made]):
    """Gives a result again while it is fresh, and while another thread makes the next one.

    So nobody waits who can have the last result; only the first askers wait for the first one.

    Args:
        kept_s: for so many seconds a result is fresh.
        clock: seconds since an arbitrary start.
    """

    def __init__(self, kept_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_s, self._clock = kept_s, clock
        self._turn = threading.Lock()
        self._last: tuple[float, Made] | None = None

    def get(self, make: Callable[[], Made]) -> Made:
        """The last result, or a new one if that is not fresh and nobody is making one.

        Raises:
            What `make` raises; the last result is then kept for who asks meanwhile.
        """
        known = self._last
        if known is None:
            self._turn.acquire()
        elif self._clock() - known[0] < self._kept_s or not self._turn.acquire(blocking=False):
            return known[1]
        try:
            if self._last is not known and self._last is not None:
                return self._last[1]
            made = make()
            self._last = (self._clock(), made)
            return made
        finally:
            self._turn.release()

    def forget(self) -> None:
        """Make a new result for whoever asks next."""
        self._last = None
