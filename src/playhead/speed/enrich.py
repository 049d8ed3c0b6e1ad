"""Enrichment: dimensions held as arrays, each event's row found by key.

A dimension is indexed once, by the sorted 64-bit hashes of its keys; a batch of events then
costs only its own size, however many rows the dimension has.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from playhead.errors import StateError
from playhead.eventlog.keys import hash_strings
from playhead.views.leaf import Leaf
from playhead.views.rows import Lookup

_SEPARATOR = "\x1f"


class Dimension:
    """One dimension as arrays, indexed by a key.

    Args:
        name: for error messages.
        table: one row per key.
        key: the columns that identify a row.

    Raises:
        StateError: two rows have the same key.
    """

    def __init__(self, name: str, table: pa.Table, key: Sequence[str]) -> None:
        self.name = name
        self._table = table.combine_chunks()
        self._keys = _joined([self._table.column(column) for column in key])
        hashes = hash_strings(self._keys)
        order = np.argsort(hashes, kind="stable")
        self._rows = order[pc.is_valid(self._keys).to_numpy(zero_copy_only=False)[order]]
        self._hashes = hashes[self._rows]
        repeated = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        self._collides = bool(len(repeated))
        if self._collides:
            self._check_unique(key)

    def _check_unique(self, key: Sequence[str]) -> None:
        counts = pc.value_counts(self._keys.drop_null())
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            row = pc.index(self._keys, twice.field("values")[0]).as_py()
            value = ", ".join(str(self._table.column(column)[row]) for column in key)
            raise StateError(
                f"dimension {self.name}: key {', '.join(key)} = {value} has more than one row",
                hint="A lookup needs one row a key.",
            )

    def find(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array:
        """The row of each event's key: int64, NULL where the key is NULL or unknown.

        Args:
            columns: the event columns that make the key, in its order.
        """
        wanted = _joined(columns)
        if self._collides or not len(self._hashes):
            return pc.index_in(wanted, self._keys, skip_nulls=True).cast(pa.int64())
        at = np.searchsorted(self._hashes, hash_strings(wanted))
        rows = self._rows[np.minimum(at, len(self._rows) - 1)]
        same = pc.equal(self._keys.take(pa.array(rows)), wanted)
        return pc.if_else(same, pa.array(rows), pa.scalar(None, pa.int64()))

    def take(self, column: str, rows: pa.Array) -> pa.ChunkedArray:
        """The dimension's column at `rows`; NULL where the row is NULL."""
        return self._table.column(column).take(rows)


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """The key as one string column; NULL where any part is.

    Numbers of any width have one text. Each part of several begins with its length, so that no
    two keys have the same text.
    """
    parts = [column.cast(pa.string()) for column in columns]
    if len(parts) == 1:
        joined = parts[0]
    else:
        sized = [part for p in parts for part in (pc.binary_length(p).cast(pa.string()), p)]
        joined = pc.binary_join_element_wise(*sized, _SEPARATOR)
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


class Enricher:
    """Makes the wide topic of batches of events, sharing each lookup between all leaves."""

    def __init__(self, leaves: Sequence[Leaf], dimensions: Mapping[str, pa.Table]) -> None:
        self._lookups = merged_lookups(leaves)
        self._dimensions = {
            lookup.prefix: Dimension(
                lookup.dimension, dimensions[lookup.dimension], [key for _, key in lookup.on]
            )
            for lookup in self._lookups
        }

    def widen(self, events: pa.Table) -> pa.Table:
        """Events with `<dimension>__<column>` and `<dimension>__found` for every lookup."""
        for lookup in self._lookups:
            dimension = self._dimensions[lookup.prefix]
            rows = dimension.find([events.column(event) for event, _ in lookup.on])
            for column in lookup.columns:
                events = events.append_column(lookup.wide(column), dimension.take(column, rows))
            events = events.append_column(lookup.found, pc.is_valid(rows))
        return events


def merged_lookups(leaves: Sequence[Leaf]) -> tuple[Lookup, ...]:
    """Every lookup that some leaf needs, once, with all columns that any of them reads."""
    found: dict[str, Lookup] = {}
    for lookup in (lookup for leaf in leaves for lookup in leaf.lookups):
        known = found.get(lookup.prefix)
        columns = {*lookup.columns, *(known.columns if known else ())}
        found[lookup.prefix] = Lookup(lookup.dimension, lookup.on, tuple(sorted(columns)))
    return tuple(found.values())
