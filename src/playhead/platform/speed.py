"""The part "speed": the speed layer with a heartbeat, and a stop that leaves nothing behind."""

import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from playhead.assemble import Workspace
from playhead.errors import LakeAwayError, LogAwayError, WorkspaceBusyError
from playhead.speed.layer import Step

logger = logging.getLogger(__name__)

RATE_OVER_S = 5.0
LOOK_EVERY_S = 0.5
TAKE_IN_S = 1.5
"""Of the time that a stop may take: for what is in the event log and not yet in state."""

RETRY_S = 1.0


class TellsFigures(Protocol):
    """A heartbeat that takes figures with the words."""

    def __call__(self, health: str, **figures: float) -> None: ...


class _Progress:
    """Tells the heartbeat how the layer is, and ends it once the event log is taken in."""

    def __init__(self, workspace: Workspace, asked: threading.Event, beat: TellsFigures) -> None:
        self._workspace = workspace
        self._asked = asked
        self._beat = beat
        self._recent: deque[tuple[float, int]] = deque()
        self._looked_at = float("-inf")
        self._taken = self._lag = 0
        self._ends: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._told: tuple[str, dict[str, float]] = ("works on the first events", {})
        self.stop = threading.Event()

    def work(self) -> None:
        """Called while a cluster gets on with a trigger, by another thread."""
        health, figures = self._told
        self._beat(health, **figures)

    def step(self, step: Step) -> None:
        """Called after every trigger."""
        now = time.monotonic()
        if step.waiting:
            self._beat(f"waits: {step.waiting}")
            if self._asked.is_set():
                self.stop.set()
            return
        self._taken += step.events
        self._recent.append((now, step.events))
        while now - self._recent[0][0] > RATE_OVER_S:
            self._recent.popleft()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look(now)
            self._tell(step)
        if self._asked.is_set() and not step.events:
            self.stop.set()

    def _look(self, now: float) -> None:
        """Note how many events wait, and where the event log ends."""
        self._lag = self._workspace.lag()
        self._ends.append((now, self._taken + self._lag))
        while len(self._ends) > 1 and self._ends[1][1] <= self._taken:
            self._ends.popleft()

    def _behind_s(self) -> float:
        """Everything that came longer ago than this is in state."""
        return time.monotonic() - self._ends[0][0] if self._lag else 0.0

    def _tell(self, step: Step) -> None:
        rate = sum(events for _, events in self._recent) / RATE_OVER_S
        health = f"{rate:,.0f} events/s, {self._lag:,} wait"
        if step.failing:
            health += f", no alerts of {', '.join(step.failing)}"
        figures = {"events_per_s": rate, "lag": self._lag, "behind_s": self._behind_s()}
        self._told = (health, figures)
        self._beat(health, **figures)

    def end_soon(self) -> None:
        """Wait until a stop is asked for, and see that it comes even if events never end."""
        self._asked.wait()
        time.sleep(TAKE_IN_S)
        self.stop.set()


def run_speed(path: Path, stop: threading.Event, beat: TellsFigures) -> None:
    """Run the speed layer until `stop`; then take in what is in the event log, and seal it.

    While another process has the layer, as `playhead speed` by hand, it waits for its end; and
    for the servers of the event log and of the lake while they are away.
    """
    while not stop.is_set():
        try:
            _run_once(path, stop, beat)
        except (WorkspaceBusyError, LogAwayError, LakeAwayError) as error:
            beat(f"waits: {error.message}")
            stop.wait(RETRY_S)


def _run_once(path: Path, stop: threading.Event, beat: TellsFigures) -> None:
    with Workspace(path) as workspace:
        progress = _Progress(workspace, stop, beat)
        threading.Thread(target=progress.end_soon, name="end soon", daemon=True).start()
        workspace.speed(progress.stop, on_step=progress.step, on_work=progress.work)
