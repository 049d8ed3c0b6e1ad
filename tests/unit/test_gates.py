"""The gates: what the gateway and the speed layer counted, against the limits."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from layers import T0, SmallWorkspace, load_dimensions, searches, send, watches, workspace
from playhead.clock import ManualClock
from playhead.ops.gates import SPANS, Gate, measure
from playhead.samples import (
    ACCEPTED,
    DUPLICATES,
    EVENTS,
    FOUND,
    FRESHNESS_MS,
    LOOKED_UP,
    REJECTED,
)

NAMES = [
    "schema conformance",
    "rejection rate",
    "duplicate rate",
    "enrichment coverage",
    "enrichment latency",
    "freshness",
    "consumer lag",
    "window completeness",
    "late events",
]


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    clock = ManualClock(T0 + timedelta(days=1))
    with workspace(tmp_path / "w", "windows", "countries", clock=clock) as made:
        yield made


def gates(opened: SmallWorkspace) -> dict[str, Gate]:
    opened.samples.flush()
    return {gate.name: gate for gate in measure(opened)}


def wait(opened: SmallWorkspace, **time: float) -> None:
    opened.clock.advance(timedelta(**time))  # type: ignore[attr-defined]


def test_before_anything_came_nothing_is_known(opened: SmallWorkspace) -> None:
    found = gates(opened)
    assert list(found) == NAMES
    for gate in found.values():
        assert gate.status == "unknown"
        assert gate.now.reason
        assert list(gate.values) == list(SPANS)
        assert gate.limit >= 0


def test_the_speed_layer_tells_what_it_did(opened: SmallWorkspace) -> None:
    load_dimensions(opened, users=5)
    send(opened, [*watches(70), *watches(30)])
    opened.log.append("search", searches(range(10)))
    opened.speed(drain=True)
    found = gates(opened)
    values = {name: gate.now.value for name, gate in found.items()}
    assert values["duplicate rate"] == pytest.approx(100 * 30 / 110)
    # Five of seven users have a row: of every event, repeats too, the user was looked up.
    known = sum(event.user < 5 for event in [*watches(70), *watches(30)])
    assert values["enrichment coverage"] == pytest.approx(known)
    assert values["enrichment latency"] is not None
    assert values["freshness"] == 0
    assert values["consumer lag"] == 0
    assert values["window completeness"] == 100
    assert values["late events"] == 0
    failing = {name for name, gate in found.items() if gate.status == "fail"}
    assert {"duplicate rate", "enrichment coverage"} <= failing
    assert "27.2727 %, and at most 0.01 are wanted" in found["duplicate rate"].now.reason
    assert found["schema conformance"].status == "unknown"


def test_late_events_are_told(opened: SmallWorkspace) -> None:
    send(opened, watches(90))
    opened.speed(drain=True)
    send(opened, watches(10, start=100))
    opened.speed(drain=True)
    found = gates(opened)
    assert found["late events"].now.value == pytest.approx(10)
    # The first ten minutes are two windows, final for long.
    assert found["window completeness"].now.value == pytest.approx(90)
    assert found["window completeness"].status == found["late events"].status == "fail"


def test_freshness_is_from_arrival_to_commit(opened: SmallWorkspace) -> None:
    send(opened, watches(50))
    wait(opened, seconds=3)
    opened.speed(drain=True)
    found = gates(opened)
    assert found["freshness"].now.value == pytest.approx(3000, rel=0.1)
    assert found["freshness"].status == "fail"
    assert found["consumer lag"].now.value == pytest.approx(3, rel=0.1)
    assert found["consumer lag"].status == "pass"


def test_what_waits_in_the_log_is_lag(opened: SmallWorkspace) -> None:
    send(opened, watches(50))
    opened.speed(drain=True)
    send(opened, watches(50, start=50))
    wait(opened, minutes=2)
    lag = gates(opened)["consumer lag"]
    assert [value.value for value in lag.values.values()] == [120, 120, 120]
    assert lag.status == "fail"


def test_the_gateway_tells_what_it_refused(opened: SmallWorkspace) -> None:
    opened.samples.counter(ACCEPTED, topic="playback").add(999_980)
    opened.samples.counter(REJECTED, reason="type").add(12)
    opened.samples.counter(REJECTED, reason="event_time").add(8)
    found = gates(opened)
    assert found["schema conformance"].now.value == pytest.approx(99.9988)
    assert found["schema conformance"].status == "pass"
    assert found["rejection rate"].now.value == pytest.approx(0.002)
    assert found["rejection rate"].status == "fail"


def test_each_stretch_of_time_has_its_own_value(opened: SmallWorkspace) -> None:
    for hours, repeats in ((5, 90), (0.5, 9), (0, 0)):
        opened.samples.counter(EVENTS, topic="playback").add(10)
        opened.samples.counter(DUPLICATES, topic="playback").add(repeats)
        wait(opened, hours=hours)
    gate = gates(opened)["duplicate rate"]
    values = {span: value.value for span, value in gate.values.items()}
    assert values == {
        "5 minutes": 0,
        "hour": pytest.approx(900 / 29),
        "day": pytest.approx(99 / 1.29),
    }
    assert gate.status == "pass"


def test_the_shortest_stretch_with_something_in_it_decides(opened: SmallWorkspace) -> None:
    opened.samples.observe(FRESHNESS_MS, 5000)
    wait(opened, minutes=30)
    gate = gates(opened)["freshness"]
    assert [value.status for value in gate.values.values()] == ["unknown", "fail", "fail"]
    assert gate.status == "fail"


def test_limits_are_settings(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "counts") as opened:
        (opened.path / "playhead.toml").write_text("[gates]\nmax_freshness_ms = 9000\n")
    with workspace(tmp_path / "w", "counts") as opened:
        opened.samples.observe(FRESHNESS_MS, 5000)
        gate = gates(opened)["freshness"]
    assert (gate.limit, gate.comparator, gate.unit, gate.status) == (9000, "<=", "ms", "pass")


def test_what_is_made_of_events_need_not_know_every_key(opened: SmallWorkspace) -> None:
    for dimension, found in (("users", 100), ("movies", 98), ("pair_ratings", 3)):
        opened.samples.counter(LOOKED_UP, dimension=dimension).add(100)
        opened.samples.counter(FOUND, dimension=dimension).add(found)
    assert gates(opened)["enrichment coverage"].now.value == pytest.approx(99)
