"""What every method of the lake promises, on small tables."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from posixpath import dirname

import duckdb
import pyarrow as pa
import pytest

from lake_homes import Home
from playhead.engines import connect
from playhead.errors import LakeError
from playhead.lake import Lake, Partition

DAYS = Partition("event_time", "day")
MONTHS = Partition("event_time", "month")
NOW = timedelta(0)

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string()),
        pa.field("event_time", pa.timestamp("us")),
        pa.field("rating", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("minutes", pa.decimal128(12, 2)),
        pa.field("watch_date", pa.date32()),
        pa.field("done", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("blob", pa.binary()),
        pa.field("wide", pa.decimal128(30, 4)),
        pa.field("small", pa.decimal128(5, 2)),
    ]
)

# Ten rows a day for three days over the end of a year, with NULLs in every optional column.
EVENTS = """
    SELECT 'e' || i AS event_id,
           TIMESTAMP '2023-12-30 06:00:00.123456' + to_hours(i * 7) AS event_time,
           CASE WHEN i % 5 <> 0 THEN i END AS rating, i::BIGINT AS "offset",
           CASE WHEN i % 4 <> 0 THEN i / 100 END::DECIMAL(12, 2) AS minutes,
           CASE WHEN i % 3 <> 0 THEN DATE '1969-12-30' + i::INT END AS watch_date,
           CASE WHEN i % 2 = 0 THEN i % 4 = 0 END AS done,
           CASE WHEN i % 7 <> 0 THEN i * 0.5 END::DOUBLE AS score,
           CASE WHEN i % 6 <> 0 THEN ('\\xFF' || i)::BLOB END AS blob,
           CASE WHEN i % 8 <> 0 THEN 12345678901234567890.1234 - i END::DECIMAL(30, 4) AS wide,
           (-i)::DECIMAL(5, 2) AS small
    FROM range(30) AS r(i)
