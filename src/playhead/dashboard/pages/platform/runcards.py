"""Batch runs as cards: what each did, how long it took, and its stages on demand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from nicegui import events, ui

from playhead.assemble import Workspace
from playhead.batch.journal import BatchRun, batch_runs
from playhead.dashboard.drawing.cards import ChartCard, TableCard
from playhead.dashboard.drawing.charts import bars
from playhead.dashboard.drawing.dialogs import dialog
from playhead.dashboard.drawing.parts import Options, Unit
from playhead.dashboard.drawing.tables import Column, data_table
from playhead.dashboard.numbers import duration
from playhead.dashboard.questions import Look, Reply

if TYPE_CHECKING:
    from playhead.dashboard.page import Page

__all__ = ["run_cards", "run_rows", "runs_chart", "stages_chart"]

_COUNT, _S = Unit(), Unit("s", 2)
_RUNS = 60
_DONE = {"done": "Done", "failed": "Failed", "abandoned": "Abandoned", "running": "Running"}


def runs(workspace: Workspace) -> list[BatchRun]:
    """The last batch runs, the newest first."""
    return batch_runs(workspace.path, _RUNS)


_LOOK = Look(runs, 3.0)
_RUN_COLUMNS = (
    Column("id", "Run"), Column("started", "Started (UTC)", note="why", is_whole=True),
    Column("took", "Took", is_whole=True), Column("status", "Status", note="error"),
    Column("epoch", "Epoch", _COUNT),
    Column("recomputed", "Views", _COUNT, "Views that were recomputed."),
    Column("rows", "State rows", _COUNT), Column("cleaned", "Cleaned rows", _COUNT),
)  # fmt: skip


def run_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    found: list[BatchRun] = replies[0].value
    return [
        {
            "id": run.id,
            "started": f"{run.started:%Y-%m-%d %H:%M:%S}",
            "took": duration(run.seconds),
            "status": _DONE[run.status],
            "why": run.why,
            "epoch": run.epoch,
            "recomputed": run.recomputed,
            "rows": run.rows,
            "cleaned": run.cleaned_rows,
            "error": run.error,
        }
        for run in found
    ]


def runs_chart(replies: Sequence[Reply]) -> Options:
    found: list[BatchRun] = replies[0].value
    if not found:
        return {}
    rows = [{"run": f"#{run.id}", "seconds": run.seconds, "status": _DONE[run.status]}
            for run in reversed(found)]  # fmt: skip
    return bars(
        pa.Table.from_pylist(rows), "run", {"seconds": "Seconds"}, _S, by="status", stacked=True
    )


def run_cards(page: "Page") -> None:
    """Their durations, and what each recomputed; both lead to the stages of one."""

    def opened(number: int) -> None:
        reply = page.board.feed.known(_LOOK)
        found = [] if reply is None or reply.value is None else reply.value
        for run in found:
            if run.id == number:
                _run_dialog(page, run)

    def clicked(event: events.EChartPointClickEventArguments) -> None:
        opened(int(str(event.name).removeprefix("#")))

    empty, hint = "No batch run was made yet.", "Start one: playhead batch."
    ChartCard(page, "Durations of batch runs", [_LOOK], runs_chart, width=4, height="320px",
              on_click=clicked, empty=empty, hint=hint,
              about="Seconds of each of the last runs. Click one for its stages.")  # fmt: skip
    TableCard(page, "Batch runs", [_LOOK], run_rows, _RUN_COLUMNS, width=8, rows_shown=7,
              on_open=lambda row: opened(int(row["id"])), searched=False, empty=empty, hint=hint,
              about="What each run recomputed; its button shows the seconds of its stages."
              )  # fmt: skip


def _run_dialog(page: "Page", run: BatchRun) -> None:
    with page.overlay, dialog(f"Batch run {run.id}", wide=True) as made:
        ui.label(
            f"{_DONE[run.status]}, {duration(run.seconds)}, started {run.started:%Y-%m-%d %H:%M:%S}"
            f" UTC by process {run.process}: {run.why}."
        ).classes("small")
        if run.error:
            ui.label(run.error).classes("body-text")
        if run.stages:
            options = stages_chart(run)
            ui.echart(options).classes("chart").style(
                f"height: {40 + 24 * len(run.stages)}px"
            ).props('role="img" aria-label="Seconds of each stage, a chart"')
        rows = [
            {"id": n, "view": v.view, "status": v.status, "days": v.days, "rows": v.rows,
             "reason": v.reason}
            for n, v in enumerate(run.views)
        ]  # fmt: skip
        columns = (Column("view", "View"), Column("status", "Status"),
                   Column("days", "Days", _COUNT), Column("rows", "State rows", _COUNT),
                   Column("reason", "Why"))  # fmt: skip
        data_table(rows, columns, 15, searched=False)
    made.open()


def stages_chart(run: BatchRun) -> Options:
    """The seconds of each stage of a run."""
    rows = [{"stage": stage.name, "seconds": stage.seconds} for stage in run.stages]
    table = pa.Table.from_pylist(rows)
    return bars(table, "stage", {"seconds": "Seconds"}, Unit("s", 3), across=True, names_px=170)
