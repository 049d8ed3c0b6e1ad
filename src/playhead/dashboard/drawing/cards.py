"""Cards: a title, what is shown, and one click to its rows, its SQL, and files of it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from nicegui import events, ui

from playhead.dashboard.board import Draw
from playhead.dashboard.drawing.dialogs import dialog, download, relation_box, rows_box, sql_box
from playhead.dashboard.drawing.tables import Column, as_table, data_table
from playhead.dashboard.drawing.texts import attribute, message, slug
from playhead.dashboard.questions import Asked, Problem, Question, Reply

if TYPE_CHECKING:
    from playhead.dashboard.page import Page

__all__ = ["Card", "ChartCard", "Figure", "More", "TableCard", "Tile", "grid"]

_ROWS_SAVED = 100_000


class More(TypedDict, total=False):
    """What every card may be told besides, see `Card`."""

    empty: str
    hint: str
    sql: str


class Card(ABC):
    """A frame around the newest replies to some questions; what is in it is up to `_draw`.

    While the pointer is on it, it stands still. It says by itself when there is nothing to show
    yet, when what it shows is not of now, and which filters it knows nothing of.

    Args:
        asked: what it shows is made of; nothing is shown before all are answered.
        about: what it shows and how that is computed, shown beside the title.
        width: of 12 columns of the page.
        height: of what is in it, CSS; empty: as much as it needs.
        empty: why there is nothing to show, if there is not; `hint`: what to do about it.
        sql: of what is no view, the SELECT that anyone may ask for the same.
    """

    def __init__(
        self,
        page: "Page",
        title: str,
        asked: Sequence[Asked],
        *,
        about: str = "",
        width: int = 6,
        height: str = "",
        empty: str = "There is nothing of that kind in this time, or with these filters.",
        hint: str = "",
        sql: str = "",
    ) -> None:
        self._page, self._title, self._asked = page, title, tuple(asked)
        self._empty, self._about, self._sql = Problem("empty", empty, hint), about, sql
        self._replies: dict[Asked, Reply] = {}
        self._is_held = self._has_news = self._has_menu = False
        self._state = ""
        name = slug(title)
        self._section = (
            ui.element("section")
            .classes(f"card w{width}")
            .props(f'aria-label="{attribute(title)}" data-card="{name}" tabindex="-1"')
        )
        self._section.on("mouseenter", self._hold)
        self._section.on("mouseleave", self._let_go)
        with self._section:
            self._head()
            self._body = ui.element("div").classes("card-body")
            if height:
                self._body.style(f"height: {height}")
        self._show_state("loading")
        page.note(title, self._questions)
        for each in self._asked:
            page.watch(each, lambda reply, each=each: self._told(each, reply))  # type: ignore[misc]

    # -- the head --------------------------------------------------------------------------

    def _head(self) -> None:
        with ui.element("header").classes("card-head"):
            with ui.element("h2"):
                ui.label(self._title)
            if self._about:
                said = f'aria-hidden="false" aria-label="{attribute(self._about)}"'
                with (
                    ui.icon("info_outline")
                    .classes("about")
                    .props(f'tabindex="0" role="img" {said}')
                ):
                    ui.tooltip(self._about).classes("tip")
            self._note = ui.label("").classes("card-note")
            for each in self._questions:
                if each.missing:
                    names = ", ".join(each.missing)
                    ui.label(f"all: {names}").classes("card-flag").tooltip(
                        f"The view {each.view} does not tell its rows apart by {names}, so that "
                        "filter does not change this."
                    )
                    break
            ui.element("span").classes("grow")
            self._menu()

    def _menu(self) -> None:
        self._more = ui.button(icon="more_vert", on_click=self._open_menu).props(
            f'flat round dense size="sm" aria-haspopup="menu" '
            f'aria-label="More of {attribute(self._title)}"'
        )

    def _open_menu(self) -> None:
        """Make the menu when it is first asked for: a page has many that nobody opens."""
        if self._has_menu:
            return
        self._has_menu = True
        with self._more, ui.menu().props("auto-close") as menu:
            for text, icon, act in self._acts():
                with ui.menu_item(on_click=act).classes("card-act"):
                    ui.icon(icon).props('aria-hidden="true"')
                    ui.label(text)
        menu.open()

    def _acts(self) -> list[tuple[str, str, Callable[[], Any]]]:
        acts: list[tuple[str, str, Callable[[], Any]]] = []
        if self._questions:
            acts.append(("Show rows", "table_rows", self._show_rows))
        if self._questions or self._sql:
            acts.append(("Show SQL", "code", self._show_sql))
        if self._questions:
            acts.append(("Save as CSV", "download", self._save_csv))
        return acts

    @property
    def _questions(self) -> list[Question]:
        return [each for each in self._asked if isinstance(each, Question)]

    # -- the body --------------------------------------------------------------------------

    @abstractmethod
    def _draw(self, replies: Sequence[Reply]) -> None:
        """Show these replies in what `_make` has made."""

    @abstractmethod
    def _make(self, replies: Sequence[Reply]) -> None:
        """Make what shows these replies, in the body."""

    def _is_empty(self, replies: Sequence[Reply]) -> bool:
        """Whether there is nothing in these replies that could be shown."""
        return all(reply.table is not None and not reply.table.num_rows for reply in replies)

    def _hold(self) -> None:
        self._is_held = True

    def _let_go(self) -> None:
        self._is_held = False
        if self._has_news:
            self._show()
        self._tell_note()

    def _told(self, asked: Asked, reply: Reply) -> None:
        self._replies[asked] = reply
        if self._is_held and self._state == "drawn":
            self._has_news = True
            self._tell_note()
        else:
            self._show()

    def _show(self) -> None:
        self._has_news = False
        if len(self._replies) < len(set(self._asked)):
            return
        replies = [self._replies[each] for each in self._asked]
        problem = next((reply.problem for reply in replies if reply.problem is not None), None)
        if any(reply.value is None for reply in replies) or self._is_empty(replies):
            self._show_problem(problem or self._empty)
        elif self._state == "drawn":
            self._draw(replies)
        else:
            self._body.clear()
            with self._body:
                self._make(replies)
            self._state = "drawn"
        self._tell_note()

    def _show_problem(self, problem: Problem) -> None:
        self._show_state(repr(problem), lambda: message(problem.kind, problem.text, problem.hint))

    def _show_state(self, state: str, make: Callable[[], Any] | None = None) -> None:
        if state == self._state:
            return
        self._state = state
        self._body.clear()
        with self._body:
            if make is not None:
                make()
            else:
                ui.element("div").classes("skeleton").props('role="status" aria-label="Loading"')

    def _tell_note(self) -> None:
        """Say whether what is shown is of now."""
        note, kind = "", ""
        replies = self._replies.values()
        problem = next((reply.problem for reply in replies if reply.problem is not None), None)
        if self._is_held and self._has_news:
            note, kind = "paused", "held"
        elif self._state == "drawn" and problem is not None:
            since = min(reply.made_at for reply in replies)
            note, kind = f"as of {since:%H:%M:%S} UTC: {problem.text}", "stale"
        elif any(reply.is_stale for reply in replies):
            note, kind = f"as of {min(r.made_at for r in replies):%H:%M} UTC, updating", "stale"
        if note != self._note.text:
            self._note.set_text(note)
            self._note.props(f'title="{attribute(note)}"')
            self._note.classes(replace=f"card-note {kind}")

    # -- its rows, its SQL, its files ------------------------------------------------------

    def _answered(self) -> list[tuple[Question, Reply]]:
        found = [(each, self._replies[each]) for each in self._questions if each in self._replies]
        return [(question, reply) for question, reply in found if reply.sql]

    def _show_sql(self) -> None:
        with self._page.overlay, dialog(f"SQL of {self._title}") as shown:
            for question, reply in self._answered():
                sql_box(question, reply)
            if self._sql:
                relation_box(self._sql)
            elif not self._answered():
                message("empty", "It has not been asked yet.")
        shown.open()

    async def _show_rows(self) -> None:
        with self._page.overlay, dialog(f"Rows of {self._title}", wide=True) as shown:
            place = ui.element("div").classes("rows")
            with place:
                ui.element("div").classes("skeleton").style("height: 240px")
        shown.open()
        answered = self._answered()[:1]
        found = [await self._page.rows(question, _ROWS_SAVED) for question, _ in answered]
        place.clear()
        with place:
            if not found:
                message("empty", "It has not been answered yet.")
            for (question, _), rows in zip(answered, found, strict=True):
                rows_box(question, rows, self._title, _ROWS_SAVED)

    def _save_csv(self) -> None:
        for number, (_, reply) in enumerate(self._answered()):
            if reply.table is not None:
                download(reply.table, self._title + (f" {number + 1}" if number else ""))


class ChartCard(Card):
    """A chart that is drawn by a function of the replies, see `playhead.dashboard.drawing.charts`.

    Args:
        draw: makes the options; without any, there is nothing to show.
    """

    def __init__(
        self,
        page: "Page",
        title: str,
        asked: Sequence[Asked],
        draw: Draw,
        *,
        about: str = "",
        width: int = 6,
        height: str = "260px",
        on_click: Callable[[events.EChartPointClickEventArguments], Any] | None = None,
        **more: Unpack[More],
    ) -> None:
        self._drawing, self._on_click = draw, on_click
        self._chart: ui.echart | None = None
        super().__init__(page, title, asked, about=about, width=width, height=height, **more)

    def _is_empty(self, replies: Sequence[Reply]) -> bool:
        return super()._is_empty(replies) or not self._page.board.drawn(self._drawing, replies)

    def _make(self, replies: Sequence[Reply]) -> None:
        options = self._page.board.drawn(self._drawing, replies)
        self._chart = ui.echart(options, on_point_click=self._on_click).classes("chart")
        self._chart.props(f'role="img" aria-label="{attribute(self._title)}, a chart"')

    def _draw(self, replies: Sequence[Reply]) -> None:
        if self._chart is not None:
            # Drawings are shared by all browsers; the chart only ever reads them.
            self._chart._props["options"] = self._page.board.drawn(self._drawing, replies)
            self._chart.update()

    def _acts(self) -> list[tuple[str, str, Callable[[], Any]]]:
        return [*super()._acts(), ("Save as PNG", "image", self._save_png)]

    def _save_png(self) -> None:
        if self._chart is None or self._state != "drawn":
            ui.notify("There is no chart to save yet.", type="warning")
            return
        ui.run_javascript(_PNG % (self._chart.id, json.dumps(f"{slug(self._title)}.png")))


_PNG = """
const chart = getElement(%d).chart;
const link = document.createElement('a');
const ground = getComputedStyle(document.body).getPropertyValue('--card').trim();
link.href = chart.getDataURL({type: 'png', pixelRatio: 2, backgroundColor: ground});
link.download = %s;
link.click();
"""


class TableCard(Card):
    """A table that can be sorted and searched.

    Args:
        draw: makes the rows; without any, there is nothing to show.
        columns: those that are shown.
        on_open: told the row that someone wants to know more of.
        lead: makes a sentence above the table.
    """

    def __init__(
        self,
        page: "Page",
        title: str,
        asked: Sequence[Asked],
        draw: Draw,
        columns: Sequence[Column],
        *,
        about: str = "",
        width: int = 12,
        rows_shown: int = 10,
        searched: bool = True,
        on_open: Callable[[dict[str, Any]], Any] | None = None,
        lead: Draw | None = None,
        **more: Unpack[More],
    ) -> None:
        self._drawing, self._columns, self._on_open = draw, columns, on_open
        self._lead = lead
        self._lead_label: ui.label | None = None
        self._rows_shown, self._searched = rows_shown, searched
        self._table: ui.table | None = None
        self._rows: list[dict[str, Any]] = []
        super().__init__(page, title, asked, about=about, width=width, **more)

    def _is_empty(self, replies: Sequence[Reply]) -> bool:
        return super()._is_empty(replies) or not self._page.board.drawn(self._drawing, replies)

    def _make(self, replies: Sequence[Reply]) -> None:
        if self._lead is not None:
            self._lead_label = ui.label(self._page.board.drawn(self._lead, replies)).classes("lead")
        self._rows = self._page.board.drawn(self._drawing, replies)
        self._table = data_table(
            self._rows, self._columns, self._rows_shown, searched=self._searched,
            on_open=self._on_open,
        )  # fmt: skip

    def _draw(self, replies: Sequence[Reply]) -> None:
        if self._lead is not None and self._lead_label is not None:
            text = self._page.board.drawn(self._lead, replies)
            if text != self._lead_label.text:
                self._lead_label.set_text(text)
        rows = self._page.board.drawn(self._drawing, replies)
        if self._table is not None and rows != self._rows:
            self._rows = self._table._props["rows"] = rows
            self._table.update()

    def _acts(self) -> list[tuple[str, str, Callable[[], Any]]]:
        if self._questions:
            return super()._acts()
        return [*super()._acts(), ("Save as CSV", "download", self._save_rows)]

    def _save_rows(self) -> None:
        download(as_table(self._rows, self._columns), self._title)


@dataclass(frozen=True)
class Figure:
    """A number as a tile shows it.

    Attributes:
        value: with its unit.
        change: against what was before, such as "+12 %"; empty: not told.
        note: below it, in small print.
        is_good: whether the change is welcome; None: neither.
    """

    value: str
    change: str = ""
    note: str = ""
    is_good: bool | None = None


class Tile(Card):
    """One number, large; `draw` makes a `Figure` of the replies."""

    def __init__(
        self,
        page: "Page",
        title: str,
        asked: Sequence[Asked],
        draw: Draw,
        *,
        about: str = "",
        width: int = 2,
    ) -> None:
        self._drawing = draw
        self._labels: tuple[ui.label, ...] = ()
        super().__init__(page, title, asked, about=about, width=width)
        self._section.classes("tile")

    def _make(self, replies: Sequence[Reply]) -> None:
        self._labels = (
            ui.label("").classes("figure"),
            ui.label("").classes("change"),
            ui.label("").classes("small"),
        )
        self._draw(replies)

    def _draw(self, replies: Sequence[Reply]) -> None:
        figure: Figure = self._page.board.drawn(self._drawing, replies)
        value, change, note = self._labels
        for label, text in ((value, figure.value), (change, figure.change), (note, figure.note)):
            if label.text != text:
                label.set_text(text)
        tone = {True: "good", False: "bad", None: ""}[figure.is_good]
        change.classes(replace=f"change {tone}")


def grid() -> ui.element:
    """The 12 columns that cards stand in."""
    return ui.element("div").classes("grid12")
