"""Dead letters: the events that were refused, read from the event log and the lake as one.

A letter is an event of type `rejected` in the topic `dead_letters`; that it was recovered is
another event, of type `recovered`, which names it. So nothing is ever changed or deleted, and who
reads both knows how each letter stands.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from playhead import disk
from playhead.batch.repeats import RANK, dedupe_sql
from playhead.batch.sqltext import identifier
from playhead.contracts import LOG_COLUMNS
from playhead.errors import QueryError
from playhead.eventlog import EventLog, next_offset
from playhead.lake import Lake
from playhead.lake.tables import raw_name

__all__ = [
    "REASON_CLASS",
    "RECOVERED",
    "REJECTED",
    "TOPIC",
    "DeadLetters",
    "Letter",
    "ReasonCount",
    "Wanted",
]

TOPIC = "dead_letters"
REJECTED, RECOVERED = "rejected", "recovered"

_OFFSETS = "playhead.offsets"
_READ_EVENTS = 4_096
_COLUMNS = (
    *("event_id", "event_type", "event_time", "letter_id", "topic", "contract_version"),
    *("reason", "index", "key_id", "sent_at", "body"),
)
_SHOWN = (
    *("letter_id", "refused_at", "topic", "contract_version", "reason", "index", "key_id"),
    *("sent_at", "recovered_at"),
)
_LETTERS = """
CREATE TEMP VIEW letters AS
SELECT letter_id, event_time AS refused_at, topic, contract_version, reason, "index", key_id,
    sent_at, recovered_at, body
