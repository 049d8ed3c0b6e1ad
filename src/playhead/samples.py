"""What each part has counted and measured, by the minute, in one small SQLite file.

Any number of processes add to it, each about once a second from a thread of its own: counting
costs no more than an addition in memory. Whatever is asked of it is a sum, so it does not matter
which process counted what. Nothing else depends on the file: it may be deleted at any time, and a
process that is killed loses its last second.
"""

import json
import logging
import math
import sqlite3
import threading
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from playhead import disk
from playhead.clock import Clock, SystemClock
from playhead.errors import WorkspaceError

__all__ = [
    "ACCEPTED",
    "DUPLICATES",
    "ENRICH_MS",
    "EVENTS",
    "FILE",
    "FOUND",
    "FRESHNESS_MS",
    "LAG_S",
    "LATE",
    "LOOKED_UP",
    "REJECTED",
    "WINDOWED",
    "WINDOWED_LATE",
    "Counter",
    "Distribution",
    "Samples",
    "Series",
    "Totals",
    "read_series",
    "read_totals",
]

logger = logging.getLogger(__name__)

FILE = "samples.db"

ACCEPTED = "accepted"
"""Events that a gateway took in, by `topic`."""
REJECTED = "rejected"
"""Events that went to the dead letters, by `reason`: a class, of which there are few."""
EVENTS = "events"
"""Events that the speed layer counted, repeats left out, by `topic`."""
DUPLICATES = "duplicates"
"""Repeats that it dropped, by `topic`."""
LATE = "late"
"""Of those counted, how many came after the watermark, by `topic`."""
LOOKED_UP = "looked_up"
"""Keys of events that were looked up, by `dimension`."""
FOUND = "found"
"""Of these, how many have a row, by `dimension`."""
WINDOWED = "windowed"
"""Events that fell into a window, by `view`."""
WINDOWED_LATE = "windowed_late"
"""Of these, how many came after their window was final, by `view`."""
ENRICH_MS = "enrich_ms"
"""Milliseconds that a micro-batch of one topic was joined with its dimensions."""
FRESHNESS_MS = "freshness_ms"
"""Milliseconds from an event's arrival in the event log to the commit that makes it count."""
LAG_S = "lag_s"
"""Seconds that the oldest event of a micro-batch had waited when it was read."""

FLUSH_EVERY_S = 1.0
MINUTES_KEPT = timedelta(days=2)
"""Older minutes are summed up by the hour."""
HOURS_KEPT = timedelta(days=31)

_PER_DECADE = 25
_LOWEST, _HIGHEST = -100, 300
"""Bounds of buckets: values from 1e-4 to 1e12; others count as the nearest."""
_COUNTED = _LOWEST - 1
"""Stands for the bucket where something is counted, not measured."""

_TENDED_EVERY_S = 600.0
_SOON = timedelta(seconds=1)
"""A point that has only begun lasts so long at least: rates over less say nothing."""
_WAITING_LIMIT = 100_000

_TABLE = """
CREATE TABLE IF NOT EXISTS samples (
    minute INTEGER NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (minute, name, labels, bucket)
) WITHOUT ROWID
"""
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE name = 'samples'"
_ADD = """
INSERT INTO samples VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET value = value + excluded.value
"""
_SUM_UP = """
INSERT INTO samples
SELECT minute - minute % 60, name, labels, bucket, SUM(value) FROM samples
WHERE minute < ? AND minute % 60 > 0 GROUP BY 1, 2, 3, 4
ON CONFLICT DO UPDATE SET value = value + excluded.value
"""

# Minutes that hold anything are found one by one, so that nothing of other names is read.
_SERIES = """
WITH RECURSIVE held(minute) AS (
    SELECT (SELECT MIN(minute) FROM samples WHERE minute >= :first)
    UNION ALL
    SELECT (SELECT MIN(minute) FROM samples WHERE minute > held.minute)
    FROM held WHERE held.minute < :last
)
SELECT minute - minute % CASE WHEN minute < :hours_before THEN 60 ELSE :step END AS point,
    labels, bucket, SUM(value)
FROM held CROSS JOIN samples USING (minute)
WHERE minute <= :last AND name = :name GROUP BY point, labels, bucket
"""

