"""The demo: from nothing to checked answers, in a workspace that is its own."""

import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from playhead.api.server import serving
from playhead.assemble import Workspace
from playhead.batch.deadletters import Wanted
from playhead.client import Producer
from playhead.clock import SystemClock
from playhead.demo import DEMO_SPEC, run_demo
from playhead.demo.asking import Api
from playhead.demo.check import Verdict, check_view, compare
from playhead.demo.folder import DEMO_MARK, claim
from playhead.demo.headlines import HEADLINES, headline_of
from playhead.demo.report import print_check
from playhead.demo.running import PlatformBeside, until
from playhead.demo.sending import GatewayLog
from playhead.demo.traffic import Windows
from playhead.errors import (
    LoadError,
    PlayheadError,
    SettingError,
    WorkspaceBusyError,
    WorkspaceError,
)
from playhead.gateway import serving as gateway_serving
from playhead.keys import KeyRing
from playhead.lock import RoleLock
from playhead.platform import bring_down, platform_status
from playhead.platform.records import RunFolder
from playhead.testing.eventlog import MemoryEventLog
from playhead.testing.generate import GenerateSpec, generate
from playhead.views.catalog import library

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


@pytest.fixture(scope="module", autouse=True)
def _free_ports() -> Iterator[None]:
    """Others of this machine may use the default ports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYHEAD_GATEWAY_ADDRESS", "127.0.0.1:0")
        patch.setenv("PLAYHEAD_API_ADDRESS", "127.0.0.1:0")
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Screen]:
    """The workspace that a demo leaves, and what it said."""
    workspace, screen = tmp_path_factory.mktemp("demo") / "workspace", Screen()
    assert screen.run(workspace)
    return workspace, screen


# -- a whole demo ------------------------------------------------------------------------


def test_every_view_equals_its_recomputation(done: tuple[Path, Screen]) -> None:
    _, screen = done
    assert f"EQUAL  {len(library())} views" in screen.told
    assert "every digit the same" in screen.told
    assert set(HEADLINES) == set(library())
    for view in HEADLINES:
        assert f"\n{view} " in "\n" + screen.told


def test_progress_is_a_line_for_each_stage(done: tuple[Path, Screen]) -> None:
    _, screen = done
    stages = [line.split()[1] for line in screen.progress.splitlines() if line.startswith("✓")]
    assert stages == ["generate", "load", "batch", "live", "check"]
    assert "Try next" in screen.progress
    assert "Try next" not in screen.told


def test_the_workspace_holds_everything_once(done: tuple[Path, Screen]) -> None:
    workspace, _ = done
    with Workspace(workspace) as opened:
        sessions = opened.query("SELECT count(*) AS n FROM playback").to_arrow()
        assert sessions.column("n").to_pylist() == [TINY.sessions]
        assert {status.ready for status in opened.statuses()} == {True}
        assert [status for _, status in opened.state.epochs()][:-1] == ["sealed"]


def test_bad_events_become_dead_letters_and_nothing_else(done: tuple[Path, Screen]) -> None:
    workspace, screen = done
    with Workspace(workspace) as opened, opened.dead_letters() as letters:
        count = letters.count(Wanted())
        reasons = [one.reason for one in letters.reasons(Wanted())]
    assert count > 0
    assert f"{count} refused" in screen.told
    assert f"{count} refused events, kept" in screen.told
    for reason in reasons:
        assert reason[:60] in screen.told
    assert "rejection rate" in screen.told


def test_the_platform_is_gone_afterwards(done: tuple[Path, Screen]) -> None:
    workspace, screen = done
    assert platform_status(workspace).state == "none"
    assert not parts_of(workspace)
    assert "gateway listened at http://127.0.0.1:" in screen.progress


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


@pytest.mark.slow
def test_a_demo_in_its_own_workspace_starts_anew(
    done: tuple[Path, Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keys, a view of its own, on a terminal, and with both addresses taken."""
    workspace, _ = done
    ring = KeyRing(workspace / "keys.json")
    ring.create("app", ["write"])
    taken = socket.create_server(("127.0.0.1", 0))
    where = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("PLAYHEAD_GATEWAY_ADDRESS", where)
    monkeypatch.setenv("PLAYHEAD_API_ADDRESS", where)
    (workspace / "playhead.toml").write_text("[speed]\nseal_seconds = 30\n")
    (workspace / "notes.txt").write_text("mine")
    (workspace / "views" / "watchers.sql").write_text(
        "SELECT device_type, COUNT(*) AS sessions FROM playback GROUP BY device_type"
    )
    screen = Screen(terminal=True)
    with taken:
        assert screen.run(workspace)
    assert screen.progress.count(f"({where} is taken)") == 2
    keys = ring.keys()
    assert [(key.name, key.is_active) for key in keys] == [("app", True), ("demo", False)]
    (workspace / "keys.json").unlink()
    assert f"EQUAL  {len(library()) + 1} views" in screen.told
    assert "watchers  5 rows" in screen.told
    assert (workspace / "notes.txt").read_text() == "mine"
    assert "seal_seconds" in (workspace / "playhead.toml").read_text()
    assert json.loads((workspace / DEMO_MARK).read_text())["made_by"] == "playhead demo"


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("lock", "role"), [("speed.lock", "speed layer"), ("run/platform.lock", "platform")]
)
def test_a_workspace_at_work_is_left_alone(tmp_path: Path, lock: str, role: str) -> None:
    claim(tmp_path, "test").close()
    with RoleLock(tmp_path / lock, role), pytest.raises(WorkspaceBusyError, match=role):
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


