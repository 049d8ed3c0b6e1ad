"""Growth: what history costs the present, in one process and on Spark.

For each size of history, all of it older than the dedupe window: the rate at which the speed layer
takes in new events, and the time of a batch run over all views that folds in one more day. Both
should stay flat. The merged answers are compared with recomputation before a figure is printed.
With `--engines spark`, events come from a broker of the run's own, and both layers run on Spark,
local on as many cores.
"""

import argparse
import tempfile
import time
from datetime import date, datetime, timedelta
from pathlib import Path

from benchmarks.history import write_history
from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, Engine, engine_for, event_tables
from playhead.assemble import Workspace
from playhead.engines import connect
from playhead.errors import EngineError
from playhead.speed.layer import Step
from playhead.testing.generate import GenerateSpec

HISTORY = date(2023, 6, 1)
DAYS = 730
VIEWS = ("monthly_engagement", "monthly_active_users", "device_quality")


def prepare(folder: str, engine: Engine, sessions: int, users: int) -> Figure:
    """History of one size, covered by the batch layer."""
    engine.choose()
    root = Path(folder)
    spec = GenerateSpec(
        users=users,
        sessions=sessions,
        days=DAYS,
        start=HISTORY,
        dirt=0,
        searches=0,
        recommendations=0,
    )
    with Workspace.create(root / "workspace") as workspace, connect(temp_dir=root) as connection:
        write_history(workspace, connection, root / "files", spec)
        seconds, _ = timed(workspace.batch)
    return Figure(f"{engine}: batch, all of {sessions:,}", sessions, seconds)


def measure_speed(folder: str, engine: Engine, sessions: int, events: int) -> Figure:
    """New events, all of the day after history; the rate is from one micro-batch to the last."""
    engine.choose()
    taken: list[tuple[float, int]] = []
    with Workspace(Path(folder) / "workspace") as workspace:
        start = datetime.combine(HISTORY + timedelta(days=DAYS), datetime.min.time())
        for table in event_tables(events, Audience.of(workspace, start)):
            workspace.log.append("playback", table)

        def on_step(step: Step) -> None:
            if step.waiting:
                raise EngineError(step.waiting)
            if step.events:
                count = step.events + (taken[-1][1] if taken else 0)
                taken.append((time.perf_counter(), count))

        began = time.perf_counter()
        workspace.speed(drain=True, on_step=on_step)
        ended = time.perf_counter()
    (first, skipped), (last, count) = taken[0], taken[-1]
    if count != events:
        raise SystemExit(f"{count:,} of {events:,} events were taken in")
    note = f"{first - began:.1f} s until the first {skipped:,}; {ended - last:.1f} s to end, sealed"
    what = f"{engine}: speed, {sessions:,} events of history"
    return Figure(what, events - skipped, last - first, note=note)


def measure_batch(folder: str, engine: Engine, sessions: int, events: int) -> Figure:
    """The batch run that covers that day."""
    engine.choose()
    with Workspace(Path(folder) / "workspace") as workspace:
        seconds, _ = timed(workspace.batch)
    return Figure(f"{engine}: batch, one day more than {sessions:,}", events, seconds)


def check(folder: str, engine: Engine) -> Figure:
    """Merged answers against recomputation."""
    engine.choose()
    with Workspace(Path(folder) / "workspace") as workspace:
        for name in VIEWS:
            merged, full = workspace.view(name).to_arrow(), workspace.full(name).to_arrow()
            keys = [(column, "ascending") for column in merged.column_names]
            if not merged.sort_by(keys).equals(full.sort_by(keys)):
                raise SystemExit(f"{name}: the merged answer differs from recomputation")
    return Figure("check", 0, 0)


def main(arguments: list[str] | None = None) -> None:
    """Prepare each size, measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench growth", description=__doc__)
    parser.add_argument(
        "--sizes", default="100000,1000000", help="full: 1000000,10000000,100000000"
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="of the new day")
    parser.add_argument("--users", type=int, default=100_000, help="full size: 1000000")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--engines", default="duckdb", help="duckdb,spark compares them")
    parser.add_argument("--cores", type=int, default=2, help="Spark's")
    options = parser.parse_args(arguments)
    speed, batch, whole = [], [], []
    for size in (int(size) for size in options.sizes.split(",")):
        for name in options.engines.split(","):
            with (
                tempfile.TemporaryDirectory(dir=options.folder) as folder,
                engine_for(name, options.cores, Path(folder)) as engine,
            ):
                whole.append(alone(prepare, folder, engine, size, options.users))
                speed.append(alone(measure_speed, folder, engine, size, options.events))
                batch.append(alone(measure_batch, folder, engine, size, options.events))
                alone(check, folder, engine)
    show("growth", [*speed, *batch, *whole], as_json=options.format == "json")


if __name__ == "__main__":
    main()
