"""What SIGINT and SIGTERM do: end a command at once, or let a layer finish what it has read."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from playhead.cli.terminal import note

__all__ = ["INTERRUPTED", "Interrupts", "stopping_on_signals"]

INTERRUPTED = 130
"""Exit status after SIGINT."""

GRACE_S = 3.0
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """SIGINT raises KeyboardInterrupt, and ends the process if that does not end it soon.

    A DuckDB query turns KeyboardInterrupt into an error of its own, and closing its session may
    wait for the query's end. Ending at once is safe: what is written is written by transactions.

    Attributes:
        came: SIGINT came.
        patient: the first SIGINT never ends the process by force.
    """

    def __init__(self) -> None:
        self.came = False
        self.patient = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for SIGINT within the block, unless the process ignores or handles it itself."""
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.came:
            os._exit(INTERRUPTED)
        self.came = True
        if not self.patient:
            ending = threading.Timer(GRACE_S, os._exit, (INTERRUPTED,))
            ending.daemon = True
            ending.start()
        raise KeyboardInterrupt


@contextmanager
def stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Within the block, the first SIGTERM or SIGINT sets `stop`, and the second ends it all."""
    before = {number: signal.getsignal(number) for number in _ENDING}

    def end(number: int, _frame: FrameType | None) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_DFL)
        note(f"{signal.Signals(number).name}: finishing what was read")
        stop.set()

    for number in _ENDING:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
