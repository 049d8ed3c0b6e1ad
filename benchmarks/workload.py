"""What job S works on: playback sessions over two hours, and the users and movies behind them.

5 % of the events are up to 12 minutes out of order. Ids are all different unless asked otherwise.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Figure, timed
from playhead.assemble import Workspace
from playhead.batch.dimensions import rebuild_pair_ratings, replace_dimension
from playhead.contracts import DIMENSIONS, TOPICS
from playhead.engines import connect

START = datetime(2025, 6, 1, 18)
GENRES = ["Action", "Comedy", "Crime", "Documentary", "Drama", "Family", "Horror", "War"]


@dataclass(frozen=True)
class Engine:
    """What runs a workspace's layers, where it is to be compared.

    Attributes:
        name: "duckdb" or "spark".
        cores: Spark's, local.
        brokers: where the event log is; empty: in the workspace.
    """

    name: str
    cores: int = 2
    brokers: str = ""

    def __str__(self) -> str:
        if self.name != "spark":
            return "embedded"
        return f"Spark, {self.cores} core{'' if self.cores == 1 else 's'}"

    def choose(self) -> None:
        """Have this process's workspaces run on it, and the processes that it starts."""
        os.environ |= {
            "PLAYHEAD_LOG_BROKERS": self.brokers,
            "PLAYHEAD_SPEED_ENGINE": self.name,
            "PLAYHEAD_BATCH_ENGINE": self.name,
            "PLAYHEAD_SPARK_MASTER": f"local[{self.cores}]",
            # Micro-batches of one size on either.
            "PLAYHEAD_SPEED_MAX_EVENTS": "100000",
        }


@contextmanager
def engine_for(name: str, cores: int, folder: Path) -> Iterator[Engine]:
    """An engine, with a broker of its own if it needs one; its files are in the folder."""
    if name != "spark":
        yield Engine(name)
        return
    # Only who asks for it has Kafka's client.
    from playhead.cluster.broker import Broker

    with Broker(folder / "broker") as broker:
        yield Engine(name, cores, broker.address)


@dataclass(frozen=True)
class Audience:
    """Whose sessions they are, of what, and when the two hours begin."""

    users: pa.Array
    movies: pa.Array
    start: datetime = START

    @classmethod
    def numbered(cls, users: int, movies: int) -> "Audience":
        """The users and movies of `dimensions`."""
        return cls(_named("user_", np.arange(users), 7), _named("movie_", np.arange(movies), 4))

    @classmethod
    def of(cls, workspace: Workspace, start: datetime) -> "Audience":
        """The users and movies that a workspace knows."""
        with connect() as connection:
            ids = [
                connection.execute(
                    f"SELECT {name}_id FROM {workspace.lake.scan(f'dim.{name}s')} ORDER BY 1"
                ).to_arrow_table()
                for name in ("user", "movie")
            ]
        users, movies = (table.column(0).combine_chunks() for table in ids)
        return cls(users, movies, start)


def playback_events(first: int, count: int, audience: Audience, total: int) -> pa.Table:
    """Events number first .. first + count - 1 of `total`, of the playback contract's schema."""
    rng = np.random.Generator(np.random.Philox(key=[7, first]))
    number = np.arange(first, first + count)
    at = number * (7200e6 / total) - (rng.random(count) < 0.05) * rng.random(count) * 720e6
    start_us = np.datetime64(audience.start, "us").astype(np.int64)
    ids = pa.array(np.char.add("live_", np.char.zfill(number.astype("U9"), 9)))
    columns = {
        "event_id": ids,
        "event_type": _constant("watch", count),
        "event_time": pa.array((start_us + at.astype(np.int64)).astype("datetime64[us]")),
        "user_id": audience.users.take(rng.integers(0, len(audience.users), count)),
        "session_id": ids,
        "device_type": _pick(rng, ["Desktop", "Laptop", "Mobile", "Smart TV", "Tablet"], count),
        "movie_id": audience.movies.take(rng.zipf(1.3, count) % len(audience.movies)),
        "watch_date": pa.array(np.full(count, np.datetime64(audience.start, "D"))),
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


def dimensions(connection: duckdb.DuckDBPyConnection, users: int, movies: int) -> None:
    """Make tables `users` and `movies` of these numbers of rows in a session."""
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


def new_workspace(path: Path, users: int, movies: int) -> Workspace:
    """A workspace with users and movies in its lake."""
    workspace = Workspace.create(path)
    with connect() as connection:
        dimensions(connection, users, movies)
        for name, contract in DIMENSIONS.items():
            _fill_missing(connection, name, contract.schema)
            replace_dimension(workspace.lake, connection, name, contract.schema, f"FROM {name}")
        rebuild_pair_ratings(workspace.lake, connection)
    return workspace


def event_tables(events: int, audience: Audience, *, at_once: int = 100_000) -> Iterator[pa.Table]:
    """All events, `at_once` a table."""
    for first in range(0, events, at_once):
        yield playback_events(first, min(at_once, events - first), audience, events)


def prepare(folder: str, events: int, users: int, movies: int) -> Figure:
    """A workspace with the events in its log, and a Parquet copy of them."""
    workspace = new_workspace(Path(folder) / "workspace", users, movies)

    def append() -> None:
        path = Path(folder) / "events.parquet"
        with pq.ParquetWriter(path, TOPICS["playback"].schema) as writer:
            for table in event_tables(events, Audience.numbered(users, movies)):
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
