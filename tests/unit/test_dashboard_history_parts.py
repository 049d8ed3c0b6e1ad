"""What the page History makes of its views' rows: tiles, cohorts, totals, the card of titles."""

from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest

from playhead.dashboard.drawing.cards import Figure
from playhead.dashboard.filters import Filters, Period
from playhead.dashboard.pages.history.titles import (
    hours_tile,
    in_month,
    is_by_day,
    month_shown,
    rating_tile,
    ratings_chart,
    title_rows,
)
from playhead.dashboard.pages.history.users import (
    active_tile,
    churn_tile,
    cohort_chart,
    retention_chart,
    retention_tile,
)
from playhead.dashboard.questions import Reply

JAN, FEB, MARCH = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)
NOW = datetime(2026, 3, 9)


def _reply(**columns: list[Any]) -> Reply:
    return Reply(pa.table(columns), newest=NOW)


COHORTS = _reply(
    cohort_month=[JAN, JAN, JAN, FEB, FEB],
    activity_month=[JAN, FEB, MARCH, FEB, MARCH],
    months_since_cohort=[0, 1, 2, 0, 1],
    active_users=[10, 6, 5, 4, 1],
    cohort_size=[10, 10, 10, 4, 4],
    retention_rate=[1.0, 0.6, 0.5, 1.0, 0.25],
)


def test_active_users_are_those_of_the_newest_full_month() -> None:
    reply = _reply(month=[JAN, FEB, MARCH], active_users=[100, 110, 30])
    assert active_tile([reply]) == Figure("110", "+10 %", "Feb 2026. Mar 2026 so far: 30", True)
    before = _reply(month=[JAN], active_users=[220])
    assert active_tile([reply, before]).change == "-50 %"
    assert active_tile([_reply(month=[MARCH], active_users=[30])]) == Figure(
        "30", note="Mar 2026 so far"
    )


def test_churn_is_that_of_the_newest_month_whose_next_one_is_over() -> None:
    months = [date(2025, 12, 1), JAN, FEB]
    reply = _reply(month=months, part=["All plans"] * 3, churn_rate=[0.05, 0.03, 0.9])
    assert churn_tile([reply]) == Figure("3 %", "-2.0 points", "Of Jan 2026", True)
    nothing = _reply(month=[FEB], part=["All plans"], churn_rate=[0.9])
    assert churn_tile([nothing]).value == "–"


def test_who_came_back_counts_cohorts_whose_next_month_is_over() -> None:
    assert retention_tile([COHORTS]) == Figure("60 %", "", "Of 10 new users")
    assert retention_tile([COHORTS, COHORTS]).change == "±0"


def test_retention_leaves_out_the_month_that_runs() -> None:
    found = {s["name"]: s["data"] for s in retention_chart([COHORTS])["series"]}
    assert found["All cohorts"] == [["0", 100.0], ["1", 60.0]]
    assert found["Jan 2026"] == [["0", 100.0], ["1", 60.0]]
    assert found["Feb 2026"] == [["0", 100.0], ["1", None]]


def test_a_cohort_of_which_nobody_came_is_at_zero() -> None:
    reply = _reply(
        cohort_month=[date(2025, 11, 1)] + [date(2025, 12, 1)] * 2,
        activity_month=[date(2025, 11, 1), date(2025, 12, 1), JAN],
        months_since_cohort=[0, 0, 1],
        active_users=[5, 5, 5],
        cohort_size=[5, 5, 5],
        retention_rate=[1.0, 1.0, 1.0],
    )
    found = {s["name"]: s["data"] for s in retention_chart([reply])["series"]}
    assert found["Nov 2025"] == [["0", 100.0], ["1", 0.0], ["2", 0.0]]
    assert found["All cohorts"] == [["0", 100.0], ["1", 50.0], ["2", 0.0]]


def test_the_triangle_marks_the_month_that_runs() -> None:
    options = cohort_chart([COHORTS])
    assert options["yAxis"]["data"] == ["Jan 2026 · 10", "Feb 2026 · 4"]
    assert options["xAxis"]["data"] == ["0", "1", "2"]
    pale = [cell["value"] for cell in options["series"][0]["data"] if "itemStyle" in cell]
    assert pale == [[2, 0, 50.0, 5.0], [1, 1, 25.0, 1.0]]


def test_totals_are_compared_with_the_period_before() -> None:
    now = _reply(month=[datetime(2026, 1, 1), datetime(2026, 2, 1)], watch_hours=[100.5, 50.0])
    before = _reply(month=[datetime(2025, 12, 1)], watch_hours=[301.0])
    assert hours_tile([now]) == Figure("150 h", "", "Feb 2026: 50 h, -50 %")
    assert hours_tile([now, before]) == Figure("150 h", "-50 %", "301 h before", False)


def test_ratings_say_how_many_there_are() -> None:
    reply = _reply(rating=[3.456], rated_sessions=[20], sessions=[100])
    assert rating_tile([reply]) == Figure("3.46 ★", "", "20 rated, 20 % of sessions")
    none = pa.array([None], pa.float64())
    unrated = Reply(pa.table({"rating": none, "rated_sessions": [0], "sessions": [9]}))
    assert rating_tile([unrated]).value == "–"
    genres = _reply(genre=["War", "Drama"], rating=[4.0, 3.0], rated_sessions=[1200, 3])
    labels = [point["label"]["formatter"] for point in ratings_chart([genres])["series"][0]["data"]]
    assert labels == ["4.00 ★  1,200 rated", "3.00 ★  3 rated"]


def test_titles_without_a_rating_are_listed() -> None:
    (row,) = title_rows([
        _reply(movie_id=["m1"], title=["A <b>"], genre=[None], content_type=["Movie"],
               sessions=[3], watch_hours=[1.5], completion_rate=[0.5],
               progress=pa.array([None], pa.float64()), rating=pa.array([None], pa.float64()),
               rated_sessions=[0]),
    ])  # fmt: skip
    assert row["id"] == "m1"
    assert (row["title"], row["genre"], row["rating"]) == ("A <b>", "(unknown)", None)


@pytest.mark.parametrize(
    ("period", "by_day"),
    [
        (Period(), False),
        (Period("3mo"), True),
        (Period("12mo"), False),
        (Period("7d"), True),
        (Period(None, datetime(2026, 1, 1), datetime(2026, 2, 1)), True),
        (Period(None, datetime(2026, 1, 1), datetime(2026, 6, 1)), False),
        (Period(None, datetime(2026, 1, 1)), False),
    ],
)
def test_short_periods_are_shown_by_day(period: Period, by_day: bool) -> None:
    assert is_by_day(period) is by_day


def test_a_month_is_a_period() -> None:
    march = in_month(Filters(Period("12mo"), {"plan": ("Basic",)}), datetime(2026, 3, 1))
    assert month_shown(march.period) == datetime(2026, 3, 1)
    assert march.values == {"plan": ("Basic",)}
    assert month_shown(Period()) is None
    assert month_shown(Period(None, datetime(2026, 3, 1), datetime(2026, 5, 1))) is None
