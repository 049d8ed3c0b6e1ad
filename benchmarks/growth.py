"""Growth: what history costs the present.

For each size of history, all of it older than the dedupe window: the rate at which the speed layer
takes in new events, and the time of a batch run over all views that folds in one more day. Both
should stay flat. The merged answers are compared with recomputation before a figure is printed.
"""

import argparse
import tempfile
from datetime import date, datetime, timedelta
from pathlib import Path

from benchmarks.history import write_history
from benchmarks.measure import Figure, alone, show, timed
from benchmarks.workload import Audience, event_tables
from playhead.assemble import Workspace
from playhead.engines import connect
from playhead.testing.generate import GenerateSpec

HISTORY = date(2023, 6, 1)
DAYS = 730
VIEWS = ("monthly_engagement", "monthly_active_users", "device_quality")


def prepare(folder: str, sessions: int, users: int) -> Figure:
    """History of one size, covered by the batch layer."""
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
    return Figure(f"batch, all of {sessions:,}", sessions, seconds)


def measure_speed(folder: str, sessions: int, events: int) -> Figure:
    """New events, all of the day after history."""
    with Workspace(Path(folder) / "workspace") as workspace, connect() as connection:
        start = datetime.combine(HISTORY + timedelta(days=DAYS), datetime.min.time())
        for table in event_tables(events, Audience.of(workspace, start)):
            workspace.log.append("playback", table)
        layer = workspace.speed_layer(connection)
        start_s, _ = timed(layer.start)

        def drain() -> None:
            while layer.step().events:
                pass

        seconds, _ = timed(drain)
        seal_s, _ = timed(layer.seal)
    note = f"start {start_s:.1f} s, seal {seal_s:.1f} s"
    return Figure(f"speed, {sessions:,} events of history", events, seconds, note=note)


def measure_batch(folder: str, sessions: int, events: int) -> Figure:
    """The batch run that covers that day."""
    with Workspace(Path(folder) / "workspace") as workspace:
        seconds, _ = timed(workspace.batch)
    return Figure(f"batch, one day more than {sessions:,}", events, seconds)


def check(folder: str) -> Figure:
    """Merged answers against recomputation."""
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
    options = parser.parse_args(arguments)
    speed, batch, whole = [], [], []
    for size in (int(size) for size in options.sizes.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            whole.append(alone(prepare, folder, size, options.users))
            speed.append(alone(measure_speed, folder, size, options.events))
            batch.append(alone(measure_batch, folder, size, options.events))
            alone(check, folder)
    show("growth", [*speed, *batch, *whole], as_json=options.format == "json")


if __name__ == "__main__":
    main()
