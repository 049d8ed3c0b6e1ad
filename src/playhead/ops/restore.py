"""Puts events back: raw files from the event log, log blocks from the lake."""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.contracts import LOG_COLUMNS
from playhead.errors import EventLogError, PlayheadError
from playhead.eventlog import EventLog, next_offset
from playhead.eventlog.blocks import BLOCK_EVENTS
from playhead.eventlog.inspect import Hole, LogInspector
from playhead.lake import Lake, LakeFile, Snapshot
from playhead.lake.tables import raw_name
from playhead.speed.state import StateStore

logger = logging.getLogger(__name__)

_Integers = npt.NDArray[np.int64]

_READ_EVENTS = 65_536
_RESTORED = "restored_events"


@dataclass(frozen=True)
class Mended:
    """What became of one damaged place.

    Attributes:
        what: what was done, or what is lost and where it can be had again.
        lost: it could not be mended.
    """

    place: str
    what: str
    lost: bool = False


class RawRestorer:
    """Makes damaged files of raw tables anew, month by month, from the offsets the log still holds.

    A month is replaced only if every row of its damaged files is found again: the manifests, which
    are sound, say how many they held.

    Args:
        connection: a DuckDB session of its own.
    """

    def __init__(
        self, lake: Lake, log: EventLog, state: StateStore, connection: duckdb.DuckDBPyConnection
    ) -> None:
        self._lake, self._log, self._state = lake, log, state
        self._connection = connection

    def run(self, topic: str) -> Iterator[Mended]:
        """Restore what can be restored of one topic's raw table."""
        snapshot = self._lake.snapshot(raw_name(topic))
        damaged = {bad.file for bad in self._lake.inspector.data(snapshot.files) if bad.file}
        for month in sorted({file.partition for file in damaged if file.partition}):
            files = [file for file in damaged if file.partition == month]
            yield self._restore(snapshot, topic, month, files, damaged)

    def _restore(
        self,
        snapshot: Snapshot,
        topic: str,
        month: date,
        here: Sequence[LakeFile],
        damaged: Collection[LakeFile],
    ) -> Mended:
        place = f"{snapshot.name}, {month:%Y-%m}"
        names = {file.path for file in here}
        rest = _only(snapshot, [file for file in snapshot.files if file not in damaged])
        wanted = sum(file.rows for file in here)
        found = self._missing(snapshot, rest, topic, month)
        if found.num_rows != wanted:
            listed = ", ".join(sorted(names))
            return Mended(
                place,
                f"{wanted - found.num_rows} of {wanted} rows are lost: the event log does not hold "
                f"them (any more). Restore {listed} from a backup; what was loaded from files can "
                "be loaded again into a new workspace",
                lost=True,
            )
        self._connection.register(_RESTORED, found)
        try:
            query = f"FROM {_RESTORED} UNION ALL BY NAME FROM {rest.scan(partitions=[month])}"
            written = self._lake.overwrite(
                snapshot.name,
                self._connection,
                query,
                partitions=[month],
                guard=lambda properties: properties == snapshot.properties,
            )
        finally:
            self._connection.unregister(_RESTORED)
        if written.skipped:
            return Mended(place, "others wrote to the table meanwhile: run it again", lost=True)
        return Mended(place, f"{wanted} rows of {len(here)} files restored from the event log")

    def _missing(self, snapshot: Snapshot, rest: Snapshot, topic: str, month: date) -> pa.Table:
        """Events of a month that were sealed and are in no sound file, with their epochs."""
        epochs = self._epochs(rest, topic)
        schema = self._log.schema(topic)
        columns = pa.schema([*schema, *LOG_COLUMNS, pa.field("epoch", pa.int64())])
        found = [pa.schema([pa.field(f.name, f.type) for f in columns]).empty_table()]
        for partition, start in self._log.start_offsets(topic).items():
            present = self._present(rest, partition, month, start)
            spans = [span for span in epochs if span[0] == partition]
            last = max((after for *_, after in spans), default=0)
            offset = start
            while offset < last:
                events = self._log.read(
                    topic, partition, offset, max_events=min(_READ_EVENTS, last - offset)
                )
                offset = next_offset(events, offset)
                found.append(_of_month(events, month, present, spans))
        return pa.concat_tables(found, promote_options="default")

    def _epochs(self, rest: Snapshot, topic: str) -> list[tuple[int, int, int, int]]:
        """(partition, epoch, first, next) of sealed epochs: by the state, and by sound files.

        Of epochs that the state has forgotten, edges may be missing: see `_between`.
        """
        spans: dict[tuple[int, int], tuple[int, int]] = {}
        rows = self._connection.execute(
            'SELECT partition, epoch, min("offset"), max("offset") + 1 '
            f"FROM {rest.scan(columns=['partition', 'epoch', 'offset'])} "
            "WHERE epoch IS NOT NULL GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        for partition, epoch, first, after in rows:
            spans[partition, epoch] = (first, after)
        newest = int(rest.properties.get("playhead.epoch", 0))
        for text, (first, after) in json.loads(
            rest.properties.get("playhead.offsets", "{}")
        ).items():
            if after > first:
                spans[int(text), newest] = (first, after)
        for epoch, status in self._state.epochs():
            position = self._state.range_of(epoch).get(topic)
            if position is None or (status != "sealed" and epoch > newest):
                continue
            for partition, first in position.first.items():
                spans[partition, epoch] = (first, position.next[partition])
        return [(p, e, *span) for (p, e), span in sorted(spans.items())]

    def _present(self, rest: Snapshot, partition: int, month: date, start: int) -> pa.Array:
        table = self._connection.execute(
            f'SELECT "offset" FROM {rest.scan(partitions=[month])} '
            f'WHERE epoch IS NOT NULL AND partition = {partition} AND "offset" >= {start}'
        ).to_arrow_table()
        return table.column(0).combine_chunks()


def _of_month(
    events: pa.Table, month: date, present: pa.Array, spans: Sequence[tuple[int, int, int, int]]
) -> pa.Table:
    """The events of a month that are not present and have an epoch, with it."""
    offsets = events.column("offset")
    months = pc.floor_temporal(events.column("event_time"), unit="month").cast(pa.date32())
    here = pc.equal(months, pa.scalar(month, pa.date32()))
    wanted = pc.and_(here, pc.invert(pc.is_in(offsets, present)))
    events = events.filter(wanted)
    at = events.column("offset").to_numpy()
    epochs = np.zeros(len(at), dtype=np.int64)
    for _, epoch, first, after in spans:
        epochs[(at >= first) & (at < after)] = epoch
    epochs = _between(at, epochs, spans)
    events = events.append_column("epoch", pa.array(epochs))
    return events.filter(pa.array(epochs > 0))


def _between(
    at: _Integers,
    epochs: _Integers,
    spans: Sequence[tuple[int, int, int, int]],
) -> _Integers:
    """Offsets between two epochs whose edges were in damaged files: any of them is right by order,
    for epochs only have to ascend with the offsets; the earlier is taken.
    """
    if spans:
        epochs[at < spans[0][2]] = spans[0][1]
    for (_, epoch, _, after), (_, _, first, _) in pairwise(spans):
        epochs[(at >= after) & (at < first)] = epoch
    return epochs


def _only(snapshot: Snapshot, files: Sequence[LakeFile]) -> Snapshot:
    return replace(snapshot, files=tuple(files))


class LogMender:
    """Fills holes of the event log with the events that the lake holds of those offsets.

    Args:
        inspector: of the log's file.
        connection: a DuckDB session of its own.
    """

    def __init__(
        self, inspector: LogInspector, lake: Lake, connection: duckdb.DuckDBPyConnection
    ) -> None:
        self._inspector, self._lake = inspector, lake
        self._connection = connection

    def run(self, log: EventLog) -> Iterator[Mended]:
        """Mend every hole that the lake can fill; tell of the others."""
        for topic, number in self._inspector.topics().items():
            for partition, head in self._inspector.heads(number).items():
                for hole in self._inspector.holes(topic, number, partition, head):
                    yield self._mend(hole, log.schema(topic))

    def _mend(self, hole: Hole, schema: pa.Schema) -> Mended:
        place = f"topic {hole.topic}, partition {hole.partition}"
        span = f"offsets {hole.first} to {hole.end - 1}"
        try:
            self._inspector.mend(hole, list(self._parts(hole, schema)))
        except (EventLogError, PlayheadError) as error:
            return Mended(
                place,
                f"{hole.end - hole.first} events ({span}) are lost: {error.message}. Restore "
                "log.db from a backup",
                lost=True,
            )
        return Mended(place, f"{span} restored from the lake")

    def _parts(self, hole: Hole, schema: pa.Schema) -> Iterator[tuple[pa.RecordBatch, int]]:
        """The hole's events in order, cut where the ingest time changes."""
        if not self._lake.exists(raw_name(hole.topic)):
            return
        names = [*schema.names, "ingest_time"]
        scan = self._lake.scan(raw_name(hole.topic), columns=[*names, "partition", "offset"])
        listed = ", ".join(f'"{name}"' for name in names)
        events = self._connection.execute(
            f"SELECT {listed} FROM {scan} WHERE partition = {hole.partition} "
            f'AND "offset" >= {hole.first} AND "offset" < {hole.end} ORDER BY "offset"'
        ).to_arrow_table()
        times = events.column("ingest_time").cast(pa.int64()).to_numpy()
        body = events.drop_columns(["ingest_time"]).cast(schema)
        cuts = [0, *(np.flatnonzero(np.diff(times)) + 1).tolist(), len(times)]
        for low, high in pairwise(cuts):
            for start in range(low, high, BLOCK_EVENTS):
                rows = body.slice(start, min(BLOCK_EVENTS, high - start)).combine_chunks()
                yield from ((batch, int(times[low])) for batch in rows.to_batches())
