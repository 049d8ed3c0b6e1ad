"""Dashboards as browsers see them, on a workspace with a history of --sessions sessions.

page    from the navigation until the first chart is drawn, in a cold Chromium; median of --looks
history the same for History with filters, periods and comparisons, until every card is drawn
crowd   --browsers of them on Live, without and with --rate events/s: how long an event takes from
        its POST until a browser is told, what the process of the dashboards takes of a core

The browsers of the crowd are their sockets alone: what a page is sent, and nothing drawn.
"""

import argparse
import ast
import asyncio
import json
import os
import re
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import psutil
import socketio

from benchmarks.crowd import EVENTS, Crowd, Pace, Pool
from benchmarks.measure import Figure, show
from benchmarks.workload import Audience
from playhead.assemble import Workspace
from playhead.platform.control import bring_down, platform_status, start_detached
from playhead.testing.generate import GenerateSpec, generate

START, STOP = timedelta(seconds=180), timedelta(seconds=30)
WARM_S = 15.0
MARKS, MARK_EVERY_S = 20, 1.0
_MOST_USERS = 1_000_000
_PAGES = ("/live", "/history", "/platform")
_HISTORY = (
    "/history",
    "/history?country=USA",
    "/history?plan=Premium&genre=Drama",
    "/history?last=12mo&compare=before",
    "/history?since=2025-03-01&until=2025-04-01",
)
_DRAWN = """
new MutationObserver(() => {
  if (%s) { window.drawnAt ??= performance.now(); }
}).observe(document, {childList: true, subtree: true});
"""
_FIRST_DRAWN = _DRAWN % "document.querySelector('canvas')"
_ALL_DRAWN = _DRAWN % "document.querySelector('.card') && !document.querySelector('.skeleton')"
_SO_FAR = re.compile(r"(\d\d:\d\d) so far: ([\d,]+)$")


class Site:
    """A running platform."""

    def __init__(self, path: Path, urls: Mapping[str, str]) -> None:
        self.path, self.url = path, urls["dashboard"]
        self.gateway = urls["gateway"]
        self.marks: dict[str, int] = {}
        self.crowd = Crowd(urlsplit(self.gateway).netloc, Pool(Audience.numbered(100_000, 1_000)))

    def cpu_s(self) -> float:
        """Seconds of a core that the process of the dashboards took so far."""
        (part,) = (p for p in platform_status(self.path).parts if p.name == "dashboard")
        used = psutil.Process(part.pid).cpu_times()
        return float(used.user + used.system)

    def mark(self, number: int, at: datetime) -> None:
        """Send one event of a time of its own."""
        event = {
            "event_id": f"mark-{at:%H%M%S}-{number}", "event_type": "watch", "user_id": "u1",
            "session_id": "s", "event_time": at.isoformat(), "device_type": "Mobile",
            "movie_id": "m1", "action": "started", "quality": "HD",
        }  # fmt: skip
        headers = {"Content-Type": "application/json"}
        body = json.dumps([event]).encode()
        request = urllib.request.Request(f"{self.gateway}/v1/events", body, headers)  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            answer.read()


