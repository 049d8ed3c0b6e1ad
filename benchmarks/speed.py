"""Job S: blocks in the event log -> deduplicated, enriched, in state with their offsets, readable.

Measured with recovery on, from the first event read to the answer of all windows read; the part
until the last event was committed is told as well. The peers are DuckDB in micro-batches (in a
database file, a transaction each), Polars, and Spark Structured Streaming where PySpark is
installed, each written plainly for this one view, over a Parquet file of the same events. The
limit is DuckDB computing the same view over that file at once. Answers are compared before a
figure is printed.
"""

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks import peers
from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import dimensions, prepare
from playhead.assemble import Workspace
from playhead.engines import connect
from playhead.speed.layer import SpeedLayer
from playhead.views.catalog import library

VIEW = "engagement_health"


def measure_speed(folder: str, events: int, views: list[str]) -> Figure:
    """The speed layer over the whole log, then its answer against recomputation."""
    workspace = Workspace(Path(folder) / "workspace")
    workspace.__dict__["views"] = {name: library()[name] for name in views}
    with connect() as connection:
        layer = workspace.speed_layer(connection)
        start_s, _ = timed(layer.start)
        committed_s, _ = timed(lambda: _drain(layer))
        answer_s, answer = timed(lambda: workspace.view(VIEW))
        compact_s, _ = timed(layer.compact)
        judge_s, alerts = timed(layer.judge)
        seal_s, _ = timed(layer.seal)
    for name in views:
        merged, full = workspace.view(name).to_arrow(), workspace.full(name).to_arrow()
        if not _sorted(merged).equals(_sorted(full)):
            raise SystemExit(f"{name}: the merged answer differs from recomputation")
    checked = f"{VIEW} == recomputed, {len(answer):,} rows"
    if len(views) > 1:
        checked = f"{len(views)} views == recomputed"
    note = (
        f"{checked}; committed at {events / committed_s / 1e6:.2f} M/s, then read in "
        f"{answer_s:.1f} s; start {start_s:.1f} s, compaction {compact_s:.1f} s, "
        f"{alerts:,} alerts {judge_s:.1f} s, seal {seal_s:.1f} s"
    )
    extra = {
        "committed_per_s": events / committed_s,
        "committed_s": committed_s,
        "answer_s": answer_s,
        "start_s": start_s,
        "compact_s": compact_s,
        "judge_s": judge_s,
        "seal_s": seal_s,
    }
    name = VIEW if len(views) == 1 else f"all {len(views)} views"
    return Figure(f"Playhead: {name}", events, committed_s + answer_s, note=note, extra=extra)


def _drain(layer: SpeedLayer) -> None:
    while layer.step().events:
        pass


def measure_duckdb(folder: str, events: int, users: int, movies: int) -> Figure:
    """The limit: the same view, typed into DuckDB over one Parquet file, at once."""
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        dimensions(connection, users, movies)
        connection.execute(f"CREATE VIEW playback AS FROM '{folder}/events.parquet'")
        seconds, table = timed(lambda: connection.execute(library()[VIEW].text).to_arrow_table())
    extra = peers.summary(table)
    return Figure("DuckDB, whole file at once", events, seconds, note="no recovery", extra=extra)


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names])


def _check(limit: Figure, peer: Figure) -> Figure:
    """The peer, if its answer adds up to the same."""
    for name, value in limit.extra.items():
        if peer.extra[name] != value:
            raise SystemExit(f"{peer.part}: {name} is {peer.extra[name]}, not {value}")
    return peer


def main(arguments: list[str] | None = None) -> None:
    """Prepare, measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench speed", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="full size: 10000000")
    parser.add_argument("--users", type=int, default=200_000, help="full size: 1000000")
    parser.add_argument("--movies", type=int, default=1_000)
    parser.add_argument("--batch", type=int, default=400_000, help="events in a micro-batch")
    parser.add_argument("--no-peers", action="store_true", help="only Playhead and the limit")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    size = (options.events, options.users, options.movies)
    others = sorted(library(), key=lambda name: name != VIEW)
    with tempfile.TemporaryDirectory() as folder:
        alone(prepare, folder, *size)
        figures = [limit := alone(measure_duckdb, folder, *size)]
        if not options.no_peers:
            run = [peers.duckdb_batches, peers.polars_batches]
            run += [peers.spark_stream] if find_spec("pyspark") else []
            figures += [_check(limit, alone(peer, folder, *size, options.batch)) for peer in run]
        figures.append(alone(measure_speed, folder, options.events, [VIEW]))
    with tempfile.TemporaryDirectory() as folder:
        alone(prepare, folder, *size)
        figures.append(alone(measure_speed, folder, options.events, others))
    show("speed", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
