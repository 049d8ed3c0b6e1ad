"""What a workspace takes on disk is what its files are."""

from datetime import timedelta
from pathlib import Path

from layers import T0, load, load_dimensions, send, watches, workspace
from playhead.clock import ManualClock
from playhead.ops.storage import GROUPS, bytes_free, file_bytes, measure_storage


def test_tables_and_files(tmp_path: Path) -> None:
    clock = ManualClock(T0 + timedelta(days=1))
    with workspace(tmp_path / "w", "counts", clock=clock) as opened:
        empty = measure_storage(opened)
        assert empty.tables == ()
        assert empty.lake_bytes == 0
        load_dimensions(opened)
        load(opened, watches(40))
        send(opened, watches(20, start=40))
        opened.speed(drain=True)
        opened.batch()
        storage = measure_storage(opened)
        assert [table.name for table in storage.tables] == sorted(
            opened.lake.tables(), key=lambda name: (GROUPS.index(name.split(".")[0]), name)
        )
        raw = storage.groups["raw"]
        assert raw.rows == opened.lake.rows("raw.playback") == 60
        assert storage.groups["clean"].rows == 60
        assert storage.groups["dim"].rows == 8
    data = list((tmp_path / "w" / "lake" / "warehouse").glob("raw/*/data/**/*.parquet"))
    assert raw.files == len(data)
    assert raw.bytes == sum(path.stat().st_size for path in data)
    assert all(table.changed_at or not table.files for table in storage.tables)
    assert not any(table.problem for table in storage.tables)
    assert storage.free_bytes > 0
    paths = {path.name: path for path in storage.paths}
    assert {"log.db", "state.db", "lake/catalog.db", "cache", "ids", "tmp"} <= set(paths)
    assert all(path.bytes > 0 and path.changed_at for path in storage.paths if ".db" in path.name)


def test_a_journal_belongs_to_its_file(tmp_path: Path) -> None:
    assert file_bytes(tmp_path / "log.db") == 0
    (tmp_path / "log.db").write_bytes(b"x" * 100)
    (tmp_path / "log.db-wal").write_bytes(b"x" * 11)
    assert file_bytes(tmp_path / "log.db") == 111
    assert bytes_free(tmp_path) > 0
