"""The page Data quality: what each load found, the worst columns, the quarantine, the gates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from nicegui import ui

from playhead.batch.quality import METRICS
from playhead.dashboard.drawing.cards import ChartCard, Figure, TableCard, Tile, grid
from playhead.dashboard.drawing.charts import bars, lines
from playhead.dashboard.drawing.dialogs import dialog
from playhead.dashboard.drawing.marked import MarkedCard
from playhead.dashboard.drawing.parts import Options, Unit
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.numbers import shown
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.pages.platform.gateboard import quality_gates_table
from playhead.dashboard.pages.platform.page import GATES
from playhead.dashboard.questions import Look, Reply
from playhead.ops.quality import Quality

__all__ = ["SPEC"]

_COUNT, _SHARE, _PER_100 = Unit(), Unit("%", 3), Unit("", 2)
_EMPTY = "Nothing was loaded yet."
_HINT = "Load files: playhead load FOLDER."
_WORST = 12
_MISSING = "missing"
_AT_FAULT = ("rejected", "type_violations", "enum_violations", "required_missing")
_IMPLAUSIBLE = ("out_of_range", "longer_than_title", "before_subscription", "before_added",
                "click_without_results")  # fmt: skip
_REPORT_SQL = """\
SELECT "table", load_id, file, metric, "column", value, share, note, "at"
FROM quality_report
ORDER BY "table", load_id, metric, "column\""""
_WORST_SQL = """\
SELECT "table", file, metric, "column", value, share, note
FROM quality_report
WHERE "column" IS NOT NULL AND share > 0
QUALIFY load_id = MAX(load_id) OVER (PARTITION BY "table")
ORDER BY share DESC"""
_QUARANTINE_SQL = """\
SELECT "table", file, line, "column", reason, raw, loaded_at
FROM quarantine
ORDER BY loaded_at DESC
LIMIT 1000"""


def build(page: Page) -> None:
    """Make its content."""
    look = Look(page.board.meters.quality, 5.0)
    with grid():
        _tiles(page, look)
    with grid():
        _over_time(page, look)
    with grid():
        empty = "No column of the last loads has a fault."
        ChartCard(page, "Worst columns", [look], worst_chart, height="340px", empty=empty,
                  sql=_WORST_SQL,
                  about="Of each table's last load, the columns with the largest share of rows "
                  "with a fault, each with what is wrong. Empty values stand beside: columns may "
                  "have them.")  # fmt: skip
        ChartCard(page, "Emptiest columns", [look], emptiest_chart, height="340px",
                  empty="No column of the last loads has an empty value.", sql=_WORST_SQL,
                  about="Of each table's last load, the columns with the largest share of empty "
                  "values.")  # fmt: skip
        TableCard(page, "Columns by fault", [look], worst_rows, _WORST_COLUMNS, rows_shown=8,
                  empty=empty, sql=_WORST_SQL,
                  about="Of each table's last load; of each fault the twenty columns with the "
                  "largest share.")  # fmt: skip
    with grid():
        _Quarantine(page, look)
        MarkedCard(page, "Quality gates", [GATES], quality_gates_table,
                   about="Of the events that come live; more on the page Platform.")  # fmt: skip
    with grid():
        TableCard(page, "Loads", [look], load_rows, _LOADS, rows_shown=10, empty=_EMPTY,
                  hint=_HINT, sql=_REPORT_SQL,
                  about="The report of each load of each table, the newest first: how many of "
                  "each; – where it was not looked at.")  # fmt: skip


SPEC = Spec("/quality", "Data quality", "fact_check", build)


# -- tiles ---------------------------------------------------------------------------------


def _tiles(page: Page, look: Look) -> None:
    last = "In the last load of each table. "
    Tile(page, "Tables loaded", [look], tables_tile, about="Tables that files were loaded into.")
    Tile(page, "Rows read", [look], rows_tile, about=last + METRICS["rows"].capitalize() + ".")
    Tile(page, "At fault", [look], faults_tile,
         about=last + "Rows that cannot be taken apart, and values that are not of their type, "
         "not of the closed set, or missing where the contract wants one.")  # fmt: skip
    Tile(page, "Repeated keys", [look], repeats_tile,
         about=last + METRICS["key_duplicates"].capitalize() + ".")  # fmt: skip
    Tile(page, "Implausible", [look], implausible_tile,
         about=last + "Out of range, longer than the title, before the subscription or the title, "
         "clicks without results.")  # fmt: skip
    Tile(page, "Quarantined", [look], quarantined_tile,
         about="Rows of files that no table took, of all loads.")  # fmt: skip


