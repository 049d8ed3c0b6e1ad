"""Job B: the five monthly views over a long history: all states anew, and one more day.

The peer, measured in the same run and with the same memory limit, is DuckDB running the same five
SELECTs over the same cleaned Parquet files. Every state is compared with recomputation before a
figure is printed. The large run: `playhead bench batch --sessions 100000000` (20 GB of disk); from
30 million sessions on, the history is written straight into the clean tables instead of loaded.
"""

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.history import write_day, write_history
from benchmarks.measure import Figure, alone, show, timed
from playhead.assemble import Workspace
from playhead.batch.recompute import Recomputer
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
UNLOADED_SESSIONS = 30_000_000
DATES = {"watch_history": "watch_date", "reviews": "review_date"}


def prepare(folder: str, sessions: int, users: int, days: int, memory: str) -> Figure:
    """Generate the files, set the last day of them apart, and load the days before it."""
    root, last = Path(folder), START + timedelta(days=days - 1)
    spec = GenerateSpec(
        users=users, sessions=sessions, days=days, start=START, searches=0, recommendations=0
    )
    generate(root / "files", spec)
    with connect(memory_limit=memory, temp_dir=root / "tmp") as connection:
        for file, column in DATES.items():
            (root / file).mkdir()
            source = root / "files" / f"{file}.parquet"
            connection.execute(
                f"COPY (FROM '{source}' WHERE {column} = DATE '{last}') "
                f"TO '{root / file / source.name}' (FORMAT parquet)"
            )
    with _created(root, memory) as workspace:
        seconds, report = timed(lambda: workspace.load(root / "files", until=last))
        report.check()
        rows = sum(table.read for table in report.tables)
    shutil.rmtree(root / "files")
    return Figure("load and clean", rows, seconds, note=f"{rows:,} rows of 4 files")


