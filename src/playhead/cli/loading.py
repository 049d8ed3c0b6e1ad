"""Commands that bring data in: init, generate, load, quality."""

from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import Tracker, fail, note, print_table, tracking, waiting, warn
from playhead.errors import LoadError

if TYPE_CHECKING:
    from rich.table import Table

    from playhead.assemble import Workspace
    from playhead.batch.load import LoadReport, Progress, TableLoad
    from playhead.batch.quality import Metric
    from playhead.testing.generate import GenerateSpec

app = typer.Typer()
PANEL = "Data"


class FileFormat(StrEnum):
    """What generated files are."""

    PARQUET = "parquet"
    CSV = "csv"


def _count(least: int, default: int, told: str) -> Any:
    return typer.Option(min=least, help=told, show_default=f"{default:,}")


@command(app, panel=PANEL, examples=["playhead init"])
def init(invocation: Invocation) -> None:
    """Make the folder a workspace, with its settings in playhead.toml.

    A folder that is a workspace already stays as it is.
    """
    from playhead.assemble import Workspace

    with Workspace.create(invocation.workspace) as workspace:
        note(f"{workspace.path} is a workspace; its settings are in playhead.toml")


@command(
    app,
    panel=PANEL,
    examples=["playhead generate data --users 500 --movies 50 --sessions 2000 --days 60"],
)
def generate(
    invocation: Invocation,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder; made if missing.")],
    users: Annotated[int | None, _count(1, 10_000, "Distinct users.")] = None,
    movies: Annotated[int | None, _count(1, 1_000, "Distinct titles.")] = None,
    sessions: Annotated[int | None, _count(0, 100_000, "Distinct playback sessions.")] = None,
    days: Annotated[int | None, _count(1, 731, "Length of the period, from 2024-01-01.")] = None,
    seed: Annotated[int | None, _count(0, 1, "Two runs of one seed give equal bytes.")] = None,
    dirt: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="0 is clean, 1 as dirty as the real data set.", show_default="1"
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        FileFormat, typer.Option("--format", "-f", help="What the files are.")
    ] = FileFormat.PARQUET,
) -> None:
    """Generate a data set: six files with the shapes, proportions and dirt of the real one.

    Searches, recommendations and reviews come in proportion to the sessions.
    """
    from playhead.testing.generate import GenerateSpec
    from playhead.testing.generate import generate as generate_files

    given: dict[str, Any] = {"users": users, "movies": movies, "sessions": sessions}
    given |= {"days": days, "seed": seed, "dirt": dirt}
    spec = GenerateSpec(**{name: value for name, value in given.items() if value is not None})
    with tracking() as tracker:
        written = generate_files(
            out, spec, format=format.value, progress=_RowsWritten(tracker, spec)
        )
    rows = ", ".join(f"{name} {count:,}" for name, count in written.items())
    note(f"{out} holds {sum(written.values()):,} rows: {rows}")


class _RowsWritten:
    """Shows the rows written of each file."""

    def __init__(self, tracker: Tracker, spec: "GenerateSpec") -> None:
        self._tracker, self._spec = tracker, spec
        self._rows: dict[str, int] = {}

    def __call__(self, name: str, rows: int) -> None:
        self._rows[name] = done = self._rows.get(name, 0) + rows
        total = sum(block.rows + block.repeats for block in self._spec.blocks(name))
        self._tracker.advance_to(name, done, total, f"{done:,} rows")


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date such as 2025-10-01.") from None


def _day_option(told: str, *names: str) -> Any:
    return typer.Option(*names, metavar="DATE", parser=_day, help=told)


