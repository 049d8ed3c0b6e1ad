"""Work beside the triggers: a thread that does it whenever somebody says that there is some."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from playhead.errors import LakeAwayError, LogAwayError

logger = logging.getLogger(__name__)

_AGAIN_S = 2.0


class Background:
    """A thread that works as long as the `with` block runs, and once more at its end.

    Args:
        name: the thread's.
        work: does all that there is to do; called by nobody else meanwhile.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._work = work
        self._wake = threading.Event()
        self._ends = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends = True
        self._wake.set()
        self._thread.join()
        if error is None:
            self.check()

    def wake(self) -> None:
        """Say that there is something to do.

        Raises:
            PlayheadError: what the work failed with before; the thread has ended then.
        """
        self.check()
        self._wake.set()

    def check(self) -> None:
        """Raise what the work failed with, if it did."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        ends = False
        while not ends:
            self._wake.wait()
            self._wake.clear()
            # Read before the work, so that what was asked for until then is done.
            ends = self._ends
            try:
                self._work()
            except (LogAwayError, LakeAwayError) as error:
                if ends:
                    self._error = error
                    return
                logger.warning("%s waits: %s", self._thread.name, error.message)
                self._wake.wait(_AGAIN_S)
                self._wake.set()
            except BaseException as error:
                self._error = error
                return
