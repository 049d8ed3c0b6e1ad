"""Runs the command line as a user does: in this process where that will do, or in its own."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from playhead.cli import main

PROGRAM = [sys.executable, "-c", "from playhead.cli import main; main()"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


class _TerminalOut(io.TextIOWrapper):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class _TerminalErr(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(*arguments: str | Path, stdin: str = "", terminal: bool = False) -> Outcome:
    """Run a command in this process, with both output streams terminals or neither."""
    out = (_TerminalOut if terminal else io.TextIOWrapper)(io.BytesIO(), "utf-8")
    err = _TerminalErr() if terminal else io.StringIO()
    status: Any = None
    with redirect_stdout(out), redirect_stderr(err), patch("sys.stdin", io.StringIO(stdin)):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as left:
            status = left.code
    out.flush()
    return Outcome(int(status or 0), out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own, its streams piped."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **options.pop("env", {})},
        **options,
    )


def finish(process: subprocess.Popen[bytes], timeout: float = 60) -> Outcome:
    """Wait for the end of a started command."""
    out, err = process.communicate(timeout=timeout)
    return Outcome(process.returncode, out, err.decode())
