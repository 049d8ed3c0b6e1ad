"""What all routes share: the workspace, the keys, the queries' processes, the threads."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from playhead.api.cells import AllBusyError, Cells
from playhead.api.exposition import Exposition
from playhead.api.readiness import Readiness
from playhead.assemble import Workspace
from playhead.config import ApiSettings
from playhead.keys import KeyRing
from playhead.serving.stop import Stop

__all__ = ["KeyDep", "Service", "ServiceDep", "may_read"]

_THREADS = 4
_WAITING = 16
_LOOK_EVERY_S = 0.2
_VIEWS_EVERY_S = 1.0
_Value = TypeVar("_Value")


class Service:
    """One API process.

    Args:
        workspace: stays the caller's to close.
        cells: how many queries run at once.
    """

    def __init__(self, workspace: Workspace, *, cells: int = 2) -> None:
        self.workspace = workspace
        self.settings: ApiSettings = workspace.settings.api
        self.keys = KeyRing(workspace.path / "keys.json")
        self.cells = Cells(workspace.path, memory=bytes_of(self.settings.query_memory), count=cells)
        self.exposition = Exposition(workspace)
        self.stopping = asyncio.Event()
        self.readiness = Readiness(workspace, self.stopping)
        self.streams = 0
        self._threads = ThreadPoolExecutor(_THREADS, "answers")
        self._beside = ThreadPoolExecutor(2, "looks")
        self._stops: set[Stop] = set()
        self._views_looked_at = float("-inf")

    @property
    def path(self) -> Path:
        return self.workspace.path

    def close(self) -> None:
        """End what runs; may be called twice."""
        self.end()
        self.readiness.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._beside.shutdown(wait=True, cancel_futures=True)

    def end(self) -> None:
        """End questions and queries that run, whose requests are answered at once."""
        self.stopping.set()
        for stop in tuple(self._stops):
            stop.cancel()
        self.cells.close()

    async def look(self, call: Callable[[], _Value]) -> _Value:
        """Something short that reads a file, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, call)

    async def answer(
        self, call: Callable[[], _Value], gone: Callable[[], Awaitable[bool]]
    ) -> _Value:
        """Ask the workspace's session, in a thread, no longer than a query may take.

        Args:
            gone: whether nobody waits for the answer any more.

        Raises:
            AllBusyError: too many wait already.
            QueryTimeoutError: it took too long.
        """
        if len(self._stops) >= _THREADS + _WAITING:
            raise AllBusyError(f"{len(self._stops)} questions run or wait", hint="Ask again later.")
        stop = Stop(self.settings.query_seconds)
        self._stops.add(stop)
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._threads, lambda: self._until(stop, call))
        asked.add_done_callback(lambda _: self._stops.discard(stop))
        while not asked.done():
            await asyncio.wait({asked}, timeout=_LOOK_EVERY_S)
            if not asked.done() and await gone():
                stop.cancel()
            if not asked.done() and stop.is_over:
                asked.add_done_callback(_seen)
                raise stop.error()
        return await asked

    def _until(self, stop: Stop, call: Callable[[], _Value]) -> _Value:
        if stop.is_over:
            raise stop.error()
        if time.monotonic() - self._views_looked_at > _VIEWS_EVERY_S:
            self._views_looked_at = time.monotonic()
            self.workspace.refresh()
        with self.workspace.session.until(stop):
            return call()


def _seen(asked: "asyncio.Future[_Value]") -> None:
    """Take an error that nobody waits for any more."""
    if not asked.cancelled():
        asked.exception()


def bytes_of(size: str) -> int:
    """The bytes of a setting such as "1GB" or "512 MiB"."""
    text = size.strip().upper().removesuffix("B")
    base = 1024 if text.endswith("I") else 1000
    text = text.removesuffix("I")
    power = "KMGT".find(text[-1]) + 1
    number = text[:-1] if power else text
    return int(float(number) * base**power)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]

_BEARER = HTTPBearer(auto_error=False, description="A key with scope read.")
_HEADER = APIKeyHeader(name="X-Playhead-Key", auto_error=False, description="The same.")


async def may_read(
    service: ServiceDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    header: Annotated[str | None, Security(_HEADER)],
) -> str | None:
    """Let a request in whose key may read, or any as long as there are no keys; the key."""
    presented = bearer.credentials if bearer is not None else header
    service.keys.check(presented, "read")
    return presented


KeyDep = Annotated[str | None, Depends(may_read)]
