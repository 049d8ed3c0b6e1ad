"""Changes of the speed layer's state: what each does to the tables, and how it is told elsewhere.

A change is decided by whoever owns the state. Applied to another file that stands where the
owner's stood, it makes the same of it.
"""

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from playhead.errors import StateError
from playhead.speed import blocktable, metatable, topictable, windowtable
from playhead.speed.records import Alert, Encoded, MicroBatch, Position, Progress, Touched

Offsets = Mapping[str, Mapping[int, int]]
"""An offset by topic and partition."""


class Change(ABC):
    """One change, all or nothing."""

    kind: ClassVar[str]
    """What it is called where it is told."""

    parts: tuple[Encoded, ...] = ()
    """Rows that it brings; they are told beside `what`."""

    @abstractmethod
    def apply(self, db: sqlite3.Connection) -> None:
        """Change the tables; whoever calls holds the transaction."""

    @abstractmethod
    def what(self) -> dict[str, Any]:
        """Its arguments as JSON has them, without its parts."""

    @classmethod
    @abstractmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        """The same change of what was told."""

    @property
    def text(self) -> str:
        """Its arguments as JSON text."""
        return json.dumps(self.what(), separators=(",", ":"))


@dataclass(frozen=True)
class Owned(Change):
    """Another speed layer writes from here on; whoever wrote before can do so no more."""

    kind = "own"

    def apply(self, db: sqlite3.Connection) -> None:
        """It changes no table: its place in the order of all changes is what counts."""

    def what(self) -> dict[str, Any]:
        return {}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        return cls()


@dataclass(frozen=True)
class Committed(Change):
    """A micro-batch, with its parts as bytes."""

    kind = "commit"
    batch: MicroBatch
    parts: tuple[Encoded, ...] = ()

    def apply(self, db: sqlite3.Connection) -> None:
        batch = self.batch
        for topic, offsets in batch.next_offsets.items():
            db.executemany(
                "UPDATE ranges SET next_offset = ? WHERE epoch = ? AND topic = ? AND partition = ?",
                [(after, batch.epoch, topic, p) for p, after in offsets.items()],
            )
        for part in self.parts:
            blocktable.insert(db, part, epoch=batch.epoch, level=0, made_with=batch.dimensions)
        db.executemany(
            "INSERT OR IGNORE INTO loads VALUES (?, ?, ?)",
            [(batch.epoch, topic, load) for topic, load in batch.loads.items()],
        )
        for topic, seen in batch.progress.items():
            topictable.add(db, topic, seen)
        windowtable.touch(db, batch.windows)

    def what(self) -> dict[str, Any]:
        batch = self.batch
        return {
            "epoch": batch.epoch,
            "next": batch.next_offsets,
            "dimensions": batch.dimensions,
            "loads": batch.loads,
            "progress": {
                topic: [_told(p.max_event_time), p.events, p.duplicates, p.late]
                for topic, p in batch.progress.items()
            },
            "windows": [[w.view, _told(w.start), w.late] for w in batch.windows],
        }

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        batch = MicroBatch(
            what["epoch"],
            {topic: _by_partition(offsets) for topic, offsets in what["next"].items()},
            dimensions=what["dimensions"],
            loads=what["loads"],
            progress={
                topic: Progress(newest and datetime.fromisoformat(newest), *counts)
                for topic, (newest, *counts) in what["progress"].items()
            },
            windows=[Touched(v, datetime.fromisoformat(s), n) for v, s, n in what["windows"]],
        )
        return cls(batch, tuple(parts))


@dataclass(frozen=True)
class Begun(Change):
    """New topics or partitions start somewhere in the open epoch."""

    kind = "begin"
    epoch: int
    positions: Offsets

    def apply(self, db: sqlite3.Connection) -> None:
        db.executemany(
            "INSERT OR IGNORE INTO ranges VALUES (?, ?, ?, ?, ?)",
            [
                (self.epoch, topic, partition, first, first)
                for topic, offsets in self.positions.items()
                for partition, first in offsets.items()
            ],
        )

    def what(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "positions": self.positions}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        positions = {topic: _by_partition(o) for topic, o in what["positions"].items()}
        return cls(what["epoch"], positions)


@dataclass(frozen=True)
class Registered(Change):
    """States are kept from an epoch on."""

    kind = "register"
    states: tuple[str, ...]
    epoch: int

    def apply(self, db: sqlite3.Connection) -> None:
        newest = blocktable.newest(db)
        db.executemany(
            "INSERT INTO states VALUES (?, ?, 0, ?)",
            [(state, self.epoch, newest) for state in self.states],
        )

    def what(self) -> dict[str, Any]:
        return {"states": self.states, "epoch": self.epoch}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        return cls(tuple(what["states"]), what["epoch"])


@dataclass(frozen=True)
class Unregistered(Change):
    """States are kept no longer."""

    kind = "unregister"
    states: tuple[str, ...]

    def apply(self, db: sqlite3.Connection) -> None:
        for state in self.states:
            blocktable.delete(db, "state = ?", state)
        db.executemany("DELETE FROM states WHERE state = ?", [(s,) for s in self.states])

    def what(self) -> dict[str, Any]:
        return {"states": self.states}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        return cls(tuple(what["states"]))


