"""The embedded event log under several processes, kill -9, a full disk and a damaged file."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from playhead.errors import (
    CorruptBlockError,
    EventLogError,
    LogBusyError,
    LogFullError,
    WorkspaceError,
)
from playhead.eventlog import SqliteEventLog

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("text", pa.string()),
    ]
)

APPENDER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import pyarrow as pa
    from playhead.eventlog import SqliteEventLog

    path, name, appends, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    schema = pa.schema([
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("text", pa.string()),
    ])
    with SqliteEventLog(Path(path)) as log:
        log.create_topic("playback", schema)
        for i in range(appends):
            ids = [f"{name}-{i}-{j}" for j in range(size)]
            users = [f"{name}-{j % 7}" for j in range(size)]
            log.append("playback", pa.table([ids, users, ["x" * 50] * size], schema=schema))
            print(i, flush=True)
    """
)


def start_appender(path: Path, name: str, *, appends: int, size: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", APPENDER, str(path), name, str(appends), str(size)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def events(count: int, *, start: int = 0, text: str = "") -> pa.Table:
    ids = [f"e{i}" for i in range(start, start + count)]
    return pa.table([ids, [f"u{i % 7}" for i in range(count)], [text] * count], schema=SCHEMA)


def follow(log: SqliteEventLog, offsets: dict[int, int]) -> list[str]:
    """The ids from `offsets` on, which move to the end; in order within each partition."""
    found = []
    for partition, offset in offsets.items():
        table = log.read("playback", partition, offset)
        assert table.column("offset").to_pylist() == list(range(offset, offset + table.num_rows))
        found += table.column("event_id").to_pylist()
        offsets[partition] = offset + table.num_rows
    return found


def read_ids(log: SqliteEventLog) -> list[str]:
    offsets, found = log.start_offsets("playback"), []
    while some := follow(log, offsets):
        found += some
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "eventlog.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(path) as opened:
        opened.create_topic("playback", SCHEMA)
        yield opened


def test_three_processes_append_while_one_reads(path: Path) -> None:
    names, appends, size = ["a", "b", "c"], 60, 40
    # They also make the file and the topic at once.
    running = [start_appender(path, name, appends=appends, size=size) for name in names]
    seen: list[str] = []
    while not path.exists() or path.stat().st_size == 0:
        assert any(process.poll() is None for process in running)
    with SqliteEventLog(path) as log:
        log.create_topic("playback", SCHEMA)
        offsets = log.start_offsets("playback")
        while any(process.poll() is None for process in running):
            seen += follow(log, offsets)
        seen += follow(log, offsets)
    for process in running:
        process.communicate()
        assert process.returncode == 0
    assert len(seen) == len(names) * appends * size
    for name in names:
        of_name = [event_id for event_id in seen if event_id.startswith(name)]
        assert set(of_name) == {f"{name}-{i}-{j}" for i in range(appends) for j in range(size)}


@pytest.mark.parametrize("acknowledged", [1, 20, 90])
def test_kill_9_loses_nothing_acknowledged_and_tears_nothing(path: Path, acknowledged: int) -> None:
    size = 500
    process = start_appender(path, "a", appends=100_000, size=size)
    assert process.stdout is not None
    for _ in range(acknowledged):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    printed, _ = process.communicate()
    done = acknowledged + printed.count("\n")
    with SqliteEventLog(path) as log:
        found = set(read_ids(log))
        # The one under way may have been committed, but not acknowledged yet.
        appends = len(found) // size
        assert done <= appends <= done + 1
        assert found == {f"a-{i}-{j}" for i in range(appends) for j in range(size)}
        log.append("playback", events(10))
        assert len(read_ids(log)) == len(found) + 10


def limit_pages(log: SqliteEventLog, spare: int) -> None:
    """Leave room for `spare` more pages: a disk that is about to be full."""
    with log._connections.session() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + spare}")


def test_a_full_disk_keeps_nothing_and_heals(log: SqliteEventLog) -> None:
    log.append("playback", events(100))
    limit_pages(log, 8)
    ends = log.end_offsets("playback")
    with pytest.raises(LogFullError, match="no space left") as caught:
        log.append("playback", events(20_000, start=100, text="x" * 200))
    assert caught.value.retryable
    assert log.end_offsets("playback") == ends
    assert len(read_ids(log)) == 100
    limit_pages(log, 1_000_000)
    log.append("playback", events(20_000, start=100, text="x" * 200))
    assert sorted(read_ids(log)) == sorted(f"e{i}" for i in range(20_100))