def tables_tile(replies: Sequence[Reply]) -> Figure:
    loads = _loads(replies)
    last = max((row["at"] for row in loads), default=None)
    when = "never" if last is None else f"last {last:%b %d %H:%M} UTC"
    return Figure(shown(len(_last(loads))), f"{len(loads):,} loads", when)


def rows_tile(replies: Sequence[Reply]) -> Figure:
    return Figure(shown(_sum(replies, ["rows"])), "in the last loads")


def faults_tile(replies: Sequence[Reply]) -> Figure:
    return _per_row(replies, _AT_FAULT)


def repeats_tile(replies: Sequence[Reply]) -> Figure:
    return _per_row(replies, ["key_duplicates"])


def implausible_tile(replies: Sequence[Reply]) -> Figure:
    return _per_row(replies, _IMPLAUSIBLE)


def quarantined_tile(replies: Sequence[Reply]) -> Figure:
    quality: Quality = replies[0].value
    rules = len(quality.rules)
    return Figure(shown(quality.quarantined), f"by {rules:,} rule{'s' * (rules != 1)}")


def _per_row(replies: Sequence[Reply], metrics: Sequence[str]) -> Figure:
    count, rows = _sum(replies, metrics), _sum(replies, ["rows"])
    return Figure(shown(count), f"{shown(100 * count / (rows or 1))} per 100 rows")


def _sum(replies: Sequence[Reply], metrics: Sequence[str]) -> int:
    """Of the last load of each table."""
    return sum(row[metric] or 0 for row in _last(_loads(replies)) for metric in metrics)


