"""Replays recorded events: files or a loaded topic go into the event log as if they came now."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa

from playhead.batch.pace import AtOnce, Pace, Rate, Speed, read_pace
from playhead.batch.readers import Progress
from playhead.batch.recording import Period, Recorder, Recording, RowCounts
from playhead.batch.scratch import scratch_folder
from playhead.batch.sources import Source, find_source, find_sources
from playhead.batch.timeline import Chunk, merge_recordings
from playhead.clock import Clock
from playhead.contracts import FILES, TOPICS, Contract, contract
from playhead.errors import LoadError, UnknownTopicError
from playhead.lake import Lake, raw_table

__all__ = [
    "AtOnce",
    "Pace",
    "Rate",
    "ReplayProgress",
    "ReplayReport",
    "ReplaySpec",
    "Replayer",
    "RowCounts",
    "Sending",
    "Speed",
    "TakesEvents",
    "TopicReplay",
    "read_pace",
]

logger = logging.getLogger(__name__)

_TICK = timedelta(milliseconds=20)
_NAP = timedelta(milliseconds=200)


@dataclass(frozen=True)
class ReplaySpec:
    """What to replay, and how fast.

    Attributes:
        pace: when each event is due.
        since: first event time, a date meaning its midnight; None: from the first event.
        until: event time to stop before; None: to the last event.
        topics: only these; empty means all that the source holds.
        block_events: at most so many events, over all topics, go out together.
        ignore_unknown: leave unknown columns of files out instead of failing.
    """

    pace: Pace = field(default_factory=lambda: Rate(5))
    since: date | datetime | None = None
    until: date | datetime | None = None
    topics: tuple[str, ...] = ()
    block_events: int = 50_000
    ignore_unknown: bool = False


@dataclass(frozen=True)
class Sending:
    """How far the sending is.

    Attributes:
        sent: events in the event log so far.
        total: events to send.
        event_time: of the last event sent.
        topics: events in the event log so far, by topic.
    """

    sent: int
    total: int
    event_time: datetime
    topics: dict[str, int] = field(default_factory=dict)


ReplayProgress = Callable[[Progress | Sending], None]
"""Told of every block of a file that was read, then of every block of events that was sent."""


@dataclass(frozen=True)
class TopicReplay:
    """What became of one topic's rows.

    Attributes:
        origin: the file, folder or lake table that they come from.
        sent: those of `rows.events` that are in the event log now.
    """

    topic: str
    origin: str
    rows: RowCounts
    sent: int


@dataclass(frozen=True)
class ReplayReport:
    """One replay.

    Attributes:
        topics: empty if it was stopped while it still read.
        stopped: it was told to end before all events were sent.
        next_time: event time of the first event that was not sent, all before it being sent;
            None if none is left, or nothing was sent.
        seconds: of the sending, without reading and sorting.
    """

    topics: tuple[TopicReplay, ...]
    stopped: bool
    next_time: datetime | None
    seconds: float

    def __getitem__(self, topic: str) -> TopicReplay:
        return {entry.topic: entry for entry in self.topics}[topic]

    @property
    def sent(self) -> int:
        return sum(entry.sent for entry in self.topics)

    @property
    def events(self) -> int:
        return sum(entry.rows.events for entry in self.topics)


class TakesEvents(Protocol):
    """An event log, or something else that recorded events can go to."""

    def append(self, topic: str, events: pa.Table | pa.RecordBatch, *, key: str) -> object:
        """Take a topic's events, whose partition the column `key` decides."""


class Replayer:
    """Sends recorded events to an event log, in the order of their event times.

    Args:
        lake: where loaded topics are read, and where quarantined rows go.
        log: has the topics already.
        con: a DuckDB session that nobody else uses meanwhile.
        clock: paces the events.
        scratch: where events are typed and sorted (about the size of the files as Parquet,
            twice); the system's temporary folder by default.
    """

    def __init__(
        self,
        lake: Lake,
        log: TakesEvents,
        con: duckdb.DuckDBPyConnection,
        clock: Clock,
        *,
        scratch: Path | None = None,
    ) -> None:
        self._lake = lake
        self._log = log
        self._con = con
        self._clock = clock
        self._scratch = scratch

    def replay(
        self,
        source: Path | str,
        spec: ReplaySpec | None = None,
        *,
        stop: threading.Event | None = None,
        progress: ReplayProgress | None = None,
    ) -> ReplayReport:
        """Replay until all events are sent, or until `stop` is set.

        Everything sent is durable. Sending it again does no harm: repeats of an `event_id` are
        dropped by whoever reads the event log.

        Args:
            source: a path is a folder that holds files of the data set (see `find_sources`), a
                folder of part files, or one file; a text is the name of a loaded topic.

        Raises:
            UnknownTopicError: the source, or one of the topics asked for, is no topic.
            LoadError: nothing to replay is there, or a file cannot be read.
            EventLogError: the event log refused events; all before them were sent.
        """
        spec = spec or ReplaySpec()
        stop = stop or threading.Event()
        wanted = [_topic(name) for name in spec.topics] or list(TOPICS.values())
        period = Period.of(spec.since, spec.until)
        with scratch_folder(self._scratch) as scratch:
            recorder = Recorder(self._lake, self._con, scratch, period, now=self._clock.now())
            try:
                with _interrupted_by(stop, self._con):
                    if isinstance(source, str):
                        recordings = [self._loaded(recorder, source, wanted)]
                    else:
                        recordings = [
                            recorder.from_files(
                                topic, found, ignore_unknown=spec.ignore_unknown, progress=progress
                            )
                            for topic, found in _find(source, wanted).items()
                        ]
            except duckdb.InterruptException:
                return ReplayReport((), stopped=True, next_time=None, seconds=0.0)
            return _Sender(self._log, self._clock, recordings, spec, stop, progress).run()

    def _loaded(self, recorder: Recorder, name: str, wanted: list[Contract]) -> Recording:
        topic = _topic(name)
        if topic not in wanted:
            raise LoadError(
                f"replay: {name} is the source, and {', '.join(c.name for c in wanted)} is asked"
                " for",
                hint="A loaded topic is replayed as itself: leave the topics out.",
            )
        table = raw_table(name, topic.schema).name
        if not self._lake.exists(table):
            raise LoadError(
                f"replay: topic {name} is not loaded", hint="Load it: playhead load DIR"
            )
        return recorder.from_lake(topic, self._lake.snapshot(table))


