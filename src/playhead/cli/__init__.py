"""The command line: `playhead`. Data goes to stdout, everything else to stderr."""

import atexit
import errno
import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from playhead import __version__, disk
from playhead.cli import (
    answers,
    deadletters,
    describing,
    doctor,
    gates,
    keys,
    layers,
    loading,
    operations,
    plan,
    platform,
    replaying,
    runs,
    spark,
    topics,
    trials,
)
from playhead.cli.invocation import DEFAULT_WORKSPACE, DebugOption, Invocation, WorkspaceOption
from playhead.cli.signals import INTERRUPTED
from playhead.cli.terminal import configure_logging, fail, fail_unexpectedly
from playhead.errors import PlayheadError

__all__ = ["app", "main"]

app = typer.Typer(
    name="playhead",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    loading.app,
    layers.app,
    replaying.app,
    answers.app,
    describing.app,
    operations.app,
    doctor.app,
    platform.app,
    plan.app,
    deadletters.app,
    gates.app,
    runs.app,
    spark.app,
    topics.app,
    keys.app,
    trials.app,
):
    app.add_typer(group)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"playhead {__version__}")
        raise typer.Exit


@app.callback()
def playhead(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    debug: DebugOption = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Live metrics and history of a streaming service: one view, two layers, one exact answer.

    A workspace is a folder that holds everything: event log, lake, state and views. A usual day:
    `init`, `load`, `batch`, then `speed` beside whatever writes to the event log, and `query`
    or `show` at any time.

    Data goes to stdout and nothing else does; progress, notes and warnings go to stderr.
    The exit status is 0 when the work is done, 1 when it failed (the message says why and what
    to do), 2 for wrong usage, 130 when interrupted.
    """
    invocation = context.ensure_object(Invocation)
    invocation.tell(workspace=workspace, debug=debug)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status.

    Args:
        arguments: what follows `playhead` on the command line; `sys.argv` by default.
    """
    invocation = Invocation()
    configure_logging()
    # The process ends with its memory: looking for garbage first would take longer than some
    # commands do.
    atexit.register(gc.freeze)
    try:
        with invocation.interrupts.watched():
            app(args=arguments, prog_name="playhead", obj=invocation)
    except PlayheadError as error:
        fail(error, debug=invocation.debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            _leave_closed_pipe()
        if invocation.interrupts.came:
            sys.exit(INTERRUPTED)
        advice = disk.advice(error)
        if advice is None:
            fail_unexpectedly(error, debug=invocation.debug)
        else:
            told = str(error).strip().splitlines()[0]
            fail(PlayheadError(told, hint=advice), debug=invocation.debug)
    sys.exit(1)


def _leave_closed_pipe() -> None:
    """Nobody reads stdout any more: what is left in its buffer must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
