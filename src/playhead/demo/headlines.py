"""The headline of each view: a few rows in an order and in units that people read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from playhead.engines import connect

__all__ = ["HEADLINES", "Headline", "headline_of", "level_text", "plain_table"]

Show = Callable[[Any], Text | str]
_EMPTY = "–"


@dataclass(frozen=True)
class Column:
    """A column as it is shown: its title with the unit, and a value's text."""

    title: str
    show: Show
    right: bool = True


@dataclass(frozen=True)
class Headline:
    """What to show of one view.

    Attributes:
        title: what the rows are; `{name}` is filled from `about`.
        sql: the rows, over the relation `answer`; its columns are those of `columns`.
        columns: how to show them.
        about: one row of values for the title, over the relation `answer`.
    """

    title: str
    sql: str
    columns: tuple[Column, ...]
    about: str = ""


def _count(value: int) -> str:
    return f"{value:,}"


def _hours(minutes: Decimal) -> str:
    return f"{minutes / 60:,.0f}"


def _one_place(value: float | Decimal) -> str:
    return f"{value:,.1f}"


def _two_places(value: float | Decimal) -> str:
    return f"{value:,.2f}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _month(value: date) -> str:
    return f"{value:%Y-%m}"


def _minute(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M}"


def _bar(share: float) -> Text:
    """A share of the largest value, as a bar of up to 24 characters."""
    eighths = round(share * 24 * 8)
    part = " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return Text("█" * (eighths // 8) + part, style="cyan")


_LEVEL_STYLES = {"HIGH": "bold red", "MEDIUM": "yellow", "LOW": "dim"}


def level_text(value: str) -> Text:
    """An alert level in its colour."""
    return Text(value, style=_LEVEL_STYLES.get(value, ""))


def _text(title: str) -> Column:
    return Column(title, str, right=False)


_LATEST = "(watch_year, watch_month) = (SELECT max((watch_year, watch_month)) FROM answer)"
_LATEST_MONTH = "SELECT max(make_date(watch_year, watch_month, 1)) AS month FROM answer"
_ENGAGEMENT = (
    Column("sessions", _count),
    Column("watch hours", _hours),
    Column("minutes/session", _one_place),
)

