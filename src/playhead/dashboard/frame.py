"""What is around every page: navigation, how fresh the data is, filters, light and dark."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from nicegui import events, ui

from playhead.assemble import Workspace
from playhead.dashboard.filters import ALL, Period
from playhead.dashboard.numbers import duration
from playhead.dashboard.page import Page, Spec
from playhead.dashboard.questions import Look, Reply
from playhead.dashboard.timerange import range_dialog, told
from playhead.errors import PlayheadError
from playhead.platform.control import platform_status

__all__ = ["ALWAYS", "frame"]

THEME = "playhead_theme"
"""The cookie that says "light" or "dark"; without it, the system's choice holds."""

_LABELS = {"country": "Country", "plan": "Plan", "genre": "Genre", "device": "Device",
           "type": "Content type"}  # fmt: skip


def frame(page: Page, specs: Sequence[Spec]) -> None:
    """Make a page: what is around it, and its content."""
    ui.colors(primary="#3b4cca")
    dark = ui.dark_mode(_is_dark(page.cookies))
    with ui.element("header").classes("top"):
        with ui.element("a").props('href="/live" aria-label="Playhead, live"').classes("brand"):
            ui.html(_LOGO, sanitize=False)
            ui.label("Playhead")
        _navigation(page, specs)
        ui.element("span").classes("grow")
        _pulse(page)
        _theme_button(dark)
        if not page.board.login.is_open:
            ui.button(icon="logout", on_click=lambda: ui.run_javascript(_LEAVE)).props(
                'flat round dense aria-label="Log out"'
            )
    with ui.element("div").classes("page") as main:
        with ui.element("div").classes("title-row"):
            with ui.element("h1"):
                ui.label(page.spec.title)
            if page.spec.periods or page.spec.dimensions:
                _Filters(page)
        for problem in page.filters.problems:
            ui.label(f"The address cannot be read in full: {problem}").classes("banner")
        page.body = ui.element("div").classes("content")
    ui.skip_link("Skip to the content", target=main)
    ui.run_javascript(_FOLLOW_BACK)
    page.rebuild()


def _navigation(page: Page, specs: Sequence[Spec]) -> None:
    with ui.element("nav").props('aria-label="Pages"'):
        for spec in specs:
            if spec.in_navigation:
                here = page.path == spec.path or page.path.startswith(f"{spec.path}/")
                link = ui.element("a").props(f'href="{spec.path}"').classes("here" if here else "")
                if here:
                    link.props('aria-current="page"')
                with link:
                    ui.icon(spec.icon).props('aria-hidden="true"')
                    ui.label(spec.title)


# -- how fresh it is -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Pulse:
    """How the platform is, in a word.

    Attributes:
        newest: event time of the newest playback event.
        down: parts of the platform that should work and do not.
    """

    newest: datetime | None
    lag: int
    state: str
    down: tuple[str, ...]


def pulse(workspace: Workspace) -> _Pulse:
    """How fresh the data is, and whether all parts work."""
    status = platform_status(workspace.path.absolute())
    down = tuple(part.name for part in status.parts if part.is_down)
    try:
        newest, lag = workspace.session.newest("playback"), workspace.lag()
    except PlayheadError:
        newest, lag = None, 0
    return _Pulse(newest, lag, status.state, down)


def _pulse(page: Page) -> None:
    with ui.element("div").classes("pulse").props('role="status"') as place:
        dot = ui.element("span").classes("dot")
        text = ui.label("")
    tip = ui.tooltip("")
    tip.move(place)
    banner = ui.label("").classes("banner platform").props('role="alert"')
    banner.set_visibility(False)

    def told(reply: Reply) -> None:
        found: _Pulse | None = reply.value
        if found is None:
            return
        state, words = _health(found)
        dot.classes(replace=f"dot {state}")
        text.set_text(words)
        tip.set_text(_explained(found))
        alarm = _alarm(found)
        banner.set_text(alarm)
        banner.set_visibility(bool(alarm))

    page.watch(_PULSE, told, lasting=True)


_LIVE_S = 60.0
"""Data is live if its newest event is no older than this."""


def _health(found: _Pulse) -> tuple[str, str]:
    """The class of the dot, and the words beside it."""
    if found.down or found.state in ("dead", "none", "stopping"):
        return "bad", "not live"
    if found.newest is None:
        return "idle", "no events yet"
    age = (datetime.now(UTC).replace(tzinfo=None) - found.newest).total_seconds()
    if age < _LIVE_S:
        return "good", "live"
    if found.lag:
        return "busy", f"{found.lag:,} events behind"
    return "idle", f"up to {found.newest:%Y-%m-%d %H:%M} UTC"


def _explained(found: _Pulse) -> str:
    if found.newest is None:
        return "No playback event has come yet."
    age = (datetime.now(UTC).replace(tzinfo=None) - found.newest).total_seconds()
    return (
        f"The newest playback event happened at {found.newest:%Y-%m-%d %H:%M:%S} UTC, "
        f"{duration(max(age, 0))} ago. {found.lag:,} events wait to be counted. "
        "All times on these pages are UTC."
    )


def _alarm(found: _Pulse) -> str:
    if found.state in ("dead", "none"):
        return (
            "The platform does not run: these numbers are exact for the events that were counted, "
            "and stand still. Start it: playhead up."
        )
    if found.down:
        names = ", ".join(found.down)
        return (
            f"{names}: does not work at the moment and is started again. playhead status says why."
        )
    return ""


