"""Commands for API keys: keys create, list, revoke."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_json, write_text
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import note, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from playhead.keys import Key, KeyRing

PANEL = "Operations"

app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    rich_help_panel=PANEL,
    help="Make, list and revoke the keys with which programs write and read over HTTP.",
)


class ScopeName(StrEnum):
    """What a key may do."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"


@command(
    app,
    examples=[
        "playhead keys create web-player --scope write",
        "playhead keys create ingest --scope write --events-per-second 50000",
    ],
)
def create(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    scope: Annotated[
        list[ScopeName],
        typer.Option("--scope", help="What it may do; admin includes the others. May be repeated."),
    ],
    events_per_second: Annotated[
        int | None,
        typer.Option(
            "--events-per-second", min=1, help="Events that it may send a second; else no bound."
        ),
    ] = None,
) -> None:
    """Make a key and print it, this once: only its hash is kept.

    As soon as one key exists, every request needs one. Running servers know it within a second.
    """
    from playhead.keys import SCOPES

    scopes = [name for name in SCOPES if name in scope]
    key, secret = _ring(invocation).create(name, scopes, events_per_second=events_per_second)
    write_text(f"{secret}\n")
    sys.stdout.flush()
    note(f"key {key.id} ({name}) is made; it is shown this once, so keep it now")


@command(app, name="list", examples=["playhead keys list", "playhead keys list --json"])
def list_keys(invocation: Invocation, json: JsonOption = False) -> None:
    """List the keys, the revoked ones too; never their secrets."""
    keys = _ring(invocation).keys()
    if json:
        write_json([_told(key) for key in keys])
    elif keys:
        print_table(_table(keys))
    else:
        note("there are no keys: everything is open, on this machine only")


@command(app, examples=["playhead keys revoke web-player"])
def revoke(
    invocation: Invocation,
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="Its id, or its name if one active key has that name."),
    ],
) -> None:
    """Revoke a key for good. Running servers refuse it within a second.

    Revoking the last key closes the doors: every request is refused until there is a new one.
    """
    revoked = _ring(invocation).revoke(key)
    note(f"key {revoked.id} ({revoked.name}) is revoked")


def _ring(invocation: Invocation) -> "KeyRing":
    from playhead.keys import FILE, KeyRing

    with invocation.open() as workspace:
        return KeyRing(workspace.path / FILE)


def _told(key: "Key") -> dict[str, object]:
    told = {**vars(key), "scopes": sorted(key.scopes), "active": key.is_active}
    return {name: value for name, value in told.items() if name != "sha256"}


def _table(keys: "list[Key]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in ("id", "name", "scopes", "events/s", "created", "state"):
        table.add_column(column)
    for key in keys:
        table.add_row(
            key.id,
            Text(key.name),
            ", ".join(sorted(key.scopes)),
            "" if key.events_per_second is None else f"{key.events_per_second:,}",
            f"{key.created} UTC",
            "active" if key.revoked is None else f"revoked {key.revoked} UTC",
        )
    return table
