"""Commands that run the layers: batch, speed."""

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.formats import write_json
from playhead.cli.invocation import Invocation, JsonOption, command
from playhead.cli.signals import stopping_on_signals
from playhead.cli.status import SpeedStatus
from playhead.cli.terminal import Tracker, print_table, tracking, warn

if TYPE_CHECKING:
    from playhead.assemble import BatchReport

app = typer.Typer()
PANEL = "Layers"
CLEANING_STAGES = 5
"""Four topics and the rating pairs, before the views."""


@command(app, panel=PANEL, examples=["playhead batch", "playhead batch --full --json"])
def batch(
    invocation: Invocation,
    full: Annotated[
        bool, typer.Option("--full", help="Recompute every day of every view from raw events.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Clean what is new in the lake and recompute the views' days that changed.

    A new view, or a dimension that changed, makes a run over all days, and the report says so.
    The speed layer may run meanwhile.
    """
    with invocation.open() as workspace, tracking() as tracker:
        stages = _Stages(tracker, len(workspace.views))
        report = workspace.batch(full=full, on_stage=stages)
    if json:
        write_json(report)
    else:
        _print_batch(report)
    for run in report.views:
        if run.status == "waits":
            warn(f"view {run.view} waits: {run.reason}")


class _Stages:
    """Shows which stage of a batch run is being worked on."""

    def __init__(self, tracker: Tracker, views: int) -> None:
        self._tracker = tracker
        self._done, self._total = 0, views + CLEANING_STAGES

    def __call__(self, stage: str) -> None:
        self._tracker.advance_to("batch", self._done, self._total, stage)
        self._done += 1


def _print_batch(report: "BatchReport") -> None:
    from rich.table import Table

    cleaned = Table(title="cleaned", title_justify="left")
    cleaned.add_column("topic")
    for name in ("new rows", "dropped", "written"):
        cleaned.add_column(name, justify="right")
    for topic in report.cleaned:
        counts = (topic.rows, sum(topic.dropped.values()), topic.written)
        cleaned.add_row(topic.topic, *(f"{count:,}" for count in counts))
    views = Table(title=f"views, up to epoch {report.epoch}", title_justify="left")
    for name in ("view", "status", "why"):
        views.add_column(name)
    for name in ("days", "state rows"):
        views.add_column(name, justify="right")
    for run in report.views:
        views.add_row(run.view, run.status, run.reason, f"{run.days:,}", f"{run.rows:,}")
    print_table(cleaned)
    print_table(views)


@command(app, panel=PANEL, examples=["playhead speed --drain"])
def speed(
    invocation: Invocation,
    drain: Annotated[
        bool,
        typer.Option("--drain", help="End once all that is in the event log is in state."),
    ] = False,
) -> None:
    """Run the speed layer: take in what comes into the event log, a quarter of a second behind.

    On SIGTERM or Ctrl-C it finishes what it has read, seals the epoch into the lake and exits
    with 0; a second Ctrl-C ends it at once, and nothing is lost by that either.
    """
    stop = threading.Event()
    with (
        invocation.open() as workspace,
        stopping_on_signals(stop),
        SpeedStatus(workspace) as status,
    ):
        workspace.speed(
            stop, drain=drain, on_step=lambda step: status.step(step) if step.events else None
        )
