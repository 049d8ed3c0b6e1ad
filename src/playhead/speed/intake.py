"""Intake: new events of a topic read, widened and coded, the next ones while these are counted.

None of this depends on what was counted before, so it is done ahead, by threads of its own,
whenever more events wait in the event log than one micro-batch takes. They are even encoded as
if none of them repeats, which seldom has to be done again.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.eventlog import EventLog
from playhead.eventlog.keys import hash_pairs
from playhead.speed.coding import Coder
from playhead.speed.compact import events_part
from playhead.speed.enrich import Enricher, Lookups
from playhead.speed.read import arrival_us, read_new
from playhead.speed.records import Encoded, Part, Touched
from playhead.speed.source import Intake, Kept
from playhead.speed.windows import WindowedView, count_before


@dataclass(frozen=True)
class ArrowIntake(Intake):
    """New events of a topic, in this process's memory.

    Attributes:
        events: the wide topic's columns that some state needs, and event_time; n rows.
        encoded: the events as a part of the plan's states, if somebody encodes them ahead.
    """

    ids: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
    arrival_us: npt.NDArray[np.int64]
    after: dict[int, int]
    lookups: tuple[Lookups, ...]
    enrich_ms: float | None
    events: pa.Table
    encoded: Future[Encoded] | None = None

    def keep(self, mask: npt.NDArray[np.bool_]) -> "KeptEvents":
        if mask.all():
            return KeptEvents(self.events, self.encoded)
        return KeptEvents(self.events.filter(pa.array(mask)))


@dataclass(frozen=True)
class KeptEvents(Kept):
    """Events that count, in this process's memory."""

    events: pa.Table
    encoded: Future[Encoded] | None = None

    @property
    def count(self) -> int:
        return int(self.events.num_rows)

    @property
    def newest(self) -> datetime | None:
        if not self.events.num_rows:
            return None
        found: datetime | None = pc.max(self.events.column("event_time")).as_py()
        return found

    def late(self, watermark: datetime | None) -> int:
        return count_before(self.events, watermark)

    def parts(self, states: Sequence[str]) -> list[Part | Encoded]:
        if self.encoded is not None:
            return [self.encoded.result()]
        return [events_part(tuple(states), self.events)]

    def touched(
        self,
        connection: duckdb.DuckDBPyConnection,
        windowed: WindowedView,
        watermark: datetime | None,
    ) -> list[Touched]:
        return windowed.touched_in(connection, self.events, watermark)


@dataclass(frozen=True, eq=False)
class Plan:
    """How events of a topic become an intake.

    Attributes:
        read: columns to read from the event log.
        kept: of the wide topic, what states need.
        states: their names.
    """

    topic: str
    states: tuple[str, ...]
    read: tuple[str, ...]
    kept: tuple[str, ...]
    enricher: Enricher
    coder: Coder

    def take(
        self,
        log: EventLog,
        position: Mapping[int, int],
        limit: int,
        pool: ThreadPoolExecutor | None = None,
    ) -> ArrowIntake | None:
        """What is new from `position` on; None if nothing is.

        Args:
            pool: encodes the events beside the caller; None: nobody does.

        Raises:
            StateError: the event log ends before `position`.
        """
        events, after = read_new(log, self.topic, self.read, position, limit=limit)
        if not events.num_rows:
            return None
        began = time.perf_counter()
        enriched = self.enricher.widen(events)
        enrich_ms = (time.perf_counter() - began) * 1000
        wide = self.coder.code(enriched.select(self.kept))
        encoded = None
        if pool is not None and self.states:
            encoded = pool.submit(lambda: Encoded.of(events_part(self.states, wide)))
        return ArrowIntake(
            hash_pairs(events.column("event_id")),
            arrival_us(events),
            after,
            self.enricher.lookups(enriched),
            enrich_ms,
            wide,
            encoded,
        )


class Taker:
    """Takes in one topic, ahead of the one who asks while there is much.

    Args:
        pool: runs what is done ahead.
        limit: at most about this many events at once.
    """

    def __init__(self, log: EventLog, pool: ThreadPoolExecutor, *, limit: int) -> None:
        self._log, self._pool, self._limit = log, pool, limit
        self._ahead: tuple[Plan, dict[int, int], Future[ArrowIntake | None]] | None = None

    def take(self, plan: Plan, position: Mapping[int, int]) -> ArrowIntake | None:
        """What is new from `position` on; None if nothing is.

        Raises:
            StateError: the event log ends before `position`.
        """
        intake = self._next(plan, dict(position))
        if intake is not None and len(intake.arrival_us) * 2 > self._limit:
            then = {**position, **intake.after}
            future = self._pool.submit(plan.take, self._log, then, self._limit, self._pool)
            self._ahead = (plan, then, future)
        return intake

    def stop(self) -> None:
        """Read no further; what was read ahead goes unused."""
        if self._ahead is not None:
            _, _, future = self._ahead
            self._ahead = None
            future.cancel()
            wait([future])

    def _next(self, plan: Plan, position: dict[int, int]) -> ArrowIntake | None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            planned, expected, future = ahead
            if planned is plan and expected == position:
                # Nothing was new by then; a drain would end with events that have come since.
                return future.result() or plan.take(self._log, position, self._limit)
            # Read under other dimensions or from elsewhere: it goes unused, as does its failure.
            future.cancel()
        return plan.take(self._log, position, self._limit)
