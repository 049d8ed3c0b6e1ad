"""When a query has to end: after some time, or because nobody waits for it any more."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from playhead.errors import QueryTimeoutError

_LOOK_EVERY_S = 0.05


class Stop:
    """Ends what runs under it, from any thread and at any time.

    Args:
        seconds: how long it may take, counted from now; None: as long as it likes.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._until = None if seconds is None else time.monotonic() + seconds
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody waits for the answer; may be called again."""
        self._cancelled.set()

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, not below 0; None: no limit."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    @property
    def is_over(self) -> bool:
        return self._cancelled.is_set() or self.left_s == 0

    def error(self) -> QueryTimeoutError:
        """Why it ended."""
        if self._cancelled.is_set():
            return QueryTimeoutError("the query was cancelled")
        return QueryTimeoutError(
            f"the query took longer than {self._seconds:g} s and was ended",
            hint="Ask for fewer windows, or for a view instead of a topic.",
        )

    @contextmanager
    def ending(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Interrupt the session while the block runs, as soon as it is over.

        Raises:
            QueryTimeoutError: it is over.
        """
        if self.is_over:
            raise self.error()
        done = threading.Event()
        watch = threading.Thread(
            target=self._watch, args=(connection, done), name="query-stop", daemon=True
        )
        watch.start()
        try:
            yield
        except Exception as error:
            # What was interrupted may say so in words of its own.
            if self.is_over:
                raise self.error() from error
            raise
        finally:
            done.set()
            watch.join()

    def _watch(self, connection: duckdb.DuckDBPyConnection, done: threading.Event) -> None:
        while not done.wait(_LOOK_EVERY_S):
            # Again and again: an interruption between two statements of a query is lost.
            if self.is_over:
                connection.interrupt()
