"""State blocks in their SQLite tables: which rows count for which state, and the rows' bytes.

A body may count for many states: events wait in one for all views of their topic. It goes when
its last block goes. A body never changes.
"""

import json
import sqlite3
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pyarrow as pa

from playhead.errors import StateError
from playhead.speed.blocks import decode
from playhead.speed.records import Block, Crowd, Encoded, Group, Kind
from playhead.speed.statefile import REBUILD

_SMALL_ROWS = 1 << 18
"""Bodies of events that are joined; larger ones cost nothing to be many."""

_HELD_BYTES = 1 << 30
"""Decoded bodies that are kept at most."""

_OPEN = "(SELECT MAX(epoch) FROM epochs)"


def insert(
    db: sqlite3.Connection,
    encoded: Encoded,
    *,
    epoch: int,
    level: int,
    made_with: str,
    made_of: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> None:
    """Add a part: one body, and a block for each of its states.

    Args:
        made_of: by state, the oldest and the newest block that a merged part goes back to; a
            micro-batch's own goes back to itself.
    """
    part, body = encoded.part, encoded.body
    cursor = db.execute("INSERT INTO bodies (crc32, bytes) VALUES (?, ?)", (encoded.crc32, body))
    place = (part.first_us, part.last_us, made_with, cursor.lastrowid)
    first = newest(db) + 1
    db.executemany(
        "INSERT INTO blocks (block, state, epoch, kind, level, rows, first_us, last_us, "
        "dimensions, body, oldest, newest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (n, s, epoch, part.kind, level, part.rows.num_rows, *place, *made_of.get(s, (n, n)))
            for n, s in enumerate(part.states, first)
        ],
    )


def prune(db: sqlite3.Connection, state: str, epoch: int) -> int:
    """Delete a state's blocks up to an epoch, and what every state has from the batch layer."""
    gone = delete(db, "state = ? AND epoch <= ?", state, epoch)
    db.execute("UPDATE states SET pruned_to = MAX(pruned_to, ?) WHERE state = ?", (epoch, state))
    for table in ("ranges", "loads", "epochs"):
        db.execute(
            f"DELETE FROM {table} WHERE epoch <= (SELECT MIN(pruned_to) FROM states) "
            "AND epoch < (SELECT MIN(epoch) FROM epochs WHERE status <> 'sealed')"
        )
    return gone


def made_of(
    db: sqlite3.Connection, column: Literal["block", "body"], numbers: Sequence[int]
) -> dict[str, tuple[int, int]]:
    """By state, the oldest and the newest block that some blocks (or bodies) go back to."""
    rows = db.execute(
        f"SELECT state, MIN(oldest), MAX(newest) FROM blocks "
        f"WHERE {column} IN (SELECT value FROM json_each(?)) GROUP BY state",
        (json.dumps(list(numbers)),),
    )
    return {state: (oldest, newest) for state, oldest, newest in rows}


def delete(db: sqlite3.Connection, where: str, *values: str | int) -> int:
    """Delete the blocks of a condition, and the bodies that count for nothing more; how many."""
    bodies = [b for (b,) in db.execute(f"SELECT DISTINCT body FROM blocks WHERE {where}", values)]
    gone = db.execute(f"DELETE FROM blocks WHERE {where}", values).rowcount
    db.execute(
        "DELETE FROM bodies WHERE body IN (SELECT value FROM json_each(?)) "
        "AND NOT EXISTS (SELECT 1 FROM blocks WHERE blocks.body = bodies.body)",
        (json.dumps(bodies),),
    )
    return int(gone)


def newest(db: sqlite3.Connection) -> int:
    """The highest number that a block was ever given; 0 before any."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'blocks'").fetchone()
    return int(row[0]) if row else 0


def present(db: sqlite3.Connection, blocks: Sequence[int]) -> list[int]:
    """Those of some blocks that are there."""
    return [int(b) for (b,) in _of(db, "SELECT block FROM blocks WHERE block IN", blocks)]


def bodies_present(db: sqlite3.Connection, bodies: Sequence[int]) -> list[int]:
    """Those of some bodies that are there."""
    return [int(b) for (b,) in _of(db, "SELECT body FROM bodies WHERE body IN", bodies)]


def marks(db: sqlite3.Connection, state: str) -> tuple[tuple[int, int, int], ...]:
    """(number, epoch, CRC-32 of the body; -1: it is missing) of a state's blocks in order."""
    rows = db.execute(
        "SELECT block, epoch, COALESCE(crc32, -1) FROM blocks LEFT JOIN bodies USING (body) "
        "WHERE state = ? ORDER BY block",
        (state,),
    )
    return tuple((int(block), int(epoch), int(crc)) for block, epoch, crc in rows)


def groups(
    db: sqlite3.Connection, state: str, kind: Kind, *, fan_in: int, limit_rows: int, newest: int
) -> list[Group]:
    """Blocks of a state that may become one: of the open epoch `fan_in` of one level, else all.

    Args:
        limit_rows: a group has about as many rows at most; what is above waits for the next time.
        newest: leave out blocks that go back to one with a higher number.
    """
    rows = db.execute(
        f"SELECT epoch, epoch < {_OPEN}, dimensions, level, block, rows FROM blocks "
        "WHERE state = ? AND kind = ? AND newest <= ? ORDER BY epoch, block",
        (state, kind, newest),
    )
    found: dict[tuple[int, bool, str, int], list[tuple[int, int, int]]] = defaultdict(list)
    for epoch, closed, made_with, level, block, count in rows:
        by_level = level if kind == "states" and not closed else 0
        found[epoch, bool(closed), made_with, by_level].append((block, level, count))
    made = []
    for (epoch, closed, made_with, _), members in found.items():
        taken = _up_to(members, limit_rows)
        if len(taken) >= (min(2, fan_in) if closed else fan_in):
            blocks, levels, counts = zip(*taken, strict=True)
            made.append(Group(epoch, max(levels), blocks, sum(counts), closed, made_with))
    return made


