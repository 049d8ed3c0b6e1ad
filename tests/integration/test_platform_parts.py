"""The platform's own parts as processes: the speed and batch layers, and the whole of it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from playhead.assemble import Workspace
from playhead.contracts import TOPICS
from playhead.lock import RoleLock
from playhead.platform import PlatformStatus, bring_down, platform_status
from playhead.platform.batch import LastRun
from playhead.platform.records import Beat, RunFolder, read_record, write_record

NEVER = {"PLAYHEAD_BATCH_EVERY_MINUTES": "0"}
SEARCH = {
    "event_type": "search",
    "user_id": "u1",
    "search_query": "drama",
    "results_returned": 3,
    "device_type": "Mobile",
    "had_typo": False,
}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    with Workspace.create(tmp_path / "w"):
        pass
    yield tmp_path / "w"
    bring_down(tmp_path / "w", timedelta(seconds=0))


@pytest.fixture
def part(workspace: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a part alone, as the supervisor would."""
    started: list[subprocess.Popen[bytes]] = []

    def run(name: str, **environment: str) -> subprocess.Popen[bytes]:
        RunFolder(workspace).path.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "playhead", "-w", str(workspace), "part", name]
        process = subprocess.Popen(command, env={**os.environ, **environment})
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def await_beat(workspace: Path, name: str, wanted: Callable[[Beat], bool]) -> Beat:
    until = time.monotonic() + 60
    last = None
    while time.monotonic() < until:
        last = read_record(RunFolder(workspace).beat(name), Beat)
        if last is not None and wanted(last):
            return last
        time.sleep(0.05)
    raise AssertionError(f"{name} says {last}")


def send(workspace: Path, count: int) -> None:
    """Put searches into the event log."""
    schema = TOPICS["search"].schema
    now = datetime.now(UTC).replace(tzinfo=None)
    absent: dict[str, Any] = dict.fromkeys(schema.names)
    rows = [
        {**absent, **SEARCH, "event_id": f"e{number}", "event_time": now} for number in range(count)
    ]
    with Workspace(workspace) as opened:
        opened.log.append("search", pa.Table.from_pylist(rows, schema), key="user_id")


def test_speed_takes_in_what_is_in_the_log_before_it_stops(
    workspace: Path, part: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = part("speed", PLAYHEAD_SPEED_TRIGGER_MS="900")
    await_beat(workspace, "speed", lambda beat: beat.figures.get("lag") == 0)
    send(workspace, 50)
    process.terminate()
    assert process.wait(30) == 0
    with Workspace(workspace) as opened:
        assert opened.lag() == 0
        assert opened.lake.rows("raw.search") == 50


def test_speed_waits_while_another_process_has_the_layer(
    workspace: Path, part: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with RoleLock(workspace / "speed.lock", "speed layer"):
        part("speed")
        beat = await_beat(workspace, "speed", lambda beat: beat.health.startswith("waits"))
        assert f"(process {os.getpid()})" in beat.health
    await_beat(workspace, "speed", lambda beat: "lag" in beat.figures)


def test_batch_waits_for_a_load_runs_and_then_waits_for_its_time(
    workspace: Path, part: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with RoleLock(workspace / "load.lock", "load"):
        process = part("batch")
        await_beat(workspace, "batch", lambda beat: beat.health.startswith("waits: a load"))
        # Asking whether a role is free keeps nobody from it.
        for _ in range(200):
            with RoleLock(workspace / "batch.lock", "batch"):
                time.sleep(0.001)
    await_beat(workspace, "batch", lambda beat: beat.health.startswith("last run"))
    last = read_record(RunFolder(workspace).batch, LastRun)
    assert last is not None
    assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10
    process.terminate()
    assert process.wait(10) == 0


def test_batch_runs_when_its_time_has_come_and_never_where_it_is_told_so(
    workspace: Path, part: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = part("batch", **NEVER)
    await_beat(workspace, "batch", lambda beat: beat.health.startswith("never"))
    process.terminate()
    assert process.wait(10) == 0
    old = LastRun(datetime.now(UTC) - timedelta(hours=2), 1.0)
    write_record(RunFolder(workspace).batch, old)
    part("batch")
    await_beat(workspace, "batch", lambda beat: beat.health.startswith("last run"))
    last = read_record(RunFolder(workspace).batch, LastRun)
    while last is None or last.started == old.started:
        time.sleep(0.05)
        last = read_record(RunFolder(workspace).batch, LastRun)
    assert last.started > old.started


def test_an_unknown_part_is_refused(
    workspace: Path, part: Callable[..., subprocess.Popen[bytes]]
) -> None:
    assert part("gateway-1").wait(30) == 78
    assert part("nothing").wait(30) == 78


@pytest.fixture
def command(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`playhead` for the workspace, whose platform has free ports and two gateway workers."""
    for name in ("GATEWAY", "API", "DASHBOARD"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv(f"PLAYHEAD_{name}_ADDRESS", address)
    monkeypatch.setenv("PLAYHEAD_GATEWAY_WORKERS", "2")
    return [sys.executable, "-m", "playhead", "-w", str(workspace)]


def up(command: list[str], workspace: Path) -> PlatformStatus:
    done = subprocess.run([*command, "up", "--detach"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return platform_status(workspace)


def test_the_whole_platform(workspace: Path, command: list[str]) -> None:
    status = up(command, workspace)
    assert (status.state, len(status.parts)) == ("ready", 6)
    assert post(status, "whole-1") == {"accepted": 1, "rejected": []}
    shown = subprocess.run([*command, "status", "--json"], capture_output=True, check=False)
    assert shown.returncode == 0
    assert [part["name"] for part in json.loads(shown.stdout)["parts"]] == [
        part.name for part in status.parts
    ]
    assert subprocess.run([*command, "down"], check=False).returncode == 0
    stopped = RunFolder(workspace).log.read_text().split("stopped in ")[-1]
    assert float(stopped.split()[0]) < 5
    with Workspace(workspace) as opened:
        assert sum(opened.log.end_offsets("search").values()) == 1
        assert opened.lag() == 0


def post(status: PlatformStatus, event_id: str) -> Any:
    """Send one search to the gateway."""
    event = {**SEARCH, "event_id": event_id, "event_time": datetime.now(UTC).isoformat()}
    assert status.urls is not None
    where = status.urls["gateway"].removeprefix("http://")
    connection = http.client.HTTPConnection(where, timeout=10)
    try:
        connection.request(
            "POST", "/v1/events", json.dumps(event), {"Content-Type": "application/json"}
        )
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
