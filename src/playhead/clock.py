"""What time it is: the system's clock, or one moved by hand in tests."""

import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta


class Clock(ABC):
    """Tells the time of day and sleeps; `now` may jump, `monotonic` never goes back."""

    @abstractmethod
    def now(self) -> datetime:
        """The current time in UTC, without a zone attached (as stored everywhere)."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds since an arbitrary start, for measuring durations."""

    @abstractmethod
    def sleep(self, duration: timedelta) -> None:
        """Block for `duration`."""


class SystemClock(Clock):
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(tzinfo=None)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, duration: timedelta) -> None:
        time.sleep(duration.total_seconds())


class ManualClock(Clock):
    """A clock that moves only when it is told to, or when somebody sleeps on it."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed_s

    def sleep(self, duration: timedelta) -> None:
        self.advance(duration)

    def advance(self, duration: timedelta) -> None:
        """Move time on (or back, which leaves `monotonic` where it is)."""
        self._now += duration
        self._elapsed_s += max(duration.total_seconds(), 0.0)
