"""States computed by Spark: events are read, widened, grouped and written by its executors."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cached_property, partial
from typing import TYPE_CHECKING

import pyarrow as pa

from playhead.batch.base import StateEngine
from playhead.batch.buckets import bucket_sql
from playhead.batch.reading import Reading
from playhead.batch.widening import EVENT_DAY, Widening
from playhead.engines.spark import SparkPlans
from playhead.engines.spark.plans import told
from playhead.errors import EngineError
from playhead.lake import Draft, Snapshot
from playhead.lake.elsewhere import RowWriter
from playhead.lake.frames import SnapshotFrames, typed_columns
from playhead.views.leaf import Leaf

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SparkStates", "write_frame"]

logger = logging.getLogger(__name__)

_EVENTS, _PARTITION = "batch_events", "table__partition"
_RAISED = re.compile(r"^(?:playhead\.errors\.)\w+: (.+)$", re.MULTILINE)
_COUNTED = f"SELECT CAST(event_time AS DATE) AS day, COUNT(*) AS events FROM {_EVENTS} GROUP BY ALL"


class SparkStates(StateEngine):
    """Computes on Spark's executors; the driver sees plans, and what manifests have to know.

    Args:
        session: gives the session when there is something to compute; called once.
    """

    name = "spark"

    def __init__(self, session: "Callable[[], SparkSession]") -> None:
        self._open = session

    @cached_property
    def _plans(self) -> SparkPlans:
        return SparkPlans(self._open())

    @cached_property
    def _frames(self) -> SnapshotFrames:
        return SnapshotFrames(self._plans.session)

    def days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        what = f"days of {events.name}"
        counted = self._plans.run(_COUNTED, {_EVENTS: self._read(events, reading)}, {}, what)
        with told(what):
            return {row.day: row.events for row in counted.collect()}

    def compute(
        self,
        events: Snapshot,
        reading: Reading,
        days: Mapping[date, int],
        widening: Widening,
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, Draft]],
    ) -> None:
        names = {lookup.dimension for lookup in widening.lookups}
        relations = {name: self._frames.frame(dimensions[name]) for name in sorted(names)}
        relations[_EVENTS] = self._read(events, reading)
        wide = self._plans.run(widening.sql(_EVENTS), relations, {}, f"events of {events.name}")
        if len(leaves) > 1:
            wide = wide.persist()
        try:
            for leaf, draft in leaves:
                state = self._plans.partial(leaf, wide, extra=bucket_sql(leaf, EVENT_DAY))
                write_frame(state, draft)
        finally:
            wide.unpersist()

    def _read(self, events: Snapshot, reading: Reading) -> "DataFrame":
        """The events to be read, by conditions that let Spark pass over files."""
        condition = reading.condition
        if reading.after is not None:
            epoch, load = reading.after
            condition = f"(epoch > {epoch} OR load_id > {load}) AND ({condition})"
        frame = self._frames.frame(reading.of(events))
        sql = f"SELECT * FROM {_EVENTS} WHERE {condition}"
        return self._plans.run(sql, {_EVENTS: frame}, {}, f"events of {events.name}")


def write_frame(frame: "DataFrame", draft: Draft) -> None:
    """Add the rows of a DataFrame to a draft: each task writes files of its own, in table order.

    A task that is repeated, or overtaken by another one of the same rows, counts once: the driver
    takes the files of the one that Spark takes.

    Raises:
        EngineError: Spark failed, or its workers' Python lacks Playhead.
        LakeError: a column that the table lacks.
    """
    from pyspark.sql import functions as f

    layout = draft.layout
    rows = frame.select(*typed_columns(frame, layout.columns, layout.name))
    order = [f.col(name).asc_nulls_last() for name in layout.sort]
    if layout.partition is not None:
        cut = f.date_trunc(layout.partition.unit, f.col(layout.partition.column))
        # Rows of one partition come together, unless they are many.
        rows = rows.withColumn(_PARTITION, cut).hint("rebalance", _PARTITION)
        order = [f.col(_PARTITION).asc(), *order]
    if order:
        rows = rows.sortWithinPartitions(*order)

    def run(writer: RowWriter) -> list[bytes]:
        written = rows.mapInArrow(partial(_write, writer), "files binary")
        with _told_by_tasks(f"writing {layout.name}"):
            return [bytes(row.files) for row in written.collect()]

    draft.add_elsewhere(run)
    logger.debug("%s: %d rows in %d new files", layout.name, draft.rows, len(draft.files))


@contextmanager
def _told_by_tasks(what: str) -> Iterator[None]:
    """As `told`, with what was raised in the Python of Spark's workers."""
    try:
        with told(what):
            yield
    except EngineError as error:
        text = str(error.__cause__)
        if "No module named 'playhead" in text:
            raise EngineError(
                f"{what}: the Python of Spark's workers has no Playhead",
                hint="Rows are written where they are: give the workers the same packages, or an "
                "environment that has them by spark.pyspark.python.",
            ) from error.__cause__
        if found := _RAISED.search(text):
            raise EngineError(f"{what}: {found[1]}") from error.__cause__
        raise


def _write(writer: RowWriter, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A task's part of the work."""
    yield pa.RecordBatch.from_pydict({"files": pa.array([writer.write(batches)], pa.binary())})
