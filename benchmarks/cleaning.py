"""Cleaning a topic: by one process, and divided among Spark's cores on this machine.

All rows of a raw table are cleaned anew, of which one in fifty repeats another; then late repeats
are looked up among all ids of the clean table, which adds nothing. What was dropped is compared.
Each part runs in a process of its own, once to warm up and once measured.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, Engine, event_tables
from playhead.assemble import Workspace
from playhead.batch.clean import CleanReport, clean_topic
from playhead.batch.newrows import CleanEngine
from playhead.contracts import contract
from playhead.engines import connect
from playhead.lake import Lake, raw_table
from playhead.lake.tables import clean_name, raw_name

TOPIC = "playback"
REPEATS = 50
"""Of so many rows, one repeats another."""
LATE = 1_000
"""Rows that are looked up among all."""
AT_ONCE = 1_000_000


def prepare(folder: str, events: int, users: int, movies: int) -> Figure:
    """A workspace with a raw table, in a file for each million rows."""
    table = raw_table(TOPIC, contract(TOPIC).schema)
    covered = {"playhead.epoch": "0", "playhead.load": "1"}
    with Workspace.create(Path(folder)) as workspace, connect() as connection:
        table.create_in(workspace.lake)
        with workspace.lake.draft(table.name) as draft:
            sent = event_tables(events, Audience.numbered(users, movies), at_once=AT_ONCE)
            for number, rows in enumerate(sent):
                connection.register("sent", rows)
                every = f"""
                    SELECT *, event_time AS ingest_time, 1::BIGINT AS load_id,
                        {number}::INTEGER AS "partition", row_number() OVER () AS "offset"
                    FROM sent
                """
                again = f'SELECT * REPLACE (-"offset" AS "offset") FROM ({every})'
                repeats = f'{again} WHERE "offset" % {REPEATS} = 1'
                draft.add(connection, f"{every} UNION ALL {repeats}")
                connection.unregister("sent")
            written = workspace.lake.publish(table.name, draft, properties=covered)
    return Figure("prepared", written.rows, 0.0)


@contextmanager
def _opened(
    folder: str, engine: Engine
) -> Iterator[tuple[Lake, duckdb.DuckDBPyConnection, CleanEngine]]:
    engine.choose()
    with Workspace(Path(folder)) as workspace, connect() as connection:
        cleaner, _ = workspace.batch_engines(connection)
        yield workspace.lake, connection, cleaner


def measure_all(folder: str, engine: Engine) -> Figure:
    """All rows, cleaned anew."""
    with _opened(folder, engine) as (lake, connection, cleaner):
        clean = partial(clean_topic, lake, connection, TOPIC, full=True, engine=cleaner)
        clean()
        seconds, report = timed(clean)
    return _figure(f"{engine}: all rows", report.rows, seconds, report)


def measure_late(folder: str, engine: Engine) -> Figure:
    """Late repeats, looked up among all ids."""
    with _opened(folder, engine) as (lake, connection, cleaner):
        ids = lake.snapshot(clean_name(TOPIC))

        def look() -> CleanReport:
            epoch = int(lake.properties(raw_name(TOPIC))["playhead.epoch"]) + 1
            late = f"""
                SELECT * REPLACE (ingest_time + INTERVAL 1 DAY AS ingest_time,
                    NULL::BIGINT AS load_id, {epoch}::BIGINT AS epoch)
                FROM {ids.scan()} LIMIT {LATE}
            """
            lake.append(
                raw_name(TOPIC), connection, late, properties={"playhead.epoch": str(epoch)}
            )
            return clean_topic(lake, connection, TOPIC, engine=cleaner)

        look()
        seconds, report = timed(look)
    return _figure(f"{engine}: {LATE:,} late repeats among ids", ids.rows, seconds, report)


def _figure(part: str, items: int, seconds: float, report: CleanReport) -> Figure:
    dropped = sum(report.dropped.values())
    return Figure(part, items, seconds, note=f"{dropped:,} dropped", extra={"dropped": dropped})


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; one process is the base of both tables."""
    parser = argparse.ArgumentParser(prog="playhead bench cleaning", description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--movies", type=int, default=5_000)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    engines = Engine("duckdb"), Engine("spark", 1), Engine("spark", 2)
    with tempfile.TemporaryDirectory() as name:
        folder = str(Path(name) / "workspace")
        alone(prepare, folder, options.events, options.users, options.movies)
        for part in (measure_all, measure_late):
            figures = [alone(part, folder, engine) for engine in engines]
            if len({tuple(figure.extra.items()) for figure in figures}) != 1:
                raise SystemExit(f"the engines differ: {', '.join(f.note for f in figures)}")
            show("cleaning", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