@command(
    app,
    panel=PANEL,
    examples=["playhead load data --until 2024-02-25", "playhead load data --json"],
)
def load(
    invocation: Invocation,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Holds any of users, movies, watch_history, search_logs, recommendation_logs "
            "and reviews as CSV (.gz, too), Parquet or JSON Lines.",
        ),
    ],
    until: Annotated[
        date | None, _day_option("Only events dated before this day.", "--until")
    ] = None,
    since: Annotated[
        date | None, _day_option("Only events dated on or after this day.", "--since")
    ] = None,
    ignore_unknown_columns: Annotated[
        bool,
        typer.Option(
            "--ignore-unknown-columns", help="Leave out columns that no contract has; else fail."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Load a folder of files, clean them, and report on their quality.

    Rows that break their contract go to the relation `quarantine`, with file, line and reason.
    Loading the same file twice changes nothing, and a load that was killed is finished by
    loading again.
    """
    with invocation.open() as workspace:
        with tracking() as tracker:
            report = workspace.load(
                folder,
                until=until,
                since=since,
                ignore_unknown=ignore_unknown_columns,
                progress=_BytesRead(tracker),
            )
        _check_any(report, folder)
        if json:
            tables = [_as_dict(entry) for entry in report.tables]
            write_json({"tables": tables, "quality": report.quality})
        else:
            _print_load(report)
        _tell_problems(report, folder, workspace)
    for entry in report.failed:
        if entry.error is not None:
            fail(entry.error, debug=invocation.debug)
    if report.failed:
        raise typer.Exit(1)


class _BytesRead:
    """Shows how much of each file was read."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def __call__(self, at: "Progress") -> None:
        self._tracker.advance_to(at.table, at.bytes_read, at.bytes_total, f"{at.rows:,} rows")


def _as_dict(entry: "TableLoad") -> dict[str, Any]:
    return {name: value for name, value in vars(entry).items() if name != "quality"}


def _print_load(report: "LoadReport") -> None:
    from playhead.batch.quality import headline

    print_table(_load_table(report))
    dropped = _dropped_table(report)
    if dropped.row_count:
        print_table(dropped)
    if report.quality:
        print_table(f"quality: {headline(report.quality)}")


def _load_table(report: "LoadReport") -> "Table":
    from rich.table import Table

    table = Table()
    for name in ("table", "status"):
        table.add_column(name)
    for name in ("rows", "outside", "quarantined", "dropped", "written"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in report.tables:
        dropped = sum(entry.dropped.values())
        counts = (entry.read, entry.outside, entry.quarantined, dropped, entry.written)
        told = [f"{count:,}" for count in counts] if entry.status == "loaded" else []
        table.add_row(entry.table, entry.status, *told)
    return table


def _dropped_table(report: "LoadReport") -> "Table":
    from rich.table import Table

    table = Table(title="dropped by rule", title_justify="left")
    table.add_column("table")
    table.add_column("rule")
    table.add_column("rows", justify="right")
    for entry in report.tables:
        for rule, count in entry.dropped.items():
            if count:
                table.add_row(entry.table, rule, f"{count:,}")
    return table


def _check_any(report: "LoadReport", folder: Path) -> None:
    if all(entry.status == "missing" for entry in report.tables):
        raise LoadError(
            f"{folder} holds none of {', '.join(entry.file for entry in report.tables)}",
            hint="Give the folder that holds users.csv, watch_history.csv and the rest.",
        )


def _tell_problems(report: "LoadReport", folder: Path, workspace: "Workspace") -> None:
    """Name what is missing, what was ignored, and what to do next."""
    for entry in report.tables:
        if entry.status == "missing":
            warn(f"no {entry.file} in {folder}{_waiting_views(workspace, entry.table)}")
        if entry.ignored:
            warn(f"{entry.file}: ignored {', '.join(entry.ignored)}")
        if entry.quarantined:
            warn(f"{entry.file}: {entry.quarantined:,} rows are in the relation quarantine")
    if any(entry.status == "loaded" for entry in report.tables):
        note("playhead batch brings the views up to date")


def _waiting_views(workspace: "Workspace", table: str) -> str:
    """Which views need a table that is missing, as the end of a sentence."""
    needing = [
        view.name
        for view in workspace.views.values()
        if table in {lookup.dimension for leaf in view.leaves for lookup in leaf.lookups}
        or table in view.plans.dimensions
        or table in view.topics
    ]
    return f"; needed by {', '.join(needing)}" if needing else ""


@command(app, panel=PANEL, examples=["playhead quality", "playhead quality --json"])
def quality(invocation: Invocation, json: JsonOption = False) -> None:
    """Show the quality report of each table's last load.

    The report of every load is the relation `quality_report`.
    """
    with invocation.open() as workspace, waiting("reading the report"):
        metrics = workspace.quality()
    if not metrics:
        raise LoadError("nothing was loaded yet", hint="Run `playhead load DIR`.")
    if json:
        write_json(metrics)
    else:
        _print_quality(metrics)


def _print_quality(metrics: "list[Metric]") -> None:
    from playhead.batch.quality import render

    print_table(render(metrics))
