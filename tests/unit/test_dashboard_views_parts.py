"""What the pages of views are made of, without a browser."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from playhead.dashboard.app import SPECS
from playhead.dashboard.drawing.codeblock import highlighted
from playhead.dashboard.drawing.parts import Unit
from playhead.dashboard.drawing.tables import cell
from playhead.dashboard.pages.views import page as views
from playhead.dashboard.pages.views.builder import caution, choice_of
from playhead.dashboard.pages.views.cellsql import line_of
from playhead.dashboard.pages.views.lineagepicture import picture, sources, told
from playhead.dashboard.pages.views.sqlbox import answer_chart, can_draw
from playhead.dashboard.pages.views.sqltable import answer_columns, answer_rows
from playhead.dashboard.pages.views.uses import PAGES, Use
from playhead.dashboard.pages.views.viewfacts import newest_first, unit_of
from playhead.dashboard.questions import Question, Reply
from playhead.engines import connect
from playhead.serving.names import explained
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.leaf import Window
from playhead.views.lineage import lineage

HEALTH = library()["engagement_health"]
CHURN = library()["monthly_churn"]
NASTY = "<img src=x onerror=alert(1)>"


# -- facts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "unit", "words"),
    [
        (300, "second", "5 minutes"),
        (86_400, "second", "1 day"),
        (7, "second", "7 seconds"),
        (3, "month", "3 months"),
    ],
)
def test_a_window_in_words(width: int, unit: str, words: str) -> None:
    assert Window("w", width, unit).words == words


def test_keys_are_columns_that_tell_rows_apart() -> None:
    assert CHURN.keys == ("month",)
    assert HEALTH.keys[:2] == ("window_start", "country")
    assert "sessions" not in HEALTH.keys


def test_units_are_those_that_the_meaning_tells() -> None:
    assert unit_of(HEALTH, "churn_rate").is_share
    assert not unit_of(HEALTH, "avg_progress").is_share  # 0 to 100
    assert unit_of(HEALTH, "sessions") == Unit()


def test_the_newest_rows_come_first() -> None:
    assert newest_first(HEALTH).startswith(' ORDER BY "window_start" DESC, "country"')
    assert newest_first(CHURN) == ' ORDER BY "month" DESC'


def test_columns_of_a_view_are_text() -> None:
    text = CHURN.text.replace("distinct users who", f"{NASTY} who")
    shown = views.columns_table(View.parse("nasty", text))
    assert "<img" not in shown
    assert "&lt;img" in shown


@pytest.mark.parametrize(
    ("arguments", "tab"),
    [
        ({}, "about"),
        ({"tab": "rows"}, "rows"),
        ({"tab": "nothing"}, "about"),
        ({"sql": "SELECT 1"}, "query"),
        ({"kind": "bar"}, "chart"),
    ],
)
def test_the_part_that_an_address_means(arguments: Mapping[str, str], tab: str) -> None:
    assert views.tab_of(arguments) == tab


def test_charts_are_looked_for_on_every_other_page() -> None:
    assert [*PAGES, *views.SPECS] == list(SPECS)


# -- the picture ---------------------------------------------------------------------------


def test_a_picture_shows_sources_the_view_and_charts() -> None:
    upstream = lineage(HEALTH)
    known = sources(HEALTH, upstream)
    assert next(iter(known)) == "playback"
    assert {"users", "movies"} < set(known)
    drawn = picture(HEALTH, upstream, [Use("Live", "/live", f"Top {NASTY}")])
    assert "<img" not in drawn
    assert drawn.count('data-key="users.monthly_spend"') == 1
    assert drawn.count('class="way use"') == 1
    assert 'class="way on"' not in drawn


def test_a_chosen_column_lights_its_ways_up_and_down() -> None:
    upstream = lineage(HEALTH)
    up = picture(HEALTH, upstream, [], "revenue_impact")
    assert up.count('class="way on"') == len(upstream["revenue_impact"]) == 4
    down = picture(HEALTH, upstream, [], "users.monthly_spend")
    assert down.count('class="way on"') == 2
    assert "is made of playback.event_time." in told(HEALTH, upstream, "window_start")
    assert "makes revenue_impact, alert_level of" in told(HEALTH, upstream, "users.monthly_spend")
    assert "it counts rows" in told(HEALTH, upstream, "sessions")


# -- charts of one's own -------------------------------------------------------------------


def test_a_choice_is_what_its_address_tells() -> None:
    address = {"kind": "heat", "x": "month", "y": "churn_rate", "agg": "max", "colour": "country"}
    assert choice_of(CHURN, address).told() == address


@pytest.mark.parametrize(
    "address",
    [
        {},
        {"x": "nothing", "y": '"; DROP', "agg": "evil", "kind": "?", "colour": NASTY},
        {"y": "alert_level", "agg": "sum"},
        {"kind": "heat", "colour": "window_start"},
        {"kind": "scatter", "x": "sessions", "y": "sessions"},
        {"kind": "bar", "x": "country", "colour": "country"},
    ],
)
@pytest.mark.parametrize("view", [HEALTH, CHURN], ids=lambda view: view.name)
def test_every_choice_is_a_select_that_can_be_drawn(view: View, address: Mapping[str, str]) -> None:
    choice = choice_of(view, address)
    sql = Question(view.name, choice.select()).sql(view, None)
    with connect(memory_limit="128MB", threads=1) as connection:
        columns = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in view.plans.columns)
        connection.execute(f"CREATE TABLE {view.name} AS SELECT {columns}")
        connection.execute(f"UPDATE {view.name} SET {choice.x} = {_some(view, choice.x)}")
        table = connection.execute(sql).to_arrow_table()
    assert table.num_rows == 1
    assert choice((Reply(table),))


def _some(view: View, column: str) -> str:
    kind = dict(view.plans.columns)[column]
    known = {"TIMESTAMP": "'2025-01-01'", "DATE": "'2025-01-01'", "VARCHAR": "'x'"}
    return known.get(kind, "1")


def test_sums_that_mean_nothing_are_warned_of() -> None:
    distinct = choice_of(HEALTH, {"y": "active_users", "agg": "sum"})
    assert "more than once" in caution(HEALTH, distinct)
    share = choice_of(HEALTH, {"y": "churn_rate", "agg": "sum"})
    assert "mean nothing" in caution(HEALTH, share)
    assert choice_of(HEALTH, {"y": "churn_rate"}).agg == "avg"
    assert not caution(HEALTH, choice_of(HEALTH, {"y": "sessions"}))


# -- SQL -----------------------------------------------------------------------------------


def test_sql_in_colour_is_text() -> None:
    shown = highlighted(f"SELECT '{NASTY}' AS \"</pre>\" -- <b>\nFROM t WHERE a < 1")
    assert "<img" not in shown
    assert "</pre>" not in shown
    assert "<b>" not in shown
    assert '<i class="word">SELECT</i>' in shown
    assert shown.endswith("a &lt; " + '<i class="number">1</i>')


def test_explain_is_told_from_other_queries() -> None:
    assert explained("-- why\nEXPLAIN SELECT 1") == "SELECT 1"
    assert explained("SELECT 'EXPLAIN it'") is None


def test_the_line_of_an_error() -> None:
    assert line_of("Binder Error: no\n\nLINE 12: SELECT") == 12
    assert line_of("no relation x") is None


def test_rows_of_any_answer_are_json_by_place() -> None:
    table = pa.table({
        "id": pa.array([1, 2**60]),
        ":x": ["<b>", None],
        "n": pa.array([float("nan"), 1.5]),
        "ns": pa.array([1, 2], pa.timestamp("ns")),
        "far": pa.array([2**60, 0], pa.timestamp("us")),
        "l": [[1], []],
    })  # fmt: skip
    rows = answer_rows(table)
    assert [row["id"] for row in rows] == [0, 1]
    assert [row["c0"] for row in rows] == [1, str(2**60)]
    assert rows[0]["c1"] == "<b>"
    assert rows[0]["c2"] == "nan"
    assert all(isinstance(row["c4"], str) for row in rows)
    assert [column.name for column in answer_columns(table)] == [f"c{n}" for n in range(6)]
    assert answer_columns(table)[1].label == ":x"


def test_digits_that_a_browser_would_lose_are_text() -> None:
    assert cell(123_456_789_012_345) == 123_456_789_012_345
    assert cell(1_234_567_890_123_456) == "1234567890123456"
    assert cell(True) is True
    assert cell(datetime(2025, 1, 1, tzinfo=UTC)) == "2025-01-01 00:00:00+00:00"


def test_an_answer_is_drawn_by_its_first_column() -> None:
    days = pa.array([datetime(2025, 1, 2), None, datetime(2025, 1, 1)], pa.timestamp("us"))
    table = pa.table({"day": days, NASTY: [2, 9, 1], "name": ["a", "b", "c"]})
    assert can_draw(table, "line")
    (line,) = answer_chart(table, "line")["series"]
    assert line["name"] == NASTY
    assert [value for _, value in line["data"]] == [1, 2]
    assert not can_draw(table.select(["name", NASTY]), "line")
    assert can_draw(table.select(["name", NASTY]), "bar")
    assert not can_draw(table.select(["day", "name"]), "bar")
    assert not can_draw(table.slice(0, 0), "bar")
