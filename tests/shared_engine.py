"""The batch layer's work divided as among processes, run in this one."""

import pickle
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import TypeVar

from playhead.batch.shares import Place, Share, SharedStateEngine, SharedStates

T = TypeVar("T")


def sent(value: T) -> T:
    """A value as another process gets it."""
    found: T = pickle.loads(pickle.dumps(value))
    return found


class SharedEngine(SharedStateEngine):
    """Does what there is in another order.

    Args:
        processes: among which files are divided.
    """

    name = "shared"

    def __init__(self, processes: int, order: random.Random) -> None:
        self._processes, self._order = processes, order
        self.places: set[Place] = set()
        self.shares = 0

    def processes(self) -> int:
        return self._processes

    def gather(
        self, work: Callable[[Share], dict[date, int]], divided: Sequence[Share], what: str
    ) -> Iterable[dict[date, int]]:
        return map(sent(work), self._shuffled(divided))

    def exchange(
        self, work: SharedStates, divided: Sequence[Share], what: str
    ) -> Iterable[tuple[int, bytes]]:
        there = sent(work)
        together: dict[Place, list[bytes]] = defaultdict(list)
        for share in self._shuffled(divided):
            for place, body in there.partials(share):
                together[place].append(body)
        self.places |= together.keys()
        self.shares = max(self.shares, len(divided))
        return there.merged(self._shuffled(list(together.items())))

    def _shuffled(self, values: Sequence[T]) -> list[T]:
        found = list(sent(values))
        self._order.shuffle(found)
        return found
