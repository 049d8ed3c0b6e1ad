"""The SQL box: an editor, what can be read beside it, and the answer below."""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
from nicegui import background_tasks, ui

from playhead.contracts import DIMENSIONS, TOPICS
from playhead.dashboard.board import Board
from playhead.dashboard.drawing.charts import bars, lines
from playhead.dashboard.drawing.dialogs import download
from playhead.dashboard.drawing.parts import Options, Unit
from playhead.dashboard.drawing.tables import data_table
from playhead.dashboard.drawing.texts import attribute
from playhead.dashboard.numbers import duration
from playhead.dashboard.page import Page
from playhead.dashboard.pages.views.cellsql import Answered, Asker, Failed
from playhead.dashboard.pages.views.sqltable import (
    MOST_SHOWN,
    answer_columns,
    answer_rows,
    is_number,
    is_time,
)
from playhead.serving.session import ALERT_SCHEMA, ALERTS, SYSTEM_TABLES
from playhead.views import View
from playhead.views.relations import PAIR_RATINGS

__all__ = ["SqlBox", "answer_chart", "relations"]

_ROWS = {1_000: "1,000 rows", 10_000: "10,000 rows", 100_000: "100,000 rows"}
_MOST_POINTS = 20_000
_MOST_BARS = 500
_MOST_LINK = 6_000
_SHOWN = {"table": "Table", "line": "Lines", "bar": "Bars"}

_PREPARE = """
const box = getElement(%d);
if (!box.isPrepared) box.editorPromise.then(async editor => {
  const CM = await import('nicegui-codemirror');
  const words = %s;
  box.isPrepared = true;
  const offered = context => {
    const word = context.matchBefore(/[A-Za-z_]\\w*/);
    return word || context.explicit ? {from: word ? word.from : context.pos, options: words} : null;
  };
  editor.dispatch({effects: CM.StateEffect.appendConfig.of(
    CM.EditorState.languageData.of(() => [{autocomplete: offered}]))});
  const label = () => editor.contentDOM.setAttribute('aria-label', 'SQL');
  const theme = () => box.setTheme(
    document.body.classList.contains('body--dark') ? 'githubDark' : 'githubLight');
  label(); theme();
  new MutationObserver(theme).observe(document.body, {attributeFilter: ['class']});
});
"""
_INSERT = """
const editor = getElement(%d).editor;
const at = editor.state.selection.main.from;
const isBehindWord = /[\\w"]/.test(editor.state.sliceDoc(Math.max(at - 1, 0), at));
editor.dispatch(editor.state.replaceSelection((isBehindWord ? ' ' : '') + %s));
editor.focus();
"""


