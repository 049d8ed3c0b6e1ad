"""The dead letters at a glance: by reason and topic, with examples, at a bounded cost.

`playhead.batch.deadletters` reads every letter that there is. This reads the newest ones from the
event log, remembers them without their bodies, and from then on reads only what is new.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from playhead import disk
from playhead.assemble import Workspace
from playhead.batch.deadletters import REASON_CLASS, RECOVERED, REJECTED, TOPIC
from playhead.engines import connect
from playhead.errors import OffsetOutOfRangeError, QueryError
from playhead.eventlog import EventLog, next_offset

__all__ = [
    "NEWEST",
    "LetterExample",
    "LetterTail",
    "LettersSummary",
    "RefusedFor",
    "dead_letter_summary",
]

NEWEST = 10_000
"""So many of the newest letters, and notes of their recovery, are looked at."""

TEXT_CHARACTERS = 2_048
"""Of a body or a reason that is shown as an example."""

_EXAMPLES = 3
_REASONS = 100
_READ_EVENTS = 4_096
_MEMORY = "256MB"
_Place = tuple[int, int]
"""Partition and offset of a letter."""

_COLUMNS = ("event_type", "event_time", "letter_id", "topic", "reason", "index", "key_id")
_CLASSIFIED = f"""
SELECT event_type, event_time, letter_id, topic, reason[:{TEXT_CHARACTERS}] AS reason,
    {REASON_CLASS} AS class, "index", key_id, partition, "offset"
FROM fresh
"""
_RECOVERED = f"SELECT DISTINCT letter_id FROM tail WHERE event_type = '{RECOVERED}'"
# Of a letter that is there twice, the first counts: as in the lake.
_SUMMARY = f"""
WITH letters AS (
    SELECT * FROM tail WHERE event_type = '{REJECTED}'
    QUALIFY row_number() OVER (PARTITION BY letter_id ORDER BY partition, "offset") = 1
)
SELECT class, topic, count(*), count(known.letter_id), min(event_time), max(event_time),
    max_by({{partition: partition, "offset": "offset"}}, event_time, {_EXAMPLES})
FROM letters LEFT JOIN ({_RECOVERED}) AS known USING (letter_id)
WHERE event_time >= coalesce($since, event_time)
GROUP BY class, topic ORDER BY count(*) DESC, class, topic
"""
_SHOWN = f"""
SELECT partition, "offset", letter_id, event_time AS refused_at, reason, "index", key_id,
    letter_id IN ({_RECOVERED}) AS is_recovered
