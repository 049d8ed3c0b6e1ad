"""Sessions of the embedded engine: each spills into a folder of its own."""

import os
import time
from pathlib import Path

import duckdb

from playhead.engines import connect

SPILLING = """
    CREATE TEMP TABLE rows AS
    SELECT i, md5((i + $seed)::VARCHAR) AS text FROM range(1_000_000) AS r(i)
"""
WRONG = "SELECT count(*) FILTER (text <> md5((i + $seed)::VARCHAR)), sum(i) FROM rows"


def spilling(folder: Path) -> duckdb.DuckDBPyConnection:
    return connect(memory_limit="40MB", threads=1, temp_dir=folder)


def test_sessions_that_spill_at_once_keep_their_rows_apart(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    with spilling(folder) as one, spilling(folder) as other:
        for seed, session in enumerate((one, other)):
            session.execute(SPILLING, {"seed": seed})
        assert len(list(folder.glob("*/*.tmp"))) > 1
        for seed, session in enumerate((one, other)):
            wrong = session.execute(WRONG, {"seed": seed}).fetchone()
            assert wrong == (0, 1_000_000 * 999_999 // 2)
    assert list(folder.iterdir()) == []


def test_what_killed_sessions_spilled_is_deleted_after_a_day(tmp_path: Path) -> None:
    fresh, old, foreign = (tmp_path / name for name in ("duckdb-1-a", "duckdb-2-b", "others"))
    for left in (fresh, old, foreign):
        left.mkdir()
        (left / "rows.tmp").touch()
    two_days_ago = time.time() - 48 * 3600
    for left in (old, foreign):
        os.utime(left, (two_days_ago, two_days_ago))
    connect(temp_dir=tmp_path).close()
    assert fresh.exists()
    assert foreign.exists()
    assert not old.exists()
