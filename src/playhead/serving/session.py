"""One reading session: every topic, dimension and view a relation by its name, as of now."""

import sys
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from playhead import disk
from playhead.batch.ingest import QUARANTINE_SCHEMA
from playhead.batch.quality import REPORT_SCHEMA
from playhead.contracts import DIMENSIONS as CONTRACTS
from playhead.contracts import TOPICS
from playhead.engines.duckdb import ARROW_ROWS, memory_limit
from playhead.errors import CoverageError, QueryError, QueryMemoryError, UnknownViewError
from playhead.eventlog import EventLog
from playhead.lake import Lake
from playhead.lake.tables import QUALITY_QUARANTINE, QUALITY_REPORT, dimension_name
from playhead.serving.answers import Answers, Flights
from playhead.serving.bounds import spans_asked
from playhead.serving.coverage import Coverage
from playhead.serving.follow import Follower
from playhead.serving.history import KeptGroups
from playhead.serving.lastanswers import LARGEST_BYTES, LastAnswer, LastAnswers
from playhead.serving.merge import Merger
from playhead.serving.names import Guard, relations_read
from playhead.serving.sources import Span
from playhead.serving.stop import Stop
from playhead.serving.topics import TopicReader
from playhead.speed.recall import NewestEvents
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.binder import quote
from playhead.views.leaf import Window

SYSTEM_TABLES = {
    "quality_report": (QUALITY_REPORT, REPORT_SCHEMA),
    "quarantine": (QUALITY_QUARANTINE, QUARANTINE_SCHEMA),
}
ALERTS = "alerts"
DIMENSIONS = ("users", "movies", "pair_ratings")
_ROWS_AT_ONCE = 65_536
_FOLLOWED_SHARE = 4
"""Beside DuckDB's memory, views that are followed may take one part in so many of its limit."""