FROM tail SEMI JOIN places USING (partition, "offset")
ORDER BY event_time DESC, partition, "offset" DESC
"""


@dataclass(frozen=True)
class LetterExample:
    """One refused event.

    Attributes:
        reason: in full, up to a bound.
        index: its place in the body that it came in, from 0.
        key_id: of the key that it was sent with.
        body: as text, up to a bound; bytes that are no UTF-8 stand as `\\xNN`.
        body_bytes: how long it is in full.
    """

    letter_id: str
    refused_at: datetime
    reason: str
    index: int | None
    key_id: str | None
    is_recovered: bool
    body: str
    body_bytes: int


@dataclass(frozen=True)
class RefusedFor:
    """Letters that were refused for one class of reason, meant for one topic.

    Attributes:
        reason: without what differs between them: "…" stands for a value, "#" for a number.
        topic: None if it could not be told.
        recovered: of the letters, how many were put right and sent again.
        first, last: when the earliest and the latest of them were refused (naive UTC).
        examples: the newest.
    """

    reason: str
    topic: str | None
    letters: int
    recovered: int
    first: datetime
    last: datetime
    examples: tuple[LetterExample, ...]


@dataclass(frozen=True)
class LettersSummary:
    """The newest dead letters, and how many there are beyond them.

    Attributes:
        reasons: most letters first; at most a hundred.
        more_reasons: how many classes are left out of these.
        letters, recovered: of all classes, those left out included.
        looked_at: events of the topic that were looked at: letters, and notes of recovery.
        held: such events in the event log; more than `looked_at` if not all were.
        appended: such events ever; those that have left the event log are in the lake alone,
            and not counted here.
    """

    reasons: tuple[RefusedFor, ...]
    more_reasons: int
    letters: int
    recovered: int
    looked_at: int
    held: int
    appended: int

    @property
    def is_whole(self) -> bool:
        """Whether every letter was looked at, so that the counts are those of all."""
        return self.looked_at == self.appended


def dead_letter_summary(
    workspace: Workspace, *, since: datetime | None = None, limit: int = NEWEST
) -> LettersSummary:
    """The newest letters of a workspace; see `LetterTail`, which is cheaper where it is kept."""
    with LetterTail(workspace.log, limit=limit) as tail:
        return tail.summary(since=since)


class LetterTail:
    """The newest letters of an event log. Threads may share it; each call takes its turn.

    Args:
        limit: how many events of the topic are looked at, shared by its partitions.
    """

    def __init__(self, log: EventLog, *, limit: int = NEWEST) -> None:
        self._log, self._limit = log, limit
        self._turn = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._next: dict[int, int] = {}
        self._parts: dict[int, pa.Table] = {}
        self._bodies: dict[_Place, bytes] = {}
        self._known: tuple[object, LettersSummary] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is remembered; may be called twice."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._known = None, None
            self._next, self._parts, self._bodies = {}, {}, {}

    def summary(self, *, since: datetime | None = None) -> LettersSummary:
        """The newest letters as of now.

        Args:
            since: only those that were refused at this time (naive UTC) or later.

        Raises:
            EventLogError: what holds them is damaged.
        """
        if TOPIC not in self._log.topics():
            return LettersSummary((), 0, 0, 0, 0, 0, 0)
        with self._turn:
            try:
                return self._look(since)
            except OffsetOutOfRangeError:
                # Retention took what was just to be read; it runs too rarely to do so again.
                return self._look(since)

    def _look(self, since: datetime | None) -> LettersSummary:
        starts, ends = self._log.start_offsets(TOPIC), self._log.end_offsets(TOPIC)
        place = (tuple(starts.items()), tuple(ends.items()), since)
        if self._known is None or self._known[0] != place:
            self._known = (place, self._summed_up(starts, ends, since))
        return self._known[1]

    def _summed_up(
        self, starts: Mapping[int, int], ends: Mapping[int, int], since: datetime | None
    ) -> LettersSummary:
        share = max(1, self._limit // len(ends))
        for partition, end in ends.items():
            self._follow(partition, max(starts[partition], end - share), end)
        tail = pa.concat_tables(self._parts.values()) if self._parts else None
        rows = self._rows(_SUMMARY, {"tail": tail}, {"since": since}) if tail else []
        examples = self._examples(tail, rows[:_REASONS]) if tail and rows else {}
        return LettersSummary(
            tuple(_refused_for(examples, *row) for row in rows[:_REASONS]),
            max(0, len(rows) - _REASONS),
            sum(row[2] for row in rows),
            sum(row[3] for row in rows),
            tail.num_rows if tail else 0,
            sum(end - starts[partition] for partition, end in ends.items()),
            sum(ends.values()),
        )

    # -- the newest of a partition ---------------------------------------------------------

    def _follow(self, partition: int, first: int, end: int) -> None:
        """Remember the letters [first, end) of a partition, reading those that are new."""
        known = self._next.get(partition, first)
        if not first <= known <= end:
            self._parts.pop(partition, None)
            known = first
        fresh = list(self._read(partition, known, end))
        if fresh:
            new = self._arrow(_CLASSIFIED, {"fresh": pa.concat_tables(fresh)})
            kept = [part for part in (self._parts.get(partition),) if part is not None]
            self._parts[partition] = pa.concat_tables([*kept, new])
            self._next[partition] = end
        if partition in self._parts:
            part = self._parts[partition]
            kept_rows = part.slice(max(0, part.num_rows - (end - first)))
            # One piece, or letters that come one by one would make each look dearer than the last.
            self._parts[partition] = kept_rows.combine_chunks()

    def _read(self, partition: int, offset: int, end: int) -> Iterator[pa.Table]:
        while offset < end:
            count = min(_READ_EVENTS, end - offset)
            events = self._log.read(TOPIC, partition, offset, max_events=count, columns=_COLUMNS)
            yield events
            offset = next_offset(events, offset)

    # -- examples --------------------------------------------------------------------------

    def _examples(self, tail: pa.Table, rows: list[Any]) -> dict[_Place, LetterExample]:
        """The examples of some rows of the summary, newest first."""
        wanted = pa.Table.from_pylist([place for row in rows for place in row[-1]])
        given = {"tail": tail, "places": wanted}
        found = {
            (partition, offset): _example(self._body(partition, offset), *values)
            for partition, offset, *values in self._rows(_SHOWN, given, {})
        }
        self._bodies = {place: body for place, body in self._bodies.items() if place in found}
        return found

    def _body(self, partition: int, offset: int) -> bytes:
        """A letter's body; empty if it left the event log meanwhile."""
        if (partition, offset) not in self._bodies:
            try:
                event = self._log.read(TOPIC, partition, offset, max_events=1, columns=("body",))
            except OffsetOutOfRangeError:
                return b""
            self._bodies[partition, offset] = event.column("body")[0].as_py() or b""
        return self._bodies[partition, offset]

    # -- SQL ---------------------------------------------------------------------------------

    def _rows(self, sql: str, given: Mapping[str, pa.Table], values: Mapping[str, Any]) -> Any:
        return self._run(sql, given, values).fetchall()

    def _arrow(self, sql: str, given: Mapping[str, pa.Table]) -> pa.Table:
        return self._run(sql, given, {}).to_arrow_table()

    def _run(
        self, sql: str, given: Mapping[str, pa.Table], values: Mapping[str, Any]
    ) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = connect(memory_limit=_MEMORY, threads=1)
        try:
            for name, table in given.items():
                self._connection.register(name, table)
            return self._connection.execute(sql, dict(values) or None)
        except duckdb.Error as error:
            told = str(error).strip().splitlines()[0]
            raise QueryError(
                f"the dead letters cannot be summed up: {told}", hint=disk.advice(error)
            ) from error


def _example(
    body: bytes,
    letter_id: str,
    refused_at: datetime,
    reason: str,
    index: int | None,
    key_id: str | None,
    is_recovered: bool,
) -> LetterExample:
    # A character has four bytes at most, so none that is shown is cut in two.
    text = body[: 4 * TEXT_CHARACTERS].decode(errors="backslashreplace")[:TEXT_CHARACTERS]
    return LetterExample(
        letter_id, refused_at, reason, index, key_id, is_recovered, text, len(body)
    )


def _refused_for(
    examples: Mapping[_Place, LetterExample],
    reason: str,
    topic: str | None,
    letters: int,
    recovered: int,
    first: datetime,
    last: datetime,
    places: list[dict[str, int]],
) -> RefusedFor:
    mine = {(place["partition"], place["offset"]) for place in places}
    shown = tuple(example for place, example in examples.items() if place in mine)
    return RefusedFor(reason, topic, letters, recovered, first, last, shown)
