"""The command that sends recorded events: replay."""

import threading
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.invocation import Invocation, command
from playhead.cli.layers import PANEL
from playhead.cli.signals import stopping_on_signals
from playhead.cli.terminal import Tracker, note, tracking, warn

if TYPE_CHECKING:
    from playhead.batch.load import Progress
    from playhead.batch.replay import Pace, ReplayReport, Sending

app = typer.Typer()


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date or time such as 2025-10-01.") from None


@command(
    app,
    panel=PANEL,
    examples=[
        "playhead replay data --from 2024-02-25 --rate max",
        "playhead replay rating --rate 500",
    ],
)
def replay(
    invocation: Invocation,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder or file of recorded events (CSV, Parquet, JSON Lines, part files, too), "
            "or a loaded topic: playback, search, impression, rating.",
        ),
    ],
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="N|max", help="Events a second.", show_default="5"),
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option("--speed", metavar="FACTOR", help="By the events' own clock: 60x, 0.5x."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from", metavar="TIME", parser=_moment, help="Only events from this date or time on."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--to", metavar="TIME", parser=_moment, help="Only events before this date or time."
        ),
    ] = None,
    topics: Annotated[
        list[str] | None,
        typer.Option("--topic", metavar="TOPIC", help="Only this topic; may be repeated."),
    ] = None,
    ignore_unknown_columns: Annotated[
        bool,
        typer.Option(
            "--ignore-unknown-columns", help="Leave out columns that no contract has; else fail."
        ),
    ] = False,
) -> None:
    """Send recorded events to the event log, in the order of their times, as if they came now.

    Sending an event again does no harm: repeats of an event_id count once. The files of the data
    set have dates only; each event gets a time of day made from its id, the same on every run,
    with an evening peak. SIGTERM or Ctrl-C ends it between two events.
    """
    from playhead.batch.replay import ReplaySpec
    from playhead.contracts import TOPICS

    spec = ReplaySpec(
        pace=_pace(rate, speed),
        since=since,
        until=until,
        topics=tuple(topics or ()),
        ignore_unknown=ignore_unknown_columns,
    )
    is_topic = source in TOPICS and not Path(source).exists()
    stop = threading.Event()
    with invocation.open() as workspace, stopping_on_signals(stop), tracking() as tracker:
        report = workspace.replay(
            source if is_topic else Path(source), spec, stop=stop, progress=_Replaying(tracker)
        )
    _tell_replay(report)


def _pace(rate: str | None, speed: str | None) -> "Pace":
    """The pace of the two options; what they cannot mean is wrong usage."""
    from playhead.batch.replay import read_pace
    from playhead.errors import SettingError

    try:
        return read_pace(rate, speed)
    except SettingError as error:
        raise typer.BadParameter(f"{error.message}. {error.hint or ''}".strip()) from error


class _Replaying:
    """Shows what was read of each file, then what was sent."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def __call__(self, at: "Progress | Sending") -> None:
        from playhead.batch.replay import Sending

        if isinstance(at, Sending):
            told = f"{at.sent:,} events, to {at.event_time:%Y-%m-%d %H:%M}"
            self._tracker.advance_to("sent", at.sent, at.total, told)
        else:
            told = f"{at.rows:,} rows"
            self._tracker.advance_to(f"reading {at.table}", at.bytes_read, at.bytes_total, told)


def _tell_replay(report: "ReplayReport") -> None:
    rate = f" in {report.seconds:.1f} s" if report.seconds >= 0.1 else ""
    each = ", ".join(f"{entry.topic} {entry.sent:,}" for entry in report.topics)
    note(f"{report.sent:,} events sent{rate}: {each}" if each else "no events sent")
    for entry in report.topics:
        if entry.rows.quarantined or entry.rows.refused:
            warn(
                f"{entry.origin}: {entry.rows.quarantined:,} rows break the contract and "
                f"{entry.rows.refused:,} have no key; they were not sent"
            )
    if report.next_time is not None:
        note(f"go on with --from {report.next_time.isoformat()}")
