"""States of events that hardly share groups: those that are alone in theirs are not grouped.

A group for nearly every event is the dearest thing to ask of a hash table, and it finds nothing.
An event whose key has a hash like no other is alone in its group for certain, and its state is a
matter of its own columns. The few others are grouped as ever.
"""

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.views.binder import quote
from playhead.views.leaf import Leaf

FEWEST = 100_000
"""Events below this number are grouped at once."""

_SINGLE = "group__single"
_LOW_BITS = 16


def pays(leaf: Leaf, rows: int) -> bool:
    """Whether it may pay to look for events that are alone in their groups."""
    plain = leaf.session is None and leaf.latest is None and not leaf.distincts
    return plain and bool(leaf.keys) and rows >= FEWEST


def mark_singles(
    connection: duckdb.DuckDBPyConnection, leaf: Leaf, name: str, events: pa.Table
) -> bool:
    """Register events under a name, with a column that says which are alone in their groups.

    Returns:
        Whether most of them are; if not, they have no such column.
    """
    connection.register(name, events)
    keys = ", ".join(sql for _, sql in leaf.keys)
    hashes = connection.execute(f"SELECT hash({keys}) AS h FROM {quote(name)}").fetchnumpy()["h"]
    alone = _alone(np.asarray(hashes))
    if 2 * np.count_nonzero(alone) < len(alone):
        return False
    connection.register(name, events.append_column(_SINGLE, pa.array(alone)))
    return True


def partial_of_marked(leaf: Leaf, source: str) -> str:
    """SQL of the states of marked events.

    Args:
        source: a relation of such events.
    """
    rest = f"(SELECT * FROM {source} WHERE NOT {_SINGLE}) AS events"
    alone = f"(SELECT * FROM {source} WHERE {_SINGLE}) AS events"
    return f"{leaf.single(source=alone)}\nUNION ALL\n{leaf.partial(source=rest)}"


def _alone(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which hashes come once only, shape (n,)."""
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    # Few are repeated, or it does not pay: most are told apart by their last bits.
    low = np.uint64((1 << _LOW_BITS) - 1)
    seen = np.zeros(1 << _LOW_BITS, np.bool_)
    seen[(repeated & low).astype(np.int64)] = True
    maybe = np.flatnonzero(seen[(hashes & low).astype(np.int64)])
    alone = np.ones(len(hashes), np.bool_)
    alone[maybe[np.isin(hashes[maybe], repeated)]] = False
    return alone
