"""The quality report: what a table's files hold that they should not, counted, kept and shown.

A report is rows of (metric, column, value, share of the rows); `METRICS` says what each counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

import duckdb
import pyarrow as pa
from rich.table import Table

from playhead.batch.sqltext import identifier
from playhead.batch.stage import content_sql
from playhead.batch.values import date_field
from playhead.contracts import Contract
from playhead.lake import QUALITY_REPORT, Lake

__all__ = ["METRICS", "REPORT_SCHEMA", "Metric", "latest_report", "measure", "render"]

METRICS: Mapping[str, str] = {
    "rows": "rows read, those that cannot be taken apart included",
    "rejected": "rows that cannot be taken apart: width, quotes, encoding, syntax",
    "missing": "values that are empty",
    "all_null": "columns without any value, dropped by the reference cleaning; here they stay NULL",
    "full_row_duplicates": "rows that repeat another row in every column",
    "key_duplicates": "rows that repeat another row's key, full-row duplicates included",
    "type_violations": "values that are no number, date or boolean, or outside the type",
    "enum_violations": "values outside the closed set of the contract",
    "required_missing": "rows without a value that the contract requires",
    "out_of_range": "values outside the plausible range of the contract",
    "longer_than_title": "sessions that lasted longer than the title",
    "orphan_keys": "keys without a row in the dimension",
    "before_subscription": "events before the user's subscription_start_date",
    "before_added": "events before the title's added_to_platform",
    "click_without_results": "searches without results that have a click",
    "unknown_column": "columns of the file that the contract does not have, ignored",
}
"""Every metric of the report, and what it counts."""

REPORT_SCHEMA = pa.schema(
    [
        ("load_id", pa.int64()),
        ("table", pa.string()),
        ("file", pa.string()),
        ("metric", pa.string()),
        ("column", pa.string()),
        ("value", pa.int64()),
        ("share", pa.decimal128(9, 6)),
        ("note", pa.string()),
        ("at", pa.timestamp("us")),
    ]
)
_FAULTS = {"type": "type_violations", "enum": "enum_violations", "missing": "required_missing"}


@dataclass(frozen=True)
class Metric:
    """One row of the report.

    Attributes:
        column: the column that the metric is about; None for one about whole rows.
        value: the count; None where it could not be taken, and `note` says why.
        share: of the rows, to six places; None without rows.
    """

    table: str
    file: str
    metric: str
    column: str | None
    value: int | None
    share: Decimal | None
    note: str | None = None


@dataclass(frozen=True)
class _Check:
    """A metric that is an aggregate over staged rows, and the dimension that it needs."""

    metric: str
    column: str | None
    sql: str
    needs: str | None = None


def measure(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    staged: str,
    *,
    file: str,
    dimensions: Mapping[str, str],
    repeated: str,
    unknown: Sequence[str] = (),
) -> list[Metric]:
    """The quality of one table's staged rows, in one pass over them plus one over the faulty.

    Args:
        staged: the rows (see `playhead.batch.stage`), for a FROM clause; read twice.
        dimensions: relation of each dimension that is there, by name; a check that needs one
            that is not there says so in its note.
        repeated: the same of those rows, at least, whose key is that of several rows.
        unknown: columns of the file that were ignored.
    """
    checks = _checks(contract)
    taken = [check for check in checks if check.needs is None or check.needs in dimensions]
    joins = "".join(
        _join(name, relation)
        for name, relation in dimensions.items()
        if any(check.needs == name for check in taken)
    )
    rejected = "coalesce(_faults[1].kind = 'structure', false)"
    readable = f"(SELECT * FROM {staged} WHERE NOT {rejected})"
    twice = f"(SELECT * FROM {repeated} WHERE NOT {rejected})"
    values = (
        con.execute(
            f"SELECT {', '.join(check.sql for check in taken)} FROM {readable} AS row {joins}"
        ).fetchone()
        or ()
    )
    found = {(c.metric, c.column): int(v) for c, v in zip(taken, values, strict=True)}
    found |= _duplicates(con, contract, twice)
    faults = con.execute(f"""
        SELECT fault.kind, fault.column, count(*)
        FROM (SELECT unnest(_faults) AS fault FROM {staged} WHERE _faults IS NOT NULL)
        GROUP BY ALL
    """).fetchall()
    found |= _with_faults(contract, found, faults)
    rows = found["rows", None]
    notes = {
        (c.metric, c.column): f"not checked: {c.needs} missing" for c in checks if c not in taken
    }
    notes |= {("unknown_column", name): "ignored" for name in unknown}
    ordered = sorted({**found, **notes}, key=_order)
    return [_metric(contract, file, key, found.get(key), rows, notes.get(key)) for key in ordered]


def keep(
    lake: Lake,
    con: duckdb.DuckDBPyConnection,
    metrics: Sequence[Metric],
    *,
    load_id: int,
    at: datetime,
    mark: str,
) -> None:
    """Add a report to `quality.report`, once: `mark` names it among the table's properties."""
    lake.create(QUALITY_REPORT, REPORT_SCHEMA)
    rows = [{"load_id": load_id, "at": at, **vars(metric)} for metric in metrics]
    con.register("quality_rows", pa.Table.from_pylist(rows, schema=REPORT_SCHEMA))
    try:
        lake.append(
            QUALITY_REPORT,
            con,
            "FROM quality_rows",
            properties={mark: "1"},
            guard=lambda properties: mark not in properties,
        )
    finally:
        con.unregister("quality_rows")


