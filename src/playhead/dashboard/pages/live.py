"""The page Live: who watches now, how it goes, and who is about to leave."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

import pyarrow as pa
from nicegui import ui

from playhead.dashboard.board import Board
from playhead.dashboard.drawing.cards import Card, ChartCard, Figure, TableCard, Tile, grid
from playhead.dashboard.drawing.charts import bars, lines
from playhead.dashboard.drawing.maps import heat
from playhead.dashboard.drawing.palette import RISK
from playhead.dashboard.drawing.parts import Options, Unit
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.filters import Filters, Period
from playhead.dashboard.numbers import change, points, shown
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.questions import Question, Reply
from playhead.views import View

__all__ = ["SPEC"]

WINDOW = timedelta(minutes=5)
_LEVELS = ("HIGH", "MEDIUM", "LOW")
_COUNT, _SHARE, _MONEY = Unit(), Unit("%", 1), Unit("$")
_ALERTS = 60
_ROWS = ("country", "device_type")
_NAMES = {"genre": "Top genres", "country": "Top countries"}

_WINDOWS = """\
SELECT
  window_start,
  SUM(active_users) AS viewers,
  SUM(sessions) AS sessions,
  SUM(watch_minutes) AS watch_minutes,
  SUM(sessions_at_risk) / SUM(sessions) AS churn_rate,
  SUM(low_engagement_sessions) / SUM(sessions) AS low_engagement,
  SUM(abandoned_sessions) / SUM(sessions) AS abandoned,
  SUM(downgraded_sessions) / SUM(sessions) AS downgraded,
  SUM(completed_sessions) / SUM(sessions) AS completed,
  SUM(revenue_at_risk) AS revenue
FROM active_viewers
WHERE {where}
GROUP BY window_start
ORDER BY window_start"""
_SEGMENTS = """\
SELECT
  window_start,
  SUM(active_users) AS viewers,
  SUM(sessions) AS sessions,
  SUM(watch_minutes) AS watch_minutes,
  SUM(ROUND(churn_rate * sessions)) / SUM(sessions) AS churn_rate,
  SUM(ROUND(low_engagement_rate * sessions)) / SUM(sessions) AS low_engagement,
  SUM(ROUND(abandoned_rate * sessions)) / SUM(sessions) AS abandoned,
  SUM(ROUND(quality_downgrade_rate * sessions)) / SUM(sessions) AS downgraded,
  NULL AS completed,
  SUM(revenue_impact) AS revenue
FROM engagement_health
WHERE {where}
GROUP BY window_start
ORDER BY window_start"""
_RISK = """\
WITH cells AS (
  SELECT
    {row},
    genre,
    SUM(sessions) AS sessions,
    SUM(ROUND(churn_rate * sessions)) AS at_risk
  FROM engagement_health
  WHERE {where}
  GROUP BY ALL
),
genres AS (
  SELECT genre FROM cells GROUP BY genre ORDER BY SUM(sessions) DESC, genre LIMIT 12
),
segments AS (
  SELECT {row} FROM cells GROUP BY {row} ORDER BY SUM(sessions) DESC, {row} LIMIT 12
)
SELECT {row}, genre, sessions, at_risk / sessions AS churn_rate
FROM cells
SEMI JOIN genres ON cells.genre IS NOT DISTINCT FROM genres.genre
SEMI JOIN segments ON cells.{row} IS NOT DISTINCT FROM segments.{row}
ORDER BY {row}, genre"""
_TOP = """\
WITH newest AS (SELECT MAX(window_start) AS open FROM engagement_health WHERE {where})
SELECT
  {name} AS name,
  SUM(sessions) AS sessions,
  SUM(watch_minutes) AS watch_minutes,
  COALESCE(SUM(sessions) FILTER (window_start = open - INTERVAL 5 MINUTE), 0) AS last_window,
  COALESCE(SUM(sessions) FILTER (window_start = open - INTERVAL 10 MINUTE), 0) AS window_before,
  SUM(ROUND(churn_rate * sessions)) / SUM(sessions) AS churn_rate
FROM engagement_health, newest
WHERE {where}
GROUP BY ALL
ORDER BY sessions DESC, name
LIMIT 30"""
_MIX = """\
SELECT device_type, quality, SUM(sessions) AS sessions
FROM engagement_health
WHERE {where}
GROUP BY ALL
ORDER BY device_type, quality"""
_ALERT = """\
SELECT
  alert_level, window_start, country, genre, device_type, quality, content_type,
  sessions, active_users, churn_rate, low_engagement_rate, quality_downgrade_rate,
  abandoned_rate, revenue_impact
