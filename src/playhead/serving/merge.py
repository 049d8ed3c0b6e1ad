"""Where batch and speed meet: a view's states of both layers, as one SQL query."""

import hashlib
import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from playhead import __version__
from playhead.batch.recompute import StateCoverage, needed_dimensions, state_table
from playhead.contracts import DIMENSIONS
from playhead.errors import CoverageError
from playhead.eventlog import EventLog
from playhead.lake import Lake, Snapshot
from playhead.lake.tables import dimension_name, raw_name
from playhead.serving.coverage import BATCH, Coverage, InLake, Repeats, check_coverage
from playhead.serving.follow import Follower
from playhead.serving.overlap import OverlapCounter
from playhead.serving.sources import Source, Span, merged_states
from playhead.speed.dimensions import dimension_versions
from playhead.speed.records import Active, StateView
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.binder import quote
from playhead.views.leaf import Leaf
from playhead.views.naming import state_name
from playhead.views.relations import known_relations

EPOCH, LOAD = "playhead.epoch", "playhead.load"


@dataclass(frozen=True)
class _Batch:
    """The batch layer's side of one state: its coverage (None: never built) and its rows."""

    coverage: StateCoverage | None
    snapshot: Snapshot | None


@dataclass(frozen=True)
class Basis:
    """What a view's answer is made of at one moment.

    Attributes:
        coverage: of each of its states.
        dimensions: those that the plan above the states reads; None: never loaded.
    """

    view: View
    coverage: tuple[Coverage, ...]
    sources: tuple[Source, ...]
    dimensions: Mapping[str, Snapshot | None]

    @property
    def identity(self) -> Hashable:
        """The same for the same answer."""
        states = tuple(
            (s.name, s.batch and s.batch.id, tuple(block.number for block in s.blocks), s.within)
            for s in self.sources
        )
        joined = tuple((name, d and d.id) for name, d in self.dimensions.items())
        return (self.view.name, states, joined, repr(self.coverage))

    @property
    def mark(self) -> str:
        """The same for the same answer in any process; for whole answers only."""
        states = [
            (s.name, _id(s.batch), [(b.number, b.epoch, b.crc32) for b in s.blocks])
            for s in self.sources
        ]
        joined = {name: _id(d) for name, d in self.dimensions.items()}
        return _mark(self.view, self.coverage, states, joined)


