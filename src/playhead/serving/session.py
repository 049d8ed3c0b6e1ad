"""One reading session: every topic, dimension and view a relation by its name, as of now."""

import logging
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches

import duckdb
import pyarrow as pa

from playhead.contracts import TOPICS
from playhead.eventlog import EventLog
from playhead.errors import QueryError, UnknownViewError
from playhead.lake import Lake
from playhead.lake.tables import QUALITY_QUARANTINE, QUALITY_REPORT, dimension_name
from playhead.serving.coverage import Coverage
from playhead.serving.merge import Merged, Merger
from playhead.serving.topics import TopicReader
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.binder import quote

logger = logging.getLogger(__name__)

SYSTEM_TABLES = {"quality_report": QUALITY_REPORT, "quarantine": QUALITY_QUARANTINE}
ALERTS = "alerts"
DIMENSIONS = ("users", "movies", "pair_ratings")


class Session:
    """Answers read-only SQL over topics, dimensions, views, alerts and quality tables.

    Each call sees the workspace as it is at that moment. A session serves one thread at a time.

    Args:
        connection: a DuckDB session of its own.
    """

    def __init__(
        self,
        lake: Lake,
        log: EventLog,
        state: StateStore,
        views: Mapping[str, View],
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._lake, self._state, self._views = lake, state, views
        self._connection = connection
        self._merger = Merger(lake, state, connection)
        self._topics = TopicReader(lake, log, state, connection)

    @property
    def relations(self) -> list[str]:
        """Every name that a query may read."""
        return sorted({*self._views, *TOPICS, *DIMENSIONS, *SYSTEM_TABLES, ALERTS})

    def query(self, sql: str) -> pa.Table:
        """The answer of one SELECT (DuckDB's dialect).

        Raises:
            QueryError: no single SELECT, an unknown relation or column, or a failing expression.
            CoverageError: a view that the query reads has no exact answer now.
        """
        self._check_read_only(sql)
        for name in sorted(self._connection.get_table_names(sql)):
            self._define(name)
        try:
            return self._connection.execute(sql).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(str(error)) from error

    def answer(self, view: View) -> tuple[pa.Table, Merged]:
        """A view's merged answer and what it is made of."""
        merged = self._merger.merged(view)
        return self._run(merged.sql), merged

    def coverage(self, view: View) -> tuple[Coverage, ...]:
        """What the view's answer would be made of.

        Raises:
            CoverageError: it has none now, and why.
        """
        return self._merger.merged(view).coverage

    def windows(self, view: View, windows: list[datetime]) -> pa.Table:
        """The view's merged answer in some of its windows."""
        if view.window is None:
            raise QueryError(f"view {view.name} has no window")
        merged = self._merger.merged(view)
        self._connection.register("asked_windows", pa.table({"w": pa.array(windows, pa.timestamp("us"))}))
        key = f"CAST({quote(view.window.key)} AS TIMESTAMP)"
        low, high = (f"TIMESTAMP '{w.isoformat(' ')}'" for w in (min(windows), max(windows)))
        return self._run(
            f"SELECT * FROM ({merged.sql}) WHERE {quote(view.window.key)} BETWEEN {low} AND {high} "
            f"AND {key} IN (SELECT w FROM asked_windows)"
        )

    def full(self, view: View) -> pa.Table:
        """The view by plain recomputation over every event that batch and speed count."""
        names = {leaf.topic for leaf in view.leaves} | set(view.plans.dimensions)
        ctes = ",\n".join(f"{quote(n)} AS ({self._source(n)})" for n in sorted(names))
        return self._run(f"WITH {ctes}\nFROM (\n{view.plans.full}\n)")

    def _run(self, sql: str) -> pa.Table:
        try:
            return self._connection.execute(sql).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(str(error)) from error

    def _check_read_only(self, sql: str) -> None:
        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise QueryError(str(error)) from error
        kinds = [statement.type for statement in statements]
        allowed = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
        if len(kinds) != 1 or kinds[0] not in allowed:
            found = ", ".join(kind.name for kind in kinds) or "nothing"
            raise QueryError(
                f"a query is one SELECT; this is {found}",
                hint="Queries are read-only: nothing in a workspace is changed by one.",
            )

    def _define(self, name: str) -> None:
        """Make a relation readable under its name, as of now."""
        source = self._source(name.lower())
        self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {quote(name)} AS {source}")

    def _source(self, name: str) -> str:
        if name in self._views:
            return self._merger.merged(self._views[name]).sql
        if name in TOPICS:
            return self._topics.sql(name)
        if name in DIMENSIONS:
            return self._table(dimension_name(name), f"load {name} first: `playhead load DIR`")
        if name in SYSTEM_TABLES:
            return self._table(SYSTEM_TABLES[name], "nothing was loaded yet")
        if name == ALERTS:
            return self._alerts()
        close = get_close_matches(name, self.relations, 1)
        raise QueryError(
            f"no relation {name}",
            hint=f"Did you mean {close[0]}?" if close else f"There are {', '.join(self.relations)}.",
        )

    def _table(self, table: str, hint: str) -> str:
        if not self._lake.exists(table):
            raise QueryError(f"{table} is empty", hint=hint)
        return f"FROM {self._lake.scan(table)}"

    def _alerts(self) -> str:
        alerts = [vars(alert) for alert in self._state.alerts()]
        self._connection.register("raised_alerts", pa.Table.from_pylist(alerts, schema=ALERT_SCHEMA))
        return "FROM raised_alerts"


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



