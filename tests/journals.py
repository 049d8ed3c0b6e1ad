"""Machines that share one speed layer's state through a lake, and what their state files hold."""

import sqlite3
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from playhead.engines import connect
from playhead.lake import Lake
from playhead.speed.journal import Journal
from playhead.speed.records import Alert, MicroBatch, Part, Progress, Touched
from playhead.speed.replica import Replica
from playhead.speed.shared import SharedState
from playhead.speed.state import StateStore

T0 = datetime(2025, 1, 1)
TOPIC = "playback"

_TABLES = {
    "epochs": "SELECT epoch, status, opened, sealed FROM epochs ORDER BY 1",
    "ranges": "SELECT * FROM ranges ORDER BY 1, 2, 3",
    "loads": "SELECT * FROM loads ORDER BY 1, 2",
    "states": "SELECT state, since_epoch, pruned_to FROM states ORDER BY 1",
    "topics": "SELECT * FROM topics ORDER BY 1",
    "windows": "SELECT * FROM windows ORDER BY 1, 2",
    "alerts": "SELECT * FROM alerts ORDER BY 1, 2",
    "meta": "SELECT key, value FROM meta WHERE key <> 'owner' AND key NOT LIKE 'journal.%'",
}


class Machine:
    """A folder with a state file, and a lake that others have, too; closes what it opened."""

    def __init__(self, folder: Path, lake: Lake) -> None:
        self.folder, self.lake = folder, lake
        self.path = folder / "state.db"
        self._opened = ExitStack()

    def close(self) -> None:
        self._opened.close()

    def journal(self) -> Journal:
        connection = connect(memory_limit="200MB", threads=1, temp_dir=self.folder / "tmp")
        self._opened.callback(connection.close)
        return Journal(self.lake, connection, self.folder / "scratch")

    def writer(self) -> SharedState:
        """The machine's speed layer's state, anew as after a start; it is not the owner yet."""
        state = SharedState(self.path, self.journal())
        self._opened.callback(state.close)
        return state

    def replica(self) -> Replica:
        replica = Replica(self.path, self.journal(), lambda: 0)
        self._opened.callback(replica.close)
        return replica

    def local(self) -> StateStore:
        """The machine's file for changes of its own making, such as compaction."""
        store = StateStore(self.path)
        store._owner = store.owner()
        return store

    def look(self) -> int:
        """Take up what the journal has; how many operations."""
        replica = self.replica()
        taken = replica.look(most=10_000).taken
        replica.close()
        return taken

    def holds(self) -> dict[str, Any]:
        return held_by(self.path)


def held_by(path: Path) -> dict[str, Any]:
    """What a state file says, without what each file numbers by itself."""
    with closing(sqlite3.connect(path)) as db:
        found: dict[str, Any] = {name: db.execute(sql).fetchall() for name, sql in _TABLES.items()}
    store = StateStore(path)
    rows: dict[tuple[str, int], list[int]] = {}
    for state in sorted(store.registered()):
        _, blocks = store.snapshot(state, TOPIC)
        for block in blocks:
            values = block.rows.column("n").to_pylist()
            rows[state, block.epoch] = sorted([*rows.get((state, block.epoch), []), *values])
    store.close()
    return {**found, "rows": rows}


def micro_batch(
    store: StateStore, upto: int, *values: int, states: tuple[str, ...] = ("s",), late: int = 0
) -> MicroBatch:
    """Offsets of partition 0 to `upto`, and one block of values for some states."""
    start = T0 + timedelta(hours=upto % 3)
    return MicroBatch(
        store.open_epoch(),
        next_offsets={TOPIC: {0: upto}},
        parts=[Part(states, numbers(*values), "states", 1, upto)],
        dimensions='{"users":7}',
        loads={TOPIC: 3},
        progress={TOPIC: Progress(start, events=len(values), duplicates=1, late=late)},
        windows=[Touched("v", start, late)],
    )


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def alert(number: int, detail: str = "{}") -> Alert:
    return Alert(f"a{number}", 0, "v", T0, T0 + timedelta(hours=1), "HIGH", "{}", detail, T0)
