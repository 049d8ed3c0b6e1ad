"""Enrichment: dimensions held as arrays, each event's row found by key.

A dimension is indexed once, by the 128-bit hashes of its keys; a batch of events then costs only
its own size, however many rows the dimension has. Columns with few values are held as codes, so
that what an event gets of them is a small integer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from playhead.errors import StateError
from playhead.speed.coding import code_column
from playhead.speed.hashindex import MISSING, Hashes, HashIndex, Rows, hash_keys
from playhead.views.leaf import Leaf
from playhead.views.rows import Lookup

_SAMPLE = 4096


class Dimension:
    """One dimension as arrays, indexed by a key.

    Two keys are one if their 128-bit hashes are: the rule by which events repeat, too.

    Args:
        name: for error messages.
        table: one row per key.
        key: the columns that identify a row.
        columns: those that are taken; None: all.

    Raises:
        StateError: two rows have the same key.
    """

    def __init__(
        self, name: str, table: pa.Table, key: Sequence[str], columns: Sequence[str] | None = None
    ) -> None:
        self.name = name
        taken = table.column_names if columns is None else columns
        self._columns = {column: code_column(table.column(column)) for column in taken}
        first, second, known = _hashed([table.column(column) for column in key])
        rows = np.flatnonzero(known)
        self._check_unique(table, key, first[rows], second[rows], rows)
        self._index = HashIndex()
        self._index.add(first[rows], second[rows], rows)

    def _check_unique(
        self, table: pa.Table, key: Sequence[str], first: Hashes, second: Hashes, rows: Rows
    ) -> None:
        # Few rows share half of a hash, and to sort by one half costs a fraction of both.
        order = np.argsort(first)
        alike = first[order][1:] == first[order][:-1]
        order = np.union1d(order[1:][alike], order[:-1][alike])
        order = order[np.lexsort((second[order], first[order]))]
        same = (first[order][1:] == first[order][:-1]) & (second[order][1:] == second[order][:-1])
        if np.any(same):
            row = int(rows[order[int(np.flatnonzero(same)[0])]])
            value = ", ".join(str(table.column(column)[row]) for column in key)
            raise StateError(
                f"dimension {self.name}: key {', '.join(key)} = {value} has more than one row",
                hint="A lookup needs one row a key.",
            )

    def find(self, columns: Sequence[pa.ChunkedArray]) -> pa.Array:
        """The row of each event's key: int64, NULL where the key is NULL or unknown.

        Args:
            columns: the event columns that make the key, in its order.
        """
        if len(columns) == 1 and _repeats(columns[0]):
            codes = columns[0].combine_chunks().dictionary_encode()
            return self.find([pa.chunked_array([codes.dictionary])]).take(codes.indices)
        first, second, known = _hashed(columns)
        rows = self._index.find(first, second)
        missing = (rows == MISSING) | ~known
        return pa.array(rows, mask=missing) if np.any(missing) else pa.array(rows)

    def take(self, column: str, rows: pa.Array) -> pa.Array:
        """The dimension's column at `rows`, maybe coded; NULL where the row is NULL."""
        return self._columns[column].take(rows)


def _hashed(columns: Sequence[pa.ChunkedArray]) -> tuple[Hashes, Hashes, npt.NDArray[np.bool_]]:
    """Both halves of each key's hash, and whether no part of it is NULL; shape (n,) each."""
    known = np.ones(len(columns[0]), dtype=np.bool_)
    for column in columns:
        if column.null_count:
            known &= column.is_valid().to_numpy()
    return *hash_keys(columns), known


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether so few keys come so often that it pays to find each once."""
    sample = column.slice(0, _SAMPLE)
    return len(sample) == _SAMPLE and len(sample.unique()) * 4 < _SAMPLE


@dataclass(frozen=True)
class Lookups:
    """How the keys of some events fared in one dimension.

    Attributes:
        asked: events that have a key.
        found: of these, how many have a row.
    """

    dimension: str
    asked: int
    found: int


class Enricher:
    """Makes the wide topic of batches of events, sharing each lookup between all leaves.

    Args:
        lookups: each dimension by each key once, as `merged_lookups` gives them.
        dimensions: whole tables, by name.
    """

    def __init__(self, lookups: Sequence[Lookup], dimensions: Mapping[str, pa.Table]) -> None:
        self._lookups = tuple(lookups)
        self._dimensions = {
            lookup.prefix: Dimension(
                lookup.dimension,
                dimensions[lookup.dimension],
                [key for _, key in lookup.on],
                lookup.columns,
            )
            for lookup in self._lookups
        }

    @classmethod
    def of(cls, leaves: Sequence[Leaf], dimensions: Mapping[str, pa.Table]) -> "Enricher":
        """For the wide topic of some leaves."""
        return cls(merged_lookups(leaves), dimensions)

    @property
    def columns(self) -> list[str]:
        """What the wide topic has beside the events' own columns."""
        return [name for k in self._lookups for name in (*map(k.wide, k.columns), k.found)]

    def widen(self, events: pa.Table) -> pa.Table:
        """Events with `<dimension>__<column>` and `<dimension>__found` for every lookup."""
        for lookup in self._lookups:
            dimension = self._dimensions[lookup.prefix]
            rows = dimension.find([events.column(event) for event, _ in lookup.on])
            for column in lookup.columns:
                events = events.append_column(lookup.wide(column), dimension.take(column, rows))
            events = events.append_column(lookup.found, pc.is_valid(rows))
        return events

    def lookups(self, events: pa.Table) -> tuple[Lookups, ...]:
        """How the keys of events fared, one entry a lookup.

        Args:
            events: what `widen` has returned.
        """
        return tuple(
            Lookups(
                lookup.dimension,
                events.num_rows - _nulls([events.column(event) for event, _ in lookup.on]),
                int(pc.sum(events.column(lookup.found)).as_py() or 0),
            )
            for lookup in self._lookups
        )


def _nulls(columns: Sequence[pa.ChunkedArray]) -> int:
    """How many rows have a NULL in some column."""
    holding = [column for column in columns if column.null_count]
    if len(holding) <= 1:
        return sum(column.null_count for column in holding)
    return int(pc.sum(reduce(pc.or_, map(pc.is_null, holding))).as_py())


def merged_lookups(leaves: Sequence[Leaf]) -> tuple[Lookup, ...]:
    """Every lookup that some leaf needs, once, with all columns that any of them reads."""
    found: dict[str, Lookup] = {}
    for lookup in (lookup for leaf in leaves for lookup in leaf.lookups):
        known = found.get(lookup.prefix)
        columns = {*lookup.columns, *(known.columns if known else ())}
        found[lookup.prefix] = Lookup(lookup.dimension, lookup.on, tuple(sorted(columns)))
    return tuple(found.values())
