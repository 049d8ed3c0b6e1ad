"""The page History: how the audience, its loyalty and its taste have changed over months."""

from dataclasses import replace
from datetime import timedelta

from nicegui import ui

from playhead.dashboard.drawing.cards import grid
from playhead.dashboard.filters import Period, earlier
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.pages.history.months import month_name
from playhead.dashboard.pages.history.titles import (
    in_month,
    month_shown,
    titles_cards,
    watch_cards,
    watch_tiles,
)
from playhead.dashboard.pages.history.users import active_cards, user_tiles, users_cards

__all__ = ["SPEC"]

_TWO_MONTHS = timedelta(days=59)


def build(page: Page) -> None:
    """Make its content."""
    _where(page)
    with grid():
        user_tiles(page)
        watch_tiles(page)
    with grid():
        watch_cards(page)
    by_month = not _is_short(page.filters.period)
    with grid():
        active_cards(page, by_month=by_month)
    if by_month:
        with grid():
            users_cards(page)
    with grid():
        titles_cards(page)


SPEC = Spec(
    "/history",
    "History",
    "show_chart",
    build,
    period=Period(),
    periods=(
        ("3mo", "Last 3 months"),
        ("6mo", "Last 6 months"),
        ("12mo", "Last 12 months"),
        ("24mo", "Last 24 months"),
        ("", "All of the time"),
    ),
    dimensions=("country", "plan", "genre", "device", "type"),
    compares=True,
    keeps=("by",),
)


def _is_short(period: Period) -> bool:
    """Whether there is no course of months in a period."""
    since, until = period.since, period.until
    return since is not None and until is not None and until - since < _TWO_MONTHS


def _where(page: Page) -> None:
    """Which month is shown, with ways to others; and what comparing needs."""
    month = month_shown(page.filters.period)
    if month is not None:
        before, after = earlier(month, 1), earlier(month, -1)
        with ui.element("nav").classes("months").props('aria-label="Months"'):
            ui.link("All months", page.address(replace(page.filters, period=Period())))
            ui.link(f"‹ {month_name(before)}", page.address(in_month(page.filters, before)))
            ui.label(month_name(month)).classes("here").props('aria-current="page"')
            ui.link(f"{month_name(after)} ›", page.address(in_month(page.filters, after)))
    if page.filters.compared and page.filters.period.is_open:
        ui.label(
            "There is nothing before all of the time: choose a shorter time to compare with."
        ).classes("banner")
