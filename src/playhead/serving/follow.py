"""Answers that follow what is added, at the cost of what is new instead of all that there is.

A view that aggregates its state's rows once more (`playhead.views.above`) is kept, from the second
time that it is asked for, as two things: the values of the merged state's rows by key, and the
groups above them. New blocks then change the rows that they touch, and these change their groups.
"""

import threading
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pyarrow as pa

from playhead.engines.duckdb import ARROW_ROWS
from playhead.serving.history import History, KeptGroups, has_history
from playhead.serving.sources import Source, Span, in_span, merged_states
from playhead.serving.staterows import LEAST_ROW_BYTES, Hashed, StateRows, is_held
from playhead.speed.hashindex import HashIndex, Rows
from playhead.views import View
from playhead.views.above import Above, derive
from playhead.views.binder import quote
from playhead.views.leaf import Leaf

MOST_BYTES = 1 << 30
"""What all views that are followed may hold; a state that is larger is merged for each answer."""

_ROWS_AT_ONCE = 1 << 22
_ROLLED, _FEW_ROWS = 4, 1_000_000
_GROUPS, _GONE, _COME, _PLACE = "follow__groups", "follow__gone", "follow__come", "follow__place"


@dataclass(frozen=True)
class Groups:
    """The groups of a view that is followed, as of one moment.

    Attributes:
        where: SQL of the condition that a group is asked for; empty: all are.
    """

    above: Above
    rows: pa.Table
    where: str

    @property
    def final(self) -> str:
        """The plan above the groups."""
        return self.above.final

    def readable(self, connection: duckdb.DuckDBPyConnection) -> str:
        """The groups as a CTE for the plan above them, once they are readable in the session."""
        leaf = self.above.leaf
        name = f"{_GROUPS}_{leaf.name}"
        connection.register(name, self.rows)
        columns = ", ".join(quote(column) for column in leaf.state_columns)
        where = f" WHERE {self.where}" if self.where else ""
        return f"{quote(leaf.name)} AS (SELECT {columns} FROM {quote(name)}{where})"