class _Sender:
    """Sends recordings once."""

    def __init__(
        self,
        log: TakesEvents,
        clock: Clock,
        recordings: list[Recording],
        spec: ReplaySpec,
        stop: threading.Event,
        progress: ReplayProgress | None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._recordings = recordings
        self._spec = spec
        self._stop = stop
        self._progress = progress
        self._total = sum(recording.rows.events for recording in recordings)
        self._sent = {recording.topic: 0 for recording in recordings}
        self._started = clock.monotonic()
        self._first_us: int | None = None

    def run(self) -> ReplayReport:
        """Send until the end, or until told to stop."""
        files = [(recording.topic, recording.path) for recording in self._recordings]
        left = None
        for chunk in merge_recordings(files, rows=self._spec.block_events):
            place = self._send(chunk)
            if place < len(chunk):
                left = _time(int(chunk.times[place]))
                break
        seconds = self._clock.monotonic() - self._started
        sent = sum(self._sent.values())
        logger.info("replay: %d of %d events sent in %.1f s", sent, self._total, seconds)
        return ReplayReport(
            tuple(
                TopicReplay(r.topic, r.origin, r.rows, self._sent[r.topic])
                for r in self._recordings
            ),
            stopped=left is not None,
            next_time=left,
            seconds=seconds,
        )

    def _send(self, chunk: Chunk) -> int:
        """Send a chunk's events when they are due; how many were sent."""
        if self._first_us is None:
            self._first_us = int(chunk.times[0])
        due = self._spec.pace.due_s(sum(self._sent.values()), self._first_us, chunk.times)
        place = 0
        while place < len(chunk) and not self._stop.is_set():
            passed = self._clock.monotonic() - self._started
            ready = min(
                int(due.searchsorted(passed, side="right")), place + self._spec.block_events
            )
            if ready > place:
                self._append(chunk, place, ready)
                place = ready
            else:
                wait = timedelta(seconds=float(due[place]) - passed)
                self._clock.sleep(min(max(wait, _TICK), _NAP))
        return place

    def _append(self, chunk: Chunk, start: int, stop: int) -> None:
        for topic, events in chunk.block(start, stop):
            self._log.append(topic, events, key=TOPICS[topic].partition_key)
            self._sent[topic] += events.num_rows
        if self._progress is not None:
            last = _time(int(chunk.times[stop - 1]))
            sent = sum(self._sent.values())
            self._progress(Sending(sent, self._total, last, dict(self._sent)))


@contextmanager
def _interrupted_by(stop: threading.Event, con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Within it, a query of the session ends with InterruptException soon after `stop` is set."""
    left = threading.Event()

    def watch() -> None:
        while not left.wait(_NAP.total_seconds()):
            if stop.is_set():
                con.interrupt()

    watcher = threading.Thread(target=watch, name="replay-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


def _find(path: Path, wanted: list[Contract]) -> dict[Contract, Source]:
    """The source of each topic that a path holds, in the order of `wanted`."""
    contracts = {contract.file: contract for contract in wanted if contract.file is not None}
    if not path.exists():
        raise LoadError(
            f"replay: {path} is neither a file nor a folder",
            hint=f"A loaded topic is named {', '.join(TOPICS)}.",
        )
    if not contracts:
        raise LoadError(
            f"replay: the data set has no file of {', '.join(c.name for c in wanted)}",
            hint="Such events come over HTTP; name the topic as the source once it is in the lake.",
        )
    files = [file for file, contract in FILES.items() if contract.kind == "topic"]
    default = wanted[0].file if path.is_file() and len(wanted) == 1 else None
    found = find_sources(path, contracts) if path.is_dir() else {}
    if not found and (one := find_source(path, files, default=default)):
        found = {one.table: one}
    chosen = {contracts[table]: source for table, source in found.items() if table in contracts}
    if not chosen:
        names = ", ".join(contracts)
        raise LoadError(
            f"replay: {path} holds nothing of {names}",
            hint="Files are known by these names; with one topic asked for, any name will do.",
        )
    return chosen


def _topic(name: str) -> Contract:
    found = contract(name)
    if found.kind != "topic":
        raise UnknownTopicError(
            f"{name} is a dimension and has no events", hint=f"Topics are {', '.join(TOPICS)}."
        )
    return found


def _time(microseconds: int) -> datetime:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(tzinfo=None)
    return moment + timedelta(microseconds=microseconds % 1_000_000)
