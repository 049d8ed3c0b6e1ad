"""Job B: the five monthly views over a long history: full recompute, and one more day.

The peer, measured in the same run, is DuckDB running the same five SELECTs over the same cleaned
Parquet files. Answers are compared before a figure is printed.
"""

import argparse
import tempfile
from datetime import date, timedelta
from pathlib import Path

from benchmarks.measure import Figure, alone, show, timed
from playhead.assemble import Workspace
from playhead.contracts import TOPICS
from playhead.engines import connect
from playhead.testing.generate import GenerateSpec, generate
from playhead.views.catalog import library

MONTHLY = (
    "monthly_engagement",
    "monthly_active_users",
    "cohort_retention",
    "content_performance",
    "genre_performance",
)
START = date(2024, 1, 1)


def prepare(folder: str, sessions: int, users: int, days: int) -> Figure:
    """Generate the files and load all but the last day into a workspace."""
    spec = GenerateSpec(users=users, sessions=sessions, days=days, start=START)
    generate(Path(folder) / "files", spec)
    with Workspace.create(Path(folder) / "workspace") as workspace:
        last = START + timedelta(days=days - 1)
        seconds, report = timed(lambda: workspace.load(Path(folder) / "files", until=last))
        report.check()
    return Figure("load and clean", sessions, seconds)


def measure_batch(folder: str, sessions: int, part: str) -> Figure:
    """One batch run over the monthly views."""
    with Workspace(Path(folder) / "workspace") as workspace:
        workspace.__dict__["views"] = {name: library()[name] for name in MONTHLY}
        seconds, report = timed(lambda: workspace.batch(full=part == "full"))
        days = max(run.days for run in report.views)
        for name in MONTHLY:
            merged, full = workspace.view(name).to_arrow(), workspace.full(name).to_arrow()
            keys = [(column, "ascending") for column in merged.column_names]
            if not merged.sort_by(keys).equals(full.sort_by(keys)):
                raise SystemExit(f"{name}: the merged answer differs from recomputation")
    label = {"full": "batch --full", "day": "batch, one more day"}[part]
    return Figure(f"{label} ({days} days)", sessions, seconds, note="merged == recomputed")


def load_last_day(folder: str, sessions: int, days: int) -> Figure:
    """Load the one day that was left out."""
    last = START + timedelta(days=days - 1)
    with Workspace(Path(folder) / "workspace") as workspace:
        seconds, report = timed(lambda: workspace.load(Path(folder) / "files", since=last))
        report.check()
    return Figure("load one more day", sessions // days, seconds)


def measure_duckdb(folder: str, sessions: int) -> Figure:
    """The peer: the views' own text over the same cleaned files."""
    with Workspace(Path(folder) / "workspace") as workspace, connect() as connection:
        for name in ("users", "movies", "pair_ratings"):
            connection.execute(f"CREATE TABLE {name} AS FROM {workspace.lake.scan(f'dim.{name}')}")
        for topic in TOPICS:
            scan = workspace.lake.scan(f"clean.{topic}")
            connection.execute(f"CREATE VIEW {topic} AS FROM {scan}")

        def run() -> int:
            return sum(
                connection.execute(library()[name].text).to_arrow_table().num_rows
                for name in MONTHLY
            )

        seconds, rows = timed(run)
    return Figure("DuckDB, the same five SELECTs", sessions, seconds, note=f"{rows:,} rows")


def main(arguments: list[str] | None = None) -> None:
    """Prepare, measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench batch", description=__doc__)
    parser.add_argument("--sessions", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=731)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        loaded = alone(prepare, folder, options.sessions, options.users, options.days)
        first = alone(measure_batch, folder, options.sessions, "full")
        peer = alone(measure_duckdb, folder, options.sessions)
        alone(load_last_day, folder, options.sessions, options.days)
        day = alone(measure_batch, folder, options.sessions, "day")
    show("batch", [peer, first, day, loaded], as_json=options.format == "json")


if __name__ == "__main__":
    main()