class _Followed:
    """One view's state, as far as it has been followed.

    Args:
        asked: what it is begun for.
        source: what it is made of to begin with.
        kept: groups of the batch layer's states.
        most_bytes: what it may hold.
    """

    def __init__(
        self, above: Above, asked: "_Asked", source: Source, kept: KeptGroups, most_bytes: int
    ) -> None:
        self._above, self._leaf = above, source.leaf
        # Rows of the history are read where they are touched, if all of it counts.
        self._history = History(source, above, kept) if has_history(source) else None
        self._most_bytes = most_bytes
        self.asked = asked
        self.newest = 0
        self._began_with = 0
        self._rows: StateRows | None = None
        self._groups: pa.Table | None = None

    def __len__(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    @property
    def nbytes(self) -> int:
        """About what it holds in memory."""
        rows = 0 if self._rows is None else self._rows.nbytes
        return rows + (0 if self._groups is None else self._groups.nbytes)

    def is_of_use(self, asked: "_Asked") -> bool:
        """Whether it does not hold too much of what is not asked any more."""
        much = max(_ROLLED * self._began_with, _FEW_ROWS)
        return asked.within == self.asked.within or len(self) <= much

    def reaches(self, source: Source) -> bool:
        """Whether each block of the state was followed whole so far, or not at all."""
        return all(b.newest <= self.newest or b.oldest > self.newest for b in source.blocks)

    def advance(self, connection: duckdb.DuckDBPyConnection, source: Source) -> bool:
        """Follow the state up to its newest block; False if it cannot be followed (any more)."""
        new = tuple(block for block in source.blocks if block.newest > self.newest)
        if self._rows is None or new:
            begins = self._rows is None and self._history is None
            batch = source.batch if begins else None
            part = replace(source, batch=batch, blocks=new, within=self.asked.within)
            most = self._most_bytes // LEAST_ROW_BYTES
            sql = f"FROM ({merged_states(connection, part)}) LIMIT {most + 1}"
            fresh = connection.execute(sql).to_arrow_table(ARROW_ROWS)
            if self._rows is None and not self._begin(connection, fresh):
                return False
            assert self._rows is not None  # noqa: S101 - it has begun
            if self._rows.nbytes_with(fresh.num_rows) > self._most_bytes:
                return False
            for start in range(0, max(fresh.num_rows, 1), _ROWS_AT_ONCE):
                self._take(connection, fresh.slice(start, _ROWS_AT_ONCE))
        self.newest = source.newest
        return True

    def _begin(self, connection: duckdb.DuckDBPyConnection, fresh: pa.Table) -> bool:
        values = {c: fresh.schema.field(c).type for cs, *_ in self._leaf.components for c in cs}
        keys = [c for c in self._leaf.state_columns if c not in values]
        nested = any(pa.types.is_nested(fresh.schema.field(key).type) for key in keys)
        if nested or not all(is_held(kind) for kind in values.values()):
            return False
        rows = StateRows(keys, values)
        if rows.nbytes_with(fresh.num_rows) > self._most_bytes:
            return False
        if self._history is not None:
            self._groups = self._history.groups(connection)
            if self._groups is None:
                return False
        self._rows = rows
        self._began_with = fresh.num_rows
        return True

    def _take(self, connection: duckdb.DuckDBPyConnection, fresh: pa.Table) -> None:
        """Change the rows that some states touch, and the groups of these."""
        assert self._rows is not None  # noqa: S101 - `advance` begins
        places, hashed = self._rows.find(fresh)
        known, new = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        gone = [_with(fresh.take(known), self._rows.values(places[known]))]
        if self._history is not None and len(new):
            old, new = self._from_history(connection, fresh, hashed, new)
            gone.append(old)
        before = pa.concat_tables(gone)
        # Rows that were there come first, then those that are in no part of the state so far.
        order = np.concatenate([known, new])
        ordered, replaced = fresh.take(order), before.num_rows
        come = pa.concat_tables(
            [
                _merged(connection, self._leaf, before, ordered.slice(0, replaced)),
                ordered.slice(replaced),
            ]
        )
        self._rows.replace(places[known], come.slice(0, len(known)))
        self._rows.add(come.slice(len(known)), hashed.at(new))
        if self._groups is None:
            connection.register(_COME, come)
            sql = self._above.groups(of=_COME)
        else:
            for name, rows in ((_GROUPS, self._groups), (_GONE, before), (_COME, come)):
                connection.register(name, rows)
            sql = self._above.changed(groups=_GROUPS, gone=_GONE, come=_COME)
        self._groups = connection.execute(sql).to_arrow_table(ARROW_ROWS)

    def _from_history(
        self, connection: duckdb.DuckDBPyConnection, fresh: pa.Table, hashed: Hashed, new: Rows
    ) -> tuple[pa.Table, Rows]:
        """Rows of the history that new keys have, and all new rows in an order that begins so."""
        assert self._history is not None and self._rows is not None  # noqa: S101, PT018
        old = self._history.rows_like(connection, fresh.take(new))
        of_old, asked = self._rows.hashed(old), hashed.at(new)
        index = HashIndex()
        index.add(asked.first, asked.second, np.arange(len(new)))
        found = index.find(of_old.first, of_old.second)
        return old, np.concatenate([new[found], np.delete(new, found)])

    def groups(self, within: Span | None) -> Groups:
        """The groups, of the windows that are asked for."""
        window = self._leaf.window
        key = None if window is None else self._above.key_of(window.key)
        where = ""
        if within is not None and within != self.asked.within and key is not None:
            where = in_span(key, within)
        return Groups(self._above, self._groups, where)


def _with(rows: pa.Table, values: dict[str, pa.Array]) -> pa.Table:
    """The rows with other values in some columns."""
    columns = [values.get(name, rows.column(name)) for name in rows.column_names]
    return pa.table(columns, schema=rows.schema)


def _merged(
    connection: duckdb.DuckDBPyConnection, leaf: Leaf, gone: pa.Table, touched: pa.Table
) -> pa.Table:
    """Each row of a state merged with the one at the same place in another table of its keys."""
    values = [c for columns, *_ in leaf.components for c in columns]
    if not values or not touched.num_rows:
        return touched
    places = pa.array(np.arange(touched.num_rows))
    for name, rows in ((_GONE, gone), (_COME, touched)):
        connection.register(name, rows.append_column(_PLACE, places))
    read = ", ".join([_PLACE, *map(quote, values)])
    merged = connection.execute(
        f"SELECT {', '.join(leaf.merged_components)} FROM (SELECT {read} FROM {_GONE} "
        f"UNION ALL SELECT {read} FROM {_COME}) GROUP BY {_PLACE} ORDER BY {_PLACE}"
    ).to_arrow_table(ARROW_ROWS)
    return _with(touched, {name: merged.column(name) for name in values})


@dataclass(frozen=True)
class _Asked:
    """A state that is asked for: what it rests on, which may not change, and its windows."""

    foundation: Hashable
    within: Span | None

    def covers(self, other: "_Asked") -> bool:
        if self.foundation != other.foundation:
            return False
        if self.within is None or other.within is None:
            return self.within is other.within
        return self.within.covers(other.within)


class Follower:
    """Follows the views that are asked for again and again. Threads may share it.

    Args:
        kept: groups of the batch layer's states.
        most_bytes: what all of them may hold in memory.
    """

    def __init__(self, kept: KeptGroups, most_bytes: int = MOST_BYTES) -> None:
        self._kept = kept
        self._most_bytes = most_bytes
        self._turns: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._asked: dict[str, _Asked] = {}
        self._refused: dict[str, _Asked] = {}
        self._followed: dict[str, _Followed] = {}

    @property
    def kept(self) -> list[str]:
        """Names of the views that are followed, those asked for last at the end."""
        return list(self._followed)

    def follow(
        self, connection: duckdb.DuckDBPyConnection, view: View, source: Source
    ) -> Groups | None:
        """The view's groups as of a source; None if they are not followed.

        Raises:
            duckdb.Error: the view cannot be computed.
        """
        with self._turns[view.name]:
            batch = source.batch.id if source.batch else None
            asked = _Asked((view.hash, batch, source.since_block), source.within)
            followed = self._followed.pop(view.name, None)
            if followed is None and not self._is_worth(view.name, asked, source):
                return None
            if (above := _derived(view)) is None:
                return None
            if followed is not None and followed.asked.covers(asked):
                if followed.newest > source.newest:
                    # Somebody else asked meanwhile, and saw more.
                    self._followed[view.name] = followed
                    return None
                goes_on = followed.is_of_use(asked) and followed.reaches(source)
            else:
                goes_on = False
            if followed is None or not goes_on:
                followed = _Followed(above, asked, source, self._kept, self._most_bytes)
            if not followed.advance(connection, source):
                self._refused[view.name] = asked
                return None
            self._keep(view.name, followed)
            return followed.groups(source.within)

    def _is_worth(self, view: str, asked: _Asked, source: Source) -> bool:
        """Whether to begin: this was asked for before, or history need not be read for it."""
        last, refused = self._asked.get(view), self._refused.get(view)
        self._asked[view] = asked
        if refused is not None and refused.covers(asked):
            return False
        return has_history(source) or (last is not None and last.covers(asked))

    def _keep(self, view: str, followed: _Followed) -> None:
        """Keep it, in the place of those that were asked for the longest time ago."""
        self._followed[view] = followed
        others = [name for name in self._followed if name != view]
        while others and sum(f.nbytes for f in list(self._followed.values())) > self._most_bytes:
            self._followed.pop(others.pop(0), None)


def _derived(view: View) -> Above | None:
    """What stands above the view's state; None if it does not say where its windows go."""
    above, window = derive(view), view.leaves[0].window
    if above is not None and window is not None and above.key_of(window.key) is None:
        return None
    return above
