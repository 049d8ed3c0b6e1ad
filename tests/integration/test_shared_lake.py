"""A workspace whose lake is in an object store, with its catalog in PostgreSQL."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake_homes import SharedHome
from layers import (
    Running,
    assert_merged_is_full,
    counted,
    load,
    load_dimensions,
    send,
    watches,
    workspace,
)
from playhead.assemble import Workspace
from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.errors import LakeError, PlayheadError, SettingError

pytestmark = pytest.mark.cluster

VIEWS = ("counts", "windows", "countries", "sessions", "content_performance")


@pytest.fixture
def home(
    tmp_path: Path, database: Postgres, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> SharedHome:
    """A new lake, which the settings of all workspaces name meanwhile."""
    made = SharedHome(tmp_path / "machines", database, store)
    monkeypatch.setenv("PLAYHEAD_LAKE_WAREHOUSE", made.shared.warehouse)
    monkeypatch.setenv("PLAYHEAD_LAKE_CATALOG", made.shared.catalog)
    monkeypatch.setenv("PLAYHEAD_LAKE_ENDPOINT", made.shared.endpoint)
    return made


@pytest.fixture
def opened(tmp_path: Path, home: SharedHome) -> Iterator[Workspace]:
    with workspace(tmp_path / "w", *VIEWS) as found:
        load_dimensions(found)
        found.batch()
        yield found


def playhead(path: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "playhead.cli", "-w", str(path), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_merged_is_full_through_all_layers(opened: Workspace) -> None:
    load(opened, watches(30, minute=-3_000))
    running = Running(opened)
    with running as layer:
        send(opened, watches(20, start=30))
        running.catch_up()
        layer.seal()
        send(opened, watches(15, start=50))
        running.catch_up()
        opened.batch()
        layer.refresh()
        assert_merged_is_full(opened)
        assert counted(opened) == 65
    assert not list((opened.path / "lake").glob("catalog.db*"))


def test_another_machine_answers_from_the_same_tables(
    opened: Workspace, home: SharedHome, tmp_path: Path
) -> None:
    load(opened, watches(30))
    opened.batch()
    with workspace(tmp_path / "other", *VIEWS) as other:
        assert counted(other) == 30
        assert_merged_is_full(other)
        load(other, watches(12, start=30))
        other.batch()
    assert counted(opened) == 42


def test_a_batch_run_that_is_killed_is_done_by_the_next(opened: Workspace) -> None:
    draw = random.Random()
    load(opened, watches(40))
    whole = time.monotonic()
    process = playhead(opened.path, "batch")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    whole_s = time.monotonic() - whole
    for attempt in range(3):
        load(opened, watches(10, start=40 + 10 * attempt, minute=1_440 * attempt))
        process = playhead(opened.path, "batch")
        time.sleep(draw.uniform(whole_s / 3, whole_s))
        process.kill()
        process.communicate()
    opened.batch()
    assert counted(opened) == 70
    assert_merged_is_full(opened)


@pytest.mark.timeout(300)
def test_a_store_that_dies_in_the_middle_of_a_run(opened: Workspace, store: ObjectStore) -> None:
    load(opened, watches(40))
    process = playhead(opened.path, "batch")
    time.sleep(1.5)
    store.kill()
    _, told = process.communicate(timeout=200)
    store.start()
    assert process.returncode in (0, 1), told
    assert "Traceback" not in told
    opened.batch()
    load(opened, watches(10, start=40))
    opened.batch()
    assert counted(opened) == 50
    assert_merged_is_full(opened)


def test_a_catalog_that_is_away_is_said(opened: Workspace, database: Postgres) -> None:
    database.stop()
    try:
        with pytest.raises(LakeError, match=r"the catalog postgresql\S+ cannot be used"):
            opened.lake.tables()
    finally:
        database.start()
    assert opened.lake.tables()


def test_damage_in_the_store_is_found(opened: Workspace, home: SharedHome) -> None:
    load(opened, watches(40))
    opened.batch()
    sound = playhead(opened.path, "verify")
    told, _ = sound.communicate(timeout=120)
    assert sound.returncode == 0, told
    victim = opened.lake.snapshot("raw.playback").files[0]
    home.write(victim.path, b"x" * victim.bytes)
    damaged = playhead(opened.path, "verify")
    told, _ = damaged.communicate(timeout=120)
    assert damaged.returncode == 1
    assert "fails its checksum" in " ".join(told.split())


def test_files_beyond_the_bound_are_fetched_again(home: SharedHome, tmp_path: Path) -> None:
    with workspace(tmp_path / "w", *VIEWS) as opened:
        load_dimensions(opened)
        load(opened, watches(40))
        opened.batch()
        files = opened.lake._files
        # As if all of it had been read long ago, and there were room for nothing.
        files._cache_bytes = 0  # type: ignore[attr-defined]
        for path in files.readable.rglob("*.parquet"):
            long_ago = path.stat().st_mtime_ns - 10**13
            os.utime(path, ns=(long_ago, path.stat().st_mtime_ns))
        files._evict()  # type: ignore[attr-defined]
        assert not list(files.readable.rglob("*.parquet"))
        assert_merged_is_full(opened)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CATALOG", "mysql://u@h/d", "is no address of a database"),
        ("CATALOG", "postgresql://u:secret@h/d", "without a password"),
        ("WAREHOUSE", "ftp://x/y", "is no address of an object store"),
        ("CATALOG", "", "lake.catalog is not"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    home: SharedHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, value: str, told: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(f"PLAYHEAD_LAKE_{name}", value)
    with pytest.raises(SettingError, match=told):
        Workspace.create(tmp_path / "w")


def test_wrong_keys_are_an_error_that_says_so(
    home: SharedHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playhead.lake import objects

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    objects._store.cache_clear()
    with workspace(tmp_path / "w", *VIEWS) as opened, pytest.raises(PlayheadError) as caught:
        load_dimensions(opened)
    objects._store.cache_clear()
    assert "s3://" in str(caught.value) or "lakes/" in str(caught.value)
