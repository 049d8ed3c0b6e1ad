"""The lake's parts on their own: names, partition values, bounds, caches, durable files."""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.conversions import from_bytes
from pyiceberg.types import DecimalType, PrimitiveType, StringType

from playhead.engines import connect
from playhead.errors import LakeConflictError, LakeError
from playhead.lake import (
    Lake,
    Partition,
    clean_table,
    commit,
    dimension_table,
    maintenance,
    raw_table,
)
from playhead.lake import parquet as lake_parquet
from playhead.lake.filecatalog import FileCatalog
from playhead.lake.manifests import Manifest, ManifestReader
from playhead.lake.metrics import metrics
from playhead.lake.partition import label, to_date, to_value
from playhead.lake.schema import Column, column_type
from playhead.lake.snapshot import LakeFile
from playhead.lake.storage import LocalIO, local_path

DAYS = Partition("event_time", "day")
MONTHS = Partition("event_time", "month")
EVENTS = pa.schema([("event_id", pa.string()), ("event_time", pa.timestamp("us"))])


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as con:
        yield con


@given(st.dates())
def test_days_and_their_values(day: date) -> None:
    assert to_date(DAYS, to_value("t", DAYS, day)) == day


@given(st.dates())
def test_months_and_their_values(day: date) -> None:
    first = day.replace(day=1)
    assert to_date(MONTHS, to_value("t", MONTHS, first)) == first


@given(st.datetimes())
def test_values_are_those_that_duckdb_gives(time: Any) -> None:
    for partition in (DAYS, MONTHS):
        sql = "SELECT datediff(?, DATE '1970-01-01', ?::TIMESTAMP)"
        (value,) = duckdb.execute(sql, [partition.unit, time]).fetchone() or (None,)
        expected = time.date() if partition.unit == "day" else time.date().replace(day=1)
        assert to_date(partition, int(value or 0)) == expected


def test_labels_of_files() -> None:
    assert label(DAYS, 0) == "1970-01-01"
    assert label(MONTHS, 13) == "1971-02"
    assert label(None, 0) == "all"


@pytest.mark.parametrize(
    ("location", "path"),
    [("/a/b", "/a/b"), ("file:/a/b", "/a/b"), ("file:///a/b", "/a/b")],
)
def test_locations_of_other_engines(location: str, path: str) -> None:
    assert local_path(location) == path


def bounds(tmp: Path, kind: pa.DataType, values: list[Any], group: int) -> tuple[Any, ...]:
    """The lower and upper bound that a file of `values` gets."""
    collected: list[Any] = []
    table = pa.table({"x": pa.array(values, kind)})
    pq.write_table(
        table,
        tmp / "x.parquet",
        row_group_size=group,
        store_decimal_as_integer=True,
        metadata_collector=collected,
    )
    column = Column(7, "x", column_type("t", "x", kind), required=False)
    found = metrics((column,), collected[0])
    assert found["value_counts"] == {7: len(values)}
    assert found["null_value_counts"] == {7: values.count(None)}
    return found["lower_bounds"].get(7), found["upper_bounds"].get(7)


def read(kind: PrimitiveType, bound: bytes) -> Any:
    return from_bytes(kind, bound)


@given(
    st.lists(st.none() | st.decimals(-(10**20), 10**20, places=2), min_size=1, max_size=9),
    st.sampled_from([pa.decimal128(30, 2), pa.decimal128(38, 2)]),
)
def test_bounds_of_decimals(
    tmp_path_factory: pytest.TempPathFactory, values: list[Decimal | None], kind: pa.DataType
) -> None:
    known = [value for value in values if value is not None]
    low, high = bounds(tmp_path_factory.getbasetemp(), kind, values, 4)
    if known:
        iceberg = DecimalType(kind.precision, kind.scale)
        assert (read(iceberg, low), read(iceberg, high)) == (min(known), max(known))
    else:
        assert (low, high) == (None, None)