HEADLINES: Mapping[str, Headline] = {
    "monthly_active_users": Headline(
        "Active users, the last six months",
        """SELECT make_date(watch_year, watch_month, 1), monthly_active_users, countries,
            total_watch_time_minutes,
            monthly_active_users / max(monthly_active_users) OVER ()
        FROM (FROM answer ORDER BY watch_year DESC, watch_month DESC LIMIT 6) ORDER BY 1""",
        (
            Column("month", _month, right=False),
            Column("active users", _count),
            Column("countries", _count),
            Column("watch hours", _hours),
            Column("", _bar, right=False),
        ),
    ),
    "monthly_engagement": Headline(
        "Engagement by country and plan, {month:%B %Y}, most watched first",
        f"""SELECT country, subscription_plan, monthly_active_users, unique_content_viewed,
            total_sessions, total_watch_time_minutes, avg_session_duration
        FROM answer WHERE {_LATEST} ORDER BY total_watch_time_minutes DESC, 1, 2 LIMIT 6""",
        (
            _text("country"),
            _text("plan"),
            Column("active users", _count),
            Column("titles", _count),
            *_ENGAGEMENT,
        ),
        _LATEST_MONTH,
    ),
    "cohort_retention": Headline(
        "The first six cohorts: users still active, by months since their first watch",
        f"""SELECT cohort_month, max(cohort_size), {
            ", ".join(
                f"max(retention_rate) FILTER (months_since_cohort = {n})" for n in range(1, 8)
            )
        }
        FROM answer GROUP BY 1 ORDER BY 1 LIMIT 6""",
        (
            Column("cohort", _month, right=False),
            Column("users", _count),
            *(Column(f"+{n}", _percent) for n in range(1, 8)),
        ),
    ),
    "monthly_churn": Headline(
        "Users who did not watch again in the next month, the last six months",
        """SELECT month, sum(active_users)::BIGINT, sum(returned_users)::BIGINT,
            sum(churned_users)::BIGINT, sum(churned_users) / sum(active_users)
        FROM answer GROUP BY 1
        QUALIFY row_number() OVER (ORDER BY month DESC) <= 6 ORDER BY 1""",
        (
            Column("month", _month, right=False),
            Column("active users", _count),
            Column("returned", _count),
            Column("churned", _count),
            Column("churn", _percent),
        ),
    ),
    "genre_performance": Headline(
        "Genres of all time, most watched first",
        """SELECT genre_primary, avg_rating, unique_movies, unique_users, total_views,
            total_watch_time_minutes, avg_watch_duration
        FROM answer ORDER BY total_watch_time_minutes DESC, 1 LIMIT 6""",
        (
            _text("genre"),
            Column("rating of 5", _two_places),
            Column("titles", _count),
            Column("users", _count),
            *_ENGAGEMENT,
        ),
    ),
    "content_performance": Headline(
        "Genres of reviewed titles, {months:,} months, most views first",
        """SELECT genre_primary, sum(total_views * avg_rating) / sum(total_views),
            sum(total_views)::BIGINT, sum(total_watch_time_minutes),
            sum(total_watch_time_minutes) / sum(total_views)
        FROM answer GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 6""",
        (
            _text("genre"),
            Column("rating of 5", _two_places),
            Column("views", _count),
            Column("watch hours", _hours),
            Column("minutes/view", _one_place),
        ),
        "SELECT count(DISTINCT (watch_year, watch_month)) AS months FROM answer",
    ),
    "title_performance": Headline(
        "Titles, {months:,} months, most watched first",
        """SELECT title, genre_primary, content_type, sum(sessions)::BIGINT, sum(watch_minutes),
            sum(completed_sessions) / sum(sessions), sum(rating_sum) / sum(rated_sessions)
        FROM answer GROUP BY movie_id, 1, 2, 3 ORDER BY 5 DESC, movie_id LIMIT 6""",
        (
            _text("title"),
            _text("genre"),
            _text("kind"),
            Column("sessions", _count),
            Column("watch hours", _hours),
            Column("completed", _percent),
            Column("stars of 5", _two_places),
        ),
        "SELECT count(DISTINCT month) AS months FROM answer",
    ),
    "daily_engagement": Headline(
        "How sessions end by kind of title, {days:,} days, most sessions first",
        """SELECT content_type, sum(sessions)::BIGINT, sum(watch_minutes),
            sum(completed_sessions) / sum(sessions), sum(abandoned_sessions) / sum(sessions),
            sum(progress_sum) / sum(progress_known)
        FROM answer GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 6""",
        (
            _text("kind"),
            Column("sessions", _count),
            Column("watch hours", _hours),
            Column("completed", _percent),
            Column("abandoned", _percent),
            Column("mean progress, %", _one_place),
        ),
        "SELECT count(DISTINCT day) AS days FROM answer",
    ),
    "device_quality": Headline(
        "Mean progress by device and quality, in % of the title, {days:,} days",
        f"""SELECT device_type, sum(sessions)::BIGINT, sum(watch_minutes), {
            ", ".join(
                f"sum(avg_progress * sessions) FILTER (quality = '{q}') / "
                f"sum(sessions) FILTER (quality = '{q}')"
                for q in ("SD", "HD", "4K", "Ultra HD")
            )
        }
        FROM answer GROUP BY 1 ORDER BY 2 DESC, 1""",
        (
            _text("device"),
            Column("sessions", _count),
            Column("watch hours", _hours),
            *(Column(quality, _one_place) for quality in ("SD", "HD", "4K", "Ultra HD")),
        ),
        "SELECT count(DISTINCT day) AS days FROM answer",
    ),
    "search_health": Headline(
        "Searches by country, {days:,} days, most searches first",
        """SELECT country, sum(searches)::BIGINT,
            sum(zero_result_rate * searches) / sum(searches),
            sum(click_through_rate * searches) / sum(searches),
            sum(typo_rate * searches) / sum(searches)
        FROM answer GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 6""",
        (
            _text("country"),
            Column("searches", _count),
            Column("no result", _percent),
            Column("clicked", _percent),
            Column("with a typo", _percent),
        ),
        "SELECT count(DISTINCT day) AS days FROM answer",
    ),
    "recommendation_health": Headline(
        "Recommendations by type, {days:,} days, most clicked first",
        """SELECT recommendation_type, sum(impressions)::BIGINT, sum(clicks)::BIGINT,
            sum(clicks) / sum(impressions)
        FROM answer GROUP BY 1 ORDER BY 4 DESC, 1 LIMIT 6""",
        (
            Column("type", lambda value: str(value).replace("_", " "), right=False),
            Column("impressions", _count),
            Column("clicks", _count),
            Column("clicked", _percent),
        ),
        "SELECT count(DISTINCT day) AS days FROM answer",
    ),
    "active_viewers": Headline(
        "The busiest of {windows:,} 5-minute windows, all countries and plans",
        """SELECT window_start, sum(sessions)::BIGINT, sum(active_users)::BIGINT,
            sum(watch_minutes), sum(sessions_at_risk) / sum(sessions), sum(revenue_at_risk)
        FROM answer GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT 6""",
        (
            Column("window (UTC)", _minute, right=False),
            Column("sessions", _count),
            Column("active users", _count),
            Column("watch hours", _hours),
            Column("at risk", _percent),
            Column("$ a month", _two_places),
        ),
        "SELECT count(DISTINCT window_start) AS windows FROM answer",
    ),
    "engagement_health": Headline(
        "The gravest 5-minute windows: {high:,} HIGH, {medium:,} MEDIUM, {low:,} LOW",
        """SELECT window_start, country, genre, device_type, quality, sessions, churn_rate,
            revenue_impact, alert_level
        FROM answer
        ORDER BY list_position(['HIGH', 'MEDIUM', 'LOW'], alert_level),
            churn_rate * sessions DESC, revenue_impact DESC, 1, 2, 3, 4, 5
        LIMIT 6""",
        (
            Column("window (UTC)", _minute, right=False),
            _text("country"),
            _text("genre"),
            _text("device"),
            _text("quality"),
            Column("sessions", _count),
            Column("at risk", _percent),
            Column("$ a month", _two_places),
            Column("alert", level_text, right=False),
        ),
        """SELECT count(*) FILTER (alert_level = 'HIGH') AS high,
            count(*) FILTER (alert_level = 'MEDIUM') AS medium,
            count(*) FILTER (alert_level = 'LOW') AS low FROM answer""",
    ),
}
"""By view, in the order in which they are shown."""


