"""The flow of events through a workspace at one moment: rates, lag, epochs, coverage, sizes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from playhead.assemble import Workspace
from playhead.batch.deadletters import TOPIC as DEAD_LETTERS
from playhead.batch.recompute import StateCoverage, state_table
from playhead.engines import connect
from playhead.errors import CoverageError, LakeError
from playhead.ops.lag import Lag, came_at, followed_topics, measure_lag, read_positions
from playhead.ops.latest import Latest
from playhead.ops.rates import Growth, Track
from playhead.ops.storage import Storage, TableSize, file_bytes, measure_storage
from playhead.samples import ACCEPTED, DUPLICATES, EVENTS, FILE, REJECTED, read_series
from playhead.serving import Coverage, Session
from playhead.speed.records import EpochSeen, Progress
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.header import DEFAULT_WATERMARK
from playhead.views.naming import state_name

__all__ = [
    "NODES",
    "Arrow",
    "EpochFlow",
    "Flow",
    "FlowMeter",
    "LogFlow",
    "TopicFlow",
    "ViewFlow",
    "measure_flow",
]

NODES = ("clients", "gateway", "event log", "speed layer", "lake", "batch layer", "serving")
"""What events flow through; the gateway's dead letters are a topic of the event log."""

_WINDOW_S = 10.0
_KEPT_S = 0.5
_VIEWS_KEPT_S = 2.0
_LAKE_KEPT_S = 5.0
_MINUTE = timedelta(minutes=1)
_SESSION_MEMORY = "512MB"


@dataclass(frozen=True)
class Arrow:
    """One way that events go.

    Attributes:
        source, target: of `NODES`.
        events_per_s: None where it is not known, or where events do not go one by one.
        over_s: it is the mean of so many seconds up to now, or of the last whole minute.
    """

    source: str
    target: str
    events_per_s: float | None = None
    over_s: float = 0.0


@dataclass(frozen=True)
class TopicFlow:
    """One topic of the event log, and what the speed layer has made of it.

    Attributes:
        in_per_s, read_per_s: events appended, and taken in by the speed layer.
        held: events that are in the event log.
        appended: events that ever were.
        lag_events, lag_s: how many wait for the speed layer, and since when the oldest one does.
        counted: events that the speed layer ever took in, repeats left out.
        duplicates: repeats that it dropped.
        late: of those counted, how many came after the watermark.
        newest: the highest event time seen.
        watermark: windows up to it are final, in views that name no watermark of their own.
    """

    topic: str
    in_per_s: float
    read_per_s: float
    held: int
    appended: int
    lag_events: int
    lag_s: float
    counted: int
    duplicates: int
    late: int
    newest: datetime | None
    watermark: datetime | None


@dataclass(frozen=True)
class LogFlow:
    """The event log.

    Attributes:
        events: that are in it, over all topics that the speed layer reads.
        bytes: of its file with its journal; None: it is on brokers.
        retention: how long events stay at least.
        oldest: when the first of them came in (naive UTC); None without events.
    """

    events: int
    bytes: int | None
    retention: timedelta
    oldest: datetime | None


@dataclass(frozen=True)
class EpochFlow:
    """How the speed layer cuts the event log into epochs.

    Attributes:
        open: the epoch that takes events in.
        open_age_s: how old it is.
        open_events: what it holds, repeats included.
        sealing: epochs on their way into the lake, ascending.
        sealed: the last one that is there; 0: none.
        sealed_at: when it was there; None: long ago, or never.
        uncovered_events: of sealed epochs that some view's batch states do not cover.
    """

    open: int
    open_age_s: float
    open_events: int
    sealing: tuple[int, ...]
    sealed: int
    sealed_at: datetime | None
    uncovered_events: int


