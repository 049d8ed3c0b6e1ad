"""Windows of event time: which ones a micro-batch touched, and which ones are final."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.speed.records import Touched
from playhead.views import View
from playhead.views.leaf import Leaf, Window

_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_EPOCH = datetime(1970, 1, 1)
_COUNTED_WINDOWS = 1 << 20
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

    def touched_in(
        self, connection: duckdb.DuckDBPyConnection, wide: pa.Table, watermark: datetime | None
    ) -> list[Touched]:
        """Windows that some events of the wide topic fall into; see `touched`."""
        times = wide.column("event_time").drop_null().cast(pa.int64()).to_numpy()
        found = self.touched_by(connection, times, watermark) if len(times) else None
        if found is not None:
            return found
        connection.register("touching_events", wide)
        try:
            return self.touched(connection, "touching_events", watermark)
        finally:
            connection.unregister("touching_events")

    def touched(
        self, connection: duckdb.DuckDBPyConnection, events: str, watermark: datetime | None
    ) -> list[Touched]:
        """Windows that the events of a relation fall into.

        Args:
            events: name of the wide topic in the session.
            watermark: as it stood before these events; windows that ended by it are late.
        """
        return self.told(connection.execute(self.sql(events)).fetchall(), watermark)

    def sql(self, events: str) -> str:
        """SELECT of the windows that events of a relation fall into: start `w`, how many `n`."""
        where = f"WHERE {self.leaf.where}" if self.leaf.where else ""
        starts = f"SELECT CAST({self._key} AS TIMESTAMP) AS w FROM {events} {where}"
        return f"SELECT w, COUNT(*) AS n FROM ({starts}) WHERE w IS NOT NULL GROUP BY w"

    def touched_by(
        self,
        connection: duckdb.DuckDBPyConnection,
        times_us: npt.NDArray[np.int64],
        watermark: datetime | None,
    ) -> list[Touched] | None:
        """The same from the events' times alone, where these decide; else None.

        Args:
            times_us: microseconds since 1970, shape (n,), n > 0.
        """
        if self.leaf.where is not None or self.window.fixed is None:
            return None
        width = self.window.width * 1_000_000
        # One window says where they all begin: they are all of one width.
        row = connection.execute(
            f"SELECT epoch_us(CAST({self._key} AS TIMESTAMP)) "
            "FROM (SELECT make_timestamp(?::BIGINT) AS event_time)",
            [int(times_us[0])],
        ).fetchone()
        if row is None or row[0] is None:
            return None
        numbers = (times_us - row[0]) // width
        low = int(numbers.min())
        if int(numbers.max()) - low > _COUNTED_WINDOWS:
            return None
        counts = np.bincount(numbers - low)
        starts = [row[0] + (low + int(n)) * width for n in np.flatnonzero(counts)]
        found = zip(starts, counts[counts > 0].tolist(), strict=True)
        return self.told([(_EPOCH + timedelta(microseconds=s), n) for s, n in found], watermark)

    @property
    def _key(self) -> str:
        return dict(self.leaf.keys)[self.window.key]

    def told(
        self, rows: Sequence[tuple[datetime, int]], watermark: datetime | None
    ) -> list[Touched]:
        """The same from (start, events) of each window."""
        final = self.final_before(watermark) if watermark else _FIRST
        return [Touched(self.view.name, w, n if w < final else 0, n) for w, n in rows]


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


def count_before(events: pa.Table, watermark: datetime | None) -> int:
    """How many events are late: their time is before the watermark."""
    if watermark is None or not events.num_rows:
        return 0
    earlier = pc.less(events.column("event_time"), pa.scalar(watermark, pa.timestamp("us")))
    return int(pc.sum(earlier).as_py() or 0)


def _months_on(time: datetime, months: int) -> datetime:
    year, month = divmod(time.year * 12 + time.month - 1 + months, 12)
    return time.replace(year=year, month=month + 1)