@given(st.lists(st.none() | st.text(max_size=40), min_size=1, max_size=9))
def test_bounds_of_text_enclose_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[str | None]
) -> None:
    known = [value for value in values if value is not None]
    low, high = bounds(tmp_path_factory.getbasetemp(), pa.string(), values, 4)
    if known:
        assert read(StringType(), low).encode() <= min(value.encode() for value in known)
        top = max(value.encode() for value in known)
        assert high is None or high >= top
        assert len(read(StringType(), low)) <= 16


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.int32(), [3, None, -4], (b"\xfc\xff\xff\xff", b"\x03\0\0\0")),
        (pa.bool_(), [True, False], (b"\0", b"\x01")),
        (pa.date32(), [date(1970, 1, 2)], (b"\x01\0\0\0", b"\x01\0\0\0")),
        (pa.int64(), [None, None], (None, None)),
        (pa.binary(), [b"\xff" * 20], (b"\xff" * 16, None)),
        (pa.float64(), [float("nan")], (None, None)),
        (pa.decimal128(5, 2), [Decimal("-0.01"), Decimal("1.28")], (b"\xff", b"\0\x80")),
    ],
)
def test_bounds_as_the_iceberg_spec_writes_them(
    tmp_path: Path, kind: pa.DataType, values: list[Any], expected: tuple[Any, Any]
) -> None:
    assert bounds(tmp_path, kind, values, 1) == expected


def test_the_cache_of_manifests_is_bounded() -> None:
    reader = ManifestReader(capacity=10)
    file = LakeFile("/x", None, 1, 1)
    for number in range(20):
        reader._keep(f"m{number}", Manifest((file, file), ()))
    assert list(reader._cached) == ["m17", "m18", "m19"]
    assert reader._held == 9


def test_a_discarded_attempt_leaves_no_file(tmp_path: Path) -> None:
    files = LocalIO()
    output = files.new_output(f"file://{tmp_path}/a/b.avro")
    with output.create() as stream:
        stream.write(b"abc")
    assert len(output) == len(output.to_input_file()) == 3
    assert output.exists()
    with pytest.raises(FileExistsError):
        output.create()
    files.discard()
    assert not output.exists()
    files.delete(output)


def test_large_partitions_become_several_files_in_order(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_parquet, "FILE_BYTES", 200_000)
    monkeypatch.setattr(lake_parquet, "BATCH_ROWS", 2_048)
    with Lake(tmp_path) as lake:
        lake.create("dim.big", pa.schema([("i", pa.int64())]), sort=("i",))
        written = lake.append("dim.big", con, "FROM range(100000) AS r(i) ORDER BY hash(i)")
        assert written.files > 3
        paths = sorted(file.path for file in lake.snapshot("dim.big").files)
        rows = con.execute(f"SELECT i FROM read_parquet({paths})").fetchall()
    assert [i for (i,) in rows] == list(range(100_000))


def test_rows_of_a_query_and_of_streams_share_the_files_of_their_partitions(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    def batch(*days: date | None) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.array(days, pa.date32())], schema=draft.schema)

    first, second, third = (date(2024, month, 1) for month in (1, 2, 3))
    with Lake(tmp_path) as lake:
        schema = pa.schema([("day", pa.date32())])
        lake.create("state.t", schema, partition=Partition("day", "month"), sort=("day",))
        with lake.draft("state.t") as draft:
            query = f"SELECT DATE '{first}' AS day UNION ALL SELECT DATE '{third}'"
            draft.add(con, query, [[batch(first, second)], [batch(second), batch(third)]])
            assert [file.record_count for file in draft.files] == [2, 2, 2]
            draft.add(con, None, [[batch(second), batch()]])
            with pytest.raises(LakeError, match="1 rows have no day, by whose month"):
                draft.add(con, None, [[batch(None)]])
            lake.publish("state.t", draft)
        assert lake.partitions("state.t") == [first, second, third]
        assert lake.rows("state.t") == 7


def test_a_query_larger_than_memory_is_spilled(tmp_path: Path) -> None:
    query = """
        SELECT md5(i::VARCHAR) AS event_id,
               TIMESTAMP '2024-01-01' + to_minutes((hash(i) % 1000000)::BIGINT) AS event_time
        FROM range(1500000) AS r(i)
    """
    with (
        Lake(tmp_path / "lake") as lake,
        connect(memory_limit="60MB", threads=1, temp_dir=tmp_path / "spill") as con,
    ):
        lake.create("raw.big", EVENTS, partition=DAYS)
        written = lake.append("raw.big", con, query)
        assert written.rows == 1_500_000
        assert written.files == len(written.partitions) == len(lake.partitions("raw.big"))


