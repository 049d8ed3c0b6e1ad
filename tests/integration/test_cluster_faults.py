"""Servers die while events flow, demos end early: nothing is lost, and nothing is left running."""

import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")
pytest.importorskip("psycopg", reason="missing: psycopg")

from cluster_torture.life import ClusterLife, Tally
from cluster_torture.plan import PARTS, SERVERS, WORKERS, Blow, plan_round
from playhead.cluster import Postgres, Servers, check_installed
from playhead.demo.cluster import Engines, run_cluster_demo
from playhead.errors import ServerError
from playhead.views.catalog import library

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that servers need; and addresses that nobody else has."""
    try:
        check_installed(with_spark=False)
    except ServerError as error:
        pytest.skip(f"missing: {error}")
    for part in ("GATEWAY", "API", "DASHBOARD"):
        monkeypatch.setenv(f"PLAYHEAD_{part}_ADDRESS", "127.0.0.1:0")


def left_running(folder: Path) -> list[str]:
    """Commands of processes that work on something in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


# -- the demo ----------------------------------------------------------------------------


def test_every_view_of_the_cluster_equals_the_embedded_one(tmp_path: Path) -> None:
    out, console = (Console(file=StringIO(), width=120, highlight=False) for _ in range(2))
    folder = tmp_path / "demo"
    assert run_cluster_demo(folder, events=3_000, engines=Engines(), out=out, console=console)
    told = str(getattr(out.file, "getvalue")())  # noqa: B009
    assert f"EQUAL  {len(library())} views" in told
    assert "events/s, from the gateway's door into state" in told
    assert not left_running(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, id="ctrl-c"), pytest.param(signal.SIGTERM, id="sigterm")],
)
def test_a_demo_that_is_interrupted_stops_what_it_has_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "playhead", "-w", str(folder), "demo", "--cluster"]
    with subprocess.Popen(
        [*command, "--events", "3000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # Where the tests run behind `nohup` or `&`, it would not hear SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as demo:
        assert demo.stderr is not None
        until, told = time.monotonic() + PATIENCE_S, ""
        while "✓ load" not in told:
            assert demo.poll() is None, told
            assert time.monotonic() < until
            told = demo.stderr.readline()
        assert len(left_running(folder)) > 3
        demo.send_signal(number)
        demo.stderr.read()
        assert demo.wait(PATIENCE_S) != 0
    assert not left_running(folder)


def test_servers_that_run_are_stopped_when_another_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fail(_: Postgres) -> None:
        seen.extend(left_running(tmp_path))
        raise ServerError("PostgreSQL has ended")

    monkeypatch.setattr(Postgres, "start", fail)
    with pytest.raises(ServerError, match="has ended"):
        Servers(tmp_path / "servers").start()
    assert len(seen) >= 2
    assert not left_running(tmp_path)


# -- faults ------------------------------------------------------------------------------


def test_a_kill_of_every_server_and_of_the_speed_layer_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    tally = Tally()
    blows = [
        Blow(0.5, "broker", 0.5),
        Blow(0.5, "speed"),
        Blow(0.5, "store", 1.0),
        Blow(0.5, "database", 1.0),
    ]
    ClusterLife(tmp_path, tally, Engines()).run([blows])
    assert set(tally.kills) == {*SERVERS, "speed"}
    assert tally.statuses[202] > 0
    assert tally.certain > 100
    assert not left_running(tmp_path)


def test_a_seed_fixes_the_plan_and_every_round_kills_every_server() -> None:
    for number in range(20):
        blows = plan_round(3, number, with_spark=True)
        assert blows == plan_round(3, number, with_spark=True)
        targets = {blow.target for blow in blows}
        assert {*SERVERS, "speed"} <= targets <= {*SERVERS, *WORKERS, *PARTS}
        assert not targets.isdisjoint(WORKERS)
    assert plan_round(3, 0, with_spark=False) != plan_round(4, 0, with_spark=False)
