"""Times of day made for rows that have only a date."""

import hashlib
from datetime import date, datetime, timedelta

import duckdb
import pytest

from playhead.contracts import contract, event_time_of, event_time_sql
from playhead.contracts.event_time import HOUR_WEIGHTS, PARTS_OF_DAY
from playhead.engines import connect
from playhead.errors import ContractError

DAY = date(2025, 3, 5)


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    return connect(threads=1)


def times(con: duckdb.DuckDBPyConnection, part: str | None = None, n: int = 20_000) -> list:
    part_sql = None if part is None else f"'{part}'"
    expression = event_time_sql("DATE '2025-03-05'", "'session_' || i", time_of_day_sql=part_sql)
    return [t for (t,) in con.execute(f"SELECT {expression} FROM range({n}) r(i)").fetchall()]


def slots() -> list[tuple[int, int]]:
    hour_us = 3_600_000_000
    return [
        (hour * hour_us + k * (hour_us // HOUR_WEIGHTS[hour]), hour_us // HOUR_WEIGHTS[hour])
        for hours in PARTS_OF_DAY.values()
        for hour in hours
        for k in range(HOUR_WEIGHTS[hour])
    ]


def test_the_same_as_a_plain_computation(con: duckdb.DuckDBPyConnection) -> None:
    pieces = slots()
    for i, found in enumerate(times(con, n=200)):
        digest = int.from_bytes(hashlib.md5(f"session_{i}".encode()).digest()[:8], "little")  # noqa: S324
        start, length = pieces[digest % 200]
        micros = start + digest // 200 % length
        assert found == datetime.combine(DAY, datetime.min.time()) + timedelta(microseconds=micros)


def test_known_times_never_change(con: duckdb.DuckDBPyConnection) -> None:
    expression = event_time_sql("'2025-03-05'", "'session_000001'")
    assert con.execute(f"SELECT {expression}::VARCHAR").fetchone() == (
        "2025-03-05 17:20:18.162129",
    )


def test_always_within_the_date(con: duckdb.DuckDBPyConnection) -> None:
    assert {t.date() for t in times(con)} == {DAY}


def test_evening_peak_and_small_hours(con: duckdb.DuckDBPyConnection) -> None:
    found = times(con)
    counts = [sum(t.hour == hour for t in found) for hour in range(24)]
    assert counts.index(max(counts)) == 20
    assert counts.index(min(counts)) == 4
    for count, weight in zip(counts, HOUR_WEIGHTS, strict=True):
        assert count == pytest.approx(len(found) * weight / 200, rel=0.25)


@pytest.mark.parametrize("part", PARTS_OF_DAY)
def test_within_its_part_of_the_day(con: duckdb.DuckDBPyConnection, part: str) -> None:
    found = times(con, part, 5_000)
    assert {t.hour for t in found} == set(PARTS_OF_DAY[part])
    assert {t.date() for t in found} == {DAY}


def test_an_unknown_part_is_the_whole_day(con: duckdb.DuckDBPyConnection) -> None:
    assert times(con, "dawn", 500) == times(con, None, 500)


def test_null_in_null_out(con: duckdb.DuckDBPyConnection) -> None:
    no_date = event_time_sql("NULL", "'session_1'")
    no_id = event_time_sql("DATE '2025-03-05'", "NULL")
    query = f"SELECT {no_date}, {no_id}"
    assert con.execute(query).fetchone() == (None, None)


def test_a_topic_names_what_its_time_is_made_from(con: duckdb.DuckDBPyConnection) -> None:
    query = f"""
        SELECT {event_time_of(contract("impression"))} AS event_time
        FROM (SELECT 'rec_1' AS event_id, DATE '2025-03-05' AS recommendation_date,
              'morning' AS time_of_day)
    """
    (found,) = con.execute(query).fetchone() or (None,)
    assert datetime(2025, 3, 5, 6) <= found < datetime(2025, 3, 5, 12)
    assert con.sql(query).types == ["TIMESTAMP"]


def test_a_dimension_has_no_event_time() -> None:
    with pytest.raises(ContractError, match="users: event_time is not derived"):
        event_time_of(contract("users"))
