"""The batch layer: every view's states, by day, recomputed from the cleaned events in the lake.

A state table holds one row per day, group and tag, in partitions of a month. A run recomputes
the days that changed since the table's own coverage, and says in the same snapshot how far it
now reaches.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import duckdb
import pyarrow as pa

from playhead.errors import LakeConflictError
from playhead.lake import Lake, Partition
from playhead.lake.tables import clean_name, dimension_name
from playhead.views import View
from playhead.views.leaf import BATCH_DAY, Leaf
from playhead.views.naming import state_name
from playhead.views.rows import wide_sql

logger = logging.getLogger(__name__)

EPOCH = "playhead.epoch"
LOAD = "playhead.load"
DIMENSIONS = "playhead.dimensions"
VERSION = "playhead.version"
NEWEST = "playhead.newest"
NAMESPACE = "state"


@dataclass(frozen=True)
class StateCoverage:
    """What one state table covers: epochs and loads up to these, under these dimensions."""

    epoch: int = 0
    load: int = 0
    dimensions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> "StateCoverage | None":
        """The coverage that a table's properties tell; None before the first run."""
        if EPOCH not in properties:
            return None
        return cls(
            int(properties[EPOCH]),
            int(properties[LOAD]),
            json.loads(properties[DIMENSIONS]),
        )

    def properties(self) -> dict[str, str]:
        """The same as table properties."""
        return {
            EPOCH: str(self.epoch),
            LOAD: str(self.load),
            DIMENSIONS: json.dumps(dict(self.dimensions), sort_keys=True),
        }


@dataclass(frozen=True)
class ViewRun:
    """What a batch run did for one view.

    Attributes:
        status: "recomputed", "up to date", or "waits" for dimensions that are not loaded.
        reason: why all days were recomputed, or what the view waits for; else empty.
        days: days recomputed, over all states of the view.
        rows: state rows written.
    """

    view: str
    status: str
    reason: str = ""
    days: int = 0
    rows: int = 0


def state_table(view: View, leaf: Leaf) -> str:
    """The lake table of one state."""
    return f"{NAMESPACE}.{state_name(view, leaf)}"