def test_a_full_disk_in_a_large_append_keeps_nothing(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playhead.eventlog.sqlite._ENCODED_AHEAD_BYTES", 0)
    limit_pages(log, 100)
    with pytest.raises(LogFullError):
        log.append("playback", events(400_000, text="x" * 20))
    assert read_ids(log) == []


def test_deleted_space_is_used_again_and_given_back(log: SqliteEventLog, path: Path) -> None:
    def fill() -> None:
        for i in range(40):
            log.append("playback", events(2_000, start=i * 2_000, text=os.urandom(100).hex()))

    fill()
    assert log.retain(timedelta(0)).deleted_events == 80_000
    assert log.end_offsets("playback") == log.start_offsets("playback")
    emptied = path.stat().st_size
    fill()
    full = path.stat().st_size
    log.retain(timedelta(0))
    fill()
    assert path.stat().st_size <= full * 1.1
    log.retain(timedelta(0))
    log.close()
    assert path.stat().st_size <= max(emptied, full / 2)


def flip_bits(path: Path, offset: int) -> None:
    """Flip a bit in the middle of the body of the block at `offset`, wherever it is stored."""
    connection = sqlite3.connect(path)
    (body,) = connection.execute(
        "SELECT body FROM blocks WHERE first_offset = ?", (offset,)
    ).fetchone()
    connection.close()
    part = body[len(body) // 2 :][:100]
    content = path.read_bytes()
    # Pages that SQLite has moved leave a stale copy behind.
    assert 1 <= content.count(part) <= 2
    path.write_bytes(content.replace(part, part[:50] + bytes([part[50] ^ 0x10]) + part[51:]))


def test_a_flipped_bit_is_found_and_named(path: Path) -> None:
    with SqliteEventLog(path) as log:
        log.create_topic("playback", SCHEMA, partitions=1)
        for start in (0, 100, 200):
            texts = [os.urandom(20).hex() for _ in range(100)]
            log.append("playback", events(100, start=start).set_column(2, SCHEMA.field(2), [texts]))
    flip_bits(path, 100)
    with SqliteEventLog(path) as log:
        assert log.read("playback", 0, 0).num_rows == 100
        with pytest.raises(CorruptBlockError) as caught:
            log.read("playback", 0, 150)
        assert log.read("playback", 0, 200).num_rows == 100
    for part in (str(path), "topic playback", "partition 0", "offset 150"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM blocks WHERE first_offset = 100",
        "UPDATE blocks SET first_offset = 101 WHERE first_offset = 100",
        "UPDATE blocks SET events = 99 WHERE first_offset = 100",
        "UPDATE blocks SET ingest_us = ingest_us + 1 WHERE first_offset = 100",
        "UPDATE blocks SET body = (SELECT body FROM blocks WHERE first_offset = 0)"
        " WHERE first_offset = 100",
        "UPDATE schemas SET message = zeroblob(100)",
    ],
)
def test_rows_that_do_not_fit_are_found(path: Path, damage: str) -> None:
    with SqliteEventLog(path) as log:
        log.create_topic("playback", SCHEMA, partitions=1)
        for start in (0, 100, 200):
            log.append("playback", events(100, start=start))
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    with SqliteEventLog(path) as log, pytest.raises(CorruptBlockError, match=re.escape(str(path))):
        read_ids(log)


def test_a_torn_file_is_an_error_and_no_traceback_of_sqlite(path: Path) -> None:
    with SqliteEventLog(path) as log:
        log.create_topic("playback", SCHEMA, partitions=1)
        for start in range(0, 5_000, 1_000):
            log.append("playback", events(1_000, start=start, text="x" * 100))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(CorruptBlockError, match="damaged"):
        reopened_ids(path)


def reopened_ids(path: Path) -> list[str]:
    with SqliteEventLog(path) as log:
        return read_ids(log)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.write_bytes(b"no database, but long enough to be one" * 100), "not an"),
        (lambda path: run_sql(path, "CREATE TABLE t (a)"), "not an event log"),
        (lambda path: path.mkdir(), "cannot be opened"),
    ],
)
def test_refuses_other_files(path: Path, make: Callable[[Path], object], what: str) -> None:
    make(path)
    with pytest.raises(WorkspaceError, match=what):
        SqliteEventLog(path)


def test_refuses_a_newer_format(log: SqliteEventLog, path: Path) -> None:
    log.close()
    run_sql(path, "PRAGMA user_version = 99")
    with pytest.raises(WorkspaceError, match="format 99") as caught:
        SqliteEventLog(path)
    assert "newer" in str(caught.value)


def run_sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_stuck_writer_is_named_and_reading_goes_on(path: Path, log: SqliteEventLog) -> None:
    log.append("playback", events(10))
    stuck = sqlite3.connect(path, isolation_level=None)
    stuck.execute("BEGIN IMMEDIATE")
    assert len(reopened_ids(path)) == 10
    stuck.execute("ROLLBACK")
    with SqliteEventLog(path, timeout=timedelta(milliseconds=50)) as hasty:
        stuck.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogBusyError, match="locked by another writer") as caught:
            hasty.append("playback", events(10))
        assert caught.value.retryable
        assert len(read_ids(hasty)) == 10
        stuck.execute("ROLLBACK")
        hasty.append("playback", events(10))
    stuck.close()
    assert len(read_ids(log)) == 20


def test_a_slow_reader_holds_nobody_up(log: SqliteEventLog) -> None:
    log.append("playback", events(10))
    with log._connections.reading() as connection:
        before = connection.execute("SELECT count(*) FROM blocks").fetchone()
        log.append("playback", events(10, start=10))
        log.retain(timedelta(0))
        assert connection.execute("SELECT count(*) FROM blocks").fetchone() == before
    assert read_ids(log) == []


def test_is_not_carried_over_a_fork(log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playhead.eventlog.connections.os.getpid", lambda: -1)
    with pytest.raises(EventLogError, match="forked"):
        log.topics()
