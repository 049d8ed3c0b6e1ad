"""The batch layer: every view's states, computed from the cleaned events in the lake.

A state table holds rows per bucket of history, group and tag; several rows of one group are
merged when they are read. A run adds the states of events that the table does not cover, makes
buckets anew that lost an event or gathered many small files, and says in the same snapshot how
far the table now reaches. States that need the same events are computed from one reading of them.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date

import duckdb

from playhead.batch.base import StateEngine
from playhead.batch.buckets import bucket_of
from playhead.batch.clean import rewritten_days
from playhead.batch.reading import Reading
from playhead.batch.states import DuckDBStates, state_schema
from playhead.batch.widening import alike
from playhead.errors import LakeConflictError
from playhead.lake import Draft, Lake, Partition, Snapshot
from playhead.lake.tables import clean_name, dimension_name
from playhead.views import View
from playhead.views.leaf import BATCH_DAY, Leaf
from playhead.views.naming import state_name

logger = logging.getLogger(__name__)

EPOCH = "playhead.epoch"
LOAD = "playhead.load"
DIMENSIONS = "playhead.dimensions"
VERSION = "playhead.version"
NAMESPACE = "state"

_SMALL_FILE_BYTES = 1 << 20
_SMALL_FILES = 16


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

    def is_behind(self, other: "StateCoverage") -> bool:
        """Whether the other one knows of an epoch, a load or a dimension that this one does not."""
        newer = (other.dimensions.get(n, 0) > version for n, version in self.dimensions.items())
        return self.epoch < other.epoch or self.load < other.load or any(newer)

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
        days: days whose events were read, over all states of the view.
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


@dataclass(frozen=True)
class _Task:
    """What is to be done for one state.

    Attributes:
        was, now: the table's coverage before and after; None before the first run.
        reason: why all of history is read; else empty.
        buckets: those to make anew, if some are; then new events of other buckets are in them.
    """

    view: View
    leaf: Leaf
    was: StateCoverage | None
    now: StateCoverage
    reason: str = ""
    buckets: tuple[date, ...] = ()

    @property
    def table(self) -> str:
        return state_table(self.view, self.leaf)

    @property
    def replaced(self) -> tuple[date, ...] | None:
        """The partitions that the new rows replace (a bucket is in that of its first day)."""
        return None if self.reason else self.buckets

    @property
    def reads(self) -> Reading:
        """The events to compute from."""
        if self.reason or self.was is None:
            return Reading(self.leaf.topic)
        if self.buckets:
            return Reading.of_buckets(self.leaf, self.buckets)
        return Reading.uncovered(self.leaf.topic, self.was.epoch, self.was.load)


class Recomputer:
    """Brings state tables up to date with the cleaned tables, which have to exist.

    Args:
        connection: a DuckDB session of its own; spills to disk when states outgrow memory.
        engine: what computes states; None: this connection.
    """

    def __init__(
        self,
        lake: Lake,
        connection: duckdb.DuckDBPyConnection,
        engine: StateEngine | None = None,
    ) -> None:
        self._lake = lake
        self._connection = connection
        self._engine = engine or DuckDBStates(connection)
        self._counted: dict[tuple[str, int | None, tuple[str, ...]], dict[date, int]] = {}

    def run(
        self,
        views: Iterable[View],
        *,
        epoch: int,
        full: bool = False,
        on_view: Callable[[ViewRun], None] | None = None,
    ) -> list[ViewRun]:
        """Compute what changed.

        Args:
            views: views to bring up to date; tables of others (and of older texts) are dropped.
            epoch: an epoch up to which the cleaned tables hold everything; what they hold
                beyond it is counted and covered, too.
            full: make every state anew, whether it changed or not.

        Raises:
            LakeConflictError: another batch run wrote the same states first.
        """
        views = list(views)
        inputs = _Inputs(self._lake, views)
        missing = {v.name: sorted(needed_dimensions(v) - set(inputs.versions)) for v in views}
        tasks = [
            task
            for view in views
            if not missing[view.name]
            for leaf in view.leaves
            if (task := self._plan(view, leaf, inputs, epoch, full=full)) is not None
        ]
        done = {task.table: made for task, made in self._compute_all(tasks, inputs)}
        reasons = {task.table: task.reason for task in tasks}
        runs = [_view_run(view, missing[view.name], done, reasons) for view in views]
        for run in runs:
            if on_view:
                on_view(run)
        self._drop_others(views)
        return runs

    # -- what there is to do -------------------------------------------------------------

    def _plan(
        self, view: View, leaf: Leaf, inputs: _Inputs, epoch: int, *, full: bool
    ) -> _Task | None:
        """What brings one state up to date; None if it is, but for its coverage."""
        table, events = state_table(view, leaf), inputs.events[leaf.topic]
        self._create(table, leaf, inputs)
        was = StateCoverage.of(self._lake.properties(table))
        used = {k.dimension for k in leaf.lookups}
        now = StateCoverage(
            max(epoch, int(events.properties.get(EPOCH, 0))),
            int(events.properties.get(LOAD, 0)),
            {name: version for name, version in inputs.versions.items() if name in used},
        )
        if was is not None and now.is_behind(was):
            self._check_current(table, events, was, now)
            now = replace(now, epoch=max(now.epoch, was.epoch))
        reason = self._why_all(was, now, full=full)
        if reason or was is None:
            return _Task(view, leaf, was, now, reason)
        new = self._changed(events, was) if self._has_more(events, was) else []
        lost = rewritten_days(events.properties, epoch=was.epoch, load=was.load)
        if not new and not lost:
            if was != now:
                self._cover(table, was, now)
            return None
        touched = sorted({bucket_of(leaf, day) for day in lost.union(new)})
        anew = bool(lost) or self._is_scattered(table, touched)
        return _Task(view, leaf, was, now, buckets=tuple(touched) if anew else ())

    def _create(self, table: str, leaf: Leaf, inputs: _Inputs) -> None:
        if self._lake.exists(table):
            return
        events = inputs.events[leaf.topic]
        schema = state_schema(self._connection, leaf, events, inputs.dimensions)
        self._lake.create(table, schema, partition=Partition(BATCH_DAY, "month"), sort=(BATCH_DAY,))

    def _check_current(
        self, table: str, events: Snapshot, was: StateCoverage, now: StateCoverage
    ) -> None:
        """Tell a state that a later run covered from one whose epochs were of other topics only.

        Raises:
            LakeConflictError: a later run read newer events or dimensions than this one has.
        """
        same_epoch = replace(now, epoch=was.epoch)
        if same_epoch.is_behind(was) or self._lake.snapshot(events.name).id != events.id:
            raise _conflict(table)

    def _why_all(self, was: StateCoverage | None, now: StateCoverage, *, full: bool) -> str:
        """Why all of history has to be read; empty if only new events have to."""
        if was is None:
            return "new or changed view"
        changed = [n for n, v in now.dimensions.items() if was.dimensions.get(n) != v]
        if changed:
            return f"{', '.join(sorted(changed))} changed"
        return "asked for" if full else ""

    def _has_more(self, events: Snapshot, was: StateCoverage) -> bool:
        """Whether the cleaned table says that it holds epochs or loads beyond the coverage."""
        reach = int(events.properties.get(EPOCH, 0)), int(events.properties.get(LOAD, 0))
        return reach[0] > was.epoch or reach[1] > was.load

    def _changed(self, events: Snapshot, was: StateCoverage) -> list[date]:
        """Days of cleaned events of epochs or loads that the state does not cover."""
        return sorted(self._days(events, Reading.uncovered(events.name, was.epoch, was.load)))

    def _days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        """How many events to be read each day has, if any; asked once."""
        key = (events.name, events.id, reading.conditions)
        if key not in self._counted:
            self._counted[key] = self._engine.days(events, reading)
        return self._counted[key]

    def _is_scattered(self, table: str, buckets: Sequence[date]) -> bool:
        """Whether one of the buckets gathered so many small files that it is worth a new one."""
        small = [f for f in self._lake.snapshot(table).files if f.bytes < _SMALL_FILE_BYTES]
        counts = Counter(file.partition for file in small)
        return any(counts[bucket] >= _SMALL_FILES for bucket in buckets)

    def _cover(self, table: str, was: StateCoverage, now: StateCoverage) -> None:
        """Note that the state covers more, though no event of its topic came."""
        nothing = f"SELECT CAST(NULL AS DATE) AS {BATCH_DAY} WHERE FALSE"
        written = self._lake.append(
            table, self._connection, nothing, properties=now.properties(), guard=_covers(was)
        )
        if written.skipped:
            raise _conflict(table)

    # -- doing it ------------------------------------------------------------------------

    def _compute_all(
        self, tasks: Sequence[_Task], inputs: _Inputs
    ) -> Iterator[tuple[_Task, tuple[int, int]]]:
        """Compute and commit every state; (days read, rows written) of each."""
        groups: dict[Reading, list[_Task]] = {}
        for task in tasks:
            groups.setdefault(task.reads, []).append(task)
        for reading, group in groups.items():
            events = inputs.events[reading.topic]
            days = self._days(events, reading)
            for leaves in alike([task.leaf for task in group]):
                together = [task for task in group if task.leaf in leaves]
                with ExitStack() as stack:
                    into = {
                        task.table: stack.enter_context(self._lake.draft(task.table))
                        for task in together
                    }
                    if days:
                        drafts = [(task.leaf, into[task.table]) for task in together]
                        self._engine.compute(events, reading, days, inputs.dimensions, drafts)
                    for task in together:
                        yield task, (len(days), self._write(task, into[task.table]))

    def _write(self, task: _Task, draft: Draft) -> int:
        """Commit the states of one leaf, with its coverage; the rows written."""
        written = self._lake.publish(
            task.table,
            draft,
            partitions=task.replaced,
            properties=task.now.properties(),
            guard=_covers(task.was),
        )
        if written.skipped:
            raise _conflict(task.table)
        return written.rows

    def _drop_others(self, views: Sequence[View]) -> None:
        """Drop the states of views that are gone or have another text now."""
        wanted = {state_table(view, leaf) for view in views for leaf in view.leaves}
        for table in self._lake.tables(NAMESPACE):
            if table not in wanted:
                logger.info("dropping %s: no view keeps it", table)
                self._lake.drop(table)


def _view_run(
    view: View,
    missing: Sequence[str],
    done: Mapping[str, tuple[int, int]],
    reasons: Mapping[str, str],
) -> ViewRun:
    if missing:
        return ViewRun(view.name, "waits", f"{', '.join(missing)} not loaded")
    tables = [table for leaf in view.leaves if (table := state_table(view, leaf)) in done]
    return ViewRun(
        view.name,
        "recomputed" if tables else "up to date",
        next((reasons[table] for table in tables if reasons[table]), ""),
        sum(done[table][0] for table in tables),
        sum(done[table][1] for table in tables),
    )


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
