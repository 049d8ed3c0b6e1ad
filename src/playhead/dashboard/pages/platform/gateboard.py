"""Quality gates as a table of marks, for the pages that show some of them."""

from collections.abc import Mapping, Sequence

from playhead.dashboard.drawing.marked import Cell, Mark, MarkedTable, Tone
from playhead.dashboard.drawing.tables import Column
from playhead.dashboard.questions import Reply
from playhead.ops.gates import SPANS, Gate, Status, Value

__all__ = ["gates_table", "quality_gates_table"]

_TONES: Mapping[Status, tuple[Tone, str]] = {
    "pass": ("good", "pass"),
    "fail": ("bad", "fail"),
    "unknown": ("idle", "unknown"),
}
_OF_TIMES = frozenset({"ms", "s"})
_COLUMNS = (
    Column("gate", "Gate"),
    Column("limit", "Wanted"),
    *(Column(span, span.capitalize(), None, f"Over the last {span}.") for span in SPANS),
    Column("now", "Now", None, "Of the shortest time in which something was measured."),
)


def gates_table(replies: Sequence[Reply]) -> MarkedTable:
    """All gates; the reply is a list of them."""
    return _table(replies[0].value)


def quality_gates_table(replies: Sequence[Reply]) -> MarkedTable:
    """The gates about what events are like, without those about how fast they go."""
    return _table([gate for gate in replies[0].value if gate.unit not in _OF_TIMES])


def _table(gates: Sequence[Gate]) -> MarkedTable:
    return MarkedTable(_COLUMNS, [_row(gate) for gate in gates])


def _row(gate: Gate) -> dict[str, Cell]:
    tone, word = _TONES[gate.status]
    comparator = {"<=": "≤", ">=": "≥"}[gate.comparator]
    values = {span: _mark(gate, value) for span, value in gate.values.items()}
    return {
        "gate": Mark(gate.name.capitalize(), "", gate.meaning),
        "limit": Mark(f"{comparator} {gate.limit:,g} {gate.unit}"),
        **values,
        "now": Mark(word, tone, gate.now.reason),
    }


def _mark(gate: Gate, value: Value) -> Mark:
    tone, word = _TONES[value.status]
    if value.value is None:
        return Mark("unknown", tone, value.reason)
    return Mark(f"{value.value:,.4g} {gate.unit}", tone, value.reason, said=word)