@dataclass(frozen=True)
class Cut(Change):
    """The open epoch is closed for sealing, and the next one begins."""

    kind = "cut"
    epoch: int
    now: str

    def apply(self, db: sqlite3.Connection) -> None:
        db.execute("UPDATE epochs SET status = 'sealing' WHERE epoch = ?", (self.epoch,))
        db.execute("INSERT INTO epochs VALUES (?, 'open', ?, NULL)", (self.epoch + 1, self.now))
        db.execute(
            "INSERT INTO ranges SELECT ?, topic, partition, next_offset, next_offset "
            "FROM ranges WHERE epoch = ?",
            (self.epoch + 1, self.epoch),
        )

    def what(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "now": self.now}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        return cls(what["epoch"], what["now"])


@dataclass(frozen=True)
class Sealed(Change):
    """An epoch's events are in the lake."""

    kind = "sealed"
    epoch: int
    now: str

    def apply(self, db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE epochs SET status = 'sealed', sealed = ? WHERE epoch = ?",
            (self.now, self.epoch),
        )

    def what(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "now": self.now}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        return cls(what["epoch"], what["now"])


@dataclass(frozen=True)
class Rebased(Change):
    """The state starts over after epochs that the lake holds; see `StateStore.rebase`."""

    kind = "rebase"
    last: Mapping[str, tuple[int, Position]]
    now: str

    def apply(self, db: sqlite3.Connection) -> None:
        held = sorted({epoch for epoch, _ in self.last.values()})
        following, now = held[-1] + 1, self.now
        for table in ("blocks", "bodies", "states", "epochs", "ranges", "loads"):
            db.execute(f"DELETE FROM {table}")
        db.executemany(
            "INSERT INTO epochs VALUES (?, 'sealed', ?, ?)", [(e, now, now) for e in held]
        )
        db.execute("INSERT INTO epochs VALUES (?, 'open', ?, NULL)", (following, now))
        for topic, (epoch, at) in self.last.items():
            for partition, first in at.first.items():
                after = at.next[partition]
                ranges = ((epoch, first), (following, after))
                db.executemany(
                    "INSERT INTO ranges VALUES (?, ?, ?, ?, ?)",
                    [(e, topic, partition, start, after) for e, start in ranges],
                )

    def what(self) -> dict[str, Any]:
        last = {topic: [epoch, at.first, at.next] for topic, (epoch, at) in self.last.items()}
        return {"last": last, "now": self.now}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        last = {
            topic: (epoch, Position(_by_partition(first), _by_partition(after)))
            for topic, (epoch, first, after) in what["last"].items()
        }
        return cls(last, what["now"])


@dataclass(frozen=True)
class Raised(Change):
    """Windows of a view were judged: they are final, and these alerts are new.

    Attributes:
        late: see `StateStore.raise_alerts`.
    """

    kind = "raise_alerts"
    view: str
    windows: tuple[datetime, ...]
    alerts: tuple[Alert, ...]
    late: Mapping[datetime, int]

    def apply(self, db: sqlite3.Connection) -> None:
        windowtable.insert(db, self.alerts)
        windowtable.finish(db, self.view, self.windows, self.late)

    def what(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "windows": [_told(start) for start in self.windows],
            "alerts": [windowtable.row_of(alert) for alert in self.alerts],
            "late": {_told(start): count for start, count in self.late.items()},
        }

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        return cls(
            what["view"],
            tuple(datetime.fromisoformat(start) for start in what["windows"]),
            tuple(windowtable.alert_of(row) for row in what["alerts"]),
            {datetime.fromisoformat(start): count for start, count in what["late"].items()},
        )


@dataclass(frozen=True)
class Published(Change):
    """Alerts, (id, revision) each, are in the event log, which now ends at some offsets."""

    kind = "published"
    alerts: tuple[tuple[str, int], ...]
    offsets: Mapping[int, int]

    def apply(self, db: sqlite3.Connection) -> None:
        windowtable.note_published(db, self.alerts)
        metatable.put(db, "alerts_published_to", json.dumps(self.offsets))

    def what(self) -> dict[str, Any]:
        return {"alerts": self.alerts, "offsets": self.offsets}

    @classmethod
    def heard(cls, what: dict[str, Any], parts: Sequence[Encoded]) -> Self:
        alerts = tuple((alert_id, revision) for alert_id, revision in what["alerts"])
        return cls(alerts, _by_partition(what["offsets"]))


_KINDS: dict[str, type[Change]] = {
    one.kind: one
    for one in (
        *(Owned, Committed, Begun, Registered, Unregistered),
        *(Cut, Sealed, Rebased, Raised, Published),
    )
}


def heard(kind: str, text: str, parts: Sequence[Encoded], place: str) -> Change:
    """The change that was told.

    Args:
        place: where it was read, for error messages.

    Raises:
        StateError: it is of a kind that this Playhead does not know, or no such change.
    """
    if kind not in _KINDS:
        raise StateError(
            f"{place} is a change {kind!r}, which this Playhead does not know",
            hint="Use the newer Playhead that wrote it.",
        )
    try:
        return _KINDS[kind].heard(json.loads(text), parts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"{place} is no change {kind!r}: {error}") from error


def _by_partition(offsets: Mapping[str, int]) -> dict[int, int]:
    """Offsets as they were before JSON made texts of their partitions."""
    return {int(partition): int(offset) for partition, offset in offsets.items()}


def _told(time: datetime | None) -> str | None:
    return None if time is None else windowtable.text(time)
