"""The client's parts: imports, events as JSON, addresses, pauses, the queue in memory."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import playhead.client
from playhead.client import EventError, Producer, ProducerError, events, sending
from playhead.client.sending import Endpoint
from playhead.client.waiting import Memory

HEAVY = ("pyarrow", "duckdb", "msgspec", "numpy", "typer", "sqlglot", "pyiceberg", "asyncio")

_IMPORT = f"""
import sys, time
started = time.process_time()
import playhead.client
took_s = time.process_time() - started
print(took_s, *[name for name in {HEAVY!r} if name in sys.modules])
"""


def _imported() -> tuple[float, list[str]]:
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True)
    took_s, *heavy = done.stdout.decode().split()
    return float(took_s), heavy


def test_importing_it_is_quick_and_brings_nothing_heavy() -> None:
    measured = [_imported() for _ in range(5)]
    assert all(not heavy for _, heavy in measured)
    assert min(took_s for took_s, _ in measured) < 0.1


def test_what_it_exports_is_there() -> None:
    for name in playhead.client.__all__:
        assert getattr(playhead.client, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = playhead.client.nothing


def test_every_option_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
    for option in playhead.client.ProducerOptions.__annotations__:
        assert f"`{option}`" in page
        assert f"{option}: " in (playhead.client.ProducerOptions.__doc__ or "")


# -- events ------------------------------------------------------------------------------


def _read(event: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(events.written(event))
    return read


def test_an_event_gets_an_id_and_a_time() -> None:
    before = datetime.now(UTC)
    event = {"event_type": "click", "event_id": None}
    read = _read(event)
    assert before <= datetime.fromisoformat(read["event_time"]) <= datetime.now(UTC)
    assert len(read["event_id"]) == 32
    assert event == {"event_type": "click", "event_id": None}
    assert _read({"event_id": "a", "event_time": "b"}) == {"event_id": "a", "event_time": "b"}


def test_ids_are_unique_and_ordered_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({events.new_id() for _ in range(10_000)}) == 10_000
    made = []
    for ms in (1, 2, 1_000, 2_000_000_000_000):
        monkeypatch.setattr(events.time, "time_ns", lambda ms=ms: ms * 1_000_000)
        made.append(events.new_id())
    assert made == sorted(made)


def test_values_keep_their_digits_and_zones() -> None:
    zone = timezone(timedelta(hours=2))
    read = _read(
        {
            "a": Decimal("0.10"),
            "b": datetime(2026, 1, 2, 3, 4, 5, 678, zone),
            "c": date(2026, 1, 2),
            "d": UUID(int=7),
            "e": "é\ud800",
            "f": None,
            "g": True,
        }
    )
    assert (read["a"], read["c"], read["f"], read["g"]) == ("0.10", "2026-01-02", None, True)
    assert read["b"] == "2026-01-02T03:04:05.000678+02:00"
    assert read["d"] == str(UUID(int=7))
    assert read["e"] == "é\ud800"


@pytest.mark.parametrize(
    "event", [{"a": float("nan")}, {"a": object()}, {"a": b"x"}, {(1, 2): 1}, ["a"], "a", None]
)
def test_what_has_no_form_in_json_is_refused(event: Any) -> None:
    with pytest.raises(EventError):
        events.written(event)


def test_a_cycle_and_deep_nesting_are_refused() -> None:
    cycle: dict[str, Any] = {}
    cycle["a"] = cycle
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for event in (cycle, deep):
        with pytest.raises(EventError):
            events.written(event)
    while deep:
        deep = deep["a"]


# -- addresses, answers, pauses ----------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:8600", Endpoint(False, "127.0.0.1", 8600, "/v1/events")),
        ("https://a.example/", Endpoint(True, "a.example", None, "/v1/events")),
        ("https://a.example/in/v1/events", Endpoint(True, "a.example", None, "/in/v1/events")),
        ("http://[::1]:1/x", Endpoint(False, "::1", 1, "/x/v1/events")),
    ],
)
def test_an_address_is_read(url: str, endpoint: Endpoint) -> None:
    assert Endpoint.of(url) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8600",
        "ftp://a",
        "http://",
        "http://a:b",
        "http://[",
        "http://a/b c",
        "http://a/é",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ProducerError, match="is no address"):
        Producer(url)


@pytest.mark.parametrize("key", ["ph_a b", "ph_\n_x", "ph_é", "\ud800"])
def test_a_key_that_http_cannot_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ProducerError, match="characters that no key has") as refused:
        Producer("http://127.0.0.1:1", key)
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    "option", ["batch_events", "batch_bytes", "spool_mb", "queue_events", "timeout_s"]
)
def test_sizes_are_above_zero(option: str) -> None:
    with pytest.raises(ProducerError, match="above 0"):
        Producer("http://127.0.0.1:1", **{option: 0})  # type: ignore[arg-type]


def test_retry_after_is_seconds_or_a_date() -> None:
    read = sending._seconds
    assert [read(text) for text in (None, "", "x", "7", " 7 ", "-1")] == [0, 0, 0, 7, 7, 0]
    assert 50 < read(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60
    assert read("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_pauses_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_share", lambda: 1.0)
    pauses = [sending.pause_s(failures) for failures in (1, 2, 3, 9, 10, 1_000_000)]
    assert pauses == [0.1, 0.2, 0.4, 25.6, 30.0, 30.0]
    assert sending.pause_s(1, 5.0) == 5.1
    assert sending.pause_s(1, 1e9) == 300.1


def test_pauses_are_spread_over_the_whole_time() -> None:
    pauses = [sending.pause_s(1) for _ in range(2_000)]
    assert 0 <= min(pauses) < 0.01
    assert 0.09 < max(pauses) < 0.1


# -- memory ------------------------------------------------------------------------------


def test_memory_is_bounded_by_events_and_bytes() -> None:
    waiting = Memory(2, 100)
    assert waiting.append(b"a" * 40)
    assert waiting.append(b"b" * 40)
    assert not waiting.append(b"c")
    waiting.drop(waiting.take(1, 1))
    assert not waiting.append(b"c" * 61)
    assert waiting.append(b"c" * 60)
    assert (waiting.events, waiting.size_bytes) == (2, 100)
    assert waiting.take(9, 100) == [b"b" * 40, b"c" * 60]
    assert waiting.take(9, 99) == [b"b" * 40]
    assert waiting.take(9, 1) == [b"b" * 40]
