"""The processes that run queries: how many at once, how many wait, and what ends them."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import msgspec

from playhead import errors
from playhead.api.cellwire import STOP, Failure, Head, Question
from playhead.engines.duckdb import drop_spill
from playhead.errors import PlayheadError, QueryError, QueryMemoryError, QueryTimeoutError

__all__ = ["AllBusyError", "Cells", "Reply"]

logger = logging.getLogger(__name__)

_START_S = 60.0
_GRACE_S = 2.0
"""A query that does not end this long after it was told to is ended with its process."""
_BODY_S = 120.0
"""A client that has not taken its answer by then does not get the rest of it."""
_TURN_S = 10.0
"""Beside the time of one query, a question may wait this long for its turn."""
_LOOK_EVERY_S = 0.2


_Value = TypeVar("_Value")


class AllBusyError(QueryError):
    """As many queries run and wait as may; a client asks again later."""

    retryable = True


class _Cell:
    """One process, seen from the API. Its methods block."""

    def __init__(self, workspace: Path, memory: int, threads: int) -> None:
        self._command = (str(workspace), str(memory), str(threads))
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._sending = threading.Lock()
        self._starting = threading.Lock()
        self._is_closed = False

    def ask(self, question: Question) -> Head:
        """The head of the answer.

        Raises:
            QueryTimeoutError: it did not end in time; so its process was ended.
            QueryMemoryError: its process died of it.
        """
        connection = self._started()
        with self._sending, suppress(OSError):
            # Where the process is gone, reading says so.
            connection.send_bytes(msgspec.json.encode(question))
        if not self._is_there(connection, question.seconds + _GRACE_S):
            self.kill()
            raise QueryTimeoutError(
                f"the query took longer than {question.seconds:g} s and was ended"
            )
        return msgspec.json.decode(self._receive(connection), type=Head)

    def piece(self) -> bytes:
        """The next piece of the body; empty at its end."""
        if self._connection is None:
            raise QueryTimeoutError("the answer was not taken in time")
        return self._receive(self._connection)

    def stop(self) -> None:
        """End the query under way, if there is one."""
        connection = self._connection
        if connection is not None:
            with self._sending, suppress(OSError):
                connection.send_bytes(STOP)

    def kill(self) -> None:
        """End the process; the next question starts another one.

        The connection closes when no thread reads from it any more, so that none reads from
        what gets its descriptor next.
        """
        process = self._process
        self._process = self._connection = None
        if process is not None:
            process.kill()
            process.wait()
            drop_spill(Path(self._command[0]) / "tmp", process.pid)

    @property
    def is_gone(self) -> bool:
        """Whether the next question has to start a process first."""
        return self._process is None

    def close(self) -> None:
        """End the process for good."""
        self._is_closed = True
        self.kill()

    def start(self) -> None:
        """Start the process, if it does not run."""
        self._started()

    def _started(self) -> Connection:
        with self._starting:
            return self._running() or self._run()

    def _running(self) -> Connection | None:
        if self._connection is not None and self._process is not None:
            if self._process.poll() is None:
                return self._connection
            self.kill()
        return None

    def _run(self) -> Connection:
        if self._is_closed:
            raise QueryTimeoutError("the API stops: it takes no more queries")
        ours, theirs = socket.socketpair()
        workspace, *limits = self._command
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "playhead.api.cell",
                    workspace, str(theirs.fileno()), *limits,
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        self._connection = connection = Connection(ours.detach())
        if self._is_there(connection, _START_S):
            self._receive(connection)
            return connection
        self.kill()
        raise QueryTimeoutError("the query's process did not start in time")

    def _is_there(self, connection: Connection, seconds: float) -> bool:
        """Whether a message, or the end of the process, comes in time."""
        try:
            return connection.poll(seconds)
        except OSError:
            # It was closed here meanwhile; reading says so.
            return True

    def _receive(self, connection: Connection) -> bytes:
        try:
            return connection.recv_bytes()
        except (EOFError, OSError) as error:
            if self._is_closed:
                self.kill()
                raise QueryTimeoutError("the API stops: it takes no more queries") from error
            if connection is not self._connection:
                # It was ended from here, and what runs by now is the next question's process.
                raise QueryTimeoutError("the query was ended: nobody waits for it") from error
            process = self._process
            status = None if process is None else process.wait()
            self.kill()
            logger.warning("a query brought its process down (status %s)", status)
            raise QueryMemoryError(
                "the query brought its process down, most likely by the memory that it took",
                hint="Ask for fewer groups, rows or windows.",
            ) from error


class Reply:
    """An answer that begins: its head, and a body that is still to be read.

    Whoever gets it calls `release` at its end, whatever happened to the body.
    """

    def __init__(self, cells: "Cells", cell: _Cell, head: Head) -> None:
        self.head = head
        self._cells = cells
        self._cell: _Cell | None = cell
        # A client that takes nothing is waited for elsewhere, and would hold the process for ever.
        self._late = asyncio.get_running_loop().call_later(_BODY_S, self.release)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body."""
        while self._cell is not None:
            piece = await self._cells.run(self._cell.piece)
            if not piece:
                self._give(whole=True)
                return
            yield piece
        raise QueryTimeoutError("the answer was not taken in time")

    def release(self) -> None:
        """Read no more of it; may be called twice."""
        self._give(whole=False)

    def _give(self, *, whole: bool) -> None:
        cell, self._cell = self._cell, None
        self._late.cancel()
        if cell is not None:
            self._cells.give(cell, whole=whole)