class Merger:
    """Makes the merged answer of views readable in a DuckDB session.

    States of the speed layer are registered in the session as Arrow tables; those of the batch
    layer are read from Parquet, so that predicates on keys and windows reach both.

    Args:
        follower: keeps the views that are asked for again and again.
    """

    def __init__(self, lake: Lake, log: EventLog, state: StateStore, follower: Follower) -> None:
        self._lake = lake
        self._state = state
        self._overlaps = OverlapCounter(lake, log, state)
        self._follower = follower

    def basis(
        self, connection: duckdb.DuckDBPyConnection, view: View, *, within: Span | None = None
    ) -> Basis:
        """What the view's answer is made of as of now.

        Args:
            within: leave out windows that lie elsewhere, where no other depends on them; which
                spares reading their states.

        Raises:
            CoverageError: batch and speed leave a gap, or overlap; a dimension is not loaded.
        """
        versions = dimension_versions(self._lake, needed_dimensions(view))
        sources, coverage = [], []
        for leaf in view.leaves:
            name = state_name(view, leaf)
            span = within if view.windows_apart else None
            first_us, last_us = None, None
            if span is not None and leaf.window is not None:
                first_us, last_us = span.events(leaf.window).bounds_us
            # The speed layer's side first: what is pruned after that is in the batch states.
            head, blocks = self._state.snapshot(
                name, leaf.topic, first_us=first_us, last_us=last_us
            )
            batch = self._batch(view, leaf)
            covered = self._covered(connection, view, leaf, head, batch, versions)
            coverage.append(covered)
            kept = tuple(b for b in blocks if b.epoch > covered.batch_epoch)
            followed = (head.since_block, head.newest)
            sources.append(Source(leaf, name, batch.snapshot, kept, span, *followed))
        dimensions = {name: self._dimension(name) for name in view.plans.dimensions_above}
        return Basis(view, tuple(coverage), tuple(sources), dimensions)

    def mark(
        self, connection: duckdb.DuckDBPyConnection, view: View, *, cheaply: bool = False
    ) -> str:
        """The mark of the view's whole answer as of now; reads no states.

        Args:
            cheaply: count no events that an epoch and a load both hold.

        Raises:
            CoverageError: it has no exact answer now, or these would have to be counted first.
        """
        versions = dimension_versions(self._lake, needed_dimensions(view))
        states, coverage = [], []
        for leaf in view.leaves:
            name = state_name(view, leaf)
            head, blocks = self._state.marks(name, leaf.topic)
            batch = self._batch(view, leaf)
            covered = self._covered(connection, view, leaf, head, batch, versions, cheaply=cheaply)
            coverage.append(covered)
            kept = [block for block in blocks if block[1] > covered.batch_epoch]
            states.append((name, _id(batch.snapshot), kept))
        joined = {name: _id(self._dimension(name)) for name in view.plans.dimensions_above}
        return _mark(view, coverage, states, joined)

    def sql(self, connection: duckdb.DuckDBPyConnection, basis: Basis) -> str:
        """The query that answers the view, over what is made readable in the session given.

        Windows outside of the stretch that the basis was made for may be among its rows.
        """
        plan, states = basis.view.plans.final, []
        groups = None
        if len(basis.sources) == 1:
            groups = self._follower.follow(connection, basis.view, *basis.sources)
        if groups is not None:
            plan, states = groups.final, [groups.readable(connection)]
        else:
            states = [
                f"{s.leaf.name} AS (\n{merged_states(connection, s)}\n)" for s in basis.sources
            ]
        joined = [_readable(connection, name, d) for name, d in basis.dimensions.items()]
        ctes = ",\n".join([*states, *joined])
        return f"WITH {ctes}\nFROM (\n{plan}\n)"

    def coverage(self, connection: duckdb.DuckDBPyConnection, view: View) -> tuple[Coverage, ...]:
        """What the view's answer would be made of; raises as `merged` does."""
        versions = dimension_versions(self._lake, needed_dimensions(view))
        found = []
        for leaf in view.leaves:
            head = self._state.head(state_name(view, leaf), leaf.topic)
            batch = self._batch(view, leaf)
            found.append(self._covered(connection, view, leaf, head, batch, versions))
        return tuple(found)

    def _batch(self, view: View, leaf: Leaf) -> _Batch:
        table = state_table(view, leaf)
        if not self._lake.exists(table):
            return _Batch(None, None)
        snapshot = self._lake.snapshot(table)
        return _Batch(StateCoverage.of(snapshot.properties), snapshot)

    def _covered(
        self,
        connection: duckdb.DuckDBPyConnection,
        view: View,
        leaf: Leaf,
        head: StateView,
        batch: _Batch,
        versions: Mapping[str, int],
        *,
        cheaply: bool = False,
    ) -> Coverage:
        lake = self._in_lake(leaf.topic)
        if (lake.load or lake.epoch or head.active) and needed_dimensions(view) - set(versions):
            raise _waits(view, needed_dimensions(view) - set(versions))
        covered = check_coverage(
            view.name,
            leaf.topic,
            batch.coverage,
            head,
            lake,
            self._repeats(connection, view, leaf.topic, cheaply=cheaply),
        )
        made = [(epoch, label) for epoch, label in head.made if epoch > covered.epoch]
        labels = [json.loads(label) for label in dict.fromkeys(label for _, label in made)]
        if batch.coverage is not None:
            labels.append(covered.dimensions)
        used = {k.dimension for k in leaf.lookups}
        return Coverage(
            view.name,
            leaf.topic,
            covered.epoch,
            covered.load,
            tuple(dict.fromkeys(epoch for epoch, _ in made)),
            covered.dimensions,
            mixed=any(label.get(name) != versions.get(name) for label in labels for name in used),
        )

    def _repeats(
        self, connection: duckdb.DuckDBPyConnection, view: View, topic: str, *, cheaply: bool
    ) -> Repeats:
        def counted(active: Active, load: int) -> int:
            if not cheaply:
                return self._overlaps.count(connection, topic, active, load)
            known = self._overlaps.known(topic, active, load)
            if known is None:
                raise CoverageError(
                    f"view {view.name}: nobody has counted yet which events of {topic} are in "
                    f"epoch {active.epoch} and in load {load}, too",
                    hint="Ask for the view's answer.",
                )
            return known

        return counted

    def _in_lake(self, topic: str) -> InLake:
        if not self._lake.exists(raw_name(topic)):
            return InLake()
        properties = self._lake.properties(raw_name(topic))
        return InLake(int(properties.get(EPOCH, 0)), int(properties.get(LOAD, 0)))

    def _dimension(self, name: str) -> Snapshot | None:
        if not self._lake.exists(dimension_name(name)):
            return None
        return self._lake.snapshot(dimension_name(name))


def _id(snapshot: Snapshot | None) -> int | None:
    return None if snapshot is None else snapshot.id


def _mark(
    view: View,
    coverage: Sequence[Coverage],
    states: Sequence[tuple[str, int | None, Sequence[tuple[int, int, int]]]],
    dimensions: Mapping[str, int | None],
) -> str:
    """A digest of what an answer is made of.

    Snapshots of the lake have ids of their own for ever. Blocks are numbered anew in a state that
    was restored or rebuilt, so their checksums tell them apart.
    """
    parts = [vars(one) | {"dimensions": dict(one.dimensions)} for one in coverage]
    told = [__version__, view.name, view.hash, parts, states, dimensions]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _readable(connection: duckdb.DuckDBPyConnection, name: str, dimension: Snapshot | None) -> str:
    """A dimension as a CTE; without rows if it was never loaded, and so without events."""
    if dimension is not None:
        return f"{quote(name)} AS (FROM {dimension.scan()})"
    connection.register(f"{name}__none", known_relations()[name].schema.empty_table())
    return f"{quote(name)} AS (FROM {quote(f'{name}__none')})"


def _waits(view: View, missing: Collection[str]) -> CoverageError:
    files = sorted(str(DIMENSIONS[name].file) for name in missing if name in DIMENSIONS)
    load = f"Put {' and '.join(f'{file}.csv' for file in files)} into a folder, run `playhead load"
    return CoverageError(
        f"view {view.name} waits for {' and '.join(sorted(missing))}: not loaded",
        hint=f"{load} FOLDER`, then `playhead batch`." if files else BATCH,
    )
