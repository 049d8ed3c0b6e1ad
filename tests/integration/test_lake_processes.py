"""The lake under several processes at once, and under kill -9."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from playhead.engines import connect
from playhead.lake import Lake, Partition

SCHEMA = pa.schema(
    [("event_id", pa.string()), ("event_time", pa.timestamp("us")), ("writer", pa.string())]
)
DAYS = Partition("event_time", "day")

PRELUDE = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import pyarrow as pa
    from playhead.engines import connect
    from playhead.lake import Lake, Partition, lake as room

    root, name = Path(sys.argv[1]), sys.argv[2]
    schema = pa.schema([
        ("event_id", pa.string()), ("event_time", pa.timestamp("us")), ("writer", pa.string())
    ])

    def rows(i, n=20):
        return (
            f"SELECT '{name}-{i}-' || j AS event_id, '{name}' AS writer, "
            f"TIMESTAMP '2024-01-01' + to_days(j::INT % 3) AS event_time FROM range({n}) AS r(j)"
        )
    """
)

APPEND = PRELUDE + textwrap.dedent(
    """
    with Lake(root) as lake, connect(threads=1) as con:
        lake.create("raw.events", schema, partition=Partition("event_time", "day"))
        for i in range(int(sys.argv[3])):
            lake.append("raw.events", con, rows(i), properties={name: str(i)})
    """
)

# Each process tries to append the same twelve loads; the guard lets one of them do each.
GUARDED = PRELUDE + textwrap.dedent(
    """
    with Lake(root) as lake, connect(threads=1) as con:
        lake.create("raw.events", schema, partition=Partition("event_time", "day"))
        for i in range(int(sys.argv[3])):
            key = f"load.{i}"
            lake.append("raw.events", con, rows(i), properties={key: name},
                        guard=lambda properties: key not in properties)
    """
)

DIES_BEFORE_COMMIT = PRELUDE + textwrap.dedent(
    """
    def stop(*_):
        print("written", flush=True)
        time.sleep(60)

    room.commit_files = stop
    with Lake(root) as lake, connect(threads=1) as con:
        lake.append("raw.events", con, rows(0, 5000), properties={"load": "1"})
    """
)

APPEND_FOR_EVER = PRELUDE + textwrap.dedent(
    """
    with Lake(root) as lake, connect(threads=1) as con:
        for i in range(100000):
            lake.append("raw.events", con, rows(i), properties={"last": str(i)})
            print(i, flush=True)
    """
)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as con:
        yield con


def start(script: str, root: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(root), name, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def data_files(root: Path) -> set[str]:
    return {str(path) for path in (root / "warehouse").rglob("*.parquet")}


def test_whoever_opens_a_new_lake_finds_all_of_its_catalog(tmp_path: Path) -> None:
    def opened(root: Path) -> None:
        together.wait()
        Lake(root).close()

    together = threading.Barrier(6)
    with ThreadPoolExecutor(together.parties) as threads:
        for i in range(40):
            list(threads.map(opened, [tmp_path / str(i)] * together.parties))
            with Lake(tmp_path / str(i)) as lake:
                assert not lake.exists("raw.events")


def test_processes_append_to_one_table_at_once(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    writers = [start(APPEND, tmp_path, name, "12") for name in ("a", "b", "c")]
    for writer in writers:
        finish(writer)
    with Lake(tmp_path) as lake:
        found = con.execute(
            "SELECT writer, count(*), count(DISTINCT event_id) "
            f"FROM {lake.scan('raw.events')} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        assert found == [("a", 240, 240), ("b", 240, 240), ("c", 240, 240)]
        assert lake.properties("raw.events") == {"a": "11", "b": "11", "c": "11"}
        assert {file.path for file in lake.snapshot("raw.events").files} == data_files(tmp_path)
        assert lake.sweep(older_than=timedelta(0)) == 0


def test_a_guard_fences_processes(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    writers = [start(GUARDED, tmp_path, name, "12") for name in ("a", "b")]
    for writer in writers:
        finish(writer)
    with Lake(tmp_path) as lake:
        loads = con.execute(
            "SELECT split_part(event_id, '-', 2)::INT AS load, count(*), count(DISTINCT writer) "
            f"FROM {lake.scan('raw.events')} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        assert loads == [(i, 20, 1) for i in range(12)]
        assert {file.path for file in lake.snapshot("raw.events").files} == data_files(tmp_path)


def test_kill_between_the_files_and_the_commit(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    with Lake(tmp_path) as lake:
        lake.create("raw.events", SCHEMA, partition=DAYS)
        lake.append("raw.events", con, "SELECT 'kept' AS event_id, now() AS event_time")
        kept = data_files(tmp_path)
        writer = start(DIES_BEFORE_COMMIT, tmp_path, "x")
        assert first_line(writer) == "written"
        kill(writer)

        assert len(data_files(tmp_path) - kept) == 3
        assert lake.rows("raw.events") == 1
        assert lake.properties("raw.events") == {}
        assert lake.sweep(older_than=timedelta(hours=1)) == 0
        assert lake.sweep(older_than=timedelta(0)) == 3
        assert data_files(tmp_path) == kept
        assert con.execute(f"SELECT event_id FROM {lake.scan('raw.events')}").fetchall() == [
            ("kept",)
        ]


@pytest.mark.parametrize("delay_s", [0.0, 0.013, 0.031, 0.047])
def test_kill_at_any_moment_leaves_whole_commits(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, delay_s: float
) -> None:
    with Lake(tmp_path) as lake:
        lake.create("raw.events", SCHEMA, partition=DAYS)
        writer = start(APPEND_FOR_EVER, tmp_path, "x")
        for _ in range(3):
            said = int(first_line(writer))
        time.sleep(delay_s)
        kill(writer)

        snapshot = lake.snapshot("raw.events")
        last = int(snapshot.properties["last"])
        assert last >= said
        expected = [(i, 20) for i in range(last + 1)]
        query = f"SELECT split_part(event_id, '-', 2)::INT AS i, count(*) FROM {snapshot.scan()}"
        assert con.execute(f"{query} GROUP BY i ORDER BY i").fetchall() == expected
        lake.sweep(older_than=timedelta(0))
        assert {file.path for file in snapshot.files} == data_files(tmp_path)
        lake.append("raw.events", con, "SELECT 'next' AS event_id, now() AS event_time")
        assert lake.rows("raw.events") == 20 * (last + 1) + 1
