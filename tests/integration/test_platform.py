"""The supervisor over real processes: start, restart, hang, stop, death, and a new start."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from playhead.errors import WorkspaceBusyError, WorkspaceError
from playhead.platform import PlatformStatus, bring_down, platform_status
from playhead.platform.control import start_detached
from playhead.platform.records import RunFolder

PROGRAM = Path(__file__).parents[1] / "standin_platform.py"
NAMES = ("gateway-1", "gateway-2", "speed", "batch", "api")
STOP_WITHIN_S = 5.0

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """A folder; whatever platform is left in it at the end is killed."""
    yield tmp_path
    status = platform_status(tmp_path)
    for pid in [status.pid, *(part.pid for part in status.parts)]:
        if pid is not None and status.state != "none":
            kill(pid)
    bring_down(tmp_path, timedelta(0))


@pytest.fixture
def start(workspace: Path) -> Iterator[Start]:
    """Starts a platform of stand-in parts, and waits until all of them work."""
    started: list[subprocess.Popen[str]] = []

    def run(*names: str, more: tuple[str, ...] = (), wait: bool = True) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "up", str(workspace), *(names or NAMES), *more],
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        if wait:
            await_state(workspace, lambda s: s.pid == process.pid and all_run(s))
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def all_run(status: PlatformStatus) -> bool:
    return bool(status.parts) and all(part.state == "running" for part in status.parts)


def await_state(
    workspace: Path, wanted: Callable[[PlatformStatus], bool], seconds: float = 15
) -> PlatformStatus:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = platform_status(workspace)
        if wanted(status):
            return status
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds} s: {platform_status(workspace)}")


def ask(status: PlatformStatus, name: str = "gateway", timeout: float = 10) -> int:
    """The process that answers at an address."""
    assert status.urls is not None
    connection = http.client.HTTPConnection(status.urls[name].removeprefix("http://"))
    connection.timeout = timeout
    try:
        connection.request("GET", "/readyz")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def pids(status: PlatformStatus) -> dict[str, int]:
    return {part.name: part.pid for part in status.parts if part.pid is not None}


def is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def await_gone(found: dict[str, int], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not all(is_gone(pid) for pid in found.values()):
        assert time.monotonic() < until, f"still there: {found}"
        time.sleep(0.05)


def test_start_status_and_stop_in_order(workspace: Path, start: Start) -> None:
    process = start()
    status = await_state(workspace, lambda s: s.state == "ready")
    assert status.pid == process.pid
    assert [part.name for part in status.parts] == list(NAMES)
    assert not status.is_down
    speed = status.parts[2]
    assert (speed.health, speed.figures["lag"], speed.address) == ("works", 3, "")
    assert status.parts[0].address == (status.urls or {})["gateway"].removeprefix("http://")
    assert ask(status) in (pids(status)["gateway-1"], pids(status)["gateway-2"])
    assert ask(status, "api") == pids(status)["api"]
    began = time.monotonic()
    process.terminate()
    assert process.wait(10) == 0
    assert time.monotonic() - began < STOP_WITHIN_S
    assert platform_status(workspace).state == "none"
    assert all(is_gone(pid) for pid in pids(status).values())
    order = (workspace / "order").read_text().split()
    assert sorted(order) == sorted(NAMES)
    assert order.index("speed") > max(order.index("gateway-1"), order.index("gateway-2"))
    assert order[-1] == "api"


@pytest.mark.parametrize("name", ["gateway-1", "speed", "batch", "api"])
def test_a_killed_part_starts_again_at_its_address(
    workspace: Path, start: Start, name: str
) -> None:
    start("gateway-1", *NAMES[2:])
    before = platform_status(workspace)
    kill(pids(before)[name])
    after = await_state(workspace, lambda s: all_run(s) and pids(s)[name] != pids(before)[name])
    assert after.urls == before.urls
    (part,) = [part for part in after.parts if part.name == name]
    assert part.restarts == 1
    assert {n: p for n, p in pids(after).items() if n != name} == {
        n: p for n, p in pids(before).items() if n != name
    }
    log = RunFolder(workspace).log.read_text()
    assert f"{name} was ended by SIGKILL; it starts again in 0.2 s" in log


def test_a_connection_made_while_the_part_is_down_is_answered(
    workspace: Path, start: Start
) -> None:
    start("gateway-1")
    before = platform_status(workspace)
    old = pids(before)["gateway-1"]
    kill(old)
    while not is_gone(old):
        time.sleep(0.01)
    assert ask(before) == pids(await_state(workspace, all_run))["gateway-1"] != old


def test_a_part_that_ends_by_itself_waits_longer_each_time(workspace: Path, start: Start) -> None:
    start("speed", "crashing", wait=False)
    status = await_state(workspace, lambda s: bool(s.parts) and s.parts[1].restarts >= 4)
    assert status.parts[0].restarts == 0
    log = RunFolder(workspace).log.read_text()
    pauses = [line.split(" in ")[1] for line in log.splitlines() if "it starts again in" in line]
    assert pauses[:4] == ["0.2 s", "0.4 s", "0.8 s", "1 s"]
    assert "crashing ended with status 1" in log
    assert "RuntimeError: crashed" in log
    down = await_state(workspace, lambda s: s.parts[1].state == "restarting")
    assert down.is_down
    # On a busy machine the part may have been started again by the time that the command looks.
    assert any(_told(workspace).returncode == 1 for _ in range(20))
    assert "crashing" in _told(workspace).stdout


def _told(workspace: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "playhead", "-w", str(workspace), "status"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_part_that_hangs_is_killed_only_after_its_silence(workspace: Path, start: Start) -> None:
    start("gateway-1", "speed", more=("--silence", "3"))
    before = platform_status(workspace)
    hanging = pids(before)["speed"]
    began = time.monotonic()
    kill(hanging, signal.SIGSTOP)
    time.sleep(1.5)
    assert pids(platform_status(workspace)) == pids(before)
    after = await_state(workspace, lambda s: all_run(s) and pids(s)["speed"] != hanging)
    assert time.monotonic() - began >= 2.5
    assert pids(after)["gateway-1"] == pids(before)["gateway-1"]
    log = RunFolder(workspace).log.read_text()
    assert "speed hangs: no heartbeat for 3 s, killed; it starts again" in log


def test_a_pause_shorter_than_the_silence_is_forgiven(workspace: Path, start: Start) -> None:
    start("speed", more=("--silence", "3"))
    before = pids(platform_status(workspace))
    kill(before["speed"], signal.SIGSTOP)
    time.sleep(1.5)
    kill(before["speed"], signal.SIGCONT)
    time.sleep(2.5)
    assert pids(platform_status(workspace)) == before


def test_no_part_outlives_a_killed_supervisor(workspace: Path, start: Start) -> None:
    process = start()
    before = platform_status(workspace)
    address = (before.urls or {})["gateway"].rpartition(":")[2]
    process.kill()
    process.wait()
    await_gone(pids(before), STOP_WITHIN_S)
    assert platform_status(workspace).state == "dead"
    assert platform_status(workspace).is_down
    start(*NAMES, more=("--port", address))
    assert (platform_status(workspace).urls or {})["gateway"].endswith(f":{address}")


def test_a_new_start_at_once_ends_what_a_killed_supervisor_left(
    workspace: Path, start: Start
) -> None:
    process = start()
    before = platform_status(workspace)
    address = (before.urls or {})["gateway"].rpartition(":")[2]
    # It cannot notice that its supervisor is gone, and it holds the address.
    kill(pids(before)["gateway-1"], signal.SIGSTOP)
    process.kill()
    process.wait()
    start(*NAMES, more=("--port", address))
    assert all(is_gone(pid) for pid in pids(before).values())
    assert ask(platform_status(workspace)) not in pids(before).values()


def test_a_second_platform_is_refused(workspace: Path, start: Start) -> None:
    first = start("speed")
    second = start("speed", wait=False)
    _, told = second.communicate(timeout=10)
    assert second.returncode == 1
    assert f"another platform runs in this workspace (process {first.pid})" in told
    assert platform_status(workspace).pid == first.pid
    with pytest.raises(WorkspaceBusyError, match=f"process {first.pid}"):
        start_detached(workspace, timedelta(seconds=5), [sys.executable, "-c", ""])


def test_down_twice(workspace: Path, start: Start) -> None:
    process = start()
    began = time.monotonic()
    assert bring_down(workspace, timedelta(seconds=10))
    assert time.monotonic() - began < STOP_WITHIN_S
    assert process.wait(5) == 0
    assert not bring_down(workspace, timedelta(seconds=10))
    command = [sys.executable, "-m", "playhead", "-w", str(workspace)]
    done = subprocess.run([*command, "down"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "no platform runs in this workspace\n")


def test_down_kills_what_does_not_stop(workspace: Path, start: Start) -> None:
    process = start()
    before = platform_status(workspace)
    process.send_signal(signal.SIGSTOP)
    assert bring_down(workspace, timedelta(seconds=0.5))
    assert process.wait(5) == -signal.SIGKILL
    assert all(is_gone(pid) for pid in pids(before).values())
    assert platform_status(workspace).state == "none"


def test_a_part_that_ignores_the_stop_is_killed_in_time(workspace: Path, start: Start) -> None:
    process = start("gateway-1", "stubborn", "api")
    before = platform_status(workspace)
    began = time.monotonic()
    process.terminate()
    assert process.wait(10) == 0
    assert time.monotonic() - began < STOP_WITHIN_S
    assert all(is_gone(pid) for pid in pids(before).values())
    assert "stubborn does not stop: killed" in RunFolder(workspace).log.read_text()


def test_settings_that_a_part_refuses_end_the_start(workspace: Path, start: Start) -> None:
    process = start("speed", "useless", wait=False)
    _, told = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "useless cannot work with these settings" in told
    assert "gateway.address needs a key; Make one." in RunFolder(workspace).log.read_text()
    assert platform_status(workspace).state == "none"


def test_a_taken_address_names_its_owner(workspace: Path, start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("gateway-1", more=("--port", str(port)), wait=False)
        _, told = process.communicate(timeout=10)
    assert process.returncode == 1
    assert f"gateway.address: 127.0.0.1:{port} is taken by process {os.getpid()}" in told
    assert "PLAYHEAD_GATEWAY_ADDRESS" in told


def test_detached_it_returns_when_it_answers(workspace: Path) -> None:
    command = [sys.executable, str(PROGRAM), "up", str(workspace), *NAMES]
    status = start_detached(workspace, timedelta(seconds=20), command)
    assert status.state == "ready"
    assert ask(status) in pids(status).values()
    assert bring_down(workspace, timedelta(seconds=10))


def test_detached_it_says_why_it_ended(workspace: Path) -> None:
    command = [sys.executable, str(PROGRAM), "up", str(workspace), "useless"]
    with pytest.raises(WorkspaceError, match="useless cannot work with these settings"):
        start_detached(workspace, timedelta(seconds=20), command)


def test_systemd_is_told(workspace: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(10)
        heard.bind(str(workspace / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(workspace / "notify"))
        process = start("gateway-1")
        assert heard.recv(100) == b"READY=1"
        process.terminate()
        assert heard.recv(100) == b"STOPPING=1"
        assert process.wait(10) == 0
