"""The clients against the real gateway: keys, clocks, rejected events, restarts, a browser."""

import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from test_tracker import BROWSER, FLAGS, PAGE, needs_browser

from gateway_events import log_of, rows, watch
from playhead.client import Producer, ProducerRefusedError, sending
from playhead.config import GatewaySettings
from playhead.gateway import serving
from playhead.keys import FILE, KeyRing
from recording_gateway import recording


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_LONGEST_PAUSE_S", 0.2)


def test_events_of_several_topics_arrive_with_their_digits(tmp_path: Path) -> None:
    _, key = KeyRing(tmp_path / FILE).create("app", ["write"])
    told: list[tuple[str, str]] = []
    with (
        serving(tmp_path) as gateway,
        Producer(
            gateway.url, key, on_rejected=lambda event, why: told.append((event["n"], why))
        ) as producer,
    ):
        for number in range(1_000):
            producer.send(watch(f"u{number % 7}", progress_percentage="12.5"))
        producer.send({"event_type": "cough", "n": 7})
        producer.send(
            {"event_type": "click", "user_id": "u1", "page": "/", "device_type": "Laptop"}
        )
        producer.flush(20)
        stats = producer.stats()
    assert (stats.acknowledged, stats.rejected) == (1_001, 1)
    assert told[0][0] == 7
    with log_of(tmp_path) as log:
        assert len({row["event_id"] for row in rows(log, "playback")}) == 1_000
        assert len(rows(log, "interaction")) == 1
        assert len(rows(log, "dead_letters")) == 1


def test_a_wrong_key_is_told_and_a_right_one_delivers_the_spool(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / FILE)
    _, reader = ring.create("reader", ["read"])
    _, writer = ring.create("writer", ["write"])
    with serving(tmp_path) as gateway:
        for key, status in ((None, 401), ("ph_0", 401), (reader, 403)):
            with Producer(gateway.url, key, spool=tmp_path / "spool") as producer:
                producer.send(watch())
                with pytest.raises(ProducerRefusedError) as refused:
                    producer.flush(10)
                assert refused.value.status == status
        with Producer(gateway.url, writer, spool=tmp_path / "spool") as producer:
            assert producer.stats().spooled == 3
            producer.flush(10)
    with log_of(tmp_path) as log:
        assert len(rows(log, "playback")) == 3


def test_the_gateways_clock_corrects_the_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = datetime.now() + timedelta(hours=5)  # noqa: DTZ005 - only the hours matter
    monkeypatch.setattr(sending.events, "now", lambda: f"{ahead.isoformat()}Z")
    with serving(tmp_path) as gateway, Producer(gateway.url) as producer:
        event = watch()
        true_time = datetime.fromisoformat(event["event_time"]).replace(tzinfo=None)
        producer.send({**event, "event_time": ahead})
        producer.flush(10)
    with log_of(tmp_path) as log:
        (row,) = rows(log, "playback")
    assert abs(row["event_time"] - true_time) < timedelta(seconds=10)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("limit", [{"max_events": 1_000}, {"max_body_mb": 1}])
def test_a_body_beyond_the_gateways_limits_is_halved(
    tmp_path: Path, limit: dict[str, int], compress: bool
) -> None:
    settings = GatewaySettings(**limit)
    size: Any = {"batch_events": 9_000, "batch_bytes": 9_000_000, "compress": compress}
    with (
        serving(tmp_path, settings=settings) as gateway,
        Producer(gateway.url, linger_ms=2_000, **size) as producer,
    ):
        for _ in range(6_000):
            producer.send(watch())
        producer.flush(30)
        assert producer.stats().acknowledged == 6_000
        assert producer.stats().retries < 20
    with log_of(tmp_path) as log:
        assert len({row["event_id"] for row in rows(log, "playback")}) == 6_000


def test_a_gateway_that_goes_and_comes_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    producer = Producer(nobody, spool=tmp_path / "spool")
    for _ in range(100):
        producer.send(watch())
    producer.close(0.3)
    with serving(tmp_path) as gateway, Producer(gateway.url, spool=tmp_path / "spool") as again:
        again.flush(10)
        assert again.stats().acknowledged == 100
    with log_of(tmp_path) as log:
        assert len({row["event_id"] for row in rows(log, "playback")}) == 100


@needs_browser
def test_a_browser_on_a_page_of_another_origin(tmp_path: Path) -> None:
    _, key = KeyRing(tmp_path / FILE).create("web", ["write"])
    with recording() as site, sync_playwright() as playwright:
        settings = GatewaySettings(cors_origins=(site.url,))
        with serving(tmp_path, settings=settings) as gateway:
            text = PAGE.format(url=gateway.url, video="").replace("ph_0_k", key)
            site.pages["/browse"] = ("text/html", text.encode())
            browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
            page = browser.new_page()
            page.goto(f"{site.url}/browse")
            page.click("#watch")
            page.wait_for_function("!Object.keys(localStorage).some(k => k.startsWith('ph:'))")
            # The last ones go out with the page, as a beacon.
            page.evaluate("playhead.track('click', {page: '/last'})")
            page.close(run_before_unload=True)
            browser.close()
        with log_of(tmp_path) as log:
            found = {row["event_id"]: row for row in rows(log, "interaction")}
            assert rows(log, "dead_letters") == []
    kinds = [(row["event_type"], row["page"]) for row in found.values()]
    assert {("page_view", "/browse"), ("click", "/browse"), ("click", "/last")} <= set(kinds)
