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
_Integers = npt.NDArray[np.int64]

_PARTS = 8
"""Ids are forgotten by the run; no run grows beyond this share of the window or of the limit."""


@dataclass(frozen=True)
class Unseen:
    """Which of some events are new, and what to remember of them.

    Attributes:
        mask: bool, shape (n,): True for the first of each id that was not remembered before.
        first, second: halves of the hashes of the new ids, shape (mask.sum(),).
    """

    mask: _Mask
    first: _Hashes
    second: _Hashes


@dataclass(frozen=True)
class _Run:
    """Ids in the order of their first half, and when the first and the last of them came."""

    first: _Hashes
    second: _Hashes
    oldest: datetime
    newest: datetime

    def __len__(self) -> int:
        return len(self.first)

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
        window: ids that came longer ago are forgotten, an eighth of the window at a time.
        limit: at most this many ids are remembered, 16 bytes each; the oldest go first.
    """

    def __init__(self, *, window: timedelta, limit: int = 50_000_000) -> None:
        self._window = window
        self._limit = limit
        self._runs: list[_Run] = []
        self.forgotten = 0

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, ids: pa.ChunkedArray | pa.Array, at: datetime) -> _Mask:
        """Remember ids that came at `at`, and tell which of them are new; see `unseen`."""
        unseen = self.unseen(ids)
        self.remember(unseen, at)
        return unseen.mask

    def unseen(self, ids: pa.ChunkedArray | pa.Array, times: _Integers | None = None) -> Unseen:
        """Tell which ids are new, without remembering them.

        Args:
            ids: strings, shape (n,).
            times: when each came, shape (n,), in any unit: of several with one id the earliest
                is new, the first in the array if they came together; None: in the array's order.
        """
        first, second = hash_strings(ids, 0), hash_strings(ids, 1)
        mask = _first_of_each(first, second, times)
        for run in self._runs:
            mask &= ~run.holds(first, second)
        return Unseen(mask, first[mask], second[mask])

    def remember(self, unseen: Unseen, at: datetime) -> None:
        """Remember new ids that came at `at`, and forget what the window has left behind."""
        if len(unseen.first):
            order = np.argsort(unseen.first, kind="stable")
            self._runs.append(_Run(unseen.first[order], unseen.second[order], at, at))
            self._merge()
        self._forget(at)

    def _merge(self) -> None:
        while len(self._runs) > 1:
            older, newer = self._runs[-2:]
            size, span = len(older) + len(newer), newer.newest - older.oldest
            too_much = size * _PARTS > self._limit or span * _PARTS > self._window
            if len(older) > 2 * len(newer) or too_much:
                break
            self._runs[-2:] = [_merged(older, newer)]

    def _forget(self, now: datetime) -> None:
        while self._runs and self._runs[0].newest < now - self._window:
            self._runs.pop(0)
        while len(self) > self._limit and len(self._runs) > 1:
            self.forgotten += len(self._runs.pop(0))


def _first_of_each(first: _Hashes, second: _Hashes, times: _Integers | None) -> _Mask:
    """bool, shape (n,): False where an earlier row has the same two halves."""
    if times is not None and np.any(times[1:] < times[:-1]):
        order = np.argsort(times, kind="stable")
        mask: _Mask = np.empty(len(first), dtype=np.bool_)
        mask[order] = _first_of_each(first[order], second[order], None)
        return mask
    _, places, groups = np.unique(first, return_index=True, return_inverse=True)
    earliest = places[groups]
    is_first: _Mask = (earliest == np.arange(len(first))) | (second != second[earliest])
    return is_first


def _merged(older: _Run, newer: _Run) -> _Run:
    first = np.concatenate([older.first, newer.first])
    order = np.argsort(first, kind="stable")
    second = np.concatenate([older.second, newer.second])[order]
    return _Run(first[order], second, older.oldest, max(older.newest, newer.newest))
