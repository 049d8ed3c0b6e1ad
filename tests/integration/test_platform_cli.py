"""`playhead up`, `down` and `status` as commands; the platform's status line."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from playhead.assemble import Workspace
from playhead.cli import status as lines
from playhead.platform import bring_down, platform_status
from playhead.platform.identity import ProcessId
from playhead.platform.records import Beat, PartRecord, PlatformRecord, RunFolder, write_record
from playhead.platform.supervisor import Seen

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OWN = ProcessId.own()
SPEED = PartRecord("speed", "running", OWN, NOW, 1, "", "was ended by SIGKILL")
API = PartRecord("api", "restarting", None, NOW, 2, "127.0.0.1:2", "ended with status 1")
RECORD = PlatformRecord(OWN, "ready", NOW, "1", {"api": "127.0.0.1:2"}, (), (SPEED, API))
FIGURES = {"events_per_s": 1200.0, "lag": 40.0, "behind_s": 0.25}
BEAT = Beat("speed", OWN, NOW, NOW, "", "1,200 events/s", FIGURES)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with Workspace.create(tmp_path / "w"):
        pass
    for name in ("GATEWAY", "API"):
        monkeypatch.setenv(f"PLAYHEAD_{name}_ADDRESS", "127.0.0.1:0")
    yield tmp_path / "w"
    if platform_status(tmp_path / "w").pid != os.getpid():
        bring_down(tmp_path / "w", timedelta(0))


def playhead(workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "playhead", "-w", str(workspace), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_up_needs_a_workspace_whose_settings_can_be_used(workspace: Path, tmp_path: Path) -> None:
    none = playhead(tmp_path, "up")
    assert (none.returncode, "is no workspace" in none.stderr) == (1, True)
    assert not RunFolder(tmp_path).path.exists()
    (workspace / "playhead.toml").write_text("[gateway]\nworkers = 0\n", encoding="utf-8")
    wrong = playhead(workspace, "up", "--detach")
    assert (wrong.returncode, "gateway.workers = 0" in wrong.stderr) == (1, True)


def test_a_taken_address_is_told_in_the_foreground_and_detached(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("PLAYHEAD_API_ADDRESS", address)
        for more in ((), ("--detach",)):
            done = playhead(workspace, "up", *more)
            assert done.returncode == 1
            assert f"{address} is taken by process {os.getpid()}" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_a_platform_in_the_foreground(workspace: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "playhead", "-w", str(workspace), "up"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        # It stops cleanly however far the start has come.
        while platform_status(workspace).state == "none":
            time.sleep(0.05)
        parts = platform_status(workspace).parts
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0, told
    assert "platform stopped in" in told
    assert platform_status(workspace).state == "none"
    assert not any(part.pid and Path(f"/proc/{part.pid}").exists() for part in parts)


def test_up_runs_only_the_parts_that_are_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYHEAD_GATEWAY_WORKERS", "1")
    up = playhead(workspace, "up", "--detach", "--only", "gateway")
    assert up.returncode == 0, up.stderr
    status = platform_status(workspace)
    assert [part.name for part in status.parts] == ["gateway-1"]
    assert list(status.urls or {}) == ["gateway"]


def test_status_of_a_platform_with_a_part_down(workspace: Path) -> None:
    folder = RunFolder(workspace)
    folder.path.mkdir()
    write_record(folder.platform, RECORD)
    write_record(folder.beat("speed"), BEAT)
    shown = playhead(workspace, "status")
    assert shown.returncode == 1
    for told in ("restarting", "ended with status 1", "1,200 events/s", str(OWN.pid)):
        assert told in shown.stdout
    as_json = playhead(workspace, "status", "--json")
    assert as_json.returncode == 1
    parts = json.loads(as_json.stdout)["parts"]
    assert [part["figures"] for part in parts] == [FIGURES, {}]
    write_record(folder.platform, replace(RECORD, parts=(SPEED,)))
    assert playhead(workspace, "status").returncode == 0
    gone = ProcessId(OWN.pid, "another boot/1")
    write_record(folder.platform, replace(RECORD, process=gone, parts=()))
    dead = playhead(workspace, "status")
    assert (dead.returncode, "is gone; start it again" in dead.stdout) == (1, True)


def test_the_status_line(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(lines, "stderr", Console(file=heard))
    monkeypatch.setattr(lines, "note", lambda text: heard.write(f"{text}\n"))
    elapsed = 0.0
    news = [
        "2026-05-01T12:00:00Z gateway-1 INFO GET /x 200",
        "2026-05-01T12:00:00Z api WARNING hot",
    ]
    with lines.PlatformLine(lambda: elapsed) as line:
        assert line._line().plain == "starting"
        line.look(Seen(replace(RECORD, state="starting"), {}, news))
        line.look(Seen(RECORD, {"speed": BEAT}, []))
        line.look(Seen(RECORD, {"speed": BEAT}, []))
        elapsed = 61.0
        line.look(Seen(RECORD, {"speed": BEAT}, []))
    told = heard.getvalue().splitlines()
    assert told[0] == news[1]
    assert told[1:3] == ["api: http://127.0.0.1:2", "ready; Ctrl-C, or playhead down, stops it"]
    assert told[3:] == [
        "ready   1,200 events/s   lag 40 events   0.2 s behind   3 restarts   api is down"
    ]
