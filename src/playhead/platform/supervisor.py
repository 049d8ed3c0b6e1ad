"""The supervisor: binds the sockets, keeps the parts running, and ends them in order."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from playhead import __version__
from playhead.config import Address
from playhead.errors import SettingError
from playhead.lock import RoleLock
from playhead.platform.identity import ProcessId
from playhead.platform.logfile import PlatformLog
from playhead.platform.notify import notify
from playhead.platform.parts import Part, Role
from playhead.platform.records import Beat, PlatformRecord, RunFolder, read_record, write_record
from playhead.platform.sockets import address_of, listen
from playhead.platform.watched import Inherited, Pauses, WatchedPart

logger = logging.getLogger(__name__)

LOOK_S = 0.1
TELL_EVERY_S = 1.0
LEFTOVER_S = 5.0


@dataclass(frozen=True)
class StopTimes:
    """Seconds from the stop at which the next turn begins at the latest.

    Attributes:
        makes_answers: the gateway's accepted events are in the log by then.
        answers: the speed layer has taken them in and sealed them.
        kill: what is left is killed; all of it can be at any time.
    """

    makes_answers: float = 2.0
    answers: float = 3.7
    kill: float = 4.5


@dataclass(frozen=True)
class Seen:
    """The platform at one look.

    Attributes:
        beats: what the parts last said, by name; a part that said nothing yet is missing.
        news: lines that came into the log file since the last look.
    """

    record: PlatformRecord
    beats: Mapping[str, Beat]
    news: Sequence[str]


class Supervisor:
    """Runs the parts of one workspace's platform.

    Args:
        workspace: the folder.
        parts: what to run.
        addresses: where each socket that a part names listens.
        secure: names of the sockets that speak TLS.
    """

    def __init__(
        self,
        workspace: Path,
        parts: Sequence[Part],
        addresses: Mapping[str, Address],
        *,
        secure: tuple[str, ...] = (),
        pauses: Pauses | None = None,
        stop_times: StopTimes | None = None,
    ) -> None:
        self._folder = RunFolder(workspace)
        self._parts = parts
        self._wanted = addresses
        self._secure = secure
        self._pauses = pauses or Pauses()
        self._stop_times = stop_times or StopTimes()
        self._watched: list[WatchedPart] = []
        self._sockets: dict[str, socket.socket] = {}
        self._told = PlatformRecord(
            ProcessId.own(), "starting", datetime.now(UTC), __version__, {}, secure, ()
        )
        self._told_at = float("-inf")

    @property
    def workspace(self) -> Path:
        return self._folder.workspace

    def run(self, stop: threading.Event, on_look: Callable[[Seen], None] | None = None) -> None:
        """Run the platform until `stop`, then end it in order within five seconds.

        Args:
            on_look: told about once a second how everything is, and at once of what happens.

        Raises:
            WorkspaceBusyError: a platform runs in this workspace.
            SettingError: an address is taken, or a part says at its first start that its
                settings cannot be used.
        """
        self._folder.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(RoleLock(self._folder.lock, "platform"))
            left = end_leftovers(self._folder)
            log = stack.enter_context(PlatformLog(self._folder.log))
            self._bind(stack, LEFTOVER_S if left else 0.0)
            alive = self._pipe(stack)
            self._clear()
            self._watched = [self._watch(part, alive, log) for part in self._parts]
            stack.callback(self._folder.platform.unlink, missing_ok=True)
            self._work(stop, log, on_look or (lambda _: None))

    def _work(
        self, stop: threading.Event, log: PlatformLog, on_look: Callable[[Seen], None]
    ) -> None:
        try:
            log.write(f"starts with {', '.join(part.name for part in self._parts)}")
            for watched in self._watched:
                watched.start()
            self._tell(log, on_look)
            self._keep(stop, log, on_look)
        finally:
            self._end(log, on_look)

    # -- before --------------------------------------------------------------------------

    def _bind(self, stack: ExitStack, patience_s: float) -> None:
        for name in dict.fromkeys(part.socket for part in self._parts if part.socket):
            bound = listen(self._wanted[name], f"{name}.address", patience_s=patience_s)
            self._sockets[name] = stack.enter_context(bound)
        addresses = {name: str(address_of(bound)) for name, bound in self._sockets.items()}
        self._told = replace(self._told, addresses=addresses)

    def _pipe(self, stack: ExitStack) -> int:
        """The reading end of a pipe that closes with this process, however it ends."""
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        return reading

    def _clear(self) -> None:
        """Forget what an earlier platform left."""
        # The folder itself stays: on a full disk it could not be made anew.
        self._folder.metrics.mkdir(parents=True, exist_ok=True)
        for path in self._folder.metrics.iterdir():
            path.unlink(missing_ok=True)
        for beat in self._folder.beats():
            self._folder.beat(beat.name).unlink(missing_ok=True)

    def _watch(self, part: Part, alive: int, log: PlatformLog) -> WatchedPart:
        bound = self._sockets[part.socket] if part.socket else None
        return WatchedPart(
            part,
            Inherited(alive, bound.fileno() if bound else None, log.fd),
            self._told.addresses[part.socket] if part.socket else "",
            self._folder.beat(part.name),
            self._pauses,
        )

    # -- meanwhile -----------------------------------------------------------------------

    def _keep(
        self, stop: threading.Event, log: PlatformLog, on_look: Callable[[Seen], None]
    ) -> None:
        looked_at = time.monotonic()
        while not stop.wait(LOOK_S):
            now = time.monotonic()
            happened = [watched.look(now - looked_at) for watched in self._watched]
            looked_at = now
            for event in filter(None, happened):
                log.write(event)
            if self._check() or any(happened) or now - self._told_at >= TELL_EVERY_S:
                self._tell(log, on_look)
                log.rotate()
            for watched in self._watched:
                if watched.is_useless:
                    raise _refusal(watched, self._folder)

    def _check(self) -> bool:
        """Whether the platform has just become ready."""
        serving = [watched for watched in self._watched if watched.part.socket] or self._watched
        if self._told.state != "starting" or any(w.state != "running" for w in serving):
            return False
        self._told = replace(self._told, state="ready")
        notify("READY=1")
        return True

    def _tell(self, log: PlatformLog, on_look: Callable[[Seen], None]) -> None:
        self._told_at = time.monotonic()
        parts = tuple(watched.record() for watched in self._watched)
        self._told = replace(self._told, parts=parts)
        # A full disk must not end the platform: what people see is old for a while.
        with suppress(OSError):
            write_record(self._folder.platform, self._told)
        beats = {w.part.name: beat for w in self._watched if (beat := w.beat()) is not None}
        on_look(Seen(self._told, beats, [] if log.is_at(2) else list(log.fresh())))

    # -- after ---------------------------------------------------------------------------

    def _end(self, log: PlatformLog, on_look: Callable[[Seen], None]) -> None:
        """Stop the parts by turns; kill what does not stop."""
        notify("STOPPING=1")
        log.write("stops")
        self._told = replace(self._told, state="stopping")
        began = time.monotonic()
        times = self._stop_times
        self._stop_all((Role.TAKES_IN, Role.WORKS_BESIDE))
        self._await((Role.TAKES_IN,), began + times.makes_answers)
        self._stop_all((Role.MAKES_ANSWERS,))
        self._await((Role.MAKES_ANSWERS,), began + times.answers)
        self._stop_all((Role.ANSWERS,))
        self._await(Role, began + times.kill)
        for watched in self._watched:
            if watched.is_there:
                log.write(f"{watched.part.name} does not stop: killed")
                watched.kill()
        self._await(Role, time.monotonic() + LEFTOVER_S)
        log.write(f"stopped in {time.monotonic() - began:.1f} s")
        self._tell(log, on_look)

    def _stop_all(self, roles: Iterable[Role]) -> None:
        for watched in self._watched:
            if watched.part.role in tuple(roles):
                watched.stop()

    def _await(self, roles: Iterable[Role], until: float) -> None:
        waited = [watched for watched in self._watched if watched.part.role in tuple(roles)]
        while sum(not watched.reap() for watched in waited) and time.monotonic() < until:
            time.sleep(0.02)


def end_leftovers(folder: RunFolder) -> list[str]:
    """End the parts of a platform whose supervisor died; their names.

    They end by themselves when it dies; one that cannot is killed.
    """
    before = read_record(folder.platform, PlatformRecord)
    known = [(part.name, part.process) for part in before.parts] if before else []
    known += [(beat.name, beat.process) for beat in folder.beats()]
    left = {process: name for name, process in known if process and process.is_alive()}
    _wait_for(left)
    for process, name in left.items():
        if process.send(signal.SIGKILL):
            logger.warning("%s of an earlier platform did not end: killed", name)
    _wait_for(left)
    return sorted(left.values())


def _wait_for(processes: Iterable[ProcessId]) -> None:
    until = time.monotonic() + LEFTOVER_S
    while time.monotonic() < until and any(process.is_alive() for process in processes):
        time.sleep(0.02)


def _refusal(watched: WatchedPart, folder: RunFolder) -> SettingError:
    return SettingError(
        f"{watched.part.name} cannot work with these settings",
        hint=f"{folder.log} says why, in its last lines.",
    )
