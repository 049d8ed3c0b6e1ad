"""Every view over playback, recomputed: by Playhead's plans on Spark, and by plain Spark SQL.

Plain means the view's own text as Spark's dialect has it, windows written by hand, in a session
with Spark's own settings; a text that Spark refuses is replaced by Playhead's full plan there. The
batch layer makes the states of all views from the same rows in a lake, and commits them, on Spark
and in one process. Embedded DuckDB stands in the same table. Rows of all answers are counted and
compared. Each part runs in a process of its own, once to warm up and once measured.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import sqlglot

from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, Engine, dimensions, event_tables, new_workspace
from playhead.assemble import Workspace
from playhead.batch.dimensions import replace_dimension
from playhead.batch.recompute import Recomputer
from playhead.config import SparkSettings
from playhead.contracts import TOPICS
from playhead.engines import connect
from playhead.engines.spark import SparkPlans, spark_session
from playhead.engines.spark.conf import LOOPBACK, Setting, session_settings, shuffle_partitions
from playhead.lake.tables import clean_name, clean_table
from playhead.views import View
from playhead.views.catalog import library
from playhead.views.relations import known_relations

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MEMORY = "4GB"
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
    """A workspace whose clean table has the same events."""
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


def by_layer(folder: str, engine: Engine, events: int) -> Figure:
    """The batch layer: all states anew, once to warm up and once measured."""
    engine.choose()
    with Workspace(Path(folder) / "workspace") as workspace, connect() as connection:
        workspace.__dict__["views"] = views()
        _, states = workspace.batch_engines(connection)
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
    """Measure all three and print; the plain SQL is the base."""
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
        for engine in (Engine("spark", 1), Engine("spark", 2), Engine("duckdb")):
            figures.append(alone(by_layer, folder, engine, options.events))
        figures.append(alone(embedded, folder, options.events))
    counts = {figure.note.rsplit("; ", 1)[-1] for figure in figures}
    if len(counts) != 1:
        raise SystemExit(f"answers differ in rows: {', '.join(f.note for f in figures)}")
    show("spark", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
