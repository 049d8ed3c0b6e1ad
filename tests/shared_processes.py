"""Work divided as among processes, done in this one."""

import pickle
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from playhead.batch.shared.processes import Exchange, Given, Key, Made, Processes

T = TypeVar("T")


def sent(value: T) -> T:
    """A value as another process gets it."""
    found: T = pickle.loads(pickle.dumps(value))
    return found


class ShuffledProcesses(Processes):
    """Does what there is in another order.

    Args:
        count: among how many the work is divided.

    Attributes:
        keys: by which values were brought together.
        most: how many pieces of work there were at once, at most.
    """

    name = "shuffled"

    def __init__(self, count: int, order: random.Random) -> None:
        self._count, self._order = count, order
        self.keys: set[Any] = set()
        self.most = 0

    def count(self) -> int:
        return self._count

    def map(
        self, work: Callable[[Given], Made], given: Sequence[Given], what: str
    ) -> Iterable[Made]:
        there, made = sent(work), {}
        self.most = max(self.most, len(given))
        for place in self._shuffled(range(len(given))):
            made[place] = sent(there(sent(given[place])))
        return [made[place] for place in range(len(given))]

    def exchange(
        self, work: Exchange[Given, Key, Made], given: Sequence[Given], what: str
    ) -> Iterable[Made]:
        there = sent(work)
        together: dict[Key, list[bytes]] = defaultdict(list)
        for one in self._shuffled(given):
            for key, body in there.partials(sent(one)):
                together[key].append(body)
        self.keys |= together.keys()
        self.most = max(self.most, len(given))
        return there.merged(self._shuffled(list(together.items())))

    def _shuffled(self, values: Iterable[T]) -> list[T]:
        found = list(values)
        self._order.shuffle(found)
        return found
