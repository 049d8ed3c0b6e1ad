"""Queries: how long the merged answer of each view takes, over both layers.

History is loaded and covered by the batch layer; then events of two hours come through the event
log into speed state, and are compacted. `first` is a new session's first answer, `warm` the same
question again after a micro-batch that brought events of another window, `changed` after one that
brought events of the windows asked for, `cold` a new process from its start to the printed
answer. Each answer is compared with recomputation over all events before a figure is printed.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from benchmarks.history import write_history
from benchmarks.measure import Figure, alone, run_quietly, show, timed
from benchmarks.workload import Audience, event_tables, playback_events
from playhead.assemble import Workspace
from playhead.engines import connect
from playhead.speed.layer import SpeedLayer
from playhead.testing.generate import GenerateSpec, generate

HISTORY = date(2023, 6, 1)
LIVE = datetime(2025, 6, 1, 18)
ELSEWHERE = LIVE + timedelta(days=1)
WINDOW = timedelta(minutes=5)
REPEATS = 5
WRITTEN_SESSIONS = 10_000_000
MONTH = "SELECT * FROM monthly_active_users WHERE watch_year = 2024 AND watch_month = 5"


def prepare(folder: str, sessions: int, events: int, users: int) -> Figure:
    """History in the batch layer, then live events in speed state."""
    root = Path(folder)
    spec = GenerateSpec(users=users, sessions=sessions, days=730, start=HISTORY)
    (root / "workspace").mkdir()
    # The whole of engagement_health is as many groups as events.
    settings = '[engine]\nmemory_limit = "12GB"\n'
    (root / "workspace" / "playhead.toml").write_text(settings, encoding="utf-8")
    with Workspace.create(root / "workspace") as workspace, connect(temp_dir=root) as con:
        if sessions >= WRITTEN_SESSIONS:
            plain = replace(spec, dirt=0, searches=0, recommendations=0)
            write_history(workspace, con, root / "files", plain)
        else:
            generate(root / "files", spec)
            workspace.load(root / "files").check()
        workspace.batch()
        audience = Audience.of(workspace, LIVE)
        for table in event_tables(events, audience):
            workspace.log.append("playback", table)
        with connect() as connection:
            layer = _started(workspace, connection)
            seconds, _ = timed(lambda: _drain(layer))
            layer.compact()
    return Figure("speed", events, seconds)


def measure(folder: str, used: int, name: str, part: str) -> Figure:
    """One question, asked anew after each micro-batch.

    Args:
        used: number of the first event that was never sent.
        part: "one window", "one month" or nothing.
    """
    path = Path(folder) / "workspace"
    since, window = LIVE + timedelta(hours=1), part == "one window"
    bounds = {"since": since, "until": since + WINDOW} if window else {}

    def ask(workspace: Workspace) -> pa.Table:
        if part == "one month":
            return workspace.query(MONTH).to_arrow()
        return workspace.view(name, **bounds).to_arrow()

    with Workspace(path) as workspace, Workspace(path) as reader, connect() as connection:
        layer = _started(workspace, connection)
        audience = Audience.of(workspace, LIVE)
        first_s, _ = timed(lambda: ask(reader))
        warm, changed = [], []
        for number in range(REPEATS):
            _send(workspace, layer, used + 2_000 * number, audience, ELSEWHERE)
            # An answer over all windows has changed as well: it is asked for once more.
            if not window:
                ask(reader)
            warm.append(timed(lambda: ask(reader))[0])
            _send(workspace, layer, used + 2_000 * number + 1_000, audience, since)
            changed.append(timed(lambda: ask(reader))[0])
        _check(reader, name, ask(reader), part=part, since=since)
        rows = ask(reader).num_rows
    cold = _cold(path, name, since, part)
    label = ", ".join(filter(None, (name, part)))
    figures = {
        "warm_ms": statistics.median(warm) * 1e3,
        "changed_ms": statistics.median(changed) * 1e3,
        "first_ms": first_s * 1e3,
        "cold_ms": cold * 1e3,
    }
    note = ", ".join(f"{key[:-3]} {value:,.1f} ms" for key, value in figures.items())
    return Figure(label, rows, statistics.median(warm), note=note, extra=figures)


def _started(workspace: Workspace, connection: object) -> SpeedLayer:
    layer = workspace.speed_layer(connection)  # type: ignore[arg-type]
    layer.start()
    return layer


def _drain(layer: SpeedLayer) -> None:
    while layer.step().events:
        pass


def _send(
    workspace: Workspace, layer: SpeedLayer, first: int, audience: Audience, start: datetime
) -> None:
    """A micro-batch of 1,000 events within one window."""
    moved = Audience(audience.users, audience.movies, start)
    table = playback_events(first, 1_000, moved, 1_000 * 24 * 2)
    times = pa.repeat(pa.scalar(start + timedelta(seconds=9), pa.timestamp("us")), 1_000)
    place = table.schema.get_field_index("event_time")
    workspace.log.append("playback", table.set_column(place, "event_time", times))
    _drain(layer)


def _check(reader: Workspace, name: str, answer: pa.Table, *, part: str, since: datetime) -> None:
    """Compare with recomputation: over the events of the window alone where that is asked for."""
    if part == "one window":
        where = f"event_time >= TIMESTAMP '{since}' AND event_time < TIMESTAMP '{since + WINDOW}'"
        events = f"playback AS (SELECT * FROM playback WHERE {where})"
        full = reader.query(f"WITH {events} FROM ({reader.views[name].plans.full})").to_arrow()
    else:
        full = reader.full(name).to_arrow()
    if part == "one month":
        of_month = (pa.compute.field("watch_year") == 2024) & (pa.compute.field("watch_month") == 5)
        full = full.filter(of_month)
    keys = [(column, "ascending") for column in answer.column_names]
    if not answer.sort_by(keys).equals(full.sort_by(keys)):
        raise SystemExit(f"{name}: the merged answer differs from recomputation")


def _cold(path: Path, name: str, since: datetime, part: str) -> float:
    """Seconds of a command as a process of its own, the median of three."""
    command = [sys.executable, "-m", "playhead", "-w", str(path)]
    command += ["query", MONTH] if part == "one month" else ["show", name, "--limit", "1"]
    if part == "one window":
        command += ["--since", f"{since}", "--until", f"{since + WINDOW}"]
    runs = [timed(lambda: run_quietly(command))[0] for _ in "123"]
    return statistics.median(runs)


def main(arguments: list[str] | None = None) -> None:
    """Prepare, measure and print; every question in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench query", description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="full size: 100000000")
    parser.add_argument("--events", type=int, default=1_000_000, help="full size: 10000000")
    parser.add_argument("--users", type=int, default=100_000, help="full size: 1000000")
    parser.add_argument("--views", help="whole views to ask for; all by default")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory())
        alone(prepare, str(folder), options.sessions, options.events, options.users)
        with Workspace(Path(folder) / "workspace") as workspace:
            names = options.views.split(",") if options.views else sorted(workspace.views)
        asked = [
            ("engagement_health", "one window"),
            ("monthly_active_users", "one month"),
            *((name, "") for name in names),
        ]
        figures = [
            alone(measure, str(folder), options.events + 10_000 * number, *one)
            for number, one in enumerate(asked)
        ]
    show("query", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
