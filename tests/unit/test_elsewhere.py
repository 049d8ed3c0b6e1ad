"""Files that other processes write for a draft: as good as the lake's own, or not there."""

import pickle
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lake_homes import FolderHome
from playhead.errors import LakeError
from playhead.lake import Draft, Lake, Partition
from playhead.lake.elsewhere import RowWriter

SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), ("at", pa.timestamp("us")), ("name", pa.string())]
)
MARCH, APRIL = datetime(2025, 3, 31, 23), datetime(2025, 4, 1)


def rows(*numbers: int, at: datetime | None = MARCH) -> pa.RecordBatch:
    """Rows whose columns have another order, and narrower types, than the table's."""
    names = pa.array([f"n{number}" for number in numbers])
    times = pa.array([at] * len(numbers), pa.timestamp("us"))
    return pa.RecordBatch.from_arrays(
        [names, pa.array(numbers, pa.int32()), times], names=["name", "id", "at"]
    )


def sent(writer: RowWriter, *parts: Iterable[pa.RecordBatch]) -> list[bytes]:
    """What writers in other processes tell of some parts of the rows."""
    return [pickle.loads(pickle.dumps(writer)).write(part) for part in parts]


@pytest.fixture
def home(tmp_path: Path) -> FolderHome:
    return FolderHome(tmp_path / "lake")


@pytest.fixture
def lake(home: FolderHome) -> Lake:
    opened = home.open()
    opened.create("raw.t", SCHEMA, partition=Partition("at", "month"), sort=("at",))
    return opened


def test_files_of_several_writers_are_committed_as_one_draft(lake: Lake, home: FolderHome) -> None:
    with lake.draft("raw.t") as draft:
        parts = [[rows(1, 2), rows(3, at=APRIL)], [], [rows(4, 5)]]
        with draft.elsewhere() as (writer, told):
            told += sent(writer, *parts)
        # A task that another one of the same rows has overtaken: nobody takes its files.
        with draft.elsewhere() as (writer, told):
            told += sent(writer, [rows(6)], [rows(6)])[:1]
        assert draft.rows == 6
        written = lake.publish("raw.t", draft, properties={"playhead.x": "1"})
    assert (written.rows, written.files) == (6, 4)
    snapshot = lake.snapshot("raw.t")
    assert len(snapshot.partitions) == 2
    assert all(file.checksum.crc32 is not None for file in snapshot.files)
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT id, name FROM {snapshot.scan()} ORDER BY id").fetchall()
    assert found == [(i, f"n{i}") for i in range(1, 7)]
    # Another program sees the same statistics as of files that this process has written.
    for file in home.iceberg("raw.t").inspect.files().to_pylist():
        assert file["null_value_counts"]
        assert dict(file["lower_bounds"])[1] <= dict(file["upper_bounds"])[1]
    assert len(home.data_files()) == 5
    lake.close()


def write_half(draft: Draft) -> None:
    with draft.elsewhere() as (writer, told):
        told += sent(writer, [rows(1)])
        raise LakeError("the cluster is gone")


def test_what_fails_leaves_nothing(lake: Lake, home: FolderHome) -> None:
    with lake.draft("raw.t") as draft:
        with pytest.raises(LakeError, match="the cluster is gone"):
            write_half(draft)
        with pytest.raises(LakeError, match="1 rows have no at, by"), draft.elsewhere() as (to, _):
            sent(to, [rows(1, at=None)])
        with draft.elsewhere() as (to, told):
            told += sent(to, [rows(2)])
        with pytest.raises(LakeError, match="is none of"), draft.elsewhere() as (_, others):
            others += told
        assert draft.rows == 1
    assert not home.data_files()
    lake.close()


def test_a_required_column_needs_values(lake: Lake) -> None:
    batch = rows(1, 2)
    empty = batch.set_column(1, "id", pa.nulls(2, pa.int64()))
    with lake.draft("raw.t") as draft, draft.elsewhere() as (writer, _):  # noqa: SIM117
        with pytest.raises(LakeError, match="column id is required"):
            sent(writer, [empty])
    lake.close()