def test_the_api_answers_in_pages_what_the_workspace_answers(done: tuple[Path, Screen]) -> None:
    with Workspace(done[0]) as opened, serving(done[0]) as url, Api(url, rows=7) as api:
        merged = opened.view("monthly_engagement").to_arrow()
        assert merged.num_rows > 7
        assert compare(api.view("monthly_engagement"), merged) == (0, "")
        with pytest.raises(PlayheadError, match="nothing"):
            api.view("nothing")
    with Api(url) as api, pytest.raises(PlayheadError, match="no answer from"):
        api.view("monthly_engagement")


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


def test_waiting_ends_when_nothing_moves() -> None:
    moments = iter(range(10))
    assert until(lambda: next(moments) > 5, lambda: None, 60)
    assert not until(lambda: False, lambda: None, 0.1)


def test_a_platform_that_cannot_work_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_GATEWAY_ADDRESS", "0.0.0.0:0")
    with claim(tmp_path, "test") as workspace, PlatformBeside(workspace) as platform:
        with pytest.raises(SettingError, match="gateway-"):
            platform.wait()
        with pytest.raises(SettingError, match="gateway-"):
            platform.check()
    assert not parts_of(tmp_path)


def test_whoever_waits_for_it_is_interrupted_and_it_ends_all_the_same(tmp_path: Path) -> None:
    def interrupt(_: int, __: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with claim(tmp_path, "test") as workspace, PlatformBeside(workspace) as platform:
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(KeyboardInterrupt):
                platform.wait()
            assert parts_of(tmp_path)
        assert not parts_of(tmp_path)
        assert platform_status(tmp_path).state == "none"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_address_of_another_machine_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_GATEWAY_ADDRESS", "192.0.2.1:8600")
    with (
        claim(tmp_path, "test") as workspace,
        pytest.raises(SettingError, match=r"gateway\.address"),
        PlatformBeside(workspace),
    ):
        raise AssertionError
    assert not RunFolder(tmp_path).platform.exists()


def test_a_workspace_that_speaks_tls_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_GATEWAY_TLS_CERTIFICATE", "c.pem")
    monkeypatch.setenv("PLAYHEAD_GATEWAY_TLS_KEY", "k.pem")
    with claim(tmp_path, "test") as workspace, pytest.raises(SettingError, match="plain HTTP"):
        PlatformBeside(workspace)


def test_a_gateway_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with GatewayLog(url, None, lambda: None, patience_s=0.1) as gateway:
            gateway.append("playback", pa.table({"user_id": ["u1"]}), key="user_id")
            with pytest.raises(PlayheadError, match="1 events wait"):
                gateway.settle()


def test_events_beyond_the_producers_queue_wait_for_room(
    done: tuple[Path, Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = pa.table({"user_id": [f"u{n}" for n in range(2_500)]})
    monkeypatch.setattr("playhead.demo.sending.Producer", partial(Producer, queue_events=1_200))
    with (
        gateway_serving(done[0]) as running,
        GatewayLog(running.url, None, lambda: None, patience_s=60) as gateway,
    ):
        gateway.append("playback", events, key="user_id")
        gateway.spoil()
        gateway.settle()
        # Without any other field, none of them is an event.
        assert gateway.refused.total() == 2_501
        assert gateway.accepted == 0


# -- the ends of a demo ------------------------------------------------------------------


def parts_of(workspace: Path) -> list[int]:
    """Processes of the platform of a workspace."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"part" in command and str(workspace).encode() in command:
            found.append(int(entry.name))
    return found


@contextmanager
def started(workspace: Path, *, keep: bool = False) -> "Iterator[subprocess.Popen[str]]":
    """A demo in a process of its own; killed if it is still there at the end."""
    # Where the tests run behind `nohup`, what they start would not hear a closed terminal.
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "from pathlib import Path; from playhead.demo import run_demo; "
        "from playhead.testing.generate import GenerateSpec; "
        f"run_demo(Path({str(workspace)!r}), spec=GenerateSpec(80, 30, 1_500, 40), keep={keep})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def read_until(demo: "subprocess.Popen[str]", told: str) -> list[str]:
    """What a demo says up to some text."""
    assert demo.stderr is not None
    lines: list[str] = []
    while not lines or told not in lines[-1]:
        assert demo.poll() is None, "".join(lines)
        lines.append(demo.stderr.readline())
    return lines


def wait_for_no_parts(workspace: Path) -> None:
    since = time.monotonic()
    while parts_of(workspace):
        assert time.monotonic() - since < 30
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGTERM, "✓ load"),
        pytest.param(signal.SIGHUP, "✓ load", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "✓ batch", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "✓ batch", marks=pytest.mark.slow),
        (signal.SIGKILL, "✓ live"),
    ],
)
def test_a_signal_ends_the_whole_process_tree(
    tmp_path: Path, number: signal.Signals, when: str
) -> None:
    workspace = tmp_path / "w"
    with started(workspace) as demo:
        read_until(demo, when)
        if "load" in when:
            while not parts_of(workspace):
                assert demo.poll() is None
                time.sleep(0.01)
        demo.send_signal(number)
        assert demo.stderr is not None
        demo.stderr.read()
        assert demo.wait(60) != 0
    if number == signal.SIGKILL:
        wait_for_no_parts(workspace)
    assert not parts_of(workspace)
    for lock in ("load.lock", "batch.lock", "speed.lock", "run/platform.lock"):
        with RoleLock(workspace / lock, lock):
            pass
    claim(workspace, "test").close()


def test_a_demo_that_is_kept_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    with started(tmp_path, keep=True) as demo:
        lines = read_until(demo, "serving")
        urls = [line.split(" at ")[1].split()[0] for line in lines if " listens at " in line]
        assert len(urls) == 2
        for url in urls:
            where = urlsplit(url)
            asked = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
            asked.request("GET", "/readyz")
            assert asked.getresponse().status == 200
            asked.close()
        assert platform_status(tmp_path).state == "ready"
        assert bring_down(tmp_path, timedelta(seconds=20))
        assert demo.stderr is not None
        demo.stderr.read()
        assert demo.wait(30) == 0
    assert not parts_of(tmp_path)
