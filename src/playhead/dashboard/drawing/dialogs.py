"""What one click on a card opens: the rows behind it, the SQL that made it, files of both."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import pyarrow as pa
from nicegui import ui

from playhead.dashboard.drawing.codeblock import code_block
from playhead.dashboard.drawing.tables import ROWS_SHOWN, columns_of, data_table, table_rows
from playhead.dashboard.drawing.texts import attribute, message, slug
from playhead.dashboard.numbers import duration
from playhead.dashboard.questions import Problem, Question, Reply
from playhead.serving.rowtext import csv_text

__all__ = ["dialog", "download", "relation_box", "rows_box", "sql_box", "sql_link"]

_MOST_CSV_BYTES = 64 << 20


@contextmanager
def dialog(title: str, *, wide: bool = False) -> Iterator[ui.dialog]:
    """A dialog with a title; the block fills it."""
    shown = ui.dialog().props(f'aria-label="{attribute(title)}"')
    with shown, ui.card().classes("dialog wide" if wide else "dialog"):
        with ui.element("div").classes("dialog-head"):
            ui.label(title).classes("dialog-title")
            ui.button(icon="close", on_click=shown.close).props(
                'flat round dense aria-label="Close"'
            )
        yield shown


def sql_link(view: str, sql: str) -> str:
    """Where a SELECT stands in the SQL box of a view's page."""
    return f"/views/{view}?{urlencode({'sql': sql})}"


def sql_box(question: Question, reply: Reply) -> None:
    """The SELECT of a question, and where it leads to."""
    ui.label(
        f"Asked of the view {question.view}, answered in {duration(reply.took_s)} at "
        f"{reply.made_at:%H:%M:%S} UTC."
    ).classes("small")
    code_block(reply.sql)
    with ui.element("div").classes("links"):
        ui.link("Open it in the SQL box", sql_link(question.view, reply.sql))
        ui.link(f"The view {question.view} and its own SQL", f"/views/{question.view}")


def relation_box(sql: str) -> None:
    """A SELECT over a relation that is no view."""
    ui.label("Anyone may ask this, of the API or of the command line: playhead query SQL.").classes(
        "small"
    )
    code_block(sql)


def rows_box(question: Question, found: pa.Table | Problem, title: str, most: int) -> None:
    """Rows of a view.

    Args:
        most: rows that were asked for at most.
    """
    if isinstance(found, Problem):
        message(found.kind, found.text, found.hint)
        return
    count = f"{found.num_rows:,}{' or more' if found.num_rows == most else ''}"
    shown = f"; the first {ROWS_SHOWN} are shown" if found.num_rows > ROWS_SHOWN else ""
    with ui.element("div").classes("links"):
        ui.label(f"{count} rows of the view {question.view}{shown}.").classes("small")
        ui.button(
            "Save as CSV", icon="download", on_click=lambda: download(found, f"{title} rows")
        ).props("flat dense no-caps")
    data_table(table_rows(found), columns_of(found), 12)


def download(table: pa.Table, title: str) -> None:
    """Give the browser a table as a CSV file."""
    if table.nbytes > _MOST_CSV_BYTES:
        ui.notify("That is too much for a page: ask the API for CSV.", type="warning")
        return
    text = b"".join(bytes(piece) for piece in csv_text(table))
    ui.download.content(text, f"{slug(title)}.csv", "text/csv")
