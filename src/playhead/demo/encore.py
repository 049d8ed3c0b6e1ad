"""Live traffic that goes on: sessions of the recording, sent again as if they happened now."""

import itertools
import logging
import math
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from playhead.assemble import Workspace
from playhead.client import Producer, ProducerError
from playhead.demo.running import PlatformBeside

__all__ = ["RATE", "Encore"]

logger = logging.getLogger(__name__)

RATE = 5
"""Events a second, about: they come and go in waves."""

_BEFORE = timedelta(hours=2)
"""As if it had gone on for so long already."""

_SESSIONS = 20_000
_WAVES = ((50.0, 0.3), (17.0, 0.15), (7.0, 0.07))
"""Length in minutes, and height as a share of the rate."""
_TURN_S = 0.25
_CLOSE_S = 5.0
_RECORDED = f"""
SELECT user_id, device_type, movie_id, watch_duration_minutes, progress_percentage, action,
  quality, is_download, location_country
FROM playback
WHERE user_id IS NOT NULL
USING SAMPLE reservoir({_SESSIONS} ROWS) REPEATABLE (1)
"""


class Encore:
    """Sends within the context, from a thread; nothing of it holds up whoever ends it."""

    def __init__(self, workspace: Workspace, platform: PlatformBeside) -> None:
        self._workspace, self._platform = workspace, platform
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-encore", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        rows = self._workspace.session.query(_RECORDED).to_pylist()
        if not rows:
            return
        random.Random(1).shuffle(rows)  # noqa: S311 - traffic, no secret
        sessions = itertools.cycle(rows)
        producer = Producer(self._platform.urls["gateway"], self._platform.key)
        try:
            moments = _moments(datetime.now(UTC) - _BEFORE)
            for at in moments:
                while at > datetime.now(UTC):
                    if self._stop.wait(_TURN_S):
                        return
                if self._stop.is_set():
                    return
                producer.send(_now(next(sessions), at), block=True)
        except ProducerError as error:
            logger.warning("the live traffic ends: %s", error)
        finally:
            with suppress(ProducerError):
                producer.close(1.0)


def _moments(since: datetime) -> Iterator[datetime]:
    """When events happen, from a time on, without an end."""
    at = since
    while True:
        yield at
        minutes = at.timestamp() / 60
        waves = sum(h * math.sin(2 * math.pi * minutes / length) for length, h in _WAVES)
        at += timedelta(seconds=1 / (RATE * (1 + waves)))


def _now(row: dict[str, Any], at: datetime) -> dict[str, Any]:
    """A recorded session as an event of another time."""
    told = {name: value for name, value in row.items() if value is not None}
    ids = {"event_id": uuid4().hex, "event_type": "watch", "session_id": uuid4().hex}
    return told | ids | {"event_time": at, "watch_date": at.date()}
