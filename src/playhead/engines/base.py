"""The seam between plans and what runs them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import pyarrow as pa

from playhead.views.leaf import Leaf
from playhead.views.view import View


class Engine(ABC):
    """Runs the four plans of a view over Arrow tables.

    Methods may be called from one thread at a time. They keep nothing of their arguments.
    """

    @abstractmethod
    def partial(self, leaf: Leaf, events: pa.Table) -> pa.Table:
        """States of some events.

        Args:
            leaf: whose state it is.
            events: the wide topic (`leaf.wide`): one row an event; may be empty.

        Returns:
            One row per group and tag, of columns `leaf.state_columns`.
        """

    @abstractmethod
    def merge(self, leaf: Leaf, states: Sequence[pa.Table]) -> pa.Table:
        """One state out of several, in any order; they may overlap in keys; at least one."""

    @abstractmethod
    def final(
        self, view: View, states: Mapping[str, pa.Table], dimensions: Mapping[str, pa.Table]
    ) -> pa.Table:
        """The answer, from one merged state per leaf name."""

    @abstractmethod
    def full(self, view: View, relations: Mapping[str, pa.Table]) -> pa.Table:
        """The answer by plain recomputation over whole topics and dimensions, by name."""
