"""Every view over playback, recomputed: by Playhead's plans on Spark, and by plain Spark SQL.

Plain means the view's own text as Spark's dialect has it, windows written by hand, in a session
with Spark's own settings; a text that Spark refuses is replaced by Playhead's full plan there. The
batch layer makes the states of all views from the same rows in a lake, and commits them, on Spark
and in one process; embedded DuckDB stands in the same table. Rows of all answers are counted and
compared. Two more tables have the batch layer clean those rows, and look late repeats up in them.
Each part runs in a process of its own, once to warm up and once measured.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot

from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, Engine, dimensions, event_tables, new_workspace
from playhead.assemble import Workspace
from playhead.batch.base import StateEngine
from playhead.batch.clean import CleanReport, clean_topic
from playhead.batch.dimensions import replace_dimension
from playhead.batch.newrows import CleanEngine
from playhead.batch.recompute import Recomputer
from playhead.config import SparkSettings
from playhead.contracts import TOPICS
from playhead.engines import connect
from playhead.engines.spark import SparkPlans, spark_session
from playhead.engines.spark.conf import LOOPBACK, Setting, session_settings, shuffle_partitions
from playhead.lake.tables import clean_name, clean_table, raw_name, raw_table
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.relations import known_relations

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MEMORY = "4GB"
REPEATS = 50
"""Of so many rows to be cleaned, one repeats another."""
_BUCKET = re.compile(r"TIME_BUCKET\(INTERVAL '(\d+ \w+)', ([\w.]+)\)")


def views() -> dict[str, View]:
    """The built-in views that count playback events alone."""
    return {name: view for name, view in library().items() if view.topics == ("playback",)}


def prepare(folder: Path, events: int, users: int, movies: int) -> None:
    """Parquet files of the topic and its dimensions; a tenth of the pairs have ratings."""
    with pq.ParquetWriter(folder / "playback.parquet", TOPICS["playback"].schema) as writer:
        for table in event_tables(events, Audience.numbered(users, movies)):
            writer.write_table(table)
    with connect() as connection:
        dimensions(connection, users, movies)
        connection.execute(
            f"CREATE TABLE pair_ratings AS SELECT DISTINCT user_id, movie_id, "
            "CAST(1 + hash(user_id, movie_id) % 5 AS DECIMAL(9, 4)) AS avg_rating, "
            f"CAST(1 AS BIGINT) AS ratings FROM '{folder}/playback.parquet' "
            "WHERE hash(event_id) % 10 = 0"
        )
        for name, relation in known_relations().items():
            if relation.kind != "dimension":
                continue
            connection.register("nothing", relation.schema.empty_table())
            rows = f"FROM nothing UNION ALL BY NAME FROM {name}"
            connection.execute(f"COPY ({rows}) TO '{folder}/{name}.parquet' (FORMAT parquet)")
            connection.unregister("nothing")


def prepare_lake(folder: Path, users: int, movies: int) -> None:
    """A workspace whose clean table has the same events, and whose raw table repeats some."""
    schema = TOPICS["playback"].schema
    own = ", ".join(f'"{name}"' for name in schema.names)
    events = (
        f"SELECT {own}, event_time AS ingest_time, CAST(1 AS BIGINT) AS load_id, "
        'CAST(-1 AS INTEGER) AS "partition", file_row_number AS "offset" '
        f"FROM read_parquet('{folder}/playback.parquet', file_row_number = true)"
    )
    covered = {"playhead.epoch": "0", "playhead.load": "1"}
    with new_workspace(folder / "workspace", users, movies) as workspace, connect() as connection:
        lake, pairs = workspace.lake, "pair_ratings"
        query = f"FROM '{folder}/{pairs}.parquet'"
        replace_dimension(lake, connection, pairs, known_relations()[pairs].schema, query)
        clean_table("playback", schema).create_in(lake)
        lake.append(clean_name("playback"), connection, events, properties=covered)
        raw_table("playback", schema).create_in(lake)
        repeats = f'SELECT * REPLACE (-"offset" AS "offset") FROM ({events})'
        every = f'{events} UNION ALL ({repeats} WHERE "offset" % {REPEATS} = 1)'
        lake.append(raw_name("playback"), connection, every, properties=covered)


def by_cleaning(folder: str, engine: Engine) -> Figure:
    """All rows cleaned anew, once to warm up and once measured."""
    with _layers(folder, engine) as (workspace, connection, cleaner, _):
        clean = partial(clean_topic, workspace.lake, connection, "playback", engine=cleaner)
        clean(full=True)
        seconds, report = timed(partial(clean, full=True))
    note = f"{report.rows - report.written:,} repeats"
    return Figure(f"{engine}: cleaning all of it", report.rows, seconds, note=note)


def by_ids(folder: str, engine: Engine) -> Figure:
    """A thousand late repeats looked up among all ids, once to warm up and once measured."""
    with _layers(folder, engine) as (workspace, connection, cleaner, _):
        lake, old = workspace.lake, workspace.lake.snapshot(clean_name("playback"))

        def look() -> CleanReport:
            name = raw_name("playback")
            epoch = int(lake.properties(name)["playhead.epoch"]) + 1
            late = "ingest_time + INTERVAL 1 DAY AS ingest_time"
            again = f"NULL::BIGINT AS load_id, {epoch}::BIGINT AS epoch"
            rows = f"SELECT * REPLACE ({late}, {again}) FROM {old.scan()} LIMIT 1000"
            lake.append(name, connection, rows, properties={"playhead.epoch": str(epoch)})
            return clean_topic(lake, connection, "playback", engine=cleaner)

        look()
        seconds, report = timed(look)
    note = f"{report.rows - report.written:,} repeats"
    return Figure(f"{engine}: late repeats among all ids", old.rows, seconds, note=note)


@contextmanager
def _layers(
    folder: str, engine: Engine
) -> Iterator[tuple[Workspace, duckdb.DuckDBPyConnection, CleanEngine, StateEngine]]:
    """The batch layer's parts, as an engine has them."""
    engine.choose()
    with Workspace(Path(folder) / "workspace") as workspace, connect() as connection:
        yield workspace, connection, *workspace.batch_engines(connection)


