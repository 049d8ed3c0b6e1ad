"""The speed layer's state: blocks, offsets, epochs and windows, in one SQLite file.

Whatever belongs together is committed together: the offsets of a micro-batch with the states
that it produced. Any process may read while the one that owns the state writes.
"""

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from playhead.errors import StateError, WorkspaceError
from playhead.speed.blocks import decode, encode

FORMAT = 1

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY, status TEXT NOT NULL, opened TEXT NOT NULL, sealed TEXT
) STRICT;
CREATE TABLE ranges (
    epoch INTEGER NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (epoch, topic, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE states (
    state TEXT PRIMARY KEY, since_epoch INTEGER NOT NULL, pruned_to INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (
    block INTEGER PRIMARY KEY, state TEXT NOT NULL, epoch INTEGER NOT NULL, level INTEGER NOT NULL,
    rows INTEGER NOT NULL, dimensions TEXT NOT NULL, crc32 INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX blocks_by_state ON blocks (state, epoch, level);
CREATE TABLE topics (
    topic TEXT PRIMARY KEY, max_event_time TEXT, events INTEGER NOT NULL,
    duplicates INTEGER NOT NULL, late INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE windows (
    view TEXT NOT NULL, window_start TEXT NOT NULL, status TEXT NOT NULL,
    revision INTEGER NOT NULL, late INTEGER NOT NULL,
    PRIMARY KEY (view, window_start)
) STRICT, WITHOUT ROWID;
CREATE TABLE alerts (
    alert_id TEXT NOT NULL, revision INTEGER NOT NULL, view TEXT NOT NULL,
    window_start TEXT NOT NULL, window_end TEXT NOT NULL, level TEXT NOT NULL,
    keys TEXT NOT NULL, detail TEXT NOT NULL, raised_at TEXT NOT NULL, published INTEGER NOT NULL,
    PRIMARY KEY (alert_id, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_by_publication ON alerts (published);
"""


@dataclass(frozen=True)
class Position:
    """Where the speed layer is in one topic: the open epoch's [first, next) by partition."""

    first: dict[int, int]
    next: dict[int, int]


@dataclass(frozen=True)
class Progress:
    """What has been seen of one topic."""

    max_event_time: datetime | None = None
    events: int = 0
    duplicates: int = 0
    late: int = 0


@dataclass(frozen=True)
class Touched:
    """A window of a view that got events: `late` of them after it was final."""

    view: str
    start: datetime
    late: int = 0


@dataclass(frozen=True)
class Alert:
    """One raised alert; a late event may raise the next revision of it."""

    alert_id: str
    revision: int
    view: str
    window_start: datetime
    window_end: datetime
    level: str
    keys: str
    detail: str
    raised_at: datetime


@dataclass
class MicroBatch:
    """Everything that one trigger commits, at once."""

    epoch: int
    next_offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    states: list[tuple[str, pa.Table]] = field(default_factory=list)
    dimensions: str = "{}"
    progress: dict[str, Progress] = field(default_factory=dict)
    windows: list[Touched] = field(default_factory=list)


@dataclass(frozen=True)
class StateView:
    """One state as it stood at one moment: what serving merges with the batch layer.

    Attributes:
        since_epoch: the first epoch whose events the state counts; None if it was never kept.
        pruned_to: blocks up to this epoch are gone, because the batch layer covers them.
        epochs: all epochs, ascending, with their status.
        active: epochs that hold events of the state's topic.
        blocks: (epoch, dimension versions, states) of every block.
    """

    since_epoch: int | None
    pruned_to: int
    epochs: tuple[tuple[int, str], ...]
    active: tuple[int, ...]
    blocks: tuple[tuple[int, str, pa.Table], ...]

    @property
    def open_epoch(self) -> int:
        return self.epochs[-1][0] if self.epochs else 1


class StateStore:
    """The state file of a workspace.

    Args:
        path: made on first use.

    A store may be used from several threads, one call at a time; writers take `own` first.

    Raises:
        WorkspaceError: the file was written by a newer Playhead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner: str | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._cache: dict[int, pa.Table] = {}
        with self._write():
            self._create()

    def _create(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise WorkspaceError(
                f"{self._path} has format {version}, and this Playhead knows {FORMAT}",
                hint="Use the newer Playhead that wrote it.",
            )
        if version == 0:
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO epochs VALUES (1, 'open', ?, NULL)", (_now(),))
            self._db.execute(f"PRAGMA user_version = {FORMAT}")

    def close(self) -> None:
        """Close the file; the store cannot be used after it. May be called twice."""
        self._db.close()

    # -- ownership -----------------------------------------------------------------------

    def own(self) -> None:
        """Become the one writer: whoever owned the state before can commit no more."""
        self._owner = uuid.uuid4().hex
        with self._write():
            self._put("owner", self._owner)

    @contextmanager
    def _write(self, *, owned: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction; with `owned`, refused if another process took the state over."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        try:
            if owned and self._get("owner") != self._owner:
                raise StateError(
                    f"another speed layer took over {self._path}",
                    hint="This one stops; nothing of its last micro-batch was kept.",
                )
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one moment."""
        try:
            self._db.execute("BEGIN")
            yield self._db
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("COMMIT")

    def _failed(self, error: sqlite3.Error) -> StateError:
        return StateError(f"{self._path}: {error}", hint="Nothing of this step was kept.")

    def _get(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _put(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # -- reading -------------------------------------------------------------------------

    def epochs(self) -> list[tuple[int, str]]:
        """(epoch, "open" | "sealing" | "sealed"), ascending; the last one is open."""
        return self._db.execute("SELECT epoch, status FROM epochs ORDER BY epoch").fetchall()

    def open_epoch(self) -> int:
        """The epoch that new events go to."""
        return int(self._db.execute("SELECT MAX(epoch) FROM epochs").fetchone()[0])

    def sealed_epoch(self) -> int:
        """The last epoch E such that all epochs up to E are in the lake; 0 for none."""
        row = self._db.execute(
            "SELECT MIN(epoch) FROM epochs WHERE status <> 'sealed'"
        ).fetchone()
        return int(row[0]) - 1

    def position(self, topic: str) -> Position:
        """Where the open epoch stands in a topic; partitions never read are missing."""
        return self._range(topic, self.open_epoch())

    def range_of(self, epoch: int) -> dict[str, Position]:
        """[first, next) by topic and partition of one epoch."""
        rows = self._db.execute("SELECT DISTINCT topic FROM ranges WHERE epoch = ?", (epoch,))
        return {topic: self._range(topic, epoch) for (topic,) in rows.fetchall()}

    def _range(self, topic: str, epoch: int) -> Position:
        rows = self._db.execute(
            "SELECT partition, first_offset, next_offset FROM ranges WHERE topic = ? AND epoch = ?",
            (topic, epoch),
        ).fetchall()
        return Position({p: first for p, first, _ in rows}, {p: last for p, _, last in rows})

    def unsealed(self, topic: str) -> dict[int, tuple[int, int]]:
        """[first, next) by partition of the events in state that are not in the lake yet."""
        rows = self._db.execute(
            "SELECT partition, MIN(first_offset), MAX(next_offset) FROM ranges JOIN epochs USING "
            "(epoch) WHERE topic = ? AND status <> 'sealed' GROUP BY partition",
            (topic,),
        )
        return {partition: (first, last) for partition, first, last in rows.fetchall()}

    def progress(self) -> dict[str, Progress]:
        """What has been seen, by topic."""
        rows = self._db.execute("SELECT * FROM topics").fetchall()
        return {r[0]: Progress(_time(r[1]), *r[2:]) for r in rows}

    def snapshot(self, state: str, topic: str) -> StateView:
        """One state, consistent at one moment, blocks decoded (and kept for the next call)."""
        with self._read() as db:
            row = db.execute(
                "SELECT since_epoch, pruned_to FROM states WHERE state = ?", (state,)
            ).fetchone()
            epochs = tuple(self.epochs())
            active = db.execute(
                "SELECT DISTINCT epoch FROM ranges WHERE topic = ? AND next_offset > first_offset "
                "ORDER BY epoch", (topic,)
            ).fetchall()  # fmt: skip
            heads = db.execute(
                "SELECT block, epoch, dimensions FROM blocks WHERE state = ? ORDER BY block",
                (state,),
            ).fetchall()
            blocks = tuple((e, d, self._block(b)) for b, e, d in heads)
        since, pruned = row if row else (None, 0)
        return StateView(since, pruned, epochs, tuple(e for (e,) in active), blocks)

    def _block(self, block: int) -> pa.Table:
        """A block's table; decoded once, since blocks never change."""
        if block not in self._cache:
            crc, body = self._db.execute(
                "SELECT crc32, body FROM blocks WHERE block = ?", (block,)
            ).fetchone()
            self._cache[block] = decode(body, crc, f"{self._path}: state block {block}")
        return self._cache[block]

    def forget_missing_blocks(self) -> None:
        """Drop decoded blocks that compaction or pruning has removed."""
        present = {b for (b,) in self._db.execute("SELECT block FROM blocks").fetchall()}
        for block in [b for b in self._cache if b not in present]:
            del self._cache[block]

    def windows(self, view: str) -> list[tuple[datetime, str, int, int]]:
        """(start, "open" | "final" | "revised", revision, late events) of windows of note."""
        rows = self._db.execute(
            "SELECT window_start, status, revision, late FROM windows WHERE view = ? "
            "ORDER BY window_start", (view,)
        ).fetchall()  # fmt: skip
        return [(datetime.fromisoformat(start), *rest) for start, *rest in rows]

    def alerts(self, *, unpublished: bool = False) -> list[Alert]:
        """Alerts raised, oldest first."""
        where = "WHERE published = 0" if unpublished else ""
        rows = self._db.execute(
            "SELECT alert_id, revision, view, window_start, window_end, level, keys, detail, "
            f"raised_at FROM alerts {where} ORDER BY raised_at, window_start, alert_id, revision"
        ).fetchall()
        return [
            Alert(r[0], r[1], r[2], _at(r[3]), _at(r[4]), r[5], r[6], r[7], _at(r[8]))
            for r in rows
        ]

    # -- writing -------------------------------------------------------------------------

    def register(self, states: Iterable[str]) -> int:
        """Keep these states from the open epoch on, which must not hold events yet if one is new.

        Returns:
            How many were new.
        """
        with self._write(owned=True) as db:
            known = {s for (s,) in db.execute("SELECT state FROM states").fetchall()}
            new = [state for state in states if state not in known]
            epoch = self.open_epoch()
            db.executemany(
                "INSERT INTO states VALUES (?, ?, 0)", [(state, epoch) for state in new]
            )
        return len(new)

    def unregister(self, states: Iterable[str]) -> None:
        """Keep these states no longer: their view is gone, changed or cannot run."""
        with self._write(owned=True) as db:
            for state in states:
                db.execute("DELETE FROM blocks WHERE state = ?", (state,))
                db.execute("DELETE FROM states WHERE state = ?", (state,))

    def registered(self) -> set[str]:
        """States that are kept."""
        return {s for (s,) in self._db.execute("SELECT state FROM states").fetchall()}

    def commit(self, batch: MicroBatch) -> None:
        """Commit a micro-batch: offsets, states, progress and windows, all or nothing.

        Raises:
            StateError: another process owns the state, or the disk refused; nothing was kept.
        """
        encoded = [(state, table.num_rows, *encode(table)) for state, table in batch.states]
        with self._write(owned=True) as db:
            for topic, offsets in batch.next_offsets.items():
                db.executemany(
                    "UPDATE ranges SET next_offset = ? WHERE epoch = ? AND topic = ? "
                    "AND partition = ?",
                    [(after, batch.epoch, topic, p) for p, after in offsets.items()],
                )
            db.executemany(
                "INSERT INTO blocks (state, epoch, level, rows, dimensions, crc32, body) "
                "VALUES (?, ?, 0, ?, ?, ?, ?)",
                [(s, batch.epoch, rows, batch.dimensions, crc, body)
                 for s, rows, body, crc in encoded],
            )  # fmt: skip
            for topic, seen in batch.progress.items():
                self._add_progress(topic, seen)
            self._touch(batch.windows)

    def _add_progress(self, topic: str, seen: Progress) -> None:
        self._db.execute(
            "INSERT INTO topics VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic) DO UPDATE SET "
            "max_event_time = MAX(COALESCE(max_event_time, ''), excluded.max_event_time), "
            "events = events + excluded.events, duplicates = duplicates + excluded.duplicates, "
            "late = late + excluded.late",
            (topic, _text(seen.max_event_time), seen.events, seen.duplicates, seen.late),
        )

    def _touch(self, windows: Sequence[Touched]) -> None:
        self._db.executemany(
            "INSERT INTO windows VALUES (?, ?, ?, 0, ?) "
            "ON CONFLICT (view, window_start) DO UPDATE SET late = late + excluded.late, "
            "status = CASE WHEN status = 'open' THEN 'open' ELSE 'revised' END",
            [
                (w.view, w.start.isoformat(" "), "revised" if w.late else "open", w.late)
                for w in windows
            ],
        )

    def begin(self, positions: Mapping[str, Mapping[int, int]]) -> None:
        """Note where new topics or partitions start in the open epoch."""
        epoch = self.open_epoch()
        with self._write(owned=True) as db:
            db.executemany(
                "INSERT OR IGNORE INTO ranges VALUES (?, ?, ?, ?, ?)",
                [(epoch, topic, p, first, first)
                 for topic, offsets in positions.items() for p, first in offsets.items()],
            )  # fmt: skip

    def cut(self) -> int | None:
        """Close the open epoch for sealing and open the next; None if it holds no events."""
        epoch = self.open_epoch()
        with self._write(owned=True) as db:
            (events,) = db.execute(
                "SELECT COALESCE(SUM(next_offset - first_offset), 0) FROM ranges WHERE epoch = ?",
                (epoch,),
            ).fetchone()
            if events == 0:
                return None
            db.execute("UPDATE epochs SET status = 'sealing' WHERE epoch = ?", (epoch,))
            db.execute("INSERT INTO epochs VALUES (?, 'open', ?, NULL)", (epoch + 1, _now()))
            db.execute(
                "INSERT INTO ranges SELECT ?, topic, partition, next_offset, next_offset "
                "FROM ranges WHERE epoch = ?", (epoch + 1, epoch)
            )  # fmt: skip
        return epoch

    def sealed(self, epoch: int) -> None:
        """Note that the epoch's events are in the lake."""
        with self._write(owned=True) as db:
            db.execute(
                "UPDATE epochs SET status = 'sealed', sealed = ? WHERE epoch = ?", (_now(), epoch)
            )

    def mergeable(self, state: str, *, fan_in: int) -> list[tuple[int, int, list[int]]]:
        """(epoch, level, blocks) with at least `fan_in` blocks of one level to compact."""
        rows = self._db.execute(
            "SELECT epoch, level, GROUP_CONCAT(block) FROM blocks WHERE state = ? "
            "GROUP BY epoch, level, dimensions HAVING COUNT(*) >= ?", (state, fan_in)
        ).fetchall()  # fmt: skip
        return [(epoch, level, [int(b) for b in text.split(",")]) for epoch, level, text in rows]

    def tables(self, blocks: Sequence[int]) -> list[pa.Table]:
        """The tables of some blocks."""
        with self._read():
            return [self._block(block) for block in blocks]

    def replace(self, blocks: Sequence[int], merged: pa.Table, level: int) -> None:
        """Put one merged block of the next level in the place of several of one epoch."""
        body, crc = encode(merged)
        marks = ",".join("?" * len(blocks))
        with self._write(owned=True) as db:
            state, epoch, dimensions = db.execute(
                "SELECT state, epoch, dimensions FROM blocks WHERE block = ?", (blocks[0],)
            ).fetchone()
            db.execute(f"DELETE FROM blocks WHERE block IN ({marks})", tuple(blocks))
            db.execute(
                "INSERT INTO blocks (state, epoch, level, rows, dimensions, crc32, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (state, epoch, level, merged.num_rows, dimensions, crc, body),
            )
        for block in blocks:
            self._cache.pop(block, None)

    def prune(self, state: str, epoch: int) -> int:
        """Drop the state's blocks up to an epoch that the batch layer covers; how many."""
        with self._write() as db:
            gone = db.execute(
                "DELETE FROM blocks WHERE state = ? AND epoch <= ?", (state, epoch)
            ).rowcount
            db.execute(
                "UPDATE states SET pruned_to = MAX(pruned_to, ?) WHERE state = ?", (epoch, state)
            )
        return int(gone)

    def finish_windows(self, view: str, before: datetime) -> list[tuple[datetime, int]]:
        """Windows of a view that start before `before` and are open or revised."""
        rows = self._db.execute(
            "SELECT window_start, revision FROM windows WHERE view = ? AND window_start < ? "
            "AND status <> 'final' ORDER BY window_start",
            (view, before.isoformat(" ")),
        ).fetchall()
        return [(datetime.fromisoformat(start), revision) for start, revision in rows]

    def raise_alerts(
        self, view: str, windows: Sequence[datetime], alerts: Sequence[Alert]
    ) -> list[Alert]:
        """Mark windows final and keep their alerts, each once per change; those that are new."""
        new = []
        with self._write(owned=True) as db:
            for alert in alerts:
                last = db.execute(
                    "SELECT revision, level, detail FROM alerts WHERE alert_id = ? "
                    "ORDER BY revision DESC LIMIT 1", (alert.alert_id,)
                ).fetchone()  # fmt: skip
                if last is not None and (last[1], last[2]) == (alert.level, alert.detail):
                    continue
                revision = 0 if last is None else last[0] + 1
                db.execute(
                    "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                    (alert.alert_id, revision, view, _text(alert.window_start),
                     _text(alert.window_end), alert.level, alert.keys, alert.detail,
                     _text(alert.raised_at)),
                )  # fmt: skip
                new.append(Alert(**{**vars(alert), "revision": revision}))
            db.executemany(
                "UPDATE windows SET revision = revision + (status = 'revised'), status = 'final' "
                "WHERE view = ? AND window_start = ?",
                [(view, start.isoformat(" ")) for start in windows],
            )
            db.execute(
                "DELETE FROM windows WHERE view = ? AND status = 'final' AND revision = 0", (view,)
            )
        return new

    def published(self, alerts: Sequence[Alert], offsets: Mapping[int, int]) -> None:
        """Note that alerts are in the event log, which now ends at `offsets`."""
        with self._write(owned=True) as db:
            db.executemany(
                "UPDATE alerts SET published = 1 WHERE alert_id = ? AND revision = ?",
                [(a.alert_id, a.revision) for a in alerts],
            )
            self._put("alerts_published_to", json.dumps(offsets))

    def published_to(self) -> dict[int, int]:
        """End offsets of the alerts topic when alerts were last noted as published."""
        found = json.loads(self._get("alerts_published_to") or "{}")
        return {int(partition): int(offset) for partition, offset in found.items()}


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(" ")


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(" ")


def _time(text: str | None) -> datetime | None:
    return None if not text else datetime.fromisoformat(text)


def _at(text: Any) -> datetime:
    return datetime.fromisoformat(text)
