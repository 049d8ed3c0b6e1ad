"""Job S by other means, written plainly: micro-batches from Parquet, each event counted once."""

from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.measure import Figure, timed
from benchmarks.workload import dimensions

if TYPE_CHECKING:
    import polars as pl

_KEYS = ("window_start", "country", "genre", "device_type", "quality", "content_type")
_SIGNALS = """
    SELECT time_bucket(INTERVAL '5 minutes', event_time) AS window_start, u.country,
        m.genre_primary AS genre, device_type, quality, m.content_type, p.user_id,
        u.monthly_spend, watch_duration_minutes AS minutes,
        CASE WHEN progress_percentage < 20 THEN 1 ELSE 0 END
        + CASE WHEN quality IN ('SD', 'HD') THEN 1 ELSE 0 END
        + CASE WHEN action = 'stopped' AND progress_percentage < 50 THEN 1 ELSE 0 END AS signals
    FROM fresh AS p LEFT JOIN users AS u USING (user_id) LEFT JOIN movies AS m USING (movie_id)
"""
_PER_USER = f"""
    SELECT {", ".join(_KEYS)}, user_id, COUNT(*) AS sessions, SUM(minutes) AS minutes,
        COUNT(*) FILTER (signals >= 2) AS at_risk, MAX(monthly_spend) AS spend
    FROM ({_SIGNALS}) GROUP BY ALL
"""
_ANSWER = f"""
    SELECT {", ".join(_KEYS)}, SUM(sessions) AS sessions, COUNT(user_id) AS active_users,
        SUM(minutes) AS watch_minutes,
        COALESCE(SUM(spend) FILTER (at_risk > 0), 0) AS revenue_impact
    FROM (
        SELECT {", ".join(_KEYS)}, user_id, SUM(sessions) AS sessions, SUM(minutes) AS minutes,
            SUM(at_risk) AS at_risk, MAX(spend) AS spend
        FROM states GROUP BY ALL
    ) GROUP BY ALL
"""


def summary(answer: pa.Table) -> dict[str, float]:
    """What an answer adds up to: rows, sessions, users, minutes and revenue."""
    names = ("sessions", "active_users", "watch_minutes", "revenue_impact")
    sums = {name: float(Decimal(pc.sum(answer.column(name)).as_py())) for name in names}
    return {"rows": float(answer.num_rows), **sums}


