"""Charts whose axis is made of months: names of months, gaps between them, the month that runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from playhead.dashboard.drawing.charts import bars, lines
from playhead.dashboard.drawing.palette import MUTED
from playhead.dashboard.drawing.parts import LEGEND, Options, Unit, plain
from playhead.dashboard.filters import earlier, months_between
from playhead.dashboard.questions import Reply

__all__ = [
    "GAP",
    "Calendar",
    "filled",
    "in_two_lines",
    "month_bars",
    "month_lines",
    "month_name",
    "month_start",
    "rows_of",
]

_TWO_LINES = "v => v.replace(', ', '\\n').replace(' ', '\\n')"
"""Writes a month above its year, which leaves room for more of them."""

GAP = "⋯"
"""Stands on an axis for a long stretch without anything."""

_FILLED = 3
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SO_FAR = ", so far"


def month_name(month: date) -> str:
    """Such as "Oct 2024", in any locale."""
    return f"{_NAMES[month.month - 1]} {month.year}"


def month_start(name: str) -> datetime | None:
    """The first day of a month by its name on an axis; None if it is no month."""
    month, _, year = name.removesuffix(_SO_FAR).partition(" ")
    if month not in _NAMES or not year.isdigit() or not 1 <= int(year) <= 9_999:
        return None
    return datetime(int(year), _NAMES.index(month) + 1, 1)


def filled(steps: Iterable[int]) -> list[int | None]:
    """Numbers in order, with those between them; None for more of those than a few."""
    found: list[int | None] = []
    last: int | None = None
    for step in sorted(set(steps)):
        if last is not None and step - last - 1 > _FILLED:
            found.append(None)
        elif last is not None:
            found.extend(range(last + 1, step))
        found.append(step)
        last = step
    return found


class Calendar:
    """The months on an axis.

    Args:
        months: any days of the months that there is something of.
        running: the month whose value is not whole yet; None: all are.
    """

    def __init__(self, months: Iterable[date], running: date | None = None) -> None:
        self.running = None if running is None else (running.year, running.month)
        steps = filled(month.year * 12 + month.month - 1 for month in months)
        # Each gap has a name of its own: an axis knows its categories by their names.
        self.names = [
            GAP + "\u200b" * place
            if step is None
            else self.name(date(step // 12, step % 12 + 1, 1))
            for place, step in enumerate(steps)
        ]

    def name(self, month: date) -> str:
        """What the axis says of a month."""
        is_running = (month.year, month.month) == self.running
        return month_name(month) + (_SO_FAR if is_running else "")


def month_lines(
    reply: Reply,
    ys: Mapping[str, str],
    unit: Unit,
    *,
    by: str | None = None,
    running: date | None = None,
    before: Reply | None = None,
    area: bool = False,
) -> Options:
    """Lines over the months of a table's column `month`; see `playhead.dashboard.charts.lines`.

    Args:
        running: the month whose value is not whole yet.
        before: of the period before, drawn paler under the months that it is compared with.
    """
    table = rows_of(reply)
    months = _moved(reply, before)
    calendar = Calendar([*table.column("month").to_pylist(), *months], running)
    options = lines(
        table, "month", ys, unit, by=by, area=area, names=calendar.name, categories=calendar.names
    )
    if before is not None:
        options["series"] += _overlays(before, months, calendar, ys, unit, by)
    return in_two_lines(options)


def month_bars(
    reply: Reply,
    ys: Mapping[str, str],
    unit: Unit,
    *,
    by: str | None = None,
    running: date | None = None,
    before: Reply | None = None,
) -> Options:
    """Stacked bars over the months of a table's column `month`; that which runs is paler.

    Args:
        before: of the period before, in the same columns without `by`: a line across the bars.
    """
    table = rows_of(reply)
    months = _moved(reply, before)
    calendar = Calendar([*table.column("month").to_pylist(), *months], running)
    options = bars(
        table, "month", ys, unit, by=by, stacked=True, names=calendar.name,
        categories=calendar.names,
    )  # fmt: skip
    for series in options["series"]:
        series["barMaxWidth"] = 48
        series["data"] = [
            {"value": value, "itemStyle": {"opacity": 0.55}} if name.endswith(_SO_FAR) else value
            for name, value in zip(calendar.names, series["data"], strict=True)
        ]
    if before is not None:
        found = _overlays(before, months, calendar, ys, unit, None)
        options["series"] += found
        options["legend"] = LEGEND
        options["grid"] = options["grid"] | {"top": 32}
    return in_two_lines(options)


def in_two_lines(options: Options) -> Options:
    """Months below a chart, each above its year."""
    label = options["xAxis"]["axisLabel"]
    options["xAxis"]["axisLabel"] = {
        **label,
        ":formatter": _TWO_LINES,
        "lineHeight": 14,
        "showMaxLabel": True,
    }
    return options


def rows_of(reply: Reply) -> pa.Table:
    """The rows of a reply that a card has found to have some."""
    assert reply.table is not None  # noqa: S101 - a card draws only what is there
    return reply.table


def _moved(reply: Reply, before: Reply | None) -> list[date]:
    """The months of the period before as the months that they are compared with."""
    if before is None:
        return []
    starts = (reply.start, before.start)
    months = months_between(starts[1], starts[0]) if starts[0] and starts[1] else 0
    found: Sequence[date] = rows_of(before).column("month").to_pylist()
    return [earlier(datetime(m.year, m.month, 1), -months) for m in found]


def _overlays(
    before: Reply,
    months: Sequence[date],
    calendar: Calendar,
    ys: Mapping[str, str],
    unit: Unit,
    by: str | None,
) -> list[Options]:
    table, names = rows_of(before), [calendar.name(month) for month in months]
    y, title = next(iter(ys.items()))
    parts = [title] * len(names) if by is None else table.column(by).to_pylist()
    found: dict[str, dict[str, Any]] = {}
    for part, name, value in zip(parts, names, table.column(y).to_pylist(), strict=True):
        found.setdefault(part, {})[name] = plain(value, unit)
    return [_before(part, at.get, calendar.names) for part, at in found.items()]


def _before(name: str, value: Callable[[str], Any], categories: Sequence[str]) -> Options:
    """A pale, dashed line of the period before."""
    return {
        "type": "line",
        "name": f"{name}, before",
        "data": [value(category) for category in categories],
        "symbolSize": 4,
        "lineStyle": {"width": 1.5, "type": "dashed", "color": MUTED},
        "itemStyle": {"color": MUTED},
        "z": 4,
    }
