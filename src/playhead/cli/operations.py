"""Commands that keep a workspace whole: verify, rebuild."""

from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import note, print_table, stdout, tracking

if TYPE_CHECKING:
    from playhead.ops import Finding, RebuildReport, VerifyReport

app = typer.Typer()
PANEL = "Operations"

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


@command(app, panel=PANEL, examples=["playhead verify", "playhead verify --quick --json"])
def verify(
    invocation: Invocation,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Look at sizes, offsets and tables only: no bytes, no states"),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check everything that lasts, and say what is wrong and which command mends it.

    Checksums of the event log, of every file of the lake and of state; the lake against the
    event log by offsets; cleaned tables and states against recomputation, by day and epoch.
    Changes nothing, and may run beside everything else. One line a finding; the exit status is
    0 if there is no error and no warning, else 1.
    """
    from playhead.ops import verify as run

    with invocation.open() as workspace, tracking() as tracker:
        report = run(workspace, quick=quick, told=tracker.advance_to)
    if json:
        write_json({"clean": report.clean, **vars(report)})
    else:
        _print_findings(report)
    if not report.clean:
        raise typer.Exit(1)


def _print_findings(report: "VerifyReport") -> None:
    for finding in report.findings:
        _print_finding(finding)
    counts = ", ".join(f"{number:,} {what}" for what, number in report.checked.items())
    note(f"{'clean' if report.clean else 'damage found'}: looked at {counts or 'nothing'}")


def _print_finding(finding: "Finding") -> None:
    from rich.text import Text

    severity = (f"{finding.severity}: ", _STYLES[finding.severity])
    mend = f" -> {finding.mend}" if finding.mend else ""
    stdout().print(Text.assemble(severity, f"{finding.place}: {finding.what}{mend}"))


@command(app, panel=PANEL, examples=["playhead rebuild --all"])
def rebuild(
    invocation: Invocation,
    views: Annotated[
        list[str] | None, typer.Argument(metavar="VIEWS", help="Views to make anew.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All views; before that, mend the event log and the raw tables from each other, "
            "and make the cleaned tables anew.",
        ),
    ] = False,
    drop_lost: Annotated[
        bool,
        typer.Option(
            "--drop-lost", help="With --all: drop damaged dimensions, to load their files again."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Drop the states of some views, of both layers, and make them anew from the lake and the log.

    Not while the speed layer, a load or a batch run is at work. What cannot be mended is named,
    with what is lost; nothing is made from damaged data then, and the exit status is 1.
    """
    from playhead.ops import rebuild as run

    if bool(views) == everything:
        raise typer.BadParameter("name views, or say --all")
    with invocation.open() as workspace, tracking() as tracker:
        report = run(
            workspace,
            views or (),
            everything=everything,
            drop_lost=drop_lost,
            on_stage=lambda stage: tracker.advance_to("rebuild", 0, None, stage),
        )
    if json:
        write_json(report)
    else:
        _print_rebuild(report)
    if report.lost:
        raise typer.Exit(1)


def _print_rebuild(report: "RebuildReport") -> None:
    from rich.table import Table

    for one in report.mended:
        stdout().print(f"{'lost' if one.lost else 'mended'}: {one.place}: {one.what}", markup=False)
    if report.batch is None:
        note("nothing was recomputed: mend what is lost first")
        return
    table = Table(title=f"views, up to epoch {report.batch.epoch}", title_justify="left")
    for name in ("view", "status", "why"):
        table.add_column(name)
    for name in ("days", "state rows"):
        table.add_column(name, justify="right")
    for run in report.batch.views:
        if run.view in report.views:
            table.add_row(run.view, run.status, run.reason, f"{run.days:,}", f"{run.rows:,}")
    print_table(table)