def make_history(path: Path, sessions: int) -> None:
    """A workspace with so many sessions in its batch layer."""
    users = min(max(2_000, sessions // 20), _MOST_USERS)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        data = Path(folder)
        generate(data, GenerateSpec(users=users, movies=1_000, sessions=sessions))
        with Workspace.create(path) as opened:
            opened.load(data)
            opened.batch()


@contextmanager
def running(path: Path) -> Iterator[Site]:
    """A platform over a history, warm."""
    for name in ("GATEWAY", "API", "DASHBOARD"):
        os.environ[f"PLAYHEAD_{name}_ADDRESS"] = "127.0.0.1:0"
    try:
        site = Site(path, start_detached(path, START).urls or {})
        asyncio.run(site.crowd.send(Pace(bodies=10, connections=1)))
        # The first run of the batch layer makes the answers that history pages begin with.
        time.sleep(WARM_S)
        yield site
    finally:
        bring_down(path, STOP)


# -- pages ---------------------------------------------------------------------------------


def measure_pages(site: Site, looks: int) -> list[Figure]:
    """How long until each page has drawn its first chart, in a browser that knows nothing yet."""
    figures = []
    for page in _PAGES:
        took = [_look(f"{site.url}{page}", _FIRST_DRAWN) for _ in range(looks)]
        figures.append(_figure(f"first chart of {page}", took))
    return figures


def measure_history(site: Site, looks: int) -> list[Figure]:
    """How long until every card of History is drawn, by what is asked for.

    The first look at each address is the first of anybody since the platform has started.
    """
    figures = []
    for address in _HISTORY:
        first, *others = [_look(f"{site.url}{address}", _ALL_DRAWN) for _ in range(looks + 1)]
        figures.append(_figure(f"all of {address}", others, f"the first time {first:.2f} s; "))
    return figures


def _look(url: str, script: str) -> float:
    """Seconds from the navigation until the script notes the time, in a browser of its own."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        shown = started.new_page(viewport={"width": 1280, "height": 900})
        shown.add_init_script(script)
        shown.goto(url, wait_until="commit")
        shown.wait_for_function("window.drawnAt !== undefined", timeout=300_000)
        took = float(shown.evaluate("window.drawnAt"))
        started.close()
        return took / 1000


def _figure(part: str, took: list[float], note: str = "") -> Figure:
    note += f"{min(took):.2f} to {max(took):.2f} s"
    return Figure(part, 1, statistics.median(took), note=note)


# -- a crowd -------------------------------------------------------------------------------


class Browser:
    """The socket of a page: notes when it was told of how many sessions of which window."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = socketio.AsyncClient(reconnection=False)
        self._client.on("update", self._update)
        self._next = 0
        self.updates = 0
        self.told: dict[tuple[str, int], float] = {}

    async def open(self) -> None:
        """Load the page and take what it is sent."""
        loop = asyncio.get_running_loop()
        page = await loop.run_in_executor(None, _page, f"{self._url}/live")
        query = ast.literal_eval(re.search(r"query: (\{.*?\}),\n", page)[1])  # type: ignore[index]
        self._id = query["client_id"]
        told = {"document_id": os.urandom(8).hex(), "tab_id": os.urandom(8).hex()}
        told["implicit_handshake"] = "true"
        address = f"{self._url}?{urlencode(query | told)}"
        path = "/_nicegui_ws/socket.io"
        await self._client.connect(address, socketio_path=path, transports=["websocket"])

    async def close(self) -> None:
        await self._client.disconnect()

    async def _update(self, data: dict[str, Any]) -> None:
        at = time.perf_counter()
        self.updates += 1
        number = data.pop("_id", None)
        for element in data.values():
            text = element.get("text") if isinstance(element, dict) else None
            if text and (found := _SO_FAR.search(text)):
                self.told.setdefault((found[1], int(found[2].replace(",", ""))), at)
        if number is not None and number % 20 == 0:
            await self._client.emit("ack", {"client_id": self._id, "next_message_id": number + 1})


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
        return str(answer.read().decode())


async def measure_crowd(site: Site, browsers: int, rate: int) -> Figure:
    """So many browsers while so many events a second come."""
    opened = [Browser(site.url) for _ in range(browsers)]
    for browser in opened:
        await browser.open()
    sending = threading.Thread(target=_send, args=(site, rate))
    sending.start()
    await asyncio.sleep(WARM_S)
    cpu_s, began, updates = site.cpu_s(), time.perf_counter(), sum(b.updates for b in opened)
    latencies, missed = await _latencies(site, opened)
    seconds = time.perf_counter() - began
    share = (site.cpu_s() - cpu_s) / seconds
    updates = sum(b.updates for b in opened) - updates
    sending.join()
    for browser in opened:
        await browser.close()
    found = np.array(latencies or [np.nan])
    note = (
        f"told after {np.median(found):.2f} s, p99 {np.quantile(found, 0.99):.2f} s; "
        f"{missed} of {browsers * MARKS} not told singly; {share * 100:.0f} % of a core"
    )
    return Figure(f"{browsers} browsers, {rate:,} events/s", updates, seconds, note=note)


def _send(site: Site, rate: int) -> None:
    if rate:
        pace = Pace(seconds=WARM_S + MARKS * MARK_EVERY_S + 3, per_second=rate / EVENTS,
                    connections=8)  # fmt: skip
        asyncio.run(site.crowd.send(pace))


async def _latencies(site: Site, browsers: list[Browser]) -> tuple[list[float], int]:
    """From the POST of single events until each browser is told, and how often it never was.

    The events are of a window that no other event falls into, so that their number tells them
    apart; a browser that is told of two at once is not told of the first one singly.
    """
    loop, now = asyncio.get_running_loop(), datetime.now(UTC)
    at = now + timedelta(seconds=295)
    window = f"{at - timedelta(minutes=at.minute % 5):%H:%M}"
    sent: list[float] = []
    before = site.marks.get(window, 0)
    site.marks[window] = before + MARKS
    for number in range(MARKS):
        begun = time.perf_counter()
        await loop.run_in_executor(None, site.mark, before + number, at)
        sent.append(begun)
        await asyncio.sleep(max(0.0, MARK_EVERY_S - (time.perf_counter() - begun)))
    await asyncio.sleep(2.0)
    found, missed = [], 0
    for browser in browsers:
        for number, begun in enumerate(sent, before + 1):
            if (told := browser.told.get((window, number))) is not None:
                found.append(told - begun)
            else:
                missed += 1
    return found, missed


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="page,history,crowd")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="of the history")
    parser.add_argument("--workspace", type=Path, help="kept there; made if it is not there")
    parser.add_argument("--looks", type=int, default=7, help="at each page")
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--rate", type=int, default=20_000, help="events/s")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = options.workspace or Path(folder) / "w"
        if not path.exists():
            make_history(path, options.sessions)
        with running(path) as site:
            _measure(site, options)


def _measure(site: Site, options: argparse.Namespace) -> None:
    as_json = options.format == "json"
    if "page" in options.parts:
        show("dashboards: pages", measure_pages(site, options.looks), as_json=as_json)
    if "history" in options.parts:
        show("dashboards: history", measure_history(site, options.looks), as_json=as_json)
    if "crowd" in options.parts:
        many, rate = options.browsers, options.rate
        cases = ((1, 0), (many, 0), (1, rate), (many, rate))
        figures = [asyncio.run(measure_crowd(site, *case)) for case in cases]
        show("dashboards: crowd", figures, as_json=as_json)


if __name__ == "__main__":
    main()
