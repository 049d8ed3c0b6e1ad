"""An epoch's events from the brokers into files of the lake, by the workers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from playhead.contracts.validate import Rejected
from playhead.engines.packing import pack, unpack
from playhead.engines.spark.plans import told
from playhead.errors import EngineError
from playhead.eventlog.kafka import KafkaEventLog
from playhead.eventlog.kafka.codec import Decoder
from playhead.eventlog.kafka.writing import INGEST
from playhead.lake import Draft
from playhead.lake.elsewhere import RowWriter
from playhead.speed.archive import Archiver
from playhead.speed.records import Position
from playhead.speed.spark.messages import Messages, raw_messages
from playhead.speed.spark.options import range_options

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_AT_ONCE = 500_000
_WRITTEN = "files binary, refused binary"
_REFUSED = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("time_us", pa.int64()),
        ("raw", pa.binary()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Archiving:
    """Writes the events of messages into files; sent to the workers.

    Attributes:
        messages: reads all of the topic's fields.
        epoch: that the events belong to.
    """

    messages: Messages
    epoch: int

    def write(
        self, writer: RowWriter, batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        """What became of `raw_messages`: told by the writer, and the messages that are none."""
        decoder = Decoder(self.messages.topic, self.messages.schema)
        waiting: list[pa.Table] = []
        refused: list[dict[str, object]] = []
        for batch in batches:
            events, bad = self._events(decoder, batch)
            waiting.append(events)
            refused += bad
            if sum(table.num_rows for table in waiting) >= _AT_ONCE:
                yield _told(_written(writer, waiting), refused)
                waiting, refused = [], []
        if waiting:
            yield _told(_written(writer, waiting), refused)

    def _events(
        self, decoder: Decoder, batch: pa.RecordBatch
    ) -> tuple[pa.Table, list[dict[str, object]]]:
        read = self.messages.decode(decoder, batch)
        # Those that are events come first, in the order of their offsets.
        times = read.known.column("ingest_time").slice(0, read.events.num_rows)
        events = read.events.append_column("ingest_time", times)
        epoch = pa.scalar(self.epoch, pa.int64())
        events = events.append_column("epoch", pa.repeat(epoch, events.num_rows))
        events = events.append_column("load_id", pa.nulls(events.num_rows, pa.int64()))
        places = batch.select(["partition", "offset", "ingest_us"])
        bad: list[dict[str, object]] = []
        for one in read.refused:
            partition, offset, time_us = (c[one.index].as_py() for c in places.columns)
            bad.append(
                {
                    "partition": partition,
                    "offset": offset,
                    "time_us": time_us,
                    "raw": one.raw,
                    "reason": one.reason,
                }
            )
        return events, bad


def _written(writer: RowWriter, tables: list[pa.Table]) -> bytes:
    """Some events in files of their own, in the table's order: by month, then by their places."""
    events = pa.concat_tables(tables)
    month = pc.floor_temporal(events.column("event_time"), unit="month")
    keys = [(name, "ascending") for name in ("month", "partition", "offset")]
    order = pc.sort_indices(events.append_column("month", month), sort_keys=keys)
    return writer.write(events.take(order).to_batches())


def _told(files: bytes, refused: list[dict[str, object]]) -> pa.RecordBatch:
    body = pack(pa.Table.from_pylist(refused, schema=_REFUSED))
    arrays = [pa.array([value], pa.binary()) for value in (files, body)]
    return pa.RecordBatch.from_arrays(arrays, names=["files", "refused"])


class SparkArchiver(Archiver):
    """Has the workers read the brokers' partitions, and write the lake's files.

    Args:
        session: makes the Spark session, or finds it.
    """

    def __init__(self, log: KafkaEventLog, session: "Callable[[], SparkSession]") -> None:
        self._log, self._session = log, session

    def add(
        self, draft: Draft, topic: str, schema: pa.Schema, position: Position, epoch: int
    ) -> None:
        work = Archiving(Messages(topic, schema, tuple(schema.names)), epoch)
        place = self._log.catalog.topic(topic).place
        options = range_options(self._log.brokers, place, position.first, position.next)

        try:
            with draft.elsewhere() as (writer, files):
                session = self._session()
                options["minPartitions"] = str(session.sparkContext.defaultParallelism)
                with told(f"sealing {topic}"):
                    frame = session.read.format("kafka").options(**options).load()
                    messages = raw_messages(frame, INGEST)
                    rows = messages.mapInArrow(partial(work.write, writer), _WRITTEN).toArrow()
                for body in rows.column("refused"):
                    self._keep_refused(topic, unpack(body))
                files += [bytes(body.as_py()) for body in rows.column("files")]
        except EngineError:
            # Brokers that are away are waited for; anything else is told as it is.
            self._log.end_offsets(topic)
            raise

    def _keep_refused(self, topic: str, refused: pa.Table) -> None:
        """Keep messages that are no events among the dead letters, as a read would."""
        for partition in pc.unique(refused.column("partition")).to_pylist():
            rows = refused.filter(pc.equal(refused.column("partition"), partition)).to_pylist()
            letters = [Rejected(n, row["raw"], row["reason"]) for n, row in enumerate(rows)]
            offsets, times = ([row[c] for row in rows] for c in ("offset", "time_us"))
            self._log.refuse(topic, partition, letters, offsets, times)
