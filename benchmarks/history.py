"""A long history for a benchmark, written straight into the clean tables.

Loading checks, dates and writes every row twice, at a rate that `playhead bench load` measures;
where only what comes after it is measured, that would take most of an hour. One small load makes
the tables, the dimensions and the coverage; the other events go month by month from generated
files into the clean tables, through the lake's own `append`, and each month's files are deleted.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb

from playhead.assemble import Workspace
from playhead.contracts import contract
from playhead.lake.tables import clean_name
from playhead.testing.generate import GenerateSpec, generate

FILES = {"watch_history": "playback", "reviews": "rating"}
LOADED_SESSIONS = 10_000


def months(start: date, end: date) -> Iterator[tuple[date, date]]:
    """The months that `[start, end)` touches, each as the part `[since, until)` that is in it."""
    while start < end:
        until = min((start.replace(day=1) + timedelta(days=32)).replace(day=1), end)
        yield start, until
        start = until


def write_history(
    workspace: Workspace, con: duckdb.DuckDBPyConnection, folder: Path, spec: GenerateSpec
) -> int:
    """Load the first events, then append the others to the clean tables; rows in all.

    Args:
        folder: for generated files, a month's at a time.
        spec: the sessions, users and days of the whole history; it has no dirt.
    """
    first = min(LOADED_SESSIONS, spec.sessions)
    generate(folder, replace(spec, sessions=first, days=1))
    report = workspace.load(folder)
    report.check()
    rows = sum(table.read for table in report.tables)
    end = spec.start + timedelta(days=spec.days)
    for number, (since, until) in enumerate(months(spec.start, end), 1):
        shutil.rmtree(folder)
        days = (until - since).days
        share = max(1, (spec.sessions - first) * days // spec.days)
        generate(
            folder, replace(spec, sessions=share, days=days, start=since, seed=spec.seed + number)
        )
        for file, topic in FILES.items():
            query = _events(topic, folder / f"{file}.parquet", f"{since:%y%m}_")
            rows += workspace.lake.append(clean_name(topic), con, query).rows
    shutil.rmtree(folder)
    return rows


def write_day(con: duckdb.DuckDBPyConnection, folder: Path, spec: GenerateSpec) -> None:
    """Files of one day with ids of their own, each file in a folder of its name."""
    generate(folder / "day", spec)
    for file, topic in FILES.items():
        (folder / file).mkdir()
        source, target = folder / "day" / f"{file}.parquet", folder / file / f"{file}.parquet"
        name = contract(topic).field("event_id").source
        con.execute(
            f"COPY (SELECT * REPLACE ('last_' || {name} AS {name}) FROM '{source}') "
            f"TO '{target}' (FORMAT parquet)"
        )
    shutil.rmtree(folder / "day")


def _events(topic: str, file: Path, prefix: str) -> str:
    """A file's rows as clean events of load 1, their times anywhere in their day."""
    fields = contract(topic)
    items = {f.name: f'"{f.source}"' for f in fields.fields if f.source}
    name = items["event_id"]
    items = {
        column: f"'{prefix}' || {sql}" if sql == name else sql for column, sql in items.items()
    }
    day = fields.field(fields.field("event_time").derived_from[1]).source
    items["event_time"] = f"{day} + to_microseconds(CAST(hash({name}) % 86400000000 AS BIGINT))"
    items["event_type"] = f"'{fields.field('event_type').values[0]}'"
    items |= {"partition": "-1", "offset": "file_row_number", "load_id": "1"}
    items["ingest_time"] = f"CAST({day} AS TIMESTAMP)"
    columns = ", ".join(f'{sql} AS "{column}"' for column, sql in items.items())
    return f"SELECT {columns} FROM read_parquet('{file}', file_row_number = true)"
