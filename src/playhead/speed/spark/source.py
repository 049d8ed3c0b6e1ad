"""Events by Spark: read from Kafka, decoded, widened and made into states by a cluster's workers.

The driver decides what counts: it gets each event's place, the hash of its id and its time, and
tells the workers which ones repeat. What comes back are partial states, which are committed with
the offsets. So a micro-batch that Spark runs again, in whatever order, adds nothing twice: what
is before a topic's offsets is left out.
"""

import logging
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from playhead.engines import DuckDBEngine
from playhead.engines.packing import unpack_all
from playhead.engines.spark.plans import told
from playhead.errors import EngineError, StateError
from playhead.eventlog import event_offsets
from playhead.eventlog.kafka import KafkaEventLog
from playhead.eventlog.kafka.writing import INGEST
from playhead.speed.archive import Archiver
from playhead.speed.dimensions import DimensionTables
from playhead.speed.enrich import merged_lookups
from playhead.speed.read import check_ends
from playhead.speed.source import Intake, Source
from playhead.speed.spark.archive import SparkArchiver
from playhead.speed.spark.intake import Held, SparkIntake
from playhead.speed.spark.messages import KNOWN, PLACE, REFUSED, Messages, raw_messages
from playhead.speed.spark.options import EARLIEST, source_options
from playhead.speed.spark.partials import Carried, Sent, StatePlan, Worth
from playhead.speed.spark.stream import Batch, Stream
from playhead.speed.topic import LiveTopic

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

logger = logging.getLogger(__name__)

_WAIT_S = 0.5


@dataclass(frozen=True)
class _Plan:
    """How a topic's messages become events, and what the workers make states with."""

    place: str
    messages: Messages
    carried: Carried


@dataclass(eq=False)
class _Reading:
    """A topic that is read.

    Attributes:
        partitions: that its query knows.
        carried: what the workers have of its plan; None: they have to get it.
        worth: what became of its events.
    """

    stream: Stream
    partitions: frozenset[int]
    carried: Sent | None = None
    worth: Worth = field(default_factory=Worth)


