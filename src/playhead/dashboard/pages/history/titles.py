"""What the page History tells of watching: how much, of which genres and titles, and how liked."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from nicegui import events, ui

from playhead.dashboard.drawing.cards import ChartCard, Figure, TableCard, Tile
from playhead.dashboard.drawing.charts import bars, lines
from playhead.dashboard.drawing.maps import heat
from playhead.dashboard.drawing.palette import AXIS, MUTED
from playhead.dashboard.drawing.parts import LEGEND, Options, Unit
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.filters import Filters, Period, earlier, length_of
from playhead.dashboard.numbers import change, shown
from playhead.dashboard.page import Page
from playhead.dashboard.pages.history.months import (
    Calendar,
    in_two_lines,
    month_bars,
    month_name,
    month_start,
    rows_of,
)
from playhead.dashboard.pages.history.users import EVERY_S, PARTS, running_month
from playhead.dashboard.questions import Question, Reply

__all__ = ["is_by_day", "month_shown", "titles_cards", "watch_cards", "watch_tiles"]

_COUNT, _HOURS, _SHARE = Unit(), Unit("h"), Unit("%", 1, True)
_STARS = Unit("", 2, True)
_DAYS_SHOWN = timedelta(days=100)
_TITLES = 2_000
_IN_FULL = 1e6
_DAY_SCRIPT = "p => new Date(p.value).toISOString().slice(0, 10)"
_LABELLED = 14
"""A heat map of no more months has room for the numbers in its cells."""

_TOTALS = """\
SELECT {time} AS month, SUM(watch_minutes) / 60 AS watch_hours, SUM(sessions) AS sessions
FROM daily_engagement
WHERE {where}
GROUP BY ALL
ORDER BY month"""
_GENRES = """\
WITH cells AS (
  SELECT month, genre_primary AS genre, SUM(watch_minutes) AS minutes, SUM(sessions) AS sessions
  FROM title_performance
  WHERE {where}
  GROUP BY ALL
),
largest AS (
  SELECT genre, SUM(minutes) AS total FROM cells GROUP BY genre ORDER BY total DESC, genre LIMIT 20
),
shares AS (
  SELECT *, minutes / SUM(minutes) OVER (PARTITION BY month) AS share FROM cells
)
SELECT month, COALESCE(genre, '(unknown)') AS genre, minutes / 60 AS watch_hours, sessions, share
FROM shares
JOIN largest USING (genre)
ORDER BY total DESC, genre, month"""
_RATINGS = """\
SELECT
  COALESCE(genre_primary, '(unknown)') AS genre,
  SUM(rating_sum) / SUM(rated_sessions) AS rating,
  SUM(rated_sessions) AS rated_sessions
FROM title_performance
WHERE {where}
GROUP BY ALL
HAVING SUM(rated_sessions) > 0
ORDER BY rating DESC, genre"""
_RATING = """\
SELECT
  SUM(rating_sum) / SUM(rated_sessions) AS rating,
  SUM(rated_sessions) AS rated_sessions,
  SUM(sessions) AS sessions
FROM title_performance
WHERE {where}"""
_TITLE = f"""\
SELECT
  movie_id,
  ANY_VALUE(title) AS title,
  ANY_VALUE(genre_primary) AS genre,
  ANY_VALUE(content_type) AS content_type,
  SUM(sessions) AS sessions,
  SUM(watch_minutes) / 60 AS watch_hours,
  SUM(completed_sessions) / SUM(sessions) AS completion_rate,
  SUM(progress_sum) / SUM(progress_known) / 100 AS progress,
  SUM(rating_sum) / SUM(rated_sessions) AS rating,
  SUM(rated_sessions) AS rated_sessions
