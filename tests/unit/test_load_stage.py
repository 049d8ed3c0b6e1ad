"""Every text becomes the typed value that its contract promises, or a fault that says why."""

import csv
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.batch.readers import source_columns
from playhead.batch.scratch import scratch_folder
from playhead.batch.sources import find_sources
from playhead.batch.stage import DateRange, stage
from playhead.contracts import Contract, contract
from playhead.engines import connect
from playhead.errors import LoadError

GOOD = {
    "watch_history": {
        "session_id": "s1",
        "user_id": "u1",
        "movie_id": "m1",
        "watch_date": "2025-11-13",
        "device_type": "Tablet",
        "watch_duration_minutes": "63.9",
        "progress_percentage": "34.6",
        "action": "completed",
        "quality": "HD",
        "location_country": "USA",
        "is_download": "False",
        "user_rating": "",
    },
    "users": {"user_id": "u1", "email": "a@b.c", "created_at": "2023-04-01 14:40:50.540242"},
    "movies": {"movie_id": "m1", "title": "T"},
}


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=2) as connection:
        yield connection


def write(folder: Path, of: Contract, rows: list[dict[str, str]]) -> None:
    columns = [
        c for c in source_columns(of) if c in GOOD[str(of.file)] or any(c in r for r in rows)
    ]
    with (folder / f"{of.file}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({**GOOD[str(of.file)], **row} for row in rows)


def staged(
    folder: Path,
    con: duckdb.DuckDBPyConnection,
    name: str,
    *rows: dict[str, str],
    days: DateRange | None = None,
) -> list[dict[str, Any]]:
    of = contract(name)
    write(folder, of, list(rows))
    source = find_sources(folder, [str(of.file)])[str(of.file)]
    result = stage(source, of, con, days=days or DateRange())
    assert result.read == len(rows)
    return con.execute(f"FROM {result.sql} ORDER BY _record").to_arrow_table().to_pylist()


@pytest.mark.parametrize(
    ("table", "column", "text", "value"),
    [
        ("playback", "user_rating", "3", 3),
        ("playback", "user_rating", "3.0", 3),
        ("playback", "user_rating", " +3.000 ", 3),
        ("playback", "user_rating", "-2147483648", -2147483648),
        ("playback", "watch_duration_minutes", "63.9", Decimal("63.90")),
        ("playback", "watch_duration_minutes", "0.125", Decimal("0.13")),
        ("playback", "watch_duration_minutes", "-0.125", Decimal("-0.13")),
        ("playback", "watch_duration_minutes", "0.12499999999999999999", Decimal("0.12")),
        ("playback", "watch_duration_minutes", "1.5e3", Decimal("1500.00")),
        ("playback", "watch_duration_minutes", "9999999999.99", Decimal("9999999999.99")),
        ("playback", "is_download", "True", True),
        ("playback", "is_download", "FALSE", False),
        ("playback", "is_download", "1", True),
        ("playback", "watch_date", "2024-02-29", date(2024, 2, 29)),
        ("playback", "watch_date", "2024-02-29 00:00:00", date(2024, 2, 29)),
        ("playback", "watch_date", "2024-02-29T00:00:00Z", date(2024, 2, 29)),
        ("playback", "location_country", "", None),
        ("playback", "location_country", " USA", " USA"),
        (
            "users",
            "created_at",
            "2023-04-01 14:40:50.540242",
            datetime(2023, 4, 1, 14, 40, 50, 540242),
        ),
        ("users", "created_at", "2023-04-01T14:40:50+02:00", datetime(2023, 4, 1, 12, 40, 50)),
        ("users", "created_at", "2023-04-01", datetime(2023, 4, 1)),
        ("movies", "box_office_revenue", "9999999999999999.99", Decimal("9999999999999999.99")),
    ],
)
def test_values(
    tmp_path: Path,
    con: duckdb.DuckDBPyConnection,
    table: str,
    column: str,
    text: str,
    value: object,
) -> None:
    (row,) = staged(tmp_path, con, table, {column: text})
    assert row["_faults"] is None
    assert row[column] == value


@pytest.mark.parametrize(
    ("column", "text", "kind", "reason"),
    [
        ("user_rating", "3.5", "type", "user_rating '3.5' is no whole number"),
        ("user_rating", "three", "type", "user_rating 'three' is no number"),
        ("user_rating", "2147483648", "type", "'2147483648' is outside INTEGER"),
        ("user_rating", "1_0", "type", "'1_0' is no number"),
        ("watch_duration_minutes", "nan", "type", "'nan' is no number"),
        ("watch_duration_minutes", "inf", "type", "'inf' is no number"),
        ("watch_duration_minutes", "1e11", "type", "is outside DECIMAL(12, 2)"),
        ("progress_percentage", "1,5", "type", "progress_percentage '1,5' is no number"),
        ("is_download", "maybe", "type", "is_download 'maybe' is no boolean (True or False)"),
        ("watch_date", "2025-02-30", "type", "'2025-02-30' is no date (YYYY-MM-DD)"),
        ("watch_date", "13.11.2025", "type", "is no date"),
        ("watch_date", "2025-11-13x", "type", "is no date"),
        ("watch_date", "2025-11-13 08:00:00", "type", "is no date"),
        ("watch_date", "infinity", "type", "is no date"),
        ("watch_date", "2025-01-01 (BC)", "type", "is no date"),
        ("watch_date", "", "missing", "watch_date is empty, and an event needs a time"),
        ("action", "finished", "enum", "'finished' is none of started, paused, stopped, completed"),
        ("action", "", "missing", "action is empty"),
        ("device_type", "mobile", "enum", "device_type 'mobile' is none of"),
        ("device_type", "x" * 99, "enum", f"'{'x' * 60}' is none of"),
    ],
)
def test_faults(
    tmp_path: Path,
    con: duckdb.DuckDBPyConnection,
    column: str,
    text: str,
    kind: str,
    reason: str,
) -> None:
    (row,) = staged(tmp_path, con, "playback", {column: text})
    (fault,) = row["_faults"]
    assert (fault["column"], fault["kind"]) == (column, kind)
    assert reason in fault["reason"]
    assert '"session_id":"s1"' in row["_raw"]


def test_all_faults_of_a_row_are_named(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    (row,) = staged(
        tmp_path, con, "playback", {"user_rating": "x", "action": "x", "watch_date": ""}
    )
    assert [f["column"] for f in row["_faults"]] == ["watch_date", "action", "user_rating"]


def test_null_keys_are_no_faults(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    rows = staged(
        tmp_path, con, "playback", *({k: ""} for k in ("session_id", "user_id", "movie_id"))
    )
    assert [row["_faults"] for row in rows] == [None] * 3
    (user,) = staged(tmp_path, con, "users", {"email": ""})
    assert (user["_faults"], user["email"]) == (None, None)


def test_an_event_without_id_gets_one_from_its_content(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    anonymous = {"session_id": "", "user_rating": "3"}
    first, same, other = staged(
        tmp_path,
        con,
        "playback",
        anonymous,
        {**anonymous, "user_rating": "3.0"},
        {"session_id": ""},
    )
    assert first["event_id"].startswith("row-")
    assert first["event_id"] == same["event_id"] != other["event_id"]
    assert first["session_id"] is None
    assert first["event_time"].date() == date(2025, 11, 13)


def test_the_envelope_of_a_file_row(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    (row,) = staged(tmp_path, con, "playback", {})
    assert (row["event_id"], row["session_id"], row["event_type"]) == ("s1", "s1", "watch")
    assert row["event_time"].date() == row["watch_date"]


@given(
    st.lists(st.sampled_from(["2025-01-01", "2025-01-02", "2025-01-03", "", "x"]), max_size=12),
    st.dates(date(2024, 12, 31), date(2025, 1, 4)),
    st.dates(date(2024, 12, 31), date(2025, 1, 4)),
)
def test_consecutive_ranges_give_every_row_once(days: list[str], one: date, other: date) -> None:
    first, second = sorted((one, other))
    rows = [{"session_id": f"s{i}", "watch_date": day} for i, day in enumerate(days)]
    ranges = [DateRange(None, first), DateRange(first, second), DateRange(second, None)]
    with scratch_folder() as folder, connect(threads=1) as con:
        found = [
            row["_record"]
            for days_ in ranges
            for row in staged(folder, con, "playback", *rows, days=days_)
        ]
    assert sorted(found) == list(range(1, len(rows) + 1))


def test_a_zone_is_that_of_its_own_row_alone(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    zoned = "2023-07-01 12:00:00 Europe/Berlin"
    naive = ["2023-07-01 12:00:00", "2023-07-01T12:00:00", "2023-07-01 12:00:00.500"]
    offset = "2023-07-01 12:00:00+03:30"
    texts = [zoned, *naive, zoned, offset, *naive]
    rows = staged(tmp_path, con, "users", *({"created_at": text} for text in texts))
    noon, half = datetime(2023, 7, 1, 12), datetime(2023, 7, 1, 12, 0, 0, 500_000)
    berlin, tehran = datetime(2023, 7, 1, 10), datetime(2023, 7, 1, 8, 30)
    assert [row["created_at"] for row in rows] == [
        *(berlin, noon, noon, half),
        *(berlin, tehran, noon, noon, half),
    ]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2025-01-02", date(2025, 1, 2)),
        ("2025-1-2", date(2025, 1, 2)),
        ("2025-01-02 00:00:00+00", date(2025, 1, 2)),
        ("2025-01-2 ", None),
        ("2025-01-2+", None),
        ("0000-01-01", None),
        ("10000-1-01", None),
    ],
)
def test_dates_however_they_are_written(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, text: str, day: date | None
) -> None:
    (row,) = staged(tmp_path, con, "users", {"subscription_start_date": text})
    assert row["subscription_start_date"] == day
    assert bool(row["_faults"]) == (day is None)


def test_a_file_that_changes_meanwhile_is_not_loaded(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    write(tmp_path, contract("users"), [{}])
    source = find_sources(tmp_path, ["users"])["users"]
    path = tmp_path / "users.csv"

    def grow(_: object) -> None:
        path.write_text(path.read_text() + "\n")

    with pytest.raises(LoadError, match="changed while it was read"):
        stage(source, contract("users"), con, days=DateRange(), progress=grow)


def test_what_a_killed_process_staged_is_deleted(tmp_path: Path) -> None:
    abandoned = tmp_path / "playhead-load-abandoned"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    with scratch_folder(tmp_path) as first:
        assert not abandoned.exists()
        with scratch_folder(tmp_path) as second:
            assert first.exists()
            assert first != second
    assert list(tmp_path.iterdir()) == []
