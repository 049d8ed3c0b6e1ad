"""Job S: events in the log -> deduped, enriched, partial states, offsets committed.

The events: playback sessions over two hours, 5 % of them up to 12 minutes out of order. Measured
in one process, with recovery on, from the first event read to the last one committed; start,
alerts, sealing and reading are told beside it. The answer is compared with plain recomputation
before a figure is printed. The limit, measured in the same run, is DuckDB computing the same view
over the same events from one Parquet file, at once.
"""

import argparse
import tempfile
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Figure, alone, show, timed
from playhead.assemble import Workspace
from playhead.batch.dimensions import rebuild_pair_ratings, replace_dimension
from playhead.contracts import DIMENSIONS, TOPICS
from playhead.engines import connect
from playhead.speed.layer import SpeedLayer
from playhead.views.catalog import library

START = datetime(2025, 6, 1, 18)
GENRES = ["Action", "Comedy", "Crime", "Documentary", "Drama", "Family", "Horror", "War"]


def playback_events(first: int, count: int, users: int, movies: int, total: int) -> pa.Table:
    """Events number first .. first + count - 1 of `total`, of the playback contract's schema."""
    rng = np.random.Generator(np.random.Philox(key=[7, first]))
    number = np.arange(first, first + count)
    at = number * (7200e6 / total) - (rng.random(count) < 0.05) * rng.random(count) * 720e6
    start_us = np.datetime64(START, "us").astype(np.int64)
    ids = pa.array(np.char.add("event_", np.char.zfill(number.astype("U9"), 9)))
    columns = {
        "event_id": ids,
        "event_type": _constant("watch", count),
        "event_time": pa.array((start_us + at.astype(np.int64)).astype("datetime64[us]")),
        "user_id": _named("user_", rng.integers(0, users, count), 7),
        "session_id": ids,
        "device_type": _pick(rng, ["Desktop", "Laptop", "Mobile", "Smart TV", "Tablet"], count),
        "movie_id": _named("movie_", rng.zipf(1.3, count) % movies, 4),
        "watch_date": pa.array(np.full(count, np.datetime64(START, "D"))),
        "watch_duration_minutes": _decimal(rng.integers(10, 18000, count), 12, 2),
        "progress_percentage": _decimal(rng.integers(0, 10001, count), 5, 2),
        "action": _pick(rng, ["started", "stopped", "paused", "completed"], count),
        "quality": _pick(rng, ["SD", "HD", "4K", "Ultra HD"], count),
    }
    schema = TOPICS["playback"].schema
    for field in schema:
        if field.name not in columns:
            columns[field.name] = pa.nulls(count, field.type)
    return pa.table([columns[f.name].cast(f.type) for f in schema], schema=schema)


def _constant(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), [text]).cast("string")


def _pick(rng: np.random.Generator, values: list[str], count: int) -> pa.Array:
    codes = pa.array(rng.integers(0, len(values), count).astype(np.int8))
    return pa.DictionaryArray.from_arrays(codes, values).cast("string")


def _named(prefix: str, numbers: npt.NDArray[np.int64], width: int) -> pa.Array:
    return pa.array(np.char.add(prefix, np.char.zfill(numbers.astype(f"U{width}"), width)))


def _decimal(unscaled: npt.NDArray[np.int64], precision: int, scale: int) -> pa.Array:
    """Decimals from unscaled integers, by their 128-bit little-endian form."""
    wide = np.zeros((len(unscaled), 2), np.int64)
    wide[:, 0] = unscaled
    buffer = pa.py_buffer(wide.tobytes())
    return pa.Array.from_buffers(pa.decimal128(precision, scale), len(unscaled), [None, buffer])


