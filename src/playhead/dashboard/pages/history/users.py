"""What the page History tells of users: how many are active, who leaves, who stays."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from playhead.dashboard.drawing.cards import ChartCard, Figure, Tile
from playhead.dashboard.drawing.charts import lines
from playhead.dashboard.drawing.maps import heat
from playhead.dashboard.drawing.palette import CATEGORIES, MUTED
from playhead.dashboard.drawing.parts import Options, Unit
from playhead.dashboard.filters import earlier
from playhead.dashboard.numbers import change, points, shown
from playhead.dashboard.page import Page
from playhead.dashboard.pages.history.months import (
    GAP,
    filled,
    month_bars,
    month_lines,
    month_name,
    rows_of,
)
from playhead.dashboard.questions import Question, Reply

__all__ = ["EVERY_S", "PARTS", "active_cards", "running_month", "user_tiles", "users_cards"]

EVERY_S = 5.0
_COUNT, _SHARE = Unit(), Unit("%", 1)
_COHORTS = 24
_VIVID = 4
"""So many of the newest cohorts have colours."""

PARTS = """\
WITH cells AS (
  SELECT {time} AS month, {part} AS part, SUM({value}) AS value
  FROM {view}
  WHERE {where}
  GROUP BY ALL
),
places AS (
  SELECT part, ROW_NUMBER() OVER (ORDER BY SUM(value) DESC, part) AS place
  FROM cells
  GROUP BY part
)
SELECT
  month,
  CASE WHEN place <= 7 THEN COALESCE(cells.part, '(unknown)') ELSE 'Others' END AS part,
  SUM(value) AS value
FROM cells
JOIN places ON cells.part IS NOT DISTINCT FROM places.part
WHERE value IS NOT NULL
GROUP BY ALL
ORDER BY month, part"""
"""Something that adds up, by month and by the largest parts of it."""

_MONTH = "MAKE_DATE(watch_year, watch_month, 1)"
_ACTIVE = f"""\
SELECT {_MONTH} AS month, monthly_active_users AS active_users
FROM monthly_active_users
WHERE {{where}}
ORDER BY month"""
_ACTIVE_OF = f"""\
SELECT {_MONTH} AS month, SUM(monthly_active_users) AS active_users
FROM monthly_engagement
WHERE {{where}}
GROUP BY ALL
ORDER BY month"""
_CHURN = """\
WITH followed AS (
  SELECT CAST(month - INTERVAL 1 MONTH AS DATE) AS month FROM monthly_churn GROUP BY ALL
)
SELECT
  month,
  CASE
    WHEN GROUPING(subscription_plan) = 1 THEN 'All plans'
    ELSE COALESCE(subscription_plan, '(unknown)')
  END AS part,
  SUM(active_users) AS active_users,
  SUM(churned_users) AS churned_users,
  SUM(churned_users) / SUM(active_users) AS churn_rate
