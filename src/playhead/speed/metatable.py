"""What the state says of itself, by key, in its SQLite table; whoever calls holds the transaction.

Where a file stands in the journal is here, too, and what it has done and not told there yet.
"""

import sqlite3
import uuid
from dataclasses import dataclass, replace

_STORE, _SEQ, _COUNT = "journal.store", "journal.seq", "journal.count"
_APART = "journal.apart"
_OUTBOX = "journal.outbox."
SHARED = "key <> 'owner' AND key NOT LIKE 'journal.%'"
"""The rows that say the same in every file that stands at the same place of the journal."""


@dataclass(frozen=True)
class Marks:
    """Where a state file stands in the journal.

    Attributes:
        store: the file's own id; empty: it never had to do with a journal.
        seq: the last operation that it holds; 0: none.
        count: the highest number that it has given to an operation of its own.
        apart: it has been written to since without the journal's knowing.
    """

    store: str = ""
    seq: int = 0
    count: int = 0
    apart: bool = False


def get(db: sqlite3.Connection, key: str) -> str | None:
    """The value of a key; None: there is none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def put(db: sqlite3.Connection, key: str, value: str) -> None:
    """Set the value of a key."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def marks(db: sqlite3.Connection) -> Marks:
    """Where the file stands in the journal."""
    return Marks(
        get(db, _STORE) or "",
        int(get(db, _SEQ) or 0),
        int(get(db, _COUNT) or 0),
        get(db, _APART) is not None,
    )


def note(db: sqlite3.Connection, marks: Marks) -> Marks:
    """Note where the file stands now; the same with an id, if it had none."""
    named = replace(marks, store=marks.store or uuid.uuid4().hex)
    put(db, _STORE, named.store)
    put(db, _SEQ, str(named.seq))
    put(db, _COUNT, str(named.count))
    if named.apart:
        put(db, _APART, "")
    else:
        db.execute("DELETE FROM meta WHERE key = ?", (_APART,))
    return named


def wait(db: sqlite3.Connection, number: int, kind: str, text: str) -> None:
    """Put an operation of this file into the outbox: it is told later."""
    put(db, f"{_OUTBOX}{number:012d}", f"{kind} {text}")


def waiting(db: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """(number, kind, what) of the operations that are to be told, in their order."""
    rows = db.execute(
        "SELECT key, value FROM meta WHERE key > ? AND key < ? ORDER BY key",
        (_OUTBOX, _OUTBOX + "~"),
    )
    found = []
    for key, value in rows:
        kind, _, text = value.partition(" ")
        found.append((int(key.removeprefix(_OUTBOX)), kind, text))
    return found


def told(db: sqlite3.Connection, upto: int | None = None) -> None:
    """Take the operations up to a number out of the outbox; None: all of them."""
    last = "~" if upto is None else f"{upto:012d}"
    db.execute("DELETE FROM meta WHERE key > ? AND key <= ?", (_OUTBOX, _OUTBOX + last))
