"""What happens in a life, all of it drawn from one seed: the same seed, the same plan."""

import random
from dataclasses import dataclass

from torture.points import POINTS

CYCLES = 12
_APPENDED, _LOADED = 15, 40
_LONGEST_S = 0.6
_LONGEST = {"append": 0.25, "replay": 0.25, "load": 0.5, "batch": 0.4, "maintenance": 0.3}


@dataclass(frozen=True)
class Kill:
    """When a process is killed: at a commit point, or a while after it has started.

    Attributes:
        point: a name of `POINTS`; None: after `delay_s`, wherever it is by then.
        nth: at which call; one that never comes is a kill after `delay_s`.
        after: after the call has done its work, not before.
    """

    delay_s: float
    point: str | None = None
    nth: int = 1
    after: bool = False

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        at = f"{when} {self.point} {self.nth} or " if self.point else ""
        return f"{at}after {self.delay_s:.3f} s"


@dataclass(frozen=True)
class Job:
    """One process of a cycle.

    Attributes:
        name: of its acknowledgements and errors; one process a name.
        role: a role of `POINTS`, or "query".
        blocks: numbers of the events that it appends at once, or that its one file holds.
        spend: of a load with a file of users, what each of them spends.
        kill: None lets it come to its end.
        again: a load or replay that was killed is done again.
    """

    name: str
    role: str
    kill: Kill | None = None
    blocks: tuple[tuple[int, ...], ...] = ()
    spend: int | None = None
    again: bool = True

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(number for block in self.blocks for number in block)


@dataclass(frozen=True)
class Plan:
    """A life: cycles of processes that run side by side, on one workspace."""

    seed: str
    cycles: tuple[tuple[Job, ...], ...]
    events: int


def plan_life(seed: int, life: int, *, cycles: int = CYCLES) -> Plan:
    """The plan of one life of a run."""
    name = f"{seed}-{life}"
    return _Planner(name).plan(cycles)


class _Planner:
    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._r = random.Random(seed)
        self._events = 0

    def plan(self, cycles: int) -> Plan:
        made = tuple(tuple(self._cycle(number)) for number in range(cycles))
        return Plan(self._seed, made, self._events)

    def _cycle(self, number: int) -> list[Job]:
        jobs = [self._append(f"{number}-append"), self._plain(f"{number}-speed", "speed")]
        if self._maybe(0.3):
            jobs.append(self._append(f"{number}-append-too"))
        if self._maybe(0.6):
            jobs.append(self._plain(f"{number}-batch", "batch"))
        if self._maybe(0.4):
            jobs.append(self._load(f"{number}-load"))
        if self._maybe(0.25):
            jobs.append(self._file(f"{number}-replay", "replay"))
        if self._maybe(0.25):
            jobs.append(self._plain(f"{number}-maintenance", "maintenance"))
        if self._maybe(0.4):
            jobs.append(Job(f"{number}-query", "query", Kill(_LONGEST_S)))
        return jobs

    def _append(self, name: str) -> Job:
        blocks = []
        for _ in range(1 + self._r.randrange(12)):
            blocks.append((*self._new(1 + self._r.randrange(_APPENDED)), *self._old(5)))
        return Job(name, "append", self._kill("append"), tuple(blocks))

    def _file(self, name: str, role: str) -> Job:
        numbers = (*self._new(1 + self._r.randrange(_LOADED)), *self._old(10))
        return Job(name, role, self._kill(role), (numbers,))

    def _load(self, name: str) -> Job:
        made = self._file(name, "load")
        spend = self._r.randrange(100) if self._maybe(0.3) else None
        again = spend is not None or self._maybe(0.7)
        return Job(name, "load", made.kill, made.blocks, spend, again)

    def _plain(self, name: str, role: str) -> Job:
        return Job(name, role, self._kill(role))

    def _kill(self, role: str) -> Kill | None:
        """Mostly one: half of them at a commit point, half at any moment."""
        if self._maybe(0.12) and role != "speed":
            return None
        delay_s = self._r.uniform(0.0, _LONGEST.get(role, _LONGEST_S))
        if self._maybe(0.4):
            return Kill(delay_s)
        point = self._r.choice(sorted(POINTS[role]))
        return Kill(_LONGEST_S, point, 1 + int(self._r.expovariate(1.0)), self._maybe(0.5))

    def _new(self, count: int) -> range:
        self._events += count
        return range(self._events - count, self._events)

    def _old(self, most: int) -> list[int]:
        """Repeats of what any process may have sent before, or is sending now."""
        count = self._r.randrange(most + 1)
        recent = max(self._events - 300, 0)
        return [self._r.randrange(recent, self._events) for _ in range(count)]

    def _maybe(self, chance: float) -> bool:
        return self._r.random() < chance
