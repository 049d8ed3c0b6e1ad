"""Commands that answer: query, show."""

import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import Format, FormatOption, LimitOption, write
from playhead.cli.invocation import Invocation, command
from playhead.cli.terminal import note, stdout, waiting, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow as pa

    from playhead.serving import Answer, Coverage

app = typer.Typer()
PANEL = "Answers"
_TIMES = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]


@command(
    app,
    panel=PANEL,
    examples=[
        'playhead query "SELECT country, SUM(sessions) FROM engagement_health GROUP BY ALL"',
        'playhead query "SELECT * FROM monthly_engagement ORDER BY ALL" --format csv',
        'playhead query "SELECT * FROM quality_report" --format json --limit 10',
    ],
)
def query(
    invocation: Invocation,
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="One SELECT in DuckDB's dialect; - reads stdin.")
    ],
    format: FormatOption = Format.TABLE,  # noqa: A002
    limit: LimitOption = None,
) -> None:
    """Answer a SELECT over topics, dimensions and views, both layers merged as of now.

    Relations: every view by its name (see `playhead views`); the topics playback, search,
    impression and rating, cleaned and without duplicates; users, movies and pair_ratings;
    alerts, quality_report and quarantine. Queries are read-only.
    """
    text = sys.stdin.read() if sql == "-" else sql
    with invocation.open() as workspace:
        with waiting("querying"):
            answer = workspace.query(text).to_arrow()
            coverage = workspace.coverage(text)
        _warn_of(coverage)
        write(answer, format, limit=limit)


@command(
    app,
    panel=PANEL,
    examples=[
        "playhead show monthly_active_users",
        "playhead show device_quality --format json",
        "playhead show engagement_health --since '2025-06-01 18:00' --until 2025-06-02",
    ],
)
def show(
    invocation: Invocation,
    view: Annotated[str, typer.Argument(metavar="VIEW", help="The view's name.")],
    format: FormatOption = Format.TABLE,  # noqa: A002
    limit: LimitOption = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=_TIMES, metavar="TIME", help="Only windows from this time on (UTC)."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=_TIMES, metavar="TIME", help="Only windows before this time (UTC)."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often, with --watch.")
    ] = 1.0,
) -> None:
    """Show a view's answer, both layers merged as of now; the newest windows come first."""
    if watch and (format is not Format.TABLE or not stdout().is_terminal):
        raise typer.BadParameter("--watch draws a table on a terminal, and nothing else.")
    with invocation.open() as workspace:
        if watch:
            _watch(lambda: workspace.view(view, since=since, until=until), limit, every)
            return
        with waiting(f"merging {view}"):
            answer = workspace.view(view, since=since, until=until)
        _warn_of(answer.coverage)
        write(_in_order(answer), format, limit=limit)
        note(_made_of(answer))


def _watch(ask: "Callable[[], Answer]", limit: int | None, every: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from playhead.cli.tables import data_table, left_out

    console = stdout()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            answer = ask()
            table = _in_order(answer)
            # Frame, heading and the two lines below take seven lines of the screen.
            rows = min(limit or table.num_rows, table.num_rows, max(console.height - 7, 1))
            shown = data_table(table.slice(0, rows), width=console.width)
            told = Text(f"{left_out(shown, table, rows)}\n{_made_of(answer)}", style="dim")
            live.update(Group(shown, told), refresh=True)
            time.sleep(every)


def _in_order(answer: "Answer") -> "pa.Table":
    """The answer's rows: by the view's own ORDER BY, or the newest window first, then by column."""
    table = answer.to_arrow()
    view = answer.view
    if view.plans.ordered:
        return table
    from playhead.engines import connect

    window = view.window.key if view.window else None
    columns = [name for name in table.column_names if name != window]
    order = [f'"{window}" DESC'] if window else []
    order += [f'"{name}" NULLS LAST' for name in columns]
    with connect() as connection:
        connection.register("answer", table)
        sql = f"FROM answer ORDER BY {', '.join(order)}"
        return connection.execute(sql).to_arrow_table()


def _made_of(answer: "Answer") -> str:
    """What the answer is made of, in one line."""
    told = []
    for part in answer.coverage:
        batch = f"loads to {part.loads} and epochs to {part.batch_epoch} from batch"
        speed = f", epochs {_listed(part.speed_epochs)} from speed" if part.speed_epochs else ""
        told.append(f"{part.topic}: {batch}{speed}")
    if answer.watermark is not None:
        told.append(f"watermark {answer.watermark:%Y-%m-%d %H:%M:%S}")
    return "; ".join(dict.fromkeys(told))


def _listed(epochs: "Iterable[int]") -> str:
    first, *rest = list(epochs)
    return f"{first} to {rest[-1]}" if rest else str(first)


def _warn_of(coverage: "Iterable[Coverage]") -> None:
    mixed = dict.fromkeys(part.view for part in coverage if part.mixed)
    for view in mixed:
        warn(
            f"view {view}: some of its states were made with other versions of the dimensions "
            "than there are now; the next `playhead batch` heals them"
        )


__all__ = ["app"]
