"""The demo: from nothing to a checked answer, in a workspace that is its own."""

import io
import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from playhead.assemble import Workspace
from playhead.clock import SystemClock
from playhead.demo import DEMO_SPEC, run_demo
from playhead.demo.check import Verdict, check_view, compare
from playhead.demo.folder import DEMO_MARK, claim
from playhead.demo.headlines import HEADLINES, headline_of
from playhead.demo.report import print_check
from playhead.demo.traffic import Pulse, SpeedProcess, Traffic, Windows
from playhead.errors import LoadError, PlayheadError, WorkspaceBusyError, WorkspaceError
from playhead.lock import RoleLock
from playhead.testing.eventlog import MemoryEventLog
from playhead.testing.generate import GenerateSpec, generate

TINY = GenerateSpec(users=80, movies=30, sessions=1_500, days=40, seed=3)


class Screen:
    """Two consoles that keep what they are told."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.out = Console(file=io.StringIO(), width=120, highlight=False)
        self.console = Console(
            file=io.StringIO(), width=100, highlight=False, force_terminal=terminal
        )

    @property
    def told(self) -> str:
        return str(getattr(self.out.file, "getvalue")())  # noqa: B009

    @property
    def progress(self) -> str:
        return str(getattr(self.console.file, "getvalue")())  # noqa: B009

    def run(self, workspace: Path, data: Path | None = None) -> bool:
        return run_demo(workspace, data, spec=TINY, out=self.out, console=self.console)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Screen]:
    """The workspace that a demo leaves, and what it said."""
    workspace, screen = tmp_path_factory.mktemp("demo") / "workspace", Screen()
    assert screen.run(workspace)
    return workspace, screen


# -- a whole demo ------------------------------------------------------------------------


def test_every_view_equals_its_recomputation(done: tuple[Path, Screen]) -> None:
    _, screen = done
    assert "EQUAL  9 views" in screen.told
    assert "every digit the same" in screen.told
    for view in HEADLINES:
        assert f"\n{view} " in "\n" + screen.told


def test_progress_is_a_line_for_each_stage(done: tuple[Path, Screen]) -> None:
    _, screen = done
    stages = [line.split()[1] for line in screen.progress.splitlines() if line.startswith("✓")]
    assert stages == ["generate", "load", "batch", "speed", "check"]
    assert "Try next" in screen.progress
    assert "Try next" not in screen.told


def test_the_workspace_holds_everything_once(done: tuple[Path, Screen]) -> None:
    workspace, _ = done
    with Workspace(workspace) as opened:
        sessions = opened.query("SELECT count(*) AS n FROM playback").to_arrow()
        assert sessions.column("n").to_pylist() == [TINY.sessions]
        assert {status.ready for status in opened.statuses()} == {True}
        assert [status for _, status in opened.state.epochs()][:-1] == ["sealed"]


def test_a_batch_run_over_the_live_traffic_changes_no_number(done: tuple[Path, Screen]) -> None:
    workspace, _ = done
    with Workspace(workspace) as opened:
        before = {name: opened.view(name).to_arrow() for name in opened.views}
        opened.batch()
        for name, answer in before.items():
            # Ratings of the replayed reviews reach the pair ratings with this run.
            if "pair_ratings" not in {
                k.dimension for x in opened.views[name].leaves for k in x.lookups
            }:
                assert compare(opened.view(name).to_arrow(), answer) == (0, ""), name
            assert check_view(opened, name, SystemClock()).equal


def test_a_demo_in_its_own_workspace_starts_anew(done: tuple[Path, Screen]) -> None:
    workspace, _ = done
    (workspace / "playhead.toml").write_text("[speed]\nseal_seconds = 30\n")
    (workspace / "notes.txt").write_text("mine")
    (workspace / "views" / "watchers.sql").write_text(
        "SELECT device_type, COUNT(*) AS sessions FROM playback GROUP BY device_type"
    )
    screen = Screen(terminal=True)
    assert screen.run(workspace)
    assert "EQUAL  10 views" in screen.told
    assert "watchers  5 rows" in screen.told
    assert (workspace / "notes.txt").read_text() == "mine"
    assert "seal_seconds" in (workspace / "playhead.toml").read_text()
    assert json.loads((workspace / DEMO_MARK).read_text())["made_by"] == "playhead demo"


def test_data_of_ones_own(tmp_path: Path) -> None:
    """Some files are missing, one has a column too many, and rows break the contract."""
    data = tmp_path / "data"
    generate(data, TINY, format="csv")
    (data / "search_logs.csv").unlink()
    (data / "reviews.csv").unlink()
    sessions = data / "watch_history.csv"
    header, first, *rest = sessions.read_text().splitlines()
    broken = first.replace("SD", "VHS").replace("HD", "VHS").replace("4K", "VHS")
    lines = [f"{header},mood", *(f"{row},good" for row in (first, broken, *rest))]
    sessions.write_text("\n".join(lines) + "\n")
    screen = Screen()
    assert screen.run(tmp_path / "workspace", data)
    assert "missing: search_logs.*, reviews.*" in screen.progress
    assert "no rows yet" in screen.told


@pytest.mark.slow
@pytest.mark.needs_data
def test_the_real_set(real_data: Path, tmp_path: Path) -> None:
    screen = Screen()
    assert run_demo(tmp_path / "workspace", real_data, out=screen.out, console=screen.console)
    assert "184 HIGH, 1,713 MEDIUM, 98,084 LOW" in screen.told


def test_the_default_size_is_small() -> None:
    assert DEMO_SPEC.sessions <= 20_000


# -- the folder --------------------------------------------------------------------------


def test_a_workspace_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    generate(data, GenerateSpec(users=5, movies=3, sessions=10, days=3))
    with Workspace.create(tmp_path / "mine") as workspace:
        workspace.load(data).check()
    before = sorted((tmp_path / "mine").rglob("*"))
    with pytest.raises(WorkspaceError, match="no demo made"):
        run_demo(tmp_path / "mine")
    assert sorted((tmp_path / "mine").rglob("*")) == before


def test_a_folder_that_is_no_workspace_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(WorkspaceError, match=r"letters\.txt"):
        run_demo(tmp_path)
    with pytest.raises(WorkspaceError, match="is a file"):
        run_demo(tmp_path / "letters.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_a_fresh_workspace_becomes_the_demos(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "new").close()
    claim(tmp_path / "new", "test").close()
    assert (tmp_path / "new" / DEMO_MARK).exists()


def test_a_workspace_at_work_is_left_alone(tmp_path: Path) -> None:
    claim(tmp_path, "test").close()
    with (
        RoleLock(tmp_path / "speed.lock", "speed layer"),
        pytest.raises(WorkspaceBusyError, match="speed layer"),
    ):
        claim(tmp_path, "test")
    assert (tmp_path / "log.db").exists()


def test_data_without_sessions_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(LoadError, match="holds no watch_history"):
        run_demo(tmp_path / "workspace", tmp_path / "data")
    assert not (tmp_path / "workspace").exists()


# -- the check ---------------------------------------------------------------------------


def test_tables_compare_as_multisets_to_the_last_digit() -> None:
    one = pa.table({"k": ["a", "b", "b"], "v": [Decimal("1.10"), None, Decimal("2.00")]})
    assert compare(one, one.take([2, 0, 1])) == (0, "")
    assert compare(one, one.slice(1))[0] == 1
    count, example = compare(one, one.slice(0, 2))
    assert (count, "only merged" in example) == (1, True)
    other = one.set_column(1, "v", pa.array([Decimal("1.11"), None, Decimal("2.00")]))
    assert compare(one, other)[0] == 2
    assert "columns differ" in compare(one, one.rename_columns(["k", "w"]))[1]
    zeros = (pa.table({"v": [0.0]}), pa.table({"v": [-0.0]}))
    assert compare(*zeros)[0] in (0, 1)


def test_the_verdict_names_what_differs() -> None:
    answer = pa.table({"v": [1]})
    good = Verdict("good", answer, rows=1)
    bad = Verdict("bad", answer, rows=1, differing=2, example="only merged: {'v': 1}")
    waits = Verdict("late", answer, waits="users not loaded")
    for verdicts, equal, told in (
        ([good, waits], True, "EQUAL  1 view"),
        ([good, bad], False, "NOT EQUAL  in bad"),
        ([waits], False, "NOT CHECKED  no view has an answer"),
    ):
        screen = Screen()
        assert print_check(screen.out, verdicts, (1, 2)) is equal
        assert told in screen.told
    assert "users not loaded" in screen.told


def test_a_view_without_rows_has_a_headline(done: tuple[Path, Screen]) -> None:
    with Workspace(done[0]) as opened:
        for name in HEADLINES:
            title, table = headline_of(name, opened.view(name).to_arrow().slice(0, 0))
            assert (title, table.row_count) == ("no rows yet", 0)


# -- live traffic ------------------------------------------------------------------------


def test_windows_are_final_when_the_watermark_passes_their_end() -> None:
    log = MemoryEventLog()
    schema = pa.schema([("user_id", pa.string()), ("event_time", pa.timestamp("us"))])
    log.create_topic("playback", schema, partitions=1)
    times = [datetime(2025, 1, 1, 12, minute) for minute in (1, 2, 7, 16)]
    log.append("playback", pa.table({"user_id": ["u"] * 4, "event_time": times}, schema=schema))
    windows = Windows("playback", 300_000_000)
    windows.take_in(log, {0: 3})
    assert (len(windows.starts), windows.final) == (2, 0)
    windows.take_in(log, {0: 4})
    assert (len(windows.starts), windows.final) == (3, 1)
    assert np.all(np.diff(windows.starts) > 0)


def test_a_speed_layer_that_fails_says_why(tmp_path: Path) -> None:
    workspace = claim(tmp_path, "test")
    with RoleLock(tmp_path / "speed.lock", "speed layer"), SpeedProcess(tmp_path) as speed:
        traffic = Traffic(workspace, speed, Pulse())
        with pytest.raises(PlayheadError, match="ended before it was told to") as raised:
            traffic.run(tmp_path, DEMO_SPEC.start, block_events=10, tell=lambda _: None)
    assert "another speed layer runs" in str(raised.value.hint)
    workspace.close()


def test_a_speed_layer_that_is_not_needed_ends(tmp_path: Path) -> None:
    with SpeedProcess(tmp_path) as speed:
        speed.stop()
    assert speed._process.returncode == 0


def test_sigterm_ends_the_whole_process_tree(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from playhead.demo import run_demo; "
        "from playhead.testing.generate import GenerateSpec; "
        f"run_demo(Path({str(tmp_path / 'w')!r}), spec=GenerateSpec(80, 30, 1_500, 40))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as demo:
        assert demo.stderr is not None
        while "✓ load" not in demo.stderr.readline():
            assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        demo.stderr.read()
        assert demo.wait(60) != 0
    for role in ("load", "batch", "speed"):
        with RoleLock(tmp_path / "w" / f"{role}.lock", role):
            pass
    assert Screen().run(tmp_path / "w")


def test_a_killed_demo_takes_its_speed_layer_along(tmp_path: Path) -> None:
    claim(tmp_path, "test").close()
    code = (
        "import os, sys; from pathlib import Path; from playhead.demo.traffic import SpeedProcess\n"
        f"speed = SpeedProcess(Path({str(tmp_path)!r})); speed.start()\n"
        "print(speed._process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    for _ in range(600):
        if not Path(f"/proc/{child}").exists():
            break
        signal.sigtimedwait([], 0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