FROM title_performance
WHERE {{where}}
GROUP BY movie_id
ORDER BY sessions DESC, movie_id
LIMIT {_TITLES}"""

_BY = {
    "plan": ("Plan", "subscription_plan"),
    "device": ("Device", "device_type"),
    "type": ("Type", "content_type"),
}
_COUNTED = "Sessions with a known date and length, of known users and titles. "
_GIVEN = "Stars that viewers gave at the end of a session, 1 to 5; not all sessions have any. "


def is_by_day(period: Period) -> bool:
    """Whether a period is short enough to be shown day by day."""
    if period.last is not None:
        if period.last.endswith("mo"):
            return int(period.last[:-2]) <= 3
        return length_of(period.last) <= _DAYS_SHOWN
    if period.since is None or period.until is None:
        return False
    return period.until - period.since <= _DAYS_SHOWN


def month_shown(period: Period) -> datetime | None:
    """The month that a period is exactly; None if it is another stretch of time."""
    since, until = period.since, period.until
    if since is None or until is None or since != since.replace(day=1, hour=0, minute=0, second=0):
        return None
    return since if until == earlier(since, -1) else None


def watch_tiles(page: Page) -> None:
    """The tiles about watching."""
    asked = _totals_asked(page, "month")
    against = (
        "against the period before." if page.filters.compared else "and the newest full month."
    )
    Tile(page, "Watch time", asked, hours_tile,
         about=f"Hours of all sessions in this time, {against}")  # fmt: skip
    Tile(page, "Sessions", asked, sessions_tile, about=f"All sessions in this time, {against}")
    rating = page.ask("title_performance", _RATING, every_s=EVERY_S)
    before = page.ask("title_performance", _RATING, before=True, every_s=EVERY_S)
    Tile(page, "Mean rating", [rating, before] if page.filters.compared else [rating], rating_tile,
         about=_GIVEN + _COUNTED)  # fmt: skip


def watch_cards(page: Page) -> None:
    """Watch time by month, or by day where the time is short."""
    place = ui.element("div").classes("as-if-absent")

    def make() -> None:
        _WatchTime(page, again)

    def again() -> None:
        page.remake(place, make)

    page.remake(place, make)


def titles_cards(page: Page) -> None:
    """Genres and titles."""
    genres = page.ask("title_performance", _GENRES, every_s=EVERY_S)
    ChartCard(page, "Genres by month", [genres], genres_chart, width=7, height="440px",
              about="The share of each month's watch time by the title's main genre, the largest "
              "first: so months with more and with fewer sessions can be compared. "
              + _COUNTED)  # fmt: skip
    ratings = page.ask("title_performance", _RATINGS, every_s=EVERY_S)
    before = page.ask("title_performance", _RATINGS, before=True, every_s=EVERY_S)
    ChartCard(page, "Ratings by genre", [ratings, before] if page.filters.compared else [ratings],
              ratings_chart, width=5, height="440px",
              about=_GIVEN + "Behind each mean stands how many sessions were rated.")  # fmt: skip
    titles = page.ask("title_performance", _TITLE, every_s=EVERY_S)
    # fmt: off
    TableCard(page, "Titles", [titles], title_rows, _COLUMNS, rows_shown=15,
              about=f"{_COUNTED}Completed: the share of sessions whose last action it is. "
              f"Rating: {_GIVEN}At most the {_TITLES:,} titles with the most sessions.")


    # fmt: on


_COLUMNS = [
    Column("title", "Title"),
    Column("genre", "Genre"),
    Column("content_type", "Type"),
    Column("sessions", "Sessions", _COUNT),
    Column("watch_hours", "Watch time", _HOURS),
    Column("completion_rate", "Completed", _SHARE),
    Column("progress", "Mean progress", _SHARE),
    Column("rating", "Rating", _STARS),
    Column("rated_sessions", "Rated", _COUNT),
]


def _totals_asked(page: Page, step: str) -> list[Question]:
    select = _TOTALS.replace("{time}", "DATE_TRUNC('month', day)" if step == "month" else "day")
    found = [page.ask("daily_engagement", select, every_s=EVERY_S)]
    if page.filters.compared:
        found.append(page.ask("daily_engagement", select, before=True, every_s=EVERY_S))
    return found


class _WatchTime(ChartCard):
    """Watch time by the parts of it that someone chose; a click on a month shows its days.

    Args:
        again: makes the card anew, with other parts.
    """

    def __init__(self, page: Page, again: Callable[[], None]) -> None:
        self._again = again
        chosen = page.kept.get("by", "plan")
        self._by = chosen if chosen in _BY else "plan"
        by_day = is_by_day(page.filters.period)
        select = (
            PARTS.replace("{time}", "day" if by_day else "DATE_TRUNC('month', day)")
            .replace("{part}", _BY[self._by][1])
            .replace("{value}", "watch_minutes")
            .replace("{view}", "daily_engagement")
            .replace("SUM(value) AS value\nFROM cells", "SUM(value) / 60 AS value\nFROM cells")
        )
        asked = [page.ask("daily_engagement", select, every_s=EVERY_S)]
        asked += _totals_asked(page, "day" if by_day else "month")[1:]
        super().__init__(
            page,
            "Watch time by day" if by_day else "Watch time by month",
            asked,
            days_chart if by_day else months_chart,
            width=12,
            height="280px",
            on_click=None if by_day else self._clicked,
            about="Hours of all sessions, of unknown users and titles too."
            + ("" if by_day else " A click on a month shows its days."),
        )

    def _menu(self) -> None:
        names = {name: label for name, (label, _) in _BY.items()}
        ui.toggle(names, value=self._by, on_change=self._chosen).props(
            'dense flat no-caps size="sm" toggle-color="picked" aria-label="Watch time by"'
        ).classes("parts")
        super()._menu()

    def _chosen(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._page.keep({"by": "" if event.value == "plan" else event.value})
        self._again()

    def _clicked(self, event: events.EChartPointClickEventArguments) -> None:
        month = month_start(event.name)
        if month is not None:
            self._page.change(in_month(self._page.filters, month))


def in_month(filters: Filters, month: datetime) -> Filters:
    """The same filters, with a month as the time."""
    return replace(filters, period=Period(None, month, earlier(month, -1)))


# -- tiles ---------------------------------------------------------------------------------


def hours_tile(replies: Sequence[Reply]) -> Figure:
    return _total_tile(replies, "watch_hours", "h")


def sessions_tile(replies: Sequence[Reply]) -> Figure:
    return _total_tile(replies, "sessions", "")


def _total_tile(replies: Sequence[Reply], column: str, unit: str) -> Figure:
    """All of a period, against the one before, or with the newest full month."""
    totals = [_by_month(reply, column) for reply in replies]
    now = sum(totals[0].values())
    value = f"{now:,.0f} {unit}".rstrip() if now < _IN_FULL else shown(now, unit)
    if len(totals) > 1:
        before = sum(totals[1].values()) if totals[1] else None
        grown = change(now, before)
        return Figure(value, grown, f"{shown(before, unit)} before", _is_good(grown))
    running = running_month(replies[0])
    full = [month for month in totals[0] if month.date() != running]
    if not full:
        return Figure(value)
    newest = max(full)
    grown = change(totals[0][newest], totals[0].get(earlier(newest, 1)))
    told = f"{month_name(newest)}: {shown(totals[0][newest], unit)}"
    return Figure(value, "", told + (f", {grown}" if grown else ""))


def _by_month(reply: Reply, column: str) -> dict[datetime, float]:
    table = rows_of(reply)
    months, values = table.column("month").to_pylist(), table.column(column).to_pylist()
    return {month: float(v or 0) for month, v in zip(months, values, strict=True)}


def rating_tile(replies: Sequence[Reply]) -> Figure:
    rows = [rows_of(reply).to_pylist()[0] for reply in replies]
    rating, rated, sessions = (rows[0][n] for n in ("rating", "rated_sessions", "sessions"))
    if rating is None:
        return Figure("–", note="No session was rated")
    before = rows[1]["rating"] if len(rows) > 1 else None
    moved = "" if before is None else f"{rating - before:+.2f}"
    share = shown(float(rated) / float(sessions), "%")
    return Figure(f"{rating:.2f} ★", moved, f"{shown(rated)} rated, {share} of sessions",
                  _is_good("" if moved in ("+0.00", "-0.00") else moved))  # fmt: skip


def _is_good(told: str) -> bool | None:
    return None if not told or told.startswith("±") else told.startswith("+")


# -- charts --------------------------------------------------------------------------------


def months_chart(replies: Sequence[Reply]) -> Options:
    before = _named(replies[1]) if len(replies) > 1 else None
    return month_bars(replies[0], {"value": "Watch time"}, _HOURS, by="part",
                      running=running_month(replies[0]), before=before)  # fmt: skip


def days_chart(replies: Sequence[Reply]) -> Options:
    now, before = replies[0], replies[1] if len(replies) > 1 else None
    options = lines(rows_of(now), "month", {"value": ""}, _HOURS, by="part", stacked=True)
    options["xAxis"] |= {"axisPointer": {"label": {":formatter": _DAY_SCRIPT}}}
    if before is not None and now.start is not None and before.start is not None:
        shift = (now.start - before.start).total_seconds() * 1000
        pale = lines(rows_of(before), "month", {"watch_hours": "All, before"}, _HOURS)["series"][0]
        pale |= {
            "data": [[time + shift, value] for time, value in pale["data"]],
            "areaStyle": None,
            "lineStyle": {"width": 1.5, "type": "dashed", "color": MUTED},
            "itemStyle": {"color": MUTED},
        }
        options["series"].append(pale)
        options["legend"] = LEGEND
    return options


def genres_chart(replies: Sequence[Reply]) -> Options:
    rows = rows_of(replies[0]).to_pylist()
    calendar = Calendar([row["month"] for row in rows], running_month(replies[0]))
    cells = [
        {
            "month": calendar.name(row["month"]),
            "genre": row["genre"],
            "share": row["share"],
            "hours": round(float(row["watch_hours"]), 1),
        }
        for row in rows
    ]
    table = pa.Table.from_pylist(cells)
    return in_two_lines(heat(table, "month", "genre", "share", _SHARE, size="hours",
                             size_name="Hours", xs=calendar.names,
                             labels=len(calendar.names) <= _LABELLED))  # fmt: skip


def ratings_chart(replies: Sequence[Reply]) -> Options:
    table = rows_of(replies[0])
    rated = {
        row["genre"]: f"{row['rating']:.2f} ★  {int(row['rated_sessions']):,} rated"
        for row in table.to_pylist()
    }
    options = bars(table, "genre", {"rating": "Rating"}, _STARS, across=True)
    series = options["series"][0]
    series["data"] = [
        {"value": value, "label": {"formatter": rated[genre]}}
        for genre, value in zip(options["yAxis"]["data"], series["data"], strict=True)
    ]
    series["label"] = {"show": True, "position": "right", "color": AXIS, "fontSize": 11}
    options["xAxis"] |= {"min": 0, "max": 5, "interval": 1}
    options["grid"] |= {"left": 20, "right": 60}
    if len(replies) > 1:
        known = {row["genre"]: row["rating"] for row in rows_of(replies[1]).to_pylist()}
        before = [known.get(genre) for genre in options["yAxis"]["data"]]
        options["series"].append({
            "type": "bar", "name": "Before", "data": before, "barMaxWidth": 26,
            "itemStyle": {"color": MUTED, "borderRadius": 2, "opacity": 0.6},
        })  # fmt: skip
        options |= {"legend": LEGEND, "grid": options["grid"] | {"top": 32}}
    return options


def title_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    return [
        {
            "id": row["movie_id"],
            "title": row["title"] or row["movie_id"],
            "genre": row["genre"] or "(unknown)",
            "content_type": row["content_type"] or "(unknown)",
            "sessions": int(row["sessions"]),
            "watch_hours": float(row["watch_hours"]),
            "completion_rate": float(row["completion_rate"]),
            "progress": None if row["progress"] is None else float(row["progress"]),
            "rating": None if row["rating"] is None else float(row["rating"]),
            "rated_sessions": int(row["rated_sessions"]),
        }
        for row in rows_of(replies[0]).to_pylist()
    ]


def _named(reply: Reply) -> Reply:
    """Totals with their hours as `value`."""
    table = rows_of(reply).select(["month", "watch_hours"]).rename_columns(["month", "value"])
    return Reply(table, newest=reply.newest, start=reply.start, end=reply.end)
