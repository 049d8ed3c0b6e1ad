"""Small tables whose cells say how something is: in words, by an icon and by a colour; and bars."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal, Unpack

import pyarrow as pa
from nicegui import ui

from playhead.dashboard.drawing.cards import Card, More
from playhead.dashboard.drawing.dialogs import download
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.numbers import shown
from playhead.dashboard.questions import Asked, Reply

if TYPE_CHECKING:
    from playhead.dashboard.page import Page

__all__ = ["ICONS", "Cell", "Mark", "MarkedCard", "MarkedTable", "Strip", "Tone"]

Tone = Literal["good", "busy", "bad", "idle", ""]

ICONS: Mapping[Tone, str] = {"good": "✓", "busy": "…", "bad": "✗", "idle": "–", "": ""}
"""What stands before a word, for whoever does not see its colour."""


@dataclass(frozen=True)
class Mark:
    """A text, how good that is, and what it means.

    Attributes:
        about: shown where the pointer or the keyboard rests on it.
        small: below it, in small print.
        link: where it leads to.
        said: the same as the icon, for whoever hears it.
    """

    text: str
    tone: Tone = ""
    about: str = ""
    small: str = ""
    link: str = ""
    said: str = ""

    @property
    def html(self) -> str:
        text = escape(self.text)
        if self.link:
            text = f'<a href="{escape(self.link)}">{text}</a>'
        about = f' tabindex="0" title="{escape(self.about)}"' if self.about else ""
        icon = f'<span aria-hidden="true">{ICONS[self.tone]}</span>' if self.tone else ""
        said = f' <span class="unseen">{escape(self.said)}</span>' if self.said else ""
        small = f'<span class="small">{escape(self.small)}</span>' if self.small else ""
        kind = f"mark {self.tone}" + (" hinted" if self.about else "")
        return f'<span class="{kind}"{about}>{icon}{text}{said}</span>{small}'


@dataclass(frozen=True)
class Strip:
    """A bar of parts side by side, with what each is below it.

    Attributes:
        parts: the class of each (see the style sheet), how much it is, and what, in words.
    """

    parts: tuple[tuple[str, float, str], ...]

    @property
    def text(self) -> str:
        return ", ".join(words for _, _, words in self.parts)

    @property
    def html(self) -> str:
        whole = sum(amount for _, amount, _ in self.parts) or 1.0
        bar = "".join(
            f'<span class="{escape(kind)}" style="flex-grow:{amount / whole:.4f}"></span>'
            for kind, amount, _ in self.parts
            if amount
        )
        words = "".join(
            f'<span><i class="{escape(kind)}" aria-hidden="true"></i>{escape(words)}</span>'
            for kind, _, words in self.parts
        )
        return (
            f'<span class="strip" aria-hidden="true">{bar}</span>'
            f'<span class="small keys">{words}</span>'
        )


Cell = Mark | Strip | str | int | float | None


@dataclass(frozen=True)
class MarkedTable:
    """A table as `MarkedCard` shows it.

    Attributes:
        lead: a sentence above it.
    """

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    lead: str = ""

    @property
    def html(self) -> str:
        """As HTML in which all that comes from data is text."""
        head = "".join(_heading(column) for column in self.columns)
        body = "".join(f"<tr>{self._row(row)}</tr>" for row in self.rows)
        lead = f'<p class="lead">{escape(self.lead)}</p>' if self.lead else ""
        return f"{lead}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def table(self) -> pa.Table:
        """The same for a file."""
        rows = [{c.name: _plain(row.get(c.name)) for c in self.columns} for row in self.rows]
        return pa.Table.from_pylist(rows)

    def _row(self, row: Mapping[str, Cell]) -> str:
        cells = []
        for place, column in enumerate(self.columns):
            value = row.get(column.name)
            tag = 'th scope="row"' if place == 0 else "td"
            kind = ' class="number"' if column.unit is not None else ""
            kind = ' class="whole"' if column.is_whole else kind
            cells.append(f"<{tag}{kind}>{_html(value, column)}</{tag[:2]}>")
        return "".join(cells)


class MarkedCard(Card):
    """A table of marks, made by a function of the replies; without rows there is nothing to show.

    Args:
        draw: makes a `MarkedTable`.
    """

    def __init__(
        self,
        page: "Page",
        title: str,
        asked: Sequence[Asked],
        draw: Callable[[Sequence[Reply]], MarkedTable],
        *,
        about: str = "",
        width: int = 12,
        **more: Unpack[More],
    ) -> None:
        self._drawing = draw
        self._shown: ui.html | None = None
        super().__init__(page, title, asked, about=about, width=width, **more)

    def _drawn(self, replies: Sequence[Reply]) -> MarkedTable:
        made: MarkedTable = self._page.board.drawn(self._drawing, replies)
        return made

    def _is_empty(self, replies: Sequence[Reply]) -> bool:
        return not self._drawn(replies).rows

    def _make(self, replies: Sequence[Reply]) -> None:
        # Every text in it was escaped.
        self._shown = ui.html(self._drawn(replies).html, sanitize=False).classes("marked")

    def _draw(self, replies: Sequence[Reply]) -> None:
        html = self._drawn(replies).html
        if self._shown is not None and html != self._shown.content:
            self._shown.set_content(html)

    def _acts(self) -> list[tuple[str, str, Callable[[], Any]]]:
        return [*super()._acts(), ("Save as CSV", "download", self._save)]

    def _save(self) -> None:
        if self._state == "drawn":
            replies = [self._replies[each] for each in self._asked]
            download(self._drawn(replies).table, self._title)


def _heading(column: Column) -> str:
    kind = ' class="number"' if column.unit is not None else ""
    text = escape(column.label or column.name)
    if column.about:
        text = f'<span class="hinted" tabindex="0" title="{escape(column.about)}">{text}</span>'
    return f'<th scope="col"{kind}>{text}</th>'


def _html(value: Cell, column: Column) -> str:
    if isinstance(value, (Mark, Strip)):
        return value.html
    if value is None:
        return "–"
    if column.unit is not None and not isinstance(value, str):
        return escape(shown(value, column.unit.name))
    return escape(str(value))


def _plain(value: Cell) -> str | int | float | None:
    if isinstance(value, Mark) and value.small:
        return f"{value.text}: {value.small}"
    return value.text if isinstance(value, (Mark, Strip)) else value
