"""What each view's answer is made of, as a table: loads and epochs, batch and speed."""

from collections.abc import Sequence

from playhead.dashboard.drawing.marked import Cell, Mark, MarkedTable, Strip
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.numbers import duration, shown, size
from playhead.dashboard.questions import Reply
from playhead.ops.flow import Flow, ViewFlow

__all__ = ["coverage_table", "spans"]

_COLUMNS = (
    Column("view", "View"),
    Column("ready", "Answer"),
    Column("batch", "Batch layer covers"),
    Column("speed", "Speed layer adds"),
    Column("made", "State rows", None, "Rows of state that are merged into an answer."),
    Column("size", "State size", None, "Batch and speed; of the speed layer, before compaction."),
    Column("built", "Batch states of (UTC)"),
)


def coverage_table(replies: Sequence[Reply]) -> MarkedTable:
    """The views of a flow, those without an answer first."""
    flow: Flow = replies[0].value
    views = sorted(flow.views, key=lambda view: (view.ready, view.view))
    return MarkedTable(_COLUMNS, [_row(view, flow.epochs.open) for view in views], _lead(flow))


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers as spans: 1–3, 5."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a:,}" if a == b else f"{a:,}–{b:,}" for a, b in found)


def _lead(flow: Flow) -> str:
    epochs = flow.epochs
    text = (
        f"Epoch {epochs.open:,} is open for {duration(round(epochs.open_age_s))} and holds "
        f"{epochs.open_events:,} events. "
    )
    if epochs.sealing:
        text += f"Epoch {spans(epochs.sealing)} is on its way into the lake. "
    if epochs.sealed:
        at = f" since {epochs.sealed_at:%H:%M:%S} UTC" if epochs.sealed_at else ""
        text += f"Epoch {epochs.sealed:,} is the last one in the lake{at}. "
    if epochs.uncovered_events:
        text += f"{epochs.uncovered_events:,} sealed events wait for the next batch run."
    else:
        text += "The batch layer covers all that is sealed."
    return text


def _row(view: ViewFlow, open_epoch: int) -> dict[str, Cell]:
    ready = Mark("ready", "good", "Batch and speed meet without a gap.")
    if not view.ready:
        ready = Mark("waits", "busy", f"{view.reason} {view.hint}".strip(), view.reason)
    return {
        "view": Mark(view.view, link=f"/views/{view.view}"),
        "ready": ready,
        "batch": _batch(view),
        "speed": _speed(view, open_epoch),
        "made": _strip(view),
        "size": f"{size(view.batch_bytes)} + {size(view.speed_bytes)}",
        "built": "never" if view.built_at is None else f"{view.built_at:%Y-%m-%d %H:%M}",
    }


def _batch(view: ViewFlow) -> str:
    parts = []
    if view.batch_load:
        parts.append(f"load {spans(range(1, view.batch_load + 1))}")
    if view.batch_epoch:
        parts.append(f"epoch {spans(range(1, view.batch_epoch + 1))}")
    return ", ".join(parts) or "nothing yet"


def _speed(view: ViewFlow, open_epoch: int) -> str:
    if not view.speed_epochs:
        return "nothing"
    is_open = " (open)" if open_epoch in view.speed_epochs else ""
    return f"epoch {spans(view.speed_epochs)}{is_open}"


def _strip(view: ViewFlow) -> Strip:
    sides = (("batch", view.batch_rows), ("speed", view.speed_rows))
    return Strip(tuple((kind, rows, f"{shown(rows)} {kind}") for kind, rows in sides))
