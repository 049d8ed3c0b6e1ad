"""The speed layer's state: blocks, offsets, epochs and windows, in one SQLite file.

Whatever belongs together is committed together: the offsets of a micro-batch with the states
that it produced. Any process may read while the one that owns the state writes.
"""

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from playhead.errors import StateError
from playhead.speed import blocktable, changes, metatable, topictable, windowtable
from playhead.speed.blocktable import Bodies
from playhead.speed.changes import Change
from playhead.speed.records import (
    Active,
    Alert,
    Block,
    Crowd,
    Encoded,
    EpochSeen,
    Group,
    Kind,
    MicroBatch,
    Part,
    Position,
    Progress,
    StateView,
)
from playhead.speed.statefile import StateFile

__all__ = ["MicroBatch", "Progress", "StateStore"]


class StateStore:
    """The state of a workspace.

    Threads may share a store; each call takes its turn. Whoever writes takes `own` first.

    Args:
        path: made on first use.

    Raises:
        WorkspaceError: the file was written by a newer Playhead.
        StateError: it cannot be opened, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._file = StateFile(path)
        self._owner: str | None = None
        self._bodies = Bodies(path)

    def close(self) -> None:
        """Close the file; the store cannot be used after it. May be called twice."""
        self._file.close()
        self._bodies.clear()

    # -- ownership -----------------------------------------------------------------------

    def own(self) -> None:
        """Become the one writer: whoever owned the state before can commit no more."""
        with self._file.writing() as db:
            self._take_over(db)
            marks = metatable.marks(db)
            if marks.store and not marks.apart:
                # What this one writes is not told to the journal that the file belongs to.
                metatable.note(db, replace(marks, apart=True))

    def _take_over(self, db: sqlite3.Connection) -> None:
        self._owner = uuid.uuid4().hex
        metatable.put(db, "owner", self._owner)

    def owner(self) -> str | None:
        """Who owned the state last; None before anybody did."""
        with self._file.reading() as db:
            return metatable.get(db, "owner")

    @property
    def owner_here(self) -> str | None:
        """Who this store writes for; None before `own`."""
        return self._owner

    def beside(self) -> "StateStore":
        """Another store on the same file that writes for the same owner; close it, too."""
        store = StateStore(self._file.path)
        store._owner = self._owner
        return store

    @contextmanager
    def _owned(self) -> Iterator[sqlite3.Connection]:
        """One transaction, refused if another process took the state over."""
        with self._file.writing() as db:
            if metatable.get(db, "owner") != self._owner:
                raise StateError(
                    f"another speed layer took over {self._file.path}",
                    hint="This one stops; nothing of its last micro-batch was kept.",
                )
            yield db

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody take the state over while the block runs; what it writes is committed at once.

        Raises:
            StateError: another process has taken it over.
        """
        with self._owned():
            yield

    # -- how it changes ------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes what a decision rests on while the block runs."""
        with self._owned():
            yield

    def _make(self, change: Change, *, label: str = "") -> None:
        """Make a change that others have to know of before it counts, where there are others."""
        with self._owned() as db:
            change.apply(db)

    def _note(self, db: sqlite3.Connection, change: Change) -> None:
        """Make a change that others may be told of later, in a transaction that is under way."""
        change.apply(db)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell others what there is to tell while the block runs, and at its end.

        The state of one machine has nobody to tell.
        """
        yield

    # -- where the layer is --------------------------------------------------------------

    def epochs(self) -> list[tuple[int, str]]:
        """(epoch, "open" | "sealing" | "sealed"), ascending; the last one is open.

        Epochs that the batch layer has long covered are left out.
        """
        return self._file.rows("SELECT epoch, status FROM epochs ORDER BY epoch")

    def history(self) -> list[EpochSeen]:
        """The same epochs with their times and events, ascending."""
        rows = self._file.rows(
            "SELECT epoch, status, opened, sealed, COALESCE(SUM(next_offset - first_offset), 0) "
            "FROM epochs LEFT JOIN ranges USING (epoch) GROUP BY epoch ORDER BY epoch"
        )
        return [EpochSeen.of(*row) for row in rows]

    def open_epoch(self) -> int:
        """The epoch that new events go to."""
        ((epoch,),) = self._file.rows("SELECT MAX(epoch) FROM epochs")
        return int(epoch)

    def sealed_epoch(self) -> int:
        """The last epoch E such that all epochs up to E are in the lake; 0 for none."""
        ((epoch,),) = self._file.rows("SELECT MIN(epoch) FROM epochs WHERE status <> 'sealed'")
        return int(epoch) - 1

    def position(self, topic: str) -> Position:
        """Where the open epoch stands in a topic; partitions never read are missing."""
        with self._file.reading():
            return self.range_of(self.open_epoch()).get(topic, Position({}, {}))

    def range_of(self, epoch: int) -> dict[str, Position]:
        """[first, next) by topic and partition of one epoch."""
        rows = self._file.rows(
            "SELECT topic, partition, first_offset, next_offset FROM ranges WHERE epoch = ?", epoch
        )
        found: dict[str, Position] = {}
        for topic, partition, first, after in rows:
            position = found.setdefault(topic, Position({}, {}))
            position.first[partition] = first
            position.next[partition] = after
        return found

    def unsealed(self, topic: str) -> dict[int, tuple[int, int]]:
        """[first, next) by partition of the events in state that are not in the lake yet."""
        rows = self._file.rows(
            "SELECT partition, MIN(first_offset), MAX(next_offset) FROM ranges JOIN epochs USING "
            "(epoch) WHERE topic = ? AND status <> 'sealed' GROUP BY partition",
            topic,
        )
        return {partition: (first, last) for partition, first, last in rows}

    def progress(self) -> dict[str, Progress]:
        """What has been seen, by topic."""
        with self._file.reading() as db:
            return topictable.progress(db)

    # -- what serving reads --------------------------------------------------------------

    def head(self, state: str, topic: str) -> StateView:
        """What one state holds, without its blocks."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT since_epoch, pruned_to, since_block FROM states WHERE state = ?", (state,)
            ).fetchone()
            active = db.execute(
                "SELECT epoch, status, COALESCE(MAX(load_id), 0) FROM ranges JOIN epochs "
                "USING (epoch) LEFT JOIN loads USING (epoch, topic) "
                "WHERE topic = ? AND next_offset > first_offset GROUP BY epoch ORDER BY epoch",
                (topic,),
            ).fetchall()
            made = db.execute(
                "SELECT DISTINCT epoch, dimensions FROM blocks WHERE state = ? ORDER BY 1, 2",
                (state,),
            ).fetchall()
            (newest,) = db.execute(
                "SELECT COALESCE(MAX(newest), 0) FROM blocks WHERE state = ?", (state,)
            ).fetchone()
        since, pruned, block = row or (None, 0, 0)
        epochs = tuple(Active(*a) for a in active)
        return StateView(since, pruned, epochs, tuple(made), block, newest)

    def snapshot(
        self,
        state: str,
        topic: str,
        *,
        first_us: int | None = None,
        last_us: int | None = None,
    ) -> tuple[StateView, list[Block]]:
        """One state with its blocks, all as they stood at one moment.

        Blocks never change, so what is decoded is kept for a while.

        Args:
            first_us, last_us: leave out blocks without any event between these microseconds
                since 1970, both inclusive; None: no bound.
        """
        with self._file.reading() as db:
            blocks = self._bodies.blocks(db, state, first_us=first_us, last_us=last_us)
            return self.head(state, topic), blocks

    def marks(self, state: str, topic: str) -> tuple[StateView, tuple[tuple[int, int, int], ...]]:
        """One state with (number, epoch, CRC-32) of its blocks at one moment; reads no rows."""
        with self._file.reading() as db:
            return self.head(state, topic), blocktable.marks(db, state)

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """(blocks, rows, bytes) by state; events that several states share count for each."""
        rows = self._file.rows(
            "SELECT state, COUNT(*), SUM(rows), SUM(LENGTH(bytes)) FROM blocks "
            "JOIN bodies USING (body) GROUP BY state"
        )
        return {state: (blocks, count, size) for state, blocks, count, size in rows}

    def windows(self, view: str) -> list[tuple[datetime, str, int, int]]:
        """(start, "open" | "final" | "revised", revision, late events) of windows of note."""
        with self._file.reading() as db:
            return windowtable.windows(db, view)

    def alerts(self, *, unpublished: bool = False) -> list[Alert]:
        """Alerts raised, oldest first."""
        with self._file.reading() as db:
            return windowtable.alerts(db, unpublished=unpublished)

    # -- which states are kept -----------------------------------------------------------

    def register(self, states: Iterable[str]) -> int:
        """Keep these states from the open epoch on.

        Returns:
            How many were new.

        Raises:
            StateError: one is new and the open epoch holds events already, so it would miss them.
        """
        with self._owned() as db:
            known = self.registered()
            new = tuple(state for state in states if state not in known)
            epoch = self.open_epoch()
            if new and self._holds_events(epoch):
                raise StateError(f"epoch {epoch} holds events, so {new[0]} would miss them")
            if new:
                self._note(db, changes.Registered(new, epoch))
        return len(new)

    def unregister(self, states: Iterable[str]) -> None:
        """Keep these states no longer: their view is gone, changed or cannot run."""
        if gone := tuple(states):
            with self._owned() as db:
                self._note(db, changes.Unregistered(gone))

    def registered(self) -> set[str]:
        """States that are kept."""
        return {state for (state,) in self._file.rows("SELECT state FROM states")}

    # -- a micro-batch -------------------------------------------------------------------

    def commit(self, batch: MicroBatch, *, label: str = "") -> None:
        """Commit a micro-batch: offsets, states, progress and windows, all or nothing.

        Args:
            label: what whoever made it calls it; told to others beside the offsets.

        Raises:
            StateError: another process owns the state, or the disk refused; nothing was kept.
        """
        encoded = [part if isinstance(part, Encoded) else Encoded.of(part) for part in batch.parts]
        self._make(changes.Committed(batch, tuple(encoded)), label=label)

    def begin(self, positions: Mapping[str, Mapping[int, int]]) -> None:
        """Note where new topics or partitions start in the open epoch."""
        with self._owned() as db:
            self._note(db, changes.Begun(self.open_epoch(), positions))

    # -- epochs --------------------------------------------------------------------------

    def cut(self) -> int | None:
        """Close the open epoch for sealing and open the next; None if it holds no events."""
        with self._alone():
            epoch = self.open_epoch()
            if not self._holds_events(epoch):
                return None
            self._make(changes.Cut(epoch, _now()))
        return epoch

    def _holds_events(self, epoch: int) -> bool:
        return any(position.holds_events for position in self.range_of(epoch).values())

    def sealed(self, epoch: int) -> None:
        """Note that the epoch's events are in the lake."""
        with self._owned() as db:
            self._note(db, changes.Sealed(epoch, _now()))

    def rebase(self, last: Mapping[str, tuple[int, Position]]) -> None:
        """Start over after the epochs that the lake holds, when they are ahead of this state.

        States lose their blocks: what the batch layer has not covered is a gap until it has.

        Args:
            last: by topic, the last epoch with events of it and where that epoch stood.
        """
        self._make(changes.Rebased(last, _now()))

    # -- compaction ----------------------------------------------------------------------

    def newest_block(self) -> int:
        """The highest number that a block was ever given; 0 before any."""
        with self._file.reading() as db:
            return blocktable.newest(db)

    def groups(
        self, state: str, kind: Kind, *, fan_in: int, limit_rows: int, newest: int
    ) -> list[Group]:
        """Blocks of a state that may become one: of the open epoch `fan_in` of one level, else all.

        Args:
            limit_rows: a group has about as many rows at most.
            newest: leave out blocks that go back to one with a higher number.
        """
        with self._file.reading() as db:
            return blocktable.groups(
                db, state, kind, fan_in=fan_in, limit_rows=limit_rows, newest=newest
            )

    def tables(self, blocks: Sequence[int]) -> list[pa.Table]:
        """The rows of some blocks, without those that are gone meanwhile."""
        with self._file.reading() as db:
            return self._bodies.of_blocks(db, blocks)

    def times(self, blocks: Sequence[int]) -> tuple[int | None, int | None]:
        """Microseconds since 1970 of the first and the last event in some blocks."""
        rows = self._file.rows(
            "SELECT MIN(first_us), MAX(last_us) FROM blocks "
            "WHERE block IN (SELECT value FROM json_each(?))",
            json.dumps(list(blocks)),
        )
        ((first_us, last_us),) = rows
        return first_us, last_us

    def replace(self, group: Group, merged: Part) -> bool:
        """Put one block of states in the place of a group.

        Returns:
            False if one of them is gone (a batch run covers its epoch): nothing was changed.
        """
        encoded = Encoded.of(merged)
        with self._owned() as db:
            if len(blocktable.present(db, group.blocks)) < len(group.blocks):
                return False
            ancestors = blocktable.made_of(db, "block", group.blocks)
            blocks = json.dumps(group.blocks)
            blocktable.delete(db, "block IN (SELECT value FROM json_each(?))", blocks)
            blocktable.insert(
                db,
                encoded,
                epoch=group.epoch,
                level=group.level + 1,
                made_with=group.made_with,
                made_of=ancestors,
            )
        return True

    def crowds(self, *, fan_in: int, newest: int) -> list[Crowd]:
        """Small bodies of events that may become one, without any block of a higher number."""
        with self._file.reading() as db:
            return blocktable.crowds(db, fan_in=fan_in, newest=newest)

    def crowded(self, crowd: Crowd) -> list[pa.Table]:
        """The rows of a crowd's bodies, without those that are gone meanwhile."""
        with self._file.reading() as db:
            there = blocktable.bodies_present(db, crowd.bodies)
            return [self._bodies.read(db, body, keep=False) for body in there]

    def put_together(self, crowd: Crowd, together: Part) -> bool:
        """Put one body of events in the place of a crowd; False if one of them is gone."""
        encoded = Encoded.of(together)
        with self._owned() as db:
            return blocktable.put_together(db, crowd, encoded)

    def prune(self, state: str, epoch: int) -> int:
        """Drop the state's blocks up to an epoch that the batch layer covers; how many.

        Epochs that every kept state has from the batch layer are forgotten.
        """
        with self._file.writing() as db:
            return blocktable.prune(db, state, epoch)

    # -- windows and alerts --------------------------------------------------------------

    def finish_windows(
        self, view: str, before: datetime, *, limit: int = 1_000_000
    ) -> list[datetime]:
        """Windows of a view that start before `before` and are open or revised, oldest first."""
        with self._file.reading() as db:
            return windowtable.unjudged(db, view, before, limit)

    def late(self, view: str, windows: Sequence[datetime]) -> dict[datetime, int]:
        """How many late events some windows of a view have got so far."""
        with self._file.reading() as db:
            return windowtable.late(db, view, windows)

    def raised(self, view: str, windows: Sequence[datetime]) -> dict[datetime, set[str]]:
        """Ids of the alerts that were raised before in some windows, by window."""
        with self._file.reading() as db:
            return windowtable.raised(db, view, windows)

    def raise_alerts(
        self,
        view: str,
        windows: Sequence[datetime],
        alerts: Sequence[Alert],
        *,
        late: Mapping[datetime, int] | None = None,
    ) -> list[Alert]:
        """Mark windows final and keep their alerts, each once per change; those that are new.

        Args:
            late: how many late events the windows had when they were judged: one that has got
                more is not final; None: they got none.
        """
        with self._owned() as db:
            new = windowtable.changed(db, alerts)
            self._note(db, changes.Raised(view, tuple(windows), tuple(new), late or {}))
        return new

    def published(self, alerts: Sequence[Alert], offsets: Mapping[int, int]) -> None:
        """Note that alerts are in the event log, which now ends at `offsets`."""
        those = tuple((alert.alert_id, alert.revision) for alert in alerts)
        with self._owned() as db:
            self._note(db, changes.Published(those, offsets))

    def published_to(self) -> dict[int, int]:
        """End offsets of the alerts topic when alerts were last noted as published."""
        with self._file.reading() as db:
            found = json.loads(metatable.get(db, "alerts_published_to") or "{}")
        return {int(partition): int(offset) for partition, offset in found.items()}


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