class Session:
    """Answers read-only SQL over topics, dimensions, views, alerts and quality tables.

    Each call sees the workspace as it is at that moment. Threads may share a session.

    Args:
        connection: a DuckDB session of its own; closed with this one.
        cache: a folder for what can be computed again; None: nothing is kept.
        guard: looks at every query before it is run; None: any SELECT is taken.
    """

    def __init__(
        self,
        lake: Lake,
        log: EventLog,
        state: StateStore,
        views: Mapping[str, View],
        connection: duckdb.DuckDBPyConnection,
        cache: Path | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard
        self._stops = threading.local()
        self._lake, self._state, self._views = lake, state, views
        self._connection = connection
        follower = Follower(KeptGroups(cache), memory_limit(connection) // _FOLLOWED_SHARE)
        self._merger = Merger(lake, log, state, follower)
        self._topics = TopicReader(lake, log, state)
        self._answers = Answers()
        self._newest_events = NewestEvents(lake, state)
        self._last = LastAnswers(cache)
        self._flights: Flights[LastAnswer] = Flights()

    def close(self) -> None:
        """Let go of DuckDB; may be called twice."""
        self._connection.close()

    def use(self, views: Mapping[str, View]) -> None:
        """Know these views from now on."""
        self._views = views

    @contextmanager
    def until(self, stop: Stop) -> Iterator[None]:
        """Whatever this thread asks for within the block ends when `stop` says so.

        Raises:
            QueryTimeoutError: it did.
        """
        self._stops.now = stop
        try:
            yield
        finally:
            self._stops.now = None

    @property
    def _stop(self) -> Stop | None:
        """What ends that which this thread asks for."""
        return getattr(self._stops, "now", None)

    @contextmanager
    def _scope(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session for one answer: what is defined and registered in it goes with it."""
        stop = self._stop
        with (
            self._connection.cursor() as connection,
            stop.ending(connection) if stop is not None else nullcontext(),
        ):
            try:
                yield connection
            except duckdb.OutOfMemoryException as error:
                # Following a view reads states, too.
                raise _no_memory(error) from error

    @property
    def relations(self) -> list[str]:
        """Every name that a query may read."""
        return sorted({*self._views, *TOPICS, *DIMENSIONS, *SYSTEM_TABLES, ALERTS})

    def query(self, sql: str, *, limit: int | None = None) -> pa.Table:
        """The answer of one SELECT (DuckDB's dialect).

        Args:
            limit: no more rows than these; None: all.

        Raises:
            QueryError: no single SELECT, an unknown relation or column, or a failing expression.
            CoverageError: a view that the query reads has no exact answer now.
        """
        with self._scope() as connection:
            names = sorted(relations_read(connection, sql, self._guard))
            spans = spans_asked(connection, sql, self._window_columns(names))
            for name in names:
                source = self._source(connection, name.lower(), spans.get(name))
                connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS {source}")
            return _run(connection, sql, limit)

    def views_read(self, sql: str) -> list[View]:
        """The views that a query reads by name.

        Raises:
            QueryError: it is no single SELECT.
        """
        with self._scope() as connection:
            names = {name.lower() for name in relations_read(connection, sql)}
        return [view for name, view in self._views.items() if name in names]

    def answer(
        self, view: View, within: Span | None = None
    ) -> tuple[pa.Table, tuple[Coverage, ...]]:
        """A view's merged answer and what it is made of.

        An answer is kept for a while, and given again as long as nothing that it is made of has
        changed.

        Args:
            within: only windows that start in this stretch of event time; None: all.

        Raises:
            CoverageError: it has no exact answer now, and why.
            QueryError: a stretch was asked for, and the view has no window of event time.
        """
        if within is None:
            last = self._whole(view)
            return last.table, last.coverage
        if view.window is None:
            raise QueryError(f"view {view.name} has no window of event time")
        with self._scope() as connection:
            basis = self._merger.basis(connection, view, within=within)
            known = self._answers.get(basis.identity, within)
            if known is None:
                sql = self._merger.sql(connection, basis)
                known = _run(connection, _only(sql, view.window, within))
                self._answers.keep(basis.identity, within, known)
            return known, basis.coverage

    def _whole(self, view: View) -> LastAnswer:
        """The view's whole answer as of now; threads that ask for the same wait for the first."""
        with self._scope() as connection:
            mark = self._merger.mark(connection, view)
            if (known := self._known(view, mark)) is not None:
                return known
            return self._flights.make(
                mark,
                # Another thread may have made it since.
                lambda: self._known(view, mark) or self._make(connection, view),
                self._stop,
            )

    def _known(self, view: View, mark: str) -> LastAnswer | None:
        """The view's last answer if it has this mark."""
        last = self._last.get(view)
        return last if last is not None and last.mark == mark else None

    def _make(self, connection: duckdb.DuckDBPyConnection, view: View) -> LastAnswer:
        """The view's whole answer, made anew and kept."""
        last = self._made(connection, view, None)
        assert last is not None  # noqa: S101 - only a bound makes none
        return last

    def _made(
        self, connection: duckdb.DuckDBPyConnection, view: View, most_bytes: int | None
    ) -> LastAnswer | None:
        """The same; None if the answer takes more memory than `most_bytes`."""
        made_at, began = datetime.now(UTC).replace(tzinfo=None), time.perf_counter()
        # Before the states: a window that is said to be final then has all that it had by then.
        newest = [self._newest(connection, topic) for topic in view.topics]
        seen = [event_time for event_time in newest if event_time is not None]
        windows = self._state.windows(view.name)
        basis = self._merger.basis(connection, view)
        table = _run(connection, self._merger.sql(connection, basis), most_bytes=most_bytes)
        if most_bytes is not None and table.nbytes > most_bytes:
            return None
        last = LastAnswer(
            table,
            basis.coverage,
            basis.mark,
            made_at,
            time.perf_counter() - began,
            min(seen) - view.watermark if seen else None,
            {start: (revision, late) for start, _, revision, late in windows if revision or late},
        )
        self._last.keep(view, last, self._views)
        return last

    # -- the last answers ------------------------------------------------------------------

    def last_answer(self, view: View) -> LastAnswer | None:
        """The view's last whole answer, which may be of another process; None if none is known.

        Nothing is computed. An answer that is marked current equals plain recomputation.
        """
        last = self._last.get(view)
        if last is None or any(part.mixed for part in last.coverage):
            return last
        try:
            with self._scope() as connection:
                mark = self._merger.mark(connection, view, cheaply=True)
        except CoverageError:
            return last
        return replace(last, is_current=last.mark == mark)

    def last_seconds(self, view: View, *, unknown: float) -> float:
        """How long the view's last whole answer took to make; `unknown` if there is none."""
        last = self._last.get(view)
        return unknown if last is None else last.seconds

    def remember(self, view: View) -> bool:
        """Make the view's whole answer if it is not known; False if it is too large to be kept.

        Raises:
            CoverageError: it has no exact answer now, and why.
        """
        with self._scope() as connection:
            if self._known(view, self._merger.mark(connection, view)) is not None:
                return True
            return self._made(connection, view, LARGEST_BYTES) is not None

    def refuse(self, view: View) -> None:
        """Note that the view's whole answer is too large or too slow to be made unasked."""
        self._last.files.refuse(view)

    def is_refused(self, view: View) -> bool:
        """Whether that was noted within a day."""
        return self._last.files.is_refused(view)

    # -- what answers are made of ----------------------------------------------------------

    def identity(self, view: View, within: Span | None = None) -> Hashable:
        """Says whether the answer is the same as before, without making it.

        Raises:
            CoverageError: it has no exact answer now, and why.
        """
        with self._scope() as connection:
            if within is None:
                return self._merger.mark(connection, view)
            return self._merger.basis(connection, view, within=within).identity

    def coverage(self, view: View) -> tuple[Coverage, ...]:
        """What the view's answer would be made of.

        Raises:
            CoverageError: it has none now, and why.
        """
        with self._scope() as connection:
            return self._merger.coverage(connection, view)

    def windows(self, view: View, windows: Sequence[datetime]) -> pa.Table:
        """The view's merged answer in some of its windows."""
        if view.window is None:
            raise QueryError(f"view {view.name} has no window of event time")
        span = Span(min(windows), max(windows) + timedelta(microseconds=1))
        rows, _ = self.answer(view, span)
        starts = rows.column(view.window.key).cast(pa.timestamp("us"))
        return rows.filter(pc.is_in(starts, pa.array(windows, pa.timestamp("us"))))

    def newest(self, topic: str) -> datetime | None:
        """The highest event time of a topic that either layer has seen; None before any."""
        with self._scope() as connection:
            return self._newest(connection, topic)

    def _newest(self, connection: duckdb.DuckDBPyConnection, topic: str) -> datetime | None:
        return self._newest_events.of(topic, connection)

    def full(self, view: View) -> pa.Table:
        """The view by plain recomputation over every event that batch and speed count."""
        names = {leaf.topic for leaf in view.leaves} | set(view.plans.dimensions)
        with self._scope() as connection:
            ctes = [f"{quote(n)} AS ({self._source(connection, n)})" for n in sorted(names)]
            return _run(connection, f"WITH {', '.join(ctes)}\nFROM (\n{view.plans.full}\n)")

    def _window_columns(self, names: Iterable[str]) -> dict[str, str]:
        """The column of each view of these that holds the start of its window, where it has one."""
        views = {name: self._views[name.lower()] for name in names if name.lower() in self._views}
        return {name: view.window.key for name, view in views.items() if view.window is not None}

    def _source(
        self, connection: duckdb.DuckDBPyConnection, name: str, within: Span | None = None
    ) -> str:
        """A relation as a query, as of now; windows of a view elsewhere may be left out."""
        if name in self._views:
            basis = self._merger.basis(connection, self._views[name], within=within)
            return self._merger.sql(connection, basis)
        if name in TOPICS:
            return self._topics.sql(connection, name)
        if name in DIMENSIONS:
            return self._table(name, dimension_name(name), _how_to_load(name))
        if name in SYSTEM_TABLES:
            return self._system_table(connection, *SYSTEM_TABLES[name])
        if name == ALERTS:
            alerts = [vars(alert) for alert in self._state.alerts()]
            connection.register("raised_alerts", pa.Table.from_pylist(alerts, schema=ALERT_SCHEMA))
            return "FROM raised_alerts"
        close = get_close_matches(name, self.relations, 1)
        known = f"There are {', '.join(self.relations)}."
        raise QueryError(
            f"no relation {name}", hint=f"Did you mean {close[0]}?" if close else known
        )

    def _table(self, name: str, table: str, hint: str) -> str:
        if not self._lake.exists(table):
            raise QueryError(f"{name} is not there: nothing was loaded yet", hint=hint)
        return f"FROM {self._lake.scan(table)}"

    def _system_table(
        self, connection: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema
    ) -> str:
        """A table that the loader makes once it has something to put there."""
        if self._lake.exists(table):
            return f"FROM {self._lake.scan(table)}"
        empty = f"{table.replace('.', '_')}__empty"
        connection.register(empty, schema.empty_table())
        return f"FROM {empty}"


def _only(sql: str, window: Window | None, within: Span | None) -> str:
    """The rows of a view's answer whose windows start within a stretch of event time."""
    if window is None or within is None:
        return sql
    key = f"CAST({quote(window.key)} AS TIMESTAMP)"
    return (
        f"SELECT * FROM ({sql}) WHERE {key} >= TIMESTAMP '{within.start}' "
        f"AND {key} < TIMESTAMP '{within.end}'"
    )


def _run(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    limit: int | None = None,
    *,
    most_bytes: int | None = None,
) -> pa.Table:
    """The answer of a query, or no more than its first rows, up to a number or a size of them."""
    try:
        answer = connection.execute(sql)
        _refuse_wrong(answer)
        if limit is None and most_bytes is None:
            return answer.to_arrow_table(ARROW_ROWS)
        return _first(answer, limit, most_bytes)
    except duckdb.OutOfMemoryException as error:
        raise _no_memory(error) from error
    except duckdb.Error as error:
        raise QueryError(str(error), hint=disk.advice(error)) from error
    except (OSError, pa.ArrowException) as error:
        # Of a type that Arrow does not have, or of more text than it takes.
        raise QueryError(
            f"the answer cannot be written: {error}", hint=disk.advice(error)
        ) from error


def _no_memory(error: duckdb.Error) -> QueryMemoryError:
    return QueryMemoryError(
        f"the query needs more memory than it may have: {str(error).splitlines()[0]}",
        hint=disk.advice(error) or "Ask for fewer groups, rows or windows.",
    )


def _refuse_wrong(answer: duckdb.DuckDBPyConnection) -> None:
    """Refuse an answer of a type that DuckDB gives to Arrow with other values."""
    for name, type_, *_ in answer.description or ():
        if "UHUGEINT" in str(type_):
            raise QueryError(
                f"column {name} is {type_}, of which an answer would hold wrong numbers",
                hint="Cast it to HUGEINT or VARCHAR.",
            )


def _first(
    answer: duckdb.DuckDBPyConnection, limit: int | None, most_bytes: int | None
) -> pa.Table:
    """The first rows of a query's answer; the others are not made where that can be.

    Args:
        most_bytes: end with the rows that exceed it; None: no bound.
    """
    most_rows = sys.maxsize if limit is None else limit
    reader = answer.to_arrow_reader(min(most_rows, _ROWS_AT_ONCE) or 1)
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    while rows < most_rows and (most_bytes is None or size <= most_bytes):
        try:
            batches.append(reader.read_next_batch())
        except StopIteration:
            break
        rows, size = rows + batches[-1].num_rows, size + batches[-1].nbytes
    return pa.Table.from_batches(batches, reader.schema).slice(0, limit)


def _how_to_load(dimension: str) -> str:
    if dimension not in CONTRACTS:
        return "Run `playhead batch`: it is made from the ratings."
    file = CONTRACTS[dimension].file
    return f"Put {file}.csv into a folder and run `playhead load FOLDER`."


ALERT_SCHEMA = pa.schema(
    [
        ("alert_id", pa.string()),
        ("revision", pa.int32()),
        ("view", pa.string()),
        ("window_start", pa.timestamp("us")),
        ("window_end", pa.timestamp("us")),
        ("level", pa.string()),
        ("keys", pa.string()),
        ("detail", pa.string()),
        ("raised_at", pa.timestamp("us")),
    ]
)


def find_view(views: Mapping[str, View], name: str) -> View:
    """The view of this name.

    Raises:
        UnknownViewError: there is none; close names are given.
    """
    if name in views:
        return views[name]
    close = get_close_matches(name, views, 1)
    raise UnknownViewError(
        f"no view {name}",
        hint=f"Did you mean {close[0]}?" if close else f"There are {', '.join(sorted(views))}.",
    )
