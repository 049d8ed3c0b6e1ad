"""The platform's small things: identities, records, the log file, schedules, status."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from playhead.config import (
    Address,
    ApiSettings,
    DashboardSettings,
    GatewaySettings,
    Settings,
    SpeedSettings,
)
from playhead.errors import SettingError
from playhead.platform import control
from playhead.platform.batch import LastRun, why_due
from playhead.platform.heartbeat import EVERY_S, Heartbeat
from playhead.platform.identity import ProcessId
from playhead.platform.logfile import PlatformLog
from playhead.platform.notify import notify
from playhead.platform.parts import (
    MULTIPROCESS,
    SILENCE,
    Part,
    Role,
    chosen_parts,
    secure_sockets,
    standard_addresses,
    standard_parts,
)
from playhead.platform.records import Beat, PartRecord, PlatformRecord, RunFolder, write_record
from playhead.platform.sockets import address_of, listen
from playhead.platform.watched import Inherited, Pauses, WatchedPart
from playhead.platform.working import Work, work

NOWHERE = Path(os.devnull)
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


# -- identities --------------------------------------------------------------------------


def test_a_process_is_known_by_its_birth() -> None:
    own = ProcessId.own()
    assert own.is_alive()
    assert ProcessId.of(os.getpid()) == own
    other = ProcessId(own.pid, "another boot/1")
    assert not other.is_alive()
    # Were it signalled, this test would end here.
    assert not other.send(signal.SIGKILL)


def test_a_process_that_ended_is_gone_before_it_is_waited_for() -> None:
    child = subprocess.Popen(SLEEPER)
    process = ProcessId.of(child.pid)
    assert process is not None
    assert process.send(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_alive()
    assert not process.send(signal.SIGTERM)
    assert child.wait() == -signal.SIGKILL
    assert ProcessId.of(child.pid) is None


# -- heartbeats --------------------------------------------------------------------------


def test_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.path.mkdir()
    elapsed = 100.0
    monkeypatch.setattr("playhead.platform.heartbeat.time.monotonic", lambda: elapsed)
    beat = Heartbeat(tmp_path, "speed", "127.0.0.1:1")
    beat("works", lag=2.0)
    beat("not written: too soon")
    (read,) = folder.beats()
    assert (read.name, read.health, read.figures) == ("speed", "works", {"lag": 2.0})
    assert (read.process, read.address) == (ProcessId.own(), "127.0.0.1:1")
    elapsed += EVERY_S
    beat("works on")
    assert folder.beats()[0].health == "works on"
    assert [path.name for path in folder.path.iterdir()] == ["speed.json"]


def test_a_full_disk_does_not_look_like_a_part_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = RunFolder(tmp_path).beat("speed")
    path.parent.mkdir()
    Heartbeat(tmp_path, "speed")("works")
    os.utime(path, (1, 1))

    def full(_path: Path, _text: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    Heartbeat(tmp_path, "speed")("works on")
    assert path.stat().st_mtime > 1
    path.unlink()
    Heartbeat(tmp_path, "speed")("cannot even touch it, and goes on")


def test_files_of_another_version_are_not_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.path.mkdir()
    for text in ("", "{", '{"name": "speed"}'):
        folder.beat("speed").write_text(text)
        folder.platform.write_text(text)
        assert folder.beats() == []
        assert control.platform_status(tmp_path).state == "none"


# -- the log file ------------------------------------------------------------------------


def test_the_log_file_tells_what_is_new_and_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "platform.log"
    path.write_text("from before\n")
    with PlatformLog(path, limit_bytes=100) as log:
        assert list(log.fresh()) == []
        log.write("starts")
        with path.open("a") as part:
            part.write("whole\nbeg")
            part.flush()
            assert [line[-5:] for line in log.fresh()] == ["tarts", "whole"]
            part.write("un\n")
        assert list(log.fresh()) == ["begun"]
        log.rotate()
        assert path.stat().st_size < 100
        os.write(log.fd, b"x" * 100 + b"\n")
        assert list(log.fresh()) == ["x" * 100]
        log.rotate()
        assert path.stat().st_size == 0
        assert "from before" in path.with_name("platform.log.1").read_text()
        log.write("goes on")
        assert len(list(log.fresh())) == 1
        assert log.is_at(log.fd)
        assert not log.is_at(0)


# -- sockets -----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_listening(host: str) -> None:
    if host == "::1" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with listen(Address(host, 0), "gateway.address") as bound:
        where = address_of(bound)
        assert where.is_loopback
        with socket.create_connection((where.host, where.port), timeout=5):
            pass
        with pytest.raises(SettingError, match=rf"process {os.getpid()} \(") as caught:
            listen(where, "gateway.address")
        assert "PLAYHEAD_GATEWAY_ADDRESS" in str(caught.value)


@pytest.mark.parametrize("address", [Address("192.0.2.1", 0), Address("no-such-host.invalid", 1)])
def test_an_address_of_another_machine(address: Address) -> None:
    with pytest.raises(SettingError, match=r"api\.address = .*"):
        listen(address, "api.address")


def test_another_platform_is_named_by_its_workspace() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        program = "import sys, time; print(flush=True); time.sleep(60)"
        words = ["playhead", "-w", "/srv/films", "part", "gateway-1"]
        command = [sys.executable, "-c", program, *words]
        with subprocess.Popen(command, pass_fds=[bound.fileno()], stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            owner.stdout.readline()
            with pytest.raises(SettingError, match=f"of /srv/films \\(process {owner.pid}\\)"):
                listen(Address(*bound.getsockname()), "gateway.address")
            owner.kill()


# -- parts -------------------------------------------------------------------------------


def test_the_standard_parts(tmp_path: Path) -> None:
    settings = Settings(
        gateway=GatewaySettings(workers=3, tls_certificate="c", tls_key="k"),
        api=ApiSettings(address="[::1]:9000"),
        speed=SpeedSettings(trigger_ms=60_000),
    )
    parts = {part.name: part for part in standard_parts(tmp_path, settings)}
    gateways = ["gateway-1", "gateway-2", "gateway-3"]
    assert list(parts) == [*gateways, "speed", "batch", "api", "dashboard"]
    assert parts["gateway-2"].command[-4:] == ("part", "gateway-2", "--workers", "3")
    assert MULTIPROCESS in parts["gateway-1"].environment
    assert parts["speed"].silence == SILENCE + timedelta(minutes=2)
    assert parts["gateway-1"].role < parts["speed"].role < parts["api"].role
    assert standard_addresses(settings)["api"] == Address("::1", 9000)
    assert secure_sockets(settings) == ("gateway",)


def test_without_an_address_there_are_no_dashboards(tmp_path: Path) -> None:
    settings = Settings(dashboard=DashboardSettings(address=""))
    assert "dashboard" not in {part.name for part in standard_parts(tmp_path, settings)}
    assert "dashboard" not in standard_addresses(settings)


def test_parts_are_chosen_by_what_they_are(tmp_path: Path) -> None:
    parts = standard_parts(tmp_path, Settings(gateway=GatewaySettings(workers=2)))
    assert chosen_parts(parts, []) == parts
    chosen = [part.name for part in chosen_parts(parts, ["api", "gateway"])]
    assert chosen == ["gateway-1", "gateway-2", "api"]
    for unknown in ("gateway-1", "gatway", ""):
        with pytest.raises(SettingError, match=f"no part '{unknown}'") as caught:
            chosen_parts(parts, ["api", unknown])
        assert caught.value.hint == "There are gateway, speed, batch, api, dashboard."


def test_a_part_knows_its_number() -> None:
    numbers = {name: Work(name, Path()).number for name in ("gateway-12", "speed", "api")}
    assert numbers == {"gateway-12": 12, "speed": 0, "api": 0}


def test_a_part_tells_whether_another_start_would_help(tmp_path: Path) -> None:
    RunFolder(tmp_path).path.mkdir()

    def failing(error: Exception) -> Callable[..., None]:
        def do(*_: object) -> None:
            raise error

        return do

    told = Work("speed", tmp_path)
    assert work(told, failing(SettingError("no"))) == 78
    assert work(told, failing(OSError("no"))) == 1
    assert work(told, lambda *_: None) == 0


def test_a_watched_part_waits_longer_until_it_was_healthy_for_a_while(tmp_path: Path) -> None:
    beat = tmp_path / "x.json"
    with NOWHERE.open("wb") as nowhere, NOWHERE.open("rb") as alive:
        program = (sys.executable, "-c", "")
        part = Part("x", program, Role.ANSWERS)
        pauses = Pauses(first=timedelta(seconds=1), longest=timedelta(seconds=4))
        watched = WatchedPart(
            part, Inherited(alive.fileno(), None, nowhere.fileno()), "", beat, pauses
        )

        def end(worked_s: int = 0) -> str:
            watched.start()
            if worked_s:
                beat.touch()
            for _ in range(worked_s):
                assert watched._child is not None
                watched._listen(1.0)
            assert watched._child is not None
            watched._child.wait()
            told = watched.look(0.1)
            assert told is not None
            return told.rpartition(" in ")[2]

        assert [end(), end(), end(), end()] == ["1 s", "2 s", "4 s", "4 s"]
        assert end(worked_s=30) == "4 s"
        assert end(worked_s=61) == "1 s"
        assert watched.restarts == 6
        assert watched.state == "restarting"
        assert watched.look(0.5) is None
        assert watched.look(0.6) == "x starts again (restart 6)"
        assert watched.state == "starting"
        watched.kill()
        while not watched.reap():
            pass
        assert watched.state == "stopped"


def test_a_machine_that_slept_makes_nobody_hang(tmp_path: Path) -> None:
    with NOWHERE.open("wb") as nowhere, NOWHERE.open("rb") as alive:
        part = Part("x", tuple(SLEEPER), Role.ANSWERS, starting=timedelta(seconds=1.5))
        watched = WatchedPart(
            part, Inherited(alive.fileno(), None, nowhere.fileno()), "", tmp_path / "x", Pauses()
        )
        watched.start()
        assert watched.look(3600) is None
        assert watched.look(3600) is not None
        assert watched.record().reason == "hangs: no heartbeat for 1.5 s, killed"


# -- status ------------------------------------------------------------------------------


def test_status_of_parts() -> None:
    own, gone = ProcessId.own(), ProcessId(1, "never")
    beat = Beat("x", own, NOW, NOW, "", "works", {"lag": 1.0})

    def status(state: str, process: ProcessId | None) -> control.PartStatus:
        return control.part_status(PartRecord("x", state, process, NOW, 2, "", "crashed"), beat)

    assert status("running", own).health == "works"
    assert not status("running", own).is_down
    assert status("running", gone).state == "gone"
    assert status("running", gone).is_down
    waits = status("restarting", None)
    assert (waits.health, waits.pid, waits.is_down) == ("crashed", None, True)


def test_a_dead_platform_is_no_stopped_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.path.mkdir()
    gone = ProcessId(os.getpid(), "another boot/1")
    addresses = {"gateway": "[::1]:1", "api": "127.0.0.1:2"}
    record = PlatformRecord(gone, "ready", NOW, "1", addresses, ("gateway",), ())
    write_record(folder.platform, record)
    status = control.platform_status(tmp_path)
    assert (status.state, status.is_down) == ("dead", True)
    assert status.urls == {"gateway": "https://[::1]:1", "api": "http://127.0.0.1:2"}
    # The number is this process's own, and it is not signalled.
    assert not control.bring_down(tmp_path, timedelta(seconds=1))
    assert control.platform_status(tmp_path).state == "none"


@pytest.mark.parametrize("name", ["", "relative", "/no/such/socket"])
def test_nobody_listens_for_notifications(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert not notify("READY=1")


# -- the batch layer's schedule ----------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "loads", "every", "wanted"),
    [
        (None, {}, 60, "no run is known"),
        (None, {}, 0, None),
        (LastRun(NOW, 1), {}, 60, None),
        (LastRun(NOW - timedelta(minutes=59), 1), {}, 60, None),
        (LastRun(NOW - timedelta(minutes=60), 1), {}, 60, "60 minutes went by"),
        (LastRun(NOW - timedelta(minutes=60), 1), {"search": 9}, 0, None),
        (LastRun(NOW, 1, {"search": 1}), {"search": 1}, 60, None),
        (LastRun(NOW, 1, {"search": 1}), {"search": 2}, 60, "data was loaded"),
        (LastRun(NOW, 1), {"rating": 1}, 60, "data was loaded"),
        (LastRun(NOW + timedelta(days=1), 1), {}, 60, "60 minutes went by"),
    ],
)
def test_when_a_batch_run_is_due(
    last: LastRun | None, loads: dict[str, int], every: int, wanted: str | None
) -> None:
    assert why_due(last, loads, timedelta(minutes=every), NOW) == wanted