_Key = tuple[int, str, str, int]


class Counter:
    """Counts one thing; threads may share it."""

    def __init__(self, samples: "Samples", name: str, labels: str) -> None:
        self._samples, self._name, self._labels = samples, name, labels

    def add(self, count: int = 1) -> None:
        """Count so many more, now; never waits for a disk."""
        if count:
            self._samples._add(self._name, self._labels, _COUNTED, count)


class Samples:
    """Adds to a workspace's samples what this process counts and measures.

    Nothing that is called here raises because of the disk: what cannot be written yet is kept
    in memory, within bounds, and written later. Threads may share it; each process opens its own.

    Args:
        path: the file; made on the first write.
        clock: tells the minute.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._waiting: Tally[_Key] = Tally()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._file: sqlite3.Connection | None = None
        self._tended_at = -math.inf
        self._is_failing = False

    def counter(self, name: str, **labels: str) -> Counter:
        """What counts under a name and labels, of which there must be few (topics, classes)."""
        return Counter(self, name, _text(labels))

    def observe(self, name: str, value: float, *, times: int = 1) -> None:
        """Note a measured value, `times` over; one that is not finite is left out.

        Values are kept to within 10 %: in buckets of which each ends 9.6 % above the last.
        """
        if times > 0 and math.isfinite(value):
            self._add(name, "{}", bucket_of(value), times)

    def observe_all(
        self, name: str, values: npt.NDArray[np.float64], times: npt.NDArray[np.int64]
    ) -> None:
        """Note many measured values, each so many times over; shape (n,) both, all finite."""
        buckets = _buckets(values)
        counts = np.bincount(buckets - _LOWEST, weights=times)
        for place in np.flatnonzero(counts).tolist():
            self._add(name, "{}", _LOWEST + place, int(counts[place]))

    def flush(self) -> None:
        """Write what waits, if the disk takes it."""
        with self._writing:
            with self._lock:
                taken, self._waiting = self._waiting, Tally()
            if taken and not self._written(taken):
                with self._lock:
                    self._waiting.update(taken)

    def close(self) -> None:
        """Write what waits and let go of the file; may be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()
        self._drop_file()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, name: str, labels: str, bucket: int, count: int) -> None:
        key = (_minute(self._clock.now()), name, labels, bucket)
        with self._lock:
            if key in self._waiting or len(self._waiting) < _WAITING_LIMIT:
                self._waiting[key] += count
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._keep_writing, daemon=True)
                self._thread.name = "samples"
                self._thread.start()

    def _keep_writing(self) -> None:
        while not self._stop.wait(FLUSH_EVERY_S):
            self.flush()

    def _written(self, taken: Mapping[_Key, int]) -> bool:
        try:
            if self._file is None:
                self._file = _open(self._path)
            with _transaction(self._file) as db:
                db.executemany(_ADD, [(*key, count) for key, count in taken.items()])
                self._tend(db)
        except (sqlite3.Error, OSError, WorkspaceError) as error:
            self._drop_file()
            if not self._is_failing:
                self._is_failing = True
                logger.warning("%s cannot be written, and is tried again: %s", self._path, error)
            return False
        self._is_failing = False
        return True

    def _tend(self, db: sqlite3.Connection) -> None:
        """Sum up old minutes by the hour and forget old hours, now and then."""
        if self._clock.monotonic() - self._tended_at < _TENDED_EVERY_S:
            return
        self._tended_at = self._clock.monotonic()
        now = self._clock.now()
        before = _minute(now - MINUTES_KEPT) // 60 * 60
        db.execute(_SUM_UP, (before,))
        db.execute("DELETE FROM samples WHERE minute < ? AND minute % 60 > 0", (before,))
        db.execute("DELETE FROM samples WHERE minute < ?", (_minute(now - HOURS_KEPT),))

    def _drop_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True)