class Cells:
    """Runs queries, a few at once; some more may wait.

    Args:
        memory: of all queries together, in bytes.
        count: how many run at once.
        waiting: how many more may wait for their turn.
    """

    def __init__(self, workspace: Path, *, memory: int, count: int, waiting: int = 16) -> None:
        threads = max(1, (os.cpu_count() or 1) // count)
        self._all = [_Cell(workspace, memory // count, threads) for _ in range(count)]
        self._free: asyncio.Queue[_Cell] = asyncio.Queue()
        for cell in self._all:
            self._free.put_nowait(cell)
        self._is_closed = False
        self._renewing: set[asyncio.Task[None]] = set()
        self._most = waiting
        self._waiting = 0
        self._threads = ThreadPoolExecutor(2 * count, "cells")

    async def start(self) -> None:
        """Start the processes, so that the first query does not wait for one."""
        starts = (self.run(cell.start) for cell in self._all)
        for failed in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(failed, PlayheadError) and not self._is_closed:
                logger.warning("%s; the next query starts it again", failed.message)

    def close(self) -> None:
        """End all processes, and what they do; may be called twice."""
        self._is_closed = True
        for cell in self._all:
            cell.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Question, gone: Callable[[], Awaitable[bool]]) -> Reply:
        """Run a query.

        Args:
            gone: whether nobody waits for the answer any more.

        Raises:
            AllBusyError: too many wait already.
            PlayheadError: whatever the query ended with.
        """
        cell = await self._take(question.seconds, gone)
        try:
            head = await self._watched(cell, question, gone)
            if head.failure is not None:
                raise _raised(head.failure)
        except BaseException as error:
            # After such an end its memory may be in pieces, or the query go on.
            is_unfit = isinstance(error, (QueryMemoryError, asyncio.CancelledError))
            self.give(cell, whole=not (is_unfit or cell.is_gone))
            raise
        return Reply(self, cell, head)

    async def _watched(
        self, cell: _Cell, question: Question, gone: Callable[[], Awaitable[bool]]
    ) -> Head:
        asking = asyncio.ensure_future(self.run(lambda: cell.ask(question)))
        while not asking.done():
            await asyncio.wait({asking}, timeout=_LOOK_EVERY_S)
            if not asking.done() and await gone():
                await self.run(cell.stop)
                done, _ = await asyncio.wait({asking}, timeout=_GRACE_S)
                if not done:
                    await self.run(cell.kill)
        return await asking

    def give(self, cell: _Cell, *, whole: bool) -> None:
        """Let the next question have a cell; one that has not told all gets another process."""
        if whole:
            self._free.put_nowait(cell)
        else:
            self._renew(cell)

    def _renew(self, cell: _Cell) -> None:
        """Give a cell another process, and then to whoever asks."""

        async def renewed() -> None:
            if self._is_closed:
                return
            try:
                await self.run(cell.kill)
                await self.run(cell.start)
            except (PlayheadError, RuntimeError) as error:
                if not self._is_closed:
                    logger.warning("%s; the next query starts it again", error)
            finally:
                self._free.put_nowait(cell)

        renewing = asyncio.get_running_loop().create_task(renewed())
        self._renewing.add(renewing)
        renewing.add_done_callback(self._renewing.discard)

    async def _take(self, seconds: float, gone: Callable[[], Awaitable[bool]]) -> _Cell:
        if self._free.empty() and self._waiting >= self._most:
            raise AllBusyError(
                f"{len(self._all)} queries run and {self._waiting} wait", hint="Ask again later."
            )
        self._waiting += 1
        until = time.monotonic() + seconds + _TURN_S
        taking = asyncio.ensure_future(self._free.get())
        try:
            while not taking.done():
                await asyncio.wait({taking}, timeout=_LOOK_EVERY_S)
                if not taking.done() and await gone():
                    raise QueryTimeoutError("the query was cancelled")
                if not taking.done() and time.monotonic() > until:
                    raise AllBusyError(
                        f"no query ended within {seconds + _TURN_S:g} s", hint="Ask again later."
                    )
            return taking.result()
        except BaseException:
            if not taking.cancel():
                self._free.put_nowait(taking.result())
            raise
        finally:
            self._waiting -= 1

    async def run(self, call: Callable[[], _Value]) -> _Value:
        """Something that blocks, in a thread."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except RuntimeError as error:
            if not self._is_closed:
                raise
            raise QueryTimeoutError("the API stops: it takes no more queries") from error


def _raised(failure: Failure) -> PlayheadError:
    kind = getattr(errors, failure.kind, QueryError)
    made: PlayheadError = kind(failure.message, hint=failure.hint)
    return made