def latest_report(lake: Lake, con: duckdb.DuckDBPyConnection) -> list[Metric]:
    """The last report of every table, as it was kept; empty if nothing was loaded yet."""
    if not lake.exists(QUALITY_REPORT):
        return []
    rows = con.execute(f"""
        SELECT "table", file, metric, "column", value, share, note
        FROM {lake.scan(QUALITY_REPORT)} AS report
        QUALIFY load_id = max(load_id) OVER (PARTITION BY "table")
    """).fetchall()
    return sorted(
        (Metric(*row) for row in rows), key=lambda m: (m.table, *_order((m.metric, m.column)))
    )


def render(metrics: Iterable[Metric]) -> Table:
    """The report as a table for people: what is zero and unremarkable is left out.

    The title is the headline: rows, and how many of them are duplicated, refused or orphaned.
    """
    metrics = list(metrics)
    table = Table(title=headline(metrics), title_justify="left", title_style="bold")
    for name, justify in (("table", "left"), ("found", "left"), ("column", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    last = None
    for metric in metrics:
        if metric.value or metric.note or metric.metric == "rows":
            name = metric.table if metric.table != last else ""
            if last not in (None, metric.table):
                table.add_section()
            last = metric.table
            count = metric.note if metric.value is None else f"{metric.value:,}"
            share = "" if metric.share is None else f"{metric.share * 100:.2f} %"
            table.add_row(name, metric.metric.replace("_", " "), metric.column or "", count, share)
    return table


def headline(metrics: Iterable[Metric]) -> str:
    """One line over all tables."""
    totals: dict[str, int] = {}
    for metric in metrics:
        totals[metric.metric] = totals.get(metric.metric, 0) + (metric.value or 0)

    def total(*names: str) -> str:
        return f"{sum(totals.get(name, 0) for name in names):,}"

    violations = total("rejected", *_FAULTS.values())
    return (
        f"{total('rows')} rows: {total('full_row_duplicates')} full-row duplicates, "
        f"{violations} violations, {total('orphan_keys')} orphan keys, "
        f"{total('out_of_range')} values out of range"
    )


def _checks(contract: Contract) -> list[_Check]:
    names = contract.schema.names
    checks = [
        _Check("rows", None, "count(*)"),
    ]
    by_source = {f.source: f for f in reversed(contract.fields) if f.source is not None}
    for source, field in by_source.items():
        column = identifier(field.name)
        checks.append(_Check("missing", source, _missing(contract, field.name)))
        if field.minimum is not None or field.maximum is not None:
            low = "false" if field.minimum is None else f"row.{column} < {field.minimum}"
            high = "false" if field.maximum is None else f"row.{column} > {field.maximum}"
            sql = f"count(*) FILTER ({low} OR {high})"
            checks.append(_Check("out_of_range", source, sql))
    if contract.kind == "topic":
        checks += _cross_checks(contract, names)
    return checks


def _cross_checks(contract: Contract, names: Sequence[str]) -> list[_Check]:
    """What only the dimensions can tell, and what the columns tell of each other."""
    dated = date_field(contract)
    day = f"row.{identifier(dated.name)}" if dated else "NULL::DATE"
    day_name = dated.name if dated else None
    checks = []
    for key, dimension, start, metric in (
        ("user_id", "users", "subscription_start_date", "before_subscription"),
        ("movie_id", "movies", "added_to_platform", "before_added"),
    ):
        if key in names:
            orphan = f"count(*) FILTER (row.{key} IS NOT NULL AND {dimension}.{key} IS NULL)"
            early = f"count(*) FILTER ({day} < {dimension}.{start})"
            checks.append(_Check("orphan_keys", key, orphan, dimension))
            checks.append(_Check(metric, day_name, early, dimension))
    if "watch_duration_minutes" in names:
        longer = "count(*) FILTER (row.watch_duration_minutes > movies.duration_minutes)"
        checks.append(_Check("longer_than_title", "watch_duration_minutes", longer, "movies"))
    if "clicked_result_position" in names:
        click = (
            "count(*) FILTER (row.results_returned = 0 AND row.clicked_result_position IS NOT NULL)"
        )
        checks.append(_Check("click_without_results", "clicked_result_position", click))
    return checks


def _duplicates(
    con: duckdb.DuckDBPyConnection, contract: Contract, repeated: str
) -> dict[tuple[str, str | None], int]:
    """Full rows and keys that repeat: rows that are equal have equal keys."""
    row = con.execute(f"""
        SELECT count(*) - count(DISTINCT {content_sql(contract)}), {_key_duplicates(contract)}
        FROM {repeated} AS row
    """).fetchone()
    full, keys = row or (0, 0)
    return {("full_row_duplicates", None): int(full), ("key_duplicates", None): int(keys)}


def _key_duplicates(contract: Contract) -> str:
    (key,) = contract.key
    column = f"row.{identifier(key)}"
    if contract.kind == "topic":
        column = f"CASE WHEN row._hash IS NULL THEN {column} END"
    return f"count({column}) - count(DISTINCT {column})"


def _missing(contract: Contract, name: str) -> str:
    column = f"row.{identifier(name)}"
    if contract.kind == "topic" and name in contract.key:
        return "count(row._hash)"
    return f"count(*) - count({column})"


def _join(name: str, relation: str) -> str:
    key = {"users": "user_id", "movies": "movie_id"}[name]
    return f" LEFT JOIN {relation} AS {name} ON {name}.{key} = row.{key}"


def _with_faults(
    contract: Contract,
    found: Mapping[tuple[str, str | None], int],
    faults: Sequence[tuple[str, str | None, int]],
) -> dict[tuple[str, str | None], int]:
    """The counts that follow from the faults; a value of the wrong type is not a missing one."""
    rejected = sum(count for kind, _, count in faults if kind == "structure")
    more: dict[tuple[str, str | None], int] = {
        ("rows", None): found["rows", None] + rejected,
        ("rejected", None): rejected,
    }
    for kind, column, count in faults:
        if kind in _FAULTS:
            more[_FAULTS[kind], column] = count
        if kind == "type":
            more["missing", column] = found["missing", column] - count
    readable = found["rows", None]
    for (metric, column), count in {**found, **more}.items():
        if metric == "missing" and count == readable > 0:
            more["all_null", column] = 1
    return more


def _metric(
    contract: Contract,
    file: str,
    key: tuple[str, str | None],
    value: int | None,
    rows: int,
    note: str | None,
) -> Metric:
    share = None
    if value is not None and rows and key[0] not in ("all_null", "unknown_column"):
        share = (Decimal(value) / rows).quantize(Decimal("0.000001"), ROUND_HALF_UP)
    return Metric(contract.name, file, key[0], key[1], value, share, note)


def _order(key: tuple[str, str | None]) -> tuple[int, str]:
    return list(METRICS).index(key[0]), key[1] or ""
