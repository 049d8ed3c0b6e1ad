"""The whole platform on a real broker, object store and database: a life, and a second machine."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("confluent_kafka", reason="missing: confluent-kafka")
pytest.importorskip("psycopg", reason="missing: psycopg")

from gateway_events import watch
from playhead.assemble import Workspace
from playhead.cli import app
from playhead.cluster import Servers, check_installed
from playhead.demo.check import compare
from playhead.demo.cluster import environment
from playhead.errors import ServerError
from playhead.platform import platform_status
from playhead.testing.generate import GenerateSpec, generate

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PATIENCE_S = 60.0
PAGES = ("live", "history", "quality", "views", "platform")
ANY_PORT = {f"PLAYHEAD_{part}_ADDRESS": "127.0.0.1:0" for part in ("GATEWAY", "API", "DASHBOARD")}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    try:
        check_installed(with_spark=False)
    except ServerError as error:
        pytest.skip(f"missing: {error}")
    with (
        Servers(tmp_path_factory.mktemp("servers")) as started,
        environment({**started.environment, **ANY_PORT}),
    ):
        yield started


@pytest.fixture(scope="module")
def folder(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace on the servers, with topics, users and titles; its platform runs."""
    path = tmp_path_factory.mktemp("platform") / "w"
    settled(path, servers)
    assert run(path, "init").exit_code == 0
    assert "10 topics" in told(run(path, "topics", "create"))
    data = path.parent / "data"
    generate(data, GenerateSpec(users=60, movies=20, sessions=400, days=30))
    assert run(path, "load", str(data)).exit_code == 0
    with ExitStack() as stack:
        stack.callback(run, path, "down")
        up(path)
        yield path


def settled(path: Path, servers: Servers, more: str = "") -> None:
    path.mkdir(parents=True)
    text = f"{servers.settings}\n[speed]\nseal_seconds = 2\n[batch]\nevery_minutes = 0\n{more}"
    (path / "playhead.toml").write_text(text, encoding="utf-8")


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["-w", str(path), *words])


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def up(path: Path, *words: str) -> dict[str, str]:
    """Start a platform in the background; its addresses."""
    command = [sys.executable, "-m", "playhead", "-w", str(path), "up", "--detach"]
    # Beside the other tests' servers, the first start of everything may take its time.
    command += ["--timeout", "180", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return urls(path)


def urls(path: Path) -> dict[str, str]:
    return dict(platform_status(path).urls or {})


def send(path: Path, count: int) -> None:
    events = [watch(f"user_{n % 60 + 1:05d}") for n in range(count)]
    answer = httpx.post(f"{urls(path)['gateway']}/v1/events", json=events, timeout=30)
    assert (answer.status_code, answer.json()["accepted"]) == (202, count)


def await_true(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.1)


def counted(path: Path) -> int:
    """Sessions by the API's merged answer."""
    sql = {"sql": "SELECT CAST(SUM(sessions) AS BIGINT) AS n FROM active_viewers"}
    answer = httpx.post(f"{urls(path)['api']}/v1/query", json=sql, timeout=30)
    return int(answer.json()["rows"][0]["n"] or 0) if answer.status_code == 200 else -1


def test_events_are_counted_live_then_sealed_then_by_the_batch_layer(folder: Path) -> None:
    assert "recomputed" in told(run(folder, "batch"))
    before = counted(folder)
    send(folder, 300)
    await_true(lambda: counted(folder) == before + 300)
    with Workspace(folder) as opened:
        await_true(lambda: opened.state.sealed_epoch() >= opened.state.open_epoch() - 1 > 0)
    told(run(folder, "batch"))
    send(folder, 50)
    await_true(lambda: counted(folder) == before + 350)
    with Workspace(folder) as opened:
        for name in opened.views:
            merged, full = opened.view(name).to_arrow(), opened.full(name).to_arrow()
            assert compare(merged, full) == (0, ""), name


def test_a_bad_event_is_a_dead_letter_that_commands_show(folder: Path) -> None:
    bad = watch("user_00001", device_type="Fridge")
    answer = httpx.post(f"{urls(folder)['gateway']}/v1/events", json=[bad], timeout=30)
    assert answer.json()["rejected"][0]["index"] == 0
    await_true(lambda: "Fridge" in told(run(folder, "dead-letters", "list")))


def test_pages_metrics_and_commands_say_how_it_is(folder: Path) -> None:
    for page in PAGES:
        assert httpx.get(f"{urls(folder)['dashboard']}/{page}", timeout=30).status_code == 200
    metrics = httpx.get(f"{urls(folder)['api']}/metrics", timeout=30).text
    assert 'playhead_log_end_offset{partition="0",topic="playback"}' in metrics
    assert "playhead_scrape_errors 0.0" in metrics
    assert 'playhead_file_bytes{file="state.db"}' in metrics
    assert 'file="log.db"' not in metrics
    assert "gateway-1" in told(run(folder, "status"))
    assert "failed" not in told(run(folder, "doctor")).split("0 failed")[0]
    assert "duplicate rate" in run(folder, "gates").output
    assert "clean" in told(run(folder, "verify", "--quick"))


def test_a_gateway_on_another_machine_feeds_the_same_answers(
    folder: Path, servers: Servers, tmp_path: Path
) -> None:
    other = tmp_path / "w"
    settled(other, servers)
    told(run(other, "init"))
    before = counted(folder)
    up(other, "--only", "gateway")
    try:
        send(other, 40)
        await_true(lambda: counted(folder) == before + 40)
    finally:
        told(run(other, "down"))


def test_it_goes_on_after_a_rebuild_and_a_new_start(folder: Path) -> None:
    before = counted(folder)
    told(run(folder, "down"))
    assert "active_viewers" in told(run(folder, "rebuild", "active_viewers"))
    up(folder)
    await_true(lambda: counted(folder) == before)
    send(folder, 20)
    await_true(lambda: counted(folder) == before + 20)
