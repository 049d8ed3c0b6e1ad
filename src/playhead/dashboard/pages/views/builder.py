"""A chart of one's own: what is chosen is a SELECT over one view, and stands in the address."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from nicegui import events, ui

from playhead.batch.sqltext import identifier
from playhead.dashboard.drawing.cards import Card, ChartCard, TableCard, grid
from playhead.dashboard.drawing.charts import bars, lines, scatter
from playhead.dashboard.drawing.codeblock import code_block
from playhead.dashboard.drawing.dialogs import sql_link
from playhead.dashboard.drawing.maps import heat
from playhead.dashboard.drawing.parts import Options, Unit
from playhead.dashboard.page import Page
from playhead.dashboard.pages.views.sqltable import grid_columns, grid_rows
from playhead.dashboard.pages.views.viewfacts import is_share, unit_of
from playhead.dashboard.questions import WHERE, Reply
from playhead.views import View

__all__ = ["KEPT", "KINDS", "Choice", "build_chart", "choice_of"]

KINDS = {"line": "Line", "bar": "Bars", "scatter": "Scatter", "heat": "Heat map", "table": "Table"}
AGGREGATES = {"sum": "Sum", "avg": "Mean", "min": "Lowest", "max": "Highest", "count": "Rows"}
KEPT = ("kind", "x", "y", "agg", "colour")
"""Names under which a choice stands in the address."""

_SQL = {"sum": "SUM({})", "avg": "AVG({})", "min": "MIN({})", "max": "MAX({})", "count": "COUNT(*)"}
_TIMES = ("TIMESTAMP", "DATE")
_NUMBERS = ("BIGINT", "INTEGER", "DECIMAL", "DOUBLE", "FLOAT", "HUGEINT", "SMALLINT", "TINYINT")
_MOST = {"line": 20_000, "bar": 60, "scatter": 2_000, "heat": 2_500, "table": 1_000}
_SHADES = 12
_COUNT = Unit()


@dataclass(frozen=True)
class Choice:
    """What a chart shows. It draws replies, too; equal choices draw the same.

    Attributes:
        view: its name.
        x: the column along the axis; of a heat map, its columns.
        y: the column of the values; of "count", none.
        agg: how the values of one place become one; a scatter shows each row.
        colour: the column that tells colours apart, or the rows of a heat map; empty: none.
        unit: of the values.
        is_time: whether `x` is a time.
    """

    view: str
    kind: str
    x: str
    y: str
    agg: str
    colour: str = ""
    unit: Unit = _COUNT
    is_time: bool = False

    def __call__(self, replies: Sequence[Reply]) -> Any:
        table = replies[0].table
        assert table is not None  # noqa: S101 - a card draws only what is there
        if self.kind == "table":
            return grid_rows(replies)
        return self._options(table)

    def _options(self, table: pa.Table) -> Options:
        value, by = table.column_names[-1], self.colour or None
        if self.kind == "line" and self.is_time:
            return lines(table, self.x, {value: value}, self.unit, by=by, area=by is None)
        if self.kind == "scatter":
            return scatter(table, self.x, value, self.unit, by=by)
        if self.kind == "heat" and by is not None:
            return heat(table, self.x, by, value, self.unit)
        return bars(table, self.x, {value: value}, self.unit, by=by, stacked=by is not None)

    def select(self) -> str:
        """The SELECT over the view; `{where}` stands for the page's filters."""
        columns = [name for name in dict.fromkeys((self.x, self.colour)) if name]
        shown = ", ".join(identifier(name) for name in columns)
        most, known = _MOST[self.kind], f"{identifier(self.x)} IS NOT NULL"
        head = f"SELECT {shown}, {self._value()}\nFROM {self.view}\nWHERE {WHERE} AND {known}"
        if self.kind == "scatter":
            return f"{head}\nLIMIT {most}"
        ranked = self.kind == "bar" and not self.is_time
        order = f"{identifier(self.name)} DESC, " if ranked and not self.colour else ""
        return f"{head}\nGROUP BY ALL\nORDER BY {order}{shown}\nLIMIT {most}"

    @property
    def name(self) -> str:
        """What its values are called."""
        if self.kind == "scatter":
            return f"{self.y}_of_row" if self.y in (self.x, self.colour) else self.y
        return "rows" if self.agg == "count" else f"{self.agg}_{self.y}"

    @property
    def title(self) -> str:
        """The same as people say it."""
        if self.kind == "scatter":
            return self.y
        return "Rows" if self.agg == "count" else f"{AGGREGATES[self.agg]} of {self.y}"

    def _value(self) -> str:
        if self.kind == "scatter":
            return f"{identifier(self.y)} AS {identifier(self.name)}"
        return f"{_SQL[self.agg].format(identifier(self.y))} AS {identifier(self.name)}"

    def told(self) -> dict[str, str]:
        """What the address says of it."""
        return {name: str(asdict(self)[name]) for name in KEPT}