def _batches(folder: str, size: int) -> Iterator[pa.Table]:
    reader = pq.ParquetFile(Path(folder) / "events.parquet")
    columns = [
        "event_id", "event_time", "user_id", "movie_id", "device_type", "quality",
        "watch_duration_minutes", "progress_percentage", "action",
    ]  # fmt: skip
    groups = max(1, size // reader.metadata.row_group(0).num_rows)
    for first in range(0, reader.num_row_groups, groups):
        last = min(first + groups, reader.num_row_groups)
        yield reader.read_row_groups(list(range(first, last)), columns=columns)


def duckdb_batches(folder: str, events: int, users: int, movies: int, batch: int) -> Figure:
    """DuckDB: states and seen ids in tables of a database file, one transaction a batch."""

    def work() -> pa.Table:
        with duckdb.connect(str(Path(folder) / "peer.duckdb")) as connection:
            connection.execute("SET enable_progress_bar = false")
            dimensions(connection, users, movies)
            connection.execute("CREATE TABLE seen (event_id VARCHAR)")
            empty = pq.read_schema(Path(folder) / "events.parquet").empty_table()
            connection.register("fresh", empty)
            connection.execute(f"CREATE TABLE states AS {_PER_USER}")
            connection.unregister("fresh")
            for table in _batches(folder, batch):
                connection.register("arrived", table)
                connection.execute("BEGIN")
                connection.execute(
                    "CREATE OR REPLACE TEMP TABLE fresh AS SELECT DISTINCT ON (event_id) * "
                    "FROM arrived ANTI JOIN seen USING (event_id)"
                )
                connection.execute("INSERT INTO seen SELECT event_id FROM fresh")
                connection.execute(f"INSERT INTO states {_PER_USER}")
                connection.execute("COMMIT")
            return connection.execute(_ANSWER).to_arrow_table()

    seconds, answer = timed(work)
    return Figure("DuckDB, micro-batches", events, seconds, extra=summary(answer))


def polars_batches(folder: str, events: int, users: int, movies: int, batch: int) -> Figure:
    """Polars: states of each batch in memory, merged at the end; nothing survives a crash."""
    import polars as pl

    with duckdb.connect() as connection:
        dimensions(connection, users, movies)
        wanted_users = "SELECT user_id, country, monthly_spend FROM users"
        people = pl.DataFrame(connection.execute(wanted_users).to_arrow_table())
        wanted_movies = "SELECT movie_id, genre_primary AS genre, content_type FROM movies"
        titles = pl.DataFrame(connection.execute(wanted_movies).to_arrow_table())

    def work() -> pa.Table:
        seen: list[pl.Series] = []
        states: list[pl.DataFrame] = []
        for table in _batches(folder, batch):
            fresh = pl.DataFrame(table).unique("event_id", keep="first", maintain_order=True)
            known = pl.concat(seen) if seen else pl.Series(dtype=pl.UInt64)
            hashes = fresh["event_id"].hash()
            fresh = fresh.filter(~hashes.is_in(known.implode()))
            seen.append(hashes)
            states.append(_polars_states(fresh, people, titles))
        return _polars_answer(pl.concat(states)).to_arrow()

    seconds, answer = timed(work)
    note = "no recovery; ids by 64-bit hash"
    return Figure("Polars, micro-batches", events, seconds, note=note, extra=summary(answer))


def _polars_states(
    fresh: "pl.DataFrame", people: "pl.DataFrame", titles: "pl.DataFrame"
) -> "pl.DataFrame":
    import polars as pl

    progress = pl.col("progress_percentage")
    signals = (
        (progress < 20).cast(pl.Int8)
        + pl.col("quality").is_in(["SD", "HD"]).cast(pl.Int8)
        + ((pl.col("action") == "stopped") & (progress < 50)).cast(pl.Int8)
    )
    wide = fresh.join(people, on="user_id", how="left").join(titles, on="movie_id", how="left")
    return (
        wide.with_columns(window_start=pl.col("event_time").dt.truncate("5m"), at_risk=signals >= 2)
        .group_by(*_KEYS, "user_id")
        .agg(
            sessions=pl.len(),
            minutes=pl.col("watch_duration_minutes").sum(),
            at_risk=pl.col("at_risk").sum(),
            spend=pl.col("monthly_spend").max(),
        )
    )


def _polars_answer(states: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    per_user = states.group_by(*_KEYS, "user_id").agg(
        pl.col("sessions").sum(), pl.col("minutes").sum(), pl.col("at_risk").sum(),
        pl.col("spend").max(),
    )  # fmt: skip
    return per_user.group_by(*_KEYS).agg(
        sessions=pl.col("sessions").sum(),
        active_users=pl.len(),
        watch_minutes=pl.col("minutes").sum(),
        revenue_impact=pl.col("spend").filter(pl.col("at_risk") > 0).sum(),
    )


def spark_stream(folder: str, events: int, users: int, movies: int, batch: int) -> Figure:
    """Spark Structured Streaming, local: states of each batch appended to Parquet, checkpointed."""
    builder = import_module("pyspark.sql").SparkSession.builder
    inbox = Path(folder) / "inbox"
    inbox.mkdir()
    for number, table in enumerate(_batches(folder, batch)):
        # Spark's watermarks want times with a zone.
        place = table.schema.get_field_index("event_time")
        zoned = table.column(place).cast(pa.timestamp("us", "UTC"))
        table = table.set_column(place, "event_time", zoned)
        pq.write_table(table, inbox / f"{number:05d}.parquet")
    spark = (
        builder.master("local[*]")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.driver.memory", "6g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    try:
        seconds, answer = timed(lambda: _spark_work(spark, folder, users, movies))
    finally:
        spark.stop()
    return Figure("Spark Structured Streaming", events, seconds, extra=summary(answer))


def _spark_work(spark: Any, folder: str, users: int, movies: int) -> pa.Table:
    with duckdb.connect() as connection:
        dimensions(connection, users, movies)
        for name in ("users", "movies"):
            connection.execute(f"COPY {name} TO '{folder}/{name}.parquet'")
            spark.read.parquet(f"{folder}/{name}.parquet").createOrReplaceTempView(name)
    per_user = (
        _PER_USER.replace(
            "time_bucket(INTERVAL '5 minutes', event_time)", "window(event_time, '5 minutes').start"
        )
        .replace("FILTER (signals", "FILTER (WHERE signals")
        .replace("GROUP BY ALL", f"GROUP BY {', '.join(_KEYS)}, user_id")
    )
    schema = spark.read.parquet(f"{folder}/inbox").schema

    def keep(fresh: Any, _: int) -> None:
        fresh.createOrReplaceTempView("fresh")
        fresh.sparkSession.sql(per_user).write.mode("append").parquet(f"{folder}/states")

    stream = (
        spark.readStream.schema(schema)
        .option("maxFilesPerTrigger", 1)
        .parquet(f"{folder}/inbox")
        .withWatermark("event_time", "24 hours")
        .dropDuplicatesWithinWatermark(["event_id"])
        .writeStream.foreachBatch(keep)
        .option("checkpointLocation", f"{folder}/checkpoint")
        .trigger(availableNow=True)
        .start()
    )
    stream.awaitTermination()
    spark.read.parquet(f"{folder}/states").createOrReplaceTempView("states")
    keys = f"{', '.join(_KEYS)}"
    inner, outer = f"{keys}, user_id", keys
    answer = _ANSWER.replace("FILTER (at_risk", "FILTER (WHERE at_risk")
    answer = answer.replace("GROUP BY ALL", f"GROUP BY {inner}", 1)
    return spark.sql(answer.replace("GROUP BY ALL", f"GROUP BY {outer}", 1)).toArrow()
