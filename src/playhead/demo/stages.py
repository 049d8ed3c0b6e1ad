"""What the demo is doing, on stderr: a live list of its stages, or a line for each."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from playhead.demo.running import PlatformBeside
from playhead.demo.traffic import Pulse

__all__ = ["Stage", "Stages", "serving_line"]

_NAME_WIDTH = 9
_BAR_WIDTH = 24


@dataclass
class Stage:
    """One stage: what it does, what came of it, and how long it took."""

    name: str
    detail: str
    started: float
    seconds: float | None = None
    share: float | None = None

    def tell(self, detail: str, share: float | None = None) -> None:
        """Say what is going on, and how much of it is done (0 to 1)."""
        self.detail, self.share = detail, share

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started if self.seconds is None else self.seconds


class Stages:
    """The stages of a demo so far; a context in which they are shown.

    Args:
        pulse: what the live traffic looks like, shown while there is some.
    """

    def __init__(self, console: Console, pulse: Pulse) -> None:
        self._console = console
        self._pulse = pulse
        self.done: list[Stage] = []
        self._running: Stage | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._live = (
            Live(get_renderable=self._show, console=console, refresh_per_second=10, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
            for stage in self.done:
                self._console.print(_line(stage), soft_wrap=True)

    @contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[Stage]:
        """A stage that lasts as long as the context; its last detail says what came of it."""
        stage = self._running = Stage(name, detail, time.monotonic())
        yield stage
        stage.seconds, stage.share = stage.elapsed_s, None
        self.done.append(stage)
        self._running = None
        if not self._live:
            self._console.print(_line(stage), soft_wrap=True)

    def _show(self) -> RenderableType:
        parts: list[RenderableType] = [_line(stage) for stage in list(self.done)]
        if (stage := self._running) is not None:
            parts.append(self._now(stage))
            if self._pulse.total and stage.name == "live":
                parts.append(_traffic(self._pulse))
        return Group(*parts)

    def _now(self, stage: Stage) -> RenderableType:
        row = Table.grid()
        cells: list[RenderableType] = [self._spinner, _name(stage)]
        if stage.share is not None:
            cells += [ProgressBar(total=1.0, completed=stage.share, width=_BAR_WIDTH), "  "]
        row.add_row(*cells, Text(stage.detail))
        return row


def _line(stage: Stage) -> Text:
    return Text.assemble(("✓", "green"), _name(stage), stage.detail)


def _name(stage: Stage) -> Text:
    """A stage's name and time, as wide for every stage."""
    return Text.assemble(
        f" {stage.name:<{_NAME_WIDTH}} ", (f"{stage.elapsed_s:5.1f} s", "cyan"), "  "
    )


def _traffic(pulse: Pulse) -> RenderableType:
    """Events, freshness, windows and alerts of the live traffic."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", width=_NAME_WIDTH + 9, justify="right")
    rows.add_column()
    share = pulse.in_state / pulse.total
    events = Table.grid(padding=(0, 2))
    events.add_row(
        ProgressBar(total=1.0, completed=share, width=_BAR_WIDTH),
        f"{pulse.in_state:,} of {pulse.total:,} in state, {pulse.sent:,} sent",
        Text(f"{pulse.events_per_s:,.0f} events/s", style="bold"),
    )
    rows.add_row("events", events)
    rows.add_row("freshness", freshness_text(pulse))
    until = f", event time {pulse.event_time:%Y-%m-%d %H:%M}" if pulse.event_time else ""
    rows.add_row("windows", f"{pulse.final:,} final, {pulse.windows - pulse.final:,} open{until}")
    rows.add_row("alerts", alerts_text(pulse.alerts))
    return rows


def freshness_text(pulse: Pulse) -> str:
    """How long acknowledged events took into state."""
    if not pulse.freshness_s:
        return "–"
    ordered = sorted(pulse.freshness_s)
    return (
        f"{ordered[len(ordered) // 2]:.2f} s from the answer to state, "
        f"{ordered[-1]:.2f} s at the slowest"
    )


def alerts_text(alerts: dict[str, int]) -> Text:
    """How many alerts of each level."""
    high, medium = alerts.get("HIGH", 0), alerts.get("MEDIUM", 0)
    return Text.assemble((f"{high:,} HIGH", "bold red" if high else ""), f", {medium:,} MEDIUM")


@contextmanager
def serving_line(console: Console, platform: PlatformBeside) -> Iterator[None]:
    """Within the block, one line on a terminal says how the platform is."""
    if not console.is_terminal:
        console.print("serving; Ctrl-C ends it")
        yield
        return
    spinner = Spinner("dots", style="cyan")

    def show() -> RenderableType:
        spinner.text = _serving(platform)
        return spinner

    with Live(get_renderable=show, console=console, refresh_per_second=4, transient=True):
        yield


def _serving(platform: PlatformBeside) -> Text:
    seen = platform.seen
    beats = seen.beats if seen else {}
    line = Text("serving; Ctrl-C ends it")
    if "speed" in beats:
        line.append(f"   {beats['speed'].health}", style="dim")
    for part in seen.record.parts if seen else ():
        if part.state == "restarting":
            line.append(f"   {part.name} is down", style="red")
    return line
