"""Windows: which instant ends one, and which ones a watermark has passed."""

from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.speed.records import Touched
from playhead.speed.windows import (
    WindowedView,
    end_of,
    minus,
    watermark_of,
    windowed_views,
)
from playhead.views import View
from playhead.views.leaf import Window

FIVE = Window("w", 300, "second")
MONTH, QUARTER, YEAR = (Window("w", 1, unit) for unit in ("month", "quarter", "year"))
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))


def first(time: datetime, months: int) -> datetime:
    """The start of the window of so many months around `time`."""
    month = (time.month - 1) // months * months + 1
    return datetime(time.year, month, 1)


def test_ends() -> None:
    start = datetime(2024, 1, 1)
    assert end_of(start, FIVE) == start + timedelta(minutes=5)
    assert end_of(start, MONTH) == datetime(2024, 2, 1)
    assert end_of(datetime(2024, 10, 1), QUARTER) == datetime(2025, 1, 1)
    assert end_of(start, YEAR) == datetime(2025, 1, 1)


@given(TIMES, TIMES, st.sampled_from([1, 3, 12]))
def test_a_month_is_final_when_it_has_ended(start: datetime, mark: datetime, months: int) -> None:
    window = {1: MONTH, 3: QUARTER, 12: YEAR}[months]
    start = first(start, months)
    end = end_of(start, window)
    if end.year < 9999:
        assert (start <= minus(mark, window)) == (end <= mark)


@given(TIMES, TIMES)
def test_a_fixed_window_is_final_when_it_has_ended(start: datetime, mark: datetime) -> None:
    if start.year > 1 and mark.year > 1 and start.year < 9999:
        assert (start <= minus(mark, FIVE)) == (end_of(start, FIVE) <= mark)


def test_the_ends_of_the_calendar_are_no_trouble() -> None:
    low, high = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59)
    for window in (FIVE, MONTH, QUARTER, YEAR):
        assert minus(low, window) == low
        assert end_of(high.replace(day=1) if window is not FIVE else high, window) > high
    assert watermark_of(low, timedelta(minutes=10)) == low
    assert watermark_of(high, timedelta(minutes=10)) == high - timedelta(minutes=10)


WINDOWED = """
    SELECT TIME_BUCKET(INTERVAL '5 minutes', event_time) AS window_start, COUNT(*) AS n
    FROM playback WHERE device_type = 'Mobile' GROUP BY ALL
"""


def windowed() -> WindowedView:
    (found,) = windowed_views([View.parse("v", WINDOWED)])
    return found


def test_only_views_with_a_window_are_windowed() -> None:
    plain = View.parse("p", "SELECT device_type, COUNT(*) AS n FROM playback GROUP BY ALL")
    monthly = View.parse(
        "m",
        "SELECT DATE_TRUNC('month', event_time) AS month, COUNT(*) AS n FROM search GROUP BY ALL",
    )
    assert [w.view.name for w in windowed_views([plain, monthly, windowed().view])] == ["m", "v"]


@pytest.mark.parametrize("watermark_minute", [None, 0, 5, 6, 100])
def test_events_after_their_window_was_final_are_late(watermark_minute: int | None) -> None:
    start = datetime(2025, 1, 1)
    events = pa.table(
        {
            "event_time": [start + timedelta(minutes=m) for m in (0, 1, 5, 12)],
            "device_type": ["Mobile", "Mobile", "Mobile", "Laptop"],
        }
    )
    watermark = None
    if watermark_minute is not None:
        watermark = start + timedelta(minutes=watermark_minute)
    with duckdb.connect() as connection:
        connection.register("wide", events)
        touched = windowed().touched(connection, "wide", watermark)
    ended = watermark_minute or 0
    assert sorted(touched, key=lambda t: t.start) == [
        Touched("v", start, 2 if ended >= 5 else 0),
        Touched("v", start + timedelta(minutes=5), 1 if ended >= 10 else 0),
    ]