def _up_to(members: Sequence[tuple[int, int, int]], limit: int) -> Sequence[tuple[int, int, int]]:
    rows = 0
    for number, (_, _, count) in enumerate(members):
        rows += count
        if rows > limit and number > 1:
            return members[:number]
    return members


def crowds(db: sqlite3.Connection, *, fan_in: int, newest: int) -> list[Crowd]:
    """Small bodies of events that may become one: `fan_in` of one level in the open epoch.

    Args:
        newest: leave out those with blocks of a higher number.
    """
    rows = db.execute(
        f"SELECT body, epoch, epoch < {_OPEN}, dimensions, level, GROUP_CONCAT(state, ' ') FROM "
        "(SELECT * FROM blocks WHERE kind = 'events' AND rows < ? ORDER BY body, state) "
        "GROUP BY body HAVING MAX(newest) <= ?",
        (_SMALL_ROWS, newest),
    )
    found: dict[tuple[int, bool, str, int, str], list[tuple[int, int]]] = defaultdict(list)
    for body, epoch, closed, made_with, level, states in rows:
        by_level = 0 if closed else level
        found[epoch, bool(closed), made_with, by_level, states].append((body, level))
    return [
        Crowd(max(level for _, level in members), tuple(b for b, _ in members), tuple(s.split()))
        for (_, closed, _, _, s), members in found.items()
        if len(members) >= (2 if closed else fan_in)
    ]


def put_together(db: sqlite3.Connection, crowd: Crowd, encoded: Encoded) -> bool:
    """Put one body in the place of a crowd's; False if one of those is gone meanwhile."""
    bodies = crowd.bodies
    if len(bodies_present(db, bodies)) < len(bodies):
        return False
    states = _of(db, "SELECT DISTINCT state FROM blocks WHERE body IN", bodies)
    if sorted(s for (s,) in states) != sorted(crowd.states):
        return False
    epoch, made_with = db.execute(
        "SELECT epoch, dimensions FROM blocks WHERE body = ?", (bodies[0],)
    ).fetchone()
    ancestors = made_of(db, "body", bodies)
    delete(db, "body IN (SELECT value FROM json_each(?))", json.dumps(bodies))
    insert(db, encoded, epoch=epoch, level=crowd.level + 1, made_with=made_with, made_of=ancestors)
    return True


def _of(db: sqlite3.Connection, select: str, numbers: Sequence[int]) -> list[tuple[int | str]]:
    return db.execute(
        f"{select} (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),)
    ).fetchall()


class Bodies:
    """Reads bodies, and keeps what it decoded of late.

    Args:
        path: of the state's file, for error messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Keep nothing."""
        self._held.clear()
        self._bytes = 0

    def read(self, db: sqlite3.Connection, body: int, *, keep: bool = True) -> pa.Table:
        """The rows of a body.

        Raises:
            StateError: its bytes are missing or damaged.
        """
        if body in self._held:
            self._held.move_to_end(body)
            return self._held[body]
        place = f"{self._path}: state body {body}"
        row = db.execute("SELECT crc32, bytes FROM bodies WHERE body = ?", (body,)).fetchone()
        if row is None:
            raise StateError(f"{place} is missing", hint=REBUILD)
        crc, stored = row
        rows = decode(stored, crc, place)
        if keep:
            self._keep(body, rows)
        return rows

    def _keep(self, body: int, rows: pa.Table) -> None:
        self._held[body] = rows
        self._bytes += rows.nbytes
        while self._bytes > _HELD_BYTES and len(self._held) > 1:
            _, gone = self._held.popitem(last=False)
            self._bytes -= gone.nbytes

    def blocks(
        self, db: sqlite3.Connection, state: str, *, first_us: int | None, last_us: int | None
    ) -> list[Block]:
        """A state's blocks in their order, but for those without any event of a time range.

        Args:
            first_us, last_us: microseconds since 1970, both inclusive; None: no bound.
        """
        rows = db.execute(
            "SELECT block, epoch, kind, oldest, newest, body, crc32 FROM blocks "
            "LEFT JOIN bodies USING (body) WHERE state = ? "
            "AND (? IS NULL OR last_us >= ?) AND (? IS NULL OR first_us <= ?) ORDER BY block",
            (state, first_us, first_us, last_us, last_us),
        ).fetchall()
        return [
            Block(block, epoch, kind, oldest, newest, self.read(db, body), crc)
            for block, epoch, kind, oldest, newest, body, crc in rows
        ]

    def of_blocks(self, db: sqlite3.Connection, blocks: Sequence[int]) -> list[pa.Table]:
        """The rows of some blocks, in order, without those that are gone; nothing is kept."""
        bodies = _of(db, "SELECT body FROM blocks WHERE block IN", blocks)
        return [self.read(db, int(body), keep=False) for (body,) in bodies]
