"""Windows of event time: which ones a micro-batch touched, and which ones are final."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from playhead.speed.records import Touched
from playhead.views import View
from playhead.views.leaf import Leaf, Window

_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_FIRST, _LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)


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
        final = self.final_before(watermark) if watermark else _FIRST
        return [Touched(self.view.name, w, n if w < final else 0) for w, n in rows]


def windowed_views(views: list[View]) -> list[WindowedView]:
    """The views whose answer has a window column."""
    return [WindowedView(v, v.leaves[0], v.window) for v in views if v.window is not None]


def minus(time: datetime, window: Window) -> datetime:
    """`time` less the width of the window: what starts by then has ended by `time`.

    The first instant of the calendar where that lies before it.
    """
    try:
        if window.fixed is not None:
            return time - window.fixed
        first = time.replace(day=1)
        return _months_on(first, -window.width * _MONTHS[window.unit])
    except (OverflowError, ValueError):
        return _FIRST


def watermark_of(newest: datetime, delay: timedelta) -> datetime:
    """The watermark when `newest` is the highest event time seen."""
    return newest - delay if newest - _FIRST > delay else _FIRST


def end_of(start: datetime, window: Window) -> datetime:
    """The end, exclusive, of the window that starts at `start`, within the calendar."""
    try:
        if window.fixed is not None:
            return start + window.fixed
        return _months_on(start, window.width * _MONTHS[window.unit])
    except (OverflowError, ValueError):
        return _LAST


def _months_on(time: datetime, months: int) -> datetime:
    year, month = divmod(time.year * 12 + time.month - 1 + months, 12)
    return time.replace(year=year, month=month + 1)
