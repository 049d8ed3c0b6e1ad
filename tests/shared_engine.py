"""The batch layer's work divided as among processes, run in this one."""

import pickle
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from typing import TypeVar

from playhead.batch.base import StateEngine
from playhead.batch.reading import Reading
from playhead.batch.shares import Place, Share, SharedReading, SharedStates, shares
from playhead.lake import Draft, Snapshot
from playhead.views.leaf import Leaf

T = TypeVar("T")


def sent(value: T) -> T:
    """A value as another process gets it."""
    found: T = pickle.loads(pickle.dumps(value))
    return found


class SharedEngine(StateEngine):
    """Divides what is to be done, and does it in another order.

    Args:
        processes: among which files are divided.
    """

    name = "shared"

    def __init__(self, processes: int, order: random.Random) -> None:
        self.processes, self._order = processes, order
        self.places: set[Place] = set()
        self.shares = 0

    def _shares(self, events: Snapshot) -> list[Share]:
        found = sent(shares(events, self.processes))
        self._order.shuffle(found)
        self.shares = max(self.shares, len(found))
        return found

    def days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        source = sent(SharedReading.of(events, reading))
        found: Counter[date] = Counter()
        for share in self._shares(reading.of(events)):
            found.update(source.days(share))
        return dict(found)

    def compute(
        self,
        events: Snapshot,
        reading: Reading,
        days: Mapping[date, int],
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, Draft]],
    ) -> None:
        with ExitStack() as stack:
            drafts = [stack.enter_context(draft.elsewhere()) for _, draft in leaves]
            writers = [(leaf, w) for (leaf, _), (w, _) in zip(leaves, drafts, strict=True)]
            source = SharedReading.of(events, reading)
            work = sent(SharedStates.of(source, days, dimensions, writers))
            together: dict[Place, list[bytes]] = defaultdict(list)
            for share in self._shares(reading.of(events)):
                for place, body in work.partials(share):
                    together[place].append(body)
            self.places |= together.keys()
            groups = list(together.items())
            self._order.shuffle(groups)
            for leaf, files in work.merged(groups):
                drafts[leaf][1].append(files)
