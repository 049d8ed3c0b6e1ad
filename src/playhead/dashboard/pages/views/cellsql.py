"""SQL of people, asked in a process of its own within limits; and what an EXPLAIN of it says."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from playhead.api.cells import Cells
from playhead.api.cellwire import Question
from playhead.assemble import Workspace
from playhead.dashboard.pages.platform.coverage import spans
from playhead.engines import connect
from playhead.errors import CoverageError, PlayheadError, QueryError
from playhead.serving import Coverage
from playhead.serving.jail import MAX_QUERY_CHARACTERS
from playhead.serving.names import explained, relations_read

__all__ = ["Answered", "Asker", "Failed", "line_of"]

_MOST_BYTES = 256 << 20
_PARSER_MEMORY = "64MB"
_LINE = re.compile(r"\bLINE (\d+):|\bline (\d+)\b")

Gone = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, eq=False)
class Answered:
    """An answer to a query.

    Attributes:
        truncated: there were more rows than were allowed.
        at: when it was there (UTC).
        told: what it is, where it is no answer of rows but an explanation; else empty.
    """

    table: pa.Table
    truncated: bool
    took_s: float
    at: datetime
    told: str = ""


@dataclass(frozen=True)
class Failed:
    """Why there is no answer.

    Attributes:
        line: of the query, from 1, where it went wrong; None: not known.
        hint: what to do; may be empty.
    """

    text: str
    hint: str
    line: int | None
    took_s: float


class Asker:
    """Asks in the processes of `cells`, which it starts when they are needed first.

    Args:
        workspace: tells what relations are made of; no query of people is run with it.
    """

    def __init__(self, cells: Cells, workspace: Workspace) -> None:
        self._cells, self._workspace = cells, workspace

    async def start(self) -> None:
        """Start the processes, so that the first query does not wait for one."""
        await self._cells.start()

    async def ask(self, sql: str, rows: int, gone: Gone) -> Answered | Failed:
        """The answer to a query of whomever.

        Args:
            rows: no more than these; the workspace's own limit holds as well.
            gone: whether nobody waits for the answer any more.
        """
        begun = time.monotonic()
        try:
            if len(sql) > MAX_QUERY_CHARACTERS:
                raise QueryError(f"the query has more than {MAX_QUERY_CHARACTERS:,} characters")
            behind = explained(sql)
            if behind is not None:
                return await self._explain(behind, gone, begun)
            table, truncated = await self._run(sql, rows, gone)
        except PlayheadError as error:
            took = time.monotonic() - begun
            return Failed(error.message, error.hint or "", line_of(error.message), took)
        return Answered(table, truncated, time.monotonic() - begun, datetime.now(UTC))

    async def _run(self, sql: str, rows: int, gone: Gone) -> tuple[pa.Table, bool]:
        settings = self._workspace.settings.api
        most = min(rows, settings.query_rows)
        question = Question(sql, most, float(settings.query_seconds), "arrow")
        reply = await self._cells.ask(question, gone)
        try:
            pieces: list[bytes] = []
            size = 0
            async for piece in reply.pieces():
                pieces.append(piece)
                size += len(piece)
                if size > _MOST_BYTES:
                    raise QueryError(
                        f"the answer has more than {_MOST_BYTES >> 20} MB",
                        hint="Ask for fewer rows or columns, or ask the API.",
                    )
                if await gone():
                    raise QueryError("the query was cancelled")
        finally:
            reply.release()
        table = await asyncio.to_thread(_decoded, b"".join(pieces))
        return table, reply.head.truncated

    async def _explain(self, sql: str, gone: Gone, begun: float) -> Answered:
        """What a query would read and give, without its rows.

        The process that answers has to accept it first, as any other.
        """
        inner = sql.strip().rstrip(";")
        empty, _ = await self._run(f"SELECT * FROM ({inner}\n) LIMIT 0", 1, gone)
        table = await asyncio.to_thread(_explanation, self._workspace, inner, empty.schema)
        told = (
            "What the query reads and gives. DuckDB's own plan names files, so only the command "
            "line shows it: playhead query 'EXPLAIN …'."
        )
        return Answered(table, False, time.monotonic() - begun, datetime.now(UTC), told)


def line_of(message: str) -> int | None:
    """The line of the query that an error names; None if it names none."""
    found = _LINE.search(message)
    return int(found[1] or found[2]) if found else None


def _decoded(body: bytes) -> pa.Table:
    with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
        return stream.read_all()


def _explanation(workspace: Workspace, sql: str, schema: pa.Schema) -> pa.Table:
    with connect(memory_limit=_PARSER_MEMORY, threads=1) as connection:
        # Reads the text alone: nothing of it is run here.
        names = sorted(name.lower() for name in relations_read(connection, sql))
    rows = [("reads", name, *_relation(workspace, name)) for name in names]
    rows += [("gives", field.name, str(field.type), "") for field in schema]
    columns = ("step", "name", "what", "made of")
    parts = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pa.table({n: pa.array(v, pa.string()) for n, v in zip(columns, parts, strict=True)})


def _relation(workspace: Workspace, name: str) -> tuple[str, str]:
    """What kind of relation it is, and what it is made of."""
    if name not in workspace.views:
        return "table" if name not in workspace.log.topics() else "topic", ""
    try:
        parts = workspace.session.coverage(workspace.views[name])
    except CoverageError as error:
        return "view", error.message
    return "view", "; ".join(covered(parts))


def covered(parts: Sequence[Coverage]) -> list[str]:
    """What the states of a view are made of, in words."""
    told = []
    for part in parts:
        speed = f", speed: epochs {spans(part.speed_epochs)}" if part.speed_epochs else ""
        versions = ", ".join(f"{name} version {v}" for name, v in part.dimensions.items())
        told.append(
            f"{part.topic} (batch: loads to {part.loads}, epochs to {part.batch_epoch}{speed})"
            + (f" with {versions}" if versions else "")
            + (", of mixed versions until the next batch run" if part.mixed else "")
        )
    return told
