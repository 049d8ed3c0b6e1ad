"""Where batch and speed meet: a view's states of both layers, as one SQL query."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from playhead.batch.recompute import StateCoverage, needed_dimensions, state_table
from playhead.contracts import DIMENSIONS
from playhead.errors import CoverageError
from playhead.eventlog import EventLog
from playhead.lake import Lake, Snapshot
from playhead.lake.tables import dimension_name, raw_name
from playhead.serving.coverage import BATCH, Coverage, InLake, check_coverage
from playhead.serving.overlap import OverlapCounter
from playhead.speed.dimensions import dimension_versions
from playhead.speed.records import StateView
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.binder import quote
from playhead.views.leaf import Leaf
from playhead.views.naming import state_name
from playhead.views.relations import known_relations

EPOCH, LOAD = "playhead.epoch", "playhead.load"


@dataclass(frozen=True)
class Merged:
    """A view made readable in a session: the query that answers it, and what it is made of."""

    sql: str
    coverage: tuple[Coverage, ...]


@dataclass(frozen=True)
class _Batch:
    """The batch layer's side of one state: its coverage (None: never built) and its rows."""

    coverage: StateCoverage | None
    snapshot: Snapshot | None


class Merger:
    """Makes the merged answer of views readable in a DuckDB session.

    States of the speed layer are registered in the session as Arrow tables; those of the batch
    layer are read from Parquet, so that predicates on keys and windows reach both.
    """

    def __init__(self, lake: Lake, log: EventLog, state: StateStore) -> None:
        self._lake = lake
        self._state = state
        self._overlaps = OverlapCounter(lake, log, state)

    def merged(self, connection: duckdb.DuckDBPyConnection, view: View) -> Merged:
        """The view's answer as of now, readable in the session given.

        Raises:
            CoverageError: batch and speed leave a gap, or overlap; a dimension is not loaded.
        """
        versions = dimension_versions(self._lake, needed_dimensions(view))
        states, coverage = [], []
        for leaf in view.leaves:
            name = state_name(view, leaf)
            # The speed layer's side first: what is pruned after that is in the batch states.
            head, blocks = self._state.snapshot(name, leaf.topic)
            batch = self._batch(view, leaf)
            covered = self._covered(connection, view, leaf, head, batch, versions)
            coverage.append(covered)
            kept = [b.states for b in blocks if b.epoch > covered.batch_epoch]
            _define(connection, leaf, name, batch.snapshot, kept)
            states.append(f"{leaf.name} AS (\n{leaf.merge(source=name)}\n)")
        dimensions = [self._dimension(connection, name) for name in _joined_last(view)]
        ctes = ",\n".join([*states, *dimensions])
        return Merged(f"WITH {ctes}\nFROM (\n{view.plans.final}\n)", tuple(coverage))

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
            lambda active, load: self._overlaps.count(connection, leaf.topic, active, load),
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

    def _in_lake(self, topic: str) -> InLake:
        if not self._lake.exists(raw_name(topic)):
            return InLake()
        properties = self._lake.properties(raw_name(topic))
        return InLake(int(properties.get(EPOCH, 0)), int(properties.get(LOAD, 0)))

    def _dimension(self, connection: duckdb.DuckDBPyConnection, name: str) -> str:
        """A dimension as it is now; without rows if it was never loaded, and so without events."""
        if self._lake.exists(dimension_name(name)):
            return f"{quote(name)} AS (FROM {self._lake.scan(dimension_name(name))})"
        connection.register(f"{name}__none", known_relations()[name].schema.empty_table())
        return f"{quote(name)} AS (FROM {quote(f'{name}__none')})"


def _define(
    connection: duckdb.DuckDBPyConnection,
    leaf: Leaf,
    name: str,
    batch: Snapshot | None,
    blocks: Sequence[pa.Table],
) -> None:
    """Make a leaf's states of both layers one relation."""
    columns = ", ".join(
        f"CAST({quote(c)} AS {leaf.types[c]}) AS {quote(c)}" for c in leaf.state_columns
    )
    sources = []
    if batch is not None and batch.files:
        sources.append(f"SELECT {columns} FROM {batch.scan(columns=leaf.state_columns)}")
    if blocks:
        connection.register(f"{name}__speed", pa.concat_tables(blocks))
        sources.append(f"SELECT {columns} FROM {quote(f'{name}__speed')}")
    if not sources:
        nulls = ", ".join(
            f"CAST(NULL AS {leaf.types[c]}) AS {quote(c)}" for c in leaf.state_columns
        )
        sources.append(f"SELECT {nulls} WHERE FALSE")
    body = " UNION ALL ".join(sources)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS {body}")


def _waits(view: View, missing: Collection[str]) -> CoverageError:
    files = sorted(DIMENSIONS[name].file for name in missing if name in DIMENSIONS)
    load = f"Put {' and '.join(f'{file}.csv' for file in files)} into a folder, run `playhead load"
    return CoverageError(
        f"view {view.name} waits for {' and '.join(sorted(missing))}: not loaded",
        hint=f"{load} FOLDER`, then `playhead batch`." if files else BATCH,
    )


def _joined_last(view: View) -> list[str]:
    """Dimensions that the plan above the states reads."""
    tree = sqlglot.parse_one(view.plans.final, dialect="duckdb")
    named = {table.name for table in tree.find_all(exp.Table)}
    return [name for name in view.plans.dimensions if name in named]
