"""SQLite files where nothing can be written: read as they are, or refused, never an old answer."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from playhead import disk
from playhead.errors import WorkspaceError
from playhead.lake.filecatalog import _address


@pytest.fixture(params=["plain", "a b", "100%25", "#1", "è"])
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / request.param
    folder.mkdir()
    path = folder / "x.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
        db.execute("INSERT INTO t VALUES (7)")
        db.commit()
    return path


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if nothing could be written."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    yield
    monkeypatch.undo()


def rows(path: Path) -> list[tuple[int]]:
    with closing(disk.connect(path, timeout_s=1)) as db:
        return db.execute("SELECT a FROM t").fetchall()


def test_where_it_can_be_written_it_is_opened_as_ever(file: Path) -> None:
    assert disk.reading_uri(file) is None
    assert disk.reading_uri(file.with_name("none.db")) is None
    with closing(disk.connect(file, timeout_s=1)) as db:
        db.execute("INSERT INTO t VALUES (8)")
        db.commit()
    assert rows(file) == [(7,), (8,)]


@pytest.mark.usefixtures("read_only")
def test_a_closed_file_is_read_and_not_written(file: Path) -> None:
    assert rows(file) == [(7,)]
    assert [one.name for one in file.parent.iterdir()] == ["x.db"]
    with (
        closing(disk.connect(file, timeout_s=1)) as db,
        pytest.raises(sqlite3.OperationalError, match="readonly") as caught,
    ):
        db.execute("INSERT INTO t VALUES (8)")
    assert disk.advice(caught.value) == disk.UNWRITABLE


@pytest.mark.usefixtures("read_only")
def test_sqlalchemy_opens_the_same_file(file: Path) -> None:
    engine = sqlalchemy.create_engine(_address(file))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT a FROM t").fetchall() == [(7,)]
    engine.dispose()


@pytest.mark.usefixtures("read_only")
def test_a_file_at_work_is_read_with_its_log(file: Path) -> None:
    with closing(sqlite3.connect(file)) as writer:
        for number in (8, 9):
            writer.execute("INSERT INTO t VALUES (?)", (number,))
            writer.commit()
            assert len(rows(file)) == number - 6


@pytest.mark.usefixtures("read_only")
def test_changes_without_their_index_are_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("INSERT INTO t VALUES (8)")
        writer.commit()
        copy = file.with_name("copy.db")
        for suffix in ("", "-wal"):
            source = file.with_name(file.name + suffix)
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
        with pytest.raises(WorkspaceError, match=r"changes wait in copy\.db-wal") as caught:
            rows(copy)
        assert str(copy) in caught.value.message
        assert caught.value.hint == disk.UNRECOVERED


def test_damaged_definitions_are_an_error_of_sqlite(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET name = CAST(x'74F400' AS TEXT), sql = 'CREATE'")
        db.commit()
    with (
        closing(disk.connect(file, timeout_s=1)) as db,
        pytest.raises(sqlite3.DatabaseError, match="malformed"),
    ):
        db.execute("SELECT count(*) FROM sqlite_master").fetchall()
