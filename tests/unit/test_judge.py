"""Judging beside the triggers: nothing waits for it, and one view's trouble is its own."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from layers import (
    SQL,
    T0,
    Running,
    SmallWorkspace,
    Watch,
    assert_merged_is_full,
    counted,
    send,
    workspace,
)
from playhead.clock import ManualClock
from playhead.errors import EngineError, LogFullError, QueryError
from playhead.speed.alerts import TOPIC
from playhead.speed.layer import SpeedConfig, SpeedLayer
from playhead.views import View

START = T0.replace(minute=40)
LATER = Watch(1000, minute=60, user=5)
Judge = Callable[[View, Sequence[datetime]], pa.Table]

FAILING = """
    SELECT TIME_BUCKET(INTERVAL '5 minutes', event_time) AS window_start,
        SUM(CAST(device_type AS INTEGER)) AS devices, 'HIGH' AS alert_level
    FROM playback GROUP BY ALL
"""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1))


@pytest.fixture
def opened(tmp_path: Path, clock: ManualClock) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path / "w", "counts", "windows", clock=clock)
    yield made
    made.close()


def busy(count: int, *, start: int = 0) -> list[Watch]:
    """So many events of one device in one window; three make an alert."""
    return [Watch(start + i, 0, user=0) for i in range(count)]


@contextmanager
def layer_with(opened: SmallWorkspace, judge: Judge, **config: Any) -> Iterator[SpeedLayer]:
    with opened._connect() as connection:
        layer = SpeedLayer(
            opened.log, opened.state, opened.lake, opened.views, connection, opened.clock,
            judge=judge, config=SpeedConfig(**config),
        )  # fmt: skip
        layer.start()
        yield layer


def published(opened: SmallWorkspace) -> list[dict[str, Any]]:
    return opened.log.read(TOPIC, 0, 0).to_pylist()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def test_events_that_come_while_a_window_is_judged_are_judged_later(
    opened: SmallWorkspace,
) -> None:
    late = [busy(1, start=9), busy(1, start=10)]

    def judge(view: View, windows: Sequence[datetime]) -> pa.Table:
        answer = opened._judge(view, windows)
        if late:
            send(opened, late.pop())
            layer.step()
        return answer

    with layer_with(opened, judge) as layer:
        send(opened, [*busy(3), LATER])
        layer.step()
        assert [layer.judge() for _ in range(4)] == [1, 1, 1, 0]
    said = [(event["revision"], event["detail"]) for event in published(opened)]
    assert said == [(0, '{"events": 3}'), (1, '{"events": 4}'), (2, '{"events": 5}')]
    assert_merged_is_full(opened)


def test_a_view_that_fails_leaves_the_others_their_alerts(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    opened = workspace(tmp_path / "w", clock=clock)
    texts = {"failing": FAILING, "windows": SQL["windows"]}
    opened.__dict__["views"] = {name: View.parse(name, sql) for name, sql in texts.items()}
    with Running(opened) as layer:
        send(opened, [*busy(3), LATER])
        assert layer.step().failing == ()
        assert layer.judge() == 1
        (failure,) = layer.failing
        assert (failure.view, failure.times) == ("failing", 1)
        assert "INT" in failure.message
        send(opened, [Watch(1001, minute=61, user=5)])
        assert layer.step().failing == ("failing",)
    assert caplog.text.count("cannot be judged") == 1
    assert [event["view"] for event in published(opened)] == ["windows"]
    assert [window[1] for window in opened.state.windows("failing")] == ["open", "open"]
    opened.close()


@pytest.mark.parametrize("error", [QueryError("no"), EngineError("no")])
def test_what_failed_is_tried_again_after_a_pause(
    opened: SmallWorkspace,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    caplog.set_level(logging.INFO)
    errors: list[Exception] = [error] * 9
    tries = 0

    def judge(view: View, windows: Sequence[datetime]) -> pa.Table:
        nonlocal tries
        tries += 1
        if errors:
            raise errors.pop()
        return opened._judge(view, windows)

    with layer_with(opened, judge) as layer:
        send(opened, [*busy(3), LATER])
        layer.step()
        passed = 0
        while layer.judge() == 0:
            clock.advance(timedelta(seconds=1))
            passed += 1
        # After 1, 2, 4, 8, 16, 32, 60, 60, 60 seconds.
        assert (passed, tries) == (243, 10)
        assert layer.failing == ()
    assert caplog.text.count("cannot be judged") == 1
    assert "judged again" in caplog.text
    assert len(published(opened)) == 1


def test_a_view_that_is_gone_no_longer_fails(opened: SmallWorkspace) -> None:
    def judge(view: View, windows: Sequence[datetime]) -> pa.Table:
        raise QueryError("no")

    with layer_with(opened, judge) as layer:
        send(opened, [*busy(3), LATER])
        layer.step()
        layer.judge()
        assert layer.failing
        layer._changed_views = dict
        layer.refresh()
        layer.judge()
        assert layer.failing == ()


def test_triggers_go_on_while_a_window_is_judged(opened: SmallWorkspace) -> None:
    begun, go_on, stop = threading.Event(), threading.Event(), threading.Event()

    def judge(view: View, windows: Sequence[datetime]) -> pa.Table:
        begun.set()
        assert go_on.wait(30)
        return opened._judge(view, windows)

    pace = {"trigger": timedelta(milliseconds=5), "judge_every": timedelta()}
    with layer_with(opened, judge, **pace) as layer:
        running = threading.Thread(target=layer.run, args=(stop,))
        running.start()
        send(opened, [*busy(3), LATER])
        assert begun.wait(20)
        send(opened, [Watch(2000 + i, minute=60) for i in range(10)])
        wait_until(lambda: counted(opened) == 14)
        assert published(opened) == []
        go_on.set()
        wait_until(lambda: len(published(opened)) == 1)
        stop.set()
        running.join()
    assert_merged_is_full(opened)


def test_what_is_no_views_trouble_ends_the_layer(opened: SmallWorkspace) -> None:
    def judge(view: View, windows: Sequence[datetime]) -> pa.Table:
        raise LogFullError("no space left")

    pace = {"trigger": timedelta(milliseconds=5), "judge_every": timedelta()}
    with layer_with(opened, judge, **pace) as layer:
        send(opened, [*busy(3), LATER])
        with pytest.raises(LogFullError):
            layer.run(threading.Event())
    with Running(opened) as layer:
        assert layer.judge() == 1
