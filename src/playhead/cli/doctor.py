"""The command that looks at every part that the settings name: doctor."""

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.terminal import note, stdout, waiting

__all__ = ["app"]

app = typer.Typer()
PANEL = "Operations"

_STYLES = {"fine": "green", "warning": "yellow", "failed": "bold red"}
_WIDTH = max(map(len, _STYLES))


@command(app, panel=PANEL, examples=["playhead doctor", "playhead doctor --json"])
def doctor(invocation: Invocation, json: JsonOption = False) -> None:
    """Check every part that the settings name, and say what is wrong and what mends it.

    Versions, disk, views, event log and brokers, lake, catalog and object store (a small file is
    written there and deleted), clocks, Spark and Java, addresses. Changes nothing. One line a
    finding; the exit status is 0 unless something has failed.
    """
    from playhead.platform.doctor import State, diagnose

    with waiting("looking"):
        found = list(diagnose(invocation.workspace))
    if json:
        write_json(found)
    else:
        from rich.text import Text

        for check in found:
            state = (f"{check.state:<{_WIDTH}}  ", _STYLES[check.state])
            mend = f" -> {check.mend}" if check.mend else ""
            stdout().print(Text.assemble(state, f"{check.part}: {check.told}{mend}"))
        counts = [f"{sum(c.state == s for c in found)} {s}" for s in State]
        note(", ".join(counts))
    if any(check.state == State.FAILED for check in found):
        raise typer.Exit(1)
