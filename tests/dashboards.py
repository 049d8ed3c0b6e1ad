"""A running platform with known data and its dashboards, as a real browser sees them.

The fixtures are in tests/integration/dashboard/conftest.py; tests of pages stand beside it.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request

from gateway_events import watch
from playhead.assemble import Workspace
from playhead.platform import bring_down
from playhead.platform.control import start_detached
from playhead.testing.generate import GenerateSpec, generate

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu"]

SIZE = GenerateSpec(users=200, movies=60, sessions=2_500, days=120)
"""Of the history: sessions of 2023-10 to 2024-01, or so."""


@dataclass(frozen=True)
class Site:
    """A running platform.

    Attributes:
        url: of the dashboards; `gateway` and `api` likewise.
        headers: with which its gateway and its API are asked.
    """

    workspace: Path
    url: str
    gateway: str
    api: str
    headers: Mapping[str, str]

    def send(self, *events: Mapping[str, Any]) -> dict[str, Any]:
        """Post events to the gateway; its answer."""
        return self._asked(f"{self.gateway}/v1/events", list(events))

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT, by the API."""
        rows: list[dict[str, Any]] = self._asked(f"{self.api}/v1/query", {"sql": sql})["rows"]
        return rows

    def rows(self, view: str, query: str = "") -> list[dict[str, Any]]:
        """The rows of a view, by the API."""
        found: list[dict[str, Any]] = self._asked(f"{self.api}/v1/views/{view}?{query}")["rows"]
        return found

    def _asked(self, url: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(url, data, headers)  # noqa: S310 - of our own
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def running(workspace: Path, headers: Mapping[str, str] | None = None) -> Iterator[Site]:
    """The whole platform of a workspace on free ports, stopped at the end."""
    free = {f"PLAYHEAD_{name}_ADDRESS": "127.0.0.1:0" for name in ("GATEWAY", "API", "DASHBOARD")}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**free, "PLAYHEAD_GATEWAY_WORKERS": "1"}.items():
                patch.setenv(name, value)
            urls = start_detached(workspace, timedelta(seconds=120)).urls or {}
        yield Site(workspace, urls["dashboard"], urls["gateway"], urls["api"], headers or {})
    finally:
        bring_down(workspace, timedelta(seconds=10))


def fill(workspace: Path, data: Path) -> None:
    """Make a workspace with four months of history in its batch layer."""
    generate(data, SIZE)
    with Workspace.create(workspace) as opened:
        opened.load(data)
        opened.batch()


def recent(count: int = 240, *, minutes: float = 60.0) -> list[dict[str, Any]]:
    """Events spread evenly over the time up to now, of many users, titles and devices.

    Every third is at risk: it stopped early, in SD.
    """
    devices, now = ("Mobile", "Laptop", "Smart TV", "Tablet"), datetime.now(UTC)
    events = []
    for n in range(count):
        is_at_risk = n % 3 == 0
        at = now - timedelta(minutes=minutes * (1 - (n + 1) / count))
        events.append(
            watch(
                f"user_{n % 150 + 1:05d}",
                event_time=at.isoformat(),
                watch_date=f"{at:%Y-%m-%d}",
                movie_id=f"movie_{n % 50 + 1:04d}",
                device_type=devices[n % 4],
                quality="SD" if is_at_risk else ("HD", "4K")[n % 2],
                progress_percentage=10 if is_at_risk else 80,
                watch_duration_minutes=12.5,
                action="stopped" if is_at_risk else "completed",
            )
        )
    return events


def card(page: Page, title: str) -> Any:
    """The card of a title."""
    return page.locator(f'section.card[aria-label="{title}"]')


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    """Seconds until a condition holds.

    Raises:
        AssertionError: it did not in time.
    """
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not come in time"
        time.sleep(0.05)
    return time.monotonic() - begun


@dataclass
class Told:
    """What a page has told its console, and which hosts it has asked."""

    errors: list[str]
    outside: list[str]

    def listen(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.outside.append(request.url)


@contextmanager
def alone(workspace: Path) -> Iterator[str]:
    """The dashboards of a workspace without any other part of its platform; their address."""
    listening = socket.create_server(("127.0.0.1", 0))
    command = [sys.executable, "-m", "playhead", "-w", str(workspace), "part", "dashboard"]
    process = subprocess.Popen(
        [*command, "--listen", str(listening.fileno())], pass_fds=[listening.fileno()]
    )
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        wait_until(lambda: _is_ready(url), 60)
        yield url
    finally:
        process.terminate()
        assert process.wait(20) == 0
        listening.close()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=60) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def sql_address(sql: str) -> str:
    """Where the SQL box asks a SELECT at once."""
    return f"/sql?sql={quote(sql)}"
