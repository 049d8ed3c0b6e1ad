"""Faults of processes: stopped ones that go on, two by mistake, jumping clocks, newer versions."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from layers import (
    Running,
    SmallWorkspace,
    Watch,
    assert_merged_is_full,
    counted,
    distinct_ids,
    load,
    load_dimensions,
    rows,
    send,
    watches,
    workspace,
)
from playhead.clock import ManualClock
from playhead.errors import PlayheadError, StateError, WorkspaceBusyError
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.speed.state import StateStore
from stages import VIEWS, Moment, kill_at, speed_process, stopped_at

STATE = "playhead.speed.state:StateStore"
COMMIT = "playhead.lake.lake:commit_files"
TAKEN_OVER = "StateError: another speed layer took over"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "w"
    with workspace(made, *VIEWS) as opened:
        (made / "playhead.toml").write_text("[speed]\nmax_events = 20\n")
        load_dimensions(opened)
        send(opened, watches(30))
        opened.speed(drain=True)
        opened.batch()
        send(opened, [*watches(50, start=100, minute=600), *watches(5)])
    return made


def check(opened: SmallWorkspace, events: int) -> None:
    """All is there, once, and no alert was published twice."""
    assert_merged_is_full(opened)
    assert counted(opened) == events
    ids = rows(opened, "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids FROM playback")
    assert ids == [{"n": events, "ids": events}]
    end = opened.log.end_offsets(ALERTS)[0]
    sent = opened.log.read(ALERTS, 0, 0).column("event_id").to_pylist() if end else []
    assert sorted(sent) == sorted(f"{a.alert_id}-{a.revision}" for a in opened.state.alerts())


# -- a process that was stopped, and goes on after another took over its work -----------------


@pytest.mark.parametrize(
    "moment",
    [
        Moment(f"{STATE}.commit", 2, after=False),
        Moment(COMMIT, 1, after=False),
        Moment(f"{STATE}.sealed", 1, after=False),
        Moment(f"{STATE}.raise_alerts", 1),
        *(
            pytest.param(moment, marks=pytest.mark.slow)
            for moment in (
                Moment(f"{STATE}.cut", 1, after=False),
                Moment("playhead.speed.seal:Sealer._append", 1, after=False),
                Moment(f"{STATE}.raise_alerts", 1, after=False),
            )
        ),
    ],
    ids=str,
)
def test_a_stopped_speed_layer_is_fenced(path: Path, moment: Moment) -> None:
    with stopped_at(path, "speed", moment) as go_on, workspace(path, *VIEWS) as opened:
        with pytest.raises(WorkspaceBusyError, match="another speed layer runs"):
            opened.speed(drain=True)
        # A lock that does not reach this far, say: its file is gone.
        (path / "speed.lock").unlink()
        opened.speed(drain=True)
        check(opened, 80)
        assert go_on().startswith(TAKEN_OVER)
        check(opened, 80)
        opened.batch()
        opened.speed(drain=True)
        check(opened, 80)


def test_a_layer_stopped_while_it_publishes_keeps_the_state(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be fenced there: alerts that it was about to append would come twice."""
    monkeypatch.setattr("playhead.speed.statefile.BUSY_TIMEOUT_S", 0.5)
    moment = Moment("playhead.speed.alerts:Alerter._published_ids", 1)
    with stopped_at(path, "speed", moment), workspace(path, *VIEWS) as opened:
        (path / "speed.lock").unlink()
        with pytest.raises(StateError, match=r"state\.db: database is locked") as caught:
            opened.speed(drain=True)
        assert "stopped or stuck" in str(caught.value.hint)
    with workspace(path, *VIEWS) as opened:
        opened.speed(drain=True)
        check(opened, 80)


def test_a_stopped_compaction_is_fenced(path: Path) -> None:
    with workspace(path, *VIEWS) as opened:
        running = Running(opened, max_events=5)
        with running as layer:
            running.catch_up()
            layer.seal()
    moment = Moment(f"{STATE}.replace", 1, after=False)
    with stopped_at(path, "compaction", moment) as go_on, workspace(path, *VIEWS) as opened:
        with Running(opened) as layer:
            layer.compact()
        check(opened, 80)
        assert go_on().startswith(TAKEN_OVER)
        check(opened, 80)


@pytest.mark.parametrize(
    "moment",
    [
        Moment("playhead.batch.clean:Cleaning._publish", 1, after=False),
        Moment("playhead.batch.recompute:Recomputer._write", 2, after=False),
        Moment(f"{STATE}.prune", 1, after=False),
        *(
            pytest.param(Moment(COMMIT, number, after=False), marks=pytest.mark.slow)
            for number in (1, 2, 3)
        ),
    ],
    ids=str,
)
def test_a_stopped_batch_run_is_fenced(path: Path, moment: Moment) -> None:
    with workspace(path, *VIEWS) as opened:
        opened.speed(drain=True)
    with stopped_at(path, "batch", moment) as go_on, workspace(path, *VIEWS) as opened:
        with pytest.raises(WorkspaceBusyError, match="another batch runs"):
            opened.batch()
        (path / "batch.lock").unlink()
        opened.batch()
        send(opened, watches(10, start=500, minute=700))
        opened.speed(drain=True)
        opened.batch()
        check(opened, 90)
        # What it has still to write is not as it was when it began: it starts over or gives way.
        ended = go_on()
        assert ended == "ended" or ended.startswith("LakeConflictError"), ended
        check(opened, 90)
        opened.batch()
        check(opened, 90)