def headline_of(view: str, answer: pa.Table) -> tuple[str, Table]:
    """The title and the rows of a view's headline; of a view without one, its first rows."""
    if view not in HEADLINES:
        columns = [_text(name) for name in answer.column_names[:8]]
        return f"{answer.num_rows:,} rows", _table(columns, _first_rows(answer))
    headline = HEADLINES[view]
    with connect() as connection:
        connection.register("answer", answer)
        rows = connection.execute(headline.sql).fetchall()
        about: dict[str, Any] = {}
        if headline.about and rows:
            about = connection.execute(headline.about).to_arrow_table().to_pylist()[0]
    title = headline.title.format(**about) if rows else "no rows yet"
    return title, _table(headline.columns, rows)


def plain_table() -> Table:
    """A table without columns yet, in the style of all tables of the demo."""
    return Table(
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        padding=(0, 1),
        show_edge=False,
    )


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Table:
    """The rows; a column without any value is left out."""
    table = plain_table()
    shown = [n for n in range(len(columns)) if not rows or any(r[n] is not None for r in rows)]
    for n in shown:
        justify: Any = "right" if columns[n].right else "left"
        table.add_column(columns[n].title, justify=justify, no_wrap=True)
    for row in rows:
        cells = [(columns[n].show, row[n]) for n in shown]
        table.add_row(*(_EMPTY if value is None else show(value) for show, value in cells))
    return table


def _first_rows(answer: pa.Table) -> list[list[Any]]:
    rows = answer.slice(0, 6).to_pylist()
    return [list(row.values())[:8] for row in rows]
