"""Commands that explain: views, contracts."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli.explain import print_plan, print_view, view_as_dict, window_name
from playhead.cli.formats import write_json, write_text
from playhead.cli.invocation import (
    Invocation,
    JsonOption,
    command,
    shown_examples,
    with_invocation,
)
from playhead.cli.terminal import print_table, stdout, waiting

if TYPE_CHECKING:
    from rich.table import Table

    from playhead.assemble import ViewStatus

PANEL = "Answers"
app = typer.Typer()
views_app = typer.Typer(rich_markup_mode="rich")
app.add_typer(
    views_app,
    name="views",
    rich_help_panel=PANEL,
    invoke_without_command=True,
    epilog=shown_examples(["playhead views", "playhead views --json"]),
)


class PlanName(StrEnum):
    """The plans of a view."""

    FULL = "full"
    PARTIAL = "partial"
    MERGE = "merge"
    FINAL = "final"


class Dialect(StrEnum):
    """SQL dialects that a plan can be written in."""

    DUCKDB = "duckdb"
    SPARK = "spark"
    BIGQUERY = "bigquery"


class ContractFormat(StrEnum):
    """How a contract is written."""

    TABLE = "table"
    AVRO = "avro"
    JSON = "json"


@views_app.callback()
@with_invocation
def views(invocation: Invocation, context: typer.Context, json: JsonOption = False) -> None:
    """List the views: what they say, and whether they have an answer now.

    A view is one SELECT over events in a file NAME.sql, in the library or in the workspace's
    folder `views`. A new or changed one waits for the next `playhead batch`.
    """
    if context.invoked_subcommand is not None:
        return
    with invocation.open() as workspace:
        with waiting("looking at the views"):
            statuses = workspace.statuses()
        if json:
            write_json([_listed(status) for status in statuses])
        else:
            print_table(_views_table(statuses))


def _listed(status: "ViewStatus") -> dict[str, Any]:
    view = status.view
    return {
        "name": view.name,
        "description": view.header.description,
        "columns": list(view.columns),
        "window": window_name(view),
        "ready": status.ready,
        "reason": status.reason,
    }


def _views_table(statuses: "list[ViewStatus]") -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("name", no_wrap=True, style="bold")
    table.add_column("what it answers")
    table.add_column("columns", justify="right")
    table.add_column("window", no_wrap=True)
    table.add_column("ready")
    for status in statuses:
        view = status.view
        said = view.header.description.splitlines()[:1]
        ready = "yes" if status.ready else status.reason.removeprefix(f"view {view.name} ")
        table.add_row(
            view.name, *said or [""], str(len(view.columns)), window_name(view) or "", ready
        )
    return table


@command(
    views_app,
    name="show",
    examples=[
        "playhead views show engagement_health",
        "playhead views show monthly_engagement --sql partial",
    ],
)
def show_view(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The view's name.")],
    sql: Annotated[
        PlanName | None, typer.Option("--sql", help="Print only the SQL of this plan.")
    ] = None,
    dialect: Annotated[
        Dialect, typer.Option("--dialect", help="The SQL dialect of that plan.")
    ] = Dialect.DUCKDB,
    json: JsonOption = False,
) -> None:
    """Explain a view: columns, keys, state and its aggregates, lineage, coverage, SQL."""
    from playhead.serving import find_view

    with invocation.open() as workspace:
        view = find_view(workspace.views, name)
        if sql is not None:
            print_plan(view, sql.value, dialect.value)
            return
        status = workspace.status(view)
        coverage = workspace.session.coverage(view) if status.ready else ()
    if json:
        write_json(view_as_dict(status, coverage))
    else:
        print_view(status, coverage)


@command(
    app,
    panel=PANEL,
    examples=["playhead contracts", "playhead contracts playback --format avro"],
)
def contracts(
    invocation: Invocation,
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="A topic or dimension; all by default.")
    ] = None,
    format: Annotated[  # noqa: A002
        ContractFormat, typer.Option("--format", "-f", help="A table, the Avro schema, or JSON.")
    ] = ContractFormat.TABLE,
    json: JsonOption = False,
) -> None:
    """Show what an event of a topic, or a row of a dimension, looks like.

    Each field's type, whether it is required, and what it means.
    """
    from playhead.contracts import contract
    from playhead.contracts.describe import describe, describe_all, overview, table

    chosen = ContractFormat.JSON if json else format
    if chosen is ContractFormat.TABLE and stdout().is_terminal:
        print_table(table(contract(topic)) if topic else overview())
        return
    text = describe(contract(topic), chosen.value) if topic else describe_all(chosen.value)
    write_text(text)
