"""One part under watch: started, restarted with growing pauses, killed when it hangs."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playhead.platform.identity import ProcessId
from playhead.platform.parts import MULTIPROCESS, Part
from playhead.platform.records import Beat, PartRecord, read_record

USELESS = 78
"""Exit status of a part that another start cannot help (EX_CONFIG of sysexits.h)."""

_LONGEST_LOOK_S = 1.0
_KILLED_S = 0.01


@dataclass(frozen=True)
class Pauses:
    """How long a part that ended waits for its next start.

    Attributes:
        first: after it had worked for `healthy`, or for the first time.
        longest: the pause doubles from `first` up to this.
    """

    first: timedelta = timedelta(seconds=0.5)
    longest: timedelta = timedelta(seconds=30)
    healthy: timedelta = timedelta(seconds=60)


@dataclass(frozen=True)
class Inherited:
    """What a part's process gets from the supervisor.

    Attributes:
        alive: the reading end of a pipe that closes when the supervisor is gone.
        listen: a listening socket; None: none.
        log: where stdout and stderr go.
    """

    alive: int
    listen: int | None
    log: int


class WatchedPart:
    """Keeps one part running; `look` is called again and again, and never waits.

    Args:
        address: where it listens, for people; empty: nowhere.
        beat: its heartbeat file.
    """

    def __init__(
        self, part: Part, inherited: Inherited, address: str, beat: Path, pauses: Pauses
    ) -> None:
        self.part = part
        self._inherited = inherited
        self._address = address
        self._beat = beat
        self._pauses = pauses
        self._child: subprocess.Popen[bytes] | None = None
        self._process: ProcessId | None = None
        self._seen: tuple[int, int] | None = None
        self._silent_s = 0.0
        self._worked_s = 0.0
        self._pause_s = 0.0
        self._wait_s = 0.0
        self._state = "starting"
        self._since = datetime.now(UTC)
        self._restarts = 0
        self._reason = ""
        self.has_worked = False

    @property
    def state(self) -> str:
        """ "starting", "running", "restarting" or "stopped"."""
        return self._state

    @property
    def is_there(self) -> bool:
        """Whether its process is."""
        return self._child is not None

    @property
    def restarts(self) -> int:
        return self._restarts

    def record(self) -> PartRecord:
        """What is known of it now."""
        return PartRecord(
            self.part.name,
            self._state,
            self._process,
            self._since,
            self._restarts,
            self._address,
            self._reason,
        )

    def beat(self) -> Beat | None:
        """What its process last said of itself."""
        beat = read_record(self._beat, Beat)
        return beat if beat is not None and beat.process == self._process else None

    # -- start and watch -----------------------------------------------------------------

    def start(self) -> None:
        """Start its process.

        Raises:
            OSError: the program cannot be started.
        """
        with suppress(FileNotFoundError):
            self._beat.unlink()
        fds = [fd for fd in (self._inherited.alive, self._inherited.listen) if fd is not None]
        # A group of its own: Ctrl-C and a closed terminal reach the supervisor alone, which
        # ends the parts in their order.
        self._child = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=self._inherited.log,
            stderr=self._inherited.log,
            env=self._environment(),
            pass_fds=fds,
            process_group=0,
        )
        self._process = ProcessId.of(self._child.pid)
        self._seen, self._silent_s, self._worked_s = None, 0.0, 0.0
        self._turn_to("starting")

    def look(self, elapsed_s: float) -> str | None:
        """See how it is and do what that asks for; what happened in words, if anything did.

        Args:
            elapsed_s: since the last look.
        """
        # After the machine slept, one long look must not make every part one that hangs.
        elapsed_s = min(elapsed_s, _LONGEST_LOOK_S)
        if self._child is None:
            return self._wait(elapsed_s) if self._state == "restarting" else None
        status = _ended(self._child)
        if status is not None:
            return self._again(_told(status))
        self._listen(elapsed_s)
        limit = self.part.starting if self._seen is None else self.part.silence
        if self._silent_s < limit.total_seconds():
            return None
        self.kill()
        while _ended(self._child) is None:
            time.sleep(_KILLED_S)
        return self._again(f"hangs: no heartbeat for {limit.total_seconds():g} s, killed")

    def _listen(self, elapsed_s: float) -> None:
        """Note whether it has beaten since the last look."""
        seen = self._stamp()
        if seen is None or seen == self._seen:
            self._silent_s += elapsed_s
        else:
            self._seen, self._silent_s = seen, 0.0
        if self._seen is not None:
            self._worked_s += elapsed_s
            if self._state == "starting":
                self.has_worked = True
                self._turn_to("running")

    def _stamp(self) -> tuple[int, int] | None:
        try:
            told = self._beat.stat()
        except OSError:
            return None
        return told.st_mtime_ns, told.st_ino

    def _wait(self, elapsed_s: float) -> str | None:
        self._wait_s -= elapsed_s
        if self._wait_s > 0:
            return None
        try:
            self.start()
        except OSError as error:
            return self._again(f"cannot be started: {error.strerror}")
        return f"{self.part.name} starts again (restart {self._restarts})"

    # -- end -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Tell it to end by itself; it is not started again."""
        if self._child is None:
            self._turn_to("stopped")
        else:
            self._child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        if self._child is not None:
            self._child.kill()

    def reap(self) -> bool:
        """Whether it has ended, on its way to a stop."""
        if self._child is not None and _ended(self._child) is not None:
            self._clear_metrics()
            self._child = self._process = None
            with suppress(OSError):
                self._beat.unlink()
        if self._child is None and self._state != "stopped":
            self._turn_to("stopped")
        return self._child is None

    @property
    def is_useless(self) -> bool:
        """Whether it has never worked and says that another start will not help."""
        return not self.has_worked and self._reason == _told(USELESS)

    def _again(self, reason: str) -> str:
        """Plan its next start."""
        self._clear_metrics()
        self._child = self._process = None
        first = self._pauses.first.total_seconds()
        if self._worked_s >= self._pauses.healthy.total_seconds() or not self._pause_s:
            self._pause_s = first
        else:
            self._pause_s = min(2 * self._pause_s, self._pauses.longest.total_seconds())
        self._wait_s = self._pause_s
        self._restarts += 1
        self._reason = reason
        self._turn_to("restarting")
        return f"{self.part.name} {reason}; it starts again in {self._pause_s:g} s"

    def _turn_to(self, state: str) -> None:
        self._state, self._since = state, datetime.now(UTC)

    def _command(self) -> list[str]:
        told = [*self.part.command, "--alive", str(self._inherited.alive)]
        if self._inherited.listen is not None:
            told += ["--listen", str(self._inherited.listen)]
        return told

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, **self.part.environment}

    def _clear_metrics(self) -> None:
        """Gauges of a process that is gone would be summed up for ever."""
        folder = self.part.environment.get(MULTIPROCESS)
        if folder and self._child is not None:
            for path in Path(folder).glob(f"gauge_live*_{self._child.pid}.db"):
                path.unlink(missing_ok=True)


def _ended(child: subprocess.Popen[bytes]) -> int | None:
    """How a process ended, with whatever it had started; None if it still runs."""
    if child.returncode is None:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, child.pid, flags) is None:
            return None
        # Until it is waited for, its number, and with it that of its group, is nobody else's.
        with suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def _told(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
