"""The speed layer: what the batch layer has not covered yet, a quarter of a second behind.

A trigger reads what is new in the event log, widens the events with their dimensions, drops
repeats, and commits what is left with the offsets: one body of rows for all views of the topic.
Compaction makes partial states of them where that makes them fewer; readers make the rest.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from playhead.clock import Clock
from playhead.errors import LakeAwayError, LogAwayError, StateError
from playhead.eventlog import EventLog
from playhead.lake import Lake
from playhead.samples import Samples
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.speed.alerts import Alerter, Judge
from playhead.speed.archive import LogArchiver
from playhead.speed.background import Background
from playhead.speed.compact import BackgroundCompactor, Compactor
from playhead.speed.config import SpeedConfig
from playhead.speed.dimensions import DimensionTables, dimension_versions, read_dimensions
from playhead.speed.judge import Due, Failure, WindowJudge
from playhead.speed.logsource import LogSource
from playhead.speed.measuring import Measuring
from playhead.speed.memory import IdMemory
from playhead.speed.read import check_ends
from playhead.speed.recall import Recaller
from playhead.speed.records import MicroBatch, Progress
from playhead.speed.seal import GROUP, Sealer
from playhead.speed.source import Intake, Source
from playhead.speed.state import StateStore
from playhead.speed.topic import LiveTopic, Taken
from playhead.speed.windows import windowed_views
from playhead.views import View
from playhead.views.header import DEFAULT_WATERMARK
from playhead.views.leaf import Leaf
from playhead.views.naming import state_name

logger = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1)
_EVENT = ("event_id", "event_time")
# How long it waits before it asks again for servers that are away; longer each time.
_AWAY_FROM_S, _AWAY_TO_S = 0.5, 10.0
_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Step:
    """What one trigger did: events read over all topics, repeats dropped, late ones counted.

    Attributes:
        failing: views whose windows cannot be judged now, because their arithmetic fails.
        waiting: why it waits, if servers of the event log or the lake are away; it goes on by
            itself.
    """

    events: int = 0
    duplicates: int = 0
    late: int = 0
    failing: tuple[str, ...] = ()
    waiting: str = ""


class SpeedLayer:
    """Runs views over the event log, one process a workspace.

    Args:
        log: where events come from; alerts go to its `alerts` topic.
        state: this layer's state; the layer becomes its owner.
        lake: where sealed epochs go and dimensions come from.
        views: views to keep; those whose dimensions are not loaded wait until they are.
        connection: a DuckDB session of its own.
        judge: the merged answer of a view in some windows, for alerts.
        changed_views: all views, if their texts changed since it was last asked; else None.
        samples: where it counts what it did, for the gates; None: nowhere.
        source: takes events in; None: this process does.
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
        changed_views: Callable[[], Mapping[str, View] | None] = lambda: None,
        config: SpeedConfig | None = None,
        samples: Samples | None = None,
        source: Source | None = None,
    ) -> None:
        self._log, self._state, self._lake = log, state, lake
        self._measuring = None if samples is None else Measuring(samples, clock)
        self._views = dict(views)
        self._changed_views = changed_views
        self._connection = connection
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="intake")
        self._clock = clock
        self._config = config or SpeedConfig()
        limit = self._config.max_events
        self._source = source or LogSource(log, self._pool, limit=limit)
        archiver = self._source.archiver() or LogArchiver(log, _beside(connection))
        self._sealer = Sealer(log, state, lake, archiver)
        self._sealing: Background | None = None
        self._alerter = Alerter(log, state, judge)
        self._judge = WindowJudge(state, self._alerter, clock)
        self._judging: Background | None = None
        recaller = Recaller(log, state, lake, connection, self._pool)
        self._memory = IdMemory(recaller, state, self._config, clock)
        self._topics: dict[str, LiveTopic] = {}
        self._dimensions = DimensionTables({}, {})
        self._compactor: Compactor | None = None
        self._told: set[str] = set()
        self._sealed_at = self._looked_at = self._retained_at = clock.monotonic()

    # -- start ---------------------------------------------------------------------------

    def start(self) -> None:
        """Own the state and take up where the last process stopped, however it stopped.

        Raises:
            StateError: the event log ends before what the state has read of it.
        """
        before = self._state.owner()
        self._state.own()
        kept = self._pool.submit(self._memory.load, before)
        self._sealer.resume()
        self._dimensions = read_dimensions(self._lake, self._connection, self._needed())
        self._register()
        self._find_topics()
        self._alerter.start()
        for topic in self._topics.values():
            self._memory.recall(topic, kept.result().get(topic.name))

    def _needed(self) -> set[str]:
        return {k.dimension for v in self._views.values() for x in v.leaves for k in x.lookups}

    def _runnable(self) -> list[View]:
        """Views whose every dimension is loaded."""
        runnable = []
        for view in self._views.values():
            needed = {k.dimension for leaf in view.leaves for k in leaf.lookups}
            if missing := needed - set(self._dimensions.tables):
                self._tell(f"view {view.name} waits: {', '.join(sorted(missing))} not loaded")
            else:
                runnable.append(view)
        return runnable

    def _tell(self, message: str) -> None:
        """Warn of a lasting state of things, once."""
        if message not in self._told:
            self._told.add(message)
            logger.warning(message)

    def _register(self) -> None:
        """Keep exactly the states of the runnable views, new ones from a fresh epoch on."""
        wanted = {state_name(v, leaf) for v in self._runnable() for leaf in v.leaves}
        known = self._state.registered()
        self._state.unregister(known - wanted)
        if wanted - known:
            self._close_epoch()
            self._state.register(wanted)

    def _find_topics(self) -> None:
        runnable = self._runnable()
        for name in self._event_topics():
            topic = self._topics.get(name) or LiveTopic(name)
            self._topics[name] = topic
            topic.leaves = [
                (state_name(v, x), x) for v in runnable for x in v.leaves if x.topic == name
            ]
            topic.windows = [w for w in windowed_views(runnable) if w.leaf.topic == name]
            self._find_position(topic)
            self._source.plan(topic, self._dimensions)
        if self._compactor is not None:
            self._compactor.leaves = self._leaves

    @property
    def _leaves(self) -> list[tuple[str, Leaf]]:
        return [pair for topic in self._topics.values() for pair in topic.leaves]

    def _event_topics(self) -> list[str]:
        """Topics whose events can be told apart and placed in time."""
        found = []
        for name in self._log.topics():
            if name in self._topics:
                found.append(name)
            elif name != ALERTS:
                columns = self._log.schema(name).names
                if _TABLE_NAME.fullmatch(name) and all(c in columns for c in _EVENT):
                    found.append(name)
                else:
                    self._tell(f"topic {name} is left alone: it holds no events of a table")
        return found

    def _find_position(self, topic: LiveTopic) -> None:
        position = self._state.position(topic.name)
        starts = self._log.start_offsets(topic.name)
        new = {p: start for p, start in starts.items() if p not in position.next}
        if new:
            self._state.begin({topic.name: new})
        topic.next = {**new, **position.next}
        check_ends(topic.name, topic.next, self._log.end_offsets(topic.name))
        # Also what a dead process began and did not tell the event log: retention waits for it.
        known = self._log.committed(GROUP, topic.name)
        if untold := {p: at for p, at in (position.first | new).items() if p not in known}:
            self._log.commit(GROUP, topic.name, untold)

    # -- a trigger -----------------------------------------------------------------------

    def step(self) -> Step:
        """Take in what is new in the event log, once; everything of it is committed, or nothing."""
        batch = MicroBatch(self._state.open_epoch(), dimensions=self._dimensions.label)
        with self._source.take(self._topics.values()) as intakes:
            if not intakes:
                return Step()
            self._take_in(intakes, batch)
        seen = batch.progress.values()
        return Step(
            sum(one.events + one.duplicates for one in seen),
            sum(one.duplicates for one in seen),
            sum(one.late for one in seen),
            tuple(failure.view for failure in self.failing),
        )

    def _take_in(self, intakes: Mapping[str, Intake], batch: MicroBatch) -> None:
        """Commit what is new of some topics."""
        taken = {
            name: self._count(self._topics[name], intake, batch) for name, intake in intakes.items()
        }
        self._state.commit(batch, label=self._source.label)
        # Only now: if the commit fails, the same events come again, and are no repeats.
        for name, kept in taken.items():
            topic = self._topics[name]
            topic.next.update(kept.after)
            topic.newest = kept.newest
            self._memory.remember(topic, kept)
        if self._measuring is not None:
            self._measuring.committed(batch, list(intakes.values()))

    def _count(self, topic: LiveTopic, intake: Intake, batch: MicroBatch) -> Taken:
        """Add one topic's new events to the micro-batch, each once."""
        if topic.seen is None:
            raise StateError("the speed layer was not started")
        unseen = topic.seen.unseen_hashes(*intake.ids, intake.arrival_us)
        kept = intake.keep(unseen.mask)
        late = kept.late(topic.watermark(DEFAULT_WATERMARK))
        if topic.leaves and kept.count:
            batch.parts += kept.parts(topic.states)
            for windowed in topic.windows:
                watermark = topic.watermark(windowed.view.watermark)
                batch.windows += kept.touched(self._connection, windowed, watermark)
        batch.next_offsets[topic.name] = intake.after
        batch.loads[topic.name] = topic.loads
        latest = kept.newest
        duplicates = len(unseen.mask) - kept.count
        batch.progress[topic.name] = Progress(latest, kept.count, duplicates, late)
        newest = max((t for t in (latest, topic.newest) if t is not None), default=None)
        arrived = _EPOCH + timedelta(microseconds=int(intake.arrival_us.max()))
        return Taken(intake.after, unseen, newest, arrived)

    # -- between triggers ----------------------------------------------------------------

    def judge(self) -> int:
        """Make windows that the watermark has passed final and raise their alerts; how many.

        Windows of a view that has no exact answer now wait until it has; see `failing`, too.
        """
        self._judge.expect(self._due())
        return self._judge.judge()

    def _judge_soon(self) -> None:
        """Judge beside the triggers, where a thread does that; else at once."""
        if self._judging is None:
            self.judge()
        else:
            self._judge.expect(self._due())
            self._judging.wake()

    @property
    def failing(self) -> tuple[Failure, ...]:
        """Views whose windows cannot be judged now, because their arithmetic fails."""
        return self._judge.failing

    def _due(self) -> list[Due]:
        return [due for topic in self._topics.values() for due in topic.due()]

    def seal(self) -> int | None:
        """Close the open epoch and put its events into the lake; None if it holds none."""
        epoch = self._sealer.seal()
        self._sealed_at = self._clock.monotonic()
        self.refresh()
        for topic in self._topics.values():
            self._memory.keep(topic)
        return epoch

    def _close_epoch(self) -> None:
        """Close the open epoch; its events go to the lake, now or soon."""
        if self._sealing is None:
            self._sealer.seal()
        else:
            self._state.cut()
            self._sealing.wake()
            for topic in self._topics.values():
                self._memory.keep(topic)

    def compact(self) -> int:
        """Merge state blocks once; `run` does so in the background. How many were made."""
        with self._compaction() as compactor:
            return compactor.compact()

    @contextmanager
    def _compaction(self) -> Iterator[Compactor]:
        """A compactor with a file handle and a DuckDB session of its own."""
        state, connection = self._state.beside(), _beside(self._connection)
        try:
            self._compactor = Compactor(state, connection)
            self._compactor.leaves = self._leaves
            yield self._compactor
        finally:
            self._compactor = None
            connection.close()
            state.close()

    def refresh(self) -> None:
        """Take up what was loaded, and topics and views that were made, since the last look."""
        self._looked_at = self._clock.monotonic()
        for topic in self._topics.values():
            self._take_up_loads(topic)
        views = self._changed_views()
        if views is not None:
            self._views = dict(views)
        versions = dimension_versions(self._lake, self._needed())
        same_topics = set(self._event_topics()) == set(self._topics)
        is_grown = any(len(t.next) < self._log.partitions(t.name) for t in self._topics.values())
        if views is None and same_topics and versions == self._dimensions.versions:
            if is_grown:
                self._find_topics()
            return
        self._dimensions = read_dimensions(self._lake, self._connection, self._needed())
        known = set(self._topics)
        self._register()
        self._find_topics()
        for name in set(self._topics) - known:
            self._memory.recall(self._topics[name])

    def _take_up_loads(self, topic: LiveTopic) -> None:
        """Count the ids of new loads as seen, from a fresh epoch on.

        So an epoch's events were all taken in under the same loads, and serving can tell which
        epochs may hold events that a later load brought as well.
        """
        if self._memory.misses_loads(topic):
            self._close_epoch()
            self._memory.recall_loads(topic)

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
            on_step: told of every trigger, also of one that found nothing.
        """
        with self._state.telling(), self._compaction() as compactor, BackgroundCompactor(compactor):
            with self._beside_triggers():
                self._run(stop, drain, on_step)
            self.judge()
            self.seal()

    @contextmanager
    def _beside_triggers(self) -> Iterator[None]:
        """Threads that do what triggers need not wait for."""
        with ExitStack() as stack:
            stack.enter_context(self._memory.keeping())
            self._sealing = stack.enter_context(Background("sealing", self._sealer.finish_begun))
            self._judging = stack.enter_context(Background("judging", self._judge.judge))
            for topic in self._topics.values():
                self._memory.keep(topic)
            try:
                yield
            finally:
                self._sealing = self._judging = None
                self._source.stop()

    def _run(
        self, stop: threading.Event, drain: bool, on_step: Callable[[Step], None] | None
    ) -> None:
        waiting_s = 0.0
        while not stop.is_set():
            began = self._clock.monotonic()
            try:
                step = self.step()
                if on_step:
                    on_step(step)
                if drain and not step.events and not self._source.waits(self._topics.values()):
                    break
                self._between(drain=drain)
            except (LogAwayError, LakeAwayError) as error:
                # A trigger that fails changes nothing.
                waiting_s = min(max(2 * waiting_s, _AWAY_FROM_S), _AWAY_TO_S)
                logger.warning("trying again: %s", error.message)
                if on_step:
                    on_step(Step(waiting=error.message))
                stop.wait(waiting_s)
                continue
            waiting_s = 0.0
            left = self._config.trigger.total_seconds() - (self._clock.monotonic() - began)
            if left > 0 and not drain:
                stop.wait(left)

    def _between(self, *, drain: bool) -> None:
        self._memory.check()
        for beside in (self._sealing, self._judging):
            if beside is not None:
                beside.check()
        now = self._clock.monotonic()
        if now - self._looked_at >= self._config.judge_every.total_seconds():
            self.refresh()
            if not drain:
                self._judge_soon()
        if now - self._sealed_at >= self._config.seal_every.total_seconds():
            self._close_epoch()
            self._sealed_at = now
        retention = self._config.retention
        if retention and now - self._retained_at >= self._config.retain_every.total_seconds():
            self._log.retain(retention)
            self._retained_at = now


def _beside(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Another session of the same DuckDB, for another thread."""
    cursor = connection.cursor()
    cursor.execute("SET TimeZone = 'UTC'")
    return cursor


__all__: Sequence[str] = ["SpeedConfig", "SpeedLayer", "Step"]
