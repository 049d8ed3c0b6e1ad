"""A process that runs queries of strangers, one after the other, in the jail.

What a query does to memory or to the interpreter, it does here: a query that cannot be
interrupted is ended with its process, and neither the API nor anybody else's query notices.
"""

import logging
import os
import queue
import resource
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from playhead.api.bodies import Format, body
from playhead.api.cellwire import STOP, Column, Failure, Head, Question
from playhead.assemble import Workspace
from playhead.engines.duckdb import drop_spill
from playhead.errors import PlayheadError, QueryMemoryError
from playhead.serving import Session
from playhead.serving.stop import Stop

__all__ = ["main"]

logger = logging.getLogger(__name__)

_NICE = 10
_BESIDE_BYTES = 512 << 20
"""What Python, Arrow and threads may take beside DuckDB's own memory."""


class Cell:
    """Answers what comes over a connection until it is closed.

    Args:
        memory: of the session, in bytes; the process may take about twice as much.
    """

    def __init__(self, workspace: Workspace, connection: Connection, memory: int) -> None:
        self._workspace = workspace
        self._connection = connection
        self._memory = memory
        self._questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self._stop = Stop()

    def run(self, threads: int) -> None:
        """Tell that it is ready, then answer; the process ends when the API closes or dies."""
        jail = self._workspace.jail(memory_limit=f"{self._memory}B", threads=threads)
        threading.Thread(target=self._listen, name="cell-listen", daemon=True).start()
        _limit_memory(2 * self._memory + _BESIDE_BYTES)
        self._connection.send_bytes(b"ready")
        while True:
            self._answer(jail, self._questions.get())

    def _listen(self) -> None:
        try:
            while True:
                message = self._connection.recv_bytes()
                if message == STOP:
                    self._stop.cancel()
                else:
                    question = msgspec.json.decode(message, type=Question)
                    self._stop = Stop(question.seconds)
                    self._questions.put(question)
        except (EOFError, OSError):
            # Nobody waits for an answer, and DuckDB's threads may be at work.
            drop_spill(self._workspace.path / "tmp", os.getpid())
            os._exit(0)

    def _answer(self, jail: Session, question: Question) -> None:
        try:
            self._workspace.refresh()
            jail.use(self._workspace.views)
            with jail.until(self._stop):
                table = jail.query(question.sql, limit=question.rows + 1)
        except PlayheadError as error:
            failure = Failure(type(error).__name__, error.message, error.hint)
            self._send(msgspec.json.encode(Head(failure)))
            return
        except MemoryError:
            self._send(msgspec.json.encode(Head(_no_memory())))
            return
        table = table.rename_columns(distinct(table.column_names))
        shown = table.slice(0, question.rows)
        columns = [Column(field.name, str(field.type)) for field in table.schema]
        head = Head(None, columns, shown.num_rows, table.num_rows > question.rows)
        self._send(msgspec.json.encode(head))
        told = {"columns": columns, "count": head.count, "truncated": head.truncated}
        for piece in body(shown, Format(question.format), told, text=question.text_numbers):
            if len(piece):
                self._send(piece)
        self._send(b"")

    def _send(self, message: bytes | memoryview) -> None:
        self._connection.send_bytes(message)


def distinct(names: Sequence[str]) -> list[str]:
    """Names of which none comes twice, as in an object of JSON: later ones get a number."""
    found: dict[str, None] = {}
    for name in names:
        chosen, number = name, 0
        while chosen in found or (number and chosen in names):
            number += 1
            chosen = f"{name}_{number}"
        found[chosen] = None
    return list(found)


def _no_memory() -> Failure:
    return Failure(
        QueryMemoryError.__name__,
        "the query needs more memory than it may have",
        "Ask for fewer groups, rows or windows.",
    )


def _limit_memory(more: int) -> None:
    """Let allocations fail beyond so many bytes more than are taken now."""
    with Path("/proc/self/status").open(encoding="ascii") as status:
        taken = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + more
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def main(workspace: str, descriptor: str, memory: str, threads: str) -> None:
    """Run a cell of a workspace over an inherited socket; it gives way to ingestion and views."""
    os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    # Its warnings show the query.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    with Connection(int(descriptor)) as connection, Workspace(Path(workspace)) as opened:
        Cell(opened, connection, int(memory)).run(int(threads))


if __name__ == "__main__":
    main(*sys.argv[1:])
