"""Where batch and speed meet: a view's states of both layers, as one SQL query."""

from dataclasses import dataclass

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from playhead.batch.recompute import StateCoverage, state_table
from playhead.lake import Lake
from playhead.lake.tables import dimension_name, raw_name
from playhead.serving.coverage import Coverage, check_coverage
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.binder import quote
from playhead.views.leaf import Leaf
from playhead.views.naming import state_name

LOAD = "playhead.load"


@dataclass(frozen=True)
class Merged:
    """A view made readable in a session: the query that answers it, and what it is made of."""

    sql: str
    coverage: tuple[Coverage, ...]


class Merger:
    """Makes the merged answer of views readable in a DuckDB session.

    States of the speed layer are registered in the session as Arrow tables; those of the batch
    layer are read from Parquet, so that predicates on keys and windows reach both.
    """

    def __init__(
        self, lake: Lake, state: StateStore, connection: duckdb.DuckDBPyConnection
    ) -> None:
        self._lake = lake
        self._state = state
        self._connection = connection

    def merged(self, view: View) -> Merged:
        """The view's answer as of now.

        Raises:
            CoverageError: batch and speed leave a gap, or overlap.
        """
        states, coverage = [], []
        for leaf in view.leaves:
            source, covered = self._parts(view, leaf)
            states.append(f"{leaf.name} AS (\n{leaf.merge(source=source)}\n)")
            coverage.append(covered)
        dimensions = [self._dimension(name) for name in self._dimensions(view)]
        ctes = ",\n".join([*states, *dimensions])
        return Merged(f"WITH {ctes}\nFROM (\n{view.plans.final}\n)", tuple(coverage))

    def _parts(self, view: View, leaf: Leaf) -> tuple[str, Coverage]:
        """Name of the relation that holds the leaf's states of both layers."""
        name = state_name(view, leaf)
        speed = self._state.snapshot(name, leaf.topic)
        table = state_table(view, leaf)
        batch, scan = None, None
        if self._lake.exists(table):
            snapshot = self._lake.snapshot(table)
            batch = StateCoverage.of(snapshot.properties)
            scan = snapshot.scan(columns=leaf.state_columns) if snapshot.files else None
        coverage = check_coverage(view.name, leaf.topic, batch, speed, self._loaded(leaf.topic))
        blocks = [b for e, _, b in speed.blocks if e > coverage.batch_epoch]
        self._register(leaf, name, scan, blocks)
        return name, coverage

    def _register(self, leaf: Leaf, name: str, scan: str | None, blocks: list[pa.Table]) -> None:
        columns = ", ".join(
            f"CAST({quote(c)} AS {leaf.types[c]}) AS {quote(c)}" for c in leaf.state_columns
        )
        sources = []
        if scan is not None:
            sources.append(f"SELECT {columns} FROM {scan}")
        if blocks:
            self._connection.register(f"{name}__speed", pa.concat_tables(blocks))
            sources.append(f"SELECT {columns} FROM {quote(f'{name}__speed')}")
        if not sources:
            nulls = ", ".join(
                f"CAST(NULL AS {leaf.types[c]}) AS {quote(c)}" for c in leaf.state_columns
            )
            sources.append(f"SELECT {nulls} WHERE FALSE")
        body = " UNION ALL ".join(sources)
        self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS {body}")

    def _loaded(self, topic: str) -> int:
        if not self._lake.exists(raw_name(topic)):
            return 0
        return int(self._lake.properties(raw_name(topic)).get(LOAD, 0))

    def _dimensions(self, view: View) -> list[str]:
        """Dimensions that the plan above the states reads."""
        tree = sqlglot.parse_one(view.plans.final, dialect="duckdb")
        named = {table.name for table in tree.find_all(exp.Table)}
        return [name for name in view.plans.dimensions if name in named]

    def _dimension(self, name: str) -> str:
        return f"{quote(name)} AS (FROM {self._lake.scan(dimension_name(name))})"

