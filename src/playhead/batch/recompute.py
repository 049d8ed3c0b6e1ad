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

from playhead.batch.clean import rewritten_days
from playhead.errors import LakeConflictError
from playhead.lake import Lake, Partition, Snapshot
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


class _Inputs:
    """What a run computes from: cleaned topics and dimensions, each at one moment."""

    def __init__(self, lake: Lake, views: Iterable[View]) -> None:
        leaves = [leaf for view in views for leaf in view.leaves]
        self.events = {
            topic: lake.snapshot(clean_name(topic)) for topic in {x.topic for x in leaves}
        }
        names = {name for view in views for name in needed_dimensions(view)}
        self.dimensions: dict[str, Snapshot] = {}
        self.versions: dict[str, int] = {}
        for name in sorted(names):
            if lake.exists(dimension_name(name)):
                snapshot = lake.snapshot(dimension_name(name))
                if VERSION in snapshot.properties:
                    self.dimensions[name] = snapshot
                    self.versions[name] = int(snapshot.properties[VERSION])


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
            epoch: an epoch up to which the cleaned tables hold everything; what they hold
                beyond it is counted and covered, too.
            full: recompute every day, whether it changed or not.

        Raises:
            LakeConflictError: another batch run wrote the same states first.
        """
        views = list(views)
        inputs = _Inputs(self._lake, views)
        runs = []
        for view in views:
            run = self._view(view, inputs, epoch, full=full)
            runs.append(run)
            if on_view:
                on_view(run)
        self._drop_others(views)
        return runs

    def _view(self, view: View, inputs: _Inputs, epoch: int, *, full: bool) -> ViewRun:
        if missing := sorted(needed_dimensions(view) - set(inputs.versions)):
            return ViewRun(view.name, "waits", f"{', '.join(missing)} not loaded")
        done = [self._leaf(view, leaf, inputs, epoch, full=full) for leaf in view.leaves]
        made = [one for one in done if one is not None]
        return ViewRun(
            view.name,
            "recomputed" if made else "up to date",
            next((reason for _, _, reason in made if reason), ""),
            sum(days for days, _, _ in made),
            sum(rows for _, rows, _ in made),
        )

    # -- one state -----------------------------------------------------------------------

    def _leaf(
        self, view: View, leaf: Leaf, inputs: _Inputs, epoch: int, *, full: bool
    ) -> tuple[int, int, str] | None:
        """Bring one state up to date; (days, rows, why all days), or None if it was."""
        table, events = state_table(view, leaf), inputs.events[leaf.topic]
        self._create(table, leaf, inputs)
        was = StateCoverage.of(self._lake.properties(table))
        used = {k.dimension for k in leaf.lookups}
        now = StateCoverage(
            max(epoch, int(events.properties.get(EPOCH, 0))),
            int(events.properties.get(LOAD, 0)),
            {name: version for name, version in inputs.versions.items() if name in used},
        )
        reason = self._why_all(was, now, full=full)
        days = None if reason or was is None else self._changed(events, was)
        if was is not None and days == []:
            if was != now:
                self._cover(table, was, now)
            return None
        written, count = self._write(table, leaf, inputs, days, was, now)
        return count, written, reason

    def _create(self, table: str, leaf: Leaf, inputs: _Inputs) -> None:
        if self._lake.exists(table):
            return
        with _dimension_views(self._connection, leaf, inputs):
            query = self._partial(leaf, f"(FROM {inputs.events[leaf.topic].scan()} LIMIT 0)")
            schema = self._connection.execute(query).to_arrow_table().schema
        optional = pa.schema([pa.field(f.name, f.type) for f in schema])
        self._lake.create(
            table, optional, partition=Partition(BATCH_DAY, "month"), sort=(BATCH_DAY,)
        )

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

    def _changed(self, events: Snapshot, was: StateCoverage) -> list[date]:
        """Days with cleaned events of epochs or loads that the state does not cover, and days
        that lost an event to another day since.
        """
        scan = events.scan(columns=["event_time", "epoch", "load_id"])
        rows = self._connection.execute(
            f"SELECT DISTINCT CAST(event_time AS DATE) AS day FROM {scan} "
            f"WHERE epoch > {was.epoch} OR load_id > {was.load}"
        ).fetchall()
        lost = rewritten_days(events.properties, epoch=was.epoch, load=was.load)
        return sorted({day for (day,) in rows} | lost)

    def _cover(self, table: str, was: StateCoverage, now: StateCoverage) -> None:
        """Note that the state covers more, though none of its days changed."""
        nothing = f"SELECT CAST(NULL AS DATE) AS {BATCH_DAY} WHERE FALSE"
        written = self._lake.append(
            table, self._connection, nothing, properties=now.properties(), guard=_covers(was)
        )
        if written.skipped:
            raise _conflict(table)

    def _write(
        self,
        table: str,
        leaf: Leaf,
        inputs: _Inputs,
        days: list[date] | None,
        was: StateCoverage | None,
        now: StateCoverage,
    ) -> tuple[int, int]:
        """Write the states of `days` (None: all); (rows written, days recomputed)."""
        months = None if days is None else sorted({day.replace(day=1) for day in days})
        with _dimension_views(self._connection, leaf, inputs):
            fresh = self._partial(leaf, inputs.events[leaf.topic].scan(partitions=days))
            written = self._lake.overwrite(
                table,
                self._connection,
                fresh if days is None else self._with_other_days(table, fresh, days, months or ()),
                partitions=months,
                properties=now.properties(),
                guard=_covers(was),
            )
        if written.skipped:
            raise _conflict(table)
        return written.rows, len(days) if days is not None else self._count_days(table)

    def _count_days(self, table: str) -> int:
        scan = self._lake.scan(table, columns=[BATCH_DAY])
        found = self._connection.execute(
            f"SELECT COUNT(DISTINCT {BATCH_DAY}) FROM {scan}"
        ).fetchone()
        return int(found[0]) if found else 0

    def _with_other_days(
        self, table: str, fresh: str, days: Sequence[date], months: Sequence[date]
    ) -> str:
        """Fresh states of some days, and those of the other days of their months as they are."""
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


def needed_dimensions(view: View) -> set[str]:
    """Dimensions without which the view has no answer: of its lookups and of its last joins."""
    looked_up = {k.dimension for leaf in view.leaves for k in leaf.lookups}
    return looked_up | set(view.plans.dimensions)


def _covers(was: StateCoverage | None) -> Callable[[Mapping[str, str]], bool]:
    """The guard of a write that was computed from a table with this coverage."""
    return lambda properties: StateCoverage.of(properties) == was


def _conflict(table: str) -> LakeConflictError:
    return LakeConflictError(
        f"{table}: another batch run covered it first", hint="Run `playhead batch` again."
    )


class _dimension_views:  # noqa: N801 - reads as a word in `with`
    """Makes a leaf's dimensions readable by name in a session."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, leaf: Leaf, inputs: _Inputs) -> None:
        self._connection = connection
        self._scans = {k.dimension: inputs.dimensions[k.dimension].scan() for k in leaf.lookups}

    def __enter__(self) -> None:
        for name, scan in self._scans.items():
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {scan}")

    def __exit__(self, *_: object) -> None:
        for name in self._scans:
            self._connection.execute(f"DROP VIEW {name}")
