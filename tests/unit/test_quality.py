"""The quality report counts what a plain look at the rows counts."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from playhead.batch.quality import (
    METRICS,
    Metric,
    headline,
    keep,
    latest_report,
    measure,
    render,
)
from playhead.batch.sources import find_sources
from playhead.batch.stage import DateRange, stage
from playhead.contracts import contract
from playhead.engines import connect
from playhead.lake import Lake

USERS = "(SELECT 'u1' AS user_id, DATE '2025-01-10' AS subscription_start_date)"
MOVIES = (
    "(SELECT 'm1' AS movie_id, 90.00::DECIMAL(12, 2) AS duration_minutes,"
    " DATE '2025-01-05' AS added_to_platform)"
)
AT = datetime(2025, 6, 1)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(threads=2) as connection:
        yield connection


def measured(
    folder: Path,
    con: duckdb.DuckDBPyConnection,
    name: str,
    columns: str,
    rows: list[str],
    **dimensions: str,
) -> dict[tuple[str, str | None], Metric]:
    of = contract(name)
    (folder / f"{of.file}.csv").write_text("\n".join([columns, *rows]) + "\n")
    source = find_sources(folder, [str(of.file)])[str(of.file)]
    staged = stage(source, of, con, days=DateRange())
    metrics = measure(
        con, of, staged.sql, file=source.name, dimensions=dimensions, repeated=staged.repeated
    )
    assert {m.metric for m in metrics} <= METRICS.keys()
    assert {(m.table, m.file) for m in metrics} == {(name, f"{of.file}.csv")}
    return {(m.metric, m.column): m for m in metrics}


WATCH = (
    "session_id,user_id,movie_id,watch_date,device_type,watch_duration_minutes,"
    "progress_percentage,action,quality,location_country,is_download,user_rating"
)


def test_a_topic(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    rows = [
        "s1,u1,m1,2025-01-12,Mobile,90,50,started,HD,USA,,",
        "s1,u1,m1,2025-01-12,Mobile,90.0,50.0,started,HD,USA,,",
        "s1,u1,m1,2025-01-12,Mobile,90,51,started,HD,USA,,",
        ",u9,m9,2025-01-01,Mobile,481,101,started,HD,USA,,9",
        "s2,u1,m1,2025-01-06,Mobile,90.01,,started,HD,USA,,x",
        "s3,u1,m1,2025-01-04,Car,,,sleeping,HD,,,",
        "s4,u1",
        ",,,,,,,,,,,",
    ]
    found = measured(tmp_path, con, "playback", WATCH, rows, users=USERS, movies=MOVIES)
    counts = {key: metric.value for key, metric in found.items() if metric.value}
    assert counts == {
        ("rows", None): 8,
        ("rejected", None): 1,
        ("full_row_duplicates", None): 1,
        ("key_duplicates", None): 2,
        ("missing", "session_id"): 2,
        ("missing", "user_id"): 1,
        ("missing", "movie_id"): 1,
        ("missing", "watch_date"): 1,
        ("missing", "device_type"): 1,
        ("missing", "watch_duration_minutes"): 2,
        ("missing", "progress_percentage"): 3,
        ("missing", "action"): 1,
        ("missing", "quality"): 1,
        ("missing", "location_country"): 2,
        ("missing", "is_download"): 7,
        ("missing", "user_rating"): 5,
        ("all_null", "is_download"): 1,
        ("type_violations", "user_rating"): 1,
        ("enum_violations", "device_type"): 1,
        ("enum_violations", "action"): 1,
        ("required_missing", "watch_date"): 1,
        ("required_missing", "device_type"): 1,
        ("required_missing", "action"): 1,
        ("required_missing", "quality"): 1,
        ("out_of_range", "watch_duration_minutes"): 1,
        ("out_of_range", "progress_percentage"): 1,
        ("out_of_range", "user_rating"): 1,
        ("longer_than_title", "watch_duration_minutes"): 1,
        ("orphan_keys", "user_id"): 1,
        ("orphan_keys", "movie_id"): 1,
        ("before_subscription", "watch_date"): 2,
        ("before_added", "watch_date"): 1,
    }
    assert found["missing", "user_rating"].share == Decimal("0.625000")
    assert found["orphan_keys", "user_id"].share == Decimal("0.125000")


def test_clicks_on_searches_without_results(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    columns = (
        "search_id,user_id,search_query,search_date,results_returned,"
        "clicked_result_position,device_type,had_typo"
    )
    rows = [f"{i},u1,q,2025-02-01,{i % 2},{i if i > 1 else ''},Mobile,False" for i in range(6)]
    found = measured(tmp_path, con, "search", columns, rows, users=USERS)
    assert found["click_without_results", "clicked_result_position"].value == 2


def test_a_dimension(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    rows = ["u1,a@b,12,5.00", "u1,a@b,101,100.01", "u2,,50,0", "u2,,50,0"]
    found = measured(tmp_path, con, "users", "user_id,email,age,monthly_spend", rows)
    counts = {key: metric.value for key, metric in found.items() if metric.value}
    assert counts[("key_duplicates", None)] == 2
    assert counts[("full_row_duplicates", None)] == 1
    assert counts[("missing", "email")] == 2
    assert counts[("out_of_range", "age")] == 2
    assert counts[("out_of_range", "monthly_spend")] == 1
    assert counts[("all_null", "country")] == 1
    assert ("orphan_keys", "user_id") not in found


def test_without_dimensions_it_says_what_was_not_checked(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    rows = ["s1,u1,m1,2025-01-12,Mobile,90,50,started,HD,USA,,"]
    found = measured(tmp_path, con, "playback", WATCH, rows, movies=MOVIES)
    assert found["orphan_keys", "movie_id"].value == 0
    for key in (("orphan_keys", "user_id"), ("before_subscription", "watch_date")):
        assert (found[key].value, found[key].note) == (None, "not checked: users missing")


def test_no_rows_at_all(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    found = measured(tmp_path, con, "playback", WATCH, [], users=USERS, movies=MOVIES)
    assert {m.value for m in found.values()} == {0}
    assert {m.share for m in found.values()} == {None}


def test_a_report_is_kept_once_and_the_last_one_is_found(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    old = [Metric("users", "users.csv", "rows", None, 7, Decimal(1))]
    new = [
        Metric("users", "users.csv", "rows", None, 8, Decimal("1.000000")),
        Metric("users", "users.csv", "missing", "age", 2, Decimal("0.250000")),
    ]
    with Lake(tmp_path) as lake:
        assert latest_report(lake, con) == []
        for load_id, metrics in ((1, old), (2, new), (2, new)):
            keep(lake, con, metrics, load_id=load_id, at=AT, mark=f"playhead.load.users.{load_id}")
        assert latest_report(lake, con) == new
        assert lake.rows("quality.report") == 3


def test_the_report_reads_well() -> None:
    metrics = [
        Metric("playback", "w.csv", "rows", None, 1000, Decimal(1)),
        Metric("playback", "w.csv", "full_row_duplicates", None, 50, Decimal("0.05")),
        Metric(
            "playback", "w.csv", "orphan_keys", "user_id", None, None, "not checked: users missing"
        ),
        Metric("playback", "w.csv", "orphan_keys", "movie_id", 0, Decimal(0)),
        Metric("users", "u.csv", "rows", None, 20, Decimal(1)),
        Metric("users", "u.csv", "enum_violations", "gender", 3, Decimal("0.15")),
    ]
    assert headline(metrics).startswith(
        "1,020 rows: 50 full-row duplicates, 3 violations, 0 orphan"
    )
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(render(metrics))
    text = capture.get()
    assert "full row duplicates" in text
    assert "5.00 %" in text
    assert "not checked: users missing" in text
    assert "movie_id" not in text


def test_every_metric_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "load.md").read_text()
    assert [name for name in METRICS if f"`{name}`" not in page] == []