"""


@pytest.fixture
def lake(home: Home) -> Iterator[Lake]:
    with home.open() as lake:
        lake.create("raw.playback", SCHEMA, partition=DAYS, sort=("offset",))
        yield lake


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as con:
        yield con


def ids(lake: Lake, con: duckdb.DuckDBPyConnection, name: str = "raw.playback") -> list[str]:
    rows = con.execute(f"SELECT event_id FROM {lake.scan(name)} ORDER BY ALL").fetchall()
    return [row[0] for row in rows]


def row(day: str, name: str = "x") -> str:
    return f"SELECT '{name}' AS event_id, TIMESTAMP '{day} 12:00' AS event_time"


# --- append ---------------------------------------------------------------------------------


def test_append_gives_back_what_the_query_gave(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    written = lake.append("raw.playback", con, EVENTS)

    assert (written.rows, written.files, written.skipped) == (30, 9, False)
    assert written.partitions[0] == date(2023, 12, 30)
    expected = con.execute(f"{EVENTS} ORDER BY ALL").fetchall()
    found = con.execute(f"SELECT * FROM {lake.scan('raw.playback')} ORDER BY ALL").fetchall()
    assert found == expected


def test_scan_has_the_types_of_the_table(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, EVENTS)
    for table in (lake.scan("raw.playback"), lake.scan("raw.playback", partitions=[])):
        arrow = con.execute(f"SELECT * FROM {table}").to_arrow_table()
        assert arrow.schema.equals(SCHEMA)


def test_pyiceberg_reads_what_duckdb_reads(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, EVENTS)
    ours = con.execute(f"SELECT * FROM {lake.scan('raw.playback')}").to_arrow_table()
    theirs = home.iceberg("raw.playback").scan().to_arrow().cast(SCHEMA)
    order = [("offset", "ascending")]
    assert theirs.sort_by(order).equals(ours.sort_by(order))


@pytest.mark.parametrize(
    "predicate",
    [
        "event_time >= '2024-01-01T00:00:00' and event_time < '2024-01-02T00:00:00'",
        "rating > 20",
        "offset = 29",
        "minutes >= 0.28",
        "watch_date < '1970-01-02'",
        "done = true",
        "score > 13.9",
        "event_id = 'e7'",
        "small < -28.00",
        "wide < 12345678901234567863.0000",
        "rating is null",
    ],
)
def test_other_engines_skip_files_by_bounds_without_losing_rows(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection, predicate: str
) -> None:
    lake.append("raw.playback", con, EVENTS)
    found = home.iceberg("raw.playback").scan(row_filter=predicate)
    sql = predicate.replace("offset", '"offset"')
    expected = con.execute(f"SELECT event_id FROM ({EVENTS}) WHERE {sql} ORDER BY ALL").fetchall()
    assert expected
    rows = sorted(found.to_arrow()["event_id"].to_pylist())
    assert rows == [name for (name,) in expected]


def test_bounds_let_other_engines_skip_files(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, EVENTS)
    planned = home.iceberg("raw.playback").scan(row_filter="offset = 29").plan_files()
    assert len(list(planned)) == 1


def test_each_partition_gets_one_file_sorted(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, f"{EVENTS} ORDER BY hash(i)")
    for path in lake.snapshot("raw.playback").paths():
        offsets = con.execute(f"SELECT \"offset\" FROM '{path}'").fetchall()
        assert offsets == sorted(offsets)


def test_columns_are_cast_and_filled_by_name(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    query = """
        SELECT sum(i) AS "offset", TIMESTAMPTZ '2024-01-01 23:30:00+01' AS event_time,
               1.005::DOUBLE AS minutes
        FROM range(4) AS r(i);
    """
    con.execute("SET TimeZone = 'Asia/Tokyo'")
    lake.append("raw.playback", con, query)
    found = con.execute(
        f'SELECT event_id, event_time, "offset", rating FROM {lake.scan("raw.playback")}'
    ).fetchall()
    assert found == [(None, datetime(2024, 1, 1, 22, 30), 6, None)]
    assert lake.partitions("raw.playback") == [date(2024, 1, 1)]


def test_the_query_sees_what_the_session_has(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    con.register("mine", pa.table({"event_id": ["a"], "event_time": [datetime(2024, 5, 1)]}))
    lake.append("raw.playback", con, "FROM mine -- a comment at the end")
    assert ids(lake, con) == ["a"]


def test_an_unknown_column_is_named(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(LakeError, match=r"raw\.playback.*a column genre that the table lacks"):
        lake.append("raw.playback", con, f"SELECT *, 'x' AS genre FROM ({EVENTS})")


def test_rows_without_a_partition_value_are_counted_and_refused(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    query = f"{EVENTS} UNION ALL BY NAME SELECT 'lost' AS event_id FROM range(300000)"
    with pytest.raises(LakeError, match="300000 rows have no event_time"):
        lake.append("raw.playback", con, query)
    assert lake.snapshot("raw.playback").id is None
    assert home.data_files() == set()


def test_a_required_column_holds_no_null(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    schema = pa.schema([pa.field("user_id", pa.string(), nullable=False)])
    lake.create("dim.users", schema)
    with pytest.raises(LakeError, match="column user_id is required, and 1 of 2 rows"):
        lake.append("dim.users", con, "SELECT * FROM (VALUES ('a'), (NULL)) AS v(user_id)")
    assert home.data_files() == set()


@pytest.mark.parametrize("query", ["SELECT nonsense", "SELECT 'x'::INT AS rating", "SELECT ("])
def test_a_failing_query_leaves_nothing(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection, query: str
) -> None:
    with pytest.raises(LakeError, match=r"raw\.playback: the query to write failed"):
        lake.append("raw.playback", con, query)
    assert home.data_files() == set()


def test_a_query_that_fails_half_way_leaves_nothing(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.create("dim.t", pa.schema([("a", pa.int32())]))
    query = "SELECT CASE WHEN i = 900000 THEN 'x' ELSE '1' END::INT AS a FROM range(1000000) r(i)"
    with pytest.raises(LakeError, match=r"dim\.t: the query to write failed.*Could not convert"):
        lake.append("dim.t", con, query)
    assert home.data_files() == set()


def test_an_empty_query_commits_nothing(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, EVENTS)
    before = lake.snapshot("raw.playback")
    written = lake.append("raw.playback", con, f"{EVENTS} LIMIT 0")
    assert (written.rows, written.snapshot_id, written.skipped) == (0, None, False)
    assert lake.snapshot("raw.playback") == before


def test_an_empty_query_with_properties_commits_them(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, EVENTS)
    written = lake.append("raw.playback", con, f"{EVENTS} LIMIT 0", properties={"epoch": "7"})
    assert lake.snapshot("raw.playback").id == written.snapshot_id
    assert lake.properties("raw.playback") == {"epoch": "7"}
    assert lake.rows("raw.playback") == 30
    summary = home.iceberg("raw.playback").current_snapshot()
    assert summary is not None
    assert summary.summary is not None
    assert summary.summary["epoch"] == "7"


# --- properties and guard ------------------------------------------------------------------


def test_properties_come_with_the_rows(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    written = lake.append("raw.playback", con, EVENTS, properties={"offsets": "0:30"})
    snapshot = lake.snapshot("raw.playback")
    assert (snapshot.id, snapshot.properties) == (written.snapshot_id, {"offsets": "0:30"})
    current = home.iceberg("raw.playback").current_snapshot()
    assert current is not None
    assert current.summary is not None
    assert current.summary["offsets"] == "0:30"
    assert current.summary["total-records"] == "30"


def test_set_properties_keeps_the_others(home: Home, lake: Lake) -> None:
    lake.set_properties("raw.playback", {"a": "1", "b": "2"})
    lake.set_properties("raw.playback", {"b": "3"})
    assert lake.properties("raw.playback") == {"a": "1", "b": "3"}
    found = lake.snapshot("raw.playback")
    assert (found.id is not None) == home.properties_make_snapshots
    assert found.files == ()


@pytest.mark.parametrize("key", ["operation", "write.format.default", "total-records"])
def test_icebergs_own_properties_are_refused(
    lake: Lake, con: duckdb.DuckDBPyConnection, key: str
) -> None:
    with pytest.raises(LakeError, match="belongs to Iceberg"):
        lake.append("raw.playback", con, EVENTS, properties={key: "x"})


def test_a_property_is_a_string(lake: Lake) -> None:
    with pytest.raises(LakeError, match="not a string"):
        lake.set_properties("raw.playback", {"epoch": 7})  # type: ignore[dict-item]


def test_a_refusing_guard_commits_nothing(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    def fresh(properties: Mapping[str, str]) -> bool:
        return "load" not in properties

    first = lake.append("raw.playback", con, EVENTS, properties={"load": "1"}, guard=fresh)
    kept = home.files()
    again = lake.append("raw.playback", con, EVENTS, properties={"load": "1"}, guard=fresh)
    assert (first.skipped, again.skipped, again.rows) == (False, True, 0)
    assert lake.rows("raw.playback") == 30
    assert home.files() == kept


def test_the_guard_is_asked_again_before_the_commit(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    """Another writer gets in between the first question and the commit."""
    asked: list[dict[str, str]] = []

    def guard(properties: Mapping[str, str]) -> bool:
        asked.append(dict(properties))
        if len(asked) == 1:
            lake.set_properties("raw.playback", {"load": "theirs"})
        return "load" not in properties

    written = lake.append("raw.playback", con, EVENTS, guard=guard)
    assert written.skipped
    assert asked == [{}, {"load": "theirs"}]
    assert home.data_files() == set()


def test_a_change_between_guard_and_commit_makes_it_ask_again(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    asked: list[dict[str, str]] = []

    def guard(properties: Mapping[str, str]) -> bool:
        asked.append(dict(properties))
        if len(asked) == 2:
            lake.set_properties("raw.playback", {"epoch": "9"})
        return properties.get("epoch") != "9"

    written = lake.append("raw.playback", con, EVENTS, properties={"epoch": "8"}, guard=guard)
    assert written.skipped
    assert lake.properties("raw.playback") == {"epoch": "9"}
    assert lake.rows("raw.playback") == 0


def test_a_guard_that_raises_leaves_nothing(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    calls = iter([True])

    with pytest.raises(StopIteration):
        lake.append("raw.playback", con, EVENTS, guard=lambda _: next(calls))
    assert home.data_files() == set()


# --- overwrite ------------------------------------------------------------------------------


def test_overwrite_replaces_the_named_days_only(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, f"{row('2024-01-01', 'a')} UNION ALL {row('2024-01-02', 'b')}")
    before = lake.snapshot("raw.playback")
    written = lake.overwrite(
        "raw.playback",
        con,
        row("2024-01-02", "c"),
        partitions=[date(2024, 1, 2), date(2024, 1, 3)],
        properties={"run": "1"},
    )
    assert ids(lake, con) == ["a", "c"]
    assert written.partitions == (date(2024, 1, 2),)
    assert lake.properties("raw.playback") == {"run": "1"}
    assert con.execute(f"SELECT count(*) FROM {before.scan()}").fetchall() == [(2,)]


def test_a_named_day_without_rows_becomes_empty(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, f"{row('2024-01-01', 'a')} UNION ALL {row('2024-01-02', 'b')}")
    written = lake.overwrite(
        "raw.playback", con, f"{EVENTS} LIMIT 0", partitions=[date(2024, 1, 1)]
    )
    assert written.snapshot_id == lake.snapshot("raw.playback").id
    assert ids(lake, con) == ["b"]
    assert lake.partitions("raw.playback") == [date(2024, 1, 2)]


def test_overwrite_by_month(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.create("views.monthly", SCHEMA, partition=MONTHS)
    old = f"{row('1969-12-31', 'a')} UNION ALL {row('2024-01-02', 'b')}"
    lake.append("views.monthly", con, old)
    assert lake.partitions("views.monthly") == [date(1969, 12, 1), date(2024, 1, 1)]
    lake.overwrite("views.monthly", con, row("2024-01-31", "c"), partitions=[date(2024, 1, 1)])
    assert ids(lake, con, "views.monthly") == ["a", "c"]
    with pytest.raises(LakeError, match="2024-01-15 names no partition"):
        lake.overwrite("views.monthly", con, row("2024-01-31"), partitions=[date(2024, 1, 15)])


def test_overwrite_of_the_whole_table(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.create("dim.users", pa.schema([("event_id", pa.string())]))
    for name in ("a", "b"):
        lake.overwrite("dim.users", con, f"SELECT '{name}' AS event_id")
        lake.overwrite("raw.playback", con, row("2024-01-01", name))
    assert ids(lake, con, "dim.users") == ["b"]
    assert ids(lake, con) == ["b"]
    lake.overwrite("dim.users", con, "SELECT 'x' AS event_id LIMIT 0")
    assert ids(lake, con, "dim.users") == []
    assert lake.rows("dim.users") == 0


def test_overwrite_may_read_the_table_itself(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    for name in ("a", "b", "a"):
        lake.append("raw.playback", con, row("2024-01-01", name))
    query = f"SELECT DISTINCT * FROM {lake.scan('raw.playback')}"
    written = lake.overwrite("raw.playback", con, query)
    assert (written.rows, written.files) == (2, 1)
    assert ids(lake, con) == ["a", "b"]


def test_rows_outside_the_named_days_are_refused(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    with pytest.raises(LakeError, match="not among the 1 to overwrite: 2024-02-01"):
        lake.overwrite("raw.playback", con, row("2024-02-01"), partitions=[date(2024, 1, 1)])
    assert home.data_files() == set()


def test_a_table_without_partitions_has_none_to_overwrite(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.create("dim.users", pa.schema([("event_id", pa.string())]))
    with pytest.raises(LakeError, match="no partitions to overwrite"):
        lake.overwrite("dim.users", con, "SELECT 'a' AS event_id", partitions=[date(2024, 1, 1)])


def test_an_overwrite_that_changes_nothing_commits_nothing(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    written = lake.overwrite(
        "raw.playback", con, f"{EVENTS} LIMIT 0", partitions=[date(2024, 1, 1)]
    )
    assert written.snapshot_id is None
    assert lake.snapshot("raw.playback").id is None


# --- create, schema evolution, drop ----------------------------------------------------------


def test_create_again_changes_nothing(home: Home, lake: Lake) -> None:
    before = home.files()
    lake.create("raw.playback", SCHEMA, partition=DAYS, sort=("offset",))
    assert home.files() == before


def test_new_optional_columns_read_null_in_old_files(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, row("2024-01-01", "old"))
    wider = SCHEMA.append(pa.field("genre", pa.string())).append(
        pa.field("price", pa.decimal128(9, 4))
    )
    lake.create("raw.playback", wider, partition=DAYS, sort=("offset",))
    new = f"SELECT *, 'x' AS genre, 1.5 AS price FROM ({row('2024-01-02', 'new')})"
    lake.append("raw.playback", con, new)
    found = con.execute(
        f"SELECT event_id, genre, price FROM {lake.scan('raw.playback')} ORDER BY ALL"
    ).fetchall()
    assert found == [("new", "x", Decimal("1.5000")), ("old", None, None)]
    theirs = home.iceberg("raw.playback").scan(selected_fields=("event_id", "genre")).to_arrow()
    assert sorted(map(str, theirs["genre"].to_pylist())) == ["None", "x"]
    assert lake.schema("raw.playback").names == wider.names


def test_a_narrower_schema_keeps_the_columns(lake: Lake) -> None:
    lake.create("raw.playback", pa.schema([SCHEMA.field(1)]), partition=DAYS, sort=("offset",))
    assert lake.schema("raw.playback").names == SCHEMA.names


def test_a_required_column_may_become_optional(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.create("dim.t", pa.schema([pa.field("event_id", pa.string(), nullable=False)]))
    lake.create("dim.t", pa.schema([pa.field("event_id", pa.string())]))
    lake.append("dim.t", con, "SELECT NULL AS event_id")
    assert lake.rows("dim.t") == 1


def test_the_sort_order_may_change(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.create("raw.playback", SCHEMA, partition=DAYS, sort=("event_id",))
    query = f"{row('2024-01-01', 'b')} UNION ALL {row('2024-01-01', 'a')}"
    lake.append("raw.playback", con, query)
    (path,) = lake.snapshot("raw.playback").paths()
    assert con.execute(f"SELECT event_id FROM '{path}'").fetchall() == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("schema", "partition", "message"),
    [
        (SCHEMA.set(2, pa.field("rating", pa.string())), DAYS, "rating is INTEGER, not VARCHAR"),
        (SCHEMA.append(pa.field("n", pa.int32(), nullable=False)), DAYS, "n cannot become req"),
        (SCHEMA, MONTHS, "cut by day of event_time, not by month of event_time"),
        (SCHEMA, None, "cut by day of event_time, not by nothing"),
        (SCHEMA.append(pa.field("n", pa.int8())), DAYS, "n has the type int8"),
    ],
)
def test_changes_that_would_break_old_rows_are_refused(
    lake: Lake, schema: pa.Schema, partition: Partition | None, message: str
) -> None:
    with pytest.raises(LakeError, match=message):
        lake.create("raw.playback", schema, partition=partition, sort=("offset",))


@pytest.mark.parametrize(
    ("schema", "partition", "sort", "message"),
    [
        (pa.schema([]), None, (), "needs columns"),
        (pa.schema([("a", pa.int32()), ("A", pa.int32())]), None, (), "distinct names"),
        (pa.schema([("a", pa.timestamp("us", "UTC"))]), None, (), "column a has the type"),
        (SCHEMA, Partition("event_id", "day"), (), "cannot partition by day of event_id"),
        (SCHEMA, Partition("gone", "day"), (), "partition column gone"),
        (SCHEMA, DAYS, ("gone",), "sort column gone"),
    ],
)
def test_bad_tables_are_refused(
    lake: Lake,
    schema: pa.Schema,
    partition: Partition | None,
    sort: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(LakeError, match=message):
        lake.create("raw.bad", schema, partition=partition, sort=sort)
    assert not lake.exists("raw.bad")


@pytest.mark.parametrize("name", ["playback", "a.b.c", "raw.", "raw.x; DROP", "raw.../x"])
def test_bad_names_are_refused(lake: Lake, name: str) -> None:
    with pytest.raises(LakeError, match="no name of a table"):
        lake.create(name, SCHEMA)


def test_tables_and_drop(home: Home, lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, EVENTS)
    lake.create("dim.users", SCHEMA)
    assert lake.tables() == ["dim.users", "raw.playback"]
    assert lake.tables("raw") == ["raw.playback"]
    lake.drop("raw.playback")
    assert not lake.exists("raw.playback")
    assert home.data_files() == set()
    with pytest.raises(LakeError, match=r"no table raw\.playback"):
        lake.drop("raw.playback")
    lake.create("raw.playback", SCHEMA)
    assert lake.rows("raw.playback") == 0


def test_a_missing_table_is_named_with_those_that_exist(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    for use in (
        lambda: lake.scan("raw.search"),
        lambda: lake.properties("raw.search"),
        lambda: lake.append("raw.search", con, EVENTS),
        lambda: lake.set_properties("raw.search", {"a": "b"}),
        lambda: lake.expire("raw.search", older_than=NOW),
    ):
        with pytest.raises(LakeError, match=r"no table raw\.search\n.*raw\.playback"):
            use()


def test_a_table_dropped_under_the_writer_is_noticed(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    asked: list[int] = []

    def guard(_: Mapping[str, str]) -> bool:
        asked.append(1)
        if len(asked) == 1:
            lake.drop("raw.playback")
            lake.create("raw.playback", SCHEMA, partition=DAYS)
        return True

    with pytest.raises(LakeError, match="was dropped while"):
        lake.append("raw.playback", con, EVENTS, guard=guard)
    assert home.data_files() == set()


# --- reading ---------------------------------------------------------------------------------


def test_a_snapshot_stays_what_it_was(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, row("2024-01-01", "a"), properties={"epoch": "1"})
    before = lake.snapshot("raw.playback")
    lake.append("raw.playback", con, row("2024-01-01", "b"), properties={"epoch": "2"})
    lake.overwrite("raw.playback", con, row("2024-01-01", "c"))
    assert before.properties == {"epoch": "1"}
    assert con.execute(f"SELECT event_id FROM {before.scan()}").fetchall() == [("a",)]


def test_scan_of_partitions_and_columns(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, EVENTS)
    table = lake.scan("raw.playback", partitions={date(2024, 1, 1)}, columns=("rating", "event_id"))
    found = con.execute(f"SELECT * FROM {table}").to_arrow_table()
    assert found.column_names == ["rating", "event_id"]
    expected = con.execute(
        f"SELECT rating, event_id FROM ({EVENTS}) WHERE event_time::DATE = '2024-01-01'"
    ).fetchall()
    rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
    assert sorted(map(str, rows)) == sorted(map(str, expected))
    assert con.execute(f"SELECT count(*) FROM {lake.scan('raw.playback')}").fetchone() == (30,)
    with pytest.raises(LakeError, match="no column nope"):
        lake.scan("raw.playback", columns=["nope"])


def test_an_empty_table_is_an_empty_relation(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    assert con.execute(f"SELECT count(*) FROM {lake.scan('raw.playback')} AS t").fetchone() == (0,)
    assert (lake.rows("raw.playback"), lake.partitions("raw.playback")) == (0, [])


def test_a_second_lake_sees_the_first_ones_commits(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    with home.open() as other:
        lake.append("raw.playback", con, EVENTS)
        assert other.rows("raw.playback") == 30
        other.append("raw.playback", con, EVENTS)
    assert lake.rows("raw.playback") == 60


def test_the_files_of_the_snapshot_add_up(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    lake.append("raw.playback", con, EVENTS)
    snapshot = lake.snapshot("raw.playback")
    assert sum(file.rows for file in snapshot.files) == 30
    for file in snapshot.files:
        (path,) = snapshot.paths([file])
        assert Path(path).stat().st_size == file.bytes
        found = con.execute(
            f"SELECT count(*), min(event_time)::DATE, max(event_time)::DATE FROM '{path}'"
        ).fetchone()
        assert found == (file.rows, file.partition, file.partition)


def test_threads_share_a_lake(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    def append(number: int) -> None:
        for i in range(3):
            name = f"{number}-{i}"
            lake.append("raw.playback", con.cursor(), row("2024-01-01", name))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(append, range(3)))
    assert ids(lake, con) == [f"{number}-{i}" for number in range(3) for i in range(3)]


# --- damage ----------------------------------------------------------------------------------


def test_a_missing_data_file_is_named(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, EVENTS)
    victim = lake.snapshot("raw.playback").files[3]
    home.remove(victim.path)
    with home.open() as fresh, pytest.raises(LakeError) as caught:
        fresh.scan("raw.playback")
    assert f"raw.playback: the data file {victim.path} cannot be read" in str(caught.value)


def test_a_data_file_cut_short_is_named(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, EVENTS)
    victim = lake.snapshot("raw.playback").files[3]
    home.write(victim.path, b"x" * (victim.bytes - 10))
    with home.open() as fresh, pytest.raises(LakeError) as caught:
        fresh.scan("raw.playback")
    assert f"{victim.path} has {victim.bytes - 10} bytes, not {victim.bytes}" in str(caught.value)


def test_a_data_file_with_other_bytes_is_named(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, EVENTS)
    victim = lake.snapshot("raw.playback").files[3]
    home.write(victim.path, b"x" * victim.bytes)
    with home.open() as fresh, pytest.raises(LakeError) as caught:
        fresh.scan("raw.playback")
    assert f"{victim.path} fails its checksum" in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"not avro at all"])
@pytest.mark.parametrize("pattern", ["snap-*.avro", "*-m0.avro", "*.metadata.json"])
def test_damaged_metadata_is_named(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection, pattern: str, damage: bytes
) -> None:
    if pattern == "*.metadata.json" and not home.reads_metadata_files:
        pytest.skip("the service that is the catalog keeps a copy of its own")
    lake.append("raw.playback", con, EVENTS)
    victims = [path for path in home.files() if fnmatch(path, f"*/{pattern}")]
    for victim in victims:
        home.write(victim, damage)
    with home.open() as fresh, pytest.raises(LakeError, match=r"raw\.playback") as caught:
        fresh.snapshot("raw.playback")
    assert any(victim in str(caught.value) for victim in victims)


@pytest.mark.parametrize("pattern", ["snap-*.avro", "*-m0.avro", "*.metadata.json"])
def test_missing_metadata_is_named(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection, pattern: str
) -> None:
    if pattern == "*.metadata.json" and not home.reads_metadata_files:
        pytest.skip("the service that is the catalog keeps a copy of its own")
    lake.append("raw.playback", con, EVENTS)
    victims = [path for path in home.files() if fnmatch(path, f"*/{pattern}")]
    for victim in victims:
        home.remove(victim)
    with home.open() as fresh, pytest.raises(LakeError, match=r"raw\.playback") as caught:
        fresh.snapshot("raw.playback")
    assert any(victim in str(caught.value) for victim in victims)


def test_a_damaged_catalog_is_named(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    root.mkdir()
    (root / "catalog.db").write_bytes(b"no database, but long enough to be looked at" * 50)
    with pytest.raises(LakeError, match=r"the catalog .*catalog\.db cannot be used"):
        Lake(root)


def test_a_folder_that_looks_like_a_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="file patterns"):
        Lake(tmp_path / "a[1]")


# --- expire and sweep ------------------------------------------------------------------------


def test_expire_deletes_what_only_old_snapshots_needed(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, f"{row('2024-01-01', 'a')} UNION ALL {row('2024-01-02', 'b')}")
    lake.overwrite("raw.playback", con, row("2024-01-01", "c"), partitions=[date(2024, 1, 1)])
    lake.append("raw.playback", con, row("2024-01-03", "d"))
    assert len(home.data_files()) == 4

    deleted = lake.expire("raw.playback", older_than=NOW)

    current = {file.path for file in lake.snapshot("raw.playback").files}
    assert home.data_files() == current
    assert deleted > 1
    assert ids(lake, con) == ["b", "c", "d"]
    assert len(home.iceberg("raw.playback").metadata.snapshots) == 1
    assert home.iceberg("raw.playback").scan().to_arrow().num_rows == 3
    assert lake.sweep(older_than=NOW) == 0
    assert ids(lake, con) == ["b", "c", "d"]


def test_expire_leaves_young_snapshots(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, row("2024-01-01"))
    before = lake.snapshot("raw.playback")
    lake.overwrite("raw.playback", con, row("2024-01-01"))
    assert lake.expire("raw.playback", older_than=timedelta(hours=1)) == 0
    assert con.execute(f"SELECT count(*) FROM {before.scan()}").fetchone() == (1,)


def test_a_written_table_goes_on_after_expire(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    for name in "abc":
        lake.append("raw.playback", con, row("2024-01-01", name), properties={"at": name})
        lake.expire("raw.playback", older_than=NOW)
    assert ids(lake, con) == ["a", "b", "c"]
    assert lake.properties("raw.playback") == {"at": "c"}


def test_sweep_deletes_orphans_and_nothing_else(
    home: Home, lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.append("raw.playback", con, EVENTS)
    lake.overwrite("raw.playback", con, row("2024-01-01"))
    lake.create("dim.users", SCHEMA)
    kept = home.files()
    location = next(dirname(dirname(path)) for path in kept if path.endswith(".json"))
    orphans = {
        f"{location}/data/deadbeef/2024-01-01-00000.parquet",
        f"{location}/metadata/deadbeef-m0.avro",
        f"{home.root}/raw/dropped-1/data/x/y.parquet",
    }
    for orphan in orphans:
        home.write(orphan, b"x")

    assert lake.sweep(older_than=timedelta(hours=1)) == 0
    assert home.files() == kept | orphans
    assert lake.sweep(older_than=NOW) == 3
    assert home.files() == kept
    assert lake.sweep(older_than=NOW) == 0
    lake.append("dim.users", con, row("2024-01-01"))


def test_a_lake_is_closed_twice(home: Home) -> None:
    lake = home.open()
    lake.close()
    lake.close()
    with home.open() as again:
        assert again.tables() == []


def test_files_of_what_came_before_are_left_out(lake: Lake, con: duckdb.DuckDBPyConnection) -> None:
    columns = [("event_id", pa.string()), ("epoch", pa.int64()), ("load_id", pa.int64())]
    lake.create("clean.t", pa.schema(columns))
    origins = [("NULL", "1"), ("1", "NULL"), ("2", "NULL"), ("NULL", "2"), ("NULL", "NULL")]
    for epoch, load in origins:
        row = f"CAST({epoch} AS BIGINT) AS epoch, CAST({load} AS BIGINT) AS load_id"
        lake.append("clean.t", con, f"SELECT 'e{epoch}l{load}' AS event_id, {row}")

    def found(**after: int) -> list[str]:
        scan = lake.snapshot("clean.t").beyond(**after).scan(columns=["event_id"])
        return [name for (name,) in con.execute(f"FROM {scan} ORDER BY ALL").fetchall()]

    assert found(epoch=0, load_id=0) == ["e1lNULL", "e2lNULL", "eNULLl1", "eNULLl2"]
    assert found(epoch=1, load_id=1) == ["e2lNULL", "eNULLl2"]
    assert found(epoch=2, load_id=1) == ["eNULLl2"]
    assert found(epoch=2, load_id=2) == []


def test_files_from_before_a_column_may_hold_anything(
    lake: Lake, con: duckdb.DuckDBPyConnection
) -> None:
    lake.create("clean.t", pa.schema([("event_id", pa.string()), ("epoch", pa.int64())]))
    lake.append("clean.t", con, "SELECT 'old' AS event_id, CAST(1 AS BIGINT) AS epoch")
    lake.create(
        "clean.t",
        pa.schema([("event_id", pa.string()), ("epoch", pa.int64()), ("load_id", pa.int64())]),
    )
    assert len(lake.snapshot("clean.t").beyond(epoch=5, load_id=5).files) == 1
