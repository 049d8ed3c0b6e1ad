"""What is known of a view without its rows: columns, where it stands, what its state takes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playhead.assemble import Workspace
from playhead.batch.recompute import state_table
from playhead.batch.sqltext import identifier
from playhead.dashboard.drawing.parts import Unit
from playhead.dashboard.questions import Reply
from playhead.errors import CoverageError, LakeError
from playhead.serving import Coverage, find_view
from playhead.views import View
from playhead.views.naming import state_name

__all__ = ["Facts", "StateSize", "ViewFacts", "facts_of", "list_rows", "list_views", "unit_of"]

_SHARE = re.compile(r"\b0 to 1\b")


@dataclass(frozen=True)
class StateSize:
    """What the states of a view take in one layer.

    Attributes:
        bytes: of the blocks or of the files; events that several states share count for each.
    """

    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Facts:
    """One view as it stands.

    Attributes:
        reason: why it has no answer now; empty: it has one.
        coverage: what the answer is made of, a part for each state.
    """

    view: View
    reason: str
    coverage: tuple[Coverage, ...]
    speed: StateSize
    batch: StateSize
    seconds: float | None

    @property
    def is_ready(self) -> bool:
        return not self.reason


def facts_of(workspace: Workspace, view: View, sizes: Mapping[str, tuple[int, int, int]]) -> Facts:
    """How a view stands now.

    Args:
        sizes: (blocks, rows, bytes) of the speed layer's states, see `StateStore.sizes`.
    """
    coverage: tuple[Coverage, ...] = ()
    reason = ""
    try:
        coverage = workspace.session.coverage(view)
    except CoverageError as error:
        reason = error.message.removeprefix(f"view {view.name} ")
    seconds = workspace.session.last_seconds(view, unknown=-1.0)
    speed = _speed(sizes, view)
    known = None if seconds < 0 else seconds
    return Facts(view, reason, coverage, speed, _batch(workspace, view), known)


@dataclass(frozen=True)
class ViewFacts:
    """Looks up the facts of one view; two of the same name are the same look."""

    name: str

    def __call__(self, workspace: Workspace) -> Facts:
        workspace.refresh()
        view = find_view(workspace.views, self.name)
        return facts_of(workspace, view, workspace.state.sizes())


def list_views(workspace: Workspace) -> list[Facts]:
    """How every view stands now."""
    workspace.refresh()
    sizes = workspace.state.sizes()
    return [facts_of(workspace, view, sizes) for view in workspace.views.values()]


def list_rows(replies: Sequence[Reply]) -> list[dict[str, Any]]:
    """The views as rows of a table."""
    found: list[Facts] = replies[0].value
    return [_row(place, facts) for place, facts in enumerate(found)]


def _row(place: int, facts: Facts) -> dict[str, Any]:
    view = facts.view
    return {
        "id": place,
        "name": view.name,
        "href": f"/views/{view.name}",
        "about": next(iter(view.header.description.splitlines()), ""),
        "owner": view.header.owner or "–",
        "topics": ", ".join(view.topics),
        "window": "–" if view.window is None else view.window.words,
        "columns": len(view.columns),
        "speed_rows": facts.speed.rows,
        "speed_bytes": facts.speed.bytes,
        "batch_rows": facts.batch.rows,
        "batch_bytes": facts.batch.bytes,
        "ready": "ready" if facts.is_ready else "waits",
        "reason": facts.reason,
    }


def unit_of(view: View, column: str) -> Unit:
    """The unit of a column's numbers, as far as its type and meaning tell it."""
    if is_share(view, column):
        return Unit("%", 1)
    kind = dict(view.plans.columns).get(column, "")
    return Unit("", 2, is_fixed=True) if kind.startswith(("DECIMAL", "DOUBLE", "FLOAT")) else Unit()


def is_share(view: View, column: str) -> bool:
    """Whether a column's meaning says that it is a share of 0 to 1."""
    return _SHARE.search(view.header.columns.get(column, "")) is not None


def _speed(sizes: Mapping[str, tuple[int, int, int]], view: View) -> StateSize:
    found = [sizes.get(state_name(view, leaf), (0, 0, 0)) for leaf in view.leaves]
    return StateSize(sum(rows for _, rows, _ in found), sum(size for *_, size in found))


def _batch(workspace: Workspace, view: View) -> StateSize:
    rows = size = 0
    for leaf in view.leaves:
        name = state_table(view, leaf)
        try:
            if workspace.lake.exists(name):
                snapshot = workspace.lake.snapshot(name)
                rows += snapshot.rows
                size += sum(file.bytes for file in snapshot.files)
        except LakeError:
            # It was replaced between the two; the next look finds the new one.
            continue
    return StateSize(rows, size)


def newest_first(view: View) -> str:
    """The ORDER BY of a view's rows: its newest time first, then the keys; empty for none."""
    times = [n for n in view.columns if n in ("month", "cohort_month", "watch_year", "watch_month")]
    first = [view.window.key] if view.window else times
    order = [f"{identifier(name)} DESC" for name in first]
    order += [identifier(name) for name in view.keys if name not in first]
    return f" ORDER BY {', '.join(order)}" if order else ""
