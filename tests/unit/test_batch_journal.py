"""Each batch run leaves one record, whatever becomes of it, and its record never fails it."""

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from layers import SmallWorkspace, load, load_dimensions, watches, workspace
from playhead.batch import journal
from playhead.batch.journal import FILE, BatchRun, batch_lock, batch_runs, last_done, noting
from playhead.batch.recompute import ViewRun
from playhead.clock import ManualClock
from playhead.errors import LakeError, WorkspaceBusyError, WorkspaceError
from playhead.ops import verify
from playhead.ops.metrics import WorkspaceCollector

START = """
import sys, time
from pathlib import Path
from playhead.batch.journal import batch_lock, noting
path = Path(sys.argv[1])
with batch_lock(path), noting(path, "asked for") as noted:
    noted.enter("cleaning playback")
    noted.enter("views")
    print("in it", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallWorkspace]:
    with workspace(tmp_path_factory.mktemp("runs") / "w", "counts", "windows") as made:
        load_dimensions(made)
        load(made, watches(30))
        yield made


def note(path: Path, why: str = "asked for") -> None:
    """A run that does nothing."""
    with batch_lock(path), noting(path, why):
        pass


def only(path: Path) -> BatchRun:
    (run,) = batch_runs(path)
    return run


def test_a_run_says_what_it_did(opened: SmallWorkspace) -> None:
    report = opened.batch(full=True, why="the test wants it")
    run = batch_runs(opened.path)[0]
    assert (run.status, run.error, run.process) == ("done", "", os.getpid())
    assert (run.why, run.full, run.epoch) == ("the test wants it", True, report.epoch)
    assert run.views == report.views
    assert (run.recomputed, run.rows) == (2, sum(view.rows for view in report.views))
    assert run.rows > 0
    assert run.cleaned_rows == sum(topic.written for topic in report.cleaned)
    names = [stage.name for stage in run.stages]
    assert names[0].startswith("cleaning ")
    assert names[-3:] == ["rating pairs", "views", "pruning"]
    assert run.ended is not None
    assert run.started <= run.ended
    assert 0 < sum(stage.seconds for stage in run.stages) <= run.seconds
    assert last_done(opened.path) == run


def test_a_run_that_fails_says_why(opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise LakeError("dim.pair_ratings: it is not there", hint="Look again.")

    monkeypatch.setattr("playhead.assemble.rebuild_pair_ratings", fails)
    with pytest.raises(LakeError):
        opened.batch()
    run = batch_runs(opened.path)[0]
    assert (run.status, run.error) == ("failed", "dim.pair_ratings: it is not there")
    assert run.ended is not None
    assert run.epoch is None
    assert run.stage == "rating pairs"
    assert {stage.name.split()[0] for stage in run.stages} == {"cleaning"}


def test_an_interrupted_run_has_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), noting(tmp_path, "asked for"):
        raise KeyboardInterrupt
    assert (only(tmp_path).status, only(tmp_path).error) == ("failed", "KeyboardInterrupt")


def test_a_run_that_may_not_begin_is_none(opened: SmallWorkspace) -> None:
    before = batch_runs(opened.path)
    with batch_lock(opened.path), pytest.raises(WorkspaceBusyError):
        opened.batch()
    assert batch_runs(opened.path) == before


def test_a_run_is_seen_while_it_runs(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2025, 6, 1))
    note(tmp_path)
    with batch_lock(tmp_path), noting(tmp_path, "asked for", clock=clock) as noted:
        noted.enter("cleaning playback")
        clock.advance(timedelta(seconds=3))
        noted.enter("views")
        now, before = batch_runs(tmp_path)
        assert (now.status, now.ended, now.seconds) == ("running", None, 3)
        assert now.stage == "views"
        assert [(stage.name, stage.seconds) for stage in now.stages] == [("cleaning playback", 3)]
        assert before.status == "done"
        noted.tell(7, 5, [ViewRun("counts", "recomputed", "", 2, 11)], 1)
        clock.advance(timedelta(seconds=4))
    run = batch_runs(tmp_path)[0]
    assert (run.status, run.seconds, run.epoch, run.rows) == ("done", 7, 7, 11)
    assert run.stage == ""
    assert [(stage.name, stage.seconds) for stage in run.stages] == [
        ("cleaning playback", 3), ("views", 4),
    ]  # fmt: skip


def test_a_killed_run_was_abandoned(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        alive = only(tmp_path)
        assert (alive.status, alive.process) == ("running", process.pid)
        process.send_signal(signal.SIGKILL)
    dead = only(tmp_path)
    assert (dead.status, dead.ended, dead.stage) == ("abandoned", None, "views")
    assert [stage.name for stage in dead.stages] == ["cleaning playback"]
    with batch_lock(tmp_path), noting(tmp_path, "asked for"):
        assert [run.status for run in batch_runs(tmp_path)] == ["running", "abandoned"]
    assert [run.status for run in batch_runs(tmp_path)] == ["done", "abandoned"]


def test_a_run_that_ends_while_it_is_looked_at_is_not_called_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = batch_lock(tmp_path)
    lock.acquire()
    run = noting(tmp_path, "asked for")
    run.__enter__()

    def ends(_: Path) -> bool:
        run.__exit__(None, None, None)
        lock.release()
        return False

    monkeypatch.setattr(journal, "_is_at_work", ends)
    assert only(tmp_path).status == "done"


def test_as_many_are_kept_as_shall_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEPT", 3)
    for number in range(5):
        note(tmp_path, f"run {number}")
    assert [run.why for run in batch_runs(tmp_path, 100)] == ["run 4", "run 3", "run 2"]
    assert [run.id for run in batch_runs(tmp_path, 2)] == [5, 4]


def test_without_runs_there_is_nothing(tmp_path: Path) -> None:
    assert batch_runs(tmp_path) == []
    assert last_done(tmp_path) is None
    (tmp_path / FILE).touch()
    assert batch_runs(tmp_path) == []


def test_a_damaged_file_fails_who_reads_and_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 500)
    with pytest.raises(WorkspaceError, match=r"runs\.db cannot be read") as caught:
        batch_runs(tmp_path)
    assert "Delete the file" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        note(tmp_path)
    assert caplog.text.count("is not noted") == 1


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    note(tmp_path)
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("UPDATE runs SET record = ?", (b'{"id": "no"}',))
    db.close()
    with pytest.raises(WorkspaceError, match="cannot be read"):
        batch_runs(tmp_path)


def test_a_disk_that_takes_nothing_fails_no_run(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    before = batch_runs(opened.path)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(journal, "_open", full)
        opened.batch()
    assert "disk is full" in caplog.text
    assert batch_runs(opened.path) == before


def test_a_disk_that_takes_it_in_the_end_has_the_whole_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_open", full)
        run = noting(tmp_path, "asked for")
        noted = run.__enter__()
        noted.enter("views")
    run.__exit__(None, None, None)
    assert (only(tmp_path).status, only(tmp_path).stages[0].name) == ("done", "views")


def test_verify_has_nothing_to_say_of_it(opened: SmallWorkspace) -> None:
    opened.batch()
    (opened.path / FILE).write_bytes(b"damaged" * 1_000)
    assert verify(opened).clean
    (opened.path / FILE).unlink()


def figures(opened: SmallWorkspace) -> dict[str, float]:
    """The metrics of batch runs that have no label."""
    return {
        sample.name: sample.value
        for metric in WorkspaceCollector(opened)._batch()
        for sample in metric.samples
        if not sample.labels
    }


def test_metrics_tell_of_the_last_runs(opened: SmallWorkspace, tmp_path: Path) -> None:
    with workspace(tmp_path / "new", "counts") as new:
        assert figures(new) == {
            "playhead_batch_running": 0, "playhead_batch_succeeded_seconds": 0,
        }  # fmt: skip
    opened.batch()
    told = figures(opened)
    (done,) = batch_runs(opened.path, 1)
    assert told["playhead_batch_failed"] == 0
    assert told["playhead_batch_run_seconds"] == done.seconds
    with pytest.raises(ValueError, match="it"), noting(opened.path, "asked for"):
        raise ValueError("it")
    assert figures(opened) == {**told, "playhead_batch_failed": 1}
    with batch_lock(opened.path), noting(opened.path, "asked for"):
        assert figures(opened) == {
            **told, "playhead_batch_failed": 1, "playhead_batch_running": 1,
        }  # fmt: skip


def test_the_record_can_be_written_as_json(tmp_path: Path) -> None:
    import msgspec

    note(tmp_path)
    assert json.loads(msgspec.json.encode(only(tmp_path)))["status"] == "done"
