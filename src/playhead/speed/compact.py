"""Compaction, beside the triggers: events become states where that makes them fewer.

A trigger only appends what it took in. Here small blocks of events are joined to larger ones;
events of a state are aggregated if there are then at most half as many rows, as far as a sample
tells; states are merged level by level. What does not shrink stays as events: readers aggregate
the few that they ask for.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from playhead.engines import DuckDBEngine
from playhead.errors import EngineError, PlayheadError
from playhead.speed.records import Group, Part
from playhead.speed.state import StateStore
from playhead.views.leaf import Leaf

logger = logging.getLogger(__name__)

FAN_IN = 16
"""Blocks of one level that are joined to one of the next, while their epoch is open."""

WORTH = 0.5
"""Events are aggregated where at most this share of their rows is left."""

_SAMPLE_ROWS = 1 << 17
_GROUP_ROWS = 4_000_000
_MEASURE_AGAIN = 8


@dataclass(frozen=True)
class Reduction:
    """What aggregating makes of rows: `groups` of `rows`, as a sample showed."""

    rows: int
    groups: int

    def at(self, rows: int) -> float:
        """The share of `rows` rows that would be left, 0 to 1.

        Of K equally likely groups, n rows are expected to meet K * (1 - exp(-n / K)) (the
        coupon collector's occupancy); K is the one that explains the sample.
        """
        if not 0 < self.groups < self.rows:
            return min(self.groups, 1.0)
        low, high = float(self.groups), float(self.rows) ** 2
        for _ in range(64):
            middle = math.sqrt(low * high)
            met = -middle * math.expm1(-self.rows / middle)
            low, high = (middle, high) if met < self.groups else (low, middle)
        return -high * math.expm1(-rows / high) / rows


class Compactor:
    """Merges blocks where enough of them have come together; when an epoch is closed, all of it.

    A merged block takes the place of its parts in one transaction, and only if all of them are
    still there. So it may run beside triggers and batch runs, and be killed at any moment.

    Args:
        connection: a DuckDB session of its own.

    Attributes:
        leaves: (state name, leaf) of the states to compact.
    """

    def __init__(
        self,
        state: StateStore,
        connection: duckdb.DuckDBPyConnection,
        *,
        fan_in: int = FAN_IN,
        sample_rows: int = _SAMPLE_ROWS,
    ) -> None:
        self._state = state
        self._engine = DuckDBEngine(connection)
        self._fan_in = fan_in
        self._sample_rows = sample_rows
        self._reductions: dict[str, Reduction] = {}
        self._failing: set[str] = set()
        self.leaves: Sequence[tuple[str, Leaf]] = ()

    def compact(self, newest: int | None = None) -> int:
        """Merge what can be merged now; how many blocks were made.

        Args:
            newest: leave out what micro-batches have added after the block of this number. A
                reader that has followed so far then finds what is new to it as it came.
        """
        if newest is None:
            newest = self._state.newest_block()
        made = self._join_events(newest)
        for name, leaf in self.leaves:
            try:
                made += self._aggregate(name, leaf, newest)
                made += self._merge(name, leaf, newest)
            except EngineError as error:
                # Events that one view cannot compute are no reason to let the others grow.
                if name not in self._failing:
                    logger.warning("%s stays as it is: %s", name, error)
                self._failing.add(name)
        return made

    def newest_block(self) -> int:
        """The highest number that a block was ever given."""
        return self._state.newest_block()

    def _join_events(self, newest: int) -> int:
        made = 0
        for crowd in self._state.crowds(fan_in=self._fan_in, newest=newest):
            tables = self._state.crowded(crowd)
            if len(tables) == len(crowd.bodies):
                made += self._state.put_together(crowd, events_part(crowd.states, joined(tables)))
        return made

    def _aggregate(self, name: str, leaf: Leaf, newest: int) -> int:
        made = 0
        for group in self._state.groups(
            name, "events", fan_in=1, limit_rows=_GROUP_ROWS, newest=newest
        ):
            enough = group.closed or group.rows >= self._sample_rows
            if not enough or not self._worth(name, leaf, group):
                continue
            tables = self._state.tables(group.blocks)
            if len(tables) < len(group.blocks):
                continue
            events = joined(tables)
            states = self._engine.partial(leaf, events)
            self._reductions[name] = Reduction(events.num_rows, states.num_rows)
            if states.num_rows <= WORTH * events.num_rows:
                part = events_part((name,), events)
                made += self._state.replace(
                    group, Part((name,), states, "states", part.first_us, part.last_us)
                )
        return made

    def _worth(self, name: str, leaf: Leaf, group: Group) -> bool:
        """Whether aggregating the group is expected to leave half of its rows or fewer."""
        known = self._reductions.get(name)
        if known is None or known.rows * _MEASURE_AGAIN <= group.rows:
            tables = self._state.tables(group.blocks[:1])
            sample = tables[0].slice(0, self._sample_rows) if tables else pa.table({})
            if not sample.num_rows:
                return False
            known = Reduction(sample.num_rows, self._engine.partial(leaf, sample).num_rows)
            self._reductions[name] = known
        return known.at(group.rows) <= WORTH

    def _merge(self, name: str, leaf: Leaf, newest: int) -> int:
        made = 0
        for group in self._state.groups(
            name, "states", fan_in=self._fan_in, limit_rows=_GROUP_ROWS, newest=newest
        ):
            tables = self._state.tables(group.blocks)
            if len(tables) < len(group.blocks):
                continue
            merged = self._engine.merge(leaf, tables)
            first_us, last_us = self._state.times(group.blocks)
            made += self._state.replace(group, Part((name,), merged, "states", first_us, last_us))
            logger.debug("%s: %d blocks of epoch %d merged", name, len(tables), group.epoch)
        return made


def events_part(states: tuple[str, ...], events: pa.Table) -> Part:
    """Events of the wide topic as a part, with the range of their times."""
    times = pc.min_max(events.column("event_time").cast(pa.int64())).as_py()
    return Part(states, events, "events", times["min"], times["max"])


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Events of several blocks in one table: codes where all have them, else plain values."""
    if all(table.schema.equals(tables[0].schema) for table in tables):
        return pa.concat_tables(tables).unify_dictionaries()
    return pa.concat_tables([plain(table) for table in tables], promote_options="permissive")


def plain(table: pa.Table) -> pa.Table:
    """The same rows without codes."""
    kinds = [(f.name, f.type.value_type if _is_coded(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(kinds))


def _is_coded(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind))


class BackgroundCompactor:
    """A thread that compacts as long as the `with` block runs.

    It leaves alone what is younger than `settled`, so that readers that ask more often than
    that can follow what is added (see `compact`).

    Args:
        compactor: used by nobody else meanwhile.
        pause: between one round and the next.
    """

    def __init__(
        self,
        compactor: Compactor,
        pause: timedelta = timedelta(seconds=1),
        settled: timedelta = timedelta(seconds=10),
    ) -> None:
        self._compactor = compactor
        self._pause_s = pause.total_seconds()
        rounds = max(1, math.ceil(settled / pause))
        self._marks = deque([0] * rounds, maxlen=rounds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compaction", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            try:
                self._compactor.compact(self._marks[0])
                self._marks.append(self._compactor.newest_block())
            except PlayheadError as error:
                # Uncompacted state answers as well, only slower; the triggers will meet the
                # same trouble if it concerns them.
                logger.warning("compaction stops: %s", error)
                return