@dataclass(frozen=True)
class ViewFlow:
    """How one view's answer is put together now.

    Attributes:
        ready: whether it has an answer.
        reason, hint: why it has none, and what to do; empty if it has one.
        coverage: of each of its states; empty if it has no answer.
        batch_epoch, batch_load: batch states cover epochs and loads up to these; 0: none.
        speed_epochs: epochs that the speed layer adds, ascending.
        speed_blocks, speed_rows, speed_bytes: of its speed state; events that wait for several
            views count for each.
        batch_rows, batch_bytes, batch_files: of its batch states.
        built_at: when these changed last (naive UTC); None: never.
    """

    view: str
    ready: bool
    reason: str
    hint: str
    coverage: tuple[Coverage, ...]
    batch_epoch: int
    batch_load: int
    speed_epochs: tuple[int, ...]
    speed_blocks: int
    speed_rows: int
    speed_bytes: int
    batch_rows: int
    batch_bytes: int
    batch_files: int
    built_at: datetime | None


@dataclass(frozen=True)
class Flow:
    """What the picture of the flow shows.

    Attributes:
        at: the moment that it is of (naive UTC).
        accepted_per_s, rejected_per_s: events that came in, and those that were refused.
        topics: by name; the dead letters are one of them.
        views: two seconds old at most, and the sizes of their batch states as old as `storage`.
        speed_bytes: of the file of the speed layer's state, with its journal.
        storage: five seconds old at most; None: the lake cannot be read.
    """

    at: datetime
    accepted_per_s: float
    rejected_per_s: float
    arrows: tuple[Arrow, ...]
    topics: tuple[TopicFlow, ...]
    log: LogFlow
    epochs: EpochFlow
    views: tuple[ViewFlow, ...]
    speed_bytes: int
    storage: Storage | None

    @property
    def lag_events(self) -> int:
        """Events that wait for the speed layer."""
        return sum(topic.lag_events for topic in self.topics)

    @property
    def lag_s(self) -> float:
        """How long the one that waits longest has waited."""
        return max((topic.lag_s for topic in self.topics), default=0.0)


@dataclass(frozen=True)
class _Rates:
    """Events a second by topic: appended, taken in by the speed layer, and sealed."""

    came: Growth
    read: Growth
    sealed: Growth | None


def measure_flow(workspace: Workspace, now: datetime | None = None) -> Flow:
    """The flow as of now, with the rates of the last whole minute; see `FlowMeter.measure`."""
    with FlowMeter(workspace) as meter:
        return meter.measure(now)


