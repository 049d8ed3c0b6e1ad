"""Answers that were computed of late, given again while they are the same."""

from collections import OrderedDict
from collections.abc import Hashable

import pyarrow as pa

from playhead.serving.sources import Span

_LARGEST_BYTES = 64 << 20
_ALL_BYTES = 256 << 20


class Answers:
    """The answers that were asked for last, as many as fit."""

    def __init__(self) -> None:
        self._held: OrderedDict[Hashable, pa.Table] = OrderedDict()
        self._bytes = 0

    def get(self, identity: Hashable, within: Span | None) -> pa.Table | None:
        """The answer that was kept for this identity and stretch; None if there is none."""
        key = (identity, within)
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def keep(self, identity: Hashable, within: Span | None, answer: pa.Table) -> None:
        """Keep an answer, unless it is a large one, in the place of what was not asked for."""
        key = (identity, within)
        if answer.nbytes > _LARGEST_BYTES or key in self._held:
            return
        self._held[key] = answer
        self._bytes += answer.nbytes
        while self._bytes > _ALL_BYTES:
            _, gone = self._held.popitem(last=False)
            self._bytes -= gone.nbytes
