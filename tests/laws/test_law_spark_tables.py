"""The lake's tables on Spark: what DuckDB reads, and files that DuckDB reads as its own."""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
from law_spark import spark_engine

from lake_homes import FolderHome
from layers import ordered
from playhead.batch.sparkstates import _told_by_tasks, write_frame
from playhead.errors import EngineError, LakeError
from playhead.lake import Lake, Partition
from playhead.lake.frames import SnapshotFrames

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytest.importorskip("pyspark", reason="missing: pyspark")
pytestmark = pytest.mark.cluster

SCHEMA = pa.schema(
    [
        ("at", pa.timestamp("us")),
        ("day", pa.date32()),
        ("text", pa.string()),
        ("small", pa.int32()),
        ("large", pa.int64()),
        ("cost", pa.decimal128(12, 2)),
        ("huge", pa.decimal128(38, 0)),
        ("share", pa.float64()),
        ("flag", pa.bool_()),
        ("body", pa.binary()),
    ]
)
AT = datetime(2025, 3, 31, 23, 59, 59, 999_999)
ROWS = [
    (AT, date(2025, 3, 31), "", -(2**31), -(2**63), Decimal("-0.01"), 10**38 - 1, -0.5, True, b""),
    (AT.replace(month=1), date(1970, 1, 1), "ключ 🎬", 0, 0, Decimal("0.00"), 0, 0.0, False, b"\0"),
    (datetime(2025, 4, 1), date(9998, 12, 31), "x" * 99, 2**31 - 1, 2**63 - 1,
     Decimal("9999999999.99"), -(10**38) + 1, 1e308, None, b"\xff" * 40),
    (datetime(2025, 4, 30), *[None] * 9),
]  # fmt: skip


@pytest.fixture(scope="module")
def session() -> "SparkSession":
    return spark_engine().plans.session.newSession()


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with FolderHome(tmp_path / "lake").open() as opened:
        opened.create("raw.t", SCHEMA, partition=Partition("at", "month"), sort=("day",))
        yield opened


def given() -> pa.Table:
    columns = zip(*ROWS, strict=True)
    arrays = [pa.array(c, kind) for c, kind in zip(columns, SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def publish(lake: Lake, frame: "DataFrame") -> None:
    with lake.draft("raw.t") as draft:
        write_frame(frame, draft)
        lake.publish("raw.t", draft)


def read(lake: Lake) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return ordered(connection.execute(f"FROM {lake.scan('raw.t')}").to_arrow_table())


def test_rows_of_every_type_come_and_go_as_they_are(lake: Lake, session: "SparkSession") -> None:
    frames = SnapshotFrames(session)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", given())
        lake.append("raw.t", connection, "FROM given")
    own = lake.snapshot("raw.t")
    assert ordered(frames.frame(own).toArrow()) == ordered(given())
    publish(lake, frames.frame(own).repartition(3))
    both = lake.snapshot("raw.t")
    assert read(lake) == sorted(ordered(given()) * 2, key=lambda row: ordered(given()).index(row))
    assert [f.partition for f in both.files].count(date(2025, 4, 1)) == 2
    # Files from before a column was added, and a snapshot of before that.
    lake.create("raw.t", pa.schema([*SCHEMA, ("more", pa.int64())]), partition=Partition(
        "at", "month"), sort=("day",))  # fmt: skip
    wide = frames.frame(lake.snapshot("raw.t")).toArrow()
    assert wide.column("more").null_count == wide.num_rows == 8
    assert frames.frame(own).count() == 4


def test_an_empty_table_and_no_rows(lake: Lake, session: "SparkSession") -> None:
    frame = SnapshotFrames(session).frame(lake.snapshot("raw.t"))
    assert frame.columns == SCHEMA.names
    with lake.draft("raw.t") as draft:
        write_frame(frame, draft)
        assert not draft.files


def test_what_a_table_cannot_hold_is_told_by_name(lake: Lake, session: "SparkSession") -> None:
    def refused(sql: str) -> str:
        with pytest.raises((EngineError, LakeError)) as error:
            publish(lake, session.sql(sql))
        return error.value.message

    told = refused("SELECT CAST(NULL AS TIMESTAMP_NTZ) AS at, 1 AS small")
    assert told == "writing raw.t: raw.t: 1 rows have no at, by whose month the table is cut"
    assert "lacks" in refused("SELECT TIMESTAMP_NTZ '2025-01-01' AS at, 1 AS other")
    assert "CAST_OVERFLOW" in refused(
        "SELECT TIMESTAMP_NTZ '2025-01-01' AS at, 3000000000 + id AS small FROM range(2)"
    )
    assert not lake.snapshot("raw.t").files


def test_workers_without_playhead_are_told_of() -> None:
    from pyspark.errors import PySparkException

    with (
        pytest.raises(EngineError, match="Spark's workers has no Playhead") as error,
        _told_by_tasks("writing raw.t"),
    ):
        raise PySparkException("ModuleNotFoundError: No module named 'playhead'")
    assert "spark.pyspark.python" in (error.value.hint or "")
