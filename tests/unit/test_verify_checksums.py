"""Checksums of the lake's files: in names and in the catalog, read once while unchanged."""

import os
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from playhead.errors import LakeError
from playhead.lake import Lake
from playhead.lake import checksums as module
from playhead.lake.checksums import (
    VERIFIED,
    Checksum,
    Checksums,
    Verified,
    data_file_name,
    named_crc32,
)
from playhead.lake.damage import parquet_damage

ROWS = pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.string())])
MANY = "SELECT range AS id, 'name ' || range AS name FROM range(20000)"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Lake(tmp_path / "lake") as opened, duckdb.connect() as connection:
        opened.create("raw.t", ROWS)
        opened.append("raw.t", connection, MANY)
        yield opened


def data_file(lake: Lake) -> Path:
    return Path(lake.snapshot("raw.t").files[0].path)


def flip(path: Path, at: int) -> None:
    body = bytearray(path.read_bytes())
    body[at] ^= 4
    path.write_bytes(body)


def test_a_data_file_is_named_by_its_bytes(lake: Lake) -> None:
    path = data_file(lake)
    assert named_crc32(str(path)) == zlib.crc32(path.read_bytes())
    assert named_crc32(data_file_name("all-00000", 0x0A)) == 0x0A


@pytest.mark.parametrize("name", ["00000-0-4f-0001.parquet", "a-12345678.parquet", "crc.parquet"])
def test_names_of_other_programs_carry_no_checksum(name: str) -> None:
    assert named_crc32(f"/somewhere/{name}") is None


def test_an_unchanged_file_is_read_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    path = data_file(lake)
    VERIFIED.forget()
    lake.scan("raw.t")
    read: list[str] = []

    def count(path: str) -> int:
        read.append(path)
        return zlib.crc32(Path(path).read_bytes())

    monkeypatch.setattr(module, "file_crc32", count)
    lake.scan("raw.t")
    assert read == []
    os.utime(path, (1, 1))
    lake.scan("raw.t")
    assert read == [str(path)]


def test_a_flipped_bit_is_named_with_its_column_and_bytes(lake: Lake) -> None:
    path = data_file(lake)
    flip(path, path.stat().st_size // 4)
    with pytest.raises(LakeError) as caught:
        lake.scan("raw.t")
    assert str(path) in str(caught.value)
    assert "bytes 4 to" in str(caught.value)
    assert "column id" in str(caught.value)
    assert "playhead rebuild" in (caught.value.hint or "")


def test_a_damaged_footer_is_told(lake: Lake) -> None:
    path = data_file(lake)
    assert parquet_damage(str(path)) == []
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3)
    (found,) = parquet_damage(str(path))
    assert "footer" in found


@pytest.mark.parametrize(
    ("end", "told"),
    [("os.abort()", "SIGABRT"), ("os.kill(os.getpid(), 11)", "SIGSEGV"), ("1 / 0", "division")],
)
def test_a_file_that_ends_its_reader_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, told: str
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text(f"import os\n{end}")
    monkeypatch.setattr("playhead.lake.damage.__file__", str(reader))
    (found,) = parquet_damage("any.parquet")
    assert told in found


def test_a_file_of_another_program_is_checked_by_size(tmp_path: Path) -> None:
    path = tmp_path / "00000-0-spark.parquet"
    path.write_bytes(b"12345")
    assert Verified().damage({str(path): Checksum(5)}) == {}
    assert Verified().damage({str(path): Checksum(6)}) == {str(path): "has 5 bytes, not 6"}


@pytest.mark.parametrize("pattern", ["*.metadata.json", "snap-*.avro", "*-m0.avro"])
def test_metadata_is_checked_by_the_catalog(lake: Lake, tmp_path: Path, pattern: str) -> None:
    path = sorted((tmp_path / "lake").rglob(pattern))[-1]
    assert str(path) in Checksums(tmp_path / "lake" / "catalog.db").all()
    flip(path, path.stat().st_size // 2)
    VERIFIED.forget()
    with Lake(tmp_path / "lake") as again, pytest.raises(LakeError, match="fails its checksum"):
        again.snapshot("raw.t")


def test_checksums_go_with_their_files(lake: Lake, tmp_path: Path) -> None:
    known = Checksums(tmp_path / "lake" / "catalog.db")
    with duckdb.connect() as connection:
        lake.overwrite("raw.t", connection, MANY)
    lake.expire("raw.t", older_than=timedelta(0))
    assert lake.inspector.lost_metadata() == []
    assert known.all()
    lake.drop("raw.t")
    assert known.all() == {}


def test_a_lake_whose_catalog_is_gone_is_no_empty_lake(lake: Lake, tmp_path: Path) -> None:
    lake.close()
    (tmp_path / "lake" / "catalog.db").unlink()
    with pytest.raises(LakeError, match="is missing, but the lake has tables"):
        Lake(tmp_path / "lake")
