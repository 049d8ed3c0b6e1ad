"""Speed states that the batch layer's cover: no answer needs them any more."""

from collections.abc import Iterable

from playhead.batch.recompute import StateCoverage, state_table
from playhead.lake import Lake
from playhead.speed.state import StateStore
from playhead.views import View
from playhead.views.naming import state_name


def prune_covered(lake: Lake, state: StateStore, views: Iterable[View]) -> int:
    """Drop blocks of the speed layer's state that batch states in the lake cover; how many.

    Raises:
        LakeError: the lake is away.
        StateError: the disk refused.
    """
    pruned = 0
    for view in views:
        for leaf in view.leaves:
            table = state_table(view, leaf)
            if lake.exists(table):
                covered = StateCoverage.of(lake.properties(table))
                if covered is not None and covered.epoch:
                    pruned += state.prune(state_name(view, leaf), covered.epoch)
    return pruned
