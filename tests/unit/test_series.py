"""Samples over time: every minute has its place, whatever was summed up meanwhile."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.clock import ManualClock
from playhead.errors import WorkspaceError
from playhead.samples import Samples, read_series, read_totals

NOW = datetime(2025, 6, 1, 12, 30, 30)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def counted(path: Path, *ages: timedelta) -> None:
    """Ten playback events and a search at each of some ages, the oldest first."""
    clock = ManualClock(NOW - ages[0])
    with Samples(path, clock=clock) as samples:
        for age in ages:
            clock.advance(NOW - age - clock.now())
            samples.counter("events", topic="playback").add(10)
            samples.counter("events", topic="search").add()
            samples.counter("late", topic="playback").add(1_000)
            samples.observe("lag_s", 2.0, times=3)


def test_every_minute_is_a_point(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    counted(path, 4 * MINUTE, 2 * MINUTE, timedelta(0))
    series = read_series(path, "events", NOW, 4 * MINUTE, label="topic")
    assert [f"{start:%H:%M:%S}" for start in series.starts] == [
        "12:26:00", "12:27:00", "12:28:00", "12:29:00", "12:30:00"
    ]  # fmt: skip
    assert series.counts == {"playback": [10, 0, 10, 0, 10], "search": [1, 0, 1, 0, 1]}
    assert series.seconds == [60, 60, 60, 60, 30]
    assert series.rates("playback") == pytest.approx([1 / 6, 0, 1 / 6, 0, 1 / 3])
    assert series.rates("rating") == [0] * 5
    assert read_series(path, "events", NOW, 4 * MINUTE).counts == {"": [11, 0, 11, 0, 11]}


def test_measured_values_have_quantiles(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    counted(path, 2 * MINUTE, timedelta(0))
    series = read_series(path, "lag_s", NOW, 2 * MINUTE)
    first, gap, last = series.quantiles(0.99)
    assert gap is None
    assert first == last == pytest.approx(2, rel=0.1)
    assert [one.total for one in series.measured] == [3, 0, 3]


def test_what_is_older_than_two_days_has_hours(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    counted(path, 3 * DAY + MINUTE, 3 * DAY, DAY)
    series = read_series(path, "events", NOW, 3 * DAY + HOUR, label="topic")
    assert series.starts[0] == datetime(2025, 5, 29, 11)
    assert series.seconds[:3] == [3600, 3600, 3600]
    assert set(series.seconds[-100:-1]) == {60}
    assert len(series.starts) == len(set(series.starts)) == len(series.seconds)
    assert series.counts["playback"][1] == 20
    assert sum(series.counts["playback"]) == 30


def test_a_longer_step_sums_minutes_up(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    counted(path, 12 * MINUTE, 11 * MINUTE, MINUTE, timedelta(0))
    series = read_series(path, "events", NOW, 12 * MINUTE, step=5 * MINUTE)
    assert [f"{start:%H:%M}" for start in series.starts] == ["12:15", "12:20", "12:25", "12:30"]
    assert series.counts[""] == [22, 0, 11, 11]
    assert series.seconds == [300, 300, 300, 30]


@pytest.mark.parametrize("step", [timedelta(0), timedelta(seconds=90), 7 * MINUTE, 2 * HOUR])
def test_other_steps_are_refused(tmp_path: Path, step: timedelta) -> None:
    with pytest.raises(ValueError, match="whole minutes that divide an hour"):
        read_series(tmp_path / "samples.db", "events", NOW, HOUR, step=step)


def test_no_file_is_a_line_at_zero(tmp_path: Path) -> None:
    series = read_series(tmp_path / "samples.db", "events", NOW, 5 * MINUTE)
    assert series.counts == {"": [0] * 6}
    assert series.quantiles(0.5) == [None] * 6
    assert read_series(tmp_path / "samples.db", "events", NOW, MINUTE, label="topic").counts == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(WorkspaceError, match=r"samples\.db cannot be read"):
        read_series(path, "events", NOW, DAY)


@settings(max_examples=15)
@given(
    ages=st.lists(st.integers(0, 4 * 24 * 60), min_size=1, max_size=8),
    step=st.sampled_from([1, 5, 60]),
)
def test_points_add_up_to_totals(
    tmp_path_factory: pytest.TempPathFactory, ages: list[int], step: int
) -> None:
    path = tmp_path_factory.mktemp("series") / "samples.db"
    counted(path, *sorted((age * MINUTE for age in ages), reverse=True))
    series = read_series(path, "events", NOW, 5 * DAY, step=step * MINUTE)
    (totals,) = read_totals(path, NOW, [5 * DAY])
    assert sum(series.counts[""]) == totals.count("events") == 11 * len(ages)