FROM monthly_churn
SEMI JOIN followed USING (month)
WHERE {where}
GROUP BY GROUPING SETS ((month), (month, subscription_plan))
ORDER BY month, GROUPING(subscription_plan) DESC, part"""
_COHORT = """\
SELECT cohort_month, activity_month, months_since_cohort, active_users, cohort_size, retention_rate
FROM cohort_retention
WHERE {where}
ORDER BY cohort_month, months_since_cohort"""

_DISTINCT = "Distinct users with a session in the month, each once; exact, however events repeat. "
_LEFT = (
    "Of the users who watched in a month, those who watched nothing in the month right after it. "
    "A month after which nobody at all has watched tells nothing. "
)
_STAYED = (
    "A user's cohort is the month of the first session. The share of its users with a session "
    "so many months later. "
)


def user_tiles(page: Page) -> None:
    """The tiles about users, each one column of six."""
    active, before = _active(page), _active(page, before=True)
    Tile(page, "Monthly users", _both(page, active, before), active_tile,
         about=_DISTINCT + "The newest full month, against "
         + ("the same one of the period before." if page.filters.compared
            else "the month before it."))  # fmt: skip
    churn = page.ask("monthly_churn", _CHURN, every_s=EVERY_S)
    earlier_churn = page.ask("monthly_churn", _CHURN, before=True, every_s=EVERY_S)
    Tile(page, "Churn", _both(page, churn, earlier_churn), churn_tile,
         about=_LEFT + "The newest month whose following month is over.")  # fmt: skip
    cohorts = page.ask("cohort_retention", _COHORT, every_s=EVERY_S)
    earlier_cohorts = page.ask("cohort_retention", _COHORT, before=True, every_s=EVERY_S)
    Tile(page, "Came back", _both(page, cohorts, earlier_cohorts), retention_tile,
         about="Of all users whose first session is in this time, the share that watched again in "
         "the month after it, as far as that month is over.")  # fmt: skip


def active_cards(page: Page, *, by_month: bool) -> None:
    """Monthly active users: in all, where there are several months, by plan, by country."""
    if by_month:
        asked = _both(page, _active(page), _active(page, before=True))
        so_far = "The month that still runs counts those who have watched so far."
        ChartCard(page, "Monthly active users", asked, active_chart, width=4,
                  about=_DISTINCT + so_far)  # fmt: skip
    width = 4 if by_month else 6
    for title, part in (("by plan", "subscription_plan"), ("by country", "country")):
        select = (
            PARTS.replace("{time}", _MONTH)
            .replace("{part}", part)
            .replace("{value}", "monthly_active_users")
            .replace("{view}", "monthly_engagement")
        )
        question = page.ask("monthly_engagement", select, every_s=EVERY_S)
        ChartCard(page, f"Active users {title}", [question], parts_chart, width=width,
                  about=_DISTINCT + "A user has one plan, one country: they add up.")  # fmt: skip


def users_cards(page: Page) -> None:
    """Who leaves and who stays."""
    churn = page.ask("monthly_churn", _CHURN, every_s=EVERY_S)
    before = page.ask("monthly_churn", _CHURN, before=True, every_s=EVERY_S)
    asked = _both(page, churn, before)
    ChartCard(page, "Churn by month", asked, churn_chart, width=6,
              about=_LEFT + "While the following month runs, those count who are not back "
              "so far.")  # fmt: skip
    ChartCard(page, "Churned users", [churn], churned_chart, width=6, about=_LEFT)
    cohorts = page.ask("cohort_retention", _COHORT, every_s=EVERY_S)
    ChartCard(page, "Retention", [cohorts], retention_chart, width=5, height="360px",
              about=_STAYED + "The newest cohorts have colours; the thick line is of all of them. "
              "The month that still runs is left out.")  # fmt: skip
    ChartCard(page, "Cohorts", [cohorts], cohort_chart, width=7, height="360px",
              about=_STAYED + f"The newest {_COHORTS} cohorts, each with the number of its users; "
              "paler cells are of the month that still runs.")  # fmt: skip


def running_month(reply: Reply) -> date | None:
    """The month of the newest event, of which more is to come."""
    return None if reply.newest is None else reply.newest.date().replace(day=1)


def _active(page: Page, *, before: bool = False) -> Question:
    if page.filters.values.get("country") or page.filters.values.get("plan"):
        return page.ask("monthly_engagement", _ACTIVE_OF, before=before, every_s=EVERY_S)
    return page.ask("monthly_active_users", _ACTIVE, before=before, every_s=EVERY_S)


def _both(page: Page, now: Question, before: Question) -> list[Question]:
    return [now, before] if page.filters.compared else [now]


def _month_before(month: date | None) -> date | None:
    return None if month is None else earlier(datetime(month.year, month.month, 1), 1).date()


# -- tiles ---------------------------------------------------------------------------------


def active_tile(replies: Sequence[Reply]) -> Figure:
    now = _by_month(replies[0], "active_users")
    running = running_month(replies[0])
    full = [month for month in now if month != running]
    note = f"{month_name(running)} so far: {shown(now[running])}" if running in now else ""
    if not full:
        return Figure(shown(now[max(now)]), note=f"{month_name(max(now))} so far")
    newest = max(full)
    before = now.get(_month_before(newest) or newest)
    if len(replies) > 1:
        compared = _by_month(replies[1], "active_users")
        before = compared[max(compared)] if compared else None
    grown = change(now[newest], before)
    return Figure(shown(now[newest]), grown, f"{month_name(newest)}. {note}", _is_good(grown))


def churn_tile(replies: Sequence[Reply]) -> Figure:
    running = _month_before(running_month(replies[0]))
    rates = [_full_rates(reply, running) for reply in replies]
    if not rates[0]:
        return Figure("–", note="Nothing is known of the month after")
    newest = max(rates[0])
    before = rates[0].get(_month_before(newest) or newest)
    if len(rates) > 1:
        before = rates[1][max(rates[1])] if rates[1] else None
    moved = points(rates[0][newest], before)
    return Figure(shown(rates[0][newest], "%"), moved, f"Of {month_name(newest)}",
                  _is_good(moved, more=False))  # fmt: skip


def retention_tile(replies: Sequence[Reply]) -> Figure:
    found = [_after_a_month(reply) for reply in replies]
    size, share = found[0]
    if share is None:
        return Figure("–", note="No cohort whose next month is over")
    moved = points(share, found[1][1]) if len(found) > 1 else ""
    return Figure(shown(share, "%"), moved, f"Of {size:,} new users", _is_good(moved))


def _is_good(told: str, *, more: bool = True) -> bool | None:
    return None if not told or told.startswith("±") else told.startswith("+") == more


def _by_month(reply: Reply, column: str) -> dict[date, float]:
    table = rows_of(reply)
    months, values = table.column("month").to_pylist(), table.column(column).to_pylist()
    return {m: float(v) for m, v in zip(months, values, strict=True) if v is not None}


def _full_rates(reply: Reply, running: date | None) -> dict[date, float]:
    """Churn of all plans in the months whose following month is over."""
    rows = rows_of(reply).to_pylist()
    return {
        row["month"]: float(row["churn_rate"])
        for row in rows
        if row["part"] == "All plans" and row["churn_rate"] is not None and row["month"] != running
    }


def _after_a_month(reply: Reply) -> tuple[int, float | None]:
    """The users of cohorts whose next month is over, and the share that watched in it."""
    rows = rows_of(reply).to_pylist()
    last = _month_before(running_month(reply))
    sizes = {r["cohort_month"]: r["cohort_size"] for r in rows if last is None or
             r["cohort_month"] < last}  # fmt: skip
    back = sum(r["active_users"] for r in rows
               if r["months_since_cohort"] == 1 and r["cohort_month"] in sizes)  # fmt: skip
    size = sum(sizes.values())
    return size, back / size if size else None


# -- charts --------------------------------------------------------------------------------


def active_chart(replies: Sequence[Reply]) -> Options:
    before = replies[1] if len(replies) > 1 else None
    return month_lines(replies[0], {"active_users": "Active users"}, _COUNT, area=True,
                       running=running_month(replies[0]), before=before)  # fmt: skip


def parts_chart(replies: Sequence[Reply]) -> Options:
    return month_bars(replies[0], {"value": ""}, _COUNT, by="part",
                      running=running_month(replies[0]))  # fmt: skip


def churn_chart(replies: Sequence[Reply]) -> Options:
    before = None
    if len(replies) > 1:
        before = _only(replies[1], "All plans")
    options = month_lines(replies[0], {"churn_rate": ""}, _SHARE, by="part", before=before,
                          running=_month_before(running_month(replies[0])))  # fmt: skip
    for series in options["series"]:
        if series["name"] == "All plans":
            series["lineStyle"] = {"width": 3.5, "color": series["itemStyle"]["color"]}
    return options


def churned_chart(replies: Sequence[Reply]) -> Options:
    rows = [row for row in rows_of(replies[0]).to_pylist() if row["part"] != "All plans"]
    table = pa.Table.from_pylist(rows, schema=rows_of(replies[0]).schema)
    return month_bars(_with(replies[0], table), {"churned_users": ""}, _COUNT, by="part",
                      running=_month_before(running_month(replies[0])))  # fmt: skip


def retention_chart(replies: Sequence[Reply]) -> Options:
    """A line for each cohort, by months since its first; that of all of them is thick."""
    shares = _shares(replies[0])
    steps = filled(since for at in shares.values() for since in at)
    names = [GAP + "\u200b" * n if step is None else str(step) for n, step in enumerate(steps)]
    rows = [
        {"since": since, "name": name, "share": share}
        for name, at in shares.items()
        for since, share in at.items()
    ]
    schema = pa.schema([("since", pa.int64()), ("name", pa.string()), ("share", pa.float64())])
    options = lines(pa.Table.from_pylist(rows, schema=schema), "since", {"share": ""}, _SHARE,
                    by="name", names=str, categories=names, most=_COHORTS + 1)  # fmt: skip
    vivid = [name for name in shares if name != _ALL][-_VIVID:]
    for series in options["series"]:
        _emphasise(series, vivid)
    options["legend"] = options["legend"] | {"data": [_ALL, *reversed(vivid)]}
    options["xAxis"] |= {"name": "months after the first", "nameLocation": "middle", "nameGap": 26,
                         "nameTextStyle": {"color": MUTED}}  # fmt: skip
    options["yAxis"] |= {"scale": True}
    options["grid"] |= {"bottom": 22}
    return options


_ALL = "All cohorts"


def _emphasise(series: Options, vivid: Sequence[str]) -> None:
    """The colour and the width of a cohort's line, and whether it lies above others."""
    name = series["name"]
    colour, width, z = MUTED, 1.0, 1
    if name == _ALL:
        colour, width, z = CATEGORIES[0], 3.5, 4
    elif name in vivid:
        colour, width, z = CATEGORIES[1 + vivid[::-1].index(name)], 1.8, 3
    opacity = 0.45 if z == 1 else 1.0
    series["lineStyle"] = {"width": width, "color": colour, "opacity": opacity}
    series["itemStyle"] = {"color": colour, "opacity": opacity}
    series |= {"z": z, "symbolSize": 5 if z > 1 else 3}


