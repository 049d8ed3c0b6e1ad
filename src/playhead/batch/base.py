"""The seam between what a batch run decides and what computes over the events of the lake."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date

from playhead.batch.reading import Reading
from playhead.lake import Draft, Snapshot
from playhead.views.leaf import Leaf

__all__ = ["StateEngine"]


class StateEngine(ABC):
    """Computes states from cleaned events, where the engine runs; decides and commits nothing.

    Two engines give rows that merge into the same digits: the runs of one may follow those of the
    other over the same tables. One thread at a time.
    """

    name: str
    """As the setting `batch.engine` has it."""

    @abstractmethod
    def days(self, events: Snapshot, reading: Reading) -> dict[date, int]:
        """How many events to be read each day has, if any.

        Args:
            events: the topic's cleaned table.
        """

    @abstractmethod
    def compute(
        self,
        events: Snapshot,
        reading: Reading,
        days: Mapping[date, int],
        dimensions: Mapping[str, Snapshot],
        leaves: Sequence[tuple[Leaf, Draft]],
    ) -> None:
        """Add the states of the events to be read, each leaf's into its draft, by bucket.

        Several rows of a draft may belong to one group.

        Args:
            events: the topic's cleaned table.
            days: what `days` told of them.
            dimensions: at least those that the leaves look up, by name.

        Raises:
            EngineError: the engine failed.
            LakeError: a file cannot be read or written.
        """
