"""The page Platform: how events flow, how far behind what is, and what it takes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import pyarrow as pa

from playhead.assemble import Workspace
from playhead.dashboard.drawing.cards import ChartCard, Figure, TableCard, Tile, grid
from playhead.dashboard.drawing.charts import lines
from playhead.dashboard.drawing.maps import treemap
from playhead.dashboard.drawing.marked import Cell, Mark, MarkedCard, MarkedTable
from playhead.dashboard.drawing.parts import Options, Unit
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.filters import Period, length_of
from playhead.dashboard.numbers import duration, shown, size
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.pages.platform.coverage import coverage_table
from playhead.dashboard.pages.platform.flowcard import FlowCard
from playhead.dashboard.pages.platform.flowpicture import tone_of, topics_first
from playhead.dashboard.pages.platform.gateboard import gates_table
from playhead.dashboard.pages.platform.lettercard import LettersCard
from playhead.dashboard.pages.platform.runcards import run_cards
from playhead.dashboard.questions import Look, Reply
from playhead.ops.flow import Flow
from playhead.ops.gates import Gate, measure
from playhead.platform.control import PlatformStatus, platform_status
from playhead.samples import (
    ACCEPTED,
    DUPLICATES,
    EVENTS,
    FILE,
    FRESHNESS_MS,
    LATE,
    REJECTED,
    read_series,
)

__all__ = ["GATES", "SPEC"]

_COUNT, _RATE, _MS, _S, _BYTES = Unit(), Unit("/s", 1), Unit("ms"), Unit("s", 2), Unit("B")
_HOURS = timedelta(hours=1)
_LONGEST = timedelta(days=31)
_POINTS = 100
_STEPS = tuple(timedelta(minutes=m) for m in (1, 5, 15, 30, 60))


def build(page: Page) -> None:
    """Make its content."""
    meters = page.board.meters
    flow, slow = Look(meters.flow, 1.0), Look(meters.flow, 3.0)
    series = _series(_span(page))
    with grid():
        FlowCard(page, [flow, STATUS])
    with grid():
        _tiles(page, flow)
    with grid():
        _charts(page, series)
    with grid():
        MarkedCard(page, "Parts", [STATUS], parts_table, width=5,
                   empty="No platform runs in this workspace.", hint="Start it: playhead up.",
                   about="The processes of the platform. A part that ends is started again."
                   )  # fmt: skip
        MarkedCard(page, "Quality gates", [GATES], gates_table, width=7,
                   about="Promises about ingestion, as measured over the time up to now."
                   )  # fmt: skip
    with grid():
        MarkedCard(page, "Coverage", [slow], coverage_table, empty="There are no views.",
                   about="An answer is what the batch layer has computed, up to a load and an "
                   "epoch, merged with what the speed layer knows of the epochs after it. Where "
                   "the two leave a gap or overlap, there is no answer.")  # fmt: skip
    with grid():
        LettersCard(page, Look(meters.letters, 3.0))
    with grid():
        run_cards(page)
    with grid():
        ChartCard(page, "Storage", [slow], storage_chart, width=4, height="400px",
                  empty="The lake holds nothing yet.", hint=_LOAD,
                  about="Bytes of the data files of each table of the lake, by group, and of the "
                  "files beside it.")  # fmt: skip
        TableCard(page, "Storage per table", [slow], storage_rows, _STORAGE, width=8,
                  rows_shown=10, empty="The lake holds nothing yet.", hint=_LOAD,
                  about="Of each table as it is now; snapshots of before are not "
                  "counted.")  # fmt: skip
    with grid():
        TableCard(page, "Topics", [slow], topic_rows, _TOPICS, rows_shown=12, searched=False,
                  about="The topics of the event log, and what the speed layer has made of "
                  "them.")  # fmt: skip


_LOAD = "Load files: playhead load FOLDER, then playhead batch."


def status(workspace: Workspace) -> PlatformStatus:
    """How the platform is."""
    return platform_status(workspace.path.absolute())


def gates(workspace: Workspace) -> list[Gate]:
    """Every gate as of now."""
    return measure(workspace)


STATUS, GATES = Look(status, 2.0), Look(gates, 5.0)

SPEC = Spec(
    "/platform",
    "Platform",
    "hub",
    build,
    period=Period("1h"),
    periods=(
        ("1h", "Last hour"),
        ("6h", "Last 6 hours"),
        ("24h", "Last 24 hours"),
        ("7d", "Last 7 days"),
    ),
    # The first look derives the plans of all views.
    kept=lambda board, _: [Look(board.meters.flow, 1.0), STATUS],
)


# -- tiles ---------------------------------------------------------------------------------


def _tiles(page: Page, flow: Look) -> None:
    Tile(page, "Events in", [flow], in_tile,
         about="Events that gateways have put into the event log, mean of the last ten seconds."
         )  # fmt: skip
    Tile(page, "Lag", [flow], lag_tile,
         about="Events in the event log that the speed layer has not counted yet, and how long "
         "the oldest of them has waited.")  # fmt: skip
    Tile(page, "Freshness p99", [GATES], freshness_tile,
         about="Of a hundred events, 99 count within this time of their arrival; within 10 %, "
         "never too low. Of the last 5 minutes, or the shortest time with events.")  # fmt: skip
    Tile(page, "Refused", [flow], refused_tile,
         about="Events that went to the dead letters, mean of the last ten seconds.")  # fmt: skip
    Tile(page, "Disk free", [Look(page.board.meters.flow, 3.0)], disk_tile,
         about="On the disk of the workspace; below it, what the workspace takes there."
         )  # fmt: skip
    Tile(page, "Uptime", [STATUS], uptime_tile,
         about="Since the platform was started, and how often a part was started again."
         )  # fmt: skip


def in_tile(replies: Sequence[Reply]) -> Figure:
    flow: Flow = replies[0].value
    read = sum(topic.read_per_s for topic in flow.topics)
    total = sum(topic.appended for topic in flow.topics)
    return Figure(
        f"{shown(round(flow.accepted_per_s, 1))} /s",
        f"{shown(round(read, 1))} /s counted",
        f"{total:,} ever",
    )


def lag_tile(replies: Sequence[Reply]) -> Figure:
    flow: Flow = replies[0].value
    waits = f"oldest waits {duration(flow.lag_s)}" if flow.lag_events else "nothing waits"
    return Figure(f"{shown(flow.lag_events)} events", waits)


def freshness_tile(replies: Sequence[Reply]) -> Figure:
    gate = next(gate for gate in replies[0].value if gate.name == "freshness")
    now = gate.now
    if now.value is None:
        return Figure("–", "no events", f"at most {duration(gate.limit / 1000)} wanted")
    span = next(name for name, value in gate.values.items() if value is now)
    words = {"pass": "within the gate", "fail": "above the gate"}[now.status]
    note = f"last {span}; at most {duration(gate.limit / 1000)}"
    return Figure(duration(now.value / 1000), words, note, now.status == "pass")


def refused_tile(replies: Sequence[Reply]) -> Figure:
    flow: Flow = replies[0].value
    share = flow.rejected_per_s / ((flow.accepted_per_s + flow.rejected_per_s) or 1)
    per_min = shown(round(flow.rejected_per_s * 60))
    return Figure(f"{per_min} /min", f"{shown(share, '%')} of all that came")


def disk_tile(replies: Sequence[Reply]) -> Figure:
    storage = replies[0].value.storage
    if storage is None:
        return Figure("–", "the lake cannot be read")
    taken = storage.lake_bytes + sum(path.bytes for path in storage.paths)
    return Figure(size(storage.free_bytes), f"{size(taken)} taken")


def uptime_tile(replies: Sequence[Reply]) -> Figure:
    found: PlatformStatus = replies[0].value
    if found.since is None or found.state in ("none", "dead"):
        return Figure("down", "start it: playhead up", is_good=False)
    restarts = sum(part.restarts for part in found.parts)
    again = f"{restarts:,} restarts of parts" if restarts != 1 else "1 restart of a part"
    up_s = (datetime.now(UTC) - found.since).total_seconds()
    return Figure(duration(up_s), again, f"version {found.version}")


# -- the last hours ------------------------------------------------------------------------


def _span(page: Page) -> timedelta:
    last = page.filters.period.last
    return min(length_of(last), _LONGEST) if last else _HOURS


@lru_cache(maxsize=32)
def _series(span: timedelta) -> Look:
    """Rates and times of a stretch of time; the same object for the same stretch."""
    step = next((each for each in _STEPS if span / each <= _POINTS), _STEPS[-1])

    def read(workspace: Workspace) -> pa.Table:
        return measured(workspace, span, step)

    return Look(read, 5.0)


def measured(workspace: Workspace, span: timedelta, step: timedelta) -> pa.Table:
    """Of each step: events a second by what became of them, and quantiles of freshness."""
    path, now = workspace.path / FILE, workspace.clock.now()
    found: dict[str, Sequence[Any]] = {}
    for name in (ACCEPTED, EVENTS, REJECTED, DUPLICATES, LATE):
        series = read_series(path, name, now, span, step=step)
        found["time"], found[name] = series.starts, series.rates()
    times = read_series(path, FRESHNESS_MS, now, span, step=step)
    for share in (50, 99):
        found[f"{FRESHNESS_MS}_p{share}"] = times.quantiles(share / 100)
    numbers = {name: pa.array(each, pa.float64()) for name, each in found.items() if name != "time"}
    return pa.table({"time": pa.array(found["time"], pa.timestamp("us")), **numbers})


def _charts(page: Page, series: Look) -> None:
    about = "Of each step of the time that is chosen above; the last one is not over yet."
    ChartCard(page, "Events a second", [series], rates_chart, width=4,
              about=f"Accepted by the gateway, and counted by the speed layer. {about}"
              )  # fmt: skip
    ChartCard(page, "Freshness", [series], freshness_chart, width=4,
              empty="No event was counted in this time.",
              hint="Send some to the gateway: playhead up tells its address.",
              about="Milliseconds from an event's arrival in the event log to the commit that "
              f"makes it count: median and 99th percentile, within 10 %. {about}")  # fmt: skip
    ChartCard(page, "Refused, repeated and late", [series], faults_chart, width=4,
              about="Events a minute that went to the dead letters, whose id had come before, or "
              f"that came after the watermark (these count all the same). {about}")  # fmt: skip


def rates_chart(replies: Sequence[Reply]) -> Options:
    names = {ACCEPTED: "Accepted", EVENTS: "Counted"}
    return lines(replies[0].value, "time", names, _RATE, area=True)


def freshness_chart(replies: Sequence[Reply]) -> Options:
    names = {f"{FRESHNESS_MS}_p99": "p99", f"{FRESHNESS_MS}_p50": "Median"}
    table: pa.Table = replies[0].value
    if all(table.column(name).null_count == table.num_rows for name in names):
        return {}
    return lines(table, "time", names, _MS)


def faults_chart(replies: Sequence[Reply]) -> Options:
    table: pa.Table = replies[0].value
    names = {REJECTED: "Refused", DUPLICATES: "Repeated", LATE: "Late"}
    minutes = {name: pa.array([60 * v for v in table.column(name).to_pylist()]) for name in names}
    return lines(pa.table({"time": table.column("time"), **minutes}), "time", names, Unit("/min"))


# -- parts ---------------------------------------------------------------------------------


_PARTS = (Column("part", "Part"), Column("state", "State", None, "And what it says of itself."),
          Column("since", "Since (UTC)", is_whole=True),
          Column("restarts", "Restarts", _COUNT, "Since the platform was started."))  # fmt: skip


def parts_table(replies: Sequence[Reply]) -> MarkedTable:
    found: PlatformStatus = replies[0].value
    rows: list[dict[str, Cell]] = []
    for part in found.parts:
        tone, word = tone_of(part.state if found.state != "dead" else "gone")
        about = f"process {part.pid}" if part.pid else "no process"
        rows.append({
            "part": Mark(part.name, small=part.address),
            "state": Mark(word, tone, about, part.health),
            "since": f"{part.since:%Y-%m-%d %H:%M}",
            "restarts": part.restarts,
        })  # fmt: skip
    return MarkedTable(_PARTS, rows)


# -- storage, topics -----------------------------------------------------------------------


_STORAGE = (Column("name", "Table or file", note="problem"),
            Column("group", "Group", is_whole=True),
            Column("rows", "Rows", _COUNT), Column("bytes", "Size", _BYTES),
            Column("files", "Files", _COUNT),
            Column("changed", "Last change (UTC)", is_whole=True))  # fmt: skip
_BESIDE = "other files"


def storage_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    storage = replies[0].value.storage
    if storage is None:
        return []
    rows = [
        {"name": t.name, "group": t.group, "rows": t.rows, "bytes": t.bytes, "files": t.files,
         "changed": _minute(t.changed_at), "problem": t.problem}
        for t in storage.tables
    ] + [
        {"name": p.name, "group": _BESIDE, "rows": None, "bytes": p.bytes, "files": p.files,
         "changed": _minute(p.changed_at), "problem": ""}
        for p in storage.paths
    ]  # fmt: skip
    return [{"id": row["name"], **row} for row in sorted(rows, key=lambda row: -row["bytes"])]


def storage_chart(replies: Sequence[Reply]) -> Options:
    rows = storage_rows(replies)
    if not rows:
        return {}
    table = pa.Table.from_pylist([{k: row[k] for k in ("name", "group", "bytes")} for row in rows])
    return treemap(table, "group", "name", "bytes", _BYTES)


_TOPICS = (
    Column("topic", "Topic"), Column("in_per_s", "In", _RATE), Column("read_per_s", "Read", _RATE),
    Column("lag_events", "Lag", _COUNT, "Events that wait for the speed layer."),
    Column("lag_s", "Waits", _S, "How long the oldest of them has waited."),
    Column("held", "In the log", _COUNT), Column("appended", "Ever", _COUNT),
    Column("counted", "Counted", _COUNT, "By the speed layer, repeats left out."),
    Column("duplicates", "Repeats", _COUNT),
    Column("late", "Late", _COUNT, "Came after the watermark; they count all the same."),
    Column("newest", "Newest event (UTC)", is_whole=True),
    Column("watermark", "Watermark (UTC)", None, "Windows up to it are final.", is_whole=True),
)  # fmt: skip


def topic_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    numbers = ("topic", "lag_events", "held", "appended", "counted", "duplicates", "late")
    return [
        {
            "id": topic.topic,
            **{name: getattr(topic, name) for name in numbers},
            "in_per_s": round(topic.in_per_s, 1),
            "read_per_s": round(topic.read_per_s, 1),
            "lag_s": round(topic.lag_s, 2),
            "newest": _minute(topic.newest),
            "watermark": _minute(topic.watermark),
        }
        for topic in topics_first(replies[0].value)
    ]


def _minute(time: datetime | None) -> str:
    return "–" if time is None else f"{time:%Y-%m-%d %H:%M}"
