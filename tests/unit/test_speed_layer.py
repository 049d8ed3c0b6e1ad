"""The speed layer, step by step: what it takes in, what it drops, and when it refuses."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from layers import (
    Running,
    SmallWorkspace,
    Watch,
    assert_merged_is_full,
    counted,
    load,
    load_dimensions,
    rows,
    searches,
    send,
    watches,
    workspace,
)
from playhead.clock import ManualClock
from playhead.errors import StateError
from playhead.speed.logsource import LogSource
from playhead.speed.state import StateStore

NOW = datetime(2026, 1, 1)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path / "w", "counts", "windows")
    yield made
    made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def timed(tmp_path: Path, clock: ManualClock) -> Iterator[SmallWorkspace]:
    made = workspace(tmp_path / "timed", "counts", "windows", clock=clock)
    yield made
    made.close()


# -- repeats -------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
def test_an_event_that_comes_again_is_dropped(
    opened: SmallWorkspace, sealed: bool, restarted: bool
) -> None:
    first = Running(opened)
    send(opened, watches(5))
    first.catch_up()
    if sealed:
        first.layer.seal()
    running = Running(opened) if restarted else first
    send(opened, [*watches(5), Watch(9), Watch(9)])
    step = running.layer.step()
    assert (step.events, step.duplicates) == (7, 6)
    assert counted(opened) == 6
    assert_merged_is_full(opened)
    first.__exit__()
    running.__exit__()


def test_a_loaded_event_that_comes_again_is_dropped(opened: SmallWorkspace) -> None:
    load(opened, watches(5))
    opened.batch()
    running = Running(opened)
    with running as layer:
        send(opened, watches(7))
        assert layer.step().duplicates == 5
        # A file that comes while the layer runs is noticed.
        load(opened, watches(5, start=20))
        layer.refresh()
        send(opened, watches(7, start=20))
        assert layer.step().duplicates == 5
        opened.batch()
        assert counted(opened) == 7 + 7
        assert_merged_is_full(opened)


def test_a_loaded_row_without_its_keys_is_no_first_event(opened: SmallWorkspace) -> None:
    """Cleaning drops such a row, so the event of its id has not been counted."""
    load(opened, watches(2))
    name = "raw.playback"
    with opened._connect() as connection:
        opened.lake.append(
            name,
            connection,
            f"""
            SELECT * REPLACE (NULL AS movie_id, 2 AS load_id, 'e9' AS event_id)
            FROM {opened.lake.scan(name)} LIMIT 1
            """,
            properties={"playhead.load": "2"},
        )
    opened.batch()
    with Running(opened) as layer:
        send(opened, [Watch(9)])
        assert layer.step().duplicates == 0
    assert counted(opened) == 3
    assert_merged_is_full(opened)


@pytest.mark.parametrize("max_events", [5, 1000])
def test_of_two_users_with_one_event_the_first_to_come_counts(
    opened: SmallWorkspace, max_events: int
) -> None:
    """They meet in different partitions; a later batch run keeps the same one."""
    for number in range(20):
        send(opened, [Watch(number, user=6 - number % 7)])
        send(opened, [Watch(number, user=number % 7)])
    running = Running(opened, max_events=max_events)
    with running as layer:
        running.catch_up()
        latest = "SELECT event_id, user_id FROM playback ORDER BY ALL"
        before = rows(opened, latest)
        assert [row["user_id"] for row in before] == [
            f"u{6 - int(row['event_id'][1:]) % 7}" for row in before
        ]
        assert_merged_is_full(opened)
        layer.seal()
        opened.batch()
        assert rows(opened, latest) == before
        assert_merged_is_full(opened)


def test_a_repeat_after_the_window_waits_for_batch(
    timed: SmallWorkspace, clock: ManualClock
) -> None:
    running = Running(timed)
    with running as layer:
        send(timed, watches(3))
        running.catch_up()
        layer.seal()
        clock.advance(timedelta(hours=23))
        send(timed, watches(3))
        assert layer.step().duplicates == 3
        layer.seal()
    clock.advance(timedelta(hours=25))
    send(timed, watches(1, start=9))  # In a silent log, the window would end with its last event.
    with Running(timed) as layer:
        send(timed, watches(4))
        assert layer.step().duplicates == 0
        layer.seal()
    timed.batch()
    assert counted(timed) == 5
    assert_merged_is_full(timed)


# -- failures ------------------------------------------------------------------------------


def test_events_of_a_failed_commit_come_again(
    opened: SmallWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(opened) as layer:
        send(opened, watches(5))
        with monkeypatch.context() as patch:

            def fails(*_: object, **__: object) -> None:
                raise StateError("the disk is full")

            patch.setattr(StateStore, "commit", fails)
            with pytest.raises(StateError):
                layer.step()
        step = layer.step()
        assert (step.events, step.duplicates) == (5, 0)
    assert counted(opened) == 5


@pytest.mark.parametrize("running", [True, False])
def test_a_replaced_event_log_is_refused(opened: SmallWorkspace, running: bool) -> None:
    first = Running(opened)
    send(opened, watches(30))
    first.catch_up()
    first.layer.seal()
    opened.log.close()
    for file in opened.path.glob("log.db*"):
        file.unlink()
    opened.__dict__.pop("log")
    opened._create_topics()
    send(opened, watches(3, start=50))
    message = r"topic playback, partition \d: the event log ends at offset \d, but .* up to \d+"
    first.layer._log = opened.log
    source = first.layer._source
    assert isinstance(source, LogSource)
    for taker in source._takers.values():
        taker._log = opened.log
    attempt = first.layer.step if running else (lambda: Running(opened))
    with pytest.raises(StateError, match=message) as caught:
        attempt()
    assert "backup" in str(caught.value)
    first.__exit__()


def test_a_topic_that_holds_no_events_is_left_alone(
    opened: SmallWorkspace, caplog: pytest.LogCaptureFixture
) -> None:
    opened.log.create_topic("dead.letters", pa.schema([pa.field("reason", pa.string())]))
    running = Running(opened)
    with running as layer:
        send(opened, watches(3))
        opened.log.append("search", searches(range(4)))
        assert running.catch_up() == 7
        # A topic that is made while the layer runs is taken up.
        schema = pa.schema([("event_id", pa.string()), ("event_time", pa.timestamp("us"))])
        opened.log.create_topic("clicks", schema)
        layer.refresh()
        opened.log.append("clicks", pa.table([["c"], [NOW]], schema=schema), key="event_id")
        assert running.catch_up() == 1
        layer.seal()
    assert opened.lake.rows("raw.search") == 4
    assert opened.lake.rows("raw.clicks") == 1
    assert "raw.dead.letters" not in opened.lake.tables()
    assert caplog.text.count("dead.letters is left alone") == 1


# -- running -------------------------------------------------------------------------------


def test_it_runs_until_it_is_told_to_stop(opened: SmallWorkspace) -> None:
    stop = threading.Event()
    steps: list[int] = []

    def on_step(step: Any) -> None:
        steps.append(step.events)
        if sum(steps) == 12:
            stop.set()

    send(opened, watches(5))
    thread = threading.Thread(target=opened.speed, args=(stop,), kwargs={"on_step": on_step})
    thread.start()
    send(opened, watches(7, start=5))
    thread.join(30)
    assert not thread.is_alive()
    assert sum(steps) == 12
    # What was read is sealed.
    assert opened.state.sealed_epoch() == 1
    assert opened.lake.rows("raw.playback") == 12


def test_it_looks_judges_seals_and_retains_in_time(
    timed: SmallWorkspace, clock: ManualClock
) -> None:
    kept: list[timedelta] = []
    running = Running(timed, retention=timedelta(days=7))
    retain = timed.log.retain
    timed.log.retain = lambda age: kept.append(age) or retain(age)  # type: ignore[func-returns-value,method-assign]
    with running as layer:
        send(timed, [*(Watch(i, user=0) for i in range(3)), Watch(9, minute=60)])
        layer.step()
        layer._between(drain=False)
        assert (timed.state.alerts(), timed.state.sealed_epoch(), kept) == ([], 0, [])
        clock.advance(timedelta(seconds=1))
        layer._between(drain=False)
        assert (len(timed.state.alerts()), timed.state.sealed_epoch(), kept) == (1, 0, [])
        clock.advance(timedelta(seconds=60))
        layer._between(drain=False)
        assert (timed.state.sealed_epoch(), kept) == (1, [])
        clock.advance(timedelta(hours=1))
        layer._between(drain=False)
        assert kept == [timedelta(days=7)]


def test_blocks_are_compacted(opened: SmallWorkspace) -> None:
    running = Running(opened, max_events=3)
    with running as layer:
        send(opened, watches(120))
        running.catch_up()
        view, blocks = _blocks(opened)
        assert len(blocks) >= 40
        assert layer.compact() > 0
        _, fewer = _blocks(opened)
        assert len(fewer) < len(blocks) / 2
        assert_merged_is_full(opened)
        layer.seal()
        layer.compact()
        _, one = _blocks(opened)
        assert len(one) == 1
        assert counted(opened) == 120
        assert_merged_is_full(opened)
        assert view.made == ((1, "{}"),)


def _blocks(opened: SmallWorkspace) -> Any:
    from playhead.views.naming import state_name

    view = opened.views["counts"]
    return opened.state.snapshot(state_name(view, view.leaves[0]), "playback")


def test_blocks_of_several_dimension_versions_stay_apart(tmp_path: Path) -> None:
    with workspace(tmp_path / "w", "countries") as opened:
        load_dimensions(opened)
        running = Running(opened)
        with running as layer:
            send(opened, watches(5))
            running.catch_up()
            load_dimensions(opened, spend=50)
            layer.refresh()
            send(opened, watches(5, start=5))
            running.catch_up()
            layer.seal()
            layer.compact()
            assert opened.view("countries").coverage[0].mixed
            opened.batch()
            assert_merged_is_full(opened)
