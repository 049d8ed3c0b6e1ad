"""The gateway as processes, killed and with failing disks: what they acknowledged is there."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from failing_disk import Fault, build_shim, compiler
from gateway_events import ids, page_view, watch
from playhead.config import Address
from playhead.errors import SettingError
from playhead.gateway.server import check_address
from playhead.keys import KeyRing
from tls import self_signed

ENOSPC, EIO = 28, 5

PROGRAM = """
import signal, sys, threading
from pathlib import Path
from playhead.gateway import serve
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
serve(Path(sys.argv[1]), int(sys.argv[2]), number=1, workers=1, stop=stop)
"""


class Process:
    """A gateway of its own process, on a socket that outlives it."""

    def __init__(self, workspace: Path, listener: socket.socket) -> None:
        self._workspace = workspace
        self.listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        fd = self.listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self._workspace), str(fd)],
            pass_fds=[fd],
            env={**os.environ, **(environment or {})},
            stderr=subprocess.DEVNULL,
        )

    def end(self, number: int) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(20)


@contextmanager
def process(workspace: Path) -> Iterator[Process]:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=256)) as listener:
        running = Process(workspace, listener)
        try:
            yield running
        finally:
            running.end(signal.SIGKILL)


class Client(threading.Thread):
    """Sends events one request after another, each again until it is acknowledged."""

    def __init__(self, url: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._user, self._stopping = url, f"user-{number}", stop
        self.acknowledged: dict[str, list[str]] = {"playback": [], "interaction": []}
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=4) as client:
            while not self._stopping.is_set():
                events = [watch(self._user), page_view(self._user), watch(self._user)]
                while not self._is_sent(client, events) and not self._stopping.is_set():
                    time.sleep(0.02)

    def _is_sent(self, client: httpx.Client, events: list[dict[str, object]]) -> bool:
        try:
            answer = client.post("/v1/events", json=events)
        except httpx.TransportError:
            return False
        self.statuses[answer.status_code] += 1
        if answer.status_code != 202:
            return False
        assert answer.json() == {"accepted": 3, "rejected": []}
        for event in events:
            topic = "playback" if event["event_type"] == "watch" else "interaction"
            self.acknowledged[topic].append(str(event["event_id"]))
        return True


@contextmanager
def clients(url: str, count: int) -> Iterator[list[Client]]:
    stop = threading.Event()
    started = [Client(url, number, stop) for number in range(count)]
    for client in started:
        client.start()
    try:
        yield started
    finally:
        stop.set()
        for client in started:
            client.join(30)


def assert_kept(workspace: Path, sent: list[Client]) -> None:
    """Every acknowledged event is in the log, in the order in which its client sent it."""
    for topic in ("playback", "interaction"):
        kept = ids(workspace, topic)
        first = {event_id: place for place, event_id in reversed(list(enumerate(kept)))}
        for client in sent:
            acknowledged = client.acknowledged[topic]
            assert acknowledged
            assert set(acknowledged) <= set(first)
            places = [first[event_id] for event_id in acknowledged]
            assert places == sorted(places)


def total(sent: list[Client], status: int) -> int:
    """How many answers of this status all clients had."""
    return sum(client.statuses[status] for client in sent)


def wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_ready(url: str) -> None:
    def is_ready() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/readyz", timeout=20).status_code == 200
        return False

    wait(is_ready)


def test_killed_at_random_moments_it_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    moments = random.Random(7)
    with process(tmp_path) as gateway:
        gateway.start()
        wait_ready(gateway.url)
        with clients(gateway.url, 6) as sent:
            for _ in range(6):
                time.sleep(moments.uniform(0.05, 0.6))
                gateway.end(signal.SIGKILL)
                gateway.start()
                wait_ready(gateway.url)
            before = total(sent, 202)
            wait(lambda: total(sent, 202) > before + 20)
    assert_kept(tmp_path, sent)


def test_it_ends_within_five_seconds_and_loses_nothing(tmp_path: Path) -> None:
    with process(tmp_path) as gateway:
        gateway.start()
        wait_ready(gateway.url)
        with clients(gateway.url, 4) as sent:
            wait(lambda: total(sent, 202) > 50)
            began = time.monotonic()
            assert gateway.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 5
    assert_kept(tmp_path, sent)


def test_workers_share_an_address_a_log_and_a_page_of_metrics(tmp_path: Path) -> None:
    workspace, figures = tmp_path / "w", tmp_path / "metrics"
    workspace.mkdir()
    figures.mkdir()
    with process(workspace) as one, ExitStack() as others:
        other = Process(workspace, one.listener)
        others.callback(other.end, signal.SIGKILL)
        for worker in (one, other):
            worker.start({"PROMETHEUS_MULTIPROC_DIR": str(figures)})
        wait(lambda: len({path.name.split("_")[-1] for path in figures.glob("*.db")}) == 2)
        wait_ready(one.url)
        with clients(one.url, 8) as sent:
            wait(lambda: total(sent, 202) > 100)
        pages = [httpx.get(f"{one.url}/metrics", timeout=20).text for _ in range(4)]
        assert [one.end(signal.SIGTERM), other.end(signal.SIGTERM)] == [0, 0]
    counted = f'playhead_gateway_events_accepted_total{{topic="playback"}} {2.0 * total(sent, 202)}'
    assert all(counted in page for page in pages)
    assert_kept(workspace, sent)


def test_a_certificate_makes_it_https(tmp_path: Path) -> None:
    settings = '[gateway]\ntls_certificate = "cert.pem"\ntls_key = "key.pem"\n'
    (tmp_path / "playhead.toml").write_text(settings)
    trusted = self_signed(tmp_path)
    with process(tmp_path) as gateway, httpx.Client(verify=trusted, timeout=20) as client:
        gateway.start()
        url = gateway.url.replace("http", "https")
        assert client.post(f"{url}/v1/events", json=[watch()]).json()["accepted"] == 1
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{gateway.url}/healthz", timeout=20)


def test_other_machines_are_served_with_keys_only(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys.json")
    local, open_to_all = Address("127.0.0.1", 1), Address("0.0.0.0", 1)  # noqa: S104
    check_address(local, ring)
    with pytest.raises(SettingError, match="no key may write"):
        check_address(open_to_all, ring)
    ring.create("board", ["read"])
    with pytest.raises(SettingError):
        check_address(open_to_all, ring)
    ring.create("app", ["write"])
    check_address(open_to_all, ring)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("missing: a C compiler (cc, gcc or clang)")
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="log.db-wal", call="write", number=ENOSPC),
        Fault(path="log.db-wal", call="sync", number=EIO),
        Fault(path="log.db", call="any", number=EIO, after=3),
    ],
    ids=["full", "fsync", "io"],
)
def test_a_failing_disk_is_503_and_it_goes_on_afterwards(
    tmp_path: Path, shim: Path, fault: Fault
) -> None:
    """What is 503 may be sent again; what is 202 is there; and nobody restarts anything."""
    workspace = tmp_path / "w"
    workspace.mkdir()
    failing = tmp_path / "failing"
    environment = fault.environment(only_while=failing, log=tmp_path / "faults.log")
    with process(workspace) as gateway:
        gateway.start({**environment, "LD_PRELOAD": str(shim)})
        wait_ready(gateway.url)
        with clients(gateway.url, 4) as sent:
            wait(lambda: total(sent, 202) > 20)
            failing.touch()
            wait(lambda: total(sent, 503) > 5)
            wait(lambda: httpx.get(f"{gateway.url}/readyz", timeout=20).status_code == 503)
            failing.unlink()
            before = total(sent, 202)
            wait(lambda: total(sent, 202) > before + 20)
        assert gateway.end(signal.SIGTERM) == 0
    assert {status for client in sent for status in client.statuses} == {202, 503}
    assert_kept(workspace, sent)