class SqlBox:
    """The box on one page.

    Args:
        sql: what stands in it at first.
        run: whether that is asked at once.
    """

    def __init__(self, page: Page, sql: str, *, run: bool) -> None:
        self._page = page
        self._asker = Asker(page.board.cells, page.board.workspace)
        self._answer: Answered | None = None
        self._shown = "table"
        self._asking: asyncio.Task[Any] | None = None
        self._is_cancelled = self._is_over = False
        known = relations(page.board)
        with ui.element("div").classes("sqlbox"):
            with ui.element("section").classes("card sql-editor").props('aria-label="SQL box"'):
                self._editor(sql, known)
                self._bar()
            with ui.element("aside").classes("card sql-relations").props('aria-label="Relations"'):
                self._relations(known)
            self._place = (
                ui.element("section")
                .classes("card sql-answer")
                .props('aria-label="Answer" aria-live="polite"')
            )
        self._tell_idle()
        page.client.on_delete(self._end)
        background_tasks.create(self._asker.start())
        if run and sql.strip():
            self._start(sql)

    # -- the editor ------------------------------------------------------------------------

    def _editor(self, sql: str, known: Mapping[str, Mapping[str, pa.Schema]]) -> None:
        self._code = ui.codemirror(
            sql,
            language="SQL",
            theme="githubLight",
            indent="  ",
            line_wrapping=True,
            keymap={"Mod-Enter": self._begin},
        ).classes("sql-code")
        words = [
            {"label": name, "type": "class", "boost": 2}
            for group in known.values()
            for name in group
        ]
        names = {n for group in known.values() for schema in group.values() for n in schema.names}
        words += [{"label": name, "type": "property"} for name in sorted(names)]
        script = _PREPARE % (self._code.id, json.dumps(words))
        self._page.client.on_connect(lambda: ui.run_javascript(script))

    def _bar(self) -> None:
        with ui.element("div").classes("sql-bar"):
            self._run = ui.button("Run", icon="play_arrow", on_click=self._begin).props(
                "dense no-caps unelevated"
            )
            self._stop = ui.button("Cancel", icon="stop", on_click=self._cancel).props(
                "dense no-caps flat"
            )
            self._stop.set_visibility(False)
            self._most = (
                ui.select(_ROWS, value=1_000, label="At most")
                .props("dense outlined options-dense")
                .classes("filter")
            )
            ui.label(
                "Ctrl+Enter runs it. It reads only, within limits of time and memory."
            ).classes("small")

    def _relations(self, known: Mapping[str, Mapping[str, pa.Schema]]) -> None:
        with ui.element("h2"):
            ui.label("Relations")
        for group, several in known.items():
            with ui.element("h3"):
                ui.label(group)
            for name, schema in several.items():
                _Relation(name, schema, self._insert)

    def _insert(self, text: str) -> None:
        ui.run_javascript(_INSERT % (self._code.id, json.dumps(text)))

    # -- asking ----------------------------------------------------------------------------

    def _begin(self) -> None:
        """Ask what stands in the editor; a query under way goes on alone."""
        if self._asking is not None and not self._asking.done():
            return
        sql = self._code.value or ""
        if not sql.strip():
            ui.notify("There is no query yet.", type="warning")
            return
        self._page.keep({"sql": sql if len(sql) <= _MOST_LINK else ""})
        self._start(sql)

    def _start(self, sql: str) -> None:
        self._is_cancelled = False
        self._asking = background_tasks.create(self._ask(sql))

    def _cancel(self) -> None:
        self._is_cancelled = True

    def _end(self) -> None:
        self._is_cancelled = self._is_over = True

    async def _gone(self) -> bool:
        return self._is_cancelled

    async def _ask(self, sql: str) -> None:
        self._tell_running()
        found = await self._asker.ask(sql, int(self._most.value), self._gone)
        if self._is_over:
            return
        self._run.set_enabled(True)
        self._stop.set_visibility(False)
        self._place.clear()
        with self._place:
            if isinstance(found, Failed):
                self._tell_failed(found)
            else:
                self._answer = found
                self._tell_answer(found)

    def _mark(self, line: int | None) -> None:
        known = line is not None and line <= (self._code.value or "").count("\n") + 1
        self._code.decorations = (
            [{"kind": "line", "line": line, "class": "sql-wrong"}] if known else []
        )

    # -- what is told ----------------------------------------------------------------------

    def _tell_idle(self) -> None:
        with self._place:
            ui.label("The answer appears here.").classes("hint")

    def _tell_running(self) -> None:
        self._run.set_enabled(False)
        self._stop.set_visibility(True)
        self._mark(None)
        self._place.clear()
        with self._place:
            ui.element("div").classes("skeleton").props('role="status" aria-label="Running"').style(
                "height: 120px"
            )

    def _tell_failed(self, failed: Failed) -> None:
        self._mark(failed.line)
        with ui.element("div").classes("sql-failed").props('role="alert"'):
            where = f": an error in line {failed.line}" if failed.line else ""
            ui.label(f"No answer{where} (after {duration(failed.took_s)})").classes(
                "sql-failed-head"
            )
            ui.label(failed.text).classes("sql-error")
            if failed.hint:
                ui.label(failed.hint).classes("hint")

    def _tell_answer(self, answer: Answered) -> None:
        table = answer.table
        kinds = {"table": _SHOWN["table"]}
        if not answer.told:
            kinds |= {kind: _SHOWN[kind] for kind in ("line", "bar") if can_draw(table, kind)}
        if self._shown not in kinds:
            self._shown = "table"
        with ui.element("div").classes("sql-bar"):
            ui.label(_summary(answer)).classes("small sql-summary")
            ui.element("span").classes("grow")
            if len(kinds) > 1:
                ui.toggle(
                    kinds, value=self._shown, on_change=lambda e: self._show(str(e.value))
                ).props('dense no-caps unelevated aria-label="Shown as"')
            ui.button("CSV", icon="download", on_click=lambda: download(table, "query")).props(
                'flat dense no-caps aria-label="Save as CSV"'
            )
        self._rows = ui.element("div").classes("sql-rows")
        self._show(self._shown)

    def _show(self, kind: str) -> None:
        self._shown = kind
        answer = self._answer
        if answer is None:
            return
        self._rows.clear()
        with self._rows:
            if kind == "table":
                _table(answer.table)
                return
            options = answer_chart(answer.table, kind)
            ui.echart(options).classes("chart").style("height: 420px").props(
                'role="img" aria-label="The answer as a chart"'
            )


