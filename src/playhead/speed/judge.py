"""Judging: windows that the watermark has passed become final, and raise their alerts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from playhead.clock import Clock
from playhead.errors import CoverageError, EngineError, QueryError
from playhead.speed.alerts import Alerter
from playhead.speed.state import StateStore
from playhead.speed.windows import WindowedView

logger = logging.getLogger(__name__)

_JUDGED_AT_ONCE = 20_000
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class Due:
    """Windows of a view that start before an instant have ended."""

    windowed: WindowedView
    before: datetime


@dataclass(frozen=True)
class Failure:
    """A view whose windows cannot be judged, because its arithmetic fails on their events.

    Attributes:
        times: how often in a row it was tried.
        retry_at_s: when it is tried again, on the monotonic clock.
    """

    view: str
    message: str
    times: int
    retry_at_s: float


class WindowJudge:
    """Judges the windows of each view, whatever the others do. For one thread at a time."""

    def __init__(self, state: StateStore, alerter: Alerter, clock: Clock) -> None:
        self._state = state
        self._alerter = alerter
        self._clock = clock
        self._due: Sequence[Due] = ()
        self._failing: dict[str, Failure] = {}
        self._waiting: dict[str, str] = {}

    @property
    def failing(self) -> tuple[Failure, ...]:
        """The views whose windows cannot be judged now; any thread may ask."""
        return tuple(self._failing.values())

    def expect(self, due: Sequence[Due]) -> None:
        """What `judge` is to work on from now on; any thread may say so."""
        self._due = due

    def judge(self) -> int:
        """Make windows that have ended final and raise their alerts; how many were raised.

        Windows of a view that has no exact answer now wait until it has; those of a view that
        fails are tried again after a pause, which grows to a minute.
        """
        due = self._due
        present = {one.windowed.view.name for one in due}
        for name in set(self._failing) - present:
            del self._failing[name]
        return sum(self._try(one) for one in due)

    def _try(self, due: Due) -> int:
        name = due.windowed.view.name
        failed = self._failing.get(name)
        if failed is not None and self._clock.monotonic() < failed.retry_at_s:
            return 0
        try:
            raised = self._finish(due)
        except CoverageError as error:
            if self._waiting.get(name) != error.message:
                logger.warning("alerts of %s wait: %s", name, error.message)
            self._waiting[name] = error.message
            return 0
        except (QueryError, EngineError) as error:
            self._note(name, error.message, failed)
            return 0
        self._waiting.pop(name, None)
        if self._failing.pop(name, None) is not None:
            logger.info("windows of %s are judged again", name)
        return raised

    def _note(self, name: str, message: str, before: Failure | None) -> None:
        if before is None or before.message != message:
            logger.warning("windows of %s cannot be judged and wait: %s", name, message)
        times = 1 if before is None else before.times + 1
        pause_s = min(2.0 ** (times - 1), _LONGEST_PAUSE_S)
        retry_at_s = self._clock.monotonic() + pause_s
        self._failing[name] = Failure(name, message, times, retry_at_s)

    def _finish(self, due: Due) -> int:
        raised = 0
        while True:
            ended = self._state.finish_windows(
                due.windowed.view.name, due.before, limit=_JUDGED_AT_ONCE
            )
            if ended:
                raised += self._alerter.finish(due.windowed, ended, self._clock.now())
            # A window that got events meanwhile is still there: it waits for the next time.
            if len(ended) < _JUDGED_AT_ONCE:
                return raised
