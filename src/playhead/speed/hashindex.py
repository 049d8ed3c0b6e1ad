"""Rows found by the 128-bit hash of their key: open addressing over arrays."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.eventlog.keys import hash_pairs

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

MISSING = -1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class HashIndex:
    """The row of each hash: open addressing with linear probing.

    Args:
        fullest: the share of slots that may be taken; then it grows to twice its size.
    """

    def __init__(self, fullest: float = 0.5) -> None:
        self._fullest = fullest
        self._count = 0
        self._allot(1 << 4)

    def __len__(self) -> int:
        return self._count

    def _allot(self, size: int) -> None:
        self._last = size - 1
        # Both halves of a slot share a cache line.
        self._halves = np.zeros((size, 2), dtype=np.uint64)
        self._rows = np.full(size, MISSING, dtype=np.int32)

    def add(self, first: Hashes, second: Hashes, rows: Rows) -> None:
        """Add hashes, all different and none of them known.

        Args:
            first, second: halves of the hashes, shape (n,).
            rows: what is found under them, 0 .. 2**31 - 1, shape (n,).
        """
        self._count += len(first)
        size = self._last + 1
        while self._count > self._fullest * size:
            size *= 2
        if size > self._last + 1:
            held = np.flatnonzero(self._rows != MISSING)
            halves, known = self._halves[held], self._rows[held].astype(np.int64)
            self._allot(size)
            self._place(halves[:, 0], halves[:, 1], known)
        self._place(first, second, rows)

    def _place(self, first: Hashes, second: Hashes, rows: Rows) -> None:
        waiting, slots = np.arange(len(first)), self._slots(first)
        while len(waiting):
            free = self._rows[slots] == MISSING
            # Of several that want one slot the last gets it; the others go on to the next.
            self._rows[slots[free]] = rows[waiting[free]]
            left = self._rows[slots] != rows[waiting]
            got = waiting[~left]
            self._halves[slots[~left], 0], self._halves[slots[~left], 1] = first[got], second[got]
            waiting, slots = waiting[left], (slots[left] + 1) & self._last

    def _slots(self, first: Hashes) -> Rows:
        return first.view(np.int64) & self._last

    def find(self, first: Hashes, second: Hashes) -> Rows:
        """The row of each hash, or `MISSING`; int64, shape (n,)."""
        slots = self._slots(first)
        found, left = self._probe(slots, first, second)
        asked = left
        while len(left):
            slots = (slots[left] + 1) & self._last
            found[asked], left = self._probe(slots, first[asked], second[asked])
            asked = asked[left]
        return found

    def _probe(self, slots: Rows, first: Hashes, second: Hashes) -> tuple[Rows, Rows]:
        """What stands in the slots, and which of the asked have to look further."""
        rows = np.take(self._rows, slots).astype(np.int64)
        halves = np.take(self._halves, slots, axis=0)
        other = (halves[:, 0] != first) | (halves[:, 1] != second)
        left = np.flatnonzero(other & (rows != MISSING))
        rows[other] = MISSING
        return rows, left


class ShardedIndex:
    """The same in parts, each of which grows at a time of its own: no single step is a long one."""

    _SHARDS = 16

    def __init__(self) -> None:
        self._parts = [HashIndex(0.4 + 0.2 * n / self._SHARDS) for n in range(self._SHARDS)]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def add(self, first: Hashes, second: Hashes, rows: Rows) -> None:
        """See `HashIndex.add`."""
        for part, of in self._of_parts(first):
            part.add(first[of], second[of], rows[of])

    def find(self, first: Hashes, second: Hashes) -> Rows:
        """See `HashIndex.find`."""
        found = np.empty(len(first), np.int64)
        for part, of in self._of_parts(first):
            found[of] = part.find(first[of], second[of])
        return found

    def _of_parts(self, first: Hashes) -> Iterator[tuple[HashIndex, Rows]]:
        """Each part, and which of the hashes are its."""
        # The low bits choose the slot within a part.
        numbers = (first >> np.uint64(60)).astype(np.uint8)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(self._SHARDS + 1))
        for part, low, high in zip(self._parts, bounds[:-1], bounds[1:], strict=True):
            if high > low:
                yield part, order[low:high]


def hash_keys(columns: Sequence[pa.ChunkedArray]) -> tuple[Hashes, Hashes]:
    """Both halves of each row's hash over some columns, of which the order counts; shape (n,).

    Numbers of any width have one text, and so one hash; a NULL has a hash as well.
    """
    pairs = [hash_pairs(_as_text(column)) for column in columns]
    first, second = (_together(halves) for halves in zip(*pairs, strict=True))
    return first, second


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(plain) or pa.types.is_large_string(plain):
        return column
    return column.cast(pa.string())


def _together(hashes: Sequence[Hashes]) -> Hashes:
    joined = hashes[0]
    for more in hashes[1:]:
        joined = (joined ^ (joined >> _HALF)) * _GOLDEN + more
    return joined
