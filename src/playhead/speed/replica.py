"""Replicas: state files that follow the journal, on machines whose speed layer runs elsewhere."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from playhead.errors import LakeError, StateError
from playhead.speed import metatable
from playhead.speed.base import take_over
from playhead.speed.journal import TABLE, Entry, Journal
from playhead.speed.metatable import Marks
from playhead.speed.statefile import StateFile

logger = logging.getLogger(__name__)

LOOK_EVERY = timedelta(milliseconds=250)
PRUNE_EVERY = timedelta(seconds=10)
_MOST_AT_ONCE = 500
_AWAY_FROM_S, _AWAY_TO_S = 0.5, 10.0


class _DivergedError(Exception):
    """The file holds changes of its own, and the journal went on without them."""


def marks_of(file: StateFile) -> Marks:
    """Where a file stands; one that never had to do with a journal gets its id."""
    with file.reading() as db:
        marks = metatable.marks(db)
    if marks.store:
        return marks
    with file.writing() as db:
        return metatable.note(db, metatable.marks(db))


def catch_up(file: StateFile, journal: Journal, *, most: int | None = None) -> int:
    """Take up what the journal has beyond a state file; how many operations.

    A file that was changed without the journal's knowing, where the journal went on, is made
    anew from the journal.

    Args:
        most: operations; None: all.

    Raises:
        StateError: the journal is damaged, or the disk refused; what was taken up stays.
        LakeError: the lake is away.
    """
    marks = marks_of(file)
    try:
        return _take(file, journal.entries(0 if marks.apart else marks.seq), most)
    except _DivergedError:
        logger.warning("%s is made anew: the journal went on without its last changes", file.path)
        return _take(file, journal.entries(0), most)


def _take(file: StateFile, entries: Iterator[Entry], most: int | None) -> int:
    taken = 0
    for entry in entries:
        if entry.base is not None:
            take_over(file, entry.base, entry.seq, store=entry.store, number=entry.number)
        else:
            _apply(file, entry)
        taken += 1
        if taken == most:
            break
    return taken


def _apply(file: StateFile, entry: Entry) -> None:
    """One operation with its place in the journal, all or nothing; its own ones count once."""
    with file.writing() as db:
        marks = metatable.marks(db)
        if entry.seq != marks.seq + 1 or entry.change is None:
            raise StateError(
                f"{TABLE}: operation {marks.seq + 1} is missing, {entry.seq} is there",
                hint="The next base that the speed layer writes heals it.",
            )
        waiting = {number for number, *_ in metatable.waiting(db)}
        is_own = entry.store == marks.store
        if waiting and not is_own:
            raise _DivergedError
        # What is still in the outbox was made when it was put there.
        if not (is_own and entry.number in waiting):
            entry.change.apply(db)
        count = marks.count
        if is_own:
            metatable.told(db, entry.number)
            count = max(count, entry.number)
        metatable.note(db, Marks(marks.store, entry.seq, count))


@dataclass(frozen=True)
class Look:
    """What one look at the journal found.

    Attributes:
        taken: operations that were taken up.
        behind: operations that are still to be taken up.
        waiting: why it waits; it goes on by itself.
    """

    taken: int = 0
    behind: int = 0
    waiting: str = ""


class Replica:
    """Keeps a machine's state file at the end of the journal; close it.

    Whoever runs it holds the role of the speed layer.

    Args:
        path: of the state file; made on first use.
        prune: drops what the batch layer covers; how many blocks.
    """

    def __init__(self, path: Path, journal: Journal, prune: Callable[[], int]) -> None:
        self._file = StateFile(path)
        self._journal = journal
        self._prune = prune
        self._pruned_at = float("-inf")
        self._failing = ""

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def look(self, *, most: int = _MOST_AT_ONCE) -> Look:
        """Take up what is new, if anything is: else it costs one look into the catalog.

        Args:
            most: operations to take up.

        Raises:
            StateError: the journal is damaged, or the disk refused; what was taken up stays.
            LakeError: the lake is away.
        """
        head, marks = self._journal.head(), marks_of(self._file)
        if not head.seq:
            return Look(waiting="no speed layer has written its states to the lake yet")
        taken = 0
        if head.seq > marks.seq or marks.apart:
            taken = catch_up(self._file, self._journal, most=most)
        if time.monotonic() - self._pruned_at >= PRUNE_EVERY.total_seconds():
            self._prune()
            self._pruned_at = time.monotonic()
        return Look(taken, max(head.seq - marks_of(self._file).seq, 0))

    def follow(self, stop: threading.Event, on_look: Callable[[Look], None] | None = None) -> None:
        """Look again and again until told to stop, also while the lake is away.

        Args:
            on_look: told of every look.
        """
        waiting_s = 0.0
        with closing(self):
            while not stop.is_set():
                look = self._look_or_wait()
                if on_look:
                    on_look(look)
                if look.waiting:
                    waiting_s = min(max(2 * waiting_s, _AWAY_FROM_S), _AWAY_TO_S)
                    stop.wait(waiting_s)
                    continue
                waiting_s = 0.0
                if not look.behind:
                    stop.wait(LOOK_EVERY.total_seconds())

    def _look_or_wait(self) -> Look:
        try:
            look = self.look()
        except (LakeError, StateError) as error:
            if error.message != self._failing:
                logger.warning("live states wait: %s", error)
            self._failing = error.message
            return Look(waiting=error.message)
        if self._failing:
            logger.info("live states are followed again")
        self._failing = ""
        return look
