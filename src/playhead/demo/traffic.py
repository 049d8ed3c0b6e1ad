"""Live traffic: recorded events go over HTTP to the gateway while the speed layer works."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.assemble import Workspace
from playhead.batch.replay import AtOnce, Replayer, ReplayReport, ReplaySpec, Sending
from playhead.contracts import TOPICS
from playhead.demo.running import PlatformBeside, until
from playhead.demo.sending import GatewayLog
from playhead.engines import connect
from playhead.errors import PlayheadError
from playhead.eventlog import EventLog, next_offset
from playhead.speed.alerts import LEVEL
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.speed.windows import watermark_of, windowed_views
from playhead.views.header import DEFAULT_WATERMARK

__all__ = ["Pulse", "Traffic", "Windows"]

REPLAYED_TOPICS = tuple(name for name, contract in TOPICS.items() if contract.file is not None)
"""What files of the data set hold; other topics come from apps only."""

_LOOK_S = 0.04
_PATIENCE_S = 120.0
_JUDGED_S = 5.0


@dataclass
class Pulse:
    """What is known of the traffic at a moment.

    Attributes:
        sent, total: events that the gateway has answered, and all that will be sent.
        accepted, refused: how it answered.
        in_state: events that the speed layer has committed.
        running_s: seconds from the first event sent until the last event was in state.
        freshness_s: for every stretch of events, seconds from the answer until all were in state.
        event_time: of the last event sent.
        duplicates, late: events so found by the speed layer.
        windows, final: windows of the alerting view that got events, and how many of them the
            watermark has passed.
        alerts: raised so far, by level.
    """

    total: int = 0
    sent: int = 0
    accepted: int = 0
    refused: int = 0
    in_state: int = 0
    running_s: float = 0.0
    freshness_s: list[float] = field(default_factory=list)
    event_time: datetime | None = None
    duplicates: int = 0
    late: int = 0
    windows: int = 0
    final: int = 0
    alerts: dict[str, int] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        """From the gateway's door into state."""
        return self.in_state / self.running_s if self.running_s else 0.0


