"""What a batch run's work is divided into, and the seam to the processes that do it."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

import duckdb

from playhead.engines import connect_worker
from playhead.lake import Snapshot
from playhead.lake.snapshot import LakeFile

__all__ = ["Exchange", "Processes", "Share", "shares", "worker"]

MIN_ROWS, MAX_ROWS = 250_000, 2_000_000
"""Rows of a share: fewer are not worth a process's while, more take half a gigabyte."""

Share = tuple[LakeFile, ...]

Given = TypeVar("Given")
Made = TypeVar("Made")
Taken = TypeVar("Taken", contravariant=True)
Told = TypeVar("Told", covariant=True)
Key = TypeVar("Key")


def shares(rows: Snapshot, processes: int) -> list[Share]:
    """The files of a snapshot divided: those of one time come together, as far as names tell.

    Args:
        processes: that will work at the same time.
    """
    limit = min(max(-(-rows.rows // max(processes, 1)), MIN_ROWS), MAX_ROWS)
    found: list[list[LakeFile]] = []
    held = 0
    for file in sorted(rows.files, key=lambda f: (f.partition or date.min, f.path)):
        if not found or held + file.rows > limit:
            found.append([])
            held = 0
        found[-1].append(file)
        held += file.rows
    return [tuple(files) for files in found]


class Exchange(Protocol[Taken, Key, Told]):
    """Work in two steps, between which what has one key comes together; can be pickled."""

    def partials(self, given: Taken, /) -> Iterator[tuple[Key, bytes]]:
        """What one of the given things holds, each value with its key: whole numbers."""

    def merged(self, groups: Iterable[tuple[Key, Iterable[bytes]]], /) -> Iterator[Told]:
        """What is made of all values of some keys."""


class Processes(ABC):
    """Processes that work at the same time on what can be pickled; used by one thread at a time."""

    name: str
    """As the setting `batch.engine` has it."""

    @abstractmethod
    def count(self) -> int:
        """How many work at the same time."""

    @abstractmethod
    def map(
        self, work: Callable[[Given], Made], given: Sequence[Given], what: str
    ) -> Iterable[Made]:
        """What the work makes of each of the given things, in their order.

        Args:
            what: for messages, such as "days of clean.playback".

        Raises:
            PlayheadError: the very kind that was raised where the work is done, or EngineError.
        """

    @abstractmethod
    def exchange(
        self, work: Exchange[Given, Key, Made], given: Sequence[Given], what: str
    ) -> Iterable[Made]:
        """What `work.merged` makes of all that `work.partials` makes, each key's together.

        Raises:
            PlayheadError: as for `map`.
        """


@contextmanager
def worker() -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A session of one of the processes, and a folder for copies of files."""
    with tempfile.TemporaryDirectory(prefix="playhead-share-") as name:
        folder = Path(name)
        connection = connect_worker(folder / "spill")
        try:
            yield connection, folder / "copies"
        finally:
            connection.close()
