"""Windows of event time: which ones a micro-batch touched, and which ones are final."""

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from playhead.speed.state import Touched
from playhead.views import View
from playhead.views.leaf import Leaf, Window

_MONTHS = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True)
class WindowedView:
    """A view that groups by a window of event time, and the leaf that says how."""

    view: View
    leaf: Leaf
    window: Window

    def final_before(self, watermark: datetime) -> datetime:
        """Windows that start before this instant have ended by the watermark."""
        return minus(watermark, self.window) + timedelta(microseconds=1)

    def touched(
        self, connection: duckdb.DuckDBPyConnection, events: str, watermark: datetime | None
    ) -> list[Touched]:
        """Windows that the events of a relation fall into.

        Args:
            events: name of the wide topic in the session.
            watermark: as it stood before these events; windows that ended by it are late.
        """
        key = dict(self.leaf.keys)[self.window.key]
        where = f"WHERE {self.leaf.where}" if self.leaf.where else ""
        rows = connection.execute(
            f"SELECT CAST({key} AS TIMESTAMP) AS w, COUNT(*) FROM {events} {where} "
            "GROUP BY w HAVING w IS NOT NULL"
        ).fetchall()
        final = self.final_before(watermark) if watermark else datetime.min
        return [Touched(self.view.name, w, n if w < final else 0) for w, n in rows]


def windowed_views(views: list[View]) -> list[WindowedView]:
    """The views whose answer has a window column."""
    return [WindowedView(v, v.leaves[0], v.window) for v in views if v.window is not None]


def minus(time: datetime, window: Window) -> datetime:
    """`time` less the width of the window."""
    if window.fixed is not None:
        return time - window.fixed
    months = time.year * 12 + time.month - 1 - window.width * _MONTHS[window.unit]
    year, month = divmod(months, 12)
    day = min(time.day, monthrange(year, month + 1)[1])
    return time.replace(year=year, month=month + 1, day=day)


def end_of(start: datetime, window: Window) -> datetime:
    """The end, exclusive, of the window that starts at `start`."""
    if window.fixed is not None:
        return start + window.fixed
    months = start.year * 12 + start.month - 1 + window.width * _MONTHS[window.unit]
    year, month = divmod(months, 12)
    return start.replace(year=year, month=month + 1)


Finalised = Callable[[View, list[datetime]], None]
