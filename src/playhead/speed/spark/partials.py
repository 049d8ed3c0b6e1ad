"""Partial states on the workers: each makes those of the events that it holds.

States merge, so workers need not exchange a single event: each runs the leaves' partial plans
over its own, by the engine that it has in its own process. That is why a micro-batch needs no
shuffle. Where a plan would not make events fewer, they stay events, as in one process.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.engines import DuckDBEngine, connect_worker
from playhead.engines.packing import pack, unpack
from playhead.errors import EngineError
from playhead.speed.coding import Coder
from playhead.speed.compact import WORTH
from playhead.speed.enrich import Enricher
from playhead.views.leaf import Leaf
from playhead.views.rows import Lookup

if TYPE_CHECKING:
    from pyspark import Broadcast

logger = logging.getLogger(__name__)

STATES, EVENTS, WINDOWS, LOOKUPS = "states", "events", "windows", "lookups"
"""What a piece holds: states; events of the wide topic for states that are named; windows that
events fall into; how keys fared in dimensions."""

PIECES = "kind string, name string, rows bigint, body binary"
_SCHEMA = pa.schema(
    [("kind", pa.string()), ("name", pa.string()), ("rows", pa.int64()), ("body", pa.binary())]
)
_OFFSET_BITS = 48
_MEASURE_AGAIN = 16


@dataclass(frozen=True)
class StatePlan:
    """How a state is made of events.

    Attributes:
        sql: the leaf's partial plan, over `events`.
        columns: of the topic, that it reads.
    """

    state: str
    sql: str
    columns: tuple[str, ...]

    @classmethod
    def of(cls, state: str, leaf: Leaf) -> "StatePlan":
        """The plan of a leaf, which no process can send to another itself."""
        return cls(state, leaf.partial(), leaf.event_columns)


@dataclass(frozen=True)
class Carried:
    """What stays the same for many micro-batches of a topic.

    Attributes:
        states: of the topic.
        lookups: of all states together.
        windows: (view, SELECT over `events`) of windows that event times alone do not tell.
        dimensions: whole tables, by name.
    """

    states: tuple[StatePlan, ...]
    lookups: tuple[Lookup, ...]
    windows: tuple[tuple[str, str], ...]
    dimensions: Mapping[str, pa.Table]


class Prepared:
    """What a worker's process makes of what is carried.

    Attributes:
        coder: codes columns of few values, and keeps what it finds of them.
        enricher: has the dimensions, indexed.
    """

    def __init__(self, carried: Carried) -> None:
        self.states, self.windows = carried.states, carried.windows
        self.coder = Coder()
        self.enricher = Enricher(carried.lookups, carried.dimensions)


@dataclass(frozen=True)
class Sent:
    """What is carried, as tasks get it; each worker's process prepares it once.

    A process drops a broadcast with the first task that does not name it, which is the next
    micro-batch's first one. So what was made of it is kept apart, until another comes.

    Attributes:
        key: tells it from all others.
    """

    topic: str
    broadcast: "Broadcast[Carried]"
    key: str = field(default_factory=lambda: uuid4().hex)

    def prepared(self) -> Prepared:
        """What this process made of it, or makes of it now."""
        if _PREPARED.get(self.topic, ("",))[0] != self.key:
            # The one before goes first: both may be more than a worker's memory.
            _PREPARED.pop(self.topic, None)
            _PREPARED[self.topic] = (self.key, Prepared(self.broadcast.value))
        return _PREPARED[self.topic][1]


_PREPARED: dict[str, tuple[str, Prepared]] = {}
"""By topic: of a worker's process, which runs one task at a time."""


@dataclass(frozen=True)
class Partials:
    """Makes pieces of packed events; sent to the workers.

    Attributes:
        position: by partition: events before these offsets were taken in earlier.
        repeats: places of events that repeat others, as `places` has them.
        whole: states for which events stay as they are; see `Worth`.
    """

    carried: Sent
    position: Mapping[int, int]
    repeats: npt.NDArray[np.int64]
    whole: frozenset[str] = frozenset()

    def make(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """PIECES of batches that have a column `events`."""
        for batch in batches:
            for body in batch.column("events"):
                events = self._counting(unpack(body))
                if events.num_rows:
                    yield from self._pieces(events)

    def _counting(self, events: pa.Table) -> pa.Table:
        partitions, offsets = (events.column(c).to_numpy() for c in ("partition", "offset"))
        mask = np.zeros(len(offsets), dtype=np.bool_)
        for partition, at in self.position.items():
            mask |= (partitions == partition) & (offsets >= at)
        if len(self.repeats):
            mask &= ~np.isin(places(partitions, offsets), self.repeats)
        return events if mask.all() else events.filter(pa.array(mask))

    def _pieces(self, events: pa.Table) -> Iterator[pa.RecordBatch]:
        carried, engine = self.carried.prepared(), _engine()
        enricher = carried.enricher
        wide = enricher.widen(events)
        whole = []
        for plan in carried.states:
            if plan.state not in self.whole:
                try:
                    made = engine.run(plan.sql, {"events": wide}, f"partial of {plan.state}")
                    yield _piece(STATES, plan.state, made)
                    continue
                except EngineError:
                    # It stops no other view: its readers meet these events, and tell of them.
                    logger.debug("%s cannot be made here", plan.state, exc_info=True)
            whole.append(plan)
        if whole:
            own = dict.fromkeys(column for plan in whole for column in plan.columns)
            names = dict.fromkeys((*own, *enricher.columns, "event_time"))
            kept = carried.coder.code(wide.select(list(names)))
            yield _piece(EVENTS, " ".join(plan.state for plan in whole), kept)
        for view, sql in carried.windows:
            yield _piece(WINDOWS, view, engine.run(sql, {"events": wide}, f"windows of {view}"))
        found = enricher.lookups(wide)
        if found:
            yield _piece(LOOKUPS, "", pa.Table.from_pylist([vars(one) for one in found]))


class Worth:
    """Which states are worth making before they are stored, by what became of the last events.

    Where a state has about as many rows as it had events, those events cost less: one body is
    there for all such states, and is aggregated once, when it is read or compacted.
    """

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    @property
    def whole(self) -> frozenset[str]:
        """States for which events stay as they are."""
        return frozenset(state for state, batches in self._left.items() if batches)

    def note(self, state: str, rows: int, events: int) -> None:
        """Tell what the workers have made of some events."""
        self._left[state] = _MEASURE_AGAIN if rows > WORTH * events else 0

    def passed(self) -> None:
        """Note that a micro-batch was made; states that were left are tried again after some."""
        self._left = {state: max(left - 1, 0) for state, left in self._left.items()}


def places(
    partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Places as one number each, shape (n,)."""
    found: npt.NDArray[np.int64] = (partitions.astype(np.int64) << _OFFSET_BITS) | offsets
    return found


@lru_cache(1)
def _engine() -> DuckDBEngine:
    return DuckDBEngine(connect_worker(Path(tempfile.gettempdir()) / "playhead-spill"))


def _piece(kind: str, name: str, rows: pa.Table) -> pa.RecordBatch:
    values: Sequence[object] = (kind, name, rows.num_rows, pack(rows))
    arrays = [pa.array([value], field.type) for value, field in zip(values, _SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