def prepare(folder: str, events: int, users: int, movies: int) -> Figure:
    """A workspace with dimensions in the lake and the events in the log, and a Parquet copy."""
    workspace = Workspace.create(Path(folder) / "workspace")
    with connect() as connection:
        connection.execute(
            "CREATE TABLE users AS SELECT format('user_{:07d}', i) AS user_id, "
            "i || '@example.org' AS email, ['USA','Canada','UK','Japan'][1 + i % 4] AS country, "
            "'Standard' AS subscription_plan, CAST(5 + (i * 37 % 3000) / 100 AS DECIMAL(12,2)) "
            f"AS monthly_spend FROM range({users}) t(i)"
        )
        genres = ", ".join(f"'{g}'" for g in GENRES)
        connection.execute(
            "CREATE TABLE movies AS SELECT format('movie_{:04d}', i) AS movie_id, 'Title ' || i AS "
            f"title, ([{genres}])[1 + i % {len(GENRES)}] AS genre_primary, "
            "['Movie','TV Series'][1 + i % 2] AS content_type, CAST(100 AS DECIMAL(12,2)) AS "
            f"duration_minutes FROM range({movies}) t(i)"
        )
        for name, contract in DIMENSIONS.items():
            _fill_missing(connection, name, contract.schema)
            replace_dimension(workspace.lake, connection, name, contract.schema, f"FROM {name}")
        rebuild_pair_ratings(workspace.lake, connection)
    schema = TOPICS["playback"].schema

    def append() -> None:
        with pq.ParquetWriter(Path(folder) / "events.parquet", schema) as writer:
            for first in range(0, events, 100_000):
                table = playback_events(first, min(100_000, events - first), users, movies, events)
                writer.write_table(table)
                workspace.log.append("playback", table)

    seconds, _ = timed(append)
    workspace.close()
    return Figure("generate and append to the log", events, seconds)


def _fill_missing(connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema) -> None:
    """Add the contract's other columns, empty."""
    connection.register("empty_table", schema.empty_table())
    connection.execute(
        f"CREATE OR REPLACE TABLE {name} AS FROM empty_table UNION ALL BY NAME FROM {name}"
    )
    connection.unregister("empty_table")


def measure_speed(folder: str, events: int, views: list[str]) -> Figure:
    """The speed layer over the whole log, then its answer against recomputation."""
    workspace = Workspace(Path(folder) / "workspace")
    workspace.__dict__["views"] = {name: library()[name] for name in views}
    with connect() as connection:
        layer = workspace.speed_layer(connection)
        start_s, _ = timed(layer.start)
        seconds, _ = timed(lambda: _drain(layer))
        judge_s, alerts = timed(layer.judge)
        seal_s, _ = timed(layer.seal)
    first = views[0]
    answer_s, answer = timed(lambda: workspace.view(first))
    if not _sorted(answer.to_arrow()).equals(_sorted(workspace.full(first).to_arrow())):
        raise SystemExit(f"{first}: the merged answer differs from recomputation")
    note = (
        f"{first} == recomputed, {len(answer):,} rows; start {start_s:.1f} s, {alerts:,} alerts "
        f"{judge_s:.1f} s, seal {seal_s:.1f} s, read {answer_s:.1f} s"
    )
    name = first if len(views) == 1 else f"all {len(views)} views"
    return Figure(f"speed: {name}", events, seconds, note=note)


def _drain(layer: SpeedLayer) -> None:
    while layer.step().events:
        pass


def measure_duckdb(folder: str, events: int) -> Figure:
    """The limit: the same view, typed into DuckDB over one Parquet file, at once."""
    view = library()["engagement_health"]
    with duckdb.connect() as connection:
        with Workspace(Path(folder) / "workspace") as workspace:
            for name in DIMENSIONS:
                scan = workspace.lake.scan(f"dim.{name}")
                connection.execute(f"CREATE TABLE {name} AS FROM {scan}")
        connection.execute(f"CREATE VIEW playback AS FROM '{folder}/events.parquet'")
        seconds, table = timed(lambda: connection.execute(view.text).to_arrow_table())
    return Figure("DuckDB, whole file at once", events, seconds, note=f"{table.num_rows:,} rows")


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names])


def main(arguments: list[str] | None = None) -> None:
    """Prepare, measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench speed", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--movies", type=int, default=1_000)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    figures: list[Figure] = []
    for views in (["engagement_health"], sorted(library(), key=lambda n: n != "engagement_health")):
        with tempfile.TemporaryDirectory() as folder:
            alone(prepare, folder, options.events, options.users, options.movies)
            if not figures:
                figures.append(alone(measure_duckdb, folder, options.events))
            figures.append(alone(measure_speed, folder, options.events, views))
    show("speed", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
