"""The quality of what was loaded: every load's report, the worst columns, the quarantine."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from playhead import disk
from playhead.assemble import Workspace
from playhead.batch.deadletters import REASON_CLASS
from playhead.batch.quality import METRICS, REPORT_SCHEMA, Metric
from playhead.engines import connect
from playhead.errors import QueryError
from playhead.lake import QUALITY_QUARANTINE, QUALITY_REPORT, Snapshot
from playhead.ops.latest import Latest

__all__ = [
    "LOADS",
    "QUARANTINED",
    "Quality",
    "QualityReader",
    "QuarantineExample",
    "QuarantineRule",
    "measure_quality",
]

LOADS = 200
"""So many of a table's newest loads are looked at."""

QUARANTINED = 100_000
"""About so many of the newest rows of the quarantine are told apart by rule."""

TEXT_CHARACTERS = 2_048
"""Of a quarantined row that is shown as an example."""

_KEPT_S = 1.0
_EXAMPLES = 3
_RULES = 100
_WORST = 20

_COUNTS = ",\n".join(
    f"CAST(sum(value) FILTER (metric = '{metric}') AS BIGINT) AS \"{metric}\"" for metric in METRICS
)
_NEWEST = f"""
SELECT * FROM {{report}}
QUALIFY dense_rank() OVER (PARTITION BY "table" ORDER BY load_id DESC) <= {LOADS}
"""
_LOADS = f"""
SELECT "table", load_id, max("at") AS "at", any_value(file) AS file, {_COUNTS}
FROM newest GROUP BY "table", load_id ORDER BY "table", load_id
"""
_COLUMNS = """
SELECT "table", load_id, "at", metric, "column", value, share FROM newest
WHERE "column" IS NOT NULL AND value > 0 ORDER BY "table", metric, "column", load_id
"""
_WORST_COLUMNS = f"""
WITH last AS (
    SELECT * FROM newest QUALIFY load_id = max(load_id) OVER (PARTITION BY "table")
)
SELECT "table", file, metric, "column", value, share, note FROM last
WHERE "column" IS NOT NULL AND share > 0
QUALIFY row_number() OVER (PARTITION BY metric ORDER BY share DESC, "table", "column") <= {_WORST}
ORDER BY share DESC, "table", metric, "column"
"""
# A load's rows have one time: those of the load in which the bound lies are taken as they come.
_NEWEST_QUARANTINED = """
CREATE OR REPLACE TEMP TABLE looked_at AS
WITH cut AS (
    SELECT min(loaded_at) AS since FROM (
        SELECT loaded_at FROM {quarantine} ORDER BY loaded_at DESC LIMIT {limit}
    )
)
(SELECT * FROM {quarantine} WHERE loaded_at > (SELECT since FROM cut))
UNION ALL (SELECT * FROM {quarantine} WHERE loaded_at = (SELECT since FROM cut) LIMIT {limit})
"""
_RULES_BROKEN = f"""
SELECT "table", {REASON_CLASS} AS class, count(*), min(loaded_at), max(loaded_at),
    max_by({{
        file: file, line: line, "column": "column", reason: reason[:{TEXT_CHARACTERS}],
        raw: raw[:{TEXT_CHARACTERS}], loaded_at: loaded_at
    }}, epoch_us(loaded_at), {_EXAMPLES})
FROM looked_at GROUP BY "table", class ORDER BY count(*) DESC, "table", class
"""


@dataclass(frozen=True)
class QuarantineExample:
    """One row of a file that was not taken.

    Attributes:
        line: physical line of the file, from 1.
        column: the columns that are at fault; None: the row as a whole.
        raw: its text, up to a bound.
    """

    file: str
    line: int | None
    column: str | None
    reason: str
    raw: str
    loaded_at: datetime


@dataclass(frozen=True)
class QuarantineRule:
    """Rows of one table that broke one rule.

    Attributes:
        rule: the reason without what differs between rows: "…" stands for a value, "#" for a
            number.
        first, last: when the earliest and the latest of them were loaded (naive UTC).
        examples: some of the last.
    """

    table: str
    rule: str
    rows: int
    first: datetime
    last: datetime
    examples: tuple[QuarantineExample, ...]


