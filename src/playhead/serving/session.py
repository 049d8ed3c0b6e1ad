"""One reading session: every topic, dimension and view a relation by its name, as of now."""

import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
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
from playhead.engines.duckdb import memory_limit
from playhead.errors import QueryError, QueryMemoryError, UnknownViewError
from playhead.eventlog import EventLog
from playhead.lake import Lake
from playhead.lake.tables import QUALITY_QUARANTINE, QUALITY_REPORT, dimension_name
from playhead.serving.answers import Answers
from playhead.serving.bounds import spans_asked
from playhead.serving.coverage import Coverage
from playhead.serving.follow import Follower
from playhead.serving.history import KeptGroups
from playhead.serving.merge import Merger
from playhead.serving.names import Guard, relations_read
from playhead.serving.sources import Span
from playhead.serving.stop import Stop
from playhead.serving.topics import TopicReader
from playhead.speed.recall import newest_event
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

    @contextmanager
    def _scope(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session for one answer: what is defined and registered in it goes with it."""
        stop: Stop | None = getattr(self._stops, "now", None)
        with (
            self._connection.cursor() as connection,
            stop.ending(connection) if stop is not None else nullcontext(),
        ):
            yield connection

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
        if within is not None and view.window is None:
            raise QueryError(f"view {view.name} has no window of event time")
        with self._scope() as connection:
            basis = self._merger.basis(connection, view, within=within)
            known = self._answers.get(basis.identity, within)
            if known is None:
                sql = self._merger.sql(connection, basis)
                known = _run(connection, _only(sql, view.window, within))
                self._answers.keep(basis.identity, within, known)
            return known, basis.coverage

    def identity(self, view: View, within: Span | None = None) -> Hashable:
        """Says whether the answer is the same as before, without making it.

        Raises:
            CoverageError: it has no exact answer now, and why.
        """
        with self._scope() as connection:
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
            return newest_event(self._lake, self._state, connection, topic)

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


def _run(connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None = None) -> pa.Table:
    try:
        answer = connection.execute(sql)
        _refuse_wrong(answer)
        return answer.to_arrow_table() if limit is None else _first(answer, limit)
    except duckdb.OutOfMemoryException as error:
        raise QueryMemoryError(
            f"the query needs more memory than it may have: {str(error).splitlines()[0]}",
            hint=disk.advice(error) or "Ask for fewer groups, rows or windows.",
        ) from error
    except duckdb.Error as error:
        raise QueryError(str(error), hint=disk.advice(error)) from error
    except (OSError, pa.ArrowException) as error:
        # Of a type that Arrow does not have, or of more text than it takes.
        raise QueryError(
            f"the answer cannot be written: {error}", hint=disk.advice(error)
        ) from error


def _refuse_wrong(answer: duckdb.DuckDBPyConnection) -> None:
    """Refuse an answer of a type that DuckDB gives to Arrow with other values."""
    for name, type_, *_ in answer.description or ():
        if "UHUGEINT" in str(type_):
            raise QueryError(
                f"column {name} is {type_}, of which an answer would hold wrong numbers",
                hint="Cast it to HUGEINT or VARCHAR.",
            )


def _first(answer: duckdb.DuckDBPyConnection, limit: int) -> pa.Table:
    """The first rows of a query's answer; the others are not made where that can be."""
    reader = answer.to_arrow_reader(min(limit, _ROWS_AT_ONCE) or 1)
    batches: list[pa.RecordBatch] = []
    while sum(batch.num_rows for batch in batches) < limit:
        try:
            batches.append(reader.read_next_batch())
        except StopIteration:
            break
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
