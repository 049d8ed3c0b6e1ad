"""Commands for the running platform: up, down, status; and the hidden one that runs a part."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.signals import stopping_on_signals
from playhead.cli.status import PlatformLine
from playhead.cli.terminal import note, print_table, waiting

if TYPE_CHECKING:
    from playhead.platform import PartStatus, PlatformStatus, Supervisor
    from playhead.platform.heartbeat import Heartbeat
    from playhead.platform.working import Work

app = typer.Typer()
PANEL = "Platform"
UP_S, DOWN_S = 60.0, 10.0


@command(
    app, panel=PANEL, examples=["playhead up", "playhead up --detach", "playhead up --only gateway"]
)
def up(
    invocation: Invocation,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART",
            help="Run these parts only: gateway, speed, batch, api, dashboard; states where "
            "the speed layer runs on Spark elsewhere. May be repeated.",
        ),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="Run in the background; return once it answers."),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(min=1, metavar="SECONDS", help="How long --detach waits for an answer."),
    ] = UP_S,
) -> None:
    """Run the whole platform: gateway, both layers, API and dashboards, until Ctrl-C.

    A part that dies or hangs is started again; its address stays, and connections wait for it.
    SIGTERM or Ctrl-C stop everything in order within five seconds. What the parts say goes to
    `run/platform.log` in the workspace.
    """
    if detach:
        _detach(invocation, timeout, only or [])
        return
    supervisor = _supervisor(invocation.workspace, only or [])
    # The supervisor ends its parts before it goes, however long after the signal that is.
    invocation.interrupts.patient = True
    stop = threading.Event()
    with stopping_on_signals(stop), _stopping_on_hangup(stop), PlatformLine() as line:
        supervisor.run(stop, line.look)


def _supervisor(path: Path, only: Sequence[str]) -> "Supervisor":
    from playhead.config import MARK, read_settings
    from playhead.errors import WorkspaceError
    from playhead.platform.parts import (
        parts_to_run,
        secure_sockets,
        standard_addresses,
    )
    from playhead.platform.supervisor import Supervisor

    path = path.absolute()
    if not (path / MARK).exists():
        raise WorkspaceError(f"{path} is no workspace", hint=f"Make one: playhead -w {path} init")
    settings = read_settings(path)
    return Supervisor(
        path,
        parts_to_run(path, settings, only),
        standard_addresses(settings),
        secure=secure_sockets(settings),
    )


@contextmanager
def _stopping_on_hangup(stop: threading.Event) -> Iterator[None]:
    """Within the block, a terminal that closes sets `stop`."""
    before = signal.signal(signal.SIGHUP, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _detach(invocation: Invocation, timeout: float, only: Sequence[str]) -> None:
    from playhead.platform.control import start_detached

    # What would end it at once is told here, and not in its log file.
    supervisor = _supervisor(invocation.workspace, only)
    with waiting("starting the platform"):
        status = start_detached(supervisor.workspace, timedelta(seconds=timeout), only=only)
    for name, url in (status.urls or {}).items():
        note(f"{name}: {url}")
    note(f"the platform runs (process {status.pid}); stop it: playhead down")


@command(app, panel=PANEL, examples=["playhead down"])
def down(
    invocation: Invocation,
    timeout: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="After this it is killed; that is safe, too."),
    ] = DOWN_S,
) -> None:
    """Stop the running platform, and wait until all of it is gone."""
    from playhead.platform.control import bring_down

    with waiting("stopping the platform"):
        ran = bring_down(invocation.workspace.absolute(), timedelta(seconds=timeout))
    note("the platform has stopped" if ran else "no platform runs in this workspace")


@command(app, panel=PANEL, examples=["playhead status", "playhead status --json"])
def status(invocation: Invocation, json: JsonOption = False) -> None:
    """Show how the running platform is: every part with its process, address and health.

    The exit status is 1 if a part is down, or if the platform ended without being stopped; it is
    0 if none runs.
    """
    from playhead.platform.control import platform_status

    found = platform_status(invocation.workspace.absolute())
    if json:
        write_json(found)
    else:
        _print_status(found)
    if found.is_down:
        raise typer.Exit(1)


def _print_status(found: "PlatformStatus") -> None:
    from rich.table import Table

    if found.state == "none":
        note("no platform runs in this workspace; start one: playhead up")
        return
    title = f"platform {found.state}, process {found.pid}"
    if found.state == "dead":
        title = f"the platform's process {found.pid} is gone; start it again: playhead up"
    table = Table(title=title, title_justify="left")
    for name in ("part", "pid", "state", "since (UTC)", "restarts", "address", "health"):
        table.add_column(name, justify="right" if name in ("pid", "restarts") else "left")
    for part in found.parts:
        table.add_row(*_row(part))
    print_table(table)


def _row(part: "PartStatus") -> tuple[str, ...]:
    return (
        part.name,
        str(part.pid or ""),
        part.state,
        f"{part.since:%Y-%m-%d %H:%M:%S}",
        str(part.restarts),
        part.address,
        part.health,
    )


@command(app, name="part", hidden=True)
def run_part(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as gateway-1 or speed.")],
    alive: Annotated[
        int | None, typer.Option(metavar="FD", help="Closes with the supervisor.")
    ] = None,
    listen: Annotated[int | None, typer.Option(metavar="FD", help="A listening socket.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Parts that share the socket.")] = 1,
) -> None:
    """Run one part of the platform; `playhead up` does."""
    from playhead.platform.working import Work, work

    told = Work(name, invocation.workspace.absolute(), alive, listen, workers)
    raise typer.Exit(work(told, _show_dashboards if name == "dashboard" else None))


def _show_dashboards(told: "Work", stop: threading.Event, beat: "Heartbeat") -> None:
    from playhead.dashboard import server

    if told.listen is None:
        raise typer.BadParameter("the dashboards need a socket: playhead up starts them")
    server.serve(told.workspace, told.listen, stop=stop, beat=beat)
