"""A stretch of time that someone names: from one time to another, UTC."""

from dataclasses import replace
from datetime import datetime, timedelta

from nicegui import ui

from playhead.dashboard.drawing.dialogs import dialog
from playhead.dashboard.filters import Period
from playhead.dashboard.page import Page

__all__ = ["named", "range_dialog", "told"]

_DAY = timedelta(days=1)


def told(period: Period) -> str:
    """A period that is none of those offered, in words; whole days without the time of day."""
    if period.last is not None:
        return f"Last {period.last}"
    since, until = period.since, period.until
    if all(time is None or time == _midnight(time) for time in (since, until)):
        first = "…" if since is None else f"{since:%Y-%m-%d}"
        last = "now" if until is None else f"{until - _DAY:%Y-%m-%d}"
        return first if first == last else f"{first} to {last}"
    first = "…" if since is None else f"{since:%Y-%m-%d %H:%M}"
    return f"{first} to {'now' if until is None else format(until, '%Y-%m-%d %H:%M')}"


def named(since: str, until: str) -> Period:
    """A period as two inputs of the browser name it; an empty one leaves that side open.

    Raises:
        ValueError: one is no time, or the second is not after the first; the text is for people.
    """
    times = []
    for name, text in (("From", since), ("To", until)):
        try:
            times.append(datetime.fromisoformat(text) if text else None)
        except ValueError:
            raise ValueError(f"{name}: {text[:40]} is no date and time.") from None
    first, last = times
    if first is not None and last is not None and last <= first:
        raise ValueError("The end is not after the start.")
    return Period(None, first, last)


def range_dialog(page: Page) -> None:
    """Ask for a stretch of time, and show the page for it."""
    period = page.filters.period
    with page.overlay, dialog("Custom range") as shown:
        ui.label("Times are UTC. Leave one empty for no bound on that side.").classes("small")
        with ui.element("form").classes("range") as form:
            since, until = (_input("From", period.since), _input("To, not included", period.until))
            problem = ui.label("").classes("problem").props('role="alert"')
            with ui.element("div").classes("range-acts"):
                ui.button("Cancel", on_click=shown.close).props("flat no-caps")
                ui.button("Show").props('type="submit" unelevated no-caps')

    def show() -> None:
        try:
            wanted = named(since.value or "", until.value or "")
        except ValueError as error:
            problem.set_text(str(error))
            return
        shown.close()
        page.change(replace(page.filters, period=wanted))

    form.on("submit.prevent", show)
    shown.on("hide", shown.delete)
    shown.open()


def _input(label: str, time: datetime | None) -> ui.input:
    text = "" if time is None else time.isoformat(timespec="minutes")
    return ui.input(label, value=text).props('type="datetime-local" stack-label outlined dense')


def _midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)
