"""The part "batch": runs the batch layer on a schedule, and soon after raw data was loaded.

The batch layer's libraries are imported where they are first needed: they take a second of a core,
which at the start the parts that take events in have a better use for.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from playhead.config import read_settings
from playhead.errors import LakeAwayError, LogAwayError, PlayheadError, WorkspaceBusyError
from playhead.lock import RoleLock
from playhead.platform.records import RunFolder, read_record, write_record

if TYPE_CHECKING:
    from playhead.assemble import Workspace

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int], ...]

NICENESS = 10
LOOK_S = 1.0
LOADS_EVERY_S = 5.0
STOP_S = 1.0
RETRY = timedelta(minutes=1)
LOAD = "playhead.load"
"""Property of a raw table: its last load."""


@dataclass(frozen=True)
class LastRun:
    """The last run that came to its end.

    Attributes:
        started: UTC.
        loads: by topic, the last load that was in the lake when it started.
    """

    started: datetime
    seconds: float
    loads: Mapping[str, int] = field(default_factory=dict)


def why_due(
    last: LastRun | None, loads: Mapping[str, int], every: timedelta, now: datetime
) -> str | None:
    """Why a run is due now, in words; None if none is."""
    if not every:
        return None
    if last is None:
        return "no run is known"
    if any(load > last.loads.get(topic, 0) for topic, load in loads.items()):
        return "data was loaded"
    if now - last.started >= every or now < last.started:
        return f"{every.total_seconds() / 60:g} minutes went by"
    return None


class BatchPart:
    """Starts runs one after another; each has a thread, so that heartbeats go on."""

    def __init__(self, path: Path, beat: Callable[[str], None]) -> None:
        self._path = path
        self._beat = beat
        self._file = RunFolder(path).batch
        self._roles = [RoleLock(path / f"{role}.lock", role) for role in ("batch", "load")]
        self._loads: dict[str, int] = {}
        self._loads_at = time.monotonic()
        self._lake_seen: Stamp = ()
        self._not_before = datetime.min.replace(tzinfo=UTC)
        self._stage = ""
        self._health = ""
        self._every = timedelta(minutes=read_settings(path).batch.every_minutes)

    def run(self, stop: threading.Event) -> bool:
        """Work until `stop`; False if a run was still at work then, which is safe to end."""
        self._beat(self._told())
        while not stop.wait(LOOK_S):
            now = datetime.now(UTC)
            self._beat(self._told())
            if now < self._not_before or not self._every:
                continue
            self._health = ""
            try:
                reason = self._due(now)
            except (LakeAwayError, LogAwayError) as error:
                self._put_off(error.message)
                continue
            if reason is None:
                continue
            if not all(role.is_free() for role in self._roles):
                self._health = "waits: a load or a batch run is at work"
            elif not self._run(reason, stop):
                return False
        return True

    def _due(self, now: datetime) -> str | None:
        last = read_record(self._file, LastRun)
        if last is None or time.monotonic() - self._loads_at >= LOADS_EVERY_S:
            self._loads_at = time.monotonic()
            # Opening a workspace takes a good part of a second.
            if (seen := lake_stamp(self._path)) != self._lake_seen or not seen:
                self._loads, self._lake_seen = loads_of(self._path), seen
        return why_due(last, self._loads, self._every, now)

    def _run(self, reason: str, stop: threading.Event) -> bool:
        """One run in a thread of its own; False if it was left at work."""
        logger.info("batch run: %s", reason)
        began = datetime.now(UTC)
        thread = threading.Thread(target=self._work, args=(began, reason, stop), daemon=True)
        thread.name = "batch run"
        thread.start()
        while thread.is_alive() and not stop.is_set():
            seconds = (datetime.now(UTC) - began).total_seconds()
            self._beat(f"runs for {seconds:.0f} s: {self._stage}")
            thread.join(LOOK_S / 4)
        thread.join(STOP_S)
        return not thread.is_alive()

    def _work(self, began: datetime, reason: str, stop: threading.Event) -> None:
        import pyarrow as pa

        from playhead.assemble import Workspace

        loads = dict(self._loads)
        try:
            with Workspace(self._path) as workspace:
                report = workspace.batch(why=reason, on_stage=self._enter)
                seconds = (datetime.now(UTC) - began).total_seconds()
                logger.info("batch run: done up to epoch %d in %.1f s", report.epoch, seconds)
                self._keep(LastRun(began, seconds, loads))
                self._warm(workspace, stop)
        except WorkspaceBusyError as error:
            self._health = f"waits: {error.message}"
        except PlayheadError as error:
            self._put_off(error.message)
        except Exception as error:
            logger.exception("batch run failed")
            self._put_off(f"{type(error).__name__}: {error}")
        finally:
            pa.default_memory_pool().release_unused()

    def _warm(self, workspace: "Workspace", stop: threading.Event) -> None:
        """Make the answers that take long, as all of them have changed; no part of the run."""
        from playhead.serving.warming import warm

        try:
            views = workspace.views.values()
            warm(workspace.session, views, stop, lambda name: self._enter(f"answers: {name}"))
        except Exception:
            logger.exception("answers are not made beforehand")

    def _keep(self, last: LastRun) -> None:
        try:
            write_record(self._file, last)
        except OSError as error:
            self._put_off(f"{self._file}: {error.strerror}")

    def _enter(self, stage: str) -> None:
        self._stage = stage

    def _put_off(self, reason: str) -> None:
        """Try again in a while."""
        logger.warning("batch run failed: %s", reason)
        self._not_before = datetime.now(UTC) + min(RETRY, self._every)
        self._health = f"failed: {reason}"

    def _told(self) -> str:
        if self._health:
            return self._health
        if not self._every:
            return "never by itself: batch.every_minutes is 0"
        last = read_record(self._file, LastRun)
        if last is None:
            return "waits for its first run"
        return f"last run {last.started:%Y-%m-%d %H:%M} UTC, {last.seconds:.1f} s"


def lake_stamp(path: Path) -> Stamp:
    """Differs whenever something was written into a workspace's lake; empty: it has none."""
    stamp = []
    for name in ("catalog.db", "catalog.db-wal"):
        with suppress(FileNotFoundError):
            told = (path / "lake" / name).stat()
            stamp.append((told.st_mtime_ns, told.st_size))
    return tuple(stamp)


def loads_of(path: Path) -> dict[str, int]:
    """The last load of each topic's raw table."""
    from playhead.assemble import Workspace
    from playhead.contracts import TOPICS
    from playhead.lake.tables import raw_name

    with Workspace(path) as workspace:
        found = {}
        for topic in TOPICS:
            if workspace.lake.exists(raw_name(topic)):
                properties = workspace.lake.properties(raw_name(topic))
                found[topic] = int(properties.get(LOAD, 0))
        return found


def run_batch(path: Path, stop: threading.Event, beat: Callable[[str], None]) -> None:
    """Run the batch layer on its schedule until `stop`.

    Events go first: the process gives way to all others. A run that is at work when `stop`
    comes is left, and the next one does what is missing.
    """
    os.nice(NICENESS)
    if not BatchPart(path, beat).run(stop):
        logger.info("stopped within a batch run, which the next one finishes")
        logging.shutdown()
        os._exit(0)
