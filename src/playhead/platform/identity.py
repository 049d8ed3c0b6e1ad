"""Which process a number means: a pid that was given to another process is never signalled."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19
"""Fields of /proc/PID/stat, counted after the program's name."""


@dataclass(frozen=True)
class ProcessId:
    """One process of this machine, for ever.

    Attributes:
        pid: its number, which the system gives to another process once it is gone.
        birth: when it began, as the system tells it, with the system's own start.
    """

    pid: int
    birth: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this number now; None if there is none."""
        birth = _birth(pid)
        return None if birth is None else cls(pid, birth)

    @classmethod
    def own(cls) -> Self:
        """This process."""
        return cls(os.getpid(), _birth(os.getpid()) or "")

    def is_alive(self) -> bool:
        """Whether it still runs; one that ended and was not waited for does not."""
        return _birth(self.pid) == self.birth

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False if it is gone or belongs to somebody else."""
        with suppress(OSError):
            held = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
            try:
                if not self.is_alive():
                    return False
                if held is None:
                    os.kill(self.pid, number)
                else:
                    signal.pidfd_send_signal(held, number)
                return True
            finally:
                if held is not None:
                    os.close(held)
        return False


def _birth(pid: int) -> str | None:
    if not (_PROC / "self" / "stat").exists():
        return _birth_by_ps(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    told = stat.rpartition(")")[2].split()
    if told[_STATE] in "ZX" and not _has_threads(pid):
        return None
    return f"{_boot()}/{told[_STARTED]}"


def _has_threads(pid: int) -> bool:
    """Whether threads of a dying process are left: its files and sockets are open until then."""
    try:
        return sum(1 for _ in (_PROC / str(pid) / "task").iterdir()) > 1
    except OSError:
        return False


def _boot() -> str:
    """Tells one start of the system from another: ticks are counted from there."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _birth_by_ps(pid: int) -> str | None:
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, birth = done.stdout.strip().partition(" ")
    return birth.strip() if state and not state.startswith("Z") else None
