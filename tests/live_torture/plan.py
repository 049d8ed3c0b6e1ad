"""What happens to a platform, all of it drawn from one seed: the same seed, the same plan."""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

BLOWS = 10
"""In one round, after which everything has to be whole again."""

_LONGEST_WAIT_S, _LONGEST_PAUSE_S = 1.5, 4.0
_LONGEST_FAULT_S = 3.0


class Deed(Enum):
    """What is done to a process, to the disk of all, or to a client."""

    KILL = "kill"
    PAUSE = "pause"
    FAIL = "fail"
    KILL_CLIENT = "kill a client"


TARGETS: Final = {
    "supervisor": 2,
    "gateway-1": 3,
    "gateway-2": 3,
    "speed": 4,
    "batch": 3,
    "api": 2,
    "query": 2,
}
"""Processes, and how often each is hit; "query" is one that the API runs queries in."""

_DEEDS: dict[Deed, int] = {Deed.KILL: 14, Deed.PAUSE: 3, Deed.KILL_CLIENT: 2, Deed.FAIL: 1}


@dataclass(frozen=True)
class Blow:
    """One thing that happens.

    Attributes:
        wait_s: since the one before.
        target: of `TARGETS`; empty where it is no process of the tree.
        lasts_s: of a pause, or of a disk that fails.
    """

    wait_s: float
    deed: Deed
    target: str = ""
    lasts_s: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"after {self.wait_s:.2f} s: {self.deed.value} {self.target}{lasts}"


@dataclass(frozen=True)
class Round:
    """Some blows, close to each other.

    Attributes:
        fault: how the disk fails in this round, if it does: "full" or "sync".
        batch: the batch layer is made to run at its beginning.
    """

    blows: tuple[Blow, ...]
    fault: str
    batch: bool


def plan_round(seed: int, number: int, *, blows: int = BLOWS, fails: bool = True) -> Round:
    """One round of a plan.

    Args:
        fails: whether disks may fail.
    """
    r = random.Random(f"{seed}/{number}")
    deeds = {deed: often for deed, often in _DEEDS.items() if fails or deed is not Deed.FAIL}
    made = tuple(_blow(r, deeds) for _ in range(blows))
    return Round(made, r.choice(["full", "sync"]), r.random() < 0.7)


def _blow(r: random.Random, deeds: dict[Deed, int]) -> Blow:
    (deed,) = r.choices(list(deeds), list(deeds.values()))
    wait_s = r.uniform(0, _LONGEST_WAIT_S) if r.random() < 0.8 else r.uniform(0, 0.05)
    if deed in (Deed.FAIL, Deed.KILL_CLIENT):
        return Blow(wait_s, deed, lasts_s=_LONGEST_FAULT_S * (deed is Deed.FAIL))
    (target,) = r.choices(list(TARGETS), list(TARGETS.values()))
    lasts_s = r.uniform(0.2, _LONGEST_PAUSE_S) if deed is Deed.PAUSE else 0.0
    return Blow(wait_s, deed, target, lasts_s)
