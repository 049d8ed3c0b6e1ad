"""Second copies of small SQLite tables, kept by triggers: damage shows as a difference.

SQLite has no checksums of its own pages, so a flipped bit in a row reads as another value. The
tables that say how far everything is are small: holding each row twice, in two trees of pages,
costs little, needs nothing from whoever writes, and also shows rows that have vanished.
"""

import sqlite3
import zlib
from collections.abc import Collection, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

from playhead import disk

_SUFFIX = "_copy"
_BUSY_TIMEOUT_S = 30


def create(connection: sqlite3.Connection, *, without: Collection[str] = ()) -> None:
    """Give every table with a primary key a copy, in the caller's transaction.

    BLOB columns are left out: bodies carry checksums of their own. Tables that have a copy
    already are left as they are.

    Args:
        without: tables that need none.
    """
    present = _tables(connection)
    for table in present:
        if table not in without and _is_original(table) and _copy(table) not in present:
            for statement in _creation(connection, table):
                connection.execute(statement)


def mirrored(connection: sqlite3.Connection) -> list[str]:
    """The tables that have a copy, in order."""
    present = _tables(connection)
    return [table for table in present if _is_original(table) and _copy(table) in present]


def differences(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the mirrored tables, in words; empty if they are sound.

    Compares every row with its copy and every index with its table. Needs a transaction, so that
    all is seen at one moment.
    """
    return [wrong for table in mirrored(connection) for wrong in _wrong_with(connection, table)]


def schema_differences(
    connection: sqlite3.Connection, script: str, *, without: tuple[str, ...] = ()
) -> list[str]:
    """Tables, indexes and triggers whose definition is not the one of `script`, with copies."""
    found, expected = set(_definitions(connection)), _expected(script, without)
    return [f"the definition of {name}" for name in sorted({n for n, _ in found ^ expected})]


def stamp(connection: sqlite3.Connection) -> None:
    """Note the sum of all definitions in the file, where no script has them."""
    connection.execute(f"PRAGMA application_id = {_definitions_sum(connection)}")


def is_stamped(connection: sqlite3.Connection) -> bool:
    """Whether the definitions are those that were stamped."""
    (stamped,) = connection.execute("PRAGMA application_id").fetchone()
    return bool(stamped == _definitions_sum(connection))


def missing_bytes(path: Path) -> list[str]:
    """Whether a file ends before the pages that its header tells of, in words.

    SQLite takes some of these pages for empty ones. Pages that are still in the write-ahead log
    may not be in the file yet: while there is one, nothing can be said.
    """
    if not path.exists() or not path.stat().st_size:
        return []
    # Only SQLite may open the file: closing any other handle ends its locks in this process.
    with closing(disk.connect(path, timeout_s=_BUSY_TIMEOUT_S)) as connection:
        try:
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
        except sqlite3.DatabaseError as error:
            return [str(error)] if "malformed" in str(error) else []
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            return []
        size, wanted = path.stat().st_size, page_bytes * pages
    return [f"it has {size} bytes, not {wanted}"] if size < wanted else []


def _definitions_sum(connection: sqlite3.Connection) -> int:
    text = "\n".join(sorted(f"{name} {sql}" for name, sql in _definitions(connection)))
    return zlib.crc32(text.encode()) & 0x7FFFFFFF


@cache
def _expected(script: str, without: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    with sqlite3.connect(":memory:") as scratch:
        scratch.executescript(script)
        create(scratch, without=without)
        found = frozenset(_definitions(scratch))
    scratch.close()
    return found


def _definitions(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return ((str(name), " ".join(str(sql).split())) for name, sql in rows.fetchall())


def _wrong_with(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    columns, _ = _columns(connection, table)
    names = ", ".join(columns)
    original = f"SELECT {names} FROM {table} NOT INDEXED"
    copied = f"SELECT {names} FROM {_copy(table)}"
    counts = connection.execute(
        f"SELECT (SELECT count(*) FROM ({original})), (SELECT count(*) FROM ({copied}))"
    ).fetchone()
    row = _first(connection, original, copied) or _first(connection, copied, original)
    if row is not None or counts[0] != counts[1]:
        shown = dict(zip(columns, row or (), strict=False))
        yield f"table {table}: a row and its copy differ" + (f" ({shown})" if shown else "")
    if _has_bodies(connection, table):
        yield from _wrong_indexes(connection, table)
    else:
        found = connection.execute(f"PRAGMA integrity_check({table})").fetchall()
        yield from (f"table {table}: {text}" for (text,) in found if text != "ok")


def _wrong_indexes(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """Indexes that disagree with the table; bodies are not walked, which would read the file."""
    _, keys = _columns(connection, table)
    for _, index, *_ in connection.execute(f"PRAGMA index_list({table})").fetchall():
        info = connection.execute(f"PRAGMA index_info({index})").fetchall()
        names = ", ".join(dict.fromkeys([*(str(name) for _, _, name in info), *keys]))
        indexed = f"SELECT {names} FROM {table} INDEXED BY {index}"
        plain = f"SELECT {names} FROM {table} NOT INDEXED"
        if _first(connection, indexed, plain) or _first(connection, plain, indexed):
            yield f"table {table}: its index {index} differs from it"


def _first(connection: sqlite3.Connection, one: str, other: str) -> tuple[object, ...] | None:
    found = connection.execute(f"{one} EXCEPT {other} LIMIT 1").fetchone()
    return None if found is None else tuple(found)


def _creation(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    columns, keys = _columns(connection, table)
    if not keys:
        return
    copy, names = _copy(table), ", ".join(columns)
    values = ", ".join(f"new.{name}" for name in columns)
    same = " AND ".join(f"{name} IS old.{name}" for name in keys)
    insert = f"INSERT OR REPLACE INTO {copy} VALUES ({values});"
    delete = f"DELETE FROM {copy} WHERE {same};"
    # Columns without a type keep a value exactly as it is.
    yield f"CREATE TABLE {copy} ({names}, PRIMARY KEY ({', '.join(keys)})) WITHOUT ROWID"
    yield f"INSERT INTO {copy} SELECT {names} FROM {table}"
    for event, action in (("INSERT", insert), ("UPDATE", delete + insert), ("DELETE", delete)):
        name = f"{copy}_{event.lower()}"
        yield f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {action} END"


def _columns(connection: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """A table's columns but BLOBs, and its primary key."""
    info = connection.execute(f"PRAGMA table_info({table})").fetchall()
    columns = [name for _, name, kind, *_ in info if kind != "BLOB"]
    keys = sorted((place, name) for _, name, _, _, _, place in info if place)
    return columns, [name for _, name in keys]


def _has_bodies(connection: sqlite3.Connection, table: str) -> bool:
    info = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return any(kind == "BLOB" for _, _, kind, *_ in info)


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' "
        "ESCAPE '!' ORDER BY name"
    )
    return [str(name) for (name,) in rows.fetchall()]


def _is_original(table: str) -> bool:
    return not table.endswith(_SUFFIX)


def _copy(table: str) -> str:
    return table + _SUFFIX
