"""The events of a demo on a cluster: over HTTP there, straight into the log of the other one."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import pyarrow as pa

from playhead.assemble import Workspace
from playhead.batch.replay import AtOnce, Replayer, ReplaySpec, TakesEvents
from playhead.demo.clusterreport import Figures
from playhead.demo.door import Door, renamed, without
from playhead.demo.running import PlatformBeside, until
from playhead.demo.stages import Stage
from playhead.engines import connect
from playhead.errors import PlayheadError
from playhead.lake.tables import raw_name

__all__ = ["Feed", "Recorded", "fill"]

_BLOCK_EVENTS = 20_000
_PATIENCE_S = 180.0
_LOOK_S = 0.1

Share = Callable[[], float]
"""How much of something is done, 0 to 1."""


@dataclass(frozen=True)
class Recorded:
    """A data set to send.

    Attributes:
        prefix: before its event ids, so that two sets have none in common.
        since: the day on which its last tenth begins.
    """

    folder: Path
    prefix: str
    since: date

    def replay(
        self,
        workspace: Workspace,
        log: TakesEvents,
        stage: Stage,
        *,
        live: bool,
        left_out: Collection[str] = (),
    ) -> float:
        """Send its last tenth, or what comes before; the seconds that the sending took.

        Args:
            left_out: ids of events that are not sent.
        """
        stage.tell("reading files")
        spec = ReplaySpec(
            pace=AtOnce(),
            since=self.since if live else None,
            until=None if live else self.since,
            block_events=_BLOCK_EVENTS,
            ignore_unknown=True,
        )
        with connect() as connection:
            replayer = Replayer(
                workspace.lake,
                _Renaming(log, self.prefix, left_out),
                connection,
                workspace.clock,
                scratch=workspace.path / "tmp",
            )
            return replayer.replay(self.folder, spec, progress=partial(_tell, stage)).seconds


class _Renaming:
    """Passes events of a set on under ids of its own, but for some of them."""

    def __init__(self, log: TakesEvents, prefix: str, left_out: Collection[str]) -> None:
        self._log, self._prefix, self._left_out = log, prefix, left_out

    def append(self, topic: str, events: pa.Table | pa.RecordBatch, *, key: str) -> None:
        kept = without(renamed(events, self._prefix), self._left_out)
        self._log.append(topic, kept, key=key)


class Feed:
    """Sends data sets to a running platform, and waits for what it makes of them.

    Args:
        figures: gets what was sent, and how long that took.
    """

    def __init__(
        self,
        workspace: Workspace,
        platform: PlatformBeside,
        door: Door,
        sets: Collection[Recorded],
        figures: Figures,
    ) -> None:
        self._workspace, self._platform, self._door = workspace, platform, door
        self._sets, self._figures = sets, figures

    def send(self, stage: Stage, *, live: bool) -> int:
        """Send a part of each set, and wait until all of it is in state; how many events.

        Raises:
            PlayheadError: the platform ended early, or takes in nothing any more.
        """
        before = self._door.accepted
        for recorded in self._sets:
            self._figures.sent_s += recorded.replay(self._workspace, self._door, stage, live=live)
        began = time.monotonic()
        self._wait(stage, "into state", self._in_state)
        self._figures.state_s += time.monotonic() - began
        self._figures.accepted = self._door.accepted
        return self._door.accepted - before

    def seal(self, stage: Stage) -> None:
        """Wait until the lake has every event that the event log has.

        Raises:
            PlayheadError: the platform ended early, or seals nothing any more.
        """
        self._wait(stage, "into the lake", self._in_lake)

    def _wait(self, stage: Stage, what: str, share: Share) -> None:
        done = 0.0

        def is_done() -> bool:
            nonlocal done
            self._platform.check()
            time.sleep(_LOOK_S)
            done = share()
            stage.tell(what, done)
            return done >= 1

        if not until(is_done, lambda: done, _PATIENCE_S):
            raise PlayheadError(
                f"nothing more gets {what}: {done:.1%} is there", hint=self._platform.trouble()
            )

    def _in_state(self) -> float:
        return 1 - self._workspace.lag() / max(self._ends(), 1)

    def _in_lake(self) -> float:
        # Raw tables hold every offset, repeats too; no file has brought them any rows.
        lake, log = self._workspace.lake, self._workspace.log
        tables = [raw_name(topic) for topic in log.topics()]
        rows = sum(lake.snapshot(table).rows for table in tables if lake.exists(table))
        return rows / max(self._ends(), 1)

    def _ends(self) -> int:
        log = self._workspace.log
        return sum(sum(log.end_offsets(topic).values()) for topic in log.topics())


def fill(
    workspace: Workspace, sets: Collection[Recorded], refused: Collection[str], stage: Stage
) -> None:
    """Bring the same events into a workspace by itself: nine tenths, the batch layer, the rest.

    Args:
        refused: ids of the events that the gateway of the other platform did not take.
    """
    # What views need besides events is made by the batch layer.
    workspace.batch(why="demo")
    for live in (False, True):
        for recorded in sets:
            recorded.replay(workspace, workspace.log, stage, live=live, left_out=refused)
        stage.tell("speed layer")
        workspace.speed(drain=True)
        if not live:
            workspace.batch(why="demo", on_stage=stage.tell)


def _tell(stage: Stage, at: object) -> None:
    sent, total = getattr(at, "sent", 0), getattr(at, "total", 0)
    if total:
        stage.tell(f"{sent:,} of {total:,} events", sent / total)
