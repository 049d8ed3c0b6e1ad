"""The rows of a merged state as arrays: found by key, replaced in place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.speed.hashindex import Rows, ShardedIndex, hash_keys

_ROOM = 1 << 18
"""Rows that a column has room for at first; what bounds a process counts room, not use."""


LEAST_ROW_BYTES = 56
"""What finding a row by its key takes: 20 bytes of a slot, of which a third or so are free."""


class StateRows:
    """The values of a merged state's rows by key, as they are now.

    Keys are not held: two keys are one if their 128-bit hashes are, as for events' ids.

    Args:
        keys: columns that identify a row.
        values: columns that it has beside them, all of a fixed width.
    """

    def __init__(self, keys: Sequence[str], values: Mapping[str, pa.DataType]) -> None:
        self._keys = tuple(keys)
        self._index = ShardedIndex()
        self._columns = {name: _Column(kind) for name, kind in values.items()}
        self._row_bytes = LEAST_ROW_BYTES + sum(c.row_bytes for c in self._columns.values())

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """About what they take in memory."""
        return self.nbytes_with(0)

    def nbytes_with(self, more: int) -> int:
        """About what they and as many new rows would take."""
        return (len(self) + more) * self._row_bytes

    def find(self, rows: pa.Table) -> tuple[Rows, "Hashed"]:
        """Where each row's key is held, or `MISSING`, shape (n,); and the keys' hashes."""
        hashed = self.hashed(rows)
        return self._index.find(hashed.first, hashed.second), hashed

    def hashed(self, rows: pa.Table) -> "Hashed":
        """The hashes of the keys of some rows."""
        return Hashed(*hash_keys([rows.column(key) for key in self._keys]))

    def values(self, places: Rows) -> dict[str, pa.Array]:
        """The values at some places."""
        return {name: column.take(places) for name, column in self._columns.items()}

    def replace(self, places: Rows, values: pa.Table) -> None:
        """Put new values in some places, each once."""
        for name, column in self._columns.items():
            column.put(places, values.column(name))

    def add(self, rows: pa.Table, hashed: "Hashed") -> None:
        """Add rows whose keys are not held, all different."""
        start = len(self)
        places = np.arange(start, start + rows.num_rows)
        self._index.add(hashed.first, hashed.second, places)
        for name, column in self._columns.items():
            column.extend(start + rows.num_rows)
            column.put(places, rows.column(name))


class Hashed:
    """Halves of the hashes of some keys, shape (n,) each."""

    def __init__(self, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> None:
        self.first, self.second = first, second

    def at(self, rows: Rows) -> "Hashed":
        """Those of some rows."""
        return Hashed(self.first[rows], self.second[rows])


class _Column:
    """A growing column of values of one width, and which of them are known."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        width = 1 if pa.types.is_boolean(kind) else kind.bit_width // 8
        self._values = np.zeros(0, np.dtype(f"V{width}"))
        self._known = np.zeros(0, np.bool_)

    @property
    def row_bytes(self) -> int:
        return self._values.itemsize + self._known.itemsize

    def extend(self, size: int) -> None:
        """Make room for rows 0 .. size - 1."""
        if size > len(self._values):
            room = max(size, _ROOM, 2 * len(self._values))
            self._values = _grown(self._values, room)
            self._known = _grown(self._known, room)

    def put(self, places: Rows, values: pa.ChunkedArray) -> None:
        whole = values.cast(self._kind).combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = pa.concat_arrays(whole.chunks)
        self._values[places] = self._raw(whole)
        self._known[places] = whole.is_valid().to_numpy(zero_copy_only=False)

    def _raw(self, values: pa.Array) -> npt.NDArray[Any]:
        if pa.types.is_boolean(self._kind):
            values = values.cast(pa.uint8())
        raw = np.frombuffer(values.buffers()[1], self._values.dtype)
        return raw[values.offset : values.offset + len(values)]

    def take(self, places: Rows) -> pa.Array:
        known = pa.array(self._known[places])
        raw = self._values[places]
        kind = pa.uint8() if pa.types.is_boolean(self._kind) else self._kind
        buffers = [known.buffers()[1], pa.py_buffer(raw)]
        return pa.Array.from_buffers(kind, len(places), buffers).cast(self._kind)


def _grown(values: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    grown = np.zeros(size, values.dtype)
    grown[: len(values)] = values
    return grown


def is_held(kind: pa.DataType) -> bool:
    """Whether a column of this type may be one of `StateRows`' values."""
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind))
