"""The part "states": live states of a speed layer that runs elsewhere, brought to this machine."""

import logging
import threading
import time
from pathlib import Path

from playhead.assemble import Workspace
from playhead.errors import LakeError, WorkspaceBusyError
from playhead.platform.speed import RETRY_S, TellsFigures
from playhead.speed.replica import Look

logger = logging.getLogger(__name__)


class _Distance:
    """Tells the heartbeat how far behind the machine is."""

    def __init__(self, beat: TellsFigures) -> None:
        self._beat = beat
        self._even_at = time.monotonic()

    def look(self, look: Look) -> None:
        """Called after every look at the journal."""
        now = time.monotonic()
        if not (look.behind or look.waiting):
            self._even_at = now
        behind_s = now - self._even_at
        if look.waiting:
            self._beat(f"waits for {behind_s:,.0f} s: {look.waiting}", behind_s=behind_s)
        else:
            health = f"{look.behind:,} operations behind"
            self._beat(health, behind=look.behind, behind_s=behind_s)


def run_states(path: Path, stop: threading.Event, beat: TellsFigures) -> None:
    """Follow the live states in the lake until `stop`, also while the lake is away.

    While a speed layer has this workspace, it waits for its end.
    """
    while not stop.is_set():
        try:
            with Workspace(path) as workspace:
                workspace.follow_states(stop, _Distance(beat).look)
        except (WorkspaceBusyError, LakeError) as error:
            beat(f"waits: {error.message}")
            stop.wait(RETRY_S)