class Traffic:
    """Sends what a folder holds from a day on to the gateway, and watches how far the state is.

    Args:
        platform: takes the events in.
        pulse: kept up to date from a thread of its own.
    """

    def __init__(self, workspace: Workspace, platform: PlatformBeside, pulse: Pulse) -> None:
        self._workspace = workspace
        self._platform = platform
        self._pulse = pulse
        self._tell: Callable[[str], None] = lambda _: None
        self._started = 0.0
        self._waiting: deque[tuple[float, dict[str, dict[int, int]]]] = deque()
        self._windows = [
            Windows(view.leaves[0].topic, view.window.fixed // timedelta.resolution)
            for view in workspace.views.values()
            if LEVEL in view.columns and view.window is not None and view.window.fixed is not None
        ]

    def run(
        self, folder: Path, since: date, *, block_events: int, tell: Callable[[str], None]
    ) -> ReplayReport:
        """Send everything, and wait until all of it is in state.

        Raises:
            PlayheadError: the platform ended early, or takes in nothing any more.
        """
        self._tell = tell
        platform = self._platform
        spec = ReplaySpec(
            pace=AtOnce(), since=since, block_events=block_events, ignore_unknown=True
        )
        platform.begin()
        tell("waiting for the speed layer")
        self._wait(lambda: ALERTS in self._workspace.log.topics(), "does not start")
        url, key = platform.urls["gateway"], platform.key
        with (
            _Watcher(self._workspace.path, self._look),
            GatewayLog(url, key, platform.check, patience_s=_PATIENCE_S) as gateway,
            connect() as connection,
        ):
            tell("reading what is left of the files")
            scratch = self._workspace.path / "tmp"
            lake, clock = self._workspace.lake, self._workspace.clock
            replayer = Replayer(lake, gateway, connection, clock, scratch=scratch)
            report = replayer.replay(folder, spec, progress=partial(self._note, gateway))
            self._pulse.refused = gateway.refused.total()
            self._pulse.accepted = gateway.accepted
            self._wait(lambda: self._pulse.in_state >= gateway.accepted, "takes in no more events")
        return report

    def settle(self) -> None:
        """Wait until the windows that the watermark has passed are judged.

        Those of a view that has no answer, or whose arithmetic fails, wait, and are let be.
        """
        until(lambda: not self._due(), self._due, _JUDGED_S)
        self._look(self._workspace)

    def _due(self) -> int:
        """How many windows have ended and are not judged yet."""
        state, found = self._workspace.state, 0
        newest = {name: seen.max_event_time for name, seen in state.progress().items()}
        for windowed in windowed_views(list(self._workspace.views.values())):
            at = newest.get(windowed.leaf.topic)
            if LEVEL in windowed.view.columns and at is not None:
                before = windowed.final_before(watermark_of(at, windowed.view.watermark))
                rows = state.windows(windowed.view.name)
                found += sum(start < before and status != "final" for start, status, _, _ in rows)
        return found

    def _note(self, gateway: GatewayLog, at: object) -> None:
        """Wait for the answers, and remember where each partition ends then, and when that was."""
        if not isinstance(at, Sending):
            return
        gateway.spoil()
        gateway.settle()
        now = time.monotonic()
        self._started = gateway.started
        ends = {topic: self._workspace.log.end_offsets(topic) for topic in at.topics}
        self._waiting.append((now, ends))
        self._tell("sending as fast as it goes")
        self._pulse.sent, self._pulse.total = at.sent, at.total
        self._pulse.event_time = at.event_time

    def _wait(self, done: Callable[[], bool], otherwise: str) -> None:
        def is_done() -> bool:
            self._platform.check()
            return done()

        if not until(is_done, lambda: self._pulse.in_state, _PATIENCE_S):
            raise PlayheadError(f"the speed layer {otherwise}", hint=self._platform.trouble())

    def _look(self, workspace: Workspace) -> None:
        """Bring the pulse up to date from the state, read from the thread's own stores."""
        state, pulse = workspace.state, self._pulse
        reached = {topic: state.position(topic).next for topic in REPLAYED_TOPICS}
        now = time.monotonic()
        while self._waiting and _is_reached(self._waiting[0][1], reached):
            acknowledged, _ = self._waiting.popleft()
            pulse.freshness_s.append(now - acknowledged)
        in_state = sum(sum(offsets.values()) for offsets in reached.values())
        if in_state > pulse.in_state:
            pulse.running_s, pulse.in_state = now - (self._started or now), in_state
        progress = state.progress().values()
        pulse.duplicates = sum(seen.duplicates for seen in progress)
        pulse.late = sum(seen.late for seen in progress)
        for windows in self._windows:
            windows.take_in(workspace.log, reached.get(windows.topic, {}))
        pulse.windows = sum(len(windows.starts) for windows in self._windows)
        pulse.final = sum(windows.final for windows in self._windows)
        pulse.alerts = dict(Counter(alert.level for alert in state.alerts()))


class Windows:
    """The windows that the events in state fall into.

    Attributes:
        starts: of the windows, microseconds since 1970 UTC, shape (n,), ascending.
    """

    def __init__(self, topic: str, width_us: int) -> None:
        self.topic = topic
        self.starts: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._width_us = width_us
        self._newest_us = 0
        self._next: dict[int, int] = {}

    def take_in(self, log: EventLog, reached: Mapping[int, int]) -> None:
        """Read the times of the events up to the offsets reached."""
        for partition, end in reached.items():
            offset = self._next.get(partition, 0)
            while offset < end:
                events = log.read(
                    self.topic,
                    partition,
                    offset,
                    max_events=min(end - offset, 65_536),
                    columns=["event_time"],
                )
                times = events.column(0).combine_chunks().view(pa.int64()).to_numpy()
                self._newest_us = int(times.max(initial=self._newest_us))
                self.starts = np.union1d(self.starts, times // self._width_us * self._width_us)
                offset = next_offset(events, offset)
            self._next[partition] = offset

    @property
    def final(self) -> int:
        """How many have ended by the watermark."""
        watermark_us = self._newest_us - DEFAULT_WATERMARK // timedelta.resolution
        return int(np.searchsorted(self.starts + self._width_us, watermark_us, side="right"))


class _Watcher(threading.Thread):
    """Looks at a workspace again and again, with stores of its own."""

    def __init__(self, path: Path, look: Callable[[Workspace], None]) -> None:
        super().__init__(name="demo-watch", daemon=True)
        self._path = path
        self._look = look
        self._ended = threading.Event()

    def run(self) -> None:
        with Workspace(self._path) as workspace:
            while not self._ended.wait(_LOOK_S):
                self._look(workspace)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def _is_reached(ends: dict[str, dict[int, int]], reached: dict[str, dict[int, int]]) -> bool:
    return all(
        reached.get(topic, {}).get(partition, 0) >= end
        for topic, offsets in ends.items()
        for partition, end in offsets.items()
    )
