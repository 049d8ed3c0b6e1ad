"""The command that says what a load needs: plan."""

import math
import re
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_json, write_text
from playhead.cli.invocation import Invocation, command
from playhead.cli.terminal import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playhead.ops.capacity import CapacityPlan

app = typer.Typer()
PANEL = "Platform"

_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([mhdwy])", re.ASCII)
_NEEDS = ("part", "what", "needs", "arithmetic")
FIGURE_COLUMNS = ("figure", "value", "unit", "basis", "where it comes from")
_FROM_RIGHT = ("needs", "value")


class PlanFormat(StrEnum):
    """How a plan is written."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def duration(text: str) -> timedelta:
    """A duration such as "90m", "12h", "7d", "8w" or "2y" (of 365 days).

    Raises:
        BadParameter: it is none, or is not above 0.
    """
    found = _DURATION.fullmatch(text.strip())
    try:
        length = float(found[1]) * _UNITS[found[2]] if found else timedelta(0)
    except OverflowError:
        length = timedelta(0)
    if not length:
        raise typer.BadParameter(f"{text!r} is no duration such as 90m, 12h, 7d, 8w or 2y.")
    return length


def _is_duration(text: str) -> str:
    duration(text)
    return text


def _above_zero(value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise typer.BadParameter(f"{value:g} is not above 0.")
    return value


def _at_least_one(value: float) -> float:
    if not (value >= 1 and math.isfinite(value)):
        raise typer.BadParameter(f"{value:g} is not at least 1.")
    return value


@command(
    app,
    panel=PANEL,
    examples=[
        "playhead plan --events-per-second 50000",
        "playhead plan --events-per-second 500000 --peak-factor 2 --retention 3d --history 1y",
        "playhead plan --events-per-second 2000 --history 90d --format json",
    ],
)
def plan(
    _invocation: Invocation,
    events_per_second: Annotated[
        float,
        typer.Option(
            metavar="N", callback=_above_zero, help="Events that come in, on average over a day."
        ),
    ],
    peak_factor: Annotated[
        float,
        typer.Option(
            metavar="TIMES", callback=_at_least_one, help="The highest rate, in averages."
        ),
    ] = 3.0,
    event_bytes: Annotated[
        float,
        typer.Option(metavar="BYTES", callback=_above_zero, help="An event as JSON, uncompressed."),
    ] = 350.0,
    retention: Annotated[
        str,
        typer.Option(metavar="TIME", callback=_is_duration, help="How long brokers keep events."),
    ] = "7d",
    history: Annotated[
        str, typer.Option(metavar="TIME", callback=_is_duration, help="How long the lake does.")
    ] = "2y",
    users: Annotated[int, typer.Option(min=0, help="Distinct users of the service.")] = 1_000_000,
    replication: Annotated[
        int, typer.Option(min=1, max=9, help="Copies of an event on brokers.")
    ] = 3,
    batch_every: Annotated[
        str,
        typer.Option(metavar="TIME", callback=_is_duration, help="From batch run to batch run."),
    ] = "1d",
    format: Annotated[  # noqa: A002
        PlanFormat, typer.Option("--format", "-f", help="Tables to read, JSON, or Markdown.")
    ] = PlanFormat.TABLE,
) -> None:
    """Say what a load of events needs: gateways, brokers, Spark, storage, with the arithmetic.

    Every line shows its formula with the numbers put in; below are the figures that they rest
    on, and where each comes from. Times are such as 90m, 12h, 7d, 8w or 2y. No workspace is
    needed.

    The layers run embedded in this version; what is planned for Spark is for when it takes their
    place.
    """
    from playhead.ops.capacity import Load
    from playhead.ops.capacity import plan as plan_for

    made = plan_for(
        Load(
            events_per_second,
            peak_factor,
            event_bytes,
            duration(retention),
            duration(history),
            users,
            replication,
            duration(batch_every),
        )
    )
    if format is PlanFormat.JSON:
        write_json(_as_json(made))
    elif format is PlanFormat.MARKDOWN:
        write_text(f"{made.verdict}\n\n{markdown(_NEEDS, _needs(made))}")
    else:
        _print(made)


# -- what is shown -----------------------------------------------------------------------


def _needs(made: "CapacityPlan") -> list[tuple[str, ...]]:
    return [(line.part, line.what, line.shown, line.arithmetic) for line in made.lines]


def figure_rows() -> list[tuple[str, ...]]:
    """The figures that plans are made from, as rows of text."""
    from playhead.ops.figures import FIGURES

    return [
        (name, f"{one.value:,.6g}" if one.value < 1_000 else f"{one.value:,.0f}", one.unit,
         one.basis.value, one.source)
        for name, one in FIGURES.items()
    ]  # fmt: skip


def markdown(columns: "Sequence[str]", rows: "Sequence[Sequence[str]]") -> str:
    """Rows as a table in Markdown."""
    rule = ["---:" if name in _FROM_RIGHT else "---" for name in columns]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    lines.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(lines) + "\n"


def _print(made: "CapacityPlan") -> None:
    from rich.table import Table
    from rich.text import Text

    print_table(Text(made.verdict))
    for columns, rows in ((_NEEDS, _needs(made)), (FIGURE_COLUMNS, figure_rows())):
        table = Table()
        for name in columns:
            table.add_column(name, justify="right" if name in _FROM_RIGHT else "left")
        for cells in rows:
            table.add_row(*(Text(cell) for cell in cells))
        print_table(table)


def _as_json(made: "CapacityPlan") -> dict[str, object]:
    from playhead.ops.figures import FIGURES

    load = {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in vars(made.load).items()
    }
    return {
        "load": {_JSON_NAMES.get(name, name): value for name, value in load.items()},
        "one_machine_is_enough": made.fits_one_machine,
        "verdict": made.verdict,
        "one_machine": made.one_machine,
        "lines": made.lines,
        "figures": FIGURES,
    }


_JSON_NAMES = {name: f"{name}_s" for name in ("retention", "history", "batch_every")}

__all__ = ["FIGURE_COLUMNS", "app", "duration", "figure_rows", "markdown"]
