"""Bases: a whole state file as one file of bytes, and the same taken over by another file."""

import sqlite3
from contextlib import closing
from pathlib import Path

from playhead import disk
from playhead.errors import StateError, WorkspaceError
from playhead.speed import metatable
from playhead.speed.metatable import Marks
from playhead.speed.statefile import FORMAT, StateFile

_TABLES = (
    *("meta", "epochs", "ranges", "loads", "states", "bodies", "blocks"),
    *("topics", "windows", "alerts"),
)
_FREE = 0.25
"""Of a base's pages that may be left over from what was pruned."""

_SHIFTED = {
    "bodies": {"body": "bodies"},
    "blocks": {"block": "blocks", "oldest": "blocks", "newest": "blocks", "body": "bodies"},
    "states": {"since_block": "blocks"},
}
"""Columns of numbers that each file gives by itself, and the table whose rows they number."""


def write_base(pinned: sqlite3.Connection, path: Path) -> None:
    """Write the file that a connection sees to a new file, in one piece.

    Raises:
        StateError: it cannot be read or written.
    """
    remove_base(path)
    try:
        with closing(disk.connect(path, timeout_s=0, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            pinned.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            ((free,),) = copy.execute("PRAGMA freelist_count").fetchall()
            ((pages,),) = copy.execute("PRAGMA page_count").fetchall()
            if free > _FREE * pages:
                copy.execute("VACUUM")
    except sqlite3.Error as error:
        raise StateError(f"{path} cannot be written: {error}", hint=disk.advice(error)) from error


def remove_base(path: Path) -> None:
    """Delete a base and what SQLite left beside it; it may be gone already."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def take_over(file: StateFile, base: Path, seq: int, *, store: str, number: int) -> None:
    """Make a state file hold what a base holds, and nothing else.

    Readers in other processes tell blocks apart by their numbers: those of the base get higher
    ones than the file has ever given. The file keeps its owner, and its place among all files.

    Args:
        seq: the operation that the file then holds last.
        store, number: the file that wrote the base, and its own count.

    Raises:
        WorkspaceError: the base is of another format.
        StateError: it is no state file, or the disk refuses.
    """
    with file.attached(base, "base"):
        _check(file, base)
        with file.writing() as db:
            before = metatable.marks(db)
            shifts = {table: _newest(db, "main", table) for table in ("blocks", "bodies")}
            ends = {table: shifts[table] + _newest(db, "base", table) for table in shifts}
            for table in _TABLES:
                _copy(db, table, shifts)
            for table, end in ends.items():
                _set_newest(db, table, end)
            count = max(before.count, number) if store == before.store else before.count
            metatable.told(db)
            metatable.note(db, Marks(before.store, seq, count))


def _check(file: StateFile, base: Path) -> None:
    ((version,),) = file.rows("PRAGMA base.user_version")
    if version != FORMAT:
        raise WorkspaceError(
            f"{base} has format {version}, and this Playhead knows {FORMAT}",
            hint="Every machine that shares the state needs the same Playhead.",
        )


def _copy(db: sqlite3.Connection, table: str, shifts: dict[str, int]) -> None:
    shared = f" WHERE {metatable.SHARED}" if table == "meta" else ""
    db.execute(f"DELETE FROM {table}{shared}")
    columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})").fetchall()]
    shifted = _SHIFTED.get(table, {})
    values = [f"{c} + {shifts[shifted[c]]}" if c in shifted else str(c) for c in columns]
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) "
        f"SELECT {', '.join(values)} FROM base.{table}{shared}"
    )


def _newest(db: sqlite3.Connection, schema: str, table: str) -> int:
    """The highest number that a row of a table was ever given; 0 before any."""
    row = db.execute(
        f"SELECT seq FROM {schema}.sqlite_sequence WHERE name = ?", (table,)
    ).fetchone()
    return int(row[0]) if row else 0


def _set_newest(db: sqlite3.Connection, table: str, number: int) -> None:
    """Have the next row of a table get a higher number than this one."""
    changed = db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (number, table))
    if not changed.rowcount and number:
        db.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number))
