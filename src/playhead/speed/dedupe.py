"""Which events repeat: the same `event_id`, of which the first wins.

Ids are remembered as 128 bits (two independent 64-bit hashes) in sorted runs that are merged as
they grow, so a batch costs its own size times the logarithm of what is remembered.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.eventlog.keys import hash_strings

_Hashes = npt.NDArray[np.uint64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Run:
    """Ids in the order of their first half, and when the last of them came."""

    first: _Hashes
    second: _Hashes
    newest: datetime

    def holds(self, first: _Hashes, second: _Hashes) -> _Mask:
        at = np.searchsorted(self.first, first)
        found: _Mask = np.zeros(len(first), dtype=np.bool_)
        # Two ids with the same first half stand side by side; more than two never meet.
        for step in (0, 1):
            here = np.minimum(at + step, len(self.first) - 1)
            found |= (self.first[here] == first) & (self.second[here] == second)
        return found


class SeenEvents:
    """The ids of the dedupe window.

    Args:
        window: ids that came longer ago are forgotten.
        limit: at most this many ids are remembered, 16 bytes each; the oldest go first.
    """

    def __init__(self, *, window: timedelta, limit: int = 50_000_000) -> None:
        self._window = window
        self._limit = limit
        self._runs: list[_Run] = []
        self.forgotten = 0

    def __len__(self) -> int:
        return sum(len(run.first) for run in self._runs)

    def add(self, ids: pa.ChunkedArray | pa.Array, at: datetime) -> _Mask:
        """Remember ids that came until `at`, and tell which of them are new.

        Args:
            ids: strings, shape (n,), in the order of arrival.

        Returns:
            bool, shape (n,): True for the first of each id that was not remembered before.
        """
        first, second = hash_strings(ids, 0), hash_strings(ids, 1)
        mask = _first_of_each(first, second)
        for run in self._runs:
            mask &= ~run.holds(first, second)
        if mask.any():
            self._remember(first[mask], second[mask], at)
        self._forget(at)
        return mask

    def _remember(self, first: _Hashes, second: _Hashes, at: datetime) -> None:
        order = np.argsort(first, kind="stable")
        self._runs.append(_Run(first[order], second[order], at))
        while len(self._runs) > 1 and len(self._runs[-2].first) <= 2 * len(self._runs[-1].first):
            newer, older = self._runs.pop(), self._runs.pop()
            self._runs.append(_merged(older, newer))

    def _forget(self, now: datetime) -> None:
        while self._runs and self._runs[0].newest < now - self._window:
            self._runs.pop(0)
        while len(self) > self._limit and len(self._runs) > 1:
            self.forgotten += len(self._runs.pop(0).first)


def _first_of_each(first: _Hashes, second: _Hashes) -> _Mask:
    """bool, shape (n,): False where an earlier row has the same two halves."""
    _, places, groups = np.unique(first, return_index=True, return_inverse=True)
    earliest = places[groups]
    return (earliest == np.arange(len(first))) | (second != second[earliest])


def _merged(older: _Run, newer: _Run) -> _Run:
    first = np.concatenate([older.first, newer.first])
    order = np.argsort(first, kind="stable")
    second = np.concatenate([older.second, newer.second])[order]
    return _Run(first[order], second, max(older.newest, newer.newest))
