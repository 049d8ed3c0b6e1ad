"""How an epoch's events come from the event log into files of the lake: by this process."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import duckdb
import pyarrow as pa

from playhead.contracts import LOG_COLUMNS
from playhead.errors import LakeError, LogAwayError
from playhead.eventlog import EventLog, next_offset
from playhead.lake import Draft
from playhead.speed.records import Position


class Archiver(ABC):
    """Adds events to drafts of raw tables; for one thread."""

    @abstractmethod
    def add(
        self, draft: Draft, topic: str, schema: pa.Schema, position: Position, epoch: int
    ) -> None:
        """Add what a topic holds in [first, next) of a position.

        Args:
            schema: the topic's fields.
            epoch: that they belong to.

        Raises:
            LogAwayError: the event log's servers are away.
            LakeError: the files cannot be written.
        """


class LogArchiver(Archiver):
    """Reads the event log itself.

    Args:
        connection: a DuckDB session of its own.
        read_events: events read at once.
    """

    def __init__(
        self, log: EventLog, connection: duckdb.DuckDBPyConnection, *, read_events: int = 65_536
    ) -> None:
        self._log, self._connection, self._read_events = log, connection, read_events

    def add(
        self, draft: Draft, topic: str, schema: pa.Schema, position: Position, epoch: int
    ) -> None:
        failed: list[LogAwayError] = []
        reader = pa.RecordBatchReader.from_batches(
            pa.schema([*schema, *LOG_COLUMNS]),
            _noting(self._batches(topic, schema.names, position), failed),
        )
        self._connection.register("sealed_events", reader)
        try:
            draft.add(
                self._connection,
                f"SELECT *, CAST({epoch} AS BIGINT) AS epoch, CAST(NULL AS BIGINT) AS load_id "
                "FROM sealed_events",
            )
        except LakeError as error:
            # What writes the rows tells of the log's error in words of its own.
            if failed:
                raise failed[0] from error
            raise
        finally:
            self._connection.unregister("sealed_events")

    def _batches(
        self, topic: str, columns: list[str], position: Position
    ) -> Iterator[pa.RecordBatch]:
        for partition, first in position.first.items():
            offset, end = first, position.next[partition]
            while offset < end:
                count = min(self._read_events, end - offset)
                events = self._log.read(topic, partition, offset, max_events=count, columns=columns)
                yield from events.to_batches()
                offset = next_offset(events, offset)


def _noting(
    batches: Iterator[pa.RecordBatch], failed: list[LogAwayError]
) -> Iterator[pa.RecordBatch]:
    """The same batches; the error of an event log that is away is kept besides."""
    try:
        yield from batches
    except LogAwayError as error:
        failed.append(error)
        raise