@dataclass(frozen=True)
class Quality:
    """What the loads found, table by table; empty before the first load.

    Attributes:
        loads: one row for each load of a table: table, load_id, at, file, and a column for each
            metric of `METRICS` with its sum over the table's columns; NULL where it was not
            taken.
        columns: values above zero of metrics about a column: table, load_id, at, metric, column,
            value, share (of the rows, 0 to 1).
        worst: of every table's last load, the columns with the highest shares, of each metric
            twenty at most; highest first.
        rules: of the newest rows of the quarantine, most rows first, a hundred at most.
        quarantined: all rows in the quarantine; older ones than the newest `QUARANTINED` count
            for no rule.
    """

    loads: pa.Table
    columns: pa.Table
    worst: tuple[Metric, ...]
    rules: tuple[QuarantineRule, ...]
    quarantined: int


def measure_quality(workspace: Workspace) -> Quality:
    """The quality as of now; see `QualityReader`, which is cheaper where it is kept."""
    with QualityReader(workspace) as reader:
        return reader.read()


class QualityReader:
    """Reads the reports and the quarantine whenever a load has changed them.

    Threads may share it, and none waits for another once they were read.

    Args:
        workspace: stays open for as long as the reader is used.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._latest = Latest[Quality](_KEPT_S, workspace.clock.monotonic)
        self._known: tuple[object, Quality] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of DuckDB; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self) -> Quality:
        """The quality as of now, or as of a second ago.

        Raises:
            LakeError: what holds it is damaged.
            QueryError: it is too much for the memory that may be used.
        """
        return self._latest.get(self._read)

    def _read(self) -> Quality:
        tables = [self._snapshot(name) for name in (QUALITY_REPORT, QUALITY_QUARANTINE)]
        identity = tuple(table and table.id for table in tables)
        if self._known is None or self._known[0] != identity:
            self._known = (identity, self._measured(*tables))
        return self._known[1]

    def _snapshot(self, name: str) -> Snapshot | None:
        lake = self._workspace.lake
        return lake.snapshot(name) if lake.exists(name) else None

    def _measured(self, report: Snapshot | None, quarantine: Snapshot | None) -> Quality:
        try:
            connection = self._opened()
            if report is None:
                connection.register("reports", REPORT_SCHEMA.empty_table())
            scan = "reports" if report is None else report.scan()
            newest = _NEWEST.format(report=scan)
            connection.execute(f"CREATE OR REPLACE TEMP TABLE newest AS {newest}")
            return Quality(
                connection.execute(_LOADS).to_arrow_table(),
                connection.execute(_COLUMNS).to_arrow_table(),
                tuple(Metric(*row) for row in connection.execute(_WORST_COLUMNS).fetchall()),
                tuple(_rules(connection, quarantine)) if quarantine else (),
                quarantine.rows if quarantine else 0,
            )
        except duckdb.Error as error:
            told = str(error).strip().splitlines()[0]
            raise QueryError(
                f"the quality reports cannot be read: {told}", hint=disk.advice(error)
            ) from error

    def _opened(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = connect(
                memory_limit=self._workspace.settings.engine.memory_limit,
                threads=1,
                temp_dir=self._workspace.path / "tmp",
            )
        return self._connection


def _rules(connection: duckdb.DuckDBPyConnection, quarantine: Snapshot) -> Iterator[QuarantineRule]:
    scan = quarantine.scan(
        columns=["table", "reason", "loaded_at", "file", "line", "column", "raw"]
    )
    connection.execute(_NEWEST_QUARANTINED.format(quarantine=scan, limit=QUARANTINED))
    found = connection.execute(_RULES_BROKEN)
    for table, rule, rows, first, last, examples in found.fetchmany(_RULES):
        shown: list[dict[str, Any]] = sorted(
            examples, key=lambda one: (one["file"], one["line"] or 0)
        )
        made = tuple(QuarantineExample(**example) for example in shown)
        yield QuarantineRule(table, rule, rows, first, last, made)