def test_writers_that_never_win_keep_nothing(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTEMPTS", 3)
    monkeypatch.setattr(commit, "FIRST_WAIT_S", 0.0)

    def lose(*_: object) -> None:
        raise LakeConflictError("somebody else was faster")

    with Lake(tmp_path) as lake:
        lake.create("dim.t", pa.schema([("i", pa.int64())]))
        before = set(tmp_path.rglob("*.*"))
        monkeypatch.setattr(FileCatalog, "_swap", lose)
        with pytest.raises(LakeConflictError, match=r"dim\.t: other writers .* 3 attempts"):
            lake.append("dim.t", con, "SELECT 1 AS i")
        assert set(tmp_path.rglob("*.*")) == before


def test_an_error_after_the_commit_keeps_its_files(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the worst moment: the catalog has the commit, the caller an exception."""
    swap = FileCatalog._swap

    def interrupted(self: FileCatalog, *arguments: Any) -> None:
        swap(self, *arguments)
        raise KeyboardInterrupt

    with Lake(tmp_path) as lake:
        lake.create("dim.t", pa.schema([("i", pa.int64())]))
        monkeypatch.setattr(FileCatalog, "_swap", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lake.append("dim.t", con, "SELECT 1 AS i")
        monkeypatch.undo()
        assert con.execute(f"FROM {lake.scan('dim.t')}").fetchall() == [(1,)]
        assert lake.sweep(older_than=timedelta(0)) == 0


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with Lake(tmp_path) as lake:
        lake.create("dim.t", pa.schema([("i", pa.int64())]))
        before = set(tmp_path.rglob("*.*"))
        monkeypatch.setattr(lake_parquet.pq, "write_table", full)
        with pytest.raises(LakeError, match=r"dim\.t: cannot write to .*No space left"):
            lake.append("dim.t", con, "SELECT 1 AS i")
        monkeypatch.undo()
        monkeypatch.setattr(FileCatalog, "_write_metadata", full)
        with pytest.raises(LakeError, match=r"dim\.t: cannot write metadata.*No space left"):
            lake.append("dim.t", con, "SELECT 1 AS i")
        assert set(tmp_path.rglob("*.*")) == before


def test_a_table_with_many_snapshots_is_trimmed(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "SNAPSHOT_LIMIT", 5)
    monkeypatch.setattr(maintenance, "TRIM_AGE", timedelta(0))
    with Lake(tmp_path) as lake:
        lake.create("dim.t", pa.schema([("i", pa.int64())]))
        for i in range(12):
            lake.append("dim.t", con, f"SELECT {i} AS i")
            assert len(lake._catalog.load("dim.t").metadata.snapshots) <= 5
        rows = con.execute(f"FROM {lake.scan('dim.t')} ORDER BY i").fetchall()
        assert rows == [(i,) for i in range(12)]
        assert lake.sweep(older_than=timedelta(0)) == 0


def test_many_appends_are_merged_into_few_manifests(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    with Lake(tmp_path) as lake:
        lake.create("dim.t", pa.schema([("i", pa.int64())]))
        for i in range(105):
            lake.append("dim.t", con, f"SELECT {i} AS i")
        table = lake._catalog.load("dim.t")
        current = table.current_snapshot()
        assert current is not None
        assert len(current.manifests(table.io)) < 20
        assert lake.rows("dim.t") == 105


def test_the_tables_of_a_workspace(tmp_path: Path) -> None:
    contract = pa.schema([pa.field("event_id", pa.string(), nullable=False), *list(EVENTS)[1:]])
    raw, clean = raw_table("playback", contract), clean_table("playback", contract)
    users = dimension_table("users", contract)
    assert (raw.name, clean.name, users.name) == ("raw.playback", "clean.playback", "dim.users")
    assert raw.schema == clean.schema
    assert raw.schema.names[2:] == ["partition", "offset", "ingest_time", "epoch", "load_id"]
    assert all(field.nullable for field in raw.schema)
    assert (raw.partition, users.partition) == (MONTHS, None)
    with Lake(tmp_path) as lake:
        for table in (raw, clean, users):
            table.create_in(lake)
            assert lake.schema(table.name).equals(table.schema)
