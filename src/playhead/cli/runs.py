"""The command that shows what became of batch runs: runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import note, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from playhead.batch.journal import BatchRun

app = typer.Typer()
PANEL = "Operations"

_STYLES = {"failed": "bold red", "abandoned": "red", "running": "cyan", "done": "green"}


@command(app, panel=PANEL, examples=["playhead runs", "playhead runs --limit 100 --json"])
def runs(
    invocation: Invocation,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Runs to show.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show the last batch runs, the newest first: when, how long, what became of them.

    A run whose process died within it is abandoned; the next one does what it left. The last
    thousand runs are kept.
    """
    from playhead.batch.journal import batch_runs

    with invocation.open() as workspace:
        found = batch_runs(workspace.path, limit)
    if json:
        write_json(found)
        return
    if not found:
        note("no batch run is known")
        return
    print_table(_table(found))


def _table(found: "list[BatchRun]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("started (UTC)", no_wrap=True)
    table.add_column("seconds", justify="right")
    table.add_column("status")
    table.add_column("engine")
    table.add_column("why")
    for name in ("epoch", "views", "state rows", "cleaned rows"):
        table.add_column(name, justify="right")
    for run in found:
        told = Text(run.status, style=_STYLES.get(run.status, ""))
        table.add_row(
            f"{run.started:%Y-%m-%d %H:%M:%S}",
            f"{run.seconds:,.1f}",
            told,
            run.engine,
            Text(_why(run)),
            "-" if run.epoch is None else f"{run.epoch}",
            f"{run.recomputed}",
            f"{run.rows:,}",
            f"{run.cleaned_rows:,}",
        )
    return table


def _why(run: "BatchRun") -> str:
    """Why it was started, and what it is at, or what stopped it."""
    parts = [run.why]
    if run.stage:
        parts.append(f"in {run.stage!r}")
    if run.error:
        parts.append(run.error)
    return "; ".join(parts)


__all__ = ["app"]
