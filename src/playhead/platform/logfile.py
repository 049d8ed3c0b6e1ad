"""The platform's log file: every part appends to it, and who watches sees what is new."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

LIMIT_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20


class PlatformLog:
    """One file for the supervisor and all parts, and the one before it (`.1`).

    A part writes to the file itself, not through a pipe, so it neither waits for the supervisor
    nor fails when that is gone.

    Args:
        limit_bytes: beyond it the file begins anew; lines written in that moment are lost.
    """

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._read_to = os.fstat(self.fd).st_size
        self._begun = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)

    def write(self, line: str) -> None:
        """Append a line of the supervisor's; a full disk takes none, and nobody waits for it."""
        told = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z platform {line}\n"
        try:
            os.write(self.fd, told.encode())
        except OSError:
            return

    def is_at(self, fd: int) -> bool:
        """Whether an open file is this one."""
        try:
            return os.path.sameopenfile(self.fd, fd)
        except OSError:
            return False

    def fresh(self) -> Iterator[str]:
        """Whole lines that were written since the last call, by anybody."""
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            text = self._begun + file.read(_PIECE_BYTES)
            self._read_to = file.tell()
        *lines, self._begun = text.split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")

    def rotate(self) -> None:
        """Begin anew where the file is too long; readers have seen all of it before."""
        size = os.fstat(self.fd).st_size
        if size < max(self._limit_bytes, self._read_to):
            self._read_to = min(self._read_to, size)
        if size <= self._limit_bytes:
            return
        try:
            shutil.copyfile(self._path, self._path.with_name(self._path.name + ".1"))
        except OSError:
            return
        os.ftruncate(self.fd, 0)
        self._read_to, self._begun = 0, b""