def choice_of(view: View, told: Mapping[str, str]) -> Choice:
    """The choice that an address tells; what it does not tell, or wrongly, is chosen here."""
    kinds = dict(view.plans.columns)
    numbers = [name for name in kinds if is_number(kinds[name]) and name not in view.keys]
    numbers = numbers or [name for name in kinds if is_number(kinds[name])] or list(kinds)
    times = [name for name in kinds if is_time(kinds[name])]
    plain = [name for name in view.keys if name not in times] or list(kinds)
    x = _one_of(told.get("x"), list(kinds), (times or plain)[0])
    kind = _one_of(told.get("kind"), list(KINDS), "line" if is_time(kinds[x]) else "bar")
    y = _one_of(told.get("y"), list(kinds), numbers[0])
    agg = _one_of(told.get("agg"), list(AGGREGATES), _usual(view, y))
    if agg in ("sum", "avg") and not is_number(kinds[y]):
        agg = "count"
    colour = told.get("colour", "")
    colour = colour if colour in kinds and colour != x else ""
    if kind == "heat" and not colour:
        colour = next(name for name in [*plain, *kinds] if name != x)
    unit = _COUNT if agg == "count" and kind != "scatter" else unit_of(view, y)
    return Choice(view.name, kind, x, y, agg, colour, unit, is_time(kinds[x]))


def is_time(kind: str) -> bool:
    return kind.startswith(_TIMES)


def is_number(kind: str) -> bool:
    return kind.startswith(_NUMBERS) and not kind.endswith("]")


def caution(view: View, choice: Choice) -> str:
    """What a choice's numbers do not mean, although they look it; empty if there is nothing."""
    meaning = view.header.columns.get(choice.y, "")
    if choice.kind == "scatter" or choice.agg not in ("sum", "avg"):
        return ""
    if choice.agg == "sum" and "distinct" in meaning:
        return (
            f"{choice.y} counts distinct things of each row: a sum over rows counts some of them "
            "more than once."
        )
    if choice.agg == "sum" and _is_ratio(view, choice.y):
        return f"{choice.y} is a share or a mean: sums of it mean nothing."
    if choice.agg == "avg" and _is_ratio(view, choice.y):
        return f"The mean of {choice.y} gives each row of the view the same weight."
    return ""


def _is_ratio(view: View, column: str) -> bool:
    meaning = view.header.columns.get(column, "")
    return is_share(view, column) or meaning.startswith(("mean", "average"))


def _usual(view: View, column: str) -> str:
    if not is_number(dict(view.plans.columns)[column]):
        return "count"
    return "avg" if _is_ratio(view, column) else "sum"


def _one_of(told: str | None, known: Sequence[str], otherwise: str) -> str:
    return told if told is not None and told in known else otherwise


# -- on the page ---------------------------------------------------------------------------


def build_chart(page: Page, view: View) -> None:
    """The choices, and the chart that they make."""
    _Builder(page, view)


class _Builder:
    def __init__(self, page: Page, view: View) -> None:
        self._page, self._view = page, view
        self._choice = choice_of(view, page.kept)
        with ui.element("div").classes("builder").props('role="group" aria-label="Chart"'):
            columns = list(view.columns)
            self._select("kind", "Kind", KINDS)
            self._select("x", "Across (x)", columns)
            self._select("y", "Values (y)", columns)
            self._select("agg", "Taken together by", AGGREGATES)
            self._select("colour", "Colour or rows", {"": "none"} | {n: n for n in columns})
        self._place = ui.element("div")
        page.remake(self._place, self._draw)

    def _select(self, name: str, label: str, options: Sequence[str] | dict[str, str]) -> None:
        shown = options if isinstance(options, dict) else list(options)
        ui.select(
            shown,
            value=asdict(self._choice)[name],
            label=label,
            on_change=lambda event: self._changed(name, event),
        ).props("dense outlined options-dense").classes("filter")

    def _changed(self, name: str, event: events.ValueChangeEventArguments[Any]) -> None:
        told = self._choice.told() | {name: str(event.value or "")}
        if name == "y":
            # Sums of shares mean nothing: another column has its own usual aggregate.
            told.pop("agg")
        self._choice = choice_of(self._view, told)
        self._page.keep(self._choice.told())
        self._page.remake(self._place, self._draw)

    def _draw(self) -> None:
        choice, view = self._choice, self._view
        if warning := caution(view, choice):
            ui.label(warning).classes("banner").props('role="note"')
        asked = self._page.ask(view.name, choice.select(), every_s=5.0)
        with grid():
            self._card(choice, asked)
            self._sql = ui.element("section").classes("card w12").props('aria-label="Its SQL"')
        self._page.watch(asked, self._tell_sql)

    def _tell_sql(self, reply: Reply) -> None:
        """Show the SELECT as it was first asked: its times go on, and it need not follow them."""
        if reply.sql and not self._sql.default_slot.children:
            with self._sql:
                code_block(reply.sql)
                ui.link("Open it in the SQL box", sql_link(self._view.name, reply.sql))

    def _card(self, choice: Choice, asked: Any) -> Card:
        title = f"{choice.title} by {choice.x}" + (f" and {choice.colour}" if choice.colour else "")
        about = (
            f"At most {_MOST[choice.kind]:,} places, and the {_SHADES} largest colours. The menu "
            "shows its SQL, which opens in the SQL box; the address keeps the chart."
        )
        if choice.kind == "table":
            columns = grid_columns(_named(self._view, choice))
            return TableCard(
                self._page, title, [asked], choice, columns, about=about, rows_shown=20
            )
        return ChartCard(self._page, title, [asked], choice, about=about, width=12, height="440px")


def _named(view: View, choice: Choice) -> dict[str, Unit | None]:
    kinds = dict(view.plans.columns)
    found: dict[str, Unit | None] = {
        name: unit_of(view, name) if is_number(kinds[name]) else None
        for name in dict.fromkeys((choice.x, choice.colour))
        if name
    }
    return {**found, choice.name: choice.unit}
