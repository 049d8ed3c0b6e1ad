"""One process a role: a lock on a file, which the system lets go when the process dies."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from playhead.errors import WorkspaceBusyError, WorkspaceError

_PROBED_S = 0.1
"""`is_free` holds the lock for a moment, which is no reason to refuse a role."""


class RoleLock:
    """Held from `acquire` to `release`, by one process of the machine.

    Args:
        path: the lock file; its content names the holder's process.
        role: for the error message, such as "speed layer".
    """

    def __init__(self, path: Path, role: str) -> None:
        self._path = path
        self._role = role
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the role.

        Raises:
            WorkspaceBusyError: another process has it (or this one, for another task).
            WorkspaceError: the lock file cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise WorkspaceError(f"{self._path}: {error.strerror}") from error
        if not _taken(file):
            holder = os.read(file, 32).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise WorkspaceBusyError(
                f"another {self._role} runs in this workspace (process {holder})",
                hint="Stop it first, or use another workspace.",
            )
        self._file = file
        # The lock holds without its holder's name, which a full disk may not take.
        with suppress(OSError):
            os.ftruncate(file, 0)
            os.write(file, str(os.getpid()).encode())

    def is_free(self) -> bool:
        """Whether nobody has the role now; taking it may fail all the same a moment later."""
        try:
            file = os.open(self._path, os.O_RDONLY)
        except OSError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(file)
        return True

    def release(self) -> None:
        """Let the role go; may be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _taken(file: int) -> bool:
    """Lock an open file for this process alone; False if another one holds it."""
    until = time.monotonic() + _PROBED_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_PROBED_S / 10)
        else:
            return True
