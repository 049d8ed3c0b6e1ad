"""A batch run's work divided among processes: states by files, then merged by buckets.

Each process makes the states of the events in some of the files, and cuts them by bucket; then
one process merges what belongs together and writes it. Nothing but states goes from one to another.
"""

import tempfile
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.batch.base import StateEngine
from playhead.batch.buckets import bucket_of
from playhead.batch.reading import Reading
from playhead.batch.states import DuckDBStates, StateMaker, StatePlan
from playhead.batch.widening import Widening
from playhead.engines import DuckDBEngine, connect_worker
from playhead.engines.packing import pack, unpack
from playhead.lake import Draft, Snapshot
from playhead.lake.elsewhere import RowWriter, SentSnapshot
from playhead.lake.parquet import typed_sql
from playhead.lake.snapshot import LakeFile
from playhead.views.binder import quote
from playhead.views.leaf import BATCH_DAY, Leaf

__all__ = ["Place", "Share", "SharedReading", "SharedStateEngine", "SharedStates", "shares"]

MIN_ROWS, MAX_ROWS = 250_000, 2_000_000
"""Rows of a share: fewer are not worth a process's while, more take half a gigabyte."""

MERGED_EVENTS = 16_000_000
"""Events of a bucket whose states are merged at once."""

MERGED_BYTES = 32 << 20
"""States, packed, that a process collects before it merges and writes them."""

Share = tuple[LakeFile, ...]


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


def shares(events: Snapshot, processes: int) -> list[Share]:
    """The files of a snapshot divided: those of one time come together, as far as names tell.

    Args:
        processes: that will work at the same time.
    """
    limit = min(max(-(-events.rows // max(processes, 1)), MIN_ROWS), MAX_ROWS)
    found: list[list[LakeFile]] = []
    held = 0
    for file in sorted(events.files, key=lambda f: (f.partition or date.min, f.path)):
        if not found or held + file.rows > limit:
            found.append([])
            held = 0
        found[-1].append(file)
        held += file.rows
    return [tuple(files) for files in found]


@dataclass(frozen=True)
class SharedReading:
    """Reads shares of a topic's cleaned events; can be pickled.

    Attributes:
        events: without files.
    """

    events: SentSnapshot
    reading: Reading

    @classmethod
    def of(cls, events: Snapshot, reading: Reading) -> "SharedReading":
        """What reads the events of a cleaned table."""
        return cls(SentSnapshot.of(replace(events, files=())), reading)

    def days(self, share: Share) -> dict[date, int]:
        """How many events to be read each day has in a share, if any."""
        with _session() as (connection, folder):
            return DuckDBStates(connection).days(self.open(share, folder), self.reading)

    def open(self, share: Share, folder: Path) -> Snapshot:
        """A share as a snapshot of this process; the folder is for copies."""
        return replace(self.events, files=share).open(folder)


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
        with _session() as (connection, folder):
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
        with _session() as (connection, _):
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
    """Divides the work among processes; how they are reached is up to the engine."""

    @abstractmethod
    def processes(self) -> int:
        """How many work at the same time."""

    @abstractmethod
    def gather(
        self, work: Callable[[Share], dict[date, int]], divided: Sequence[Share], what: str
    ) -> Iterable[dict[date, int]]:
        """What the work gives for each share.

        Args:
            what: for messages, such as "days of clean.playback".

        Raises:
            PlayheadError: the very kind that was raised where the work is done, or EngineError.
        """

    @abstractmethod
    def exchange(
        self, work: SharedStates, divided: Sequence[Share], what: str
    ) -> Iterable[tuple[int, bytes]]:
        """What `work.merged` gives for all that `work.partials` makes, each place's together.

        Raises:
            PlayheadError: as for `gather`.
        """

    def days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        source, divided = SharedReading.of(events, reading), self._divided(events, reading)
        found: Counter[date] = Counter()
        for days in self.gather(source.days, divided, f"days of {events.name}"):
            found.update(days)
        return dict(found)

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
            divided = self._divided(events, reading)
            for leaf, files in self.exchange(work, divided, f"states of {events.name}"):
                drafts[leaf][1].append(files)

    def _divided(self, events: Snapshot, reading: Reading) -> list[Share]:
        return shares(reading.of(events), self.processes())


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
        order = np.argsort(places, kind="stable")
        states, places = states.take(pa.array(order)), places[order]
        for start, stop in _runs(places):
            day, part = divmod(int(places[start]), 1 << _PART_BITS)
            self.found.append(
                (Place(self._leaf, day, part), pack(states.slice(start, stop - start)))
            )

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


def _runs(places: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Start and stop of every run of equal places."""
    if len(places):
        cuts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
        yield from pairwise(cuts)


@contextmanager
def _session() -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A session of this process, and a folder for copies of files."""
    with tempfile.TemporaryDirectory(prefix="playhead-share-") as name:
        folder = Path(name)
        connection = connect_worker(folder / "spill")
        try:
            yield connection, folder / "copies"
        finally:
            connection.close()