class FlowMeter:
    """Looks at a workspace's flow again and again; rates are differences between two looks.

    Threads may share it, and none waits for another once there was a first look. It reads the
    speed layer's state by a store of its own, so that it waits for no answer that is being made.

    Args:
        workspace: stays open for as long as the meter is used.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        clock = workspace.clock
        self._state = StateStore(workspace.path / "state.db")
        self._session: Session | None = None
        self._oldest: dict[tuple[str, int, int], datetime | None] = {}
        seal_s = max(2.0 * workspace.settings.speed.seal_seconds, _WINDOW_S)
        self._came, self._read = Track(_WINDOW_S), Track(_WINDOW_S)
        # Events come to the lake by the epoch: a shorter look would see all of one, or none.
        self._sealed = Track(seal_s, least_s=seal_s / 2)
        self._latest = Latest[Flow](_KEPT_S, clock.monotonic)
        self._views_kept = Latest[tuple[ViewFlow, ...]](_VIEWS_KEPT_S, clock.monotonic)
        self._storage = Latest[Storage | None](_LAKE_KEPT_S, clock.monotonic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the state and of DuckDB; may be called twice."""
        if self._session is not None:
            self._session.close()
        self._state.close()

    def measure(self, now: datetime | None = None) -> Flow:
        """The flow as of now; what was seen within the last half second is given again.

        Rates are those of the last ten seconds; before they are known, those of the last whole
        minute as the samples have it.

        Args:
            now: naive UTC; the workspace's clock by default.

        Raises:
            EventLogError, StateError, WorkspaceError: a store cannot be read.
        """
        return self._latest.get(lambda: self._measure(now or self._workspace.clock.now()))

    def _measure(self, now: datetime) -> Flow:
        workspace = self._workspace
        # Where the speed layer stands comes first: the log only grows meanwhile.
        positions, history = read_positions(self._state), self._state.history()
        topics = followed_topics(workspace.log)
        lags = measure_lag(workspace.log, positions, now, topics)
        rates = self._rates(lags, history, now)
        storage = self._storage.get(self._measured_storage)
        views = self._views_kept.get(lambda: self._views(storage))
        return Flow(
            now,
            sum(rate for topic, rate in rates.came.per_s.items() if topic != DEAD_LETTERS),
            rates.came.per_s.get(DEAD_LETTERS, 0.0),
            _arrows(rates),
            tuple(_topics(topics, lags, rates, self._state.progress())),
            self._log(lags),
            _epochs(history, views, now),
            views,
            file_bytes(workspace.path / "state.db"),
            storage,
        )

    # -- rates ---------------------------------------------------------------------------

    def _rates(self, lags: Sequence[Lag], history: Sequence[EpochSeen], now: datetime) -> _Rates:
        at_s = self._workspace.clock.monotonic()
        came = self._came.add(at_s, _by_topic((lag.topic, lag.end) for lag in lags))
        read = self._read.add(at_s, _by_topic((lag.topic, lag.reached) for lag in lags))
        waiting = min((seen.epoch for seen in history if seen.status != "sealed"), default=0)
        sealed = _by_topic(
            (topic, offset)
            for topic, at in self._state.range_of(waiting).items()
            for offset in at.first.values()
        )
        growth = self._sealed.add(at_s, sealed)
        if came is None or read is None:
            came, read = self._last_minute(now)
        return _Rates(came, read, growth)

    def _last_minute(self, now: datetime) -> tuple[Growth, Growth]:
        """What gateways and the speed layer counted in the last whole minute."""
        path = self._workspace.path / FILE

        def counted(name: str, label: str | None = "topic") -> dict[str, float]:
            series = read_series(path, name, now, _MINUTE, label=label)
            return {value: series.rates(value)[0] for value in series.counts}

        came = {**counted(ACCEPTED), DEAD_LETTERS: sum(counted(REJECTED, None).values())}
        read, repeats = counted(EVENTS), counted(DUPLICATES)
        read = {topic: rate + repeats.get(topic, 0.0) for topic, rate in read.items()}
        over_s = _MINUTE.total_seconds()
        return Growth(came, over_s), Growth(read, over_s)

    # -- the event log -------------------------------------------------------------------

    def _log(self, lags: Sequence[Lag]) -> LogFlow:
        workspace = self._workspace
        return LogFlow(
            sum(lag.end - lag.start for lag in lags),
            None if workspace.settings.log.brokers else file_bytes(workspace.path / "log.db"),
            workspace.settings.retention,
            self._oldest_of(lags),
        )

    def _oldest_of(self, lags: Sequence[Lag]) -> datetime | None:
        """When the first event came in that is still there; each is read once."""
        places = [(x.topic, x.partition, x.start) for x in lags if x.start < x.end]
        log, before = self._workspace.log, self._oldest
        self._oldest = {place: before.get(place) or came_at(log, *place) for place in places}
        return min((time for time in self._oldest.values() if time is not None), default=None)

    # -- views ---------------------------------------------------------------------------

    def _views(self, storage: Storage | None) -> tuple[ViewFlow, ...]:
        tables = {table.name: table for table in storage.tables} if storage else {}
        session, sizes = self._opened_session(), self._state.sizes()
        session.use(self._workspace.views)
        views = self._workspace.views.values()
        return tuple(self._view(session, view, sizes, tables) for view in views)

    def _opened_session(self) -> Session:
        """For coverage: it takes no turns with who makes answers."""
        workspace = self._workspace
        if self._session is None:
            connection = connect(
                memory_limit=_SESSION_MEMORY, threads=1, temp_dir=workspace.path / "tmp"
            )
            self._session = Session(
                workspace.lake, workspace.log, self._state, workspace.views, connection
            )
        return self._session

    def _view(
        self,
        session: Session,
        view: View,
        sizes: Mapping[str, tuple[int, int, int]],
        tables: Mapping[str, TableSize],
    ) -> ViewFlow:
        reason = hint = ""
        coverage: tuple[Coverage, ...] = ()
        try:
            coverage = session.coverage(view)
        except (CoverageError, LakeError) as error:
            reason, hint = error.message, error.hint or ""
        held = [sizes.get(state_name(view, leaf), (0, 0, 0)) for leaf in view.leaves]
        blocks, rows, size = (sum(column) for column in zip(*held, strict=True))
        names = [state_table(view, leaf) for leaf in view.leaves]
        built = [tables[name] for name in names if name in tables]
        covered = [self._covered(name) for name in names]
        return ViewFlow(
            view.name,
            not reason,
            reason,
            hint,
            coverage,
            min(one.epoch for one in covered),
            min(one.load for one in covered),
            tuple(sorted({epoch for part in coverage for epoch in part.speed_epochs})),
            blocks,
            rows,
            size,
            sum(table.rows for table in built),
            sum(table.bytes for table in built),
            sum(table.files for table in built),
            max((table.changed_at for table in built if table.changed_at), default=None),
        )

    def _covered(self, table: str) -> StateCoverage:
        """How far batch states reach: nowhere if they are not there, or cannot be read."""
        lake = self._workspace.lake
        try:
            properties = lake.properties(table) if lake.exists(table) else {}
        except LakeError:
            properties = {}
        return StateCoverage.of(properties) or StateCoverage()

    def _measured_storage(self) -> Storage | None:
        try:
            return measure_storage(self._workspace)
        except (LakeError, OSError):
            return None


