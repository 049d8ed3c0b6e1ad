"""Recovery: `kill -9` of the speed layer with its state full, then until an answer, until level.

A speed layer takes in all events and is killed while more come. Told are the time until a new
process answers one window of `engagement_health`, and until a new speed layer has taken in what
waits. The answer is compared with recomputation before a figure is printed.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from datetime import timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.measure import Figure, alone, run_quietly, show, timed
from benchmarks.workload import START, Audience, playback_events, prepare
from playhead.assemble import Workspace
from playhead.engines import connect
from playhead.speed.layer import Step

VIEW = "engagement_health"
WAITING = 100_000


def fill_and_kill(folder: str, events: int, users: int, movies: int) -> Figure:
    """Take everything in, append some more, and die at once."""
    context = multiprocessing.get_context("spawn")
    full = context.Event()
    process = context.Process(target=_take_in, args=(folder, events, full))
    began = time.perf_counter()
    process.start()
    full.wait()
    seconds = time.perf_counter() - began
    with Workspace(Path(folder) / "workspace") as workspace:
        audience = Audience.numbered(users, movies)
        for first in range(events, events + WAITING, WAITING // 10):
            table = playback_events(first, WAITING // 10, audience, events + WAITING)
            workspace.log.append("playback", table)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return Figure("speed until killed", events, seconds)


def _take_in(folder: str, events: int, full: Event) -> None:
    """What `playhead speed` does, until it is killed."""
    taken = 0

    def count(step: Step) -> None:
        nonlocal taken
        taken += step.events
        if taken >= events:
            full.set()

    with Workspace(Path(folder) / "workspace") as workspace:
        workspace.speed(on_step=count)


def answer(folder: str, events: int) -> Figure:
    """A new process answers one window."""
    since = START + timedelta(hours=1)
    command = [
        sys.executable, "-m", "playhead", "-w", str(Path(folder) / "workspace"), "show", VIEW,
        "--limit", "1", "--since", f"{since}", "--until", f"{since + timedelta(minutes=5)}",
    ]  # fmt: skip
    seconds, _ = timed(lambda: run_quietly(command))
    return Figure("a new process answers one window", events, seconds)


def level(folder: str, events: int) -> Figure:
    """A new speed layer starts, and takes in what waits."""
    with Workspace(Path(folder) / "workspace") as workspace, connect() as connection:
        layer = workspace.speed_layer(connection)
        began = time.perf_counter()
        layer.start()
        started = time.perf_counter() - began
        while layer.step().events:
            pass
        seconds = time.perf_counter() - began
    return Figure("a new speed layer is level", events, seconds, note=f"started in {started:.1f} s")


def check(folder: str, events: int) -> Figure:
    """The whole answer against recomputation."""
    with Workspace(Path(folder) / "workspace") as workspace:
        merged, full = workspace.view(VIEW).to_arrow(), workspace.full(VIEW).to_arrow()
        keys = [(column, "ascending") for column in merged.column_names]
        if not merged.sort_by(keys).equals(full.sort_by(keys)):
            raise SystemExit(f"{VIEW}: the merged answer differs from recomputation")
    return Figure("check", events, 0)


def main(arguments: list[str] | None = None) -> None:
    """Prepare, kill, measure and print; every part runs in a process of its own."""
    parser = argparse.ArgumentParser(prog="playhead bench recovery", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="full size: 10000000")
    parser.add_argument("--users", type=int, default=100_000, help="full size: 1000000")
    parser.add_argument("--movies", type=int, default=1_000)
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    size = (options.events, options.users, options.movies)
    with tempfile.TemporaryDirectory() as folder:
        alone(prepare, folder, *size)
        figures = [fill_and_kill(folder, *size)]
        figures += [alone(part, folder, options.events) for part in (answer, level)]
        alone(check, folder, options.events)
    show("recovery: state == recomputed afterwards", figures, as_json=options.format == "json")


if __name__ == "__main__":
    main()
