"""Commands about Spark: spark conf."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_text
from playhead.cli.invocation import Invocation, command
from playhead.cli.terminal import print_table

if TYPE_CHECKING:
    from rich.table import Table

    from playhead.engines.spark.conf import Setting

__all__ = ["app"]

PANEL = "Operations"

app = typer.Typer(
    name="spark",
    no_args_is_help=True,
    rich_help_panel=PANEL,
    help="Show how Spark, the engine of a cluster, is set up.",
)


class ConfFormat(StrEnum):
    """How settings are written."""

    TABLE = "table"
    PROPERTIES = "properties"


@command(
    app,
    examples=[
        "playhead spark conf",
        "playhead spark conf --profile ml-training --format properties",
    ],
)
def conf(
    invocation: Invocation,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help="etl, recommendation or ml-training, instead of the setting spark.profile.",
        ),
    ] = None,
    as_format: Annotated[
        ConfFormat,
        typer.Option(
            "--format", help="A table, or a file that spark-submit reads as --properties-file."
        ),
    ] = ConfFormat.TABLE,
) -> None:
    """Show the settings with which Spark runs here, and why each has its value.

    They come from the settings in section [spark], and from the file that spark.options_file
    names; passwords and keys are not shown.
    """
    from dataclasses import replace

    from playhead.config import read_settings
    from playhead.engines.spark.conf import as_properties, is_secret, read_options, session_settings

    settings = read_settings(invocation.workspace).spark
    if profile is not None:
        settings = replace(settings, profile=profile)
    named = settings.options_file
    options = read_options(invocation.workspace / named) if named else ()
    found = [
        replace(one, value="(hidden)") if is_secret(one) else one
        for one in session_settings(settings, options)
    ]
    if as_format is ConfFormat.PROPERTIES:
        write_text(as_properties(found))
    else:
        print_table(_table(found))


def _table(found: "Sequence[Setting]") -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("setting", no_wrap=True)
    table.add_column("value")
    table.add_column("why")
    for one in found:
        table.add_row(one.name, one.value, one.why)
    return table