def prepare_unloaded(folder: str, sessions: int, users: int, days: int, memory: str) -> Figure:
    """The same history but for its dirt, written into the clean tables month by month."""
    root, last = Path(folder), START + timedelta(days=days - 1)
    spec = GenerateSpec(
        users=users,
        sessions=max(1, sessions - sessions // days),
        days=days - 1,
        start=START,
        dirt=0,
        searches=0,
        recommendations=0,
    )
    with (
        _created(root, memory) as workspace,
        connect(memory_limit=memory, temp_dir=root / "tmp") as connection,
    ):
        seconds, rows = timed(lambda: write_history(workspace, connection, root / "files", spec))
        day = replace(spec, sessions=max(1, sessions // days), days=1, start=last, seed=0)
        write_day(connection, root, day)
    return Figure(
        "generate, write clean tables", rows, seconds, note="not loaded: no raw rows, no dirt"
    )


def _created(root: Path, memory: str) -> Workspace:
    """A new workspace with this memory limit."""
    (root / "workspace").mkdir()
    settings = f'[engine]\nmemory_limit = "{memory}"\n'
    (root / "workspace" / "playhead.toml").write_text(settings, encoding="utf-8")
    return Workspace.create(root / "workspace")


def opened(folder: str) -> Workspace:
    """The workspace with the monthly views alone."""
    workspace = Workspace(Path(folder) / "workspace")
    workspace.__dict__["views"] = {name: library()[name] for name in MONTHLY}
    return workspace


def check(workspace: Workspace) -> str:
    """Compare every merged answer with plain recomputation."""
    for name in MONTHLY:
        merged, full = workspace.view(name).to_arrow(), workspace.full(name).to_arrow()
        keys = [(column, "ascending") for column in merged.column_names]
        if not merged.sort_by(keys).equals(full.sort_by(keys)):
            raise SystemExit(f"{name}: the merged answer differs from recomputation")
    return "merged == recomputed"


def verify(folder: str, memory: str) -> Figure:
    """The check alone, for a process that is not measured."""
    os.environ["PLAYHEAD_ENGINE_MEMORY_LIMIT"] = memory
    with opened(folder) as workspace:
        seconds, _ = timed(lambda: check(workspace))
    return Figure("check", 0, seconds)


def measure_batch(folder: str, sessions: int, label: str, full: bool) -> Figure:
    """One batch run over the monthly views."""
    with opened(folder) as workspace:
        seconds, report = timed(lambda: workspace.batch(full=full))
        days = max(run.days for run in report.views)
        rows = sum(run.rows for run in report.views)
    note = f"{days} days read, {rows:,} state rows written"
    return Figure(label, sessions, seconds, note=note)


def measure_states(folder: str, sessions: int, memory: str) -> Figure:
    """All states from the cleaned files, as DuckDB's five SELECTs read them."""
    temp = Path(folder) / "tmp"
    with opened(folder) as workspace, connect(memory_limit=memory, temp_dir=temp) as connection:
        views = workspace.views.values()
        recomputer = Recomputer(workspace.lake, connection)
        seconds, runs = timed(lambda: recomputer.run(views, epoch=0, full=True))
    rows = sum(run.rows for run in runs)
    return Figure("all states anew", sessions, seconds, note=f"{rows:,} state rows committed")


def measure_duckdb(folder: str, sessions: int, memory: str) -> Figure:
    """The peer: the views' own text over the same cleaned files."""
    temp = Path(folder) / "tmp"
    with opened(folder) as workspace, connect(memory_limit=memory, temp_dir=temp) as connection:
        _define_relations(workspace, connection)

        def run() -> int:
            return sum(
                connection.execute(library()[name].text).to_arrow_table().num_rows
                for name in MONTHLY
            )

        seconds, rows = timed(run)
    return Figure("DuckDB, the same five SELECTs", sessions, seconds, note=f"{rows:,} rows")


def _define_relations(workspace: Workspace, connection: duckdb.DuckDBPyConnection) -> None:
    relations = {name: f"dim.{name}" for name in ("users", "movies", "pair_ratings")}
    relations |= {topic: f"clean.{topic}" for topic in TOPICS if topic in ("playback", "rating")}
    for name, table in relations.items():
        connection.execute(f"CREATE VIEW {name} AS FROM {workspace.lake.scan(table)}")


def load_day(folder: str, file: str) -> Figure:
    """Load the one day of a file that was set apart."""
    with Workspace(Path(folder) / "workspace") as workspace:
        seconds, report = timed(lambda: workspace.load(Path(folder) / file))
        report.check()
        rows = sum(table.read for table in report.tables)
    return Figure(f"load one more day of {file}", rows, seconds)


def measure(folder: str, options: argparse.Namespace) -> list[Figure]:
    """Every part in a process of its own; answers are checked between them."""
    sessions, memory = options.sessions, options.memory
    batch = partial(alone, measure_batch, folder, sessions)
    unloaded = options.unloaded or sessions >= UNLOADED_SESSIONS
    make = prepare_unloaded if unloaded else prepare
    loaded = alone(make, folder, sessions, options.users, options.days, memory)
    first = batch("batch, first run", False)
    compare = partial(alone, verify, folder, options.check_memory or memory)
    if options.first_run:
        print(first, file=sys.stderr)
        compare()
        return [replace(first, note=f"{first.note}, checked"), loaded]
    peer = alone(measure_duckdb, folder, sessions, memory)
    states = alone(measure_states, folder, sessions, memory)
    compare()
    day_loaded = alone(load_day, folder, "watch_history")
    day = batch("batch, one more day", False)
    compare()
    alone(load_day, folder, "reviews")
    reviewed = batch("batch, that day's reviews", False)
    figures = [peer, states, day, first, reviewed]
    if not (options.skip_cleaning or unloaded):
        figures.append(batch("batch --full, cleaning too", True))
    compare()
    return [*figures, loaded, day_loaded]


def main(arguments: list[str] | None = None) -> None:
    """Prepare, measure, check and print."""
    parser = argparse.ArgumentParser(prog="playhead bench batch", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=731)
    parser.add_argument("--memory", default="8GB", help="limit of each DuckDB session")
    parser.add_argument("--check-memory", help="limit of the recomputation that checks the states")
    parser.add_argument(
        "--first-run", action="store_true", help="end after the first run and its check"
    )
    parser.add_argument("--skip-cleaning", action="store_true", help="leave batch --full out")
    parser.add_argument(
        "--unloaded",
        action="store_true",
        help=f"write the clean tables without loading, as from {UNLOADED_SESSIONS:,} sessions on",
    )
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure(folder, options)
    show(f"batch: {_told(options, figures)}", figures, as_json=options.format == "json")


def _told(options: argparse.Namespace, figures: list[Figure]) -> str:
    if options.first_run:
        return "the first run alone"
    peer, states, day = (figure.seconds for figure in figures[:3])
    return f"{states / peer:.2f} of DuckDB's time; one more day {day / states:.1%} of all states"


if __name__ == "__main__":
    main()
