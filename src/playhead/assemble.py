"""A workspace: every room put together on one machine."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import duckdb
import pyarrow as pa

from playhead import disk
from playhead.batch.base import StateEngine
from playhead.batch.clean import CleanReport, clean_topic
from playhead.batch.deadletters import TOPIC as DEAD_LETTERS
from playhead.batch.deadletters import DeadLetters, Wanted
from playhead.batch.dimensions import rebuild_pair_ratings
from playhead.batch.journal import noting
from playhead.batch.load import Loader, LoadReport, Progress
from playhead.batch.newrows import CleanEngine, DuckDBCleaning
from playhead.batch.quality import Metric, latest_report
from playhead.batch.recompute import Recomputer, ViewRun
from playhead.batch.recover import Patch, Recoverer, RecoveryReport
from playhead.batch.replay import Replayer, ReplayProgress, ReplayReport, ReplaySpec
from playhead.batch.shared.cleaning import SharedCleaning
from playhead.batch.shared.spark import SparkProcesses
from playhead.batch.shared.states import SharedStateEngine
from playhead.batch.states import DuckDBStates
from playhead.clock import Clock, SystemClock
from playhead.config import FILE, MARK, TEMPLATE, Settings, read_settings
from playhead.contracts import TOPICS
from playhead.engines import connect
from playhead.engines.duckdb import memory_limit as memory_limit_of
from playhead.engines.spark.lakes import check_reach, lake_session
from playhead.engines.spark.pulse import pulse
from playhead.engines.spark.session import is_running
from playhead.errors import CoverageError, LogAwayError, SettingError, ViewError, WorkspaceError
from playhead.eventlog import EventLog, open_log
from playhead.lake import Lake, SharedLake, clean_table
from playhead.lock import RoleLock
from playhead.samples import FILE as SAMPLES
from playhead.samples import Samples
from playhead.serving import Answer, Coverage, LastView, Result, Session, Span, find_view
from playhead.serving.jail import jailed
from playhead.serving.prune import prune_covered
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.speed.journal import Journal
from playhead.speed.layer import SpeedConfig, SpeedLayer, Step
from playhead.speed.replica import Look, Replica
from playhead.speed.shared import SharedState
from playhead.speed.source import Source
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.catalog import load_views

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

logger = logging.getLogger(__name__)

FORMAT = 1
_NEW = ".new"
_EVENT = {"event_id", "event_time"}


@dataclass(frozen=True)
class BatchReport:
    """One batch run: what was cleaned, which views were recomputed, what was pruned."""

    epoch: int
    cleaned: tuple[CleanReport, ...]
    views: tuple[ViewRun, ...]
    pruned_blocks: int


@dataclass(frozen=True)
class ViewStatus:
    """How far a view is: "ready", or why it has no answer yet."""

    view: View
    ready: bool
    reason: str = ""


class Workspace:
    """One folder with an event log, a lake, speed state and views.

    Args:
        path: a folder that `create` has made a workspace.

    Raises:
        WorkspaceError: it is none, or was written by a newer Playhead.
        SettingError, ViewError: its settings or views cannot be used.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path = path
        self.clock = clock or SystemClock()
        _check_mark(path)
        self.settings: Settings = read_settings(path)
        self._view_files: dict[Path, tuple[int, int]] = {}

    @classmethod
    def create(cls, path: Path, *, clock: Clock | None = None) -> "Workspace":
        """Make the folder a workspace (it may be one already) and open it.

        While its brokers are away, their topics are left to whoever needs them first.
        """
        path.mkdir(parents=True, exist_ok=True)
        if not (path / MARK).exists():
            foreign = [p.name for p in path.iterdir() if not _is_begun(p)]
            if foreign:
                raise WorkspaceError(
                    f"{path} is no workspace and is not empty: it holds {foreign[0]}",
                    hint="Choose an empty folder, or one that does not exist.",
                )
            if not (path / FILE).exists():
                _write_whole(path / FILE, TEMPLATE)
            (path / "views").mkdir(exist_ok=True)
            _write_whole(path / MARK, f"{FORMAT}\n")
        workspace = cls(path, clock=clock)
        try:
            workspace._create_topics()
        except LogAwayError as error:
            logger.warning("no topics are made in %s yet: %s", path, error.message)
        return workspace

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
        """Close every store that was opened; may be called twice."""
        for name in ("session", "_judging", "samples", "log", "lake", "state", "_judging_state"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        if "spark" in self.__dict__:
            session = self.__dict__.pop("spark")
            if self._owns_spark:
                session.stop()

    # -- stores, opened on first use -----------------------------------------------------

    @cached_property
    def log(self) -> EventLog:
        """The event log: the workspace's own, or the brokers' that the settings name."""
        return open_log(self.path, self.settings.log, clock=self.clock)

    @cached_property
    def lake(self) -> Lake:
        """The Iceberg tables, in the workspace or where its settings say."""
        told = self.settings.lake
        if not told.warehouse:
            return Lake(self.path / "lake")
        shared = SharedLake(told.warehouse, told.catalog, told.endpoint, told.cache_gb << 30)
        return Lake(self.path / "lake", shared)

    @cached_property
    def state(self) -> StateStore:
        """The speed layer's state."""
        return StateStore(self.path / "state.db")

    @cached_property
    def samples(self) -> Samples:
        """Where this process counts what it does, for the gates."""
        return Samples(self.path / SAMPLES, clock=self.clock)

    @cached_property
    def views(self) -> dict[str, View]:
        """The library and the workspace's own views, by name."""
        self._view_files = self._stamp_views()
        return load_views(self._view_folders())

    def _view_folders(self) -> list[Path]:
        """The folders of the settings; the workspace's own may be missing."""
        folders = [self.path / folder for folder in self.settings.views.folders]
        return [f for f in folders if f.is_dir() or f != self.path / "views"]

    def _stamp_views(self) -> dict[Path, tuple[int, int]]:
        """What tells whether a view's file was changed."""
        files = [file for folder in self._view_folders() for file in folder.glob("*.sql")]
        return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}

    def _changed_views(self) -> dict[str, View] | None:
        """All views anew if a file of theirs changed since they were read; else None.

        A text that cannot be used is told once, and leaves the views as they were.
        """
        stamp = self._stamp_views()
        if stamp == self._view_files:
            return None
        self._view_files = stamp
        try:
            self.__dict__["views"] = load_views(self._view_folders())
        except ViewError as error:
            logger.warning("views stay as they were: %s", error.message)
            return None
        return self.views

    @cached_property
    def session(self) -> Session:
        """For reading: topics, dimensions, views as relations."""
        return self.reader()

    def refresh(self) -> None:
        """Answer by the view files as they are now, if some have changed since they were read."""
        changed = self._changed_views()
        if changed is not None and "session" in self.__dict__:
            self.session.use(changed)

    def reader(self) -> Session:
        """Another session for reading, beside `session`; the caller's to close."""
        cache = self.path / "cache"
        return Session(self.lake, self.log, self.state, self.views, self._connect(), cache)

    def jail(self, *, memory_limit: str, threads: int) -> Session:
        """A session for queries of strangers: it reads relations, and nothing else of the machine.

        Args:
            memory_limit: such as "500MB"; four times as much may be spilled to disk.
            threads: worker threads.
        """
        connection = connect(memory_limit=memory_limit, threads=threads, temp_dir=self.path / "tmp")
        spill = f"{4 * memory_limit_of(connection)}B"
        folder = self.path / "lake"
        return jailed(
            self.lake, self.log, self.state, self.views, connection, folder=folder, spill=spill
        )

    @cached_property
    def _judging(self) -> Session:
        """For the alerts of the speed layer: it takes no turns with what triggers write."""
        return Session(self.lake, self.log, self._judging_state, self.views, self._connect())

    @cached_property
    def _judging_state(self) -> StateStore:
        return StateStore(self.path / "state.db")

    def _connect(self) -> duckdb.DuckDBPyConnection:
        engine = self.settings.engine
        return connect(
            memory_limit=engine.memory_limit,
            threads=engine.threads or None,
            temp_dir=self.path / "tmp",
        )

    def _create_topics(self) -> None:
        for name, contract in TOPICS.items():
            self.log.create_topic(name, contract.schema, partitions=self.settings.log.partitions)

    # -- reading -------------------------------------------------------------------------

    def view(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Answer:
        """A view's merged answer as of now.

        Args:
            since, until: only windows that start in [since, until), naive UTC; None: no bound.
                A bound spares reading what lies beyond it.

        Raises:
            QueryError: a bound was given, and the view has no window of event time.
            UnknownViewError: no view of that name.
            CoverageError: it is not built yet, or batch and speed leave a gap or overlap.
        """
        view = find_view(self.views, name)
        bounds = {"start": since, "end": until}
        given = {name: time for name, time in bounds.items() if time is not None}
        within = Span(**given) if given else None
        table, coverage = self.session.answer(view, within)
        revised = {w: (revision, late) for w, _, revision, late in self.state.windows(name)}
        return Answer(view, table, coverage, self.watermark(view), revised)

    def last_view(self, name: str) -> LastView | None:
        """A view's whole answer as it was made last, at once; None if none is known.

        Raises:
            UnknownViewError: no view of that name.
        """
        view = find_view(self.views, name)
        last = self.session.last_answer(view)
        return None if last is None else LastView(view, last)

    def query(self, sql: str) -> Result:
        """The answer of one SELECT over topics, dimensions and views (DuckDB's dialect)."""
        return Result(self.session.query(sql))

    def coverage(self, sql: str) -> tuple[Coverage, ...]:
        """What the answers of the views that a query reads are made of, as of now.

        Raises:
            CoverageError: one of them has no exact answer now.
        """
        read = self.session.views_read(sql)
        return tuple(part for view in read for part in self.session.coverage(view))

    def quality(self) -> list[Metric]:
        """The quality report of each table's last load; empty if nothing was loaded yet."""
        with self._connect() as connection:
            return latest_report(self.lake, connection)

    @contextmanager
    def dead_letters(self) -> Iterator[DeadLetters]:
        """The events that were refused, as of now, for the block."""
        if DEAD_LETTERS not in self.log.topics():
            self._create_topics()
        with self._connect() as connection:
            yield DeadLetters(self.log, self.lake, connection)

    def lag(self) -> int:
        """Events that are in the event log and not yet in the speed layer's state."""
        behind = 0
        for topic in self.log.topics():
            # What the speed layer never reads, such as alerts, waits for nobody.
            if topic != ALERTS and set(self.log.schema(topic).names) >= _EVENT:
                reached = {**self.log.start_offsets(topic), **self.state.position(topic).next}
                ends = self.log.end_offsets(topic)
                behind += sum(end - reached.get(part, 0) for part, end in ends.items())
        return behind

    def full(self, name: str) -> Result:
        """A view by plain recomputation over every event: what `view` has to equal."""
        return Result(self.session.full(find_view(self.views, name)))

    def watermark(self, view: View) -> datetime | None:
        """The event time up to which the view's windows are final; None before any event."""
        newest = [self.session.newest(topic) for topic in view.topics]
        known = [time for time in newest if time is not None]
        return min(known) - view.watermark if known else None

    def statuses(self) -> list[ViewStatus]:
        """Every view, and whether it has an answer now."""
        return [self.status(view) for view in self.views.values()]

    def status(self, view: View) -> ViewStatus:
        """Whether a view has an answer now."""
        try:
            self.session.coverage(view)
        except CoverageError as error:
            return ViewStatus(view, ready=False, reason=error.message)
        return ViewStatus(view, ready=True)

    # -- working -------------------------------------------------------------------------

    def load(
        self,
        folder: Path,
        *,
        until: date | None = None,
        since: date | None = None,
        ignore_unknown: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> LoadReport:
        """Load a folder of files into the lake and clean them; see `Loader.load`."""
        with self._role("load"), self._connect() as connection:
            loader = Loader(self.lake, connection, self.clock)
            return loader.load(
                folder,
                until=until,
                since=since,
                ignore_unknown=ignore_unknown,
                progress=progress,
            )

    def batch(
        self,
        *,
        full: bool = False,
        why: str = "asked for",
        on_stage: Callable[[str], None] | None = None,
    ) -> BatchReport:
        """Recompute what changed since the last run, and prune the speed state that it covers.

        What becomes of the run is noted; see `playhead.batch.journal.batch_runs`.

        Args:
            full: recompute every day of every view from the raw events.
            why: why it runs, for its record.
            on_stage: told what is being worked on.
        """
        tell = on_stage or (lambda _: None)
        with (
            self._role("batch"),
            noting(
                self.path, why, full=full, clock=self.clock, engine=self.settings.batch.engine
            ) as noted,
            self._connect() as connection,
        ):
            cleaner, states = self.batch_engines(connection)
            epoch = self.state.sealed_epoch()
            cleaned = []
            for topic, contract in TOPICS.items():
                noted.enter(f"cleaning {topic}")
                tell(f"cleaning {topic}")
                clean_table(topic, contract.schema).create_in(self.lake)
                cleaned.append(clean_topic(self.lake, connection, topic, full=full, engine=cleaner))
            noted.enter("rating pairs")
            tell("rating pairs")
            rebuild_pair_ratings(self.lake, connection)
            noted.enter("views")
            recomputer = Recomputer(self.lake, connection, states)
            runs = recomputer.run(
                self.views.values(),
                epoch=epoch,
                full=full,
                on_view=lambda run: tell(f"{run.view} {run.status}"),
            )
            noted.enter("pruning")
            pruned = self._prune()
            noted.tell(epoch, sum(topic.written for topic in cleaned), runs, pruned)
            return BatchReport(epoch, tuple(cleaned), tuple(runs), pruned)

    def batch_engines(
        self, connection: duckdb.DuckDBPyConnection
    ) -> tuple[CleanEngine, StateEngine]:
        """What cleans and what computes states; Spark is started when there is work for it."""
        if self.settings.batch.engine != SparkProcesses.name:
            return DuckDBCleaning(), DuckDBStates(connection)
        check_reach(self.settings.spark, self.settings.lake)
        executors = SparkProcesses(lambda: self.spark)
        return SharedCleaning(executors), SharedStateEngine(executors)

    @cached_property
    def spark(self) -> "SparkSession":
        """The process's Spark session; one that others have started before is theirs to stop."""
        from playhead.cluster import jars

        settings, self._owns_spark = self.settings, not is_running()
        return lake_session(
            settings.spark,
            settings.lake,
            self.path,
            lambda: jars("spark"),
            streams=settings.speed.engine == "spark",
        )

    def _prune(self) -> int:
        """Drop speed blocks that the batch states cover."""
        return prune_covered(self.lake, self.state, self.views.values())

    def replay(
        self,
        source: Path | str,
        spec: ReplaySpec | None = None,
        *,
        stop: threading.Event | None = None,
        progress: ReplayProgress | None = None,
    ) -> ReplayReport:
        """Send recorded events to the event log; see `Replayer.replay`."""
        with self._connect() as connection:
            replayer = Replayer(
                self.lake, self.log, connection, self.clock, scratch=self.path / "tmp"
            )
            return replayer.replay(source, spec, stop=stop, progress=progress)

    def recover(
        self, wanted: Wanted | None = None, patch: Patch | None = None, *, dry_run: bool = False
    ) -> RecoveryReport:
        """Send dead letters on that fit today's contracts, each once; see `Recoverer.recover`.

        Args:
            wanted: which; None: all that wait.
            patch: what to change in each of them first.
        """
        # Only this needs it, and making its types takes a while.
        from playhead.contracts.mixed import Limits, MixedDecoder

        gateway = self.settings.gateway
        limits = Limits(
            max_field_bytes=gateway.max_field_kb << 10,
            max_future=timedelta(seconds=gateway.max_future_seconds),
            max_past=timedelta(days=gateway.max_past_days),
            max_skew=timedelta(seconds=gateway.max_skew_seconds),
        )
        with self._role("recovery"), self.dead_letters() as letters:
            recoverer = Recoverer(self.log, letters, MixedDecoder(limits=limits), self.clock)
            return recoverer.recover(wanted or Wanted(), patch, dry_run=dry_run)

    def speed(
        self,
        stop: threading.Event | None = None,
        *,
        drain: bool = False,
        on_step: Callable[[Step], None] | None = None,
        on_work: Callable[[], None] = lambda: None,
    ) -> None:
        """Run the speed layer until `stop`, or with `drain` until the event log is in state.

        Args:
            on_step: told of every trigger.
            on_work: told by another thread that a cluster gets on with a trigger meanwhile.
        """
        with (
            self._role("speed layer"),
            self._connect() as connection,
            self._speed_parts(on_work) as (state, source),
        ):
            layer = self.speed_layer(connection, samples=self.samples, state=state, source=source)
            layer.start()
            layer.run(stop or threading.Event(), drain=drain, on_step=on_step)

    @contextmanager
    def _speed_parts(
        self, on_work: Callable[[], None]
    ) -> Iterator[tuple[StateStore, Source | None]]:
        """The speed layer's state, and what takes events in, as its engine says."""
        if self.settings.speed.engine != "spark":
            yield self.state, None
            return
        check_reach(self.settings.spark, self.settings.lake)
        source = self._spark_source()
        with self.shared_state() as state, pulse(lambda: self.__dict__.get("spark"), on_work):
            try:
                yield state, source
            finally:
                source.stop()

    def _spark_source(self) -> Source:
        """Events by Spark, which is started when the first ones are taken in.

        Raises:
            SettingError: they are not on brokers.
        """
        if not self.settings.log.brokers:
            raise SettingError(
                'speed.engine = "spark" reads events from Kafka, and the event log is a file',
                hint='Set log.brokers, or speed.engine = "duckdb".',
            )
        # Only who has brokers has their client.
        from playhead.eventlog.kafka import KafkaEventLog
        from playhead.speed.spark import SparkSource

        assert isinstance(self.log, KafkaEventLog)  # noqa: S101 - a log on brokers is one
        return SparkSource(
            self.log,
            lambda: self.spark,
            trigger_ms=self.settings.speed.trigger_ms,
            limit=self.settings.speed.max_events,
            scratch=self.path / "tmp",
        )

    def speed_layer(
        self,
        connection: duckdb.DuckDBPyConnection,
        *,
        samples: Samples | None = None,
        state: StateStore | None = None,
        source: Source | None = None,
    ) -> SpeedLayer:
        """The speed layer over this workspace; the caller holds its role.

        Args:
            samples: where it counts what it does, for the gates; None: nowhere.
            state: its state; None: the workspace's own alone.
            source: takes events in; None: this process does.
        """
        settings = self.settings.speed
        config = SpeedConfig(
            trigger=timedelta(milliseconds=settings.trigger_ms),
            seal_every=timedelta(seconds=settings.seal_seconds),
            dedupe_window=timedelta(hours=settings.dedupe_hours),
            max_events=settings.max_events,
            ids_folder=self.path / "ids",
            retention=self.settings.retention,
        )
        return SpeedLayer(
            self.log,
            state or self.state,
            self.lake,
            self.views,
            connection,
            self.clock,
            judge=self._judge,
            changed_views=self._changed_views,
            config=config,
            samples=samples,
            source=source,
        )

    @contextmanager
    def shared_state(self) -> Iterator[SharedState]:
        """The speed layer's state with its truth in the lake; the caller holds its role."""
        with self._journal() as journal:
            state = SharedState(self.path / "state.db", journal, self._prune)
            try:
                yield state
            finally:
                state.close()

    def follow_states(
        self, stop: threading.Event, on_look: Callable[[Look], None] | None = None
    ) -> None:
        """Keep this machine's live states at those of the lake until `stop`.

        Args:
            on_look: told of every look, also while the lake is away.

        Raises:
            WorkspaceBusyError: a speed layer, or another one that follows, runs here.
        """

        def prune() -> int:
            self._changed_views()
            return self._prune()

        with self._role("speed layer"), self._journal() as journal:
            Replica(self.path / "state.db", journal, prune).follow(stop, on_look)

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        with self._connect() as connection:
            yield Journal(self.lake, connection, self.path / "tmp" / "journal")

    def _judge(self, view: View, windows: Sequence[datetime]) -> pa.Table:
        return self._judging.windows(view, list(windows))

    def _role(self, role: str) -> RoleLock:
        return RoleLock(self.path / f"{role.split()[0]}.lock", role)


def _is_begun(path: Path) -> bool:
    """Whether a file or folder may be what an interrupted `create` has left, or the settings."""
    if path.name == "views":
        return path.is_dir() and not any(path.iterdir())
    return path.name in (FILE, FILE + _NEW, MARK + _NEW)


def _write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all, whatever happens meanwhile.

    Raises:
        WorkspaceError: it cannot be written.
    """
    new = path.with_name(path.name + _NEW)
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise WorkspaceError(
            f"{path} cannot be written: {error.strerror}", hint=disk.advice(error)
        ) from error


def _check_mark(path: Path) -> None:
    mark = path / MARK
    if not mark.exists():
        raise WorkspaceError(f"{path} is no workspace", hint=f"Make one: playhead -w {path} init")
    written = mark.read_text(encoding="utf-8").strip()
    if not written.isdigit() or int(written) > FORMAT:
        raise WorkspaceError(
            f"{path} has format {written!r}, and this Playhead knows {FORMAT}",
            hint="Use the newer Playhead that wrote it.",
        )


__all__ = ["BatchReport", "ViewStatus", "Workspace"]
