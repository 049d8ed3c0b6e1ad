"""A page's address says what it shows, and nothing is lost on the way there and back."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.dashboard.filters import DIMENSIONS, Filters, Period, length_of
from playhead.dashboard.numbers import change, duration, shown

DAY = Period("24h")
NOON = datetime(2026, 3, 1, 12)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))
PERIODS = st.one_of(
    st.builds(Period, st.from_regex(r"[1-9][0-9]{0,2}[mhdw]", fullmatch=True)),
    st.tuples(TIMES, st.timedeltas(timedelta(seconds=1), timedelta(days=900))).map(
        lambda pair: Period(None, pair[0], pair[0] + pair[1])
    ),
)
VALUES = st.dictionaries(
    st.sampled_from(sorted(DIMENSIONS)),
    st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True).map(tuple),
)


@given(st.builds(Filters, PERIODS, VALUES, st.booleans()))
def test_an_address_gives_back_what_it_was_made_of(filters: Filters) -> None:
    again = Filters.parse(filters.query(), DAY)
    assert again == filters


@given(st.text(max_size=60))
def test_any_address_is_a_page(query: str) -> None:
    assert Filters.parse(query, DAY).period is not None


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("last=never", "last: 'never' is no length of time"),
        ("last=0h", "last: '0h'"),
        ("since=yesterday", "since: 'yesterday' is no time"),
        ("since=2026-03-02&until=2026-03-01", "until is not after since"),
        ("&".join(f"country={n}" for n in range(51)), "country: 51 values, and 50 at most"),
    ],
)
def test_what_cannot_be_read_is_told(query: str, problem: str) -> None:
    filters = Filters.parse(query, DAY)
    assert filters.period == DAY
    assert not filters.values
    (told,) = filters.problems
    assert told.startswith(problem)


def test_periods_have_bounds_and_one_before() -> None:
    assert length_of("90m") == timedelta(minutes=90)
    assert Period("6h").bounds(NOON) == (NOON - timedelta(hours=6), None)
    before = Period("6h").before(NOON)
    assert before == Period(None, NOON - timedelta(hours=12), NOON - timedelta(hours=6))
    assert Period(None, None, NOON).before(NOON) is None
    zoned = Filters.parse("since=2026-03-01T13:00:00%2B01:00", DAY)
    assert zoned.period == Period(None, NOON)


def test_a_view_is_filtered_by_the_columns_that_it_has() -> None:
    filters = Filters.parse("country=USA&country=Canada&genre=Drama&plan=Basic", DAY)
    columns, missing = filters.columns(["window_start", "country", "genre_primary"])
    assert columns == {"country": ("USA", "Canada"), "genre_primary": ("Drama",)}
    assert missing == ["plan"]
    assert filters.wanting("plan", []).values.keys() == {"country", "genre"}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "", "–"),
        (float("nan"), "", "–"),
        (0, "", "0"),
        (1_204, "", "1,204"),
        (9_999, "", "9,999"),
        (12_345, "", "12.3 k"),
        (999_960, "", "1 M"),
        (4_560_000, "events", "4.56 M events"),
        (0.02143, "", "0.0214"),
        (0.1234, "%", "12.3 %"),
        (-1_250.5, "$", "-$1,250"),
    ],
)
def test_numbers_are_short(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_changes_and_durations() -> None:
    assert [change(a, b) for a, b in ((112, 100), (101, 100), (50, 100), (1, 0), (100, 100))] == [
        "+12 %", "+1.0 %", "-50 %", "", "±0 %",
    ]  # fmt: skip
    seconds = (0.34, 12.41, 200, 7_500, 360_000, None)
    assert [duration(each) for each in seconds] == [
        "340 ms", "12.4 s", "3 min 20 s", "2 h 5 min", "4 d 4 h", "–",
    ]  # fmt: skip
