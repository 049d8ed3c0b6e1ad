"""A life: a plan run on one workspace, with its kills, its restarts and its reckoning."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGKILL

import pyarrow as pa

from layers import SmallWorkspace, ordered
from playhead.errors import CoverageError
from stages import context, start_server
from torture.plan import Job, Plan
from torture.truth import DifferenceError, Ledger
from torture.work import VIEWS, acknowledged, open_workspace, work
from torture.world import first_dimensions, read_world, write_folder, write_world

_LONGEST_S = 60.0

context.set_forkserver_preload(["stages", "torture.warm"])


@dataclass
class Tally:
    """What a run has done so far.

    Attributes:
        by_point: kills at a commit point, by its name.
        delayed: kills at any other moment.
        gave_way: processes that let another one go first, and said so.
    """

    by_point: Counter[str] = field(default_factory=Counter)
    delayed: int = 0
    gave_way: int = 0
    cycles: int = 0
    lives: int = 0
    events: int = 0

    @property
    def kills(self) -> int:
        return self.by_point.total() + self.delayed


@dataclass
class _Started:
    job: Job
    process: BaseProcess
    began: float | None = None
    ended: float | None = None


class Life:
    """Runs a plan in a folder of its own, which has to be empty.

    Args:
        told: called after every cycle.
    """

    def __init__(
        self, folder: Path, plan: Plan, tally: Tally, told: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._tally = tally
        self._told = told
        self._unfinished: dict[str, Job] = {}
        self._ledger = Ledger()
        self._world: pa.Table

    def run(self, *, kills: int | None = None) -> None:
        """Live, until the plan ends or so many kills are tallied, and settle.

        Raises:
            DifferenceError: the workspace does not hold what was sent to it, or a process failed.
        """
        start_server()
        write_world(self._folder, self._plan)
        self._world = read_world(self._folder)
        with open_workspace(self._folder) as opened:
            first_dimensions(opened)
        for jobs in self._plan.cycles:
            self._cycle(jobs)
            self._tally.cycles += 1
            self._told()
            if kills is not None and self._tally.kills >= kills:
                break
        self._settle()
        self._tally.lives += 1

    def _cycle(self, jobs: tuple[Job, ...]) -> None:
        for job in jobs:
            if job.role in ("load", "replay"):
                write_folder(self._folder, self._world, job)
        self._run(jobs)
        # Users that a killed load may have replaced: it is done again before the next one.
        self._finish([job for job in self._unfinished.values() if job.spend is not None])
        with open_workspace(self._folder) as opened:
            check_answers(opened)

    def _run(self, jobs: Sequence[Job]) -> None:
        """Run jobs side by side; each ends, is killed by its plan, or has failed."""
        started = [_Started(job, self._start(job)) for job in jobs]
        try:
            while any(one.ended is None for one in started):
                for one in started:
                    self._watch(one)
                time.sleep(0.003)
            for one in started:
                one.process.join()
        finally:
            for one in started:
                one.process.kill()
                one.process.join()
        for one in started:
            self._reckon(one)

    def _start(self, job: Job) -> BaseProcess:
        process = context.Process(target=work, args=(self._folder, job))
        process.start()
        return process

    def _watch(self, one: _Started) -> None:
        """Kill a process when its time has come, counted from when it began to work."""
        if one.ended is None and not one.process.is_alive():
            one.ended = time.monotonic()
        if one.began is None and (self._folder / f"{one.job.name}.began").exists():
            one.began = time.monotonic()
        limit = one.job.kill.delay_s if one.job.kill else _LONGEST_S
        if one.began and one.ended is None and time.monotonic() - one.began > limit:
            one.ended = one.began + limit
            one.process.kill()

    def _reckon(self, one: _Started) -> None:
        """Tally how a process ended, and note what it acknowledged."""
        job, code = one.job, one.process.exitcode
        one.process.close()
        (self._folder / f"{job.name}.began").unlink(missing_ok=True)
        failed = self._folder / f"{job.name}.failed"
        if failed.exists():
            raise DifferenceError(f"{job.name} ({job.kill}) failed:\n{failed.read_text()}")
        if (self._folder / f"{job.name}.gave-way").exists():
            (self._folder / f"{job.name}.gave-way").unlink()
            self._tally.gave_way += 1
        if code == -SIGKILL and job.role != "query":
            if job.kill is None:
                raise DifferenceError(f"{job.name} did not end within {_LONGEST_S:.0f} s")
            self._count_kill(one)
        elif code not in (0, -SIGKILL):
            raise DifferenceError(f"{job.name} ended with {code}")
        self._note(job)

    def _count_kill(self, one: _Started) -> None:
        kill = one.job.kill
        assert kill is not None
        if kill.point and one.ended != (one.began or 0) + kill.delay_s:
            self._tally.by_point[kill.point] += 1
        else:
            self._tally.delayed += 1

    def _note(self, job: Job) -> None:
        done = acknowledged(self._folder, job)
        if job.role == "append":
            self._note_blocks(job, done)
        elif job.role in ("load", "replay"):
            self._unfinished.pop(job.name, None)
            if "0" in done:
                self._ledger.certain.update(job.numbers)
                self._ledger.spend = self._ledger.spend if job.spend is None else job.spend
            else:
                self._unfinished[job.name] = job

    def _note_blocks(self, job: Job, done: set[str]) -> None:
        for place, block in enumerate(job.blocks):
            if str(place) in done:
                self._ledger.certain.update(block)
            else:
                self._ledger.together.append(set(block))
            sent = f"s{block[0]}" in done
            (self._ledger.searches if sent else self._ledger.maybe_searches).add(block[0])

    def _settle(self) -> None:
        """Let everything come to its end, and compare."""
        self._finish([job for job in self._unfinished.values() if job.again])
        for job in self._unfinished.values():
            self._leave(job)
        with open_workspace(self._folder) as opened:
            drain(opened)
            self._tally.events += self._ledger.check(opened, self._world)
            # With nobody at work, all that no table refers to may go, and nothing is missed.
            for name in opened.lake.tables():
                opened.lake.expire(name, older_than=timedelta(0))
            opened.lake.sweep(older_than=timedelta(0))
            self._ledger.check(opened, self._world)

    def _finish(self, jobs: Sequence[Job]) -> None:
        """Do loads and replays again that were killed, one after the other."""
        for job in jobs:
            self._run([replace(job, kill=None)])

    def _leave(self, job: Job) -> None:
        """A killed load is one commit; a killed replay has sent any number of blocks."""
        if job.role == "load":
            self._ledger.together.append(set(job.numbers))
        else:
            self._ledger.loose.update(job.numbers)


def drain(opened: SmallWorkspace) -> None:
    """Bring a workspace to rest: all is in state, sealed and recomputed."""
    opened.speed(drain=True)
    opened.batch()
    opened.speed(drain=True)
    if opened.lag():
        raise DifferenceError(f"{opened.lag()} events are not in state after draining")


def check_answers(opened: SmallWorkspace) -> None:
    """Before anything is repaired: an answer that is given equals recomputation.

    Raises:
        DifferenceError: one does not.
    """
    for name in VIEWS:
        try:
            answer = opened.view(name)
        except CoverageError:
            continue
        if any(part.mixed for part in answer.coverage):
            continue
        if ordered(answer.to_arrow()) != ordered(opened.full(name).to_arrow()):
            raise DifferenceError(f"view {name} after the kills: merged and full differ")