# -- two speed layers by mistake ---------------------------------------------------------------


def playhead(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "playhead.cli", "-w", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_second_speed_command_says_who_runs_already(path: Path) -> None:
    with speed_process(path) as process:
        second = playhead(path, "speed", "--drain")
        assert second.returncode == 1
        assert f"another speed layer runs in this workspace (process {process.pid})" in (
            " ".join(second.stderr.split())
        )
        assert "Stop it first" in second.stderr
    # With the first one killed, its role is free at once.
    with workspace(path, *VIEWS) as opened:
        opened.speed(drain=True)
        check(opened, 80)


# -- a clock that jumps ------------------------------------------------------------------------


class JumpingClock(ManualClock):
    """A clock that somebody sets: time of day jumps, and no time passes."""

    def jump(self, duration: timedelta) -> None:
        self._now += duration


NOW = datetime(2025, 4, 1, 12)
JUMPS = [timedelta(hours=h) for h in (-300, -25, -3, 3, 25, 300)]


@pytest.mark.parametrize("days", [10, -10])
@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted"])
def test_repeats_are_dropped_though_the_clock_jumped(
    tmp_path: Path, days: int, restart: bool
) -> None:
    """The dedupe window is time that passed, not what the clock was set to."""
    clock = JumpingClock(NOW)
    with workspace(tmp_path / "w", "counts", clock=clock) as opened:
        send(opened, watches(20))
        running = Running(opened)
        running.catch_up()
        running.layer.seal()
        opened.batch()
        clock.jump(timedelta(days=days))
        clock.advance(timedelta(seconds=5))
        if restart:
            running.__exit__()
            running = Running(opened)
        send(opened, watches(25))
        running.catch_up()
        assert counted(opened) == 25
        send(opened, watches(30))
        running.catch_up()
        assert counted(opened) == 30
        running.__exit__()


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))]
)
def test_nothing_is_lost_or_doubled_by_a_jumping_clock(tmp_path: Path, seed: int) -> None:
    r, clock, sent = random.Random(seed), JumpingClock(NOW), list[Watch]()
    with workspace(tmp_path / "w", *VIEWS, clock=clock) as opened:
        load_dimensions(opened)
        opened.batch()
        running = Running(opened, max_events=15)
        for turn in range(10):
            clock.jump(r.choice(JUMPS))
            clock.advance(timedelta(seconds=1))
            new = watches(10, start=100 * turn, minute=r.randrange(300), step=0.5)
            if r.random() < 0.25:
                load(opened, new)
            else:
                send(opened, [*new, *r.sample(sent, min(len(sent), 8))])
            sent += new
            running.catch_up()
            clock.jump(r.choice(JUMPS))
            for step in r.sample(["seal", "judge", "compact", "refresh"], 2):
                getattr(running.layer, step)()
            opened.log.retain(timedelta(days=1))
            if r.random() < 0.5:
                opened.batch()
        running.catch_up()
        running.layer.seal()
        opened.batch()
        running.layer.judge()
        assert_merged_is_full(opened)
        assert counted(opened) == distinct_ids(sent)
        running.__exit__()


def test_retention_after_a_jump_keeps_what_is_not_sealed(path: Path) -> None:
    """Even after a death between the state's first note of a topic and the log's."""
    clock = JumpingClock(NOW)
    with workspace(path.parent / "jumped", *VIEWS, clock=clock) as opened:
        load_dimensions(opened)
        send(opened, watches(30))
        with pytest.MonkeyPatch.context() as patches:
            inner = StateStore.begin

            def die(state: StateStore, positions: dict[str, dict[int, int]]) -> None:
                inner(state, positions)
                if "playback" in positions:
                    raise KeyboardInterrupt

            patches.setattr(StateStore, "begin", die)
            with pytest.raises(KeyboardInterrupt):
                Running(opened)
        running = Running(opened)
        running.catch_up()
        clock.jump(timedelta(days=30))
        opened.log.retain(timedelta(days=7))
        running.layer.seal()
        opened.batch()
        assert counted(opened) == 30
        running.__exit__()


