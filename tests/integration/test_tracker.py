"""The tracker in a real browser, against a gateway of another origin: nothing lost, no doubles."""

import base64
import json
import shutil
import struct
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import tracker_build
from playhead.contracts import TOPICS, Validator
from recording_gateway import RecordingGateway, lose_answer, recording, status

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]

needs_browser = pytest.mark.skipif(not BROWSER, reason="missing: a browser (chromium)")


def _silence(seconds: int) -> str:
    """A sound that a <video> plays: 8 kHz, one byte a sample."""
    data = b"\x80" * (8_000 * seconds)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8_000, 8_000, 1, 8)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    wav = struct.pack("<4sI", b"RIFF", len(body)) + body
    return f"data:audio/wav;base64,{base64.b64encode(wav).decode()}"


PAGE = """<!doctype html><title>Browse</title>
<style>body {{ height: 4000px; margin: 0 }}</style>
<button id="watch" data-ph="watch-now" data-movie="m7">Watch</button>
<button id="other">Other</button> <p id="text">text</p>
<video id="v" src="{video}"></video>
<script src="{url}/playhead.js"></script>
<script>
playhead.init({{ key: 'ph_0_k', user: 'u1', device: 'Laptop', wait: 30, pages: true, clicks: true,
  scroll: true, hover: true }})
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def gateway() -> Iterator[RecordingGateway]:
    with recording() as started:
        script = tracker_build.SHIPPED.read_bytes()
        started.pages["/playhead.js"] = ("text/javascript", script)
        yield started


@pytest.fixture
def site(gateway: RecordingGateway) -> Iterator[str]:
    """The address of the page, of another origin than the gateway."""
    with recording() as server:
        for seconds, path in ((3, "/browse"), (1, "/short")):
            text = PAGE.format(url=gateway.url, video=_silence(seconds))
            server.pages[path] = ("text/html", text.encode())
        yield server.url


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context()
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, site: str, gateway: RecordingGateway) -> Page:
    opened = context.new_page()
    opened.goto(f"{site}/browse")
    gateway.wait_for(1)
    return opened


def _track(page: Page, start: int, count: int) -> None:
    page.evaluate(
        "([a, n]) => { for (let i = a; i < a + n; i++) playhead.track('click', "
        "{page: '/t', element: 'e' + i}) }",
        [start, count],
    )


def _elements(gateway: RecordingGateway) -> Counter[str]:
    return Counter(e for e in gateway.values("element") if e and e[1:].isdigit())


def _waiting(page: Page) -> int:
    count: int = page.evaluate("Object.keys(localStorage).filter(k => k.startsWith('ph:')).length")
    return count


def _settle(page: Page) -> None:
    until = time.monotonic() + 15
    while _waiting(page):
        assert time.monotonic() < until, f"{_waiting(page)} events wait"
        page.wait_for_timeout(20)


def test_the_shipped_file_is_made_of_its_source_and_small() -> None:
    shipped = tracker_build.SHIPPED.read_bytes()
    command = "PYTHONPATH=tests python -m tracker_build"
    assert shipped.decode() == tracker_build.shipped(), f"run `{command}`"
    assert len(shipped) < tracker_build.MOST_BYTES
    assert shipped.isascii()


@needs_browser
def test_pages_clicks_hovers_and_scrolls(page: Page, gateway: RecordingGateway) -> None:
    page.click("#text")
    page.hover("#other")
    page.wait_for_timeout(600)
    page.click("#watch")
    page.mouse.wheel(0, 1_000)
    page.wait_for_function("scrollY > 500")
    page.evaluate("playhead.page('/title/m7', {movie_id: 'm7'})")
    gateway.wait_for(5)
    _settle(page)
    # The last two have ids of the same millisecond, so either may be sent first.
    events = sorted(gateway.kept.values(), key=lambda event: event["page"] != "/browse")
    kinds = [event["event_type"] for event in events]
    assert kinds == ["page_view", "hover", "click", "scroll", "page_view"]
    view, hover, click, scroll, second = events
    assert (view["page"], view["user_id"], view["device_type"]) == ("/browse", "u1", "Laptop")
    assert (hover["element"], hover["dwell_time_seconds"] >= 0.5) == ("other", True)
    assert (click["element"], click["movie_id"]) == ("watch-now", "m7")
    assert scroll["page"] == "/browse"
    assert 20 < scroll["scroll_depth_percentage"] < 100
    assert (second["page"], second["movie_id"]) == ("/title/m7", "m7")
    assert len({event["session_id"] for event in events}) == 1
    assert gateway.query("key") == {"ph_0_k"}
    assert all(at.endswith("Z") for at in gateway.query("sent_at"))
    assert {headers["Content-Type"] for headers, _ in gateway.requests} == {
        "text/plain;charset=UTF-8"
    }


@needs_browser
def test_a_player_from_play_to_complete(
    context: BrowserContext, site: str, gateway: RecordingGateway
) -> None:
    page = context.new_page()
    page.goto(f"{site}/browse")
    page.evaluate("void (window.off = playhead.player(v, {movie_id: 'm1', session_id: 's1'}, .4))")
    page.evaluate("v.play()")
    page.wait_for_timeout(700)
    page.evaluate("v.pause()")
    page.wait_for_timeout(100)
    page.evaluate("v.play()")
    page.wait_for_timeout(100)
    page.evaluate("v.currentTime = 2.5")
    page.wait_for_function("v.ended")
    page.evaluate("off()")
    _settle(page)
    beats = [event for event in gateway.kept.values() if event.get("movie_id") == "m1"]
    kinds = [event["event_type"] for event in beats]
    assert [kind for kind in kinds if kind != "play"] == ["pause", "resume", "seek", "complete"]
    assert kinds[0] == "play"
    assert kinds.count("play") >= 2
    assert [event["sequence"] for event in beats] == list(range(len(beats)))
    seek = beats[kinds.index("seek")]
    assert seek["from_position_seconds"] < 2 < seek["position_seconds"]
    assert {event["session_id"] for event in beats} == {"s1"}
    assert beats[-1]["position_seconds"] == beats[-1]["duration_seconds"] == 3
    _fits(gateway, "heartbeat", beats)


@needs_browser
def test_a_tab_closed_while_playing_says_stop(
    context: BrowserContext, page: Page, gateway: RecordingGateway
) -> None:
    page.evaluate("playhead.player(v, {movie_id: 'm1', session_id: 's1'}); v.play()")
    page.wait_for_function("v.currentTime > .2")
    page.close(run_before_unload=True)
    gateway.wait_for(4)
    beats = [event for event in gateway.kept.values() if event.get("movie_id") == "m1"]
    assert [event["event_type"] for event in beats] == ["play", "stop"]
    assert "scroll" in gateway.values("event_type")


@needs_browser
def test_what_a_browser_sends_fits_the_contracts(page: Page, gateway: RecordingGateway) -> None:
    page.hover("#other")
    page.wait_for_timeout(600)
    page.click("#watch")
    page.evaluate("playhead.page()")
    gateway.wait_for(5)
    _fits(gateway, "interaction", list(gateway.kept.values()))


def _fits(gateway: RecordingGateway, topic: str, events: list[dict[str, Any]]) -> None:
    table, rejected = Validator(TOPICS[topic]).decode_each(json.dumps(events).encode())
    assert not rejected
    assert table.num_rows == len(events)
    assert all(len(event_id) == 32 for event_id in gateway.kept)


@needs_browser
@pytest.mark.parametrize("how", ["closed", "left", "reloaded"])
def test_a_page_that_ends_at_once_loses_nothing(
    context: BrowserContext, page: Page, site: str, gateway: RecordingGateway, how: str
) -> None:
    _track(page, 0, 20)
    if how == "closed":
        page.close(run_before_unload=True)
        page = context.new_page()
    if how == "reloaded":
        page.reload()
    else:
        page.goto(f"{site}/short")
    _settle(page)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(20))


@needs_browser
def test_a_tab_closed_while_the_gateway_is_away(
    context: BrowserContext, page: Page, site: str, gateway: RecordingGateway
) -> None:
    _settle(page)
    gateway.stop()
    _track(page, 0, 30)
    page.wait_for_timeout(200)
    page.close(run_before_unload=True)
    gateway.start()
    page = context.new_page()
    page.goto(f"{site}/browse")
    _settle(page)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(30))


@needs_browser
def test_offline_then_online(
    context: BrowserContext, page: Page, gateway: RecordingGateway
) -> None:
    _settle(page)
    context.set_offline(True)
    _track(page, 0, 250)
    page.wait_for_timeout(300)
    assert not _elements(gateway)
    assert _waiting(page) == 250
    context.set_offline(False)
    _settle(page)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(250))


@needs_browser
def test_failures_are_sent_again_with_the_same_ids(page: Page, gateway: RecordingGateway) -> None:
    _settle(page)
    gateway.faults.extend([lose_answer, status(503), status(429), lose_answer])
    _track(page, 0, 10)
    _settle(page)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(10))
    assert len(gateway.came) > len(gateway.kept)


@needs_browser
def test_two_tabs_share_the_queue(
    context: BrowserContext, page: Page, site: str, gateway: RecordingGateway
) -> None:
    other = context.new_page()
    other.goto(f"{site}/browse")
    _track(page, 0, 40)
    _track(other, 40, 40)
    _settle(page)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(80))


@needs_browser
def test_a_tab_goes_on_after_another_sent_what_failed_in_it(
    page: Page, gateway: RecordingGateway
) -> None:
    _settle(page)
    gateway.faults.append(status(503))
    # What another tab does once it has sent an event of this one.
    page.evaluate(
        "removed = playhead.track('click', {page: '/gone'});"
        "addEventListener('unhandledrejection', () => 0);"
        "const ask = fetch; window.fetch = async (...a) => { const r = await ask(...a);"
        "  if (r.status == 503) Object.keys(localStorage).filter(k => k.startsWith('ph:'))"
        "    .forEach(k => delete localStorage[k]); return r }"
    )
    page.wait_for_function("!Object.keys(localStorage).some(k => k.startsWith('ph:'))")
    page.wait_for_timeout(1_200)
    _track(page, 0, 5)
    _settle(page)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(5))


@needs_browser
def test_init_may_be_called_again(page: Page, gateway: RecordingGateway) -> None:
    _settle(page)
    page.evaluate(
        "playhead.init({ key: 'ph_0_k', user: 'u2', device: 'TV', wait: 30, "
        f"url: '{gateway.url}', clicks: true }})"
    )
    page.click("#watch")
    page.click("#other")
    _settle(page)
    clicks = [event for event in gateway.kept.values() if event["event_type"] == "click"]
    assert [event["element"] for event in clicks] == ["watch-now", "other"]
    assert {event["user_id"] for event in clicks} == {"u2"}


@needs_browser
def test_the_queue_is_bounded_and_says_so(page: Page, gateway: RecordingGateway) -> None:
    _settle(page)
    gateway.stop()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    _track(page, 0, 1_005)
    page.evaluate("playhead.track('click', {page: 'x'.repeat(20000)})")
    assert _waiting(page) == 1_000
    assert sum("playhead: full" in text for text in told) == 6


@needs_browser
def test_without_storage_it_sends_from_memory(
    context: BrowserContext, site: str, gateway: RecordingGateway
) -> None:
    context.add_init_script(
        "for (const n of ['localStorage', 'sessionStorage'])"
        "  Object.defineProperty(window, n, { get() { throw new Error('blocked') } })"
    )
    page = context.new_page()
    page.goto(f"{site}/browse")
    _track(page, 0, 5)
    gateway.wait_for(6)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(5))


@needs_browser
def test_a_full_disk_goes_on_in_memory(page: Page, gateway: RecordingGateway) -> None:
    _settle(page)
    gateway.stop()
    _track(page, 0, 5)
    page.evaluate("localStorage.other = 'x'.repeat(5242880 - JSON.stringify(localStorage).length)")
    page.evaluate("try { for (;;) localStorage.other += 'x'.repeat(50) } catch {}")
    _track(page, 5, 5)
    gateway.start()
    gateway.wait_for(11)
    assert _elements(gateway) == Counter(f"e{number}" for number in range(10))
