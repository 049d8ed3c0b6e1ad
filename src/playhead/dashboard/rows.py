"""The rows of one view in a stretch of time up to now, kept as relations that charts ask.

Of a view of short windows only the last few change from one moment to the next. The rows of
windows that have settled are kept as a table of DuckDB's, and made anew beside, by a session of
its own, when late events have changed one or when the open windows have moved on. What is merged
at every turn are the open windows alone.
"""

import itertools
import logging
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import duckdb
import pyarrow as pa

from playhead.assemble import Workspace
from playhead.batch.sqltext import identifier
from playhead.dashboard.questions import floor
from playhead.serving import Session, Span
from playhead.views import View

__all__ = ["Aside", "ViewRows"]

logger = logging.getLogger(__name__)

SHORT = timedelta(hours=1)
"""Windows up to this long settle while a page is open."""

_LOOK_EVERY_S = 2.0
_numbers = itertools.count(1)


class Aside:
    """What settled rows are made with: a session of its own, a thread, a place for tables."""

    def __init__(self, workspace: Workspace, tables: duckdb.DuckDBPyConnection) -> None:
        self._workspace = workspace
        self.tables = tables
        self.threads = ThreadPoolExecutor(1, "settled")
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """Opened on first use; it knows the views as they are now."""
        if self._session is None:
            self._session = self._workspace.reader()
        self._session.use(self._workspace.views)
        return self._session

    def close(self) -> None:
        """May be called twice."""
        self.threads.shutdown(wait=True, cancel_futures=True)
        if self._session is not None:
            self._session.close()


@dataclass(frozen=True)
class _Settled:
    """Rows of windows that seldom change.

    Attributes:
        table: its name.
        until: windows that start then or later are not in it.
    """

    view: str
    identity: Hashable
    table: str
    start: datetime
    until: datetime


class ViewRows:
    """The rows of one view from some time on, in two parts where that pays.

    Used by one thread at a time.
    """

    def __init__(self, workspace: Workspace, aside: Aside) -> None:
        self._workspace, self._aside = workspace, aside
        self._settled: _Settled | None = None
        self._settling: Future[_Settled] | None = None
        self._looked_at = float("-inf")

    def close(self) -> None:
        """Drop what was kept."""
        self._replace(None)

    def identity(self, view: View, span: Span | None, watermark: datetime | None) -> Hashable:
        """Says whether the rows are the same as before, without reading them."""
        session = self._workspace.session
        until = self._until(view, span, watermark)
        if until is None or span is None:
            return view.hash, span, session.identity(view, span)
        self._settle(view, span, until)
        assert self._settled is not None  # noqa: S101 - `_settle` waits for the first
        open_part = Span(self._settled.until, span.end)
        return view.hash, self._settled.table, session.identity(view, open_part)

    @contextmanager
    def readable(self, view: View, span: Span | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session in which the view's name is its rows; some may lie before the span."""
        settled = self._settled
        with self._aside.tables.cursor() as cursor:
            if settled is None or span is None:
                # A span of the past would take the place of the open windows that are followed.
                is_past = span is not None and span.end < Span().end
                session = self._aside.session if is_past else self._workspace.session
                cursor.register(view.name, session.answer(view, span)[0])
            else:
                fresh, _ = self._workspace.session.answer(view, Span(settled.until, span.end))
                cursor.register("open_windows", fresh)
                cursor.execute(
                    f"CREATE OR REPLACE TEMP VIEW {identifier(view.name)} AS "
                    f"FROM {settled.table} UNION ALL BY NAME FROM open_windows"
                )
            yield cursor

    # -- what has settled ------------------------------------------------------------------

    def _until(self, view: View, span: Span | None, watermark: datetime | None) -> datetime | None:
        """Where settled windows end; None if the view is not read in two parts."""
        width = None if view.window is None else view.window.fixed
        if span is None or watermark is None or width is None or width > SHORT:
            self._replace(None)
            return None
        until = floor(view, watermark - width)
        if until <= span.start or span.end <= watermark or not view.windows_apart:
            self._replace(None)
            return None
        return until

    def _settle(self, view: View, span: Span, until: datetime) -> None:
        """Have settled rows: the first time at once, then anew beside when they have changed."""
        if self._settled is None or self._settled.view != view.hash:
            self._replace(self._make(view, Span(span.start, until)))
            return
        if self._settling is not None:
            if self._settling.done():
                made, self._settling = self._settling, None
                if (error := made.exception()) is not None:
                    raise error
                self._replace(made.result())
            return
        if monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = monotonic()
        settled = self._settled
        part = Span(settled.start, settled.until)
        is_old = settled.start > span.start or settled.until < until
        if is_old or self._workspace.session.identity(view, part) != settled.identity:
            wanted = Span(span.start, until)
            self._settling = self._aside.threads.submit(self._make, view, wanted)

    def _make(self, view: View, span: Span) -> _Settled:
        session = self._aside.session
        identity = session.identity(view, span)
        rows: pa.Table = session.answer(view, span)[0]
        name = f"settled_{next(_numbers)}"
        with self._aside.tables.cursor() as cursor:
            cursor.register("rows_of_then", rows)
            cursor.execute(f"CREATE TABLE {name} AS FROM rows_of_then")
        return _Settled(view.hash, identity, name, span.start, span.end)

    def _replace(self, settled: _Settled | None) -> None:
        before, self._settled = self._settled, settled
        if before is not None and before is not settled:
            with self._aside.tables.cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS {before.table}")
