"""One server as a process of its own: started, awaited, killed, stopped, by its own process id."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from playhead.errors import ServerError

__all__ = ["Server", "await_port", "free_port", "program"]

LOOPBACK = "127.0.0.1"
START_S = 180.0
"""Beside others on a busy machine, a server may take more than a minute to start."""

_LOOK_S = 0.05
_STOP_S = 15.0
_TOLD_LINES = 12


def free_port() -> int:
    """A port of loopback that nobody listens at now."""
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return int(found.getsockname()[1])


def program(name: str, package: str) -> str:
    """The path of a program that has to be installed.

    Args:
        name: as on PATH, such as "java".
        package: what to install, in words for people.

    Raises:
        ServerError: it is not there.
    """
    found = shutil.which(name)
    if found is None:
        raise ServerError(f"{name} is not installed", hint=f"Install {package}.")
    return found


class Server:
    """A process that serves until it is stopped; all that it starts is of its group.

    Args:
        name: for messages, such as "the broker".
        command: what is run.
        log: gets what it prints, appended.
        folder: it works there; made if it is not there.
        environment: added to this process's own.
        stop_with: the signal that asks it to end.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stop_with: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name, self.command, self.log = name, tuple(command), log
        self._folder = folder
        self._environment = dict(environment or {})
        self._stop_with = stop_with
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of its process; also the number of its group.

        Raises:
            ServerError: it does not run.
        """
        if self._process is None:
            raise ServerError(f"{self.name} does not run")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, is_ready: Callable[[], bool], *, seconds: float = START_S) -> None:
        """Start it, and return once it is ready.

        Args:
            is_ready: asked again and again; an OSError counts as no.

        Raises:
            ServerError: it ended, or was not ready in time and is stopped; the end of its log is
                told.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    env={**os.environ, **self._environment},
                    start_new_session=True,
                )
            except OSError as error:
                raise ServerError(f"{self.name} cannot be started: {error}") from error
        until = time.monotonic() + seconds
        while not _says_so(is_ready):
            if not self.is_running or time.monotonic() > until:
                why = "was not ready in time" if self.is_running else "has ended"
                self.stop()
                raise ServerError(f"{self.name} {why}: {self._told()}", hint=f"See {self.log}.")
            time.sleep(_LOOK_S)

    def stop(self, seconds: float = _STOP_S) -> None:
        """Ask it to end, and end it if it does not in time; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal(process.pid, self._stop_with)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        # What it started may outlive it.
        _signal(process.pid, signal.SIGKILL)
        process.wait()

    def kill(self) -> None:
        """End it at once, as `kill -9` does, with all that it started."""
        process, self._process = self._process, None
        if process is not None:
            _signal(process.pid, signal.SIGKILL)
            process.wait()

    def _told(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-_TOLD_LINES:]) or "it said nothing"


def await_port(port: int) -> Callable[[], bool]:
    """Whether somebody listens at a port of loopback, to be asked by `Server.start`."""

    def is_open() -> bool:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True

    return is_open


def _says_so(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except OSError:
        return False


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
