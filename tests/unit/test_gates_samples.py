"""Samples: what several processes count adds up, and nothing of it hurts who counts."""

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.clock import ManualClock, SystemClock
from playhead.errors import WorkspaceError
from playhead.samples import Distribution, Samples, bucket_of, read_totals, upper_end

NOW = datetime(2025, 6, 1, 12, 30, 40)
FIVE, HOUR, DAY = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)


@given(st.floats(min_value=1e-3, max_value=1e11))
def test_a_bucket_holds_its_value_to_within_a_tenth(value: float) -> None:
    end = upper_end(bucket_of(value))
    assert value * 0.999_999 <= end <= value * 1.1


@pytest.mark.parametrize("value", [0.001, 1.0, 10.0, 100.0, 1000.0])
def test_a_power_of_ten_is_its_own_bucket(value: float) -> None:
    assert upper_end(bucket_of(value)) == pytest.approx(value)


def test_nothing_and_less_count_as_nothing() -> None:
    assert upper_end(bucket_of(0)) == upper_end(bucket_of(-5)) == 0


@given(st.lists(st.floats(min_value=0.01, max_value=1e6), min_size=1, max_size=50))
def test_a_quantile_is_never_too_low(values: list[float]) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    told = Distribution(counts).quantile(0.99)
    exact = sorted(values)[int(np.ceil(0.99 * len(values))) - 1]
    assert told is not None
    assert exact * 0.999_999 <= told <= exact * 1.1


def test_no_values_have_no_quantile() -> None:
    assert Distribution({}).quantile(0.99) is None


def test_what_was_counted_is_found_in_its_time(tmp_path: Path) -> None:
    clock = ManualClock(NOW - timedelta(hours=3))
    with Samples(tmp_path / "samples.db", clock=clock) as samples:
        for hours, count in ((2, 1), (0.5, 10), (0.4, 100), (0, 1000)):
            clock.advance(NOW - timedelta(hours=hours) - clock.now())
            samples.counter("events", topic="playback").add(count)
        samples.counter("events", topic="search").add(5)
        samples.observe("lag_s", 2.0, times=99)
        samples.observe("lag_s", float("nan"))
        samples.observe_all("lag_s", np.array([70.0, 80.0]), np.array([1, 1]))
    five, hour, day = read_totals(tmp_path / "samples.db", NOW, [FIVE, HOUR, DAY])
    assert [one.count("events") for one in (five, hour, day)] == [1005, 1115, 1116]
    assert five.by("events", "topic") == {"playback": 1000, "search": 5}
    assert five.distribution("lag_s").total == 101
    assert five.distribution("lag_s").quantile(0.5) == pytest.approx(2, rel=0.1)
    assert five.distribution("lag_s").quantile(0.99) == pytest.approx(70, rel=0.1)
    assert five.distribution("other").quantile(0.99) is None


def test_no_file_is_no_counts(tmp_path: Path) -> None:
    (none,) = read_totals(tmp_path / "samples.db", NOW, [DAY])
    assert none.count("events") == 0


def test_any_label_can_be_written(tmp_path: Path) -> None:
    with Samples(tmp_path / "samples.db", clock=ManualClock(NOW)) as samples:
        samples.counter("events", topic="é\ud800").add(3)
    (five,) = read_totals(tmp_path / "samples.db", NOW, [FIVE])
    assert five.by("events", "topic") == {"é\ud800": 3}


_ADD = """
import sys
from pathlib import Path
from playhead.samples import Samples
with Samples(Path(sys.argv[1])) as samples:
    for _ in range(1000):
        samples.counter("events", topic="playback").add()
"""


def test_processes_and_threads_add_up(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    others = [subprocess.Popen([sys.executable, "-c", _ADD, path]) for _ in range(2)]
    with Samples(path) as samples:
        counter = samples.counter("events", topic="playback")
        threads = [
            threading.Thread(target=lambda: [counter.add() for _ in range(500)]) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [other.wait(60) for other in others] == [0, 0]
    (day,) = read_totals(path, SystemClock().now(), [DAY])
    assert day.count("events") == 3000


def test_it_writes_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    with Samples(path, clock=ManualClock(NOW)) as samples:
        samples.counter("events").add(7)
        until = time.monotonic() + 20
        while read_totals(path, NOW, [FIVE])[0].count("events") != 7:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "later"
    with Samples(folder / "samples.db", clock=ManualClock(NOW)) as samples:
        samples.counter("events").add(1)
        with caplog.at_level(logging.WARNING):
            samples.flush()
            samples.flush()
        assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1
        folder.mkdir()
        samples.counter("events").add(2)
    assert read_totals(folder / "samples.db", NOW, [FIVE])[0].count("events") == 3


def test_a_failing_disk_stops_nobody_who_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "samples.db"
    with Samples(path, clock=ManualClock(NOW)) as samples:
        with monkeypatch.context() as failing:
            failing.setattr("playhead.samples._open", lambda _: Path("/dev/null/x").stat())
            samples.counter("events").add(2)
            samples.flush()
        samples.counter("events").add(3)
    assert read_totals(path, NOW, [FIVE])[0].count("events") == 5


def test_old_minutes_become_hours_and_old_hours_go(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    clock = ManualClock(NOW - timedelta(days=40))
    samples = Samples(path, clock=clock)
    samples.counter("events").add(1)
    samples.flush()
    clock.advance(timedelta(days=36))
    for _ in range(90):
        samples.counter("events").add(2)
        clock.advance(timedelta(minutes=1))
        samples.flush()
    clock.advance(NOW - clock.now())
    samples.counter("events").add(3)
    samples.close()
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT minute % 60, SUM(value) FROM samples GROUP BY minute").fetchall()
    db.close()
    assert sorted(rows) == [(0, 60), (0, 120), (30, 3)]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(WorkspaceError, match=r"samples\.db cannot be read"):
        read_totals(path, NOW, [DAY])
    with Samples(path) as samples:
        samples.counter("events").add()
