"""The speed layer: what the batch layer has not covered yet, a quarter of a second behind.

A trigger reads what is new in the event log, drops repeats, widens the events with their
dimensions, runs every view's partial plan, and commits states and offsets together.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from playhead.clock import Clock
from playhead.engines import DuckDBEngine
from playhead.errors import StateError
from playhead.eventlog import EventLog
from playhead.lake import Lake
from playhead.lake.tables import raw_name
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.speed.alerts import Alerter, Judge
from playhead.speed.dedupe import SeenEvents
from playhead.speed.dimensions import DimensionTables, dimension_versions, read_dimensions
from playhead.speed.enrich import Enricher
from playhead.speed.seal import GROUP, Sealer
from playhead.speed.state import MicroBatch, Progress, StateStore
from playhead.speed.windows import WindowedView, windowed_views
from playhead.views import View
from playhead.views.header import DEFAULT_WATERMARK
from playhead.views.leaf import Leaf
from playhead.views.naming import state_name

logger = logging.getLogger(__name__)

FAN_IN = 16
"""Blocks of one level that are merged into one of the next."""


@dataclass(frozen=True)
class SpeedConfig:
    """How the speed layer paces itself.

    Attributes:
        trigger: from the start of one micro-batch to the next, while events keep coming.
        seal_every: how long an epoch stays open before its events go to the lake.
        judge_every: how often windows are looked at for being final.
        dedupe_window: a repeated `event_id` is dropped if the first came this recently.
        dedupe_limit: at most this many ids are remembered, 16 bytes each.
        max_events: of one topic in one micro-batch.
    """

    trigger: timedelta = timedelta(milliseconds=250)
    seal_every: timedelta = timedelta(seconds=60)
    judge_every: timedelta = timedelta(seconds=1)
    dedupe_window: timedelta = timedelta(hours=24)
    dedupe_limit: int = 50_000_000
    max_events: int = 400_000


@dataclass(frozen=True)
class Step:
    """What one trigger did: events read over all topics, repeats dropped, late ones counted."""

    events: int = 0
    duplicates: int = 0
    late: int = 0


@dataclass
class _Topic:
    """What the layer holds in memory of one topic."""

    name: str
    leaves: list[tuple[str, Leaf]] = field(default_factory=list)
    windows: list[WindowedView] = field(default_factory=list)
    next: dict[int, int] = field(default_factory=dict)
    seen: SeenEvents | None = None
    enricher: Enricher | None = None
    newest: datetime | None = None

    @property
    def columns(self) -> list[str]:
        """Event columns that any view reads."""
        read = {c for _, leaf in self.leaves for c in leaf.event_columns}
        read |= {event for _, leaf in self.leaves for k in leaf.lookups for event, _ in k.on}
        return sorted(read | {"event_id", "event_time"})


class SpeedLayer:
    """Runs views over the event log, one process a workspace.

    Args:
        log: where events come from; alerts go to its `alerts` topic.
        state: this layer's state; the layer becomes its owner.
        lake: where sealed epochs go and dimensions come from.
        views: views to keep; those whose dimensions are not loaded wait for a restart.
        connection: a DuckDB session of its own.
        judge: the merged answer of a view in some windows, for alerts.
    """

    def __init__(
        self,
        log: EventLog,
        state: StateStore,
        lake: Lake,
        views: Mapping[str, View],
        connection: duckdb.DuckDBPyConnection,
        clock: Clock,
        *,
        judge: Judge,
        config: SpeedConfig | None = None,
    ) -> None:
        self._log, self._state, self._lake = log, state, lake
        self._views = dict(views)
        self._connection = connection
        self._engine = DuckDBEngine(connection)
        self._clock = clock
        self._config = config or SpeedConfig()
        self._sealer = Sealer(log, state, lake, connection)
        self._alerter = Alerter(log, state, judge)
        self._topics: dict[str, _Topic] = {}
        self._dimensions = DimensionTables({}, {})
        self._sealed_at = clock.monotonic()
        self._judged_at = clock.monotonic()

    # -- start ---------------------------------------------------------------------------

    def start(self) -> None:
        """Own the state and take up where the last process stopped, however it stopped."""
        self._state.own()
        self._sealer.resume()
        self._dimensions = read_dimensions(self._lake, self._connection, self._needed())
        self._register()
        self._find_topics()
        self._alerter.start()
        for topic in self._topics.values():
            self._recall(topic)

    def _needed(self) -> set[str]:
        return {k.dimension for v in self._views.values() for x in v.leaves for k in x.lookups}

    def _runnable(self) -> list[View]:
        """Views whose every dimension is loaded."""
        runnable = []
        for view in self._views.values():
            needed = {k.dimension for leaf in view.leaves for k in leaf.lookups}
            if missing := needed - set(self._dimensions.tables):
                logger.warning("%s waits: %s not loaded", view.name, ", ".join(sorted(missing)))
            else:
                runnable.append(view)
        return runnable

    def _register(self) -> None:
        """Keep exactly the states of the runnable views, new ones from a fresh epoch on."""
        wanted = {state_name(v, leaf) for v in self._runnable() for leaf in v.leaves}
        known = self._state.registered()
        self._state.unregister(known - wanted)
        if wanted - known:
            self._sealer.seal()
            self._state.register(wanted)

    def _find_topics(self) -> None:
        runnable = self._runnable()
        for name in self._log.topics():
            if name == ALERTS:
                continue
            topic = self._topics.setdefault(name, _Topic(name))
            topic.leaves = [
                (state_name(v, x), x) for v in runnable for x in v.leaves if x.topic == name
            ]
            topic.windows = [w for w in windowed_views(runnable) if w.leaf.topic == name]
            topic.enricher = Enricher([x for _, x in topic.leaves], self._dimensions.tables)
            self._find_position(topic)

    def _find_position(self, topic: _Topic) -> None:
        position = self._state.position(topic.name)
        starts = self._log.start_offsets(topic.name)
        new = {p: start for p, start in starts.items() if p not in position.next}
        if new:
            self._state.begin({topic.name: new})
            self._log.commit(GROUP, topic.name, new)
        topic.next = {**new, **position.next}

    def _recall(self, topic: _Topic) -> None:
        """Remember the ids of the dedupe window, from the lake and from what is not there yet."""
        now = self._clock.now()
        topic.seen = SeenEvents(
            window=self._config.dedupe_window, limit=self._config.dedupe_limit
        )
        table = raw_name(topic.name)
        if self._lake.exists(table):
            recent = self._connection.execute(
                f"SELECT event_id FROM {self._lake.snapshot(table).scan()} WHERE ingest_time >= ?",
                [now - self._config.dedupe_window],
            ).to_arrow_reader(1_000_000)
            for batch in recent:
                topic.seen.add(batch.column(0), now)
        for partition, (offset, end) in self._state.unsealed(topic.name).items():
            while offset < end:
                count = min(65_536, end - offset)
                events = self._log.read(
                    topic.name, partition, offset, max_events=count, columns=["event_id"]
                )
                topic.seen.add(events.column("event_id"), now)
                offset += events.num_rows
        topic.newest = self._newest(topic.name)

    def _newest(self, topic: str) -> datetime | None:
        """The highest event time seen, by either layer."""
        seen = self._state.progress().get(topic)
        times = [seen.max_event_time] if seen and seen.max_event_time else []
        if self._lake.exists(raw_name(topic)):
            scan = self._lake.snapshot(raw_name(topic)).scan(columns=["event_time"])
            times += self._connection.execute(f"SELECT MAX(event_time) FROM {scan}").fetchone() or ()
        return max((t for t in times if t is not None), default=None)

    # -- a trigger -----------------------------------------------------------------------

    def step(self) -> Step:
        """Take in what is new in the event log, once; everything of it is committed, or nothing."""
        batch = MicroBatch(self._state.open_epoch(), dimensions=self._dimensions.label)
        total = Step()
        newest: dict[str, datetime | None] = {}
        for topic in self._topics.values():
            events, after = self._read(topic)
            if events.num_rows:
                done, newest[topic.name] = self._take_in(topic, events, batch)
                batch.next_offsets[topic.name] = after
                total = Step(
                    total.events + done.events,
                    total.duplicates + done.duplicates,
                    total.late + done.late,
                )
        if total.events:
            self._state.commit(batch)
            for name, time in newest.items():
                self._topics[name].newest = time
                self._topics[name].next.update(batch.next_offsets[name])
            self._compact(FAN_IN)
        return total

    def _read(self, topic: _Topic) -> tuple[pa.Table, dict[int, int]]:
        """New events of a topic, at most `max_events`, and where each partition is after them."""
        ends = self._log.end_offsets(topic.name)
        behind = [p for p, end in ends.items() if topic.next.get(p, 0) < end]
        tables, after = [], {}
        for partition in behind:
            share = max(self._config.max_events // len(behind), 1)
            offset, end = topic.next[partition], ends[partition]
            while offset < end and share > 0:
                events = self._log.read(
                    topic.name,
                    partition,
                    offset,
                    max_events=min(share, end - offset),
                    columns=topic.columns,
                )
                tables.append(events)
                offset += events.num_rows
                share -= events.num_rows
            after[partition] = offset
        return pa.concat_tables(tables) if tables else pa.table({}), after

    def _take_in(
        self, topic: _Topic, events: pa.Table, batch: MicroBatch
    ) -> tuple[Step, datetime | None]:
        """Add one topic's new events to the micro-batch."""
        if topic.seen is None or topic.enricher is None:
            raise StateError("the speed layer was not started")
        fresh = topic.seen.add(events.column("event_id"), self._clock.now())
        duplicates = events.num_rows - int(fresh.sum())
        kept = events.filter(pa.array(fresh)) if duplicates else events
        watermark = topic.newest - DEFAULT_WATERMARK if topic.newest else None
        late = _count_before(kept, watermark)
        wide = topic.enricher.widen(kept)
        for name, leaf in topic.leaves:
            states = self._engine.partial(leaf, wide)
            if states.num_rows:
                batch.states.append((name, states))
        batch.windows += self._touched(topic, wide)
        latest = pc.max(kept.column("event_time")).as_py() if kept.num_rows else None
        batch.progress[topic.name] = Progress(latest, kept.num_rows, duplicates, late)
        newest = max((t for t in (latest, topic.newest) if t is not None), default=None)
        return Step(events.num_rows, duplicates, late), newest

    def _touched(self, topic: _Topic, wide: pa.Table) -> list:  # type: ignore[type-arg]
        self._connection.register("touching_events", wide)
        try:
            return [
                touched
                for windowed in topic.windows
                for touched in windowed.touched(
                    self._connection,
                    "touching_events",
                    topic.newest - windowed.view.watermark if topic.newest else None,
                )
            ]
        finally:
            self._connection.unregister("touching_events")

    # -- between triggers ----------------------------------------------------------------

    def _compact(self, fan_in: int) -> None:
        """Merge blocks of one level where enough of them have come together."""
        for topic in self._topics.values():
            for name, leaf in topic.leaves:
                for _, level, blocks in self._state.mergeable(name, fan_in=fan_in):
                    merged = self._engine.merge(leaf, self._state.tables(blocks))
                    self._state.replace(blocks, merged, level + 1)

    def judge(self) -> int:
        """Make windows that the watermark has passed final and raise their alerts; how many."""
        raised = 0
        for topic in self._topics.values():
            if topic.newest is None:
                continue
            for windowed in topic.windows:
                before = windowed.final_before(topic.newest - windowed.view.watermark)
                ended = self._state.finish_windows(windowed.view.name, before)
                if ended:
                    starts = [start for start, _ in ended]
                    raised += self._alerter.finish(windowed, starts, self._clock.now())
        self._judged_at = self._clock.monotonic()
        return raised

    def seal(self) -> int | None:
        """Close the open epoch and put its events into the lake; None if it holds none."""
        epoch = self._sealer.seal()
        self._sealed_at = self._clock.monotonic()
        self._refresh()
        return epoch

    def _refresh(self) -> None:
        """Take up dimensions that were loaded, and topics that were made, since the last look."""
        versions = dimension_versions(self._lake, self._needed())
        topics = [name for name in self._log.topics() if name != ALERTS]
        if versions == self._dimensions.versions and set(topics) == set(self._topics):
            return
        self._dimensions = read_dimensions(self._lake, self._connection, self._needed())
        known = set(self._topics)
        self._register()
        self._find_topics()
        for name in set(self._topics) - known:
            self._recall(self._topics[name])

    # -- running -------------------------------------------------------------------------

    def run(
        self,
        stop: threading.Event,
        *,
        drain: bool = False,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        """Take in events until told to stop; then finish what is read, and seal.

        Args:
            stop: set by whoever wants the layer to end.
            drain: end by itself once all that is in the event log is in state.
            on_step: told of every trigger that found events.
        """
        while not stop.is_set():
            began = self._clock.monotonic()
            step = self.step()
            if step.events and on_step:
                on_step(step)
            if drain and not step.events:
                break
            self._between(drain=drain)
            left = self._config.trigger.total_seconds() - (self._clock.monotonic() - began)
            if left > 0 and not drain:
                stop.wait(left)
        self.judge()
        self.seal()

    def _between(self, *, drain: bool) -> None:
        now = self._clock.monotonic()
        if not drain and now - self._judged_at >= self._config.judge_every.total_seconds():
            self.judge()
        if now - self._sealed_at >= self._config.seal_every.total_seconds():
            self.seal()
        elif len(self._log.topics()) != len(self._topics) + (ALERTS in self._log.topics()):
            self._refresh()


def _count_before(events: pa.Table, watermark: datetime | None) -> int:
    if watermark is None or not events.num_rows:
        return 0
    earlier = pc.less(events.column("event_time"), pa.scalar(watermark, pa.timestamp("us")))
    return int(pc.sum(earlier).as_py() or 0)


__all__: Sequence[str] = ["SpeedConfig", "SpeedLayer", "Step"]
