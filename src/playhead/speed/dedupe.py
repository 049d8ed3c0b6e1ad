"""Which events repeat: the same `event_id`, of which the first wins.

Ids are remembered as 128 bits (two independent 64-bit hashes) in sorted runs. A filter of one
bit for each of many ranges of the hash says which ids of a batch may be known at all: the few
that pass it are looked up in the runs, so a batch costs about its own size, however many ids are
remembered. Both are walked in the order of the hash, which keeps memory access sequential.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.eventlog.keys import hash_pairs

_Hashes = npt.NDArray[np.uint64]
_Mask = npt.NDArray[np.bool_]
_Integers = npt.NDArray[np.int64]

_PARTS = 8
"""Ids are forgotten by the run; no run grows beyond this share of the window or of the limit."""

_FAN_IN = 16
"""Runs of about one size that become one: each id is moved once per power of this."""

_RANGES_PER_ID = 32
"""Of the filter: one unknown id in this many passes it, at worst."""

# Temporaries of this many rows stay in a core's second-level cache.
_ROWS_AT_ONCE = 1 << 15

_BITS = np.array([1 << place for place in range(8)], dtype=np.uint8)


@dataclass(frozen=True)
class Unseen:
    """Which of some events are new, and what to remember of them.

    Attributes:
        mask: bool, shape (n,): True for the first of each id that was not remembered before.
        first, second: halves of the hashes of the new ids, shape (mask.sum(),), in the order of
            the first half.
    """

    mask: _Mask
    first: _Hashes
    second: _Hashes


@dataclass(frozen=True, eq=False)
class Run:
    """Ids in the order of their first half, each once; it never changes.

    Attributes:
        first, second: halves of the ids' hashes, shape (n,) each.
        oldest, newest: when the first and the last of them were remembered.
        arrived: when the last of them came into the event log, by the log's clock.
    """

    first: _Hashes
    second: _Hashes
    oldest: datetime
    newest: datetime
    arrived: datetime

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


class _Filter:
    """Says of an id that it is unknown, or that it may be known: a bit for each range of hashes."""

    def __init__(self, capacity: int) -> None:
        bits = max(16, int(capacity * _RANGES_PER_ID - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._known = np.zeros(1 << (bits - 3), dtype=np.uint8)
        self.capacity = (1 << bits) // _RANGES_PER_ID

    def add(self, first: _Hashes) -> None:
        """Let hashes, in their order, pass from now on."""
        for low in range(0, len(first), _ROWS_AT_ONCE):
            places, bits = self._places(first[low : low + _ROWS_AT_ONCE])
            heads = np.flatnonzero(np.diff(places, prepend=-1))
            self._known[places[heads]] |= np.bitwise_or.reduceat(bits, heads)

    def may_hold(self, first: _Hashes) -> _Mask:
        """bool, shape (n,): whether each hash may have been added."""
        places, bits = self._places(first)
        passed: _Mask = (np.take(self._known, places) & bits) != 0
        return passed

    def _places(self, first: _Hashes) -> tuple[_Integers, npt.NDArray[np.uint8]]:
        ranges = (first >> self._shift).view(np.int64)
        return ranges >> 3, np.take(_BITS, ranges & 7)


class SeenEvents:
    """The ids of the dedupe window.

    Args:
        window: ids that came longer ago are forgotten, an eighth of the window at a time.
        limit: at most this many ids are remembered, about 20 bytes each; the oldest go first.
    """

    def __init__(self, *, window: timedelta, limit: int = 50_000_000) -> None:
        self._window = window
        self._limit = limit
        self._runs: list[Run] = []
        self._filter = _Filter(0)
        self._added = 0
        self.forgotten = 0

    @property
    def runs(self) -> tuple[Run, ...]:
        """What is remembered, the oldest first."""
        return tuple(self._runs)

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
        return self.unseen_hashes(*hash_pairs(ids), times)

    def unseen_hashes(
        self, first: _Hashes, second: _Hashes, times: _Integers | None = None
    ) -> Unseen:
        """The same of ids by the halves of their hashes, shape (n,) each."""
        order = _order(first)
        ordered = first[order]
        mask: _Mask = np.ones(len(first), dtype=np.bool_)
        suspects = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(suspects):
            rows = np.unique(np.concatenate([order[suspects], order[suspects + 1]]))
            arrived = None if times is None else times[rows]
            mask[rows] = _first_of_each(first[rows], second[rows], arrived)
        maybe = order[self._filter.may_hold(ordered)]
        for run in self._runs if len(maybe) else ():
            mask[maybe] &= ~run.holds(first[maybe], second[maybe])
        kept = order[mask[order]]
        return Unseen(mask, first[kept], second[kept])

    def remember(self, unseen: Unseen, at: datetime, arrived: datetime | None = None) -> None:
        """Remember new ids that came at `at`, and forget what the window has left behind.

        Args:
            arrived: when the last of them came by the event log's clock; None: at `at`.
        """
        if len(unseen.first):
            self._runs.append(Run(unseen.first, unseen.second, at, at, arrived or at))
            self._added += len(unseen.first)
            self._filter.add(unseen.first)
            self._merge()
        self._forget(at)
        # The filter cannot forget: it is made anew when it is full, of what is remembered.
        if self._added > self._filter.capacity:
            self._fill_filter(2 * len(self))

    def restore(self, runs: Iterable[Run]) -> None:
        """Remember runs that were taken from `runs` before."""
        self._runs = sorted([*self._runs, *runs], key=lambda run: run.newest)
        self._fill_filter(len(self) * 5 // 4)

    def forget_before(self, arrived: datetime) -> None:
        """Forget runs whose last id came into the event log before this."""
        self._runs = [run for run in self._runs if run.arrived >= arrived]

    def expect(self, ids: int) -> None:
        """Make room for so many ids, which spares making it bit by bit."""
        self._fill_filter(len(self) + min(ids, self._limit))

    def _fill_filter(self, capacity: int) -> None:
        self._filter, self._added = _Filter(capacity), len(self)
        for run in self._runs:
            self._filter.add(run.first)

    def _merge(self) -> None:
        while len(tail := self._runs[-_FAN_IN:]) == _FAN_IN:
            size, span = sum(map(len, tail)), tail[-1].newest - tail[0].oldest
            too_much = size * _PARTS > self._limit or span * _PARTS > self._window
            if max(map(len, tail)) * 2 > size or too_much:
                break
            self._runs[-_FAN_IN:] = [merged(tail)]

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


def _order(hashes: _Hashes) -> _Integers:
    """The rows in the order of their hash: int64, shape (n,).

    Radix passes over the upper 32 bits, which NumPy's stable sort makes of 16-bit integers, leave
    next to nothing to sort: three times as fast as sorting 64-bit integers.
    """
    order = np.argsort((hashes >> np.uint64(32)).astype(np.uint16), kind="stable")
    order = order[np.argsort((hashes >> np.uint64(48)).astype(np.uint16)[order], kind="stable")]
    ordered = hashes[order]
    if np.any(ordered[1:] < ordered[:-1]):
        order = order[np.argsort(ordered, kind="stable")]
    return order


def merged(runs: Sequence[Run]) -> Run:
    """One run of the ids of several, which share none."""
    first = _joined(run.first for run in runs)
    # The sort finds the sorted runs in it.
    order = np.argsort(first, kind="stable")
    second = _joined(run.second for run in runs)[order]
    return Run(
        first[order],
        second,
        min(run.oldest for run in runs),
        max(run.newest for run in runs),
        max(run.arrived for run in runs),
    )


def _joined(parts: Iterable[_Hashes]) -> _Hashes:
    return np.concatenate(list(parts))