class Recomputer:
    """Brings state tables up to date with the cleaned tables, which have to exist.

    Args:
        connection: a DuckDB session of its own; spills to disk when states outgrow memory.
    """

    def __init__(self, lake: Lake, connection: duckdb.DuckDBPyConnection) -> None:
        self._lake = lake
        self._connection = connection

    def run(
        self,
        views: Iterable[View],
        *,
        epoch: int,
        full: bool = False,
        on_view: Callable[[ViewRun], None] | None = None,
    ) -> list[ViewRun]:
        """Recompute what changed.

        Args:
            views: views to bring up to date; tables of others (and of older texts) are dropped.
            epoch: the last epoch that the cleaned tables hold completely.
            full: recompute every day, whether it changed or not.
        """
        views = list(views)
        runs = []
        for view in views:
            run = self._view(view, epoch, full=full)
            runs.append(run)
            if on_view:
                on_view(run)
        self._drop_others(views)
        return runs

    def _view(self, view: View, epoch: int, *, full: bool) -> ViewRun:
        needed = {k.dimension for leaf in view.leaves for k in leaf.lookups}
        needed |= {d for d in view.plans.dimensions}
        versions = self._versions(needed)
        if missing := sorted(needed - set(versions)):
            return ViewRun(view.name, "waits", f"{', '.join(missing)} not loaded")
        days, rows, reason, touched = 0, 0, "", False
        for leaf in view.leaves:
            done = self._leaf(view, leaf, epoch, versions, full=full)
            if done is not None:
                touched = True
                days, rows, reason = days + done[0], rows + done[1], reason or done[2]
        status = "recomputed" if touched else "up to date"
        return ViewRun(view.name, status, reason, days, rows)

    def _versions(self, dimensions: Iterable[str]) -> dict[str, int]:
        found = {}
        for name in dimensions:
            if self._lake.exists(dimension_name(name)):
                properties = self._lake.properties(dimension_name(name))
                if VERSION in properties:
                    found[name] = int(properties[VERSION])
        return found

    # -- one state -----------------------------------------------------------------------

    def _leaf(
        self, view: View, leaf: Leaf, epoch: int, versions: Mapping[str, int], *, full: bool
    ) -> tuple[int, int, str] | None:
        """Bring one state up to date; (days, rows, why all days), or None if it was."""
        table = state_table(view, leaf)
        self._create(table, leaf)
        was = StateCoverage.of(self._lake.properties(table))
        used = {k.dimension for k in leaf.lookups}
        now = StateCoverage(
            epoch, self._loaded(leaf.topic), {n: v for n, v in versions.items() if n in used}
        )
        reason = self._why_all(was, now, full=full)
        days = None if reason or was is None else self._changed(leaf.topic, was)
        if days is not None and not days:
            if was != now:
                self._lake.set_properties(table, now.properties())
            return None
        written, count = self._write(table, leaf, days, was, now)
        return count, written, reason

    def _create(self, table: str, leaf: Leaf) -> None:
        with _dimension_views(self._lake, self._connection, leaf):
            query = self._partial(leaf, f"(FROM {self._lake.scan(clean_name(leaf.topic))} LIMIT 0)")
            schema = self._connection.execute(query).to_arrow_table().schema
        optional = pa.schema([pa.field(f.name, f.type) for f in schema])
        self._lake.create(table, optional, partition=Partition(BATCH_DAY, "month"), sort=(BATCH_DAY,))

    def _partial(self, leaf: Leaf, source: str) -> str:
        """The leaf's partial plan over a relation of cleaned events, by day."""
        columns = tuple(dict.fromkeys([*leaf.event_columns, "event_time"]))
        wide = wide_sql(leaf.topic, columns, leaf.lookups, source=source)
        return leaf.partial(source=f"({wide})", extra="CAST(event_time AS DATE)")

    def _why_all(self, was: StateCoverage | None, now: StateCoverage, *, full: bool) -> str:
        """Why every day has to be recomputed; empty if only changed days have to."""
        if was is None:
            return "new or changed view"
        changed = [n for n, v in now.dimensions.items() if was.dimensions.get(n) != v]
        if changed:
            return f"{', '.join(sorted(changed))} changed"
        return "asked for" if full else ""

    def _loaded(self, topic: str) -> int:
        return int(self._lake.properties(clean_name(topic)).get(LOAD, 0))

    def _changed(self, topic: str, was: StateCoverage) -> list[date]:
        """Days with cleaned events of epochs or loads that the state does not cover."""
        scan = self._lake.scan(clean_name(topic), columns=["event_time", "epoch", "load_id"])
        rows = self._connection.execute(
            f"SELECT DISTINCT CAST(event_time AS DATE) AS day FROM {scan} "
            f"WHERE epoch > {was.epoch} OR load_id > {was.load} ORDER BY day"
        ).fetchall()
        return [day for (day,) in rows]

    def _write(
        self,
        table: str,
        leaf: Leaf,
        days: list[date] | None,
        was: StateCoverage | None,
        now: StateCoverage,
    ) -> tuple[int, int]:
        """Write the states of `days` (None: all); (rows written, days recomputed)."""

        def unchanged(properties: Mapping[str, str]) -> bool:
            return StateCoverage.of(properties) == was

        months = None if days is None else sorted({day.replace(day=1) for day in days})
        with _dimension_views(self._lake, self._connection, leaf):
            written = self._lake.overwrite(
                table,
                self._connection,
                self._query(table, leaf, days, months),
                partitions=months,
                properties=now.properties(),
                guard=unchanged,
            )
        if written.skipped:
            raise LakeConflictError(
                f"{table}: another batch run covered it first", hint="Run `playhead batch` again."
            )
        return written.rows, len(days) if days is not None else self._count_days(table)

    def _count_days(self, table: str) -> int:
        found = self._connection.execute(
            f"SELECT COUNT(DISTINCT {BATCH_DAY}) FROM "
            f"{self._lake.scan(table, columns=[BATCH_DAY])}"
        ).fetchone()
        return int(found[0]) if found else 0

    def _query(
        self, table: str, leaf: Leaf, days: list[date] | None, months: Sequence[date] | None
    ) -> str:
        snapshot = self._lake.snapshot(clean_name(leaf.topic))
        fresh = self._partial(leaf, snapshot.scan(partitions=days))
        if days is None:
            return fresh
        marks = ", ".join(f"DATE '{day}'" for day in days)
        kept = f"FROM {self._lake.scan(table, partitions=months)} "
        kept += f"WHERE {BATCH_DAY} NOT IN ({marks})"
        return f"(SELECT * {kept}) UNION ALL BY NAME ({fresh})"

    def _drop_others(self, views: Sequence[View]) -> None:
        """Drop the states of views that are gone or have another text now."""
        wanted = {state_table(view, leaf) for view in views for leaf in view.leaves}
        for table in self._lake.tables(NAMESPACE):
            if table not in wanted:
                logger.info("dropping %s: no view keeps it", table)
                self._lake.drop(table)


class _dimension_views:  # noqa: N801 - reads as a word in `with`
    """Makes a leaf's dimensions readable by name in a session."""

    def __init__(
        self,
        lake: Lake,
        connection: duckdb.DuckDBPyConnection,
        leaf: Leaf,
        *,
        empty_ok: bool = False,
    ) -> None:
        self._lake, self._connection = lake, connection
        self._names = sorted({k.dimension for k in leaf.lookups})

    def __enter__(self) -> None:
        for name in self._names:
            scan = self._lake.scan(dimension_name(name))
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {scan}")

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            self._connection.execute(f"DROP VIEW {name}")
