"""The pages Views, one view, and SQL: what there is to ask, where it comes from, and asking it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from html import escape
from typing import Any
from urllib.parse import urlencode

from nicegui import background_tasks, events, ui

from playhead.dashboard.board import Board
from playhead.dashboard.drawing.cards import Card, TableCard, grid
from playhead.dashboard.drawing.codeblock import code_block
from playhead.dashboard.drawing.dialogs import download
from playhead.dashboard.drawing.parts import Unit
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.drawing.texts import message
from playhead.dashboard.filters import DIMENSIONS, Period
from playhead.dashboard.numbers import duration, shown, size
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.pages.views.builder import KEPT, build_chart, is_number
from playhead.dashboard.pages.views.cellsql import covered
from playhead.dashboard.pages.views.lineagepicture import Upstream, ViewLineage, picture, told
from playhead.dashboard.pages.views.sqlbox import SqlBox
from playhead.dashboard.pages.views.sqltable import MOST_SHOWN, grid_columns, grid_rows
from playhead.dashboard.pages.views.uses import Use, uses
from playhead.dashboard.pages.views.viewfacts import (
    Facts,
    ViewFacts,
    list_rows,
    list_views,
    newest_first,
    unit_of,
)
from playhead.dashboard.questions import WHERE, Look, Problem, Question, Reply, time_sql
from playhead.views import View

__all__ = ["SPECS"]

_TABS = {
    "about": ("About", "info"),
    "rows": ("Rows", "table_rows"),
    "chart": ("Chart", "insert_chart"),
    "plans": ("SQL and plans", "code"),
    "query": ("SQL box", "terminal"),
}
_DAY = timedelta(days=1)
_FILTERED = ("rows", "chart")
_PERIODS = (
    ("1h", "Last hour"),
    ("6h", "Last 6 hours"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("52w", "Last 52 weeks"),
    ("", "All of the time"),
)
_PLANS = {
    "written": "As written",
    "full": "Full",
    "partial": "Partial",
    "merge": "Merge",
    "final": "Final",
}
_PLAN_WORDS = {
    "written": "The one text that everything else is derived from.",
    "full": "Plain recomputation over every event: what the merged answer has to equal.",
    "partial": "Makes states of events, the same in the batch and in the speed layer.",
    "merge": "Makes one state of several.",
    "final": "Makes the answer of the merged states.",
}
_DIALECTS = {"duckdb": "DuckDB", "spark": "Spark", "bigquery": "BigQuery"}
_MOST_SAVED = 100_000
_START = (
    "-- Relations stand beside this box; one click writes a name.\nSELECT *\nFROM {}\nLIMIT 100"
)


# -- all views -----------------------------------------------------------------------------


_LISTED = Look(list_views, 3.0)


def build_list(page: Page) -> None:
    """Every view and how it stands."""
    with grid():
        TableCard(
            page,
            "All views",
            [_LISTED],
            list_rows,
            _LIST_COLUMNS,
            about="Each view is one SELECT over events, in the library or in the workspace's "
            "folder views. Rows and bytes are those of its states: what is kept to answer it.",
            rows_shown=50,
        )


_BYTES = Unit("B")
_LIST_COLUMNS = (
    Column("name", "View", link="href", note="about"),
    Column("owner", "Owner"),
    Column("topics", "Topics"),
    Column("window", "Window"),
    Column("columns", "Columns", Unit()),
    Column("speed_rows", "Speed rows", Unit(), "Rows of its states in the speed layer."),
    Column("speed_bytes", "Speed size", Unit(), "Events that several states share count for each."),
    Column("batch_rows", "Batch rows", Unit(), "Rows of its state tables in the lake."),
    Column("batch_bytes", "Batch size", _BYTES, "Bytes of their data files."),
    Column("ready", "State", note="reason"),
)


# -- one view ------------------------------------------------------------------------------


def fit(spec: Spec, board: Board, arguments: Mapping[str, str]) -> Spec:
    """The page of the view that an address names: its title, and the filters that it knows."""
    name = arguments["name"]
    if name not in board.views:
        return replace(spec, title="No such view")
    if tab_of(arguments) not in _FILTERED:
        return replace(spec, title=name)
    view = board.views[name]
    known = [d for d, columns in DIMENSIONS.items() if set(columns) & set(view.columns)]
    has_time = time_sql(view) is not None
    is_short = view.window is not None and (view.window.fixed or _DAY) < _DAY
    return replace(
        spec,
        title=name,
        dimensions=tuple(known),
        periods=_PERIODS if has_time else (),
        period=Period("24h") if is_short else Period(),
    )


def tab_of(arguments: Mapping[str, str]) -> str:
    """Which part of the page an address means."""
    tab = arguments.get("tab", "")
    if tab in _TABS:
        return tab
    if "sql" in arguments:
        return "query"
    return "chart" if any(name in arguments for name in KEPT) else "about"


def build_view(page: Page) -> None:
    """One part of the page of a view."""
    name = str(page.arguments["name"])
    if name not in page.board.views:
        message("failed", f"There is no view {name}.", "It may have been renamed or removed.")
        with ui.element("div").classes("links center"):
            ui.link("All views", "/views")
        return
    view = page.board.views[name]
    tab = tab_of(page.arguments)
    _tabs(page, tab)
    _BUILDS[tab](page, view)


def _tabs(page: Page, here: str) -> None:
    with ui.element("nav").classes("parts").props('aria-label="Parts of this page"'):
        for tab, (title, icon) in _TABS.items():
            query = page.filters.query(page.spec.period) if tab in _FILTERED else ""
            told_too = "&".join(part for part in (urlencode({"tab": tab}), query) if part)
            link = ui.element("a").props(f'href="{page.path}?{told_too}"')
            if tab == here:
                link.classes("here").props('aria-current="page"')
            with link:
                ui.icon(icon).props('aria-hidden="true"')
                ui.label(title)


# -- about ---------------------------------------------------------------------------------


def _about(page: Page, view: View) -> None:
    with grid():
        with ui.element("section").classes("card w7").props('aria-label="What it answers"'):
            with ui.element("header").classes("card-head"), ui.element("h2"):
                ui.label("What it answers")
            ui.label(view.header.description or "The view's text does not say.").classes("prose")
        _Standing(page, view)
    with grid():
        _Lineage(page, view)
    with grid():
        _columns(view)


class _Standing(Card):
    """How a view stands: whether it has an answer, of what, and what its states take."""

    def __init__(self, page: Page, view: View) -> None:
        self._view = view
        look = Look(ViewFacts(view.name), 3.0)
        super().__init__(
            page, "How it stands", [look], width=5,
            about="Coverage tells what the answer is made of: loads and epochs up to some number "
            "come from the batch layer, later epochs from the speed layer.",
        )  # fmt: skip

    def _is_empty(self, replies: Sequence[Reply]) -> bool:
        return False

    def _make(self, replies: Sequence[Reply]) -> None:
        self._list = ui.element("dl").classes("facts")
        self._facts: dict[str, str] = {}
        self._draw(replies)

    def _draw(self, replies: Sequence[Reply]) -> None:
        told = facts_told(replies[0].value)
        if told == self._facts:
            return
        self._facts = told
        self._list.clear()
        with self._list:
            for name, text in told.items():
                with ui.element("dt"):
                    ui.label(name)
                with ui.element("dd"):
                    ui.label(text)


def facts_told(facts: Facts) -> dict[str, str]:
    """What is known of a view, in words."""
    view = facts.view
    found = {
        "State": "ready" if facts.is_ready else f"waits: {facts.reason}",
        "Owner": view.header.owner or "nobody is named",
        "Window": "none" if view.window is None else f"{view.window.words} of {view.window.key}",
        "Waits for late events": duration(view.watermark.total_seconds()),
        "Topics": ", ".join(view.topics),
        "Dimensions": ", ".join(view.plans.dimensions) or "none",
        "Made of": "; ".join(covered(facts.coverage)) or "nothing yet",
        "Speed state": f"{shown(facts.speed.rows)} rows, {size(facts.speed.bytes)}",
        "Batch state": f"{shown(facts.batch.rows)} rows, {size(facts.batch.bytes)}",
    }
    if facts.seconds is not None:
        found["Last whole answer took"] = duration(facts.seconds)
    return found


def _columns(view: View) -> None:
    with ui.element("section").classes("card w12").props('aria-label="Columns"'):
        with ui.element("header").classes("card-head"), ui.element("h2"):
            ui.label("Columns")
        ui.html(columns_table(view), sanitize=False)


def columns_table(view: View) -> str:
    """The columns of a view as HTML, every text of it escaped."""
    rows = []
    for name, kind in view.plans.columns:
        key = '<span class="card-flag">key</span>' if name in view.keys else ""
        rows.append(
            f'<tr><th scope="row" class="name">{escape(name)}</th>'
            f'<td class="type">{escape(kind)}</td>'
            f"<td>{escape(view.header.columns.get(name, ''))}</td><td>{key}</td></tr>"
        )
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("Column", "Type", "Meaning", ""))
    return (
        f'<table class="plain"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


_PICK = """e => {
  const row = e.target.closest('[role=button]');
  if (row && (e.type === 'click' || e.key === 'Enter' || e.key === ' ')) {
    e.preventDefault(); emit(row.dataset.key);
  }
}"""


class _Lineage(Card):
    """Where the columns of a view come from, and which charts show it."""

    def __init__(self, page: Page, view: View) -> None:
        self._view, self._chosen = view, ""
        self._uses: tuple[Use, ...] | None = None
        super().__init__(
            page, "Lineage", [Look(ViewLineage(view.name), 600.0)], width=12,
            about="Columns of topics and dimensions on the left, the view's columns in the middle, "
            "the charts of these pages made of it on the right. Choose a column to see its ways. "
            "What stands alone on the left only filters, joins or groups.",
        )  # fmt: skip
        background_tasks.create(self._find_uses())

    async def _find_uses(self) -> None:
        self._uses = (await uses(self._page.board)).get(self._view.name, ())
        self._show()

    def _is_empty(self, replies: Sequence[Reply]) -> bool:
        return False

    def _make(self, replies: Sequence[Reply]) -> None:
        self._words = ui.label("").classes("small").props('aria-live="polite"')
        with ui.element("div").classes("lineage-frame"):
            self._picture = ui.html("", sanitize=False)
        for event in ("click", "keydown"):
            self._picture.on(event, self._pick, js_handler=_PICK)
        self._links = ui.element("div").classes("links")
        self._draw(replies)

    def _draw(self, replies: Sequence[Reply]) -> None:
        self._upstream: Upstream = replies[0].value
        self._redraw()
        self._links.clear()
        with self._links:
            for use in dict.fromkeys(Use(use.page, use.path, "") for use in self._uses or ()):
                ui.link(f"Open {use.page}", use.path)
            if self._uses == ():
                ui.label("No chart of these pages shows it.").classes("small")

    def _redraw(self) -> None:
        drawn = picture(self._view, self._upstream, self._uses or (), self._chosen)
        self._picture.set_content(drawn)
        self._words.set_text(told(self._view, self._upstream, self._chosen))

    def _pick(self, event: events.GenericEventArguments) -> None:
        chosen = str(event.args)
        self._chosen = "" if chosen == self._chosen else chosen
        self._redraw()


# -- rows, charts, plans, SQL --------------------------------------------------------------


def _rows(page: Page, view: View) -> None:
    order = newest_first(view)
    select = f"SELECT *\nFROM {view.name}\nWHERE {WHERE}\n{order.strip()}\nLIMIT {MOST_SHOWN}"
    rows = page.ask(view.name, select, every_s=10.0)
    count = page.ask(
        view.name, f"SELECT COUNT(*) AS rows FROM {view.name} WHERE {WHERE}", every_s=10.0
    )
    kinds = dict(view.plans.columns)
    units = {name: unit_of(view, name) if is_number(kinds[name]) else None for name in view.columns}
    units |= {name: None for name in ("watch_year",) if name in units}
    with grid():
        _Rows(page, rows, count, grid_columns(units, view.header.columns))


class _Rows(TableCard):
    """The merged answer, the newest rows first."""

    def __init__(
        self, page: Page, rows: Question, count: Question, columns: Sequence[Column]
    ) -> None:
        self._rows_asked = rows
        super().__init__(
            page, f"Rows of {rows.view}", [rows, count], grid_rows, columns, rows_shown=25,
            about=f"The merged answer of batch and speed, at most {MOST_SHOWN:,} rows here. Search "
            "and sorting are those of the rows shown; filters are the page's.",
        )  # fmt: skip

    def _is_empty(self, replies: Sequence[Reply]) -> bool:
        return super()._is_empty(replies[:1])

    def _make(self, replies: Sequence[Reply]) -> None:
        with ui.element("div").classes("sql-bar"):
            self._count = ui.label("").classes("small")
            ui.element("span").classes("grow")
            ui.button("CSV of all rows", icon="download", on_click=self._save).props(
                "flat dense no-caps"
            )
        super()._make(replies)
        if self._table is not None:
            self._table.classes("one-line")
        self._tell_count(replies)

    def _draw(self, replies: Sequence[Reply]) -> None:
        super()._draw(replies)
        self._tell_count(replies)

    def _tell_count(self, replies: Sequence[Reply]) -> None:
        counted = replies[1].table
        total = 0 if counted is None else int(counted.column(0)[0].as_py())
        behind = f"; the first {MOST_SHOWN:,} are here" if total > MOST_SHOWN else ""
        self._count.set_text(f"{total:,} row{'' if total == 1 else 's'} with these filters{behind}")

    async def _save(self) -> None:
        found = await self._page.rows(self._rows_asked, _MOST_SAVED)
        if isinstance(found, Problem):
            ui.notify(found.text, type="negative")
            return
        if found.num_rows == _MOST_SAVED:
            ui.notify(f"The first {_MOST_SAVED:,} rows are saved: ask the API for more.")
        download(found, self._rows_asked.view)


def _plans(page: Page, view: View) -> None:
    chosen = page.kept.get("plan", "written")
    state = {
        "plan": chosen if chosen in _PLANS else "written",
        "dialect": page.kept.get("dialect", "duckdb"),
    }
    if state["dialect"] not in _DIALECTS:
        state["dialect"] = "duckdb"

    def draw() -> None:
        plan, dialect = state["plan"], state["dialect"]
        ui.label(_PLAN_WORDS[plan]).classes("small")
        code_block(view.text.strip() if plan == "written" else view.sql(plan, dialect))

    def turn(event: events.ValueChangeEventArguments[Any], name: str) -> None:
        state[name] = str(event.value)
        dialects.set_visibility(state["plan"] != "written")
        page.keep(state)
        page.remake(place, draw)

    with ui.element("section").classes("card").props('aria-label="SQL and plans"'):
        with ui.element("div").classes("sql-bar"):
            ui.toggle(_PLANS, value=state["plan"], on_change=lambda e: turn(e, "plan")).props(
                'dense no-caps unelevated aria-label="Plan"'
            )
            dialects = ui.toggle(
                _DIALECTS, value=state["dialect"], on_change=lambda e: turn(e, "dialect")
            ).props('dense no-caps unelevated aria-label="Dialect"')
            dialects.set_visibility(state["plan"] != "written")
        place = ui.element("div")
        page.remake(place, draw)


def _query(page: Page, view: View) -> None:
    asked = str(page.arguments.get("sql", ""))
    SqlBox(page, asked or _START.format(view.name), run=bool(asked))


def build_sql(page: Page) -> None:
    """The SQL box by itself."""
    asked = str(page.arguments.get("sql", ""))
    first = "engagement_health" if "engagement_health" in page.board.views else "playback"
    SqlBox(page, asked or _START.format(first), run=bool(asked))


_BUILDS = {"about": _about, "rows": _rows, "chart": build_chart, "plans": _plans, "query": _query}

SPECS = (
    Spec("/views", "Views", "dataset", build_list, kept=lambda *_: [_LISTED]),
    Spec(
        "/views/{name}",
        "View",
        "dataset",
        build_view,
        in_navigation=False,
        keeps=("tab", "sql", "plan", "dialect", *KEPT),
        fit=fit,
    ),
    Spec("/sql", "SQL", "terminal", build_sql, keeps=("sql",)),
)
