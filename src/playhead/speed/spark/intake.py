"""What the driver knows of a micro-batch, and what the workers make of the events that count."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.engines import DuckDBEngine
from playhead.engines.packing import unpack
from playhead.engines.spark.plans import told
from playhead.speed.compact import events_part, joined
from playhead.speed.enrich import Lookups
from playhead.speed.records import Encoded, Part, Touched
from playhead.speed.source import Intake, Kept
from playhead.speed.spark.messages import FIRST, SECOND
from playhead.speed.spark.partials import (
    EVENTS,
    LOOKUPS,
    PIECES,
    STATES,
    WINDOWS,
    Partials,
    Sent,
    Worth,
    places,
)
from playhead.speed.windows import WindowedView, count_before
from playhead.views.leaf import Leaf

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_Pieces = dict[tuple[str, str], list[pa.Table]]


@dataclass(frozen=True)
class Held:
    """Events of a micro-batch on the workers, packed.

    Attributes:
        topic: for messages.
        leaves: by state.
        frame: with a column `events`.
        position: by partition: what is before these offsets was taken in earlier.
        engine: merges states on the driver.
        worth: learns what became of the events.
    """

    topic: str
    leaves: Mapping[str, Leaf]
    frame: "DataFrame"
    carried: Sent
    position: Mapping[int, int]
    engine: DuckDBEngine
    worth: Worth

    def pieces(self, repeats: npt.NDArray[np.int64]) -> _Pieces:
        """What the workers make of all but those that repeat others, by kind and name."""
        work = Partials(self.carried, self.position, repeats, self.worth.whole)
        with told(f"states of {self.topic}"):
            rows = self.frame.select("events").mapInArrow(work.make, PIECES).toArrow()
        found: _Pieces = defaultdict(list)
        columns = (rows.column(c) for c in ("kind", "name", "body"))
        for kind, name, body in zip(*columns, strict=True):
            found[kind.as_py(), name.as_py()].append(unpack(body))
        return found


class SparkIntake(Intake):
    """New events of a topic, of which the driver knows places, ids and times.

    Args:
        rows: of those that are new and events: what the driver knows (KNOWN).
        after: the next offsets, by partition.
    """

    def __init__(self, held: Held, rows: pa.Table, after: dict[int, int]) -> None:
        self.ids = (rows.column(FIRST).to_numpy(), rows.column(SECOND).to_numpy())
        self.arrival_us = rows.column("ingest_time").cast(pa.int64()).to_numpy()
        self.after = after
        self.lookups: tuple[Lookups, ...] = ()
        self.enrich_ms = None
        self.held = held
        self._rows = rows

    def keep(self, mask: npt.NDArray[np.bool_]) -> "SparkKept":
        times = self._rows.column("event_time").filter(pa.array(mask))
        partitions, offsets = (
            self._rows.column(c).to_numpy()[~mask] for c in ("partition", "offset")
        )
        return SparkKept(self, pa.table({"event_time": times}), places(partitions, offsets))


class SparkKept(Kept):
    """Events that count, on the workers.

    Args:
        times: their event times, as the driver knows them.
        repeats: places of those that do not count.
    """

    def __init__(
        self, intake: SparkIntake, times: pa.Table, repeats: npt.NDArray[np.int64]
    ) -> None:
        self._intake, self._times, self._repeats = intake, times, repeats

    @property
    def count(self) -> int:
        return int(self._times.num_rows)

    @property
    def newest(self) -> datetime | None:
        found: datetime | None = pc.max(self._times.column("event_time")).as_py()
        return found

    def late(self, watermark: datetime | None) -> int:
        return count_before(self._times, watermark)

    def parts(self, states: Sequence[str]) -> list[Part | Encoded]:
        held, found = self._intake.held, list[Part | Encoded]()
        for (kind, name), tables in self._pieces.items():
            if kind == EVENTS:
                found.append(events_part(tuple(name.split()), joined(tables)))
            elif kind == STATES:
                held.worth.note(name, sum(table.num_rows for table in tables), self.count)
                found += self._states(name, [table for table in tables if table.num_rows])
        held.worth.passed()
        return found

    def _states(self, state: str, made: Sequence[pa.Table]) -> list[Part]:
        """A part of what workers have made of one state, whose keys may overlap."""
        if not made:
            return []
        held, times_us = self._intake.held, self._times_us
        whole = made[0] if len(made) == 1 else held.engine.merge(held.leaves[state], made)
        first, last = (int(times_us.min()), int(times_us.max())) if len(times_us) else (None, None)
        return [Part((state,), whole, "states", first, last)]

    def touched(
        self,
        connection: duckdb.DuckDBPyConnection,
        windowed: WindowedView,
        watermark: datetime | None,
    ) -> list[Touched]:
        times_us = self._times_us
        found = windowed.touched_by(connection, times_us, watermark) if len(times_us) else None
        if found is not None:
            return found
        counts: dict[datetime, int] = defaultdict(int)
        for rows in self._pieces.get((WINDOWS, windowed.view.name), ()):
            for start, events in zip(*(rows.column(c).to_pylist() for c in "wn"), strict=True):
                counts[start] += events
        return windowed.told(list(counts.items()), watermark)

    @cached_property
    def _times_us(self) -> npt.NDArray[np.int64]:
        known = self._times.column("event_time").drop_null()
        times: npt.NDArray[np.int64] = known.cast(pa.int64()).to_numpy()
        return times

    @cached_property
    def _pieces(self) -> _Pieces:
        """What the workers make of the events, by one job."""
        found = self._intake.held.pieces(self._repeats)
        self._intake.lookups = _added(found.pop((LOOKUPS, ""), ()))
        return found


def _added(found: Sequence[pa.Table]) -> tuple[Lookups, ...]:
    """How keys fared, over all workers; each tells of the same lookups in the same order."""
    told = [[Lookups(**row) for row in rows.to_pylist()] for rows in found]
    return tuple(
        Lookups(same[0].dimension, sum(x.asked for x in same), sum(x.found for x in same))
        for same in zip(*told, strict=True)
    )
