"""Commands for refused events: dead-letters list, show, export, recover."""

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import Format, write, write_json, write_text
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import note, print_table, waiting, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playhead.batch.deadletters import Letter, ReasonCount, Wanted
    from playhead.batch.recover import Patch, RecoveryReport

PANEL = "Operations"
_TIMES = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]

app = typer.Typer(
    name="dead-letters",
    no_args_is_help=True,
    rich_help_panel=PANEL,
    help="Look at refused events, and send on those that are good after all.",
)


class By(StrEnum):
    """What letters are counted by."""

    REASON = "reason"


class Export(StrEnum):
    """How letters are written."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Only those whose reason holds it.")
]
TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help="Only those meant for this topic.")
]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        formats=_TIMES, metavar="TIME", help="Only those refused from this time on (UTC)."
    ),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option(formats=_TIMES, metavar="TIME", help="Only those refused before this time (UTC)."),
]
RecoveredOption = Annotated[
    bool, typer.Option("--recovered", help="Those that were recovered, not those that wait.")
]


@command(
    app,
    name="list",
    examples=["playhead dead-letters list", "playhead dead-letters list --by reason --json"],
)
def list_letters(
    invocation: Invocation,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    recovered: RecoveredOption = False,
    by: Annotated[
        By | None, typer.Option("--by", help="Count them by class of reason, with an example each.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="Letters or classes to show, at most.")
    ] = 50,
    json: JsonOption = False,
) -> None:
    """List refused events that wait, newest first, or count them by reason."""
    wanted = _wanted(reason, topic, since, until, recovered=recovered)
    with (
        invocation.open() as workspace,
        waiting("reading the dead letters"),
        workspace.dead_letters() as letters,
    ):
        total = letters.count(wanted)
        if by is None:
            newest = letters.newest(wanted, limit=limit)
            write(newest, Format.JSON if json else Format.TABLE, limit=limit)
        else:
            counts = letters.reasons(wanted, limit=limit)
            write_json(counts) if json else _print_counts(counts)
    note(f"{total:,} letter{'' if total == 1 else 's'} {'recovered' if recovered else 'waiting'}")


@command(app, examples=["playhead dead-letters show 5f0c2a"])
def show(
    invocation: Invocation,
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="The letter's id, or how it begins.")
    ],
    json: JsonOption = False,
) -> None:
    """Show one refused event: why, when and where from, and its bytes as they came."""
    with invocation.open() as workspace, workspace.dead_letters() as letters:
        letter = letters.letter(letter_id)
    if json:
        write_json(_told(letter))
    else:
        for name, value in _told(letter).items():
            shown = "" if value is None else _printable(str(value))
            write_text(f"{name + ':':<18}{shown}\n")


@command(
    app,
    examples=[
        "playhead dead-letters export",
        "playhead dead-letters export --reason rating --format parquet -o letters.parquet",
    ],
)
def export(
    invocation: Invocation,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    recovered: RecoveredOption = False,
    format: Annotated[  # noqa: A002
        Export, typer.Option("--format", "-f", help="JSON Lines, CSV or Parquet.")
    ] = Export.NDJSON,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else to stdout.")
    ] = None,
) -> None:
    """Write refused events with their bytes, newest first."""
    from playhead.ops.deadletters import export as write_out
    from playhead.ops.deadletters import export_to

    if format is Export.PARQUET and output is None:
        raise typer.BadParameter("Parquet is no text: name a file with --output.")
    wanted = _wanted(reason, topic, since, until, recovered=recovered)
    with invocation.open() as workspace, workspace.dead_letters() as letters:
        if output is None:
            sys.stdout.flush()
            written = write_out(letters, wanted, sys.stdout.buffer, format.value)
            sys.stdout.buffer.flush()
        else:
            written = export_to(letters, wanted, output, format.value)
    note(f"{written:,} letters written")


@command(
    app,
    examples=[
        "playhead dead-letters recover --dry-run",
        "playhead dead-letters recover --reason device_type --set device_type=Mobile",
    ],
)
def recover(
    invocation: Invocation,
    letter_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="One letter, or how its id begins.")
    ] = None,
    reason: ReasonOption = None,
    topic: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field: to JSON, or to text."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--unset", metavar="FIELD", help="Leave a field out.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Look at refused events again, and send those on that fit today's contracts, each once.

    An event's time is compared with when it was refused, not with now. What is still refused
    stays where it is. The same command again does no harm, whatever ended the one before.
    """
    patch = _patch(settings or (), without or ())
    wanted = _wanted(reason, topic, since, until, letter_id=letter_id)
    with invocation.open() as workspace, waiting("looking at the dead letters again"):
        report = workspace.recover(wanted, patch, dry_run=dry_run)
    if json:
        write_json({**vars(report), "dry_run": dry_run})
    else:
        _print_report(report, dry_run=dry_run)


def _wanted(
    reason: str | None,
    topic: str | None,
    since: datetime | None,
    until: datetime | None,
    *,
    letter_id: str | None = None,
    recovered: bool = False,
) -> "Wanted":
    from playhead.batch.deadletters import Wanted

    return Wanted(reason, topic, since, until, letter_id, recovered)


def _patch(settings: "Sequence[str]", without: "Sequence[str]") -> "Patch":
    """The patch of the options; what it cannot mean is wrong usage."""
    from playhead.batch.recover import Patch
    from playhead.errors import ContractError

    try:
        return Patch.parse(settings, without)
    except ContractError as error:
        raise typer.BadParameter(f"{error.message}. {error.hint or ''}".strip()) from error


def _told(letter: "Letter") -> dict[str, object]:
    """A letter with its body as text, where it is some."""
    import base64

    told: dict[str, object] = {
        name: value for name, value in vars(letter).items() if name != "body"
    }
    body = letter.body or b""
    try:
        told["body"] = body.decode()
    except UnicodeDecodeError:
        told["body_base64"] = base64.b64encode(body).decode()
    return told


def _printable(text: str) -> str:
    """Text with control characters as escapes: a client may mean them for the reader's terminal."""
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode()
        for one in text
    )


def _print_counts(counts: "Sequence[ReasonCount]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("reason")
    table.add_column("letters", justify="right")
    for name in ("first", "last", "example"):
        table.add_column(name, no_wrap=True)
    for one in counts:
        times = (f"{time:%Y-%m-%d %H:%M:%S}" for time in (one.first, one.last))
        table.add_row(Text(_printable(one.reason)), f"{one.letters:,}", *times, one.example)
    print_table(table)


def _print_report(report: "RecoveryReport", *, dry_run: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("topic")
    table.add_column("would be recovered" if dry_run else "recovered", justify="right")
    for topic, events in sorted(report.recovered.items()):
        table.add_row(Text(topic), f"{events:,}")
    print_table(table)
    for reason, letters in report.reasons.most_common():
        such = f"such as {report.examples[reason]}"
        warn(f"still refused: {letters:,} ({such}): {_printable(reason)}")
    note(f"{report.letters:,} letters looked at, {report.refused:,} still refused")


__all__ = ["app"]
