"""What charts ask: a SELECT over one view, or a look at the platform; and what they are told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import pyarrow as pa

from playhead.assemble import Workspace
from playhead.batch.sqltext import identifier, literal
from playhead.dashboard.filters import Filters, Period
from playhead.serving import Span
from playhead.views import View

__all__ = ["Asked", "Look", "Problem", "Question", "Reply"]

WHERE = "{where}"
"""Stands in a question's SELECT for its stretch of time and its filters."""

_MONTH_COLUMNS = ("month", "cohort_month")
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Question:
    """One SELECT over one view, the same for every browser that shows the same.

    Attributes:
        view: its name.
        select: the SELECT, in DuckDB's dialect; `{where}` stands for the rows that are wanted.
        period: of event time, up to the newest event that is known.
        wanted: columns of the view, and the values of which each row has to have one.
        missing: filters that are set and that the view has no column for.
        before: the stretch of the same length just before the period is asked for.
        every_s: seconds from one look to the next.
        is_whole: it takes all of the view to answer it, whatever its period.
    """

    view: str
    select: str
    period: Period = field(default_factory=Period)
    wanted: tuple[tuple[str, tuple[str, ...]], ...] = ()
    missing: tuple[str, ...] = ()
    before: bool = False
    every_s: float = 0.5
    is_whole: bool = False

    @classmethod
    def about(
        cls,
        view: View,
        select: str,
        filters: Filters | None = None,
        *,
        before: bool = False,
        every_s: float = 0.5,
    ) -> "Question":
        """A question within the filters of a page, as far as the view knows them."""
        filters = filters or Filters()
        columns, missing = filters.columns(view.columns)
        period = filters.period
        if time_sql(view) is None and (period.last or period.since or period.until):
            period, missing = Period(), [*missing, "time"]
        wanted = tuple(columns.items())
        is_whole = view.window is None or (period == Period() and not before)
        return cls(view.name, select, period, wanted, tuple(missing), before, every_s, is_whole)

    @property
    def group(self) -> tuple[str, Period, bool]:
        """Questions of one group are answered from the same rows."""
        return (
            (self.view, Period(), False) if self.is_whole else (self.view, self.period, self.before)
        )

    def bounds(self, newest: datetime | None) -> tuple[datetime | None, datetime | None]:
        """Its start and its end, None where it is open.

        Args:
            newest: event time that is known, naive UTC.
        """
        period = self.period
        if newest is None:
            return period.since, period.until
        if self.before:
            period = period.before(newest) or Period(None, None, _EPOCH)
        return period.bounds(newest)

    def sql(self, view: View, newest: datetime | None) -> str:
        """The SELECT in full, as anyone may ask it."""
        start, end = self.bounds(newest)
        return self.select.replace(WHERE, where_sql(view, start, end, self.wanted))


@dataclass(frozen=True)
class Look:
    """Something of the platform that is looked up again and again, once for all browsers.

    Attributes:
        call: a function of a module, or a bound method; it runs in a thread.
        every_s: seconds from one look to the next.
    """

    call: Callable[[Workspace], Any]
    every_s: float = 2.0

    @property
    def group(self) -> "Look":
        """Each look is answered by itself."""
        return self


Asked = Question | Look


@dataclass(frozen=True)
class Problem:
    """Why there is no answer, or none of now.

    Attributes:
        kind: "empty": nothing has come yet; "waits": for the batch layer; "failed".
        hint: what can be done about it; may be empty.
    """

    kind: Literal["empty", "waits", "failed"]
    text: str
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Reply:
    """What is known of a question at a moment.

    Attributes:
        value: a table for a `Question`, whatever a `Look` found; None before the first answer.
        sql: what was asked, in full; empty for a look.
        made_at: naive UTC.
        newest: event time up to which events of the view's topics have come.
        start, end: of the stretch of time that a question asks for, None where it is open.
        watermark: windows that end by it are final.
        revised: windows that late events have changed since they were final, and how many did.
        took_s: seconds that the answer took.
        problem: why there is no newer answer; None: this is the newest.
        is_stale: something has changed since, and the new answer is being made.
    """

    value: Any = None
    sql: str = ""
    made_at: datetime = _EPOCH
    newest: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    watermark: datetime | None = None
    revised: dict[datetime, int] = field(default_factory=dict)
    took_s: float = 0.0
    problem: Problem | None = None
    is_stale: bool = False

    @property
    def table(self) -> pa.Table | None:
        """The rows of a question's answer; None before the first one."""
        return self.value if isinstance(self.value, pa.Table) else None


def time_sql(view: View) -> str | None:
    """The start of a row's window, month or day as a SQL expression; None if it has none."""
    if view.window is not None:
        return identifier(view.window.key)
    for name in _MONTH_COLUMNS:
        if name in view.columns:
            return identifier(name)
    if {"watch_year", "watch_month"} <= set(view.columns):
        return "MAKE_DATE(watch_year, watch_month, 1)"
    return None


def where_sql(
    view: View,
    start: datetime | None,
    end: datetime | None,
    wanted: tuple[tuple[str, tuple[str, ...]], ...],
) -> str:
    """The condition of rows in a stretch of time with some of the wanted values."""
    time = time_sql(view)
    parts = []
    if time is not None and start is not None:
        parts.append(f"{time} >= TIMESTAMP '{floor(view, start)}'")
    if time is not None and end is not None:
        parts.append(f"{time} < TIMESTAMP '{end}'")
    for column, values in wanted:
        parts.append(f"{identifier(column)} IN ({', '.join(map(literal, values))})")
    return " AND ".join(parts) or "TRUE"


def floor(view: View, time: datetime) -> datetime:
    """The start of the view's window, or of the month, that a time falls into."""
    width = view.window.fixed if view.window is not None else None
    if width is not None:
        return _EPOCH + (time - _EPOCH) // width * width
    return time.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def span_of(view: View, start: datetime | None, end: datetime | None) -> Span | None:
    """The windows that have to be merged for a stretch of time; None: all of the view."""
    if view.window is None or (start is None and end is None):
        return None
    first = Span().start if start is None else floor(view, start)
    last = Span().end if end is None else end
    return Span(first, max(last, first + timedelta(microseconds=1)))
