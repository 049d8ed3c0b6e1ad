"""How fast totals grow: the differences between what was read now and what was read before."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Growth", "Track"]

_LEAST_S = 0.5
_KEPT = 60


@dataclass(frozen=True)
class Growth:
    """How fast some totals have grown.

    Attributes:
        per_s: by name.
        over_s: on average over so many seconds, up to now.
    """

    per_s: Mapping[str, float]
    over_s: float

    @property
    def total(self) -> float:
        """How fast all of them have grown together."""
        return sum(self.per_s.values())


class Track:
    """Remembers totals for about a window, and says how fast they grow.

    Args:
        window_s: the stretch of time to look back, in seconds.
        least_s: readings that are less apart tell nothing.
    """

    def __init__(self, window_s: float, least_s: float = _LEAST_S) -> None:
        self._window_s, self._least_s = window_s, least_s
        self._kept: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, at_s: float, totals: Mapping[str, int]) -> Growth | None:
        """Take in what was read; how fast it grew since about a window ago.

        Args:
            at_s: seconds since an arbitrary start; never goes back.
            totals: by name; one that is smaller than before has not grown.

        Returns:
            None as long as nothing is known of a time that is neither too near nor too far.
        """
        kept = self._kept
        while len(kept) > 1 and at_s - kept[1][0] >= self._window_s:
            kept.popleft()
        if kept and at_s - kept[0][0] > 2 * self._window_s:
            kept.clear()
        growth = self._since(*kept[0], at_s, totals) if kept else None
        if not kept or at_s - kept[-1][0] >= self._window_s / _KEPT:
            kept.append((at_s, totals))
        return growth

    def _since(
        self, before_s: float, before: Mapping[str, int], at_s: float, totals: Mapping[str, int]
    ) -> Growth | None:
        over_s = at_s - before_s
        if over_s < self._least_s:
            return None
        grown = {name: max(0, total - before.get(name, total)) for name, total in totals.items()}
        return Growth({name: count / over_s for name, count in grown.items()}, over_s)
