"""Alerts: each said once, said again when it changes, whatever dies in between."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from layers import T0, Running, SmallWorkspace, Watch, load, rows, send, watches, workspace
from playhead.errors import LogFullError
from playhead.speed.alerts import TOPIC
from playhead.speed.state import StateStore

START = T0.replace(minute=40)
LATER = Watch(1000, minute=60, user=5)
"""An event an hour on: the windows before it are final."""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path / "w", "windows")
    yield made
    made.close()


def busy(count: int, *, start: int = 0, minute: float = 0) -> list[Watch]:
    """So many events of one device in one window; three make an alert."""
    return [Watch(start + i, minute, user=0) for i in range(count)]


def run(opened: SmallWorkspace, *batches: list[Watch]) -> int:
    """Take in each batch and judge after it; how many alerts were raised in all."""
    running = Running(opened)
    with running as layer:
        raised = 0
        for events in batches:
            send(opened, events)
            running.catch_up()
            raised += layer.judge()
    return raised


def published(opened: SmallWorkspace) -> list[dict[str, Any]]:
    return opened.log.read(TOPIC, 0, 0).to_pylist()


def test_a_final_window_raises_its_alert_once(opened: SmallWorkspace) -> None:
    assert run(opened, busy(3), [LATER], [Watch(1001, minute=61)], []) == 1
    (alert,) = opened.state.alerts()
    assert (alert.view, alert.level, alert.revision) == ("windows", "HIGH", 0)
    assert (alert.window_start, alert.window_end) == (START, START + timedelta(minutes=5))
    assert json.loads(alert.keys) == {"device_type": "Desktop"}
    assert json.loads(alert.detail) == {"events": 3}
    (event,) = published(opened)
    assert event["event_id"] == f"{alert.alert_id}-0"
    assert event["level"] == "HIGH"
    assert rows(opened, "SELECT alert_id, level FROM alerts") == [
        {"alert_id": alert.alert_id, "level": "HIGH"}
    ]


def test_an_open_window_says_nothing(opened: SmallWorkspace) -> None:
    # The watermark is ten minutes behind: fifteen minutes on, the window has just ended.
    assert run(opened, busy(3), [Watch(50, minute=14.99, user=5)]) == 0
    assert run(opened, [Watch(51, minute=15, user=5)]) == 1


def test_a_quiet_window_says_nothing(opened: SmallWorkspace) -> None:
    assert run(opened, busy(2), [LATER]) == 0
    assert published(opened) == []


def test_a_late_event_revises_what_was_said(opened: SmallWorkspace) -> None:
    assert run(opened, busy(3), [LATER], busy(1, start=9)) == 2
    assert [(a.revision, json.loads(a.detail)["events"]) for a in opened.state.alerts()] == [
        (0, 3),
        (1, 4),
    ]
    assert [event["revision"] for event in published(opened)] == [0, 1]
    windows = opened.view("windows").windows().to_pylist()
    revised = windows[0]
    assert revised["window_start"] == START
    assert (revised["revision"], revised["late_events"]) == (1, 1)
    assert [w["is_final"] for w in windows] == [True, False]


def test_a_late_event_elsewhere_repeats_nothing(opened: SmallWorkspace) -> None:
    assert run(opened, busy(3), [LATER], [Watch(9, 0, user=1)]) == 1
    # The window was revised, but its alert says what it said.
    assert opened.view("windows").windows().to_pylist()[0]["revision"] == 1


def test_a_repeated_event_revises_nothing(opened: SmallWorkspace) -> None:
    assert run(opened, busy(3), [LATER], busy(3)) == 1
    assert opened.view("windows").windows().to_pylist()[0]["revision"] == 0


def test_an_alert_that_no_longer_holds_is_taken_back(tmp_path: Path) -> None:
    opened = workspace(tmp_path / "w", "calming")
    opened.__dict__["views"] = {"calming": calming()}
    assert run(opened, busy(3), [LATER], busy(1, start=9)) == 2
    assert [(a.revision, a.level) for a in opened.state.alerts()] == [(0, "HIGH"), (1, "LOW")]
    # What was never said is not taken back: a quiet window stays quiet.
    assert run(opened, busy(4, start=20, minute=10), [Watch(1002, minute=70)]) == 0
    opened.close()


def calming() -> Any:
    from playhead.views import View

    return View.parse(
        "calming",
        """
        SELECT TIME_BUCKET(INTERVAL '5 minutes', event_time) AS window_start, COUNT(*) AS events,
            CASE WHEN COUNT(*) = 3 THEN 'HIGH' ELSE 'LOW' END AS alert_level
        FROM playback GROUP BY ALL
        """,
    )


def test_a_death_before_publishing_loses_no_alert(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        append = opened.log.append

        def full(topic: str, *args: Any, **kwargs: Any) -> Any:
            if topic == TOPIC:
                raise LogFullError("no space left")
            return append(topic, *args, **kwargs)

        patch.setattr(opened.log, "append", full)
        with pytest.raises(LogFullError):
            run(opened, busy(3), [LATER])
    assert published(opened) == []
    assert len(opened.state.alerts(unpublished=True)) == 1
    assert run(opened) == 0
    assert len(published(opened)) == 1
    assert opened.state.alerts(unpublished=True) == []


def test_a_death_after_publishing_repeats_no_alert(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def dies(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(StateStore, "published", dies)
        with pytest.raises(KeyboardInterrupt):
            run(opened, busy(3), [LATER])
    assert len(published(opened)) == 1
    run(opened, busy(3, start=20, minute=60), [Watch(1002, minute=120)])
    assert [event["revision"] for event in published(opened)] == [0, 0]
    assert len({event["event_id"] for event in published(opened)}) == 2


def test_windows_of_an_uncovered_view_wait(opened: SmallWorkspace) -> None:
    """A load that no batch run covers leaves no exact answer, and must not stop the layer."""
    load(opened, watches(1, start=500))
    assert run(opened, busy(3), [LATER]) == 0
    assert [w[1] for w in opened.state.windows("windows")] == ["open", "open"]
    opened.batch()
    assert run(opened, []) == 1
    assert [w[1] for w in opened.state.windows("windows")] == ["open"]


def test_a_restart_judges_what_the_dead_process_did_not(opened: SmallWorkspace) -> None:
    with Running(opened) as layer:
        send(opened, [*busy(3), LATER])
        layer.step()
    assert run(opened, []) == 1
    assert run(opened, []) == 0
