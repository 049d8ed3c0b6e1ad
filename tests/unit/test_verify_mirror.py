"""Second copies of small tables: every change is followed, every difference is seen."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from playhead import mirror

SCRIPT = """
CREATE TABLE ranges (
    epoch INTEGER NOT NULL, topic TEXT NOT NULL, next INTEGER,
    PRIMARY KEY (epoch, topic)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (block INTEGER PRIMARY KEY, state TEXT NOT NULL, body BLOB) STRICT;
CREATE INDEX blocks_by_state ON blocks (state);
CREATE TABLE heads (topic INTEGER PRIMARY KEY) STRICT;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCRIPT)
        mirror.create(connection, without=("heads",))
        yield connection


def test_every_kind_of_change_is_followed(db: sqlite3.Connection) -> None:
    for statement in (
        "INSERT INTO ranges VALUES (1, 'a', 5), (1, 'b', NULL), (2, 'a', 7)",
        "INSERT OR REPLACE INTO ranges VALUES (1, 'a', 6)",
        "INSERT OR IGNORE INTO ranges VALUES (1, 'a', 9)",
        "INSERT INTO ranges VALUES (2, 'a', 8) ON CONFLICT DO UPDATE SET next = excluded.next + 1",
        "UPDATE ranges SET epoch = epoch + 10 WHERE topic = 'b'",
        "DELETE FROM ranges WHERE epoch = 1",
        "INSERT INTO blocks (state, body) VALUES ('s', x'00'), ('t', x'01')",
        "UPDATE blocks SET body = x'02'",
        "DELETE FROM blocks WHERE state = 's'",
    ):
        db.execute(statement)
        assert mirror.differences(db) == []
    assert db.execute("SELECT * FROM ranges_copy ORDER BY 1").fetchall() == [
        (2, "a", 9),
        (11, "b", None),
    ]
    db.execute("DELETE FROM ranges")
    assert db.execute("SELECT count(*) FROM ranges_copy").fetchone() == (0,)


def test_tables_are_mirrored_once_and_only_where_wanted(db: sqlite3.Connection) -> None:
    mirror.create(db, without=("heads",))
    assert mirror.mirrored(db) == ["blocks", "ranges"]
    assert mirror.schema_differences(db, SCRIPT, without=("heads",)) == []


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("UPDATE ranges_copy SET next = 6", "ranges"),
        ("DELETE FROM ranges_copy", "ranges"),
        ("INSERT INTO ranges_copy VALUES (3, 'x', 1)", "ranges"),
        ("UPDATE blocks_copy SET state = 'u'", "blocks"),
    ],
)
def test_a_difference_is_named(db: sqlite3.Connection, change: str, table: str) -> None:
    db.execute("INSERT INTO ranges VALUES (1, 'a', 5)")
    db.execute("INSERT INTO blocks VALUES (1, 's', x'00')")
    db.execute(change)
    (found,) = mirror.differences(db)
    assert found.startswith(f"table {table}: a row and its copy differ")


def test_an_index_that_differs_from_its_table_is_named(path: Path, db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO blocks VALUES (1, 'somestate', x'00')")
    db.commit()
    (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'blocks_by_state'")
    (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    body = bytearray(path.read_bytes())
    start = (page[0] - 1) * size
    body[body.index(b"somestate", start)] ^= 1
    path.write_bytes(body)
    with closing(sqlite3.connect(path)) as damaged:
        assert mirror.differences(damaged) == [
            "table blocks: its index blocks_by_state differs from it"
        ]


def test_a_changed_definition_is_named(db: sqlite3.Connection) -> None:
    mirror.stamp(db)
    assert mirror.is_stamped(db)
    db.execute("DROP TRIGGER ranges_copy_update")
    assert not mirror.is_stamped(db)
    assert mirror.schema_differences(db, SCRIPT, without=("heads",)) == [
        "the definition of ranges_copy_update"
    ]


def test_missing_pages_are_told(path: Path, db: sqlite3.Connection) -> None:
    db.commit()
    db.close()
    assert mirror.missing_bytes(path) == []
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 1)
    assert mirror.missing_bytes(path) == [f"it has {size - 1} bytes, not {size}"]
    assert mirror.missing_bytes(path.with_name("absent.db")) == []
