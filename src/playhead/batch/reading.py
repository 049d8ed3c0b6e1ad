"""Which cleaned events a state is computed from."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from playhead.batch.buckets import in_buckets, months_of
from playhead.lake import Snapshot
from playhead.views.leaf import Leaf

__all__ = ["Reading"]


@dataclass(frozen=True)
class Reading:
    """Events of a topic that meet one of several conditions, no two of which an event meets.

    Attributes:
        after: the last epoch and load of which no event meets any; None: it does not matter.
        months: those that have such events, at most; None: any.
    """

    topic: str
    conditions: tuple[str, ...] = ("true",)
    after: tuple[int, int] | None = None
    months: tuple[date, ...] | None = None

    @classmethod
    def uncovered(cls, topic: str, epoch: int, load: int) -> "Reading":
        """Cleaned events that a table which covers this epoch and load has not counted."""
        new = (
            f"load_id > {load}",
            f"epoch > {epoch} AND NOT coalesce(load_id > {load}, false)",
        )
        return cls(topic, new, (epoch, load))

    @classmethod
    def between(cls, topic: str, after: tuple[int, int], upto: tuple[int, int]) -> "Reading":
        """Rows of epochs and loads after some, and up to others.

        Those of loads and those of epochs apart: statistics then rule out whole files of each.
        """
        loaded = f"load_id > {after[1]} AND load_id <= {upto[1]}"
        sealed = f"epoch > {after[0]} AND epoch <= {upto[0]}"
        return cls(topic, (loaded, f"{sealed} AND NOT coalesce({loaded}, false)"), after)

    @classmethod
    def of_buckets(cls, leaf: Leaf, buckets: Collection[date]) -> "Reading":
        """All cleaned events of some buckets of a leaf's states."""
        months = months_of(leaf, buckets)
        return cls(leaf.topic, (in_buckets(leaf, buckets),), months=months)

    @property
    def condition(self) -> str:
        """The conditions as one."""
        return " OR ".join(f"({one})" for one in self.conditions)

    def of(self, events: Snapshot) -> Snapshot:
        """The topic's cleaned table, less files that hold no such event."""
        if self.months is not None:
            events = events.within(self.months)
        if self.after is None:
            return events
        return events.beyond(epoch=self.after[0], load_id=self.after[1])

    def sql(self, events: Snapshot) -> str:
        """A relation of the events to be read, of a table that has them."""
        scan = self.of(events).scan()
        return f"({' UNION ALL '.join(f'FROM {scan} WHERE {one}' for one in self.conditions)})"
