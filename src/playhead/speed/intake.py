"""Intake: new events of a topic read, widened and coded, the next ones while these are counted.

None of this depends on what was counted before, so it is done ahead, by threads of its own,
whenever more events wait in the event log than one micro-batch takes. They are even encoded as
if none of them repeats, which seldom has to be done again.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.eventlog import EventLog
from playhead.eventlog.keys import hash_pairs
from playhead.speed.coding import Coder
from playhead.speed.compact import events_part
from playhead.speed.enrich import Enricher, Lookups
from playhead.speed.read import arrival_us, read_new
from playhead.speed.records import Encoded, Part


@dataclass(frozen=True)
class Intake:
    """New events of a topic.

    Attributes:
        ids: both halves of the hashes of their ids, shape (n,) each.
        arrival_us: when each came into the log, microseconds since 1970, shape (n,).
        events: the wide topic's columns that some state needs, and event_time; n rows.
        after: the next offsets, by partition.
        encoded: the events as a part of the plan's states, if somebody encodes them ahead.
        lookups: how their keys fared in the dimensions.
        enrich_ms: how long looking them up took.
    """

    ids: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]
    arrival_us: npt.NDArray[np.int64]
    events: pa.Table
    after: dict[int, int]
    encoded: Future[Encoded] | None = None
    lookups: tuple[Lookups, ...] = ()
    enrich_ms: float = 0.0

    def part(self, states: tuple[str, ...], kept: pa.Table) -> Part | Encoded:
        """What counts for some states: all events, or those of them that are kept."""
        if self.encoded is not None and kept is self.events:
            return self.encoded.result()
        return events_part(states, kept)


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
    ) -> Intake | None:
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
        return Intake(
            hash_pairs(events.column("event_id")),
            arrival_us(events),
            wide,
            after,
            encoded,
            self.enricher.lookups(enriched),
            enrich_ms,
        )


class Taker:
    """Takes in one topic, ahead of the one who asks while there is much.

    Args:
        pool: runs what is done ahead.
        limit: at most about this many events at once.
    """

    def __init__(self, log: EventLog, pool: ThreadPoolExecutor, *, limit: int) -> None:
        self._log, self._pool, self._limit = log, pool, limit
        self._ahead: tuple[Plan, dict[int, int], Future[Intake | None]] | None = None

    def take(self, plan: Plan, position: Mapping[int, int]) -> Intake | None:
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

    def _next(self, plan: Plan, position: dict[int, int]) -> Intake | None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            planned, expected, future = ahead
            if planned is plan and expected == position:
                # Nothing was new by then; a drain would end with events that have come since.
                return future.result() or plan.take(self._log, position, self._limit)
            # Read under other dimensions or from elsewhere: it goes unused, as does its failure.
            future.cancel()
        return plan.take(self._log, position, self._limit)