def _by_topic(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sums of numbers by topic."""
    found: dict[str, int] = {}
    for topic, number in pairs:
        found[topic] = found.get(topic, 0) + number
    return found


def _arrows(rates: _Rates) -> tuple[Arrow, ...]:
    came, read, sealed = rates.came, rates.read, rates.sealed
    lake = (sealed.total, sealed.over_s) if sealed else (None, 0.0)
    return (
        Arrow("clients", "gateway", came.total, came.over_s),
        Arrow("gateway", "event log", came.total, came.over_s),
        Arrow("event log", "speed layer", read.total, read.over_s),
        Arrow("speed layer", "serving", read.total, read.over_s),
        Arrow("speed layer", "lake", *lake),
        Arrow("lake", "batch layer"),
        Arrow("batch layer", "serving"),
    )


def _topics(
    names: Sequence[str], lags: Sequence[Lag], rates: _Rates, progress: Mapping[str, Progress]
) -> Iterator[TopicFlow]:
    for name in names:
        parts = [lag for lag in lags if lag.topic == name]
        seen = progress.get(name, Progress())
        newest = seen.max_event_time
        yield TopicFlow(
            name,
            rates.came.per_s.get(name, 0.0),
            rates.read.per_s.get(name, 0.0),
            sum(lag.end - lag.start for lag in parts),
            sum(lag.end for lag in parts),
            sum(lag.events for lag in parts),
            max((lag.waited_s for lag in parts), default=0.0),
            seen.events,
            seen.duplicates,
            seen.late,
            newest,
            newest and newest - DEFAULT_WATERMARK,
        )


def _epochs(history: Sequence[EpochSeen], views: Sequence[ViewFlow], now: datetime) -> EpochFlow:
    current = history[-1]
    sealing = tuple(seen.epoch for seen in history if seen.status == "sealing")
    last = (sealing[0] if sealing else current.epoch) - 1
    covered = min((view.batch_epoch for view in views), default=last)
    return EpochFlow(
        current.epoch,
        max(0.0, (now - current.opened).total_seconds()),
        current.events,
        sealing,
        last,
        next((seen.sealed for seen in history if seen.epoch == last), None),
        sum(seen.events for seen in history if covered < seen.epoch <= last),
    )