FROM every_letter LEFT JOIN recoveries USING (letter_id)
WHERE event_type = 'rejected'
"""
REASON_CLASS = r"""
regexp_replace(regexp_replace(regexp_replace(reason,
    '^\[\d+\]\.?| \((allowed:|one of) .*', '', 'g'),
    '''[^'']*''|"[^"]*"', '…', 'g'),
    '-?\b\d([\d.:,/ TZE+-]*[\dZ])?\b', '#', 'g')[:120]
"""
"""SQL of the class of a `reason`: without what differs between two of a kind, such as values."""


@dataclass(frozen=True)
class Wanted:
    """Which letters are wanted: those that fit everything that is said.

    Attributes:
        reason: is part of the reason, in upper or lower case.
        topic: that the event was meant for.
        since, until: refused in [since, until), naive UTC.
        letter_id: one letter; may be the beginning of its id.
        recovered: those that were recovered; else those that wait.
    """

    reason: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    letter_id: str | None = None
    recovered: bool = False

    def condition(self) -> tuple[str, list[Any]]:
        """What stands behind WHERE, and its parameters."""
        parts = {
            "contains(lower(reason), lower(?))": self.reason,
            "topic = ?": self.topic,
            "refused_at >= ?": self.since,
            "refused_at < ?": self.until,
            "starts_with(letter_id, ?)": self.letter_id,
        }
        given = {sql: value for sql, value in parts.items() if value is not None}
        state = f"recovered_at IS {'NOT ' if self.recovered else ''}NULL"
        return " AND ".join([state, *given]), list(given.values())


@dataclass(frozen=True)
class ReasonCount:
    """Letters that were refused for one class of reason.

    Attributes:
        reason: without what differs between them: "…" stands for a value, "#" for a number.
        first, last: when the earliest and the latest of them were refused.
        example: the id of the latest.
    """

    reason: str
    letters: int
    first: datetime
    last: datetime
    example: str


@dataclass(frozen=True)
class Letter:
    """One refused event.

    Attributes:
        refused_at: when the gateway refused it (naive UTC).
        topic: that it was meant for; None if that could not be told.
        contract_version: of that topic, then.
        index: its place in the body that it came in, from 0.
        key_id: of the key that it was sent with.
        sent_at: when it was sent by its sender's clock, if that was said beside it (naive UTC).
        recovered_at: when it was recovered; None if it was not.
        body: its bytes as they came.
    """

    letter_id: str
    refused_at: datetime
    topic: str | None
    contract_version: int | None
    reason: str
    index: int | None
    key_id: str | None
    sent_at: datetime | None
    recovered_at: datetime | None
    body: bytes | None


class DeadLetters:
    """All dead letters as of the moment at which it was made.

    Memory is bounded by the session's limit: beyond it, DuckDB spills.

    Args:
        connection: a DuckDB session of its own.

    Raises:
        LakeError, EventLogError: what holds them is damaged.
    """

    def __init__(self, log: EventLog, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self._log, self._lake, self._connection = log, lake, connection
        self._take_in()

    def reasons(self, wanted: Wanted, *, limit: int = 1_000) -> list[ReasonCount]:
        """How many letters there are for each class of reason, most first."""
        where, values = wanted.condition()
        found = self._run(
            f"SELECT {REASON_CLASS} AS class, COUNT(*) AS letters, MIN(refused_at), "
            f"MAX(refused_at), ARG_MAX(letter_id, refused_at) FROM letters WHERE {where} "
            f"GROUP BY class ORDER BY letters DESC, class LIMIT {limit}",
            values,
        )
        return [ReasonCount(*row) for row in found.fetchall()]

    def count(self, wanted: Wanted) -> int:
        """How many letters are wanted."""
        where, values = wanted.condition()
        found = self._run(f"SELECT COUNT(*) FROM letters WHERE {where}", values).fetchall()
        return int(found[0][0])

    def newest(self, wanted: Wanted, *, limit: int) -> pa.Table:
        """The letters refused last, newest first, without their bodies."""
        where, values = wanted.condition()
        order = f"ORDER BY refused_at DESC, letter_id LIMIT {limit}"
        sql = f"SELECT {_listed(_SHOWN)} FROM letters WHERE {where} {order}"
        return self._run(sql, values).to_arrow_table()

    def letter(self, letter_id: str) -> Letter:
        """One letter, recovered or not, by its id or the beginning of it.

        Raises:
            QueryError: there is none, or there are several.
        """
        sql = f"SELECT {_listed((*_SHOWN, 'body'))} FROM letters WHERE starts_with(letter_id, ?)"
        rows = self._run(f"{sql} ORDER BY letter_id LIMIT 2", [letter_id]).fetchall()
        if len(rows) != 1:
            what = "several dead letters begin with" if rows else "no dead letter has"
            raise QueryError(
                f"{what} the id {letter_id!r}", hint="`playhead dead-letters list` shows their ids."
            )
        return Letter(*rows[0])

    def read(
        self, wanted: Wanted, *, newest_first: bool = True, rows: int = 2_048, as_text: bool = False
    ) -> pa.RecordBatchReader:
        """Letters with their bodies, a bounded number at a time; nothing else may run meanwhile.

        Args:
            as_text: in place of the bytes, `body` is text where they are UTF-8, and
                `body_base64` is there where they are not.
        """
        where, values = wanted.condition()
        body = "body"
        if as_text:
            body = "TRY(decode(body)) AS body, "
            body += "CASE WHEN TRY(decode(body)) IS NULL THEN to_base64(body) END AS body_base64"
        order = 'refused_at DESC, "index" DESC' if newest_first else 'refused_at, "index"'
        sql = f"SELECT {_listed(_SHOWN)}, {body} FROM letters WHERE {where}"
        return self._run(f"{sql} ORDER BY {order}, letter_id", values).to_arrow_reader(rows)

    # -- both places -----------------------------------------------------------------------

    def _take_in(self) -> None:
        """Read what only the event log has, then see what the lake has: so none slips through."""
        self._stage()
        places = ["FROM letters_in_log"]
        table = raw_name(TOPIC)
        if self._lake.exists(table):
            places.append(f"FROM {self._lake.snapshot(table).scan()}")
        columns = _listed(dict.fromkeys((*_COLUMNS, *RANK)))
        everything = " UNION ALL ".join(f"SELECT {columns} {place}" for place in places)
        self._run(f"CREATE TEMP VIEW every_letter AS {dedupe_sql(f'({everything})')}")
        self._run(
            "CREATE TEMP TABLE recoveries AS SELECT letter_id, MIN(event_time) AS recovered_at "
            f"FROM every_letter WHERE event_type = '{RECOVERED}' GROUP BY letter_id"
        )
        self._run(_LETTERS)

    def _stage(self) -> None:
        fields = self._log.schema(TOPIC)
        schema = pa.schema([*(fields.field(name) for name in _COLUMNS), *LOG_COLUMNS])
        reader = pa.RecordBatchReader.from_batches(schema, self._in_log(self._sealed()))
        self._connection.register("letters_reader", reader)
        try:
            self._run(
                "CREATE TEMP TABLE letters_in_log AS SELECT *, CAST(NULL AS BIGINT) AS epoch, "
                "CAST(NULL AS BIGINT) AS load_id FROM letters_reader"
            )
        finally:
            self._connection.unregister("letters_reader")

    def _sealed(self) -> dict[int, int]:
        """Up to which offset the lake has the letters, by partition."""
        table = raw_name(TOPIC)
        properties = self._lake.properties(table) if self._lake.exists(table) else {}
        sealed = json.loads(properties.get(_OFFSETS, "{}"))
        return {int(partition): end for partition, (_, end) in sealed.items()}

    def _in_log(self, sealed: dict[int, int]) -> Iterator[pa.RecordBatch]:
        starts, ends = self._log.start_offsets(TOPIC), self._log.end_offsets(TOPIC)
        for partition, end in ends.items():
            offset = max(starts[partition], sealed.get(partition, 0))
            while offset < end:
                count = min(_READ_EVENTS, end - offset)
                events = self._log.read(
                    TOPIC, partition, offset, max_events=count, columns=_COLUMNS
                )
                yield from events.to_batches()
                offset = next_offset(events, offset)

    def _run(self, sql: str, values: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(sql, values)
        except duckdb.Error as error:
            raise _failed(error) from error


def _failed(error: BaseException) -> QueryError:
    told = str(error).strip().splitlines()[0]
    return QueryError(f"the dead letters cannot be read: {told}", hint=disk.advice(error))


def _listed(names: Sequence[str] | dict[str, None]) -> str:
    return ", ".join(identifier(name) for name in names)
