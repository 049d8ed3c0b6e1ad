"""The status lines of the speed layer and of the platform, on stderr."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.text import Text

from playhead.cli.terminal import PLAIN_EVERY_S, note, stderr

if TYPE_CHECKING:
    from playhead.assemble import Workspace
    from playhead.platform.supervisor import Seen
    from playhead.speed.layer import Step

ROUTINE, LOGGED_HEAD = " INFO ", 64
"""A line of the log file says within its first characters how much it matters."""

RATE_OVER_S = 5.0
LOOK_EVERY_S = 0.5


class SpeedStatus:
    """Shows events a second, lag and watermark while the speed layer runs, and a sum at its end.

    On a terminal it is one line that changes; elsewhere a line now and then.
    """

    def __init__(self, workspace: "Workspace", clock: Callable[[], float] = time.monotonic) -> None:
        self._workspace = workspace
        self._clock = clock
        self._started = self._told_at = clock()
        self._looked_at = float("-inf")
        self._recent: deque[tuple[float, int]] = deque()
        self._events = self._duplicates = self._late = 0
        self._lag = 0
        self._watermark: datetime | None = None
        self._failing: tuple[str, ...] = ()
        self._live = (
            Live(
                get_renderable=self._line,
                console=stderr,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
            )
            if stderr.is_terminal
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
        if kind is None:
            note(
                f"{self._events:,} events taken in, {self._duplicates:,} of them duplicates and "
                f"{self._late:,} late"
            )

    def step(self, step: "Step") -> None:
        """Count what a trigger of the layer did."""
        now = self._clock()
        self._recent.append((now, step.events))
        self._events += step.events
        self._duplicates += step.duplicates
        self._late += step.late
        self._failing = step.failing
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._lag = self._workspace.lag()
            self._watermark = self._watermark_now()
        if self._live is None and now - self._told_at >= PLAIN_EVERY_S:
            self._told_at = now
            note(self._line().plain)

    def _watermark_now(self) -> datetime | None:
        """The watermark of views that name none of their own: below it, windows are final."""
        seen = (p.max_event_time for p in self._workspace.state.progress().values())
        from playhead.views.header import DEFAULT_WATERMARK

        newest = max((time for time in seen if time is not None), default=None)
        return newest - DEFAULT_WATERMARK if newest else None

    def _rate(self) -> float:
        """Events a second over the last seconds."""
        now = self._clock()
        while self._recent and now - self._recent[0][0] > RATE_OVER_S:
            self._recent.popleft()
        over = min(RATE_OVER_S, max(now - self._started, 0.001))
        return sum(events for _, events in list(self._recent)) / over

    def _line(self) -> Text:
        watermark = f"{self._watermark:%Y-%m-%d %H:%M:%S}" if self._watermark else "none yet"
        line = Text(
            f"{self._rate():,.0f} events/s   lag {self._lag:,} events   watermark {watermark}   "
            f"{self._events:,} events"
        )
        if self._failing:
            line.append(f"   no alerts of {', '.join(self._failing)}", style="yellow")
        return line


class PlatformLine:
    """Shows how the platform is while it runs, and what its parts say that is no routine.

    On a terminal it is one line that changes; elsewhere a line once a minute.
    """

    EVERY_S = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at = clock()
        self._state = ""
        self._seen: Seen | None = None
        self._live = (
            Live(get_renderable=self._line, console=stderr, refresh_per_second=4, transient=True)
            if stderr.is_terminal
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

    def look(self, seen: "Seen") -> None:
        """Show the platform as the supervisor sees it; whoever closes stderr sees nothing."""
        self._seen = seen
        with suppress(OSError):
            for line in seen.news:
                if ROUTINE not in line[:LOGGED_HEAD]:
                    note(line)
            if seen.record.state != self._state:
                self._state = seen.record.state
                self._tell_state(seen)
            elif self._live is None and self._clock() - self._told_at >= self.EVERY_S:
                self._told_at = self._clock()
                note(self._line().plain)

    def _tell_state(self, seen: "Seen") -> None:
        if self._state == "ready":
            for name, url in seen.record.urls.items():
                note(f"{name}: {url}")
            note("ready; Ctrl-C, or playhead down, stops it")

    def _line(self) -> Text:
        if self._seen is None:
            return Text("starting")
        parts = self._seen.record.parts
        figures: dict[str, float] = {}
        for beat in self._seen.beats.values():
            figures |= beat.figures
        told = [self._seen.record.state]
        if "lag" in figures:
            told += [
                f"{figures['events_per_s']:,.0f} events/s",
                f"lag {figures['lag']:,.0f} events",
                f"{figures['behind_s']:.1f} s behind",
            ]
        line = Text("   ".join([*told, f"{sum(part.restarts for part in parts)} restarts"]))
        for part in parts:
            if part.state == "restarting":
                line.append(f"   {part.name} is down", style="red")
        return line
