"""One wide relation for several states: events joined once with all dimensions that they need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from playhead.views.binder import quote
from playhead.views.leaf import Leaf
from playhead.views.rows import Lookup, wide_sql

__all__ = ["EVENT_DAY", "Widening", "alike"]

EVENT_DAY = "event__day"
"""The column of a widened topic that holds the day of the event's time."""


@dataclass(frozen=True)
class Widening:
    """The event columns and lookups that some leaves of one topic need together.

    Attributes:
        columns: of the topic.
        lookups: each dimension once, with the columns that any of the leaves reads.
    """

    topic: str
    columns: tuple[str, ...]
    lookups: tuple[Lookup, ...]

    @classmethod
    def of(cls, leaves: Sequence[Leaf]) -> "Widening":
        """What some leaves need that `alike` has put together; at least one."""
        merged: dict[str, Lookup] = {}
        for lookup in (k for leaf in leaves for k in leaf.lookups):
            known = merged.get(lookup.prefix, lookup)
            columns = tuple(dict.fromkeys([*known.columns, *lookup.columns]))
            merged[lookup.prefix] = Lookup(lookup.dimension, lookup.on, columns)
        own = tuple(dict.fromkeys(c for leaf in leaves for c in leaf.event_columns))
        return cls(leaves[0].topic, own, tuple(merged.values()))

    def sql(
        self,
        source: str,
        more: Mapping[str, tuple[str, ...]] | None = None,
        spared: Mapping[str, str] | None = None,
    ) -> str:
        """SELECT that widens `source`, a relation of cleaned events, and adds `EVENT_DAY`.

        Args:
            more: by dimension, columns to take from it beside those that the leaves read.
            spared: event columns that are NULL where the condition beside them holds.
        """
        dated = f"(SELECT *, CAST(event_time AS DATE) AS {EVENT_DAY} FROM {source})"
        lookups = tuple(
            replace(lookup, columns=(*lookup.columns, *(more or {}).get(lookup.dimension, ())))
            for lookup in self.lookups
        )
        wide = wide_sql(self.topic, (*self.columns, EVENT_DAY), lookups, source=dated)
        nulls = [
            f"CASE WHEN NOT {condition} THEN {quote(column)} END AS {quote(column)}"
            for column, condition in (spared or {}).items()
        ]
        return f"SELECT * REPLACE ({', '.join(nulls)}) FROM ({wide})" if nulls else wide


def alike(leaves: Sequence[Leaf]) -> list[tuple[Leaf, ...]]:
    """Leaves of one topic put together where a name means the same lookup to all of them."""
    groups: list[list[Leaf]] = []
    for leaf in leaves:
        fitting = (group for group in groups if all(_agree(leaf, other) for other in group))
        group = next(fitting, None)
        if group is None:
            groups.append([leaf])
        else:
            group.append(leaf)
    return [tuple(group) for group in groups]


def _agree(one: Leaf, other: Leaf) -> bool:
    known = {k.prefix: (k.dimension, k.on) for k in one.lookups}
    theirs = {k.prefix: (k.dimension, k.on) for k in other.lookups}
    return all(known[prefix] == theirs[prefix] for prefix in known.keys() & theirs.keys())
