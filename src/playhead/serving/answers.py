"""Answers that were computed of late, given again while they are the same."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import pyarrow as pa

from playhead.serving.sources import Span
from playhead.serving.stop import Stop

_LARGEST_BYTES = 64 << 20
_ALL_BYTES = 256 << 20
_LOOK_EVERY_S = 0.05

Made = TypeVar("Made")


class Answers:
    """The answers that were asked for last, as many as fit. Threads may share it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._held: OrderedDict[Hashable, pa.Table] = OrderedDict()
        self._bytes = 0

    def get(self, identity: Hashable, within: Span | None) -> pa.Table | None:
        """The answer that was kept for this identity and stretch; None if there is none."""
        key = (identity, within)
        with self._turn:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def keep(self, identity: Hashable, within: Span | None, answer: pa.Table) -> None:
        """Keep an answer, unless it is a large one, in the place of what was not asked for."""
        key, size = (identity, within), answer.nbytes
        with self._turn:
            if size > _LARGEST_BYTES or key in self._held:
                return
            self._held[key] = answer
            self._bytes += size
            while self._bytes > _ALL_BYTES:
                _, gone = self._held.popitem(last=False)
                self._bytes -= gone.nbytes


class _Flight(Generic[Made]):
    """What one thread makes, and others wait for."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.made: list[Made] = []

    def wait(self, stop: Stop | None) -> None:
        while not self.is_over.wait(_LOOK_EVERY_S):
            if stop is not None and stop.is_over:
                raise stop.error()


class Flights(Generic[Made]):
    """Lets what several threads ask for at once be made once."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._running: dict[Hashable, _Flight[Made]] = {}

    def make(self, key: Hashable, make: Callable[[], Made], stop: Stop | None = None) -> Made:
        """What `make` gives, here or in a thread that makes the same already.

        If that one fails, this one tries itself.

        Args:
            stop: ends the waiting for another thread.

        Raises:
            QueryTimeoutError: it did.
        """
        while True:
            flight: _Flight[Made] = _Flight()
            with self._turn:
                running = self._running.setdefault(key, flight)
            if running is flight:
                return self._fly(key, flight, make)
            running.wait(stop)
            if running.made:
                return running.made[0]

    def _fly(self, key: Hashable, flight: _Flight[Made], make: Callable[[], Made]) -> Made:
        try:
            flight.made.append(make())
            return flight.made[0]
        finally:
            with self._turn:
                del self._running[key]
            flight.is_over.set()
