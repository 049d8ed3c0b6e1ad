"""Messages become events on the workers: by the event log's own decoder, so alike in all digits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from playhead.contracts import LOG_COLUMNS
from playhead.contracts.validate import Rejected
from playhead.engines.packing import pack
from playhead.eventlog.kafka.codec import Decoder
from playhead.eventlog.keys import hash_pairs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

FIRST, SECOND = "id__first", "id__second"
REFUSED = "message__refused"
PLACE = ("partition", "offset")

KNOWN = pa.schema(
    [
        *LOG_COLUMNS,
        ("event_time", pa.timestamp("us")),
        (FIRST, pa.uint64()),
        (SECOND, pa.uint64()),
        (REFUSED, pa.bool_()),
    ]
)
"""What the driver knows of a message: its place, and of an event its time and the id's hash."""

_HEADER = r"'^([0-9]+)/[0-9]+$'"


@dataclass(frozen=True)
class Decoded:
    """What some messages are.

    Attributes:
        known: KNOWN of all of them, first of those that are events.
        events: those that are events, in order: the columns that are taken, and PLACE.
        refused: the others; `index` counts all messages from 0.
    """

    known: pa.Table
    events: pa.Table
    refused: Sequence[Rejected]


@dataclass(frozen=True)
class Messages:
    """Reads messages of one topic; sent to the workers, which need the same Playhead.

    Attributes:
        schema: the topic's fields.
        columns: those that are taken.
    """

    topic: str
    schema: pa.Schema
    columns: tuple[str, ...]

    def read(self, frame: "DataFrame") -> "DataFrame":
        """Packed tables of some messages, as `raw_messages` has them.

        Returns:
            Columns `known` (KNOWN, of all messages) and `events` (of those that are events: the
            columns that are taken, and PLACE), a row for each batch.
        """
        return frame.mapInArrow(self._read, "known binary, events binary")

    def _read(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        decoder = Decoder(self.topic, self.schema)
        for batch in batches:
            if batch.num_rows:
                read = self.decode(decoder, batch)
                values = [pa.array([pack(t)], pa.binary()) for t in (read.known, read.events)]
                yield pa.RecordBatch.from_arrays(values, names=["known", "events"])

    def decode(self, decoder: Decoder, batch: pa.RecordBatch) -> "Decoded":
        """What messages are."""
        decoded = decoder.decode(batch.column("value").to_pylist())
        good = np.ones(batch.num_rows, dtype=np.bool_)
        good[[refused.index for refused in decoded.refused]] = False
        names = LOG_COLUMNS.names
        of_log = [*(batch.column(name) for name in PLACE), _times(batch.column("ingest_us"))]
        log = pa.Table.from_arrays(of_log, names=names).cast(LOG_COLUMNS)
        kept = log.filter(pa.array(good))
        hashes = hash_pairs(decoded.events.column("event_id"))
        time = decoded.events.column("event_time")
        never = pa.array(np.zeros(kept.num_rows, dtype=np.bool_))
        known = pa.Table.from_arrays(
            [*kept.columns, time, *map(pa.array, hashes), never], schema=KNOWN
        )
        left = log.filter(pa.array(~good))
        left = left.append_column(REFUSED, pa.array(np.ones(left.num_rows, dtype=np.bool_)))
        known = pa.concat_tables([known, left], promote_options="default").select(KNOWN.names)
        events = decoded.events.select(self.columns)
        for name in PLACE:
            events = events.append_column(name, kept.column(name))
        return Decoded(known, events, decoded.refused)


def _times(microseconds: pa.Array) -> pa.Array:
    return microseconds.view(pa.timestamp("us"))


def raw_messages(frame: "DataFrame", ingest: str) -> "DataFrame":
    """What is needed of the rows of Spark's Kafka source: partition, offset, value, time.

    Args:
        ingest: the header that holds "<microseconds>/<place in the append>"; messages without
            it have the broker's time.
    """
    from pyspark.sql import functions as f

    header = f"CAST(get(filter(headers, h -> h.key = '{ingest}'), 0).value AS STRING)"
    told = f"try_cast(nullif(regexp_extract({header}, {_HEADER}, 1), '') AS BIGINT)"
    return frame.select(
        *PLACE,
        "value",
        f.expr(f"coalesce({told}, unix_millis(timestamp) * 1000)").alias("ingest_us"),
    )
