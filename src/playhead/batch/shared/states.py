"""States made by several processes: each of the events in some files, then merged by buckets.

Each process makes the states of its events and cuts them by bucket; then one process merges what
belongs together and writes it. Nothing but states goes from one to another.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.batch.base import StateEngine
from playhead.batch.buckets import bucket_of
from playhead.batch.reading import Reading
from playhead.batch.shared.processes import Processes, Share, shares, worker
from playhead.batch.shared.reading import SharedReading, days_of
from playhead.batch.states import StateMaker, StatePlan
from playhead.batch.widening import Widening
from playhead.engines import DuckDBEngine
from playhead.engines.packing import pack, split, unpack
from playhead.lake import Draft, Snapshot
from playhead.lake.elsewhere import RowWriter, SentSnapshot
from playhead.lake.parquet import typed_sql
from playhead.views.binder import quote
from playhead.views.leaf import BATCH_DAY, Leaf

__all__ = ["Place", "SharedStateEngine", "SharedStates"]

MERGED_EVENTS = 16_000_000
"""Events of a bucket whose states are merged at once."""

MERGED_BYTES = 32 << 20
"""States, packed, that a process collects before it merges and writes them."""


class Place(NamedTuple):
    """What belongs together: states of a leaf, of a bucket, of some of its groups.

    Attributes:
        leaf: the place of the leaf's plan among the others.
        day: of the bucket, since 1970.
        part: of as many as the bucket is cut into.
    """

    leaf: int
    day: int
    part: int


@dataclass(frozen=True)
class SharedStates:
    """Makes states of shares, and merges and writes them; can be pickled.

    Attributes:
        dimensions: those that the leaves look up, by name.
        plans: of the leaves.
        parts: for each leaf: what the states of a bucket are cut into, if it is more than one.
        writers: of the leaves' tables.
    """

    source: SharedReading
    widening: Widening
    dimensions: Mapping[str, SentSnapshot]
    plans: tuple[StatePlan, ...]
    parts: tuple[Mapping[date, int], ...]
    writers: tuple[RowWriter, ...]

    @classmethod
    def of(
        cls,
        source: SharedReading,
        days: Mapping[date, int],
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, RowWriter]],
    ) -> "SharedStates":
        """The work for some leaves that are `alike`.

        Args:
            days: how many events each day has, over all shares.
            dimensions: at least those that the leaves look up, by name.
        """
        widening = Widening.of([leaf for leaf, _ in leaves])
        names = {lookup.dimension for lookup in widening.lookups}
        return cls(
            source,
            widening,
            {name: SentSnapshot.of(dimensions[name]) for name in sorted(names)},
            tuple(StatePlan.of(leaf) for leaf, _ in leaves),
            tuple(_parts(leaf, days) for leaf, _ in leaves),
            tuple(writer for _, writer in leaves),
        )

    def partials(self, share: Share) -> Iterator[tuple[Place, bytes]]:
        """The states of a share's events, packed, each with where it belongs."""
        with worker() as (connection, folder):
            events = self.source.open(share, folder)
            dimensions = {name: sent.open(folder) for name, sent in self.dimensions.items()}
            cuts = [
                _Cut(number, plan, self.writers[number], self.parts[number])
                for number, plan in enumerate(self.plans)
            ]
            scan = f"(FROM {events.scan()} WHERE {self.source.reading.condition})"
            with StateMaker(
                connection, self.widening, self.plans, dimensions, events.rows
            ) as states:
                states.add(scan, events.rows, cuts)
        for cut in cuts:
            yield from cut.found

    def merged(
        self, groups: Iterable[tuple[Place, Iterable[bytes]]]
    ) -> Iterator[tuple[int, bytes]]:
        """Write what belongs together, merged; a leaf's place, and what its writer told.

        Args:
            groups: all states of each place.
        """
        waiting: dict[int, list[list[bytes]]] = defaultdict(list)
        held = 0
        with worker() as (connection, _):
            for place, bodies in groups:
                waiting[place.leaf].append(list(bodies))
                held += sum(map(len, waiting[place.leaf][-1]))
                if held >= MERGED_BYTES:
                    yield from self._written(connection, waiting)
                    waiting.clear()
                    held = 0
            yield from self._written(connection, waiting)

    def _written(
        self, connection: duckdb.DuckDBPyConnection, waiting: Mapping[int, Sequence[list[bytes]]]
    ) -> Iterator[tuple[int, bytes]]:
        for leaf, places in waiting.items():
            tables = [unpack(body) for bodies in places for body in bodies]
            merge = any(len(bodies) > 1 for bodies in places)
            connection.register("states", pa.concat_tables(tables))
            query = self.plans[leaf].merge if merge else "FROM states"
            yield leaf, self.writers[leaf].run(connection, query)
            connection.unregister("states")


