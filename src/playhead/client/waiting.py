"""Where events wait until the gateway has acknowledged them: in memory, or on disk (`spool`)."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import islice

__all__ = ["Memory", "Waiting"]


class Waiting(ABC):
    """A bounded queue of written events, oldest first; its caller lets one thread in at a time.

    Attributes:
        events: how many wait.
        size_bytes: what they take.
    """

    events: int = 0
    size_bytes: int = 0

    @abstractmethod
    def append(self, record: bytes) -> bool:
        """Add an event as the newest; False if there is no room, and nothing was added.

        Raises:
            SpoolError: it cannot be kept; nothing was added.
        """

    @abstractmethod
    def take(self, max_events: int, max_bytes: int) -> list[bytes]:
        """The oldest events, which stay in the queue: one at least, if any wait.

        May be empty where what waits turns out to be damaged; `events` then says what is left.
        """

    @abstractmethod
    def drop(self, records: Sequence[bytes]) -> None:
        """Forget events that the last `take` gave first: they are delivered."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files; may be called twice."""


class Memory(Waiting):
    """Events wait in memory, and are lost with the process.

    Args:
        max_events: that may wait.
        max_bytes: that they may take.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._records: deque[bytes] = deque()

    def append(self, record: bytes) -> bool:
        if self.events >= self._max_events or self.size_bytes + len(record) > self._max_bytes:
            return False
        self._records.append(record)
        self.events += 1
        self.size_bytes += len(record)
        return True

    def take(self, max_events: int, max_bytes: int) -> list[bytes]:
        taken: list[bytes] = []
        size = 0
        for record in islice(self._records, max_events):
            size += len(record)
            if taken and size > max_bytes:
                break
            taken.append(record)
        return taken

    def drop(self, records: Sequence[bytes]) -> None:
        for record in records:
            self._records.popleft()
            self.size_bytes -= len(record)
        self.events -= len(records)

    def close(self) -> None:
        self._records.clear()
