"""Drafts that take over another table's files as they are."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from playhead.engines import connect
from playhead.errors import LakeError
from playhead.lake import Lake, Partition

EVENTS = pa.schema([("event_id", pa.string()), ("event_time", pa.timestamp("us"))])
MONTHS = Partition("event_time", "month")
ROWS = "SELECT 'e' || i AS event_id, TIMESTAMP '2025-01-20' + to_days(i::INT) AS event_time "


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=1) as connection:
        yield connection


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path / "lake") as lake:
        lake.create("clean.rating", EVENTS, partition=MONTHS, sort=("event_time",))
        lake.create("raw.rating", EVENTS, partition=MONTHS, sort=("event_id",))
        yield lake


def test_copies_are_files_of_their_own(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    with lake.draft("clean.rating") as clean, lake.draft("raw.rating") as raw:
        clean.add(con, ROWS + "FROM range(20) AS r(i)")
        assert raw.resembles(clean)
        raw.copy(clean)
        raw.add(con, ROWS + "FROM range(20, 25) AS r(i)")
        assert (clean.rows, raw.rows) == (20, 25)
        assert {file.sort_order_id for file in raw.files} == {None, 1}
        lake.publish("raw.rating", raw)
        lake.publish("clean.rating", clean)
    lake.drop("clean.rating")
    rows = con.execute(f"SELECT event_id FROM {lake.scan('raw.rating')} ORDER BY event_time")
    assert rows.fetchall() == [(f"e{i}",) for i in range(25)]
    bounds = {file.path: file.rows for file in lake.snapshot("raw.rating").files}
    assert sorted(bounds.values()) == [5, 8, 12]


def test_other_columns_are_told(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    wide = pa.schema([*EVENTS, ("movie_id", pa.string())])
    lake.create("clean.rating", wide, partition=MONTHS, sort=("event_time",))
    lake.create("raw.days", EVENTS, partition=Partition("event_time", "day"))
    with lake.draft("clean.rating") as clean, lake.draft("raw.rating") as raw:
        assert not raw.resembles(clean)
        assert not raw.resembles(lake.draft("raw.days"))


def test_what_cannot_be_copied_leaves_nothing(
    lake: Lake, con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    with lake.draft("clean.rating") as clean, lake.draft("raw.rating") as raw:
        clean.add(con, ROWS + "FROM range(20) AS r(i)")
        Path(clean.files[1].file_path).unlink()
        with pytest.raises(LakeError, match=r"raw\.rating: cannot write to"):
            raw.copy(clean)
        assert raw.rows == 0
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_draft_without_rows_is_copied_to_one(lake: Lake) -> None:
    with lake.draft("clean.rating") as clean, lake.draft("raw.rating") as raw:
        raw.copy(clean)
        assert lake.publish("raw.rating", raw, properties={"a": "1"}).rows == 0
