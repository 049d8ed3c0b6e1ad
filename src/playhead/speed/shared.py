"""The state of a speed layer whose truth is in the lake: a file of this machine and the journal.

What decides where events count is in the journal before it is in the file. What follows from
that, and can be decided again, waits in the file's outbox and is told with the next change. So a
machine that dies loses nothing: another one makes the same state of the journal.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection

from playhead.errors import LakeError, PlayheadError, StateError
from playhead.speed import metatable
from playhead.speed.base import remove_base, write_base
from playhead.speed.changes import Change, Committed, Owned
from playhead.speed.journal import BASE_KIND, Head, Journal, Told, author
from playhead.speed.metatable import Marks
from playhead.speed.replica import PRUNE_EVERY, catch_up, marks_of
from playhead.speed.state import StateStore

logger = logging.getLogger(__name__)

OFFSETS, BATCH = "playhead.offsets", "playhead.batch"
"""Properties of the journal, for people: where the last micro-batch ended, and its label."""

TELL_EVERY = timedelta(seconds=2)
"""What waits in the outbox is told after so long at the latest."""

BASE_AFTER, BASE_AFTER_MOST = 256, 2048
"""Operations after which a base is written: if they have outgrown the last one; in any case."""

FORGET_AFTER, READ_WITHIN = 32, timedelta(seconds=30)
"""Operations after which old snapshots go, and how long somebody may be reading one."""

_ATTEMPTS = 30


class SharedState(StateStore):
    """A state that other machines follow, and may take over.

    Threads may share it. Whoever writes takes `own` first; everybody else reads.

    Args:
        path: of the state file; made on first use.
        journal: used by nobody else.
        prune: drops what the batch layer covers; how many blocks.
    """

    def __init__(self, path: Path, journal: Journal, prune: Callable[[], int] = lambda: 0) -> None:
        super().__init__(path)
        self._journal = journal
        self._prune = prune
        self._turn = threading.RLock()
        self._pruned_at = self._told_at = float("-inf")
        self._forgotten = 0
        self._weighed = 0

    # -- ownership -----------------------------------------------------------------------

    def own(self) -> None:
        """Become the one writer of all machines, with all that the last one has written.

        Raises:
            StateError: other machines take it over all the time, or the journal is damaged.
            LakeError: the lake is away.
        """
        with self._turn:
            with self._file.writing() as db:
                self._take_over(db)
            for _ in range(_ATTEMPTS):
                self._join()
                if self._append([(Owned(), "")]):
                    return
        raise StateError(
            "other speed layers write to the journal all the time",
            hint="One lake has one speed layer: stop the others.",
        )

    def _join(self) -> None:
        """Make the file hold what the journal does; a journal that ends before it starts anew."""
        head, marks = self._journal.head(), marks_of(self._file)
        if head.seq < marks.seq or not head.seq or (marks.apart and head.seq == marks.seq):
            self._begin(head, max(head.seq, marks.seq) + 1)
        else:
            catch_up(self._file, self._journal)

    def _begin(self, head: Head, seq: int) -> None:
        """Put the file as it is in the place of all that the journal holds."""
        marks = marks_of(self._file)
        base = self._journal.scratch("base.db")
        with closing(self._file.pinned()) as pinned:
            write_base(pinned, base)
        told = Told(marks.count + 1, BASE_KIND, "{}")
        if self._journal.begin(base, told, marks.store, after=head, seq=seq):
            with self._file.writing() as db:
                metatable.told(db)
                metatable.note(db, Marks(marks.store, seq, told.number))
        remove_base(base)

    # -- how it changes ------------------------------------------------------------------

    @contextmanager
    def _owned(self) -> Iterator[Connection]:
        # A change waits for one that is on its way to the journal: both keep their order.
        with self._turn, super()._owned() as db:
            yield db

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # Without a transaction: the file is not to be locked while the lake is written to.
        with self._turn:
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """As `StateStore.held`; what was done before is in the journal, and so others' alerts are.

        Another machine may take the state over while the block runs; this one can then tell it of
        nothing more.
        """
        with self._turn:
            if not self.flush() and self._journal.head().seq != marks_of(self._file).seq:
                raise self._taken_over()
            with super().held():
                yield

    def _make(self, change: Change, *, label: str = "") -> None:
        with self._turn:
            if not self._append([(change, label)]):
                raise self._taken_over()

    def _note(self, db: Connection, change: Change) -> None:
        super()._note(db, change)
        marks = metatable.marks(db)
        number = marks.count + 1
        metatable.wait(db, number, change.kind, change.text)
        metatable.note(db, Marks(marks.store, marks.seq, number))

    def flush(self) -> bool:
        """Tell the journal what waits in the outbox; whether anything did.

        Raises:
            StateError: another machine has taken the state over.
            LakeError: the lake is away; it waits on.
        """
        with self._turn:
            with self._file.reading() as db:
                if not metatable.waiting(db):
                    return False
            if not self._append([]):
                raise self._taken_over()
            return True

    def _append(self, changes: Sequence[tuple[Change, str]]) -> bool:
        """Tell what waits, then these changes, and make them; False if the journal went on.

        Args:
            changes: with their labels.
        """
        with super()._owned() as db:
            marks, waiting = metatable.marks(db), metatable.waiting(db)
        told = [Told(number, kind, what) for number, kind, what in waiting]
        properties: dict[str, str] = {}
        for number, (change, label) in enumerate(changes, marks.count + 1):
            told.append(Told(number, change.kind, change.text, change.parts))
            properties |= _properties(change, label)
        if not self._tell(told, marks, properties):
            return False
        with super()._owned() as db:
            for change, _ in changes:
                change.apply(db)
            metatable.told(db, told[-1].number)
            metatable.note(db, Marks(marks.store, marks.seq + len(told), told[-1].number))
        self._told_at = time.monotonic()
        return True

    def _tell(self, told: Sequence[Told], marks: Marks, properties: dict[str, str]) -> bool:
        store, after = marks.store, marks.seq
        try:
            return self._journal.append(told, store, after=after, properties=properties)
        except LakeError:
            # A server that fell silent may have done what it was asked.
            # It may yet do it: no other change is to have the same number.
            number = told[-1].number
            with self._file.writing() as db:
                metatable.note(db, Marks(store, after, number))
            head = self._journal.head()
            if (head.seq, head.by) != (after + len(told), author(store, number)):
                raise
            return True

    def _taken_over(self) -> StateError:
        return StateError(
            f"another speed layer took over the journal of {self._file.path}",
            hint="This one stops; nothing of its last micro-batch was kept. Started again, it "
            "takes up what is in the journal.",
        )

    # -- beside the triggers -------------------------------------------------------------

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell what waits, prune and write bases while the block runs; tell all at its end."""
        stop = threading.Event()
        thread = threading.Thread(target=self._tend, args=(stop,), name="journal", daemon=True)
        thread.start()
        try:
            yield
            self.flush()
        finally:
            stop.set()
            thread.join()

    def _tend(self, stop: threading.Event) -> None:
        while not stop.wait(TELL_EVERY.total_seconds() / 4):
            try:
                self.tend()
            except LakeError as error:
                logger.warning("the journal waits: %s", error.message)
            except PlayheadError as error:
                # The next micro-batch meets the same trouble, and tells of it.
                logger.warning("the journal is left alone: %s", error.message)
                return

    def tend(self) -> None:
        """Do what is due of: telling what waits, pruning, writing a base, forgetting old ones.

        Raises:
            StateError: another machine has taken the state over.
            LakeError: the lake is away; it is due again.
        """
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY.total_seconds():
            self.flush()
        if now - self._pruned_at >= PRUNE_EVERY.total_seconds():
            self._pruned_at = now
            self._prune()
        head = self._journal.head()
        if self._is_base_due(head):
            self.shorten()
        elif head.seq - max(self._forgotten, head.base) >= FORGET_AFTER:
            self._forget(head)

    def _is_base_due(self, head: Head) -> bool:
        since = head.seq - head.base
        if since < BASE_AFTER or head.seq - self._weighed < BASE_AFTER // 4:
            return since >= BASE_AFTER_MOST
        self._weighed = head.seq
        base, later = self._journal.sizes()
        return later >= base or since >= BASE_AFTER_MOST

    def shorten(self) -> bool:
        """Put a base in the place of all operations so far; False if there is nothing to replace.

        Micro-batches are committed meanwhile, but for the moment in which the table changes.
        """
        with self._turn:
            self.flush()
            marks, pinned = marks_of(self._file), self._file.pinned()
        base = self._journal.scratch("base.db")
        with closing(pinned):
            write_base(pinned, base)
        told = Told(marks.count, BASE_KIND, "{}")
        done = self._journal.shorten(base, told, marks.store, seq=marks.seq, turn=self._turn)
        remove_base(base)
        if done:
            self._forget(self._journal.head())
        return done

    def _forget(self, head: Head) -> None:
        with self._turn:
            self._journal.forget(READ_WITHIN)
        self._forgotten = head.seq


def _properties(change: Change, label: str) -> dict[str, str]:
    """What people find beside a micro-batch."""
    if not isinstance(change, Committed):
        return {}
    return {OFFSETS: json.dumps(change.batch.next_offsets), BATCH: label}
