"""Compaction: blocks of one state and epoch merged into fewer, beside the triggers."""

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

import duckdb

from playhead.engines import DuckDBEngine
from playhead.errors import PlayheadError
from playhead.speed.records import Mergeable
from playhead.speed.state import StateStore
from playhead.views.leaf import Leaf

logger = logging.getLogger(__name__)

FAN_IN = 16
"""Blocks of one level that are merged into one of the next, while their epoch is open."""


class Compactor:
    """Merges blocks where enough of them have come together; when an epoch is closed, all of it.

    A merged block takes the place of its parts in one transaction, and only if all of them are
    still there. So it may run beside triggers and batch runs, and be killed at any moment.

    Args:
        connection: a DuckDB session of its own.

    Attributes:
        leaves: (state name, leaf) of the states to compact.
    """

    def __init__(
        self, state: StateStore, connection: duckdb.DuckDBPyConnection, *, fan_in: int = FAN_IN
    ) -> None:
        self._state = state
        self._engine = DuckDBEngine(connection)
        self._fan_in = fan_in
        self.leaves: Sequence[tuple[str, Leaf]] = ()

    def compact(self) -> int:
        """Merge what can be merged now; how many blocks were made."""
        return sum(
            self._merge(name, leaf, found)
            for name, leaf in self.leaves
            for found in self._state.mergeable(name, fan_in=self._fan_in)
        )

    def _merge(self, name: str, leaf: Leaf, found: Mergeable) -> bool:
        tables = self._state.tables(found.blocks)
        if len(tables) < len(found.blocks):
            return False
        merged = self._engine.merge(leaf, tables)
        done = self._state.replace(found.blocks, merged, found.level + 1)
        logger.debug("%s: %d blocks of epoch %d merged", name, len(tables), found.epoch)
        return done


class BackgroundCompactor:
    """A thread that compacts as long as the `with` block runs.

    Args:
        compactor: used by nobody else meanwhile.
        pause: between one round and the next.
    """

    def __init__(self, compactor: Compactor, pause: timedelta = timedelta(seconds=1)) -> None:
        self._compactor = compactor
        self._pause_s = pause.total_seconds()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compaction", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            try:
                self._compactor.compact()
            except PlayheadError as error:
                # Uncompacted state answers as well, only slower; the triggers will meet the
                # same trouble if it concerns them.
                logger.warning("compaction stops: %s", error)
                return