class SparkSource(Source):
    """Takes events in by a streaming query for each topic.

    Args:
        session: makes the Spark session, or finds it.
        limit: of one topic in one micro-batch.
        scratch: a folder on the driver for what lasts as long as the queries.
    """

    def __init__(
        self,
        log: KafkaEventLog,
        session: "Callable[[], SparkSession]",
        *,
        trigger_ms: int,
        limit: int,
        scratch: Path,
    ) -> None:
        self._log = log
        self._session_of = session
        self._trigger_ms, self._limit, self._scratch = trigger_ms, limit, scratch
        self._plans: dict[str, _Plan] = {}
        self._readings: dict[str, _Reading] = {}
        self._ready: queue.Queue[Batch] = queue.Queue()
        self._label = ""
        self._engine = DuckDBEngine()

    @property
    def label(self) -> str:
        return self._label

    @property
    def _session(self) -> "SparkSession":
        return self._session_of()

    def archiver(self) -> Archiver:
        return SparkArchiver(self._log, lambda: self._session)

    def plan(self, topic: LiveTopic, dimensions: DimensionTables) -> None:
        known = self._log.catalog.topic(topic.name)
        lookups = merged_lookups([leaf for _, leaf in topic.leaves])
        keys = {event for lookup in lookups for event, _ in lookup.on}
        own = {c for _, leaf in topic.leaves for c in leaf.event_columns}
        columns = tuple(sorted(own | keys | {"event_time"}))
        messages = Messages(topic.name, known.schema, columns)
        carried = Carried(
            tuple(StatePlan.of(state, leaf) for state, leaf in topic.leaves),
            lookups,
            tuple(
                (windowed.view.name, windowed.sql("events"))
                for windowed in topic.windows
                if windowed.leaf.where is not None or windowed.window.fixed is None
            ),
            {k.dimension: dimensions.tables[k.dimension] for k in lookups},
        )
        self._plans[topic.name] = _Plan(known.place, messages, carried)
        self._forget(topic.name)
        reading = self._readings.get(topic.name)
        if reading is not None and reading.partitions != frozenset(topic.next):
            # The query knows other partitions: the next one starts with these.
            self._end(topic.name)

    @contextmanager
    def take(self, topics: Iterable[LiveTopic]) -> Iterator[Mapping[str, Intake]]:
        planned = {topic.name: topic for topic in topics}
        try:
            for topic in planned.values():
                if topic.name not in self._readings:
                    self._start(topic)
            batches = self._next()
            self._label = " ".join(f"{batch.stream.name}#{batch.number}" for batch in batches)
            with ExitStack() as held:
                intakes = {}
                for batch in batches:
                    topic = planned[batch.stream.topic]
                    intake = self._intake(batch, topic, held)
                    if intake is not None:
                        intakes[topic.name] = intake
                yield intakes
        except EngineError:
            self.stop()
            # Brokers that are away are waited for; anything else is told as it is.
            for name in planned:
                self._log.end_offsets(name)
            raise
        except BaseException:
            self.stop()
            raise
        for batch in batches:
            batch.done()

    def waits(self, topics: Iterable[LiveTopic]) -> bool:
        return any(
            self._holds_events(topic.name, partition, topic.next[partition], end)
            for topic in topics
            for partition, end in self._log.end_offsets(topic.name).items()
            if partition in topic.next
        )

    def _holds_events(self, topic: str, partition: int, offset: int, end: int) -> bool:
        """Whether some offset in [offset, end) holds an event: not all of them need to."""
        found = event_offsets(self._log, topic, partition, offset, end)
        return next(found, None) is not None

    def stop(self) -> None:
        for name in list(self._readings):
            self._end(name)

    # -- queries -------------------------------------------------------------------------

    def _start(self, topic: LiveTopic) -> None:
        ends = self._log.end_offsets(topic.name)
        check_ends(topic.name, topic.next, ends)
        place = self._plans[topic.name].place
        # A partition that is newer than the plan is left out until there is another one.
        starts = {partition: topic.next.get(partition, EARLIEST) for partition in ends}
        options = source_options(self._log.brokers, place, starts, limit=self._limit)
        # Cores beyond a topic's partitions take a share of each.
        cores = self._session.sparkContext.defaultParallelism
        options["minPartitions"] = str(max(cores, len(topic.next)))
        stream = Stream(
            self._session,
            topic.name,
            options,
            trigger_ms=self._trigger_ms,
            scratch=self._scratch,
            ready=self._ready,
        )
        self._readings[topic.name] = _Reading(stream, frozenset(topic.next))
        logger.info("Spark takes in %s from %s on", topic.name, topic.next)

    def _end(self, name: str) -> None:
        self._forget(name)
        self._readings.pop(name).stream.stop()

    def _forget(self, name: str) -> None:
        """Let the workers drop what they have of a topic's last plan."""
        reading = self._readings.get(name)
        if reading is not None and reading.carried is not None:
            reading.carried.broadcast.destroy()
            reading.carried = None

    def _next(self) -> list[Batch]:
        """The micro-batches that wait; of each topic one at most."""
        for reading in self._readings.values():
            reading.stream.check()
        found = []
        with suppress(queue.Empty):
            found.append(self._ready.get(timeout=_WAIT_S))
            while True:
                found.append(self._ready.get_nowait())
        running = {reading.stream for reading in self._readings.values()}
        return [batch for batch in found if batch.stream in running]

    # -- a micro-batch -------------------------------------------------------------------

    def _intake(self, batch: Batch, topic: LiveTopic, held: ExitStack) -> SparkIntake | None:
        """What is new of a topic; None if nothing is."""
        packed, rows = self._read(batch, topic, held)
        new = _after(rows, topic.next)
        good = new.filter(pc.invert(new.column(REFUSED)))
        if not good.num_rows:
            # Messages that are no events are left behind with the next one that is.
            return None
        after = _ends(new)
        for partition in after:
            self._check_gap(topic, partition, new)
        reading = self._readings[topic.name]
        if reading.carried is None:
            carried = self._session.sparkContext.broadcast(self._plans[topic.name].carried)
            reading.carried = Sent(topic.name, carried)
        there = Held(
            topic.name,
            dict(topic.leaves),
            packed,
            reading.carried,
            dict(topic.next),
            self._engine,
            reading.worth,
        )
        return SparkIntake(there, good, after)

    def _read(
        self, batch: Batch, topic: LiveTopic, held: ExitStack
    ) -> "tuple[DataFrame, pa.Table]":
        """The events of a micro-batch on the workers, and what the driver knows of them.

        Messages that the topic's fields do not fit are read again if it has others by now.
        """
        plan = self._plans[topic.name]
        packed, rows = self._packed(batch, plan.messages, held)
        if pc.any(rows.column(REFUSED)).as_py():
            schema = self._log.newest_schema(topic.name)
            if not schema.equals(plan.messages.schema):
                messages = replace(plan.messages, schema=schema)
                self._plans[topic.name] = replace(plan, messages=messages)
                packed, rows = self._packed(batch, messages, held)
        return packed, rows

    def _packed(
        self, batch: Batch, messages: Messages, held: ExitStack
    ) -> "tuple[DataFrame, pa.Table]":
        """The same, of one reading; what is on the workers stays until `held` ends."""
        packed = messages.read(raw_messages(batch.frame, INGEST)).persist()
        held.callback(packed.unpersist)
        with told(f"micro-batch of {messages.topic}"):
            known = packed.select("known").toArrow().column("known")
        rows = unpack_all(known) if len(known) else KNOWN.empty_table()
        return packed, rows.sort_by([(name, "ascending") for name in PLACE])

    def _check_gap(self, topic: LiveTopic, partition: int, new: pa.Table) -> None:
        """Refuse a micro-batch that leaves events out.

        Raises:
            StateError: there are events between what was taken in and what comes now.
        """
        of_partition = new.filter(pc.equal(new.column("partition"), partition))
        first, position = pc.min(of_partition.column("offset")).as_py(), topic.next[partition]
        if self._holds_events(topic.name, partition, position, first):
            raise StateError(
                f"topic {topic.name}, partition {partition}: Spark goes on at offset {first}, and "
                f"the events from {position} on are not taken in"
            )


def _after(rows: pa.Table, position: Mapping[int, int]) -> pa.Table:
    """The rows of known partitions from their next offsets on."""
    partitions = rows.column("partition").to_numpy()
    offsets = rows.column("offset").to_numpy()
    mask = np.zeros(rows.num_rows, dtype=np.bool_)
    for partition, at in position.items():
        mask |= (partitions == partition) & (offsets >= at)
    return rows if mask.all() else rows.filter(pa.array(mask))


def _ends(rows: pa.Table) -> dict[int, int]:
    """The offsets after the rows, by partition."""
    found = rows.group_by("partition").aggregate([("offset", "max")])
    pairs = zip(*(found.column(c).to_pylist() for c in ("partition", "offset_max")), strict=True)
    return {partition: offset + 1 for partition, offset in pairs}