class Distribution:
    """How many values fell into each bucket; buckets of several processes add up."""

    counts: Mapping[int, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """The upper end of the bucket of the value that `share` of all do not exceed.

        So it is up to 10 % above the value itself, and never below it. None without values.
        """
        wanted, seen = math.ceil(share * self.total), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted and seen:
                return upper_end(bucket)
        return None


@dataclass(frozen=True)
class Totals:
    """Everything that was counted and measured in a stretch of time.

    Attributes:
        counts: by name and labels.
        measured: by name.
    """

    counts: Mapping[tuple[str, str], int]
    measured: Mapping[str, Distribution]

    def count(self, name: str) -> int:
        """How many were counted under a name, whatever the labels."""
        return sum(count for (known, _), count in self.counts.items() if known == name)

    def by(self, name: str, label: str) -> dict[str, int]:
        """How many were counted under a name, by the value of one label."""
        found: Tally[str] = Tally()
        for (known, labels), count in self.counts.items():
            if known == name:
                found[str(json.loads(labels).get(label, ""))] += count
        return dict(found)

    def distribution(self, name: str) -> Distribution:
        """What was measured under a name; empty if nothing was."""
        return self.measured.get(name, Distribution({}))


@dataclass(frozen=True)
class Series:
    """One name over time, point after point; n points, of which the last one is not over yet.

    Attributes:
        starts: when each point begins (naive UTC).
        seconds: how long each lasts; the last one, how long so far.
        counts: by the value of the label that was asked for, how many in each point, shape (n,).
        measured: what was measured in each point.
    """

    starts: Sequence[datetime]
    seconds: Sequence[float]
    counts: Mapping[str, Sequence[int]]
    measured: Sequence[Distribution]

    def rates(self, label: str = "") -> list[float]:
        """How many a second were counted under a label; zeros if it is not known."""
        counts = self.counts.get(label, [0] * len(self.starts))
        return [count / seconds for count, seconds in zip(counts, self.seconds, strict=True)]

    def quantiles(self, share: float) -> list[float | None]:
        """A quantile of each point, as `Distribution.quantile` tells it."""
        return [one.quantile(share) for one in self.measured]


def read_series(
    path: Path,
    name: str,
    now: datetime,
    span: timedelta,
    *,
    label: str | None = None,
    step: timedelta = timedelta(minutes=1),
) -> Series:
    """What was counted or measured under a name in the time before `now` (naive UTC).

    There is a point for every step, with zeros where nothing happened; what is two days old, and
    older, has a point for every hour. The first point begins at or before `now - span`. Costs
    what the name has in that time.

    Args:
        label: tells counts apart by its values; None: all are one, under "".
        step: whole minutes that divide an hour.

    Raises:
        WorkspaceError: the file is damaged, or cannot be read.
    """
    minutes, hours_before = _minutes(step), _minute(now - MINUTES_KEPT) // 60 * 60
    starts = _points(_minute(now - span), hours_before, _minute(now), minutes)
    places = {minute: place for place, minute in enumerate(starts)}
    counts: dict[str, list[int]] = {} if label else {"": [0] * len(starts)}
    measured: list[dict[int, int]] = [{} for _ in starts]
    known: dict[str, list[int]] = {}
    values = {"first": starts[0], "last": _minute(now), "hours_before": hours_before}
    for point, labels, bucket, value in _rows(path, _SERIES, name=name, step=minutes, **values):
        if bucket != _COUNTED:
            measured[places[point]][bucket] = value
            continue
        if labels not in known:
            found = str(json.loads(labels).get(label, "")) if label else ""
            known[labels] = counts.setdefault(found, [0] * len(starts))
        known[labels][places[point]] += value
    times = [_time(minute) for minute in starts]
    ends = [*times[1:], max(now, times[-1] + _SOON)]
    seconds = [(end - time).total_seconds() for time, end in zip(times, ends, strict=True)]
    return Series(times, seconds, counts, [Distribution(one) for one in measured])


def read_totals(path: Path, now: datetime, spans: Sequence[timedelta]) -> list[Totals]:
    """What was counted in the time before `now` (naive UTC), one entry for each span.

    A span begins with the minute in which it begins, so it may be up to a minute longer.

    Raises:
        WorkspaceError: the file is damaged, or cannot be read.
    """
    with _reading(path) as connection:
        if connection is None:
            return [Totals({}, {}) for _ in spans]
        return [_totals(connection, now - span, now) for span in spans]


def bucket_of(value: float) -> int:
    """The number of the bucket that a value falls into: it holds values up to its upper end."""
    return int(_buckets(np.array([value]))[0])


def upper_end(bucket: int) -> float:
    """The highest value of a bucket; the lowest bucket stands for 0."""
    return 0.0 if bucket <= _LOWEST else float(10.0 ** (bucket / _PER_DECADE))


def _buckets(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bucket of each value; shape (n,)."""
    positive = np.maximum(values, 10.0 ** (_LOWEST / _PER_DECADE))
    # The logarithm of a power of ten may come out a hair too high.
    exact = np.ceil(np.log10(positive) * _PER_DECADE - 1e-9)
    buckets: npt.NDArray[np.int64] = np.clip(exact, _LOWEST, _HIGHEST).astype(np.int64)
    return buckets


def _totals(connection: sqlite3.Connection, since: datetime, until: datetime) -> Totals:
    counts: Tally[tuple[str, str]] = Tally()
    measured: dict[str, Tally[int]] = {}
    rows = connection.execute(
        "SELECT name, labels, bucket, SUM(value) FROM samples WHERE minute BETWEEN ? AND ? "
        "GROUP BY name, labels, bucket",
        (_minute(since), _minute(until)),
    )
    for name, labels, bucket, value in rows:
        if bucket == _COUNTED:
            counts[name, labels] += value
        else:
            measured.setdefault(name, Tally())[bucket] += value
    return Totals(dict(counts), {name: Distribution(dict(t)) for name, t in measured.items()})


def _rows(path: Path, sql: str, **values: str | int) -> list[tuple[int, str, int, int]]:
    """The rows of a query; none if nothing was written yet."""
    with _reading(path) as connection:
        return [] if connection is None else connection.execute(sql, values).fetchall()


def _points(first: int, hours_before: int, last: int, step: int) -> list[int]:
    """The minutes at which the points of a series begin."""
    hours = range(first // 60 * 60, hours_before, 60)
    return [*hours, *range(max(first // step * step, hours_before), last + 1, step)]


def _minutes(step: timedelta) -> int:
    """A step in minutes.

    Raises:
        ValueError: it is not whole, or does not divide an hour.
    """
    minutes = step // timedelta(minutes=1)
    if minutes < 1 or step % timedelta(minutes=1) or 60 % minutes:
        raise ValueError(f"a step of {step} is none of whole minutes that divide an hour")
    return minutes


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """The file for reading; None if nothing was written yet.

    Raises:
        WorkspaceError: it is damaged, or cannot be read.
    """
    if not path.exists():
        yield None
        return
    try:
        connection = disk.connect(path, timeout_s=10.0)
        try:
            # Whoever writes first may be just making the table.
            has_table = connection.execute(_HAS_TABLE).fetchall()
            yield connection if has_table else None
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


def _open(path: Path) -> sqlite3.Connection:
    connection = disk.connect(path, timeout_s=5.0, isolation_level=None, check_same_thread=False)
    try:
        # A crash of the machine may take the last transactions, and never harms the file.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_TABLE)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _unreadable(path: Path, error: sqlite3.Error) -> WorkspaceError:
    return WorkspaceError(
        f"{path} cannot be read: {error}",
        hint=disk.advice(error)
        or "Stop Playhead and delete the file: it only holds what the gates measure.",
    )


def _minute(time: datetime) -> int:
    """Minutes from 1970 to a time (naive UTC)."""
    return int(time.replace(tzinfo=UTC).timestamp()) // 60


def _time(minute: int) -> datetime:
    """When a minute begins (naive UTC)."""
    return datetime.fromtimestamp(minute * 60, UTC).replace(tzinfo=None)


def _text(labels: Mapping[str, str]) -> str:
    return json.dumps(labels, sort_keys=True)
