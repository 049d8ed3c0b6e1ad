"""The flow's figures are those of the events that were sent."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from layers import (
    T0,
    Running,
    SmallWorkspace,
    load,
    load_dimensions,
    searches,
    send,
    watches,
    workspace,
)
from letters import Dead, post
from playhead.clock import ManualClock
from playhead.ops.flow import NODES, Flow, FlowMeter, TopicFlow, measure_flow
from playhead.ops.latest import Latest
from playhead.ops.rates import Track
from playhead.samples import ACCEPTED, DUPLICATES, EVENTS, REJECTED


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    clock = ManualClock(T0 + timedelta(days=1))
    with workspace(tmp_path / "w", "counts", "countries", clock=clock) as made:
        yield made


def wait(opened: SmallWorkspace, seconds: float) -> None:
    opened.clock.advance(timedelta(seconds=seconds))  # type: ignore[attr-defined]


def topic(flow: Flow, name: str = "playback") -> TopicFlow:
    return next(one for one in flow.topics if one.topic == name)


def arrow(flow: Flow, source: str, target: str) -> float | None:
    (found,) = (a for a in flow.arrows if (a.source, a.target) == (source, target))
    return found.events_per_s


def test_an_empty_workspace_flows_nowhere(opened: SmallWorkspace) -> None:
    flow = measure_flow(opened)
    assert {a.source for a in flow.arrows} | {a.target for a in flow.arrows} == set(NODES)
    assert flow.accepted_per_s == flow.rejected_per_s == flow.lag_events == flow.lag_s == 0
    assert flow.log.events == 0
    assert flow.log.oldest is None
    assert (flow.epochs.open, flow.epochs.sealed, flow.epochs.sealing) == (1, 0, ())
    assert all(view.batch_epoch == view.speed_rows == view.batch_rows == 0 for view in flow.views)
    assert [view.view for view in flow.views] == ["counts", "countries"]
    assert all(view.ready for view in flow.views)


def test_rates_are_differences_between_two_looks(opened: SmallWorkspace) -> None:
    load_dimensions(opened)
    with FlowMeter(opened) as meter, Running(opened) as layer:
        send(opened, watches(30))
        meter.measure()
        wait(opened, 5)
        send(opened, [*watches(50, start=30), *watches(10)])
        post(opened, [Dead(1), Dead(2)])
        while layer.step().events:
            pass
        send(opened, watches(7, start=80))
        opened.log.append("search", searches(range(3)))
        wait(opened, 3)
        flow = meter.measure()
    playback = topic(flow)
    assert playback.in_per_s == pytest.approx(67 / 8)
    assert playback.read_per_s == pytest.approx(90 / 8)
    assert flow.accepted_per_s == pytest.approx(70 / 8)
    assert flow.rejected_per_s == pytest.approx(2 / 8)
    assert arrow(flow, "gateway", "event log") == pytest.approx(72 / 8)
    assert arrow(flow, "event log", "speed layer") == pytest.approx(92 / 8)
    assert arrow(flow, "speed layer", "lake") is None
    assert (playback.lag_events, playback.lag_s) == (7, 3)
    assert (flow.lag_events, flow.lag_s) == (10, 3)
    assert (playback.held, playback.appended, playback.counted) == (97, 97, 80)
    assert (playback.duplicates, playback.late) == (10, 0)
    assert playback.newest == T0 + timedelta(minutes=49)
    assert playback.watermark == T0 + timedelta(minutes=39)
    assert flow.epochs.open_events == 92
    assert flow.log.events == 102
    assert flow.log.oldest == T0 + timedelta(days=1)
    assert flow.log.bytes
    assert flow.speed_bytes > 0


def test_before_a_second_look_the_last_minute_tells(opened: SmallWorkspace) -> None:
    samples = opened.samples
    for name, count in ((ACCEPTED, 120), (EVENTS, 60), (DUPLICATES, 30)):
        samples.counter(name, topic="playback").add(count)
    samples.counter(REJECTED, reason="type").add(6)
    wait(opened, 60)
    samples.counter(ACCEPTED, topic="playback").add(1_000_000)
    samples.flush()
    flow = measure_flow(opened)
    assert topic(flow).in_per_s == flow.accepted_per_s == pytest.approx(2)
    assert topic(flow).read_per_s == pytest.approx(1.5)
    assert flow.rejected_per_s == pytest.approx(0.1)
    assert flow.arrows[0].over_s == 60


def test_epochs_and_coverage_move_on(opened: SmallWorkspace) -> None:
    load_dimensions(opened)
    load(opened, watches(40))
    send(opened, watches(20, start=40))
    opened.speed(drain=True)
    flow = measure_flow(opened)
    assert (flow.epochs.open, flow.epochs.sealed, flow.epochs.uncovered_events) == (2, 1, 20)
    assert flow.epochs.sealed_at is not None
    counts = flow.views[0]
    assert not counts.ready
    assert "load 1" in counts.reason
    assert counts.hint
    assert counts.coverage == ()
    assert counts.speed_rows == 20
    opened.batch()
    with Running(opened) as layer:
        send(opened, watches(5, start=60))
        layer.step()
        flow = measure_flow(opened)
    counts = flow.views[0]
    assert counts.ready
    assert (counts.batch_epoch, counts.batch_load, counts.speed_epochs) == (1, 1, (2,))
    assert counts.batch_rows > 0
    assert counts.batch_files > 0
    assert counts.batch_bytes > 0
    assert counts.built_at is not None
    assert counts.speed_rows == 5
    assert flow.epochs.uncovered_events == 0
    assert flow.epochs.open_events == 5
    assert flow.storage is not None
    assert flow.storage.groups["raw"].rows == 60


def test_the_lake_takes_in_what_was_sealed(opened: SmallWorkspace) -> None:
    load_dimensions(opened)
    with FlowMeter(opened) as meter:
        opened.speed(drain=True)
        meter.measure()
        send(opened, watches(120))
        opened.speed(drain=True)
        wait(opened, opened.settings.speed.seal_seconds)
        flow = meter.measure()
    seconds = opened.settings.speed.seal_seconds
    assert arrow(flow, "speed layer", "lake") == pytest.approx(120 / seconds)


def test_a_damaged_table_leaves_the_rest(opened: SmallWorkspace) -> None:
    load_dimensions(opened)
    load(opened, watches(10))
    opened.batch()
    (metadata,) = (opened.path / "lake").glob("warehouse/state/counts*/metadata")
    for file in metadata.glob("*.json"):
        file.write_text("{")
    opened.close()
    flow = measure_flow(opened)
    counts, countries = flow.views
    assert not counts.ready
    assert counts.reason
    assert counts.batch_rows == 0
    assert countries.ready
    assert flow.storage is not None
    broken = [one.name for one in flow.storage.tables if one.problem]
    assert [name.split("_")[0] for name in broken] == ["state.counts"]


def test_a_look_is_given_again_for_a_moment(opened: SmallWorkspace) -> None:
    with FlowMeter(opened) as meter:
        first = meter.measure()
        wait(opened, 0.4)
        assert meter.measure() is first
        wait(opened, 0.2)
        assert meter.measure() is not first


def test_who_asks_meanwhile_gets_the_last_one() -> None:
    clock = ManualClock(T0)
    latest = Latest[str](1.0, clock.monotonic)
    begun, may_end = threading.Event(), threading.Event()
    assert latest.get(lambda: "first") == "first"
    clock.advance(timedelta(seconds=2))

    def slow() -> str:
        begun.set()
        may_end.wait(30)
        return "second"

    got: list[str] = []
    other = threading.Thread(target=lambda: got.append(latest.get(slow)))
    other.start()
    assert begun.wait(30)
    assert latest.get(lambda: "third") == "first"
    may_end.set()
    other.join()
    assert got == ["second"]
    assert latest.get(lambda: "fourth") == "second"
    latest.forget()
    assert latest.get(lambda: "fifth") == "fifth"


def test_what_fails_is_tried_again() -> None:
    latest = Latest[int](0.0, lambda: 0.0)
    with pytest.raises(ZeroDivisionError):
        latest.get(lambda: 1 // 0)
    assert latest.get(lambda: 1) == 1


def test_a_track_looks_back_about_a_window() -> None:
    track = Track(10.0)
    assert track.add(0, {"a": 0}) is None
    assert track.add(0.2, {"a": 5}) is None
    for second in range(1, 40):
        growth = track.add(second, {"a": 100 * second if second < 30 else 0})
        assert growth is not None
        assert growth.over_s <= 11
        assert growth.per_s["a"] == pytest.approx(100 if second < 30 else 0)
    assert track.add(70, {"a": 0}) is None, "what was seen long ago says nothing of now"
