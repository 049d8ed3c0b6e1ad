"""Whether the workspace can be read now: asked often, and answered at once."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from playhead.assemble import Workspace
from playhead.errors import PlayheadError

__all__ = ["Readiness"]

KEPT_S = 1.0
PATIENCE_S = 1.0


class Readiness:
    """Looks at event log, speed state and lake at most once a second, in a thread of its own.

    Args:
        stopping: set once no more questions are answered.
    """

    def __init__(self, workspace: Workspace, stopping: asyncio.Event) -> None:
        self._workspace = workspace
        self._stopping = stopping
        self._thread = ThreadPoolExecutor(1, "readiness")
        self._seen_at = float("-inf")
        self._look: asyncio.Future[None] | None = None

    async def check(self) -> None:
        """Return if questions can be answered now.

        Raises:
            PlayheadError: why they cannot; within `PATIENCE_S`, however slow the disk is.
        """
        if self._stopping.is_set():
            raise PlayheadError("the API stops: it takes no more questions")
        if time.monotonic() - self._seen_at < KEPT_S:
            return
        if self._look is None or self._look.done():
            loop = asyncio.get_running_loop()
            self._look = loop.run_in_executor(self._thread, self._read)
            self._look.add_done_callback(_noted)
        look = self._look
        await asyncio.wait({look}, timeout=PATIENCE_S)
        if not look.done():
            raise PlayheadError(
                f"event log, speed state and lake did not answer within {PATIENCE_S:g} s"
            )
        look.result()
        self._seen_at = time.monotonic()

    def close(self) -> None:
        """Look no more; may be called twice."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _read(self) -> None:
        self._workspace.log.topics()
        self._workspace.state.open_epoch()
        self._workspace.lake.tables()


def _noted(look: "asyncio.Future[None]") -> None:
    """Take an error that nobody may wait for any more."""
    if not look.cancelled():
        look.exception()
