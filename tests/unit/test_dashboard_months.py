"""Months on an axis: their names, the gaps between them, the one that runs, what is compared."""

from datetime import date, datetime

import pyarrow as pa
import pytest

from playhead.dashboard.drawing.charts import lines
from playhead.dashboard.drawing.maps import heat
from playhead.dashboard.drawing.parts import Unit
from playhead.dashboard.filters import Filters, Period, earlier
from playhead.dashboard.pages.history.months import (
    Calendar,
    filled,
    month_bars,
    month_lines,
    month_name,
    month_start,
)
from playhead.dashboard.questions import Reply
from playhead.dashboard.timerange import named, told

MARCH, MAY = datetime(2026, 3, 1), datetime(2026, 5, 1)


def _reply(values: dict[date, float], start: datetime | None = None, part: str = "") -> Reply:
    columns = {"month": pa.array(values, pa.date32()), "n": pa.array(values.values())}
    if part:
        columns["part"] = pa.array([part] * len(values))
    return Reply(pa.table(columns), newest=datetime(2026, 5, 9), start=start)


def test_names_lead_back_to_their_months() -> None:
    for month in range(1, 13):
        assert month_start(month_name(date(2025, month, 17))) == datetime(2025, month, 1)
    assert month_start("May 2026, so far") == MAY
    assert month_start("⋯") is None
    assert month_start("Mai 2026") is None


def test_short_gaps_are_filled_and_long_ones_are_said_to_be_there() -> None:
    assert filled([3, 1]) == [1, 2, 3]
    assert filled([1, 5]) == [1, 2, 3, 4, 5]
    assert filled([1, 6, 20]) == [1, None, 6, None, 20]
    names = Calendar([date(2024, 1, 1), date(2025, 1, 1), date(2026, 5, 1)], date(2026, 5, 1)).names
    assert [name[:8].rstrip("\u200b") for name in names] == [
        "Jan 2024", "⋯", "Jan 2025", "⋯", "May 2026",
    ]  # fmt: skip
    assert len(set(names)) == 5
    assert names[-1] == "May 2026, so far"


def test_a_line_has_gaps_where_a_month_has_no_value() -> None:
    reply = _reply({date(2026, 1, 1): 3.0, date(2026, 4, 1): 5.0})
    options = month_lines(reply, {"n": "N"}, Unit())
    assert options["series"][0]["data"] == [
        ["Jan 2026", 3.0], ["Feb 2026", None], ["Mar 2026", None], ["Apr 2026", 5.0],
    ]  # fmt: skip
    assert options["series"][0]["showSymbol"]


def test_the_month_that_runs_is_paler() -> None:
    reply = _reply({date(2026, 4, 1): 3.0, date(2026, 5, 1): 1.0}, part="Basic")
    options = month_bars(reply, {"n": ""}, Unit(), by="part", running=date(2026, 5, 1))
    full, running = options["series"][0]["data"]
    assert full == 3.0
    assert (running["value"], running["itemStyle"]) == (1.0, {"opacity": 0.55})


def test_months_before_lie_under_those_that_they_are_compared_with() -> None:
    now = _reply({date(2026, 3, 1): 3.0, date(2026, 4, 1): 4.0}, MARCH)
    before = _reply({date(2026, 1, 1): 1.0, date(2026, 2, 1): 2.0}, datetime(2026, 1, 1))
    options = month_lines(now, {"n": "N"}, Unit(), before=before)
    assert options["xAxis"]["data"] == ["Mar 2026", "Apr 2026"]
    assert options["series"][1]["name"] == "N, before"
    assert options["series"][1]["data"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("period", "start", "before"),
    [
        # Whole months, whatever their lengths: those before them, up to the same day.
        (Period("3mo"), MARCH, (datetime(2025, 12, 1), datetime(2026, 2, 9, 10))),
        (Period("1mo"), MAY, (datetime(2026, 4, 1), datetime(2026, 4, 9, 10))),
        (Period(None, MARCH, MAY), MARCH, (datetime(2026, 1, 1), MARCH)),
        (Period(None, MARCH, datetime(2026, 4, 1)), MARCH, (datetime(2026, 2, 1), MARCH)),
        # Hours of the first day of a month are hours.
        (
            Period(None, MAY, datetime(2026, 5, 1, 6)), MAY, (datetime(2026, 4, 30, 18), MAY),
        ),
    ],
)  # fmt: skip
def test_periods_of_months(
    period: Period, start: datetime, before: tuple[datetime, datetime]
) -> None:
    now = datetime(2026, 5, 9, 10)
    assert period.bounds(now)[0] == start
    found = period.before(now)
    assert found is not None
    assert (found.since, found.until) == before


def test_months_are_kept_in_the_address() -> None:
    filters = Filters(Period("12mo"))
    assert filters.query(Period()) == "last=12mo"
    assert Filters.parse("last=12mo", Period()) == filters
    assert earlier(datetime(2026, 3, 31), 1) == datetime(2026, 2, 28)
    assert earlier(datetime(1, 2, 1), 24) == datetime(1, 1, 1)


def test_a_range_as_inputs_name_it() -> None:
    assert named("2026-03-01T00:00", "") == Period(None, MARCH, None)
    assert named("", "") == Period()
    with pytest.raises(ValueError, match="The end is not after the start"):
        named("2026-03-01T00:00", "2026-03-01T00:00")
    with pytest.raises(ValueError, match="To: never is no date"):
        named("", "never")
    assert told(Period(None, MARCH, MAY)) == "2026-03-01 to 2026-04-30"
    assert told(Period(None, MARCH, datetime(2026, 3, 2))) == "2026-03-01"
    assert told(Period(None, datetime(2026, 3, 1, 6), None)) == "2026-03-01 06:00 to now"
    assert told(Period("5d")) == "Last 5d"


def test_a_heat_map_keeps_the_order_that_it_is_given() -> None:
    table = pa.table({"x": ["b", "a"], "y": ["k", "k"], "v": [0.9, 0.1]})
    options = heat(table, "x", "y", "v", Unit("%"), xs=["a", "b", "c"], paler={("a", "k")},
                   labels=True, highest=100.0)  # fmt: skip
    assert options["xAxis"]["data"] == ["a", "b", "c"]
    deep, pale = options["series"][0]["data"]
    assert (deep["value"], deep["label"]["color"]) == ([1, 0, 90.0, None], "#ffffff")
    assert (pale["value"], pale["itemStyle"]["opacity"]) == ([0, 0, 10.0, None], 0.45)


def test_more_lines_than_usual_are_drawn_if_wanted() -> None:
    table = pa.table({"x": [1] * 20, "name": [f"n{n}" for n in range(20)], "v": range(20)})
    drawn = lines(table, "x", {"v": ""}, Unit(), by="name", names=str, categories=["1"], most=20)
    assert len(drawn["series"]) == 20
    assert len(lines(table, "x", {"v": ""}, Unit(), by="name")["series"]) == 12
