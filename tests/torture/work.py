"""What the processes of a life do: the work of a workspace, as the commands do it."""

import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event
from unittest.mock import patch

from layers import Running, SmallWorkspace, searches, workspace
from playhead.batch.replay import AtOnce, ReplaySpec
from playhead.errors import CoverageError, PlayheadError
from playhead.speed.compact import BackgroundCompactor
from stages import Moment
from torture.plan import Job
from torture.points import POINTS
from torture.world import pick, read_world

VIEWS = ("counts", "windows", "countries", "sessions", "searches")
_PAUSE_S = 0.02
OLD = timedelta(seconds=15)
"""Longer than any process lives: what is older, nobody reads or writes any more."""


def open_workspace(folder: Path) -> SmallWorkspace:
    """The workspace of a life's folder."""
    return workspace(folder / "w", *VIEWS)


def work(folder: Path, job: Job) -> None:
    """Do a job, in a process of its own, and die where its plan says so."""
    if job.kill and job.kill.point:
        function = POINTS[job.role][job.kill.point]
        Moment(function, job.kill.nth, job.kill.after).wait_here(_die)
    logging.disable(logging.WARNING)
    (folder / f"{job.name}.began").touch()
    try:
        with open_workspace(folder) as opened:
            WORK[job.role](opened, folder, job)
    except Exception as error:
        # Whoever gives way to another process says so, and may be started again.
        gives_way = isinstance(error, PlayheadError) and error.retryable
        name = f"{job.name}.{'gave-way' if gives_way else 'failed'}"
        (folder / name).write_text(traceback.format_exc(), encoding="utf-8")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def acknowledged(folder: Path, job: Job) -> set[str]:
    """What a job's calls have returned from: "0" for its first block or its file, and so on."""
    path = folder / f"{job.name}.acknowledged"
    return set(path.read_text(encoding="utf-8").split()) if path.exists() else set()


def acknowledge(folder: Path, job: Job, what: str) -> None:
    """Note that a call has returned; the note outlives the process."""
    with (folder / f"{job.name}.acknowledged").open("a", encoding="utf-8") as file:
        file.write(f"{what}\n")


def _append(opened: SmallWorkspace, folder: Path, job: Job) -> None:
    world = read_world(folder)
    for place, block in enumerate(job.blocks):
        opened.log.append("playback", pick(world, block))
        acknowledge(folder, job, str(place))
        opened.log.append("search", searches([block[0]]))
        acknowledge(folder, job, f"s{block[0]}")
        time.sleep(_PAUSE_S)


def _load(opened: SmallWorkspace, folder: Path, job: Job) -> None:
    opened.load(folder / "files" / job.name).check()
    acknowledge(folder, job, "0")


def _replay(opened: SmallWorkspace, folder: Path, job: Job) -> None:
    spec = ReplaySpec(AtOnce(), topics=("playback",), block_events=10)
    opened.replay(folder / "files" / job.name, spec)
    acknowledge(folder, job, "0")


def _speed(opened: SmallWorkspace, folder: Path, job: Job) -> None:
    hurry = {
        "trigger": timedelta(milliseconds=10),
        "seal_every": timedelta(milliseconds=100),
        "judge_every": timedelta(milliseconds=50),
        "max_events": 40,
        "retention": OLD,
        "retain_every": timedelta(milliseconds=150),
    }
    short = timedelta(milliseconds=20)
    often = partial(BackgroundCompactor, pause=short, settled=short)
    with (
        patch("playhead.speed.layer.BackgroundCompactor", often),
        opened._role("speed layer"),
        Running(opened, **hurry) as layer,
    ):
        layer.run(Event())


def _batch(opened: SmallWorkspace, folder: Path, job: Job) -> None:
    opened.batch()


def _maintenance(opened: SmallWorkspace, folder: Path, job: Job) -> None:
    for name in opened.lake.tables():
        opened.lake.expire(name, older_than=OLD)
    opened.lake.sweep(older_than=OLD)


def _query(opened: SmallWorkspace, folder: Path, job: Job) -> None:
    """Ask again and again: events are counted once, and never fewer than before."""
    before = 0
    while True:
        row = opened.query(
            "SELECT COUNT(*) AS n, COUNT(DISTINCT event_id) AS ids FROM playback"
        ).to_arrow().to_pylist()[0]  # fmt: skip
        assert row["n"] == row["ids"], f"{row['n']} rows of {row['ids']} events"
        for name in VIEWS:
            try:
                answer = opened.view(name).to_arrow().to_pylist()
            except CoverageError:
                continue
            if name == "counts":
                assert answer[0]["events"] >= before, f"{answer[0]['events']} after {before}"
                before = answer[0]["events"]
        time.sleep(0.01)


WORK: dict[str, Callable[[SmallWorkspace, Path, Job], None]] = {
    "append": _append,
    "load": _load,
    "replay": _replay,
    "speed": _speed,
    "batch": _batch,
    "maintenance": _maintenance,
    "query": _query,
}