def by_layer(folder: str, engine: Engine, events: int) -> Figure:
    """The batch layer's states, all anew, once to warm up and once measured."""
    with _layers(folder, engine) as (workspace, connection, _, states):
        workspace.__dict__["views"] = views()
        recomputer = Recomputer(workspace.lake, connection, states)

        def run() -> int:
            runs = recomputer.run(workspace.views.values(), epoch=0, full=True)
            return sum(one.rows for one in runs)

        run()
        seconds, made = timed(run)
        rows = sum(len(workspace.view(name)) for name in workspace.views)
    part = f"{engine}: all states, into the lake"
    note = f"{made:,} state rows; {rows:,} rows"
    return Figure(part, events * len(views()), seconds, note=note)


def embedded(folder: str, events: int) -> Figure:
    """DuckDB, as a batch run has it."""
    with connect(memory_limit=MEMORY) as connection:
        for file in Path(folder).glob("*.parquet"):
            connection.execute(f"CREATE VIEW {file.stem} AS FROM '{file}'")

        def answer(view: View) -> pa.Table:
            return connection.execute(view.plans.full).to_arrow_table()

        return _measured("embedded DuckDB", events, answer)


def by_plans(folder: str, events: int) -> Figure:
    """Playhead's full plans in a session with Playhead's settings."""
    size = sum(file.stat().st_size for file in Path(folder).glob("*.parquet"))
    partitions = str(shuffle_partitions(size, cores=2))
    option = Setting("spark.sql.shuffle.partitions", partitions, "128 MB each")
    settings = SparkSettings(master="local[2]", memory=MEMORY)
    session = spark_session(session_settings(settings, [option]))
    plans, relations = SparkPlans(session), _frames(session, folder)

    def answer(view: View) -> pa.Table:
        return plans.full(view, relations).toArrow()

    return _measured("Playhead's plans on Spark", events, answer)


def by_hand(folder: str, events: int) -> Figure:
    """The views' own text in a session with Spark's settings."""
    memory = Setting("spark.driver.memory", "3814m", "as the others have")
    quiet = Setting("spark.ui.showConsoleProgress", "false", "data goes to stdout")
    page = Setting("spark.ui.enabled", "false", "as the others have")
    master = Setting("spark.master", "local[2]", "as the others have")
    session = spark_session([master, memory, quiet, page, *LOOPBACK])
    for name, frame in _frames(session, folder).items():
        frame.createOrReplaceTempView(name)
    texts = {name: _plain(session, view) for name, view in views().items()}
    own = sum(is_own for _, is_own in texts.values())

    def answer(view: View) -> pa.Table:
        return session.sql(texts[view.name][0]).toArrow()

    figure = _measured("plain Spark SQL", events, answer)
    return Figure(
        figure.part,
        figure.items,
        figure.seconds,
        note=f"{own} of {len(texts)} texts as written; {figure.note}",
        extra=figure.extra,
    )


def _plain(session: "SparkSession", view: View) -> tuple[str, bool]:
    """SQL that Spark takes, and whether it is the view's own."""
    from pyspark.errors import PySparkException

    text = _BUCKET.sub(r"WINDOW(\2, '\1').start", view.text)
    own = sqlglot.transpile(text, read="duckdb", write="spark", comments=False)[0]
    try:
        session.sql(own)
    except PySparkException:
        return view.sql("full", "spark"), False
    return own, True


def _frames(session: "SparkSession", folder: str) -> "Mapping[str, DataFrame]":
    files = sorted(Path(folder).glob("*.parquet"))
    return {file.stem: session.read.parquet(str(file)) for file in files}


def _measured(part: str, events: int, answer: Callable[[View], pa.Table]) -> Figure:
    """All views once to warm up, and once measured; `extra` has each view's seconds."""
    for view in views().values():
        answer(view)
    found = {name: timed(partial(answer, view)) for name, view in views().items()}
    seconds = {name: taken for name, (taken, _) in found.items()}
    total = sum(table.num_rows for _, table in found.values())
    counted = events * len(found)
    return Figure(part, counted, sum(seconds.values()), note=f"{total:,} rows", extra=seconds)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; the plain SQL is the base of the views, one process of cleaning."""
    parser = argparse.ArgumentParser(prog="playhead bench spark", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--movies", type=int, default=5_000)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.events, options.users, options.movies)
        prepare_lake(Path(folder), options.users, options.movies)
        figures = [alone(part, folder, options.events) for part in (by_hand, by_plans)]
        engines = Engine("spark", 1), Engine("spark", 2), Engine("duckdb")
        figures += [alone(by_layer, folder, engine, options.events) for engine in engines]
        figures.append(alone(embedded, folder, options.events))
        cleaning = [alone(by_cleaning, folder, engine) for engine in reversed(engines)]
        repeats = [alone(by_ids, folder, engine) for engine in reversed(engines)]
    counts = {figure.note.rsplit("; ", 1)[-1] for figure in figures}
    if len(counts) != 1:
        raise SystemExit(f"answers differ in rows: {', '.join(f.note for f in figures)}")
    as_json = options.format == "json"
    show("spark", figures, as_json=as_json)
    show("cleaning", cleaning, as_json=as_json)
    show("repeats", repeats, as_json=as_json)


if __name__ == "__main__":
    main()