# -- filters -------------------------------------------------------------------------------


_RANGE = "range"
"""What the choice of times holds for a range that someone is to name."""


class _Filters:
    """The bar of filters; each change goes into the address."""

    def __init__(self, page: Page) -> None:
        self._page = page
        with ui.element("form").classes("filters").props('role="search" aria-label="Filters"'):
            if page.spec.periods:
                self._period()
            for dimension in page.spec.dimensions:
                self._dimension(dimension)
            if page.spec.compares:
                ui.checkbox(
                    "Compare with the time before",
                    value=page.filters.compared,
                    on_change=lambda e: page.change(replace(page.filters, compared=e.value)),
                ).props("dense")

    def _period(self) -> None:
        page = self._page
        options, value = self._times()
        self._time = (
            ui.select(options, value=value, label="Time", on_change=self._time_chosen)
            .props("dense outlined options-dense")
            .classes("filter time")
        )
        page.follow(self._follow)

    def _follow(self) -> None:
        """Say which time is shown, whoever has chosen it."""
        options, value = self._times()
        if (options, value) != (self._time.options, self._time.value):
            self._time.set_options(options, value=value)

    def _times(self) -> tuple[dict[str, str], str]:
        """The times that are offered, and that which is chosen; "" is a range of its own."""
        chosen = self._page.filters.period
        options = {name or ALL: label for name, label in self._page.spec.periods}
        value = chosen.last or (ALL if chosen == Period() else "")
        if value not in options:
            options = {value: told(chosen), **options}
        return {**options, _RANGE: "Custom range…"}, value

    def _time_chosen(self, event: events.ValueChangeEventArguments[Any]) -> None:
        last = event.value
        if last == _RANGE:
            range_dialog(self._page)
            self._follow()
        elif last:
            period = Period() if last == ALL else Period(last)
            self._page.change(replace(self._page.filters, period=period))

    def _dimension(self, dimension: str) -> None:
        page = self._page
        chosen = list(page.filters.values.get(dimension, ()))
        select = (
            ui.select(
                chosen,
                value=chosen,
                label=_LABELS[dimension],
                multiple=True,
                clearable=True,
                on_change=lambda e: page.change(page.filters.wanting(dimension, e.value or ())),
            )
            .props("dense outlined options-dense use-chips use-input input-debounce=0")
            .classes("filter")
        )

        def told(reply: Reply) -> None:
            known = sorted({*reply.value.get(dimension, ()), *(select.value or ())})
            if known != select.options:
                select.set_options(known)

        page.watch(_VALUES, told, lasting=True)


_KNOWN = {
    "country": ("users", "country"),
    "plan": ("users", "subscription_plan"),
    "genre": ("movies", "genre_primary"),
    "type": ("movies", "content_type"),
    "device": ("device_quality", "device_type"),
}
_MOST_VALUES = 300


def known_values(workspace: Workspace) -> dict[str, list[str]]:
    """The values of every dimension, by its name; none of those that cannot be read now."""
    found: dict[str, list[str]] = {}
    for dimension, (relation, column) in _KNOWN.items():
        try:
            table = workspace.session.query(
                f"SELECT DISTINCT {column} AS v FROM {relation} WHERE {column} IS NOT NULL "
                f"ORDER BY v LIMIT {_MOST_VALUES}"
            )
        except PlayheadError:
            continue
        found[dimension] = table.column("v").to_pylist()
    return found


_PULSE, _VALUES = Look(pulse, 1.0), Look(known_values, 60.0)
ALWAYS = (_PULSE, _VALUES)
"""What every page looks at."""


# -- light and dark ------------------------------------------------------------------------


def _is_dark(cookies: Mapping[str, str]) -> bool | None:
    return {"dark": True, "light": False}.get(cookies.get(THEME, ""))


def _theme_button(dark: ui.dark_mode) -> None:
    def turn() -> None:
        to = {None: True, True: False, False: None}[dark.value]
        dark.set_value(to)
        name = {True: "dark", False: "light", None: ""}[to]
        ui.run_javascript(
            f"document.cookie = {json.dumps(THEME + '=' + name)} + "
            "'; path=/; max-age=31536000; SameSite=Lax'"
        )
        button.props(f'icon="{_ICONS[to]}"')
        tip.set_text(_THEMES[to])

    button = ui.button(icon=_ICONS[dark.value], on_click=turn).props(
        'flat round dense aria-label="Light, dark, or as the system"'
    )
    with button:
        tip = ui.tooltip(_THEMES[dark.value])


_FOLLOW_BACK = "addEventListener('popstate', () => { if (!location.hash) location.reload() })"
"""The address says all that a page shows; the skip link changes only what is behind its #."""
_ICONS = {None: "brightness_auto", True: "dark_mode", False: "light_mode"}
_THEMES = {None: "As the system", True: "Dark", False: "Light"}
_LEAVE = "fetch('/logout', {method: 'POST'}).then(() => location.assign('/login'))"
_LOGO = """
<svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true">
<rect x="1.5" y="1.5" width="21" height="21" rx="6" fill="#3b4cca"/>
<path d="M8 6.8v10.4L17 12z" fill="#fff"/><rect x="5" y="6" width="1.6" height="12" fill="#f5a623"/>
</svg>
"""
