"""From rows of text to typed rows: every value checked against its contract, every fault named.

The staged rows have the contract's fields, and `_file`, `_line`, `_record`, `_hash` (`content_sql`
of events that came without an id, which get one from it), `_faults` (NULL, or a list of column,
kind and reason) and `_raw` (a faulty row's own text, or its values as JSON).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date

import duckdb

from playhead.batch.readers import Progress, open_rows, source_columns
from playhead.batch.sources import Source
from playhead.batch.sqltext import identifier, literal
from playhead.batch.values import (
    date_field,
    faults_sql,
    text_name,
    text_sql,
    typed_name,
    value_sql,
)
from playhead.contracts import Contract, event_time_of
from playhead.errors import LoadError

__all__ = ["DateRange", "Staged", "content_sql", "stage", "staged_sql"]


@dataclass(frozen=True)
class DateRange:
    """The days `[since, until)`; None leaves that side open.

    A row without a readable date belongs to the range that has no `since`, so that a file loaded
    in consecutive ranges gives each of its rows once.
    """

    since: date | None = None
    until: date | None = None

    def sql(self, column: str) -> str:
        """A condition on a DATE expression; true for every row when both sides are open."""
        conditions = ["true"]
        if self.since is not None:
            conditions.append(f"coalesce({column} >= DATE '{self.since}', false)")
        if self.until is not None:
            undated = "true" if self.since is None else "false"
            conditions.append(f"coalesce({column} < DATE '{self.until}', {undated})")
        return " AND ".join(conditions)


@dataclass(frozen=True)
class Staged:
    """Typed rows in tables of the session, which spills them to disk where memory is short.

    Attributes:
        sql: the rows, for a FROM clause; may be read many times.
        repeated: the same of those rows, at least, whose key is that of several rows.
        read: records of the files, those outside the range included.
        unknown: ignored columns of the files.
    """

    sql: str
    repeated: str
    read: int
    unknown: tuple[str, ...]

    def drop(self, con: duckdb.DuckDBPyConnection) -> None:
        """Forget the rows."""
        for table in (self.sql, self.repeated):
            con.execute(f"DROP TABLE IF EXISTS {table}")


def stage(
    source: Source,
    contract: Contract,
    con: duckdb.DuckDBPyConnection,
    *,
    days: DateRange,
    ignore_unknown: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Staged:
    """Read the files of one table once and keep their typed rows in the session.

    Raises:
        LoadError: see `open_rows`; or the files changed while they were read.
    """
    table, repeated = (identifier(f"{kind} {contract.name}") for kind in ("staged", "repeated"))
    before = source.fingerprint()
    with open_rows(source, contract, con, ignore_unknown=ignore_unknown, progress=progress) as rows:
        query = staged_sql(contract, rows.sql, days, rows.typed)
        con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")
    if source.fingerprint() != before:
        con.execute(f"DROP TABLE {table}")
        raise LoadError(
            f"{source.name}: changed while it was read",
            hint="Load it again when nothing writes to it; nothing of it was loaded.",
        )
    con.execute(f"CREATE OR REPLACE TEMP TABLE {repeated} AS {_repeated_sql(contract, table)}")
    return Staged(table, repeated, rows.read, rows.unknown)


def _repeated_sql(contract: Contract, rows: str) -> str:
    """Rows of equal keys have equal hashes of them, and few others have."""
    key = identifier(contract.key[0])
    return f"""
        SELECT row.* FROM {rows} AS row SEMI JOIN (
            SELECT hash({key}) AS repeated FROM {rows} GROUP BY repeated HAVING count(*) > 1
        ) ON hash(row.{key}) = repeated
    """


def staged_sql(contract: Contract, rows: str, days: DateRange, typed: Collection[str] = ()) -> str:
    """The typed rows of `rows` (see `playhead.batch.readers`) within the days."""
    given = ", ".join(
        typed_name(name) if name in typed else f"{identifier(name)} AS {text_name(name)}"
        for name in source_columns(contract)
    )
    values = ", ".join(f"{value_sql(f, typed)} AS {identifier(f.name)}" for f in contract.fields)
    dated = date_field(contract)
    within = "true" if dated is None else days.sql(identifier(dated.name))
    return f"""
        WITH given AS (SELECT {given}, _file, _line, _record, _reject, _raw FROM {rows}),
        typed AS (SELECT *, {values} FROM given),
        judged AS (SELECT *, {faults_sql(contract, typed)} AS _faults FROM typed WHERE {within}),
        hashed AS (SELECT * REPLACE ({_raw_sql(contract, typed)} AS _raw) FROM judged),
        told_apart AS (SELECT *, {_hash_sql(contract)} AS _hash FROM hashed)
        {_identified_sql(contract)}
    """


def _raw_sql(contract: Contract, typed: Collection[str]) -> str:
    """What a faulty row looked like: its own text, or its values as JSON."""
    values = ", ".join(
        f"{literal(name)}: {text_sql(name, typed)}" for name in source_columns(contract)
    )
    return f"CASE WHEN _faults IS NOT NULL THEN coalesce(_raw, to_json({{{values}}})::VARCHAR) END"


def _hash_sql(contract: Contract) -> str:
    if contract.kind == "dimension":
        return "NULL::VARCHAR"
    return f"CASE WHEN event_id IS NULL THEN {content_sql(contract)} END"


def content_sql(contract: Contract) -> str:
    """MD5 of a row's content: of the typed values, so that every format of a row meets."""
    values = ", ".join(
        f"coalesce({identifier(f.name)}::VARCHAR, chr(30))"
        for f in contract.fields
        if f.source is not None
    )
    return f"md5(concat_ws(chr(31), {values}, _raw))"


def _identified_sql(contract: Contract) -> str:
    """Events get an id where the file has none, and the time that follows from id and date."""
    fields = {f.name: identifier(f.name) for f in contract.fields}
    kept = "_file, _line, _record, _hash, _faults, _raw"
    if contract.kind == "dimension":
        return f"SELECT {', '.join(fields.values())}, {kept} FROM told_apart"
    fields["event_time"] = f"{event_time_of(contract)} AS event_time"
    return f"""
        SELECT {", ".join(fields.values())}, {kept} FROM (
            SELECT * REPLACE (coalesce(event_id, 'row-' || _hash) AS event_id) FROM told_apart
        )
    """
