"""What the pages Platform and Data quality draw of what they are told: pure functions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from playhead.batch.journal import BatchRun, Stage
from playhead.batch.quality import Metric
from playhead.dashboard.drawing.maps import treemap
from playhead.dashboard.drawing.marked import Mark, MarkedTable, Strip
from playhead.dashboard.drawing.parts import Unit
from playhead.dashboard.drawing.tables import Column, as_table
from playhead.dashboard.numbers import size
from playhead.dashboard.pages.platform.coverage import coverage_table, spans
from playhead.dashboard.pages.platform.flowpicture import (
    ARROWS,
    NODES,
    changes,
    facts,
    flow_svg,
    flow_words,
    topics_first,
)
from playhead.dashboard.pages.platform.gateboard import gates_table, quality_gates_table
from playhead.dashboard.pages.platform.lettercard import letter_rows, letters_lead
from playhead.dashboard.pages.platform.page import (
    disk_tile,
    freshness_tile,
    lag_tile,
    storage_rows,
    uptime_tile,
)
from playhead.dashboard.pages.platform.runcards import run_rows, runs_chart, stages_chart
from playhead.dashboard.pages.quality import (
    emptiest_chart,
    faults_chart,
    faults_tile,
    load_rows,
    worst_chart,
)
from playhead.dashboard.questions import Reply
from playhead.ops.flow import Arrow, EpochFlow, Flow, LogFlow, TopicFlow, ViewFlow
from playhead.ops.gates import Gate, Value
from playhead.ops.quality import Quality
from playhead.ops.refused import LettersSummary, RefusedFor
from playhead.ops.storage import PathSize, Storage, TableSize
from playhead.platform.control import PartStatus, PlatformStatus

T = datetime(2026, 3, 1, 12)


def topic(name: str, **figures: float) -> TopicFlow:
    none = TopicFlow(name, 0.0, 0.0, 0, 0, 0, 0.0, 0, 0, 0, None, None)
    return replace(none, **figures)  # type: ignore[arg-type]


def view(name: str = "plays", **changed: object) -> ViewFlow:
    ready = ViewFlow(name, True, "", "", (), 4, 1, (5, 6, 8), 3, 30, 900, 70, 2_100, 2, T)
    return replace(ready, **changed)  # type: ignore[arg-type]


FLOW = Flow(
    T,
    1_200.0,
    2.0,
    (
        Arrow("clients", "gateway", 1_202.0, 10.0),
        Arrow("gateway", "event log", 1_202.0, 10.0),
        Arrow("event log", "speed layer", 1_150.0, 10.0),
        Arrow("speed layer", "serving", 1_150.0, 10.0),
        Arrow("speed layer", "lake"),
        Arrow("lake", "batch layer"),
        Arrow("batch layer", "serving"),
    ),
    (topic("dead_letters", held=7), topic("playback", in_per_s=1_200.0, appended=9_000)),
    LogFlow(9_007, 4_500_000, timedelta(days=7), T),
    EpochFlow(8, 12.3, 400, (7,), 6, T, 1_234),
    (view(),),
    10,
    Storage((TableSize("raw.playback", 9, 500, 1, T),), (PathSize("log.db", 700, 1, T),), 10**9),
)
STATUS = PlatformStatus(
    "ready",
    1,
    datetime.now(UTC) - timedelta(hours=2),
    "1.2.3",
    {},
    tuple(
        PartStatus(name, state, 5, T, 1, "", "fine", {})
        for name, state in (
            ("gateway-1", "running"), ("gateway-2", "restarting"), ("speed", "running"),
            ("batch", "starting"), ("api", "gone"),
        )
    ),
)  # fmt: skip


def told(*values: object) -> list[Reply]:
    return [Reply(value) for value in values]


# -- the picture ---------------------------------------------------------------------------


def test_every_box_and_arrow_has_its_facts() -> None:
    known = facts(FLOW, STATUS)
    picture = ElementTree.fromstring(flow_svg(known))  # noqa: S314 - our own
    shown = {part.get("data-t") for part in picture.iter() if part.get("data-t")}
    assert {f"{source}>{target}" for source, target in ARROWS} < shown
    assert {f"{name}/{line}" for name in NODES for line in ("first", "second", "health")} < shown
    words = ElementTree.fromstring(flow_words(known))  # noqa: S314
    said = [line.text for line in words]
    assert len(said) == len(NODES) + len(ARROWS)
    assert "gateway to event log: 1,202 /s (mean of 10 s)" in said


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("t:gateway/first", "1,200 /s accepted"),
        ("t:gateway/second", "120 /min refused"),
        ("t:gateway/health", "✗ 1 of 2 restarting"),
        ("c:gateway", "node bad"),
        ("t:batch layer/health", "… starting"),
        ("t:serving/health", "✗ gone"),
        ("t:dashboards/health", "– not started"),
        ("t:dead letters/first", "7 held"),
        ("t:gateway>dead letters", "2 /s"),
        ("t:speed layer>lake", "by the epoch"),
        ("c:clients>gateway", "arrow speed4"),
        ("c:gateway>dead letters", "arrow speed1"),
        ("c:lake>batch layer", "arrow speed0"),
    ],
)
def test_a_fact_is_in_words_and_colours(key: str, text: str) -> None:
    assert facts(FLOW, STATUS)[key] == text


def test_only_what_changed_is_told() -> None:
    before = facts(FLOW, STATUS)
    now = facts(replace(FLOW, rejected_per_s=0.0), STATUS)
    changed = dict(changes(before, now))
    assert changed["t:dead letters/health"] == "✓ nothing refused"
    assert not any(key.startswith("t:speed layer") for key in changed)
    assert dict(changes(now, now)) == {}


def test_without_a_platform_its_parts_are_down() -> None:
    known = facts(replace(FLOW, storage=None), PlatformStatus("none"))
    assert known["t:gateway/health"] == "✗ not running"
    assert known["t:lake/health"] == "✗ cannot be read"
    assert known["t:event log/health"] == "✓ readable"


def test_the_busiest_topic_comes_first() -> None:
    assert [one.topic for one in topics_first(FLOW)] == ["playback", "dead_letters"]


# -- tables --------------------------------------------------------------------------------


def test_what_comes_from_data_stays_text() -> None:
    evil = '<img src=x onerror="x">'
    table = MarkedTable(
        [Column("a", evil, None, evil), Column("b"), Column("c")],
        [{"a": Mark(evil, "bad", evil, evil), "b": evil, "c": Strip((("batch", 1, evil),))}],
        evil,
    )
    assert "<img" not in table.html
    assert table.html.count("&lt;img") == 8
    assert table.table.to_pylist() == [{"a": f"{evil}: {evil}", "b": evil, "c": evil}]


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([1, 2, 3, 5, 7, 8], "1–3, 5, 7–8")]
)
def test_spans(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text


def test_coverage_says_what_each_layer_holds() -> None:
    waits = view("waiting", ready=False, reason="not built", hint="Run it.", speed_epochs=())
    table = coverage_table(told(replace(FLOW, views=(view(), waits))))
    first, second = table.rows
    assert first["ready"] == Mark("waits", "busy", "not built Run it.", "not built")
    assert (second["batch"], second["speed"]) == ("load 1, epoch 1–4", "epoch 5–6, 8 (open)")
    assert "batch, 30 speed" in table.table.column("made").to_pylist()[1]
    assert "Epoch 7 is on its way" in table.lead
    assert "1,234 sealed events wait" in table.lead


GATES = [
    Gate("freshness", "How fast.", 1_000, "<=", "ms", {
        "5 minutes": Value(None, "unknown", "none came"), "hour": Value(1_500, "fail", "1500 ms"),
        "day": Value(900, "pass"),
    }),
    Gate("late events", "How late.", 1, "<=", "%", {"5 minutes": Value(0.5, "pass")}),
]  # fmt: skip


def test_gates_are_told_in_words() -> None:
    row = gates_table(told(GATES)).rows[0]
    assert row["now"] == Mark("fail", "bad", "1500 ms")
    assert row["limit"] == Mark("≤ 1,000 ms")
    assert row["5 minutes"] == Mark("unknown", "idle", "none came")
    assert row["day"] == Mark("900 ms", "good", "", said="pass")
    assert len(quality_gates_table(told(GATES)).rows) == 1


def test_tiles() -> None:
    assert freshness_tile(told(GATES)).value == "1.5 s"
    assert freshness_tile(told(GATES)).is_good is False
    assert lag_tile(told(FLOW)).change == "nothing waits"
    assert disk_tile(told(FLOW)).change == "1.2 kB taken"
    assert uptime_tile(told(STATUS)).change == "5 restarts of parts"
    assert uptime_tile(told(PlatformStatus("none"))).value == "down"


def test_storage_is_listed_by_size() -> None:
    rows = storage_rows(told(FLOW))
    assert [row["name"] for row in rows] == ["log.db", "raw.playback"]
    assert storage_rows(told(replace(FLOW, storage=None))) == []


def test_letters_tell_what_was_not_looked_at() -> None:
    one = RefusedFor("quality: …", None, 5, 1, T, T, ())
    summary = LettersSummary((one,), 2, 5, 1, 10, 10, 90)
    assert letter_rows(told(summary))[0]["topic"] == "(unknown)"
    assert "newest 10 of 90" in letters_lead(told(summary))
    assert "Only" not in letters_lead(told(replace(summary, appended=10)))


def test_runs() -> None:
    run = BatchRun(3, "failed", "asked for", False, 1, T, T, 4.0, stages=(Stage("views", 3.5),),
                   error="disk full")  # fmt: skip
    (row,) = run_rows(told([run]))
    assert (row["status"], row["took"], row["error"]) == ("Failed", "4 s", "disk full")
    assert runs_chart(told([run]))["xAxis"]["data"] == ["#3"]
    assert stages_chart(run)["series"][0]["data"] == [3.5]
    assert runs_chart(told([])) == {}
    columns = [Column("status", note="error")]
    assert as_table([row], columns).to_pylist() == [{"status": "Failed", "error": "disk full"}]


# -- quality -------------------------------------------------------------------------------


def quality() -> Quality:
    counts = {"rejected": 1, "type_violations": 2, "enum_violations": 0, "required_missing": None}
    rows = [
        {"table": "playback", "load_id": n, "at": T + timedelta(days=n), "file": "w.csv",
         "rows": 100 * n, **counts}
        for n in (1, 2)
    ]  # fmt: skip
    worst = (
        Metric("playback", "w.csv", "missing", "rating", 80, None),
        Metric("playback", "w.csv", "out_of_range", "age", 3, None),
        Metric("playback", "w.csv", "enum_violations", "age", 2, None),
    )
    return Quality(pa.Table.from_pylist(rows), pa.table({}), worst, (), 0)


def test_faults_are_per_100_rows_of_each_load() -> None:
    points = faults_chart(told(quality()))["series"][0]["data"]
    assert [value for _, value in points] == [3.0, 1.5]
    assert (faults_tile(told(quality())).value, faults_tile(told(quality())).change) == (
        "3", "1.5 per 100 rows",
    )  # fmt: skip
    assert [row["load_id"] for row in load_rows(told(quality()))] == [2, 1]


def test_each_fault_of_a_column_has_its_bar() -> None:
    names = worst_chart(told(quality()))["yAxis"]["data"]
    assert names == ["playback.age, out of range", "playback.age, enum violations"]
    assert emptiest_chart(told(quality()))["yAxis"]["data"] == ["playback.rating"]


# -- sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (999_999, "1 MB"), (1_234_000, "1.23 MB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert size(count) == text


def test_a_treemap_has_a_colour_for_each_group() -> None:
    table = pa.table({"g": ["a", "a", "b", "b"], "n": ["x", "y", "z", "0"], "v": [3, 2, 9, 0]})
    groups = treemap(table, "g", "n", "v", Unit("B"))["series"][0]["data"]
    assert [group["name"] for group in groups] == ["a", "b"]
    assert groups[1]["children"] == [{"name": "z", "value": 9.0}]
    assert groups[0]["itemStyle"] != groups[1]["itemStyle"]