class _Relation:
    """A relation that can be read: its name and, once it is opened, its columns."""

    def __init__(self, name: str, schema: pa.Schema, insert: Callable[[str], None]) -> None:
        self._schema, self._insert = schema, insert
        with ui.element("div").classes("relation"):
            ui.button(name, on_click=lambda: insert(name)).props(
                f'flat dense no-caps align="left" aria-label="Insert {attribute(name)}"'
            )
            self._more = ui.button(icon="expand_more", on_click=self._turn).props(
                f'flat dense round size="sm" aria-expanded="false" '
                f'aria-label="Columns of {attribute(name)}"'
            )
        self._columns = ui.element("ul").classes("relation-columns")
        self._is_open = False

    def _turn(self) -> None:
        self._is_open = not self._is_open
        self._more.props(
            f'icon="{"expand_less" if self._is_open else "expand_more"}" '
            f'aria-expanded="{"true" if self._is_open else "false"}"'
        )
        self._columns.clear()
        if self._is_open:
            with self._columns:
                for field in self._schema:
                    self._column(field)

    def _column(self, field: pa.Field) -> None:
        with ui.element("li"):
            ui.button(field.name, on_click=lambda: self._insert(field.name)).props(
                'flat dense no-caps align="left"'
            )
            ui.label(str(field.type)).classes("hint")


def relations(board: Board) -> dict[str, dict[str, pa.Schema]]:
    """What a query may read, by kind: the schema of each relation by its name.

    Types of a view's columns are DuckDB's, by name.
    """
    views = {name: _schema(view) for name, view in board.views.items()}
    return {
        "Views": views,
        "Topics": {name: contract.schema for name, contract in TOPICS.items()},
        "Dimensions": {n: contract.schema for n, contract in DIMENSIONS.items()}
        | {"pair_ratings": PAIR_RATINGS},
        "Quality and alerts": {name: schema for name, (_, schema) in SYSTEM_TABLES.items()}
        | {ALERTS: ALERT_SCHEMA},
    }


def _schema(view: View) -> pa.Schema:
    return _view_schema(view.plans.columns)


@lru_cache(maxsize=256)
def _view_schema(columns: tuple[tuple[str, str], ...]) -> pa.Schema:
    """A view's columns; types that Arrow calls otherwise are told by their nearest."""
    nearest = {"TIMESTAMP": pa.timestamp("us"), "DATE": pa.date32(), "BIGINT": pa.int64(),
               "INTEGER": pa.int32(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()}  # fmt: skip
    return pa.schema([(name, nearest.get(kind, _other(kind))) for name, kind in columns])


def _other(kind: str) -> pa.DataType:
    if kind.startswith("DECIMAL"):
        width, scale = (int(part) for part in kind[8:-1].split(","))
        return pa.decimal128(width, scale)
    return pa.string()


# -- the answer ----------------------------------------------------------------------------


def _summary(answer: Answered) -> str:
    if answer.told:
        return answer.told
    count = answer.table.num_rows
    told = [f"{count:,} row{'' if count == 1 else 's'} in {duration(answer.took_s)}"]
    if answer.truncated:
        told.append("there are more: raise the limit, or ask for fewer")
    if count > MOST_SHOWN:
        told.append(f"the first {MOST_SHOWN:,} are shown; CSV has all")
    told.append(f"as of {answer.at:%H:%M:%S} UTC")
    return " · ".join(told)


def _table(table: pa.Table) -> None:
    if not table.num_rows:
        ui.label("No rows.").classes("hint")
    data_table(answer_rows(table), answer_columns(table), 25)


def can_draw(table: pa.Table, kind: str) -> bool:
    """Whether an answer can be a chart: its first column is x, and some other is a number."""
    if table.num_columns < 2 or not 0 < table.num_rows <= _MOST_POINTS:
        return False
    has_numbers = any(is_number(field.type) for field in list(table.schema)[1:])
    return has_numbers and (kind == "bar" or is_time(table.schema.field(0).type))


def answer_chart(table: pa.Table, kind: str) -> Options:
    """An answer as a chart: the first column is x, the columns of numbers are the values."""
    numbers = [place for place, field in enumerate(table.schema) if place and is_number(field.type)]
    names = {f"c{place}": table.column_names[place] for place in numbers}
    shown = table.rename_columns([f"c{place}" for place in range(table.num_columns)])
    if kind == "line":
        ordered = shown.filter(shown.column("c0").is_valid()).sort_by("c0")
        return lines(ordered, "c0", names, Unit("", 4))
    return bars(shown.slice(0, _MOST_BARS), "c0", names, Unit("", 4))
