"""Live traffic: recorded events go into the event log while a speed layer runs beside it."""

import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.assemble import Workspace
from playhead.batch.replay import AtOnce, ReplayReport, ReplaySpec, Sending
from playhead.contracts import TOPICS
from playhead.errors import PlayheadError
from playhead.eventlog import EventLog
from playhead.speed.alerts import LEVEL
from playhead.speed.alerts import TOPIC as ALERTS
from playhead.views.header import DEFAULT_WATERMARK

__all__ = ["Pulse", "SpeedProcess", "Traffic", "Windows"]

_LOOK_S = 0.04
_PATIENCE_S = 120.0


@dataclass
class Pulse:
    """What is known of the traffic at a moment.

    Attributes:
        sent, total: events in the event log, and those to come there.
        in_state: events that the speed layer has committed.
        appending_s: seconds from the first append to the last.
        running_s: seconds from the first append until the last event was in state.
        freshness_s: for every append, seconds until all its events were in state.
        event_time: of the last event sent.
        duplicates, late: events so found by the speed layer.
        windows, final: windows of the alerting view that got events, and how many of them the
            watermark has passed.
        alerts: raised so far, by level.
    """

    total: int = 0
    sent: int = 0
    in_state: int = 0
    appending_s: float = 0.0
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
        """From the event log's door into state."""
        return self.in_state / self.running_s if self.running_s else 0.0


class SpeedProcess:
    """The speed layer as a process of its own; leaving the context ends it in order."""

    def __init__(self, workspace: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # -P: what lies in the working directory is no module of ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "playhead.demo.speed_layer", str(workspace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._end()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def start(self) -> None:
        """Begin to take in events; until then the process only gets itself ready."""
        with suppress(BrokenPipeError):
            self._input.write(b"start\n")
            self._input.flush()

    def check(self) -> None:
        """Raise what the process said at its end, if it has ended."""
        if self._process.poll() is not None:
            self._fail("ended before it was told to")

    def stop(self) -> None:
        """Let it finish what it has read, judge its windows, seal, and end.

        Raises:
            PlayheadError: it failed, or takes too long.
        """
        try:
            status = self._end()
        except subprocess.TimeoutExpired:
            raise PlayheadError(
                f"the speed layer does not end (process {self._process.pid})",
                hint="Nothing is lost: end it by force, and run `playhead speed --drain`.",
            ) from None
        if status:
            self._fail("failed")

    def _end(self) -> int:
        with suppress(BrokenPipeError):
            self._input.close()
        return self._process.wait(_PATIENCE_S)

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        return self._process.stdin

    def _fail(self, what: str) -> NoReturn:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()[-2_000:]
        status = self._process.returncode
        raise PlayheadError(f"the speed layer {what} (status {status})", hint=said or None)


class Traffic:
    """Replays what a folder holds from a day on, and watches how far behind the state is.

    Args:
        pulse: kept up to date from a thread of its own.
    """

    def __init__(self, workspace: Workspace, speed: SpeedProcess, pulse: Pulse) -> None:
        self._workspace = workspace
        self._speed = speed
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
        """Send everything, wait until all of it is in state, and end the speed layer.

        Raises:
            PlayheadError: the speed layer ended early, or takes in nothing any more.
        """
        self._tell = tell
        spec = ReplaySpec(
            pace=AtOnce(), since=since, block_events=block_events, ignore_unknown=True
        )
        self._speed.start()
        self._wait(lambda: ALERTS in self._workspace.log.topics(), "does not start")
        with _Watcher(self._workspace.path, self._look):
            tell("reading what is left of the files")
            report = self._workspace.replay(folder, spec, progress=self._note)
            self._wait(lambda: self._pulse.in_state >= report.sent, "takes in no more events")
            tell("ending the speed layer: last windows, sealing")
            self._speed.stop()
        self._look(self._workspace)
        return report

    def _note(self, at: object) -> None:
        """Remember where each partition ends after an append, and when that was."""
        if not isinstance(at, Sending):
            return
        now = time.monotonic()
        self._started = self._started or now
        ends = {topic: self._workspace.log.end_offsets(topic) for topic in at.topics}
        self._waiting.append((now, ends))
        self._tell("replaying as fast as it goes")
        self._pulse.sent, self._pulse.total = at.sent, at.total
        self._pulse.event_time = at.event_time
        self._pulse.appending_s = now - self._started

    def _wait(self, done: Callable[[], bool], otherwise: str) -> None:
        since, last = time.monotonic(), -1
        while not done():
            self._speed.check()
            if self._pulse.in_state != last:
                since, last = time.monotonic(), self._pulse.in_state
            if time.monotonic() - since > _PATIENCE_S:
                raise PlayheadError(f"the speed layer {otherwise}", hint="See `playhead speed`.")
            time.sleep(_LOOK_S)

    def _look(self, workspace: Workspace) -> None:
        """Bring the pulse up to date from the state, read from the thread's own stores."""
        state, pulse = workspace.state, self._pulse
        reached = {topic: state.position(topic).next for topic in TOPICS}
        now = time.monotonic()
        while self._waiting and _is_reached(self._waiting[0][1], reached):
            appended, _ = self._waiting.popleft()
            pulse.freshness_s.append(now - appended)
        in_state = sum(sum(offsets.values()) for offsets in reached.values())
        if in_state > pulse.in_state:
            pulse.running_s, pulse.in_state = now - self._started, in_state
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
                self._newest_us = max(self._newest_us, int(times.max()))
                self.starts = np.union1d(self.starts, times // self._width_us * self._width_us)
                offset += len(times)
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