def _shares(reply: Reply) -> dict[str, dict[int, float]]:
    """Of each cohort and of all, the share that was active so many months later.

    What has no row is none, in months in which anyone was active.
    """
    running = running_month(reply)
    rows = [r for r in rows_of(reply).to_pylist() if r["activity_month"] != running]
    known = sorted({r["activity_month"] for r in rows})
    sizes = {r["cohort_month"]: r["cohort_size"] for r in rows}
    active = {(r["cohort_month"], r["activity_month"]): r["active_users"] for r in rows}
    found: dict[str, dict[int, float]] = {}
    sums: dict[int, list[int]] = {}
    for cohort, size in sizes.items():
        for month in known:
            since = (month.year - cohort.year) * 12 + month.month - cohort.month
            if since < 0:
                continue
            count = active.get((cohort, month), 0)
            found.setdefault(month_name(cohort), {})[since] = count / size
            both = sums.setdefault(since, [0, 0])
            both[0] += count
            both[1] += size
    newest = dict(list(found.items())[-_COHORTS:])
    return {_ALL: {since: n / of for since, (n, of) in sums.items()}, **newest}


def cohort_chart(replies: Sequence[Reply]) -> Options:
    """The cohorts from top to bottom, the months since their first from left to right."""
    rows = rows_of(replies[0]).to_pylist()
    shown_ones = set(sorted({row["cohort_month"] for row in rows})[-_COHORTS:])
    running = running_month(replies[0])
    cells: list[dict[str, Any]] = []
    paler = set()
    for row in rows:
        if row["cohort_month"] in shown_ones:
            since, name = str(row["months_since_cohort"]), _cohort_name(row)
            cells.append({"since": since, "cohort": name, "share": row["retention_rate"],
                          "users": row["active_users"]})  # fmt: skip
            if row["activity_month"] == running:
                paler.add((since, name))
    steps = filled(int(cell["since"]) for cell in cells)
    xs = [GAP + "\u200b" * n if step is None else str(step) for n, step in enumerate(steps)]
    options = heat(pa.Table.from_pylist(cells), "since", "cohort", "share", _SHARE, labels=True,
                   highest=100.0, size="users", size_name="Active users", xs=xs,
                   paler=paler)  # fmt: skip
    options["xAxis"] |= {"position": "top", "axisTick": {"show": False}}
    return options


def _cohort_name(row: dict[str, Any]) -> str:
    return f"{month_name(row['cohort_month'])} · {row['cohort_size']:,}"


def _only(reply: Reply, part: str) -> Reply:
    table = rows_of(reply)
    rows = [row for row in table.to_pylist() if row["part"] == part]
    return _with(reply, pa.Table.from_pylist(rows, schema=table.schema))


def _with(reply: Reply, table: pa.Table) -> Reply:
    return Reply(table, newest=reply.newest, start=reply.start, end=reply.end)
