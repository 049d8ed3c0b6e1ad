"""What people see on stderr: errors, warnings, notes, progress; and tables on stdout."""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.text import Text

from playhead.errors import PlayheadError

__all__ = [
    "Tracker",
    "configure_logging",
    "fail",
    "fail_unexpectedly",
    "note",
    "print_table",
    "show_details",
    "stdout",
    "tracking",
    "waiting",
    "warn",
]

stderr = Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_EVERY_S = 10.0
"""Where stderr is no terminal, progress is a line this often at most."""

_UNBOUNDED = 1_000_000


def stdout() -> Console:
    """The console of stdout; where that is no terminal, as wide as its content."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNBOUNDED)


def print_table(table: RenderableType) -> None:
    """Print a table to stdout; where that is no terminal, nothing is wrapped or cut."""
    console = stdout()
    console.print(table, no_wrap=not console.is_terminal or None, crop=console.is_terminal)
    sys.stdout.flush()


# -- messages ----------------------------------------------------------------------------


def note(message: str) -> None:
    """Tell something on stderr."""
    stderr.print(Text(message))


def warn(message: str) -> None:
    """Tell something that may surprise on stderr."""
    stderr.print(Text.assemble(("warning: ", "yellow"), message))


def fail(error: PlayheadError, *, debug: bool = False) -> None:
    """Tell what failed and what to do about it."""
    if debug:
        _print_traceback(error)
    stderr.print(Text.assemble(("error: ", "bold red"), error.message))
    if error.hint:
        stderr.print(Text(f"  {error.hint}"))


def fail_unexpectedly(error: Exception, *, debug: bool) -> None:
    """Tell of an error that nobody foresaw, in one line."""
    if debug:
        _print_traceback(error)
    first = (str(error).strip().splitlines() or [""])[0]
    told = f"{type(error).__name__}: {first}" if first else type(error).__name__
    hint = "" if debug else " (--debug shows the traceback)"
    stderr.print(Text.assemble(("error: ", "bold red"), f"unexpected {told}{hint}"))


def _print_traceback(error: BaseException) -> None:
    lines = traceback.format_exception(error)
    stderr.print(Text("".join(lines).rstrip()))


class _StderrHandler(logging.Handler):
    """Shows log records as notes and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        label, style = record.levelname.lower(), "dim"
        if record.levelno >= logging.WARNING:
            style = "yellow" if record.levelno < logging.ERROR else "bold red"
        stderr.print(Text.assemble((f"{label}: ", style), record.getMessage()))


def configure_logging() -> None:
    """Show warnings of every library on stderr, and no more, whatever an earlier command asked."""
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        root.addHandler(_StderrHandler())
    _show_from(logging.WARNING)
    logging.getLogger("playhead").setLevel(logging.NOTSET)


def show_details() -> None:
    """Show what Playhead itself logs as details, too."""
    logging.getLogger("playhead").setLevel(logging.DEBUG)
    _show_from(logging.DEBUG)


def _show_from(level: int) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _StderrHandler):
            handler.setLevel(level)


# -- progress ----------------------------------------------------------------------------


class Tracker(Protocol):
    """Shows how far the parts of a piece of work are."""

    def advance_to(self, part: str, done: float, total: float | None, told: str = "") -> None:
        """A part is at `done` of `total` (None: unknown), in any unit; `told` says it in words."""


@contextmanager
def tracking() -> Iterator[Tracker]:
    """Show progress for the block: bars on a terminal, a line now and then elsewhere."""
    if not stderr.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[told]}", style="dim"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, redirect_stdout=False) as progress:
        yield _Bars(progress)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that something is being worked on, for the block."""
    if not stderr.is_terminal:
        yield
        return
    with stderr.status(what):
        yield


class _Bars:
    """Progress as bars, one a part."""

    def __init__(self, progress: "Progress") -> None:  # type: ignore[name-defined]  # noqa: F821
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def advance_to(self, part: str, done: float, total: float | None, told: str = "") -> None:
        if part not in self._tasks:
            self._tasks[part] = self._progress.add_task(part, total=total, told=told)
        self._progress.update(self._tasks[part], completed=done, total=total, told=told)


class _Lines:
    """Progress as plain lines, few of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at = clock()

    def advance_to(self, part: str, done: float, total: float | None, told: str = "") -> None:
        now = self._clock()
        if now - self._told_at >= PLAIN_EVERY_S:
            self._told_at = now
            share = f" {100 * done / total:.0f} %" if total else ""
            note(f"{part}:{share} {told}".rstrip())