FROM engagement_health
WHERE {where} AND alert_level = '{level}'
ORDER BY window_start DESC, revenue_impact DESC, sessions DESC
LIMIT {most}"""
_ALERTS_BY_LEVEL = """\
SELECT alert_level, COUNT(*) AS alerts
FROM engagement_health
WHERE {where}
GROUP BY alert_level
ORDER BY alert_level"""
_AT_RISK = """\
A session is at risk when at least two of three signals hold: progress below 20 %, a picture in SD \
or HD, stopped before half. """


class _Questions:
    """What the page asks, within some filters."""

    def __init__(self, views: Mapping[str, View], filters: Filters) -> None:
        def ask(view: str, select: str, **named: str) -> Question:
            for name, value in named.items():
                select = select.replace(f"{{{name}}}", value)
            return Question.about(views[view], select, filters)

        # Only these are known of each segment; what viewers do is known of the user, too.
        self.is_segmented = any(filters.values.get(n) for n in ("genre", "device", "type"))
        self.windows = (
            ask("engagement_health", _SEGMENTS)
            if self.is_segmented
            else ask("active_viewers", _WINDOWS)
        )
        self.risk = {row: ask("engagement_health", _RISK, row=row) for row in _ROWS}
        self.mix = ask("engagement_health", _MIX)
        self.top = {name: ask("engagement_health", _TOP, name=name) for name in _NAMES}
        newest = [
            ask("engagement_health", _ALERT, level=level, most=str(_ALERTS)) for level in _LEVELS
        ]
        self.alerts = [*newest, ask("engagement_health", _ALERTS_BY_LEVEL)]

    def all(self) -> list[Question]:
        risk, top = self.risk.values(), self.top.values()
        return [self.windows, *risk, self.mix, *top, *self.alerts]


def kept(board: Board, filters: Filters) -> Sequence[Question]:
    """The questions that the page asks."""
    return _Questions(board.views, filters).all()


def build(page: Page) -> None:
    """Make its content."""
    asked = _Questions(page.board.views, page.filters)
    windows = asked.windows
    viewers = (
        "Each viewer counts once for every genre, device, quality and type watched in a window: "
        "with these filters it is an upper bound."
        if asked.is_segmented
        else "Distinct users with a session in the window; exact, however events are repeated."
    )
    with grid():
        _tiles(page, windows, viewers)
    with grid():
        ChartCard(page, "Viewers and sessions", [windows], viewers_chart, width=8,
                  about=f"Per 5-minute window of event time. {viewers} Shaded windows are open: "
                  "they end after the watermark, 10 minutes behind the newest event. A triangle "
                  "marks a window that late events have changed.")  # fmt: skip
        ChartCard(page, "Engagement", [windows], engagement_chart, width=4,
                  about="Shares of the sessions of each window: with progress below 20 %, stopped "
                  "before half, in SD or HD, and watched to the end.")  # fmt: skip
    with grid():
        _Alerts(page, asked.alerts)
        ChartCard(page, "Churn risk by country and genre", [asked.risk["country"]], country_risk,
                  width=7, height="330px",
                  about=_AT_RISK + "The colour is their share in this time.")  # fmt: skip
    with grid():
        ChartCard(page, "Revenue at risk", [windows], revenue_chart, width=4,
                  about="Monthly spend of the distinct users behind sessions at risk, each once a "
                  f"window. {_AT_RISK}")  # fmt: skip
        ChartCard(page, "Churn risk by device and genre", [asked.risk["device_type"]], device_risk,
                  width=4, about=_AT_RISK)  # fmt: skip
        ChartCard(page, "Devices and picture quality", [asked.mix], mix_chart, width=4,
                  about="Sessions in this time, by device and picture.")  # fmt: skip
    with grid():
        for name, title in _NAMES.items():
            TableCard(page, title, [asked.top[name]], top_rows, _columns(title), width=6,
                      rows_shown=8, searched=False,
                      about="Sessions in this time; the last full 5-minute window against the one "
                      "before it.")  # fmt: skip


SPEC = Spec(
    "/live",
    "Live",
    "sensors",
    build,
    period=Period("3h"),
    periods=(
        ("30m", "Last 30 minutes"),
        ("1h", "Last hour"),
        ("3h", "Last 3 hours"),
        ("6h", "Last 6 hours"),
        ("24h", "Last 24 hours"),
        ("7d", "Last 7 days"),
    ),
    dimensions=("country", "plan", "genre", "device", "type"),
    kept=kept,
)


def _columns(title: str) -> list[Column]:
    return [
        Column("name", title.removeprefix("Top ").removesuffix("s").replace("ie", "y").title()),
        Column("sessions", "Sessions", _COUNT),
        Column("watch_minutes", "Watch time (min)", _COUNT),
        Column("last_window", "Last window", _COUNT),
        Column("change", "Change"),
        Column("churn_rate", "Churn risk", _SHARE),
    ]


# -- tiles ---------------------------------------------------------------------------------


def _tiles(page: Page, windows: Question, viewers: str) -> None:
    last = "In the last full 5-minute window, against the window before it. "
    Tile(page, "Active viewers", [windows], viewers_tile, about=last + viewers)
    Tile(page, "Sessions", [windows], sessions_tile, about=last)
    Tile(page, "Watch time", [windows], minutes_tile, about=last + "Minutes of all sessions.")
    Tile(page, "Low engagement", [windows], engagement_tile,
         about=last + "Share of sessions with progress below 20 %.")  # fmt: skip
    Tile(page, "Churn risk", [windows], churn_tile, about=last + _AT_RISK)
    Tile(page, "Revenue at risk", [windows], revenue_tile,
         about=last + "Monthly spend of the users behind sessions at risk, each once.")  # fmt: skip


def _tile(reply: Reply, column: str, unit: str = "", *, is_more_good: bool | None = None) -> Figure:
    """The last full window against the one before; the open one in small print."""
    found = _by_window(reply, column)
    newest = max(found)
    last, before = found.get(newest - WINDOW), found.get(newest - 2 * WINDOW)
    grown = points(last, before) if unit == "%" else change(last, before)
    is_good = None
    if is_more_good is not None and grown and not grown.startswith("±"):
        is_good = grown.startswith("+") == is_more_good
    is_count = unit != "%"
    value = shown(last if last is not None or not is_count else 0.0, unit)
    return Figure(value, grown, f"{newest:%H:%M} so far: {shown(found[newest], unit)}", is_good)


def _by_window(reply: Reply, column: str) -> dict[datetime, float | None]:
    table = _rows(reply)
    starts, values = table.column("window_start").to_pylist(), table.column(column).to_pylist()
    return {s: None if v is None else float(v) for s, v in zip(starts, values, strict=True)}


def viewers_tile(replies: Sequence[Reply]) -> Figure:
    return _tile(replies[0], "viewers", is_more_good=True)


def sessions_tile(replies: Sequence[Reply]) -> Figure:
    return _tile(replies[0], "sessions", is_more_good=True)


def minutes_tile(replies: Sequence[Reply]) -> Figure:
    return _tile(replies[0], "watch_minutes", "min", is_more_good=True)


def engagement_tile(replies: Sequence[Reply]) -> Figure:
    return _tile(replies[0], "low_engagement", "%", is_more_good=False)


def churn_tile(replies: Sequence[Reply]) -> Figure:
    return _tile(replies[0], "churn_rate", "%", is_more_good=False)


def revenue_tile(replies: Sequence[Reply]) -> Figure:
    return _tile(replies[0], "revenue", "$", is_more_good=False)


# -- charts --------------------------------------------------------------------------------


def viewers_chart(replies: Sequence[Reply]) -> Options:
    return _over_windows(replies[0], {"viewers": "Viewers", "sessions": "Sessions"}, _COUNT)


def engagement_chart(replies: Sequence[Reply]) -> Options:
    ys = {"low_engagement": "Low progress", "abandoned": "Abandoned", "downgraded": "SD or HD",
          "completed": "Completed"}  # fmt: skip
    return _over_windows(replies[0], ys, _SHARE)


def revenue_chart(replies: Sequence[Reply]) -> Options:
    return _over_windows(replies[0], {"revenue": "Revenue at risk"}, _MONEY)


def _over_windows(reply: Reply, ys: Mapping[str, str], unit: Unit) -> Options:
    table = _rows(reply)
    known = {y: name for y, name in ys.items() if table.column(y).null_count < table.num_rows}
    open_from = None if reply.watermark is None else reply.watermark - WINDOW
    return lines(
        table, "window_start", known, unit, area=True, open_from=open_from, revised=reply.revised
    )


def country_risk(replies: Sequence[Reply]) -> Options:
    return _risk_map(replies[0], "country")


def device_risk(replies: Sequence[Reply]) -> Options:
    return _risk_map(replies[0], "device_type")


def _risk_map(reply: Reply, row: str) -> Options:
    return heat(
        _rows(reply), "genre", row, "churn_rate", _SHARE, colours=RISK, highest=60.0,
        size="sessions", size_name="Sessions",
    )  # fmt: skip


def mix_chart(replies: Sequence[Reply]) -> Options:
    return bars(
        _rows(replies[0]), "device_type", {"sessions": "Sessions"}, _COUNT, by="quality",
        across=True, stacked=True,
    )  # fmt: skip


def top_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    rows = _rows(replies[0]).to_pylist()
    return [
        {
            "id": place,
            "name": row["name"] or "(unknown)",
            "sessions": int(row["sessions"]),
            "watch_minutes": float(row["watch_minutes"] or 0),
            "last_window": int(row["last_window"]),
            "change": change(float(row["last_window"]), float(row["window_before"])),
            "churn_rate": float(row["churn_rate"]),
        }
        for place, row in enumerate(rows)
    ]


def _rows(reply: Reply) -> pa.Table:
    assert reply.table is not None  # noqa: S101 - a card draws only what is there
    return reply.table


# -- alerts --------------------------------------------------------------------------------


class _Alerts(Card):
    """Alerts by level, the newest first, each with why."""

    def __init__(self, page: Page, asked: Sequence[Question]) -> None:
        self._level = ""
        self._shown: Sequence[Reply] = ()
        super().__init__(
            page,
            "Alerts",
            asked,
            width=5,
            height="330px",
            about=f"Segments of a 5-minute window. {_AT_RISK}MEDIUM and HIGH need two fifths of "
            "its sessions at risk; HIGH also a crowd beyond them, or 200 dollars of revenue. "
            "They are published when their window is final.",
        )

    def _make(self, replies: Sequence[Reply]) -> None:
        self._shown = replies
        with ui.element("div").classes("alerts"):
            with ui.element("div").classes("levels").props('role="tablist"'):
                self._tabs = {level: self._tab(level) for level in _LEVELS}
            self._list = ui.html("", sanitize=False).classes("alert-list")
        self._draw(replies)

    def _tab(self, level: str) -> ui.button:
        return ui.button(on_click=lambda: self._choose(level), color=None).props(
            f'flat dense no-caps role="tab" aria-label="{level}"'
        )

    def _choose(self, level: str) -> None:
        self._level = level
        self._draw(self._shown)

    def _draw(self, replies: Sequence[Reply]) -> None:
        self._shown = replies
        found = self._page.board.drawn(alert_lists, replies)
        chosen = self._level or next((level for level in _LEVELS if found[level][0]), "HIGH")
        for level, tab in self._tabs.items():
            tab.set_text(f"{level} {found[level][0]:,}")
            tab.classes(replace=f"level {level}" + ("" if level == chosen else " off"))
            tab.props(f'aria-selected="{"true" if level == chosen else "false"}"')
        self._list.set_content(found[chosen][1])


def alert_lists(replies: Sequence[Reply]) -> dict[str, tuple[int, str]]:
    """How many alerts there are of each level, and the newest of them as a list in HTML."""
    *newest, by_level = replies
    counts = {row["alert_level"]: row["alerts"] for row in _rows(by_level).to_pylist()}
    found = {}
    for level, reply in zip(_LEVELS, newest, strict=True):
        items = "".join(_alert(row, reply.watermark) for row in _rows(reply).to_pylist())
        nothing = f'<p class="hint">No {level} alert in this time.</p>'
        found[level] = counts.get(level, 0), f"<ol>{items}</ol>" if items else nothing
    return found


def _alert(row: Mapping[str, Any], watermark: datetime | None) -> str:
    is_open = watermark is None or row["window_start"] + WINDOW > watermark
    where = [row[name] or "(unknown)" for name in ("country", "genre", "device_type", "quality")]
    at = f"{row['window_start']:%b %d %H:%M}" + (", open" if is_open else "")
    return (
        f'<li class="alert {row["alert_level"]}"><div class="alert-where">'
        f"<span>{escape(' · '.join(where))}</span><span>{at}</span></div>"
        f'<div class="hint">{escape(why(row))}</div></li>'
    )


def why(row: Mapping[str, Any]) -> str:
    """Why a segment has its level, in a line."""
    sessions = int(row["sessions"])
    at_risk = round(float(row["churn_rate"]) * sessions)
    causes = {
        "low progress": row["low_engagement_rate"],
        "SD or HD": row["quality_downgrade_rate"],
        "abandoned": row["abandoned_rate"],
    }
    told = ", ".join(f"{shown(float(v), '%')} {name}" for name, v in causes.items() if v)
    spend = f"; {shown(float(row['revenue_impact']), '$')} a month" if row["revenue_impact"] else ""
    return f"{at_risk:,} of {sessions:,} sessions at risk{spend}" + (f" ({told})" if told else "")
