"""What is killed in a round, and for how long it is gone: from a seed alone."""

import random
from dataclasses import dataclass

SERVERS = ("broker", "store", "database")
WORKERS = ("spark-worker-0", "spark-worker-1")
PARTS = ("speed", "gateway-1", "batch", "api", "supervisor")
_GONE_S = (0.0, 0.5, 2.0, 5.0)
_WAIT_S = (0.3, 2.5)


@dataclass(frozen=True)
class Blow:
    """One `kill -9`.

    Attributes:
        wait_s: before it.
        target: a server, a Spark worker, or a part of the platform.
        gone_s: until it is started again; parts are started again by their supervisor.
    """

    wait_s: float
    target: str
    gone_s: float = 0.0


def plan_round(seed: int, number: int, *, with_spark: bool) -> list[Blow]:
    """A round: every server and the speed layer once, and one other part, in any order."""
    r = random.Random(f"{seed}/{number}")
    targets = [*SERVERS, "speed", r.choice(PARTS[1:])]
    if with_spark:
        targets.append(r.choice(WORKERS))
    r.shuffle(targets)
    return [
        Blow(r.uniform(*_WAIT_S), target, 0.0 if target in PARTS else r.choice(_GONE_S))
        for target in targets
    ]