class SharedStateEngine(StateEngine):
    """Divides the work among processes; this one sees plans, and what manifests have to know."""

    def __init__(self, processes: Processes) -> None:
        self.name = processes.name
        self._processes = processes

    def days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        return days_of(self._processes, events, reading)

    def compute(
        self,
        events: Snapshot,
        reading: Reading,
        days: Mapping[date, int],
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, Draft]],
    ) -> None:
        with ExitStack() as stack:
            drafts = [stack.enter_context(draft.elsewhere()) for _, draft in leaves]
            writers = [(leaf, to) for (leaf, _), (to, _) in zip(leaves, drafts, strict=True)]
            source = SharedReading.of(events, reading)
            work = SharedStates.of(source, days, dimensions, writers)
            divided = shares(reading.of(events), self._processes.count())
            what = f"states of {events.name}"
            for leaf, files in self._processes.exchange(work, divided, what):
                drafts[leaf][1].append(files)


class _Cut:
    """Takes the states of one leaf and packs them, cut by where they belong."""

    def __init__(
        self, leaf: int, plan: StatePlan, writer: RowWriter, parts: Mapping[date, int]
    ) -> None:
        self.schema = writer.schema
        self.found: list[tuple[Place, bytes]] = []
        self._leaf, self._plan, self._layout = leaf, plan, writer.layout
        self._parts = {(day - date(1970, 1, 1)).days: count for day, count in parts.items()}

    def add(
        self,
        con: duckdb.DuckDBPyConnection,
        query: str | None,
        also: Sequence[Iterable[pa.RecordBatch]] = (),
    ) -> None:
        engine, what = DuckDBEngine(con), f"states of {self._plan.name}"
        tables = [pa.Table.from_batches(batches, self.schema) for batches in also]
        if query is not None:
            made = engine.run(typed_sql(self._layout, con, query), {}, what)
            tables.append(made.cast(self.schema))
        states = pa.concat_tables(tables)
        days = states.column(BATCH_DAY).cast(pa.int32()).to_numpy()
        places = days.astype(np.int64) << _PART_BITS
        if self._parts:
            keys = ", ".join(map(quote, self._plan.keys))
            hashed = engine.run(f"SELECT hash({keys}) AS h FROM states", {"states": states}, what)
            places += self._part_of(days, hashed.column("h").to_numpy())
        for place, rows in split(states, places):
            day, part = divmod(place, 1 << _PART_BITS)
            self.found.append((Place(self._leaf, day, part), pack(rows)))

    def _part_of(
        self, days: npt.NDArray[np.int32], hashes: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.int64]:
        found = np.zeros(len(days), dtype=np.int64)
        for day, count in self._parts.items():
            here = days == day
            found[here] = (hashes[here] % np.uint64(count)).astype(np.int64)
        return found


_PART_BITS = 20


def _parts(leaf: Leaf, days: Mapping[date, int]) -> dict[date, int]:
    """What the states of a leaf's buckets are cut into, where there are very many events."""
    if not StatePlan.of(leaf).keys:
        return {}
    events: dict[date, int] = defaultdict(int)
    for day, count in days.items():
        events[bucket_of(leaf, day)] += count
    counts = {bucket: -(-count // MERGED_EVENTS) for bucket, count in events.items()}
    return {bucket: count for bucket, count in counts.items() if count > 1}