def _loads(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    quality: Quality = replies[0].value
    return list(quality.loads.to_pylist())


def _last(loads: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last load of each table; loads come in the order of tables and numbers."""
    return list({row["table"]: row for row in loads}.values())


# -- over time -----------------------------------------------------------------------------


def _over_time(page: Page, look: Look) -> None:
    more: dict[str, Any] = {"empty": _EMPTY, "hint": _HINT, "sql": _REPORT_SQL}
    each = "A point for each load of a table."
    ChartCard(page, "Rows at fault by load", [look], faults_chart, width=6, height="210px", **more,
              about="Per 100 rows: rows that cannot be taken apart, and values that are not of "
              f"their type or closed set, or missing where they must not be. {each}")  # fmt: skip
    ChartCard(page, "Repeated keys by load", [look], repeats_chart, width=6, height="210px", **more,
              about=f"Per 100 rows: {METRICS['key_duplicates']}. {each}")  # fmt: skip
    ChartCard(page, "Empty values by load", [look], missing_chart, width=6, height="210px", **more,
              about=f"Per 100 rows, over all columns: {METRICS['missing']}. {each}")  # fmt: skip
    ChartCard(page, "Orphans and implausible values by load", [look], implausible_chart,
              width=6, height="210px", **more,
              about="Per 100 rows: keys without a row in their dimension, values out of range, "
              "events before the user or the title was there, clicks without results. "
              f"{each}")  # fmt: skip


def faults_chart(replies: Sequence[Reply]) -> Options:
    return _loads_chart(replies, _AT_FAULT)


def repeats_chart(replies: Sequence[Reply]) -> Options:
    return _loads_chart(replies, ["key_duplicates"])


def missing_chart(replies: Sequence[Reply]) -> Options:
    return _loads_chart(replies, ["missing"])


def implausible_chart(replies: Sequence[Reply]) -> Options:
    return _loads_chart(replies, ["orphan_keys", *_IMPLAUSIBLE])


def _loads_chart(replies: Sequence[Reply], metrics: Sequence[str]) -> Options:
    """The sum of some metrics per 100 rows, a line of loads for each table."""
    rows = [
        {"at": row["at"], "table": row["table"],
         "share": 100 * sum(row[m] or 0 for m in metrics) / row["rows"]}
        for row in _loads(replies)
        if row["rows"]
    ]  # fmt: skip
    if not rows:
        return {}
    return lines(pa.Table.from_pylist(rows), "at", {"share": "per 100 rows"}, _PER_100, by="table")


# -- columns -------------------------------------------------------------------------------


_WORST_COLUMNS = (
    Column("table", "Table"), Column("column", "Column"), Column("metric", "Fault"),
    Column("value", "Values", _COUNT), Column("share", "Share of rows", _SHARE),
    Column("meaning", "Which is"),
)  # fmt: skip


def worst_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    quality: Quality = replies[0].value
    return [
        {
            "id": place,
            "table": one.table,
            "column": one.column,
            "metric": _words(one.metric),
            "value": one.value,
            "share": float(one.share or 0),
            "meaning": one.note or METRICS.get(one.metric, ""),
        }
        for place, one in enumerate(quality.worst)
    ]


def worst_chart(replies: Sequence[Reply]) -> Options:
    # Two faults of a column may be those of the same rows: each has a bar of its own.
    found = [row for row in worst_rows(replies) if row["metric"] != _MISSING]
    return _columns_chart(found, lambda row: f"{row['table']}.{row['column']}, {row['metric']}")


def emptiest_chart(replies: Sequence[Reply]) -> Options:
    found = [row for row in worst_rows(replies) if row["metric"] == _MISSING]
    return _columns_chart(found, lambda row: f"{row['table']}.{row['column']}")


def _columns_chart(
    rows: Sequence[Mapping[str, Any]], name: Callable[[Mapping[str, Any]], str]
) -> Options:
    """A bar for each row, those with the largest share first."""
    named = [{"name": name(row), "fault": row["metric"], "share": row["share"]}
             for row in rows[:_WORST]]  # fmt: skip
    if not named:
        return {}
    return bars(
        pa.Table.from_pylist(named), "name", {"share": "Share of rows"}, _SHARE, by="fault",
        across=True, stacked=True, names_px=230,
    )  # fmt: skip


def _words(metric: str) -> str:
    return metric.replace("_", " ")


# -- loads ---------------------------------------------------------------------------------


_LOADS = (
    Column("table", "Table"), Column("load_id", "Load"), Column("at", "At (UTC)", is_whole=True),
    Column("file", "File"),
    *(Column(name, _words(name).capitalize(), _COUNT, about) for name, about in METRICS.items()),
)  # fmt: skip


def load_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    rows = sorted(_loads(replies), key=lambda row: (row["at"], row["load_id"]), reverse=True)
    return [
        {**row, "id": place, "at": f"{row['at']:%Y-%m-%d %H:%M:%S}"}
        for place, row in enumerate(rows)
    ]


# -- quarantine ----------------------------------------------------------------------------


_RULES = (Column("table", "Table"), Column("rule", "Rule"), Column("rows", "Rows", _COUNT),
          Column("first", "First (UTC)", is_whole=True), Column("last", "Last (UTC)", is_whole=True)
          )  # fmt: skip


def rule_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    quality: Quality = replies[0].value
    return [
        {
            "id": place,
            "table": one.table,
            "rule": one.rule,
            "rows": one.rows,
            "first": f"{one.first:%Y-%m-%d %H:%M}",
            "last": f"{one.last:%Y-%m-%d %H:%M}",
        }
        for place, one in enumerate(quality.rules)
    ]


class _Quarantine(TableCard):
    """Rows that were not taken, by rule; examples on demand."""

    def __init__(self, page: Page, look: Look) -> None:
        super().__init__(
            page,
            "Quarantine by rule",
            [look],
            rule_rows,
            _RULES,
            rows_shown=8,
            on_open=self._open,
            empty="No row was quarantined.",
            hint="Rows that do not fit their table would be kept here, with the rule they break.",
            sql=_QUARANTINE_SQL,
            about="Rows of files that no table took, by the rule that they break: … stands for a "
            "value, # for a number.",
        )

    def _open(self, row: Mapping[str, Any]) -> None:
        quality: Quality = next(iter(self._replies.values())).value
        told = (row["table"], row["rule"])
        examples = [e for one in quality.rules if (one.table, one.rule) == told
                    for e in one.examples]  # fmt: skip
        with self._page.overlay, dialog(f"Rows of {row['table']}: {row['rule']}") as made:
            for one in examples:
                line = "" if one.line is None else f", line {one.line:,}"
                column = f", column {one.column}" if one.column else ""
                ui.label(f"{one.file}{line}{column}, loaded {one.loaded_at:%Y-%m-%d %H:%M} UTC"
                         ).classes("small")  # fmt: skip
                ui.label(one.reason)
                ui.label(one.raw or "(empty)").classes("body-text").props('tabindex="0"')
        made.open()
