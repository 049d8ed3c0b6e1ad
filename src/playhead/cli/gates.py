"""The command that shows how good ingestion is: gates."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import print_table, stdout, warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table
    from rich.text import Text

    from playhead.ops.gates import Gate, Value

app = typer.Typer()
PANEL = "Operations"

_STYLES = {"pass": "green", "fail": "bold red", "unknown": "dim"}


@command(app, panel=PANEL, examples=["playhead gates", "playhead gates --json"])
def gates(
    invocation: Invocation,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show them anew again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often, with --watch.")
    ] = 2.0,
    json: JsonOption = False,
) -> None:
    """Show the quality gates of ingestion: each with its limit, and whether it is kept.

    Measured over the last 5 minutes, hour and day. A gate's status is that of the shortest of
    these in which there was something to measure. The exit status is 1 if a gate fails, else 0;
    one that is unknown does not fail.
    """
    from playhead.ops.gates import measure

    if watch and (json or not stdout().is_terminal):
        raise typer.BadParameter("--watch draws a table on a terminal, and nothing else.")
    with invocation.open() as workspace:
        if watch:
            _watch(lambda: measure(workspace), every)
        measured = measure(workspace)
    if json:
        write_json([{"status": gate.status, **vars(gate)} for gate in measured])
    else:
        print_table(_table(measured))
        for gate in measured:
            if gate.status == "fail":
                warn(f"{gate.name}: {gate.now.reason}")
    if any(gate.status == "fail" for gate in measured):
        raise typer.Exit(1)


def _watch(ask: "Callable[[], list[Gate]]", every: float) -> None:
    from rich.live import Live

    with Live(console=stdout(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_table(ask()), refresh=True)
            time.sleep(every)


def _table(measured: "list[Gate]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("gate")
    table.add_column("limit", justify="right")
    for span in measured[0].values:
        table.add_column(f"last {span}", justify="right")
    table.add_column("status")
    for gate in measured:
        limit = f"{gate.comparator} {gate.limit:g} {gate.unit}"
        values = (_shown(gate, value) for value in gate.values.values())
        status = Text(gate.status, style=_STYLES[gate.status])
        table.add_row(gate.name, limit, *values, status)
    return table


def _shown(gate: "Gate", value: "Value") -> "Text":
    from rich.text import Text

    if value.value is None:
        return Text("-", style="dim")
    digits = f"{value.value:.6g}" if gate.unit == "%" else f"{value.value:,.3g}"
    return Text(f"{digits} {gate.unit}", style="" if value.status == "pass" else "red")


__all__ = ["app"]