# -- a workspace that cannot be written ---------------------------------------------------------


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Make a folder read-only for this process and its children."""
    if os.geteuid() == 0:
        try:
            subprocess.run(["mount", "--bind", path, path], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("root may not mount here")
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
            yield
        finally:
            subprocess.run(["umount", "--lazy", path], check=True)
        return
    everything = [path, *path.rglob("*")]
    modes = {one: one.stat().st_mode for one in everything}
    for one in reversed(everything):
        one.chmod(modes[one] & ~0o222)
    try:
        yield
    finally:
        for one in everything:
            one.chmod(modes[one])


QUERY = ["query", "SELECT COUNT(*) AS n FROM playback", "--format", "csv"]


def test_a_read_only_workspace_answers(path: Path) -> None:
    assert playhead(path, "batch").returncode == 0
    questions = [QUERY, ["show", "monthly_active_users", "--format", "csv"], ["views"]]
    before = [playhead(path, *question) for question in questions]
    with read_only(path):
        ended = [playhead(path, *question) for question in questions]
    for one, other in zip(before, ended, strict=True):
        assert (one.returncode, other.returncode) == (0, 0), other.stderr
        assert one.stdout == other.stdout


def test_what_a_dead_process_left_is_read_where_nothing_can_be_written(path: Path) -> None:
    """Its last commits are in write-ahead logs that nobody has taken up."""
    kill_at(path, "speed", Moment(f"{STATE}.commit", 2))
    assert (path / "state.db-wal").stat().st_size
    with read_only(path):
        ended = playhead(path, *QUERY)
    assert ended.returncode == 0, ended.stderr
    after = playhead(path, *QUERY)
    assert ended.stdout == after.stdout
    assert int(ended.stdout.split()[-1]) > 30


def test_changes_without_their_index_are_named(path: Path) -> None:
    """A copy of a workspace at work, with a file left out: an old answer would be a wrong one."""
    copy = path.parent / "copy"
    with workspace(path, *VIEWS) as opened:
        send(opened, watches(1, start=777))
        shutil.copytree(path, copy)
    (copy / "log.db-shm").unlink()
    with read_only(copy):
        ended = playhead(copy, *QUERY)
    text = " ".join(ended.stderr.split())
    assert ended.returncode == 1, text
    assert "changes wait in log.db-wal" in text
    assert "copy of the folder" in text
    assert playhead(copy, *QUERY).returncode == 0


@pytest.mark.parametrize("command", ["batch", "replay FILES", "speed"])
def test_a_read_only_workspace_is_one_clear_error(path: Path, command: str) -> None:
    files = path.parent / "files"
    files.mkdir()
    (files / "watch_history.jsonl").write_text("")
    arguments = command.replace("FILES", str(files)).split()
    with read_only(path):
        ended = playhead(path, *arguments)
    text = " ".join(ended.stderr.split())
    assert ended.returncode == 1, text
    assert "Traceback" not in text
    assert "read-only" in text.lower() or "Permission denied" in text, text
    assert str(path) in text.replace(" ", "")
    # Nothing of it was harmed.
    with workspace(path, *VIEWS) as opened:
        opened.speed(drain=True)
        check(opened, 80)


# -- a workspace of a newer Playhead ------------------------------------------------------------


def _set_version(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()


NEWER: dict[str, Callable[[Path], None]] = {
    "log.db": lambda path: _set_version(path / "log.db"),
    "state.db": lambda path: _set_version(path / "state.db"),
    "lake/catalog.db": lambda path: _set_version(path / "lake" / "catalog.db"),
    "workspace.format": lambda path: _write(path / "workspace.format", "99\n"),
}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("file", NEWER)
def test_a_newer_format_is_named(path: Path, file: str) -> None:
    NEWER[file](path)
    place = path if file == "workspace.format" else path / file
    with pytest.raises(PlayheadError, match=r"format '?99") as caught:
        counted(workspace(path, *VIEWS))
    assert str(place) in caught.value.message
    assert "newer" in str(caught.value)


def test_a_newer_table_is_named(path: Path) -> None:
    with workspace(path, *VIEWS) as opened:
        metadata = Path(str(opened.lake._catalog.metadata_file("raw.playback")))
    text = metadata.read_text(encoding="utf-8")
    assert '"format-version":2' in text
    _write(metadata, text.replace('"format-version":2', '"format-version":9'))
    with workspace(path, *VIEWS) as opened, pytest.raises(PlayheadError) as caught:
        counted(opened)
    assert str(metadata) in caught.value.message


def test_a_newer_setting_is_named(path: Path) -> None:
    _write(path / "playhead.toml", "[telepathy]\nrange = 3\n")
    with pytest.raises(PlayheadError, match=r"no section \[telepathy\]") as caught:
        workspace(path, *VIEWS)
    assert str(path / "playhead.toml") in caught.value.message
    assert "newer" in str(caught.value.hint)


# -- what comes while the speed layer looks elsewhere -------------------------------------------


def test_what_came_after_a_look_ahead_is_taken_in(path: Path) -> None:
    """A look ahead that found nothing says nothing about what has come since."""
    with workspace(path, *VIEWS) as opened:
        running = Running(opened, max_events=5)
        running.catch_up()
        send(opened, watches(5, start=900))
        running.layer.step()
        # The layer has had time to look ahead, and found nothing.
        opened.clock.sleep(timedelta(milliseconds=200))
        send(opened, watches(9, start=950))
        assert running.catch_up() >= 9
        assert opened.lag() == 0
        running.__exit__()
