"""What a check finds, as values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import duckdb

from playhead.assemble import Workspace
from playhead.engines import connect
from playhead.errors import PlayheadError

REBUILD_ALL = "playhead rebuild --all"
RUN_BATCH = "playhead batch"


class Severity(StrEnum):
    """How bad a finding is: errors and warnings are trouble, the rest is good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        place: file, topic and offsets, table, or view and day.
        what: what is wrong there.
        mend: the command that mends it; empty where nothing has to be done.
    """

    severity: Severity
    place: str
    what: str
    mend: str = ""

    @classmethod
    def error(cls, place: str, what: str, mend: str = REBUILD_ALL) -> "Finding":
        return cls(Severity.ERROR, place, what, mend)

    @classmethod
    def warning(cls, place: str, what: str, mend: str = "") -> "Finding":
        return cls(Severity.WARNING, place, what, mend)

    @classmethod
    def info(cls, place: str, what: str, mend: str = "") -> "Finding":
        return cls(Severity.INFO, place, what, mend)


@dataclass(frozen=True)
class VerifyReport:
    """All that was found, and what was looked at.

    Attributes:
        checked: how much of each kind was looked at, such as "data files".
    """

    findings: tuple[Finding, ...]
    checked: dict[str, int]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.severity is Severity.INFO for finding in self.findings)


Told = Callable[[str, float, float | None, str], None]
"""Told how far a part is: (part, done, total or None, in words)."""


@dataclass
class Scope:
    """What the checks of one run share.

    Attributes:
        connection: a DuckDB session of its own.
        quick: leave out whatever reads all bytes or recomputes.
        broken: lake tables that have damaged files: no query can be run over them.
    """

    workspace: Workspace
    connection: duckdb.DuckDBPyConnection
    told: Told
    quick: bool
    broken: set[str]
    checked: dict[str, int]

    @property
    def path(self) -> Path:
        return self.workspace.path

    def count(self, what: str, number: int = 1) -> None:
        """Note that so many more of a kind were looked at."""
        self.checked[what] = self.checked.get(what, 0) + number

    def readable(self, *tables: str) -> bool:
        """Whether these tables are there and sound."""
        return all(t not in self.broken and self.workspace.lake.exists(t) for t in tables)


@contextmanager
def session(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB session over a workspace's settings, in UTC."""
    engine = workspace.settings.engine
    with connect(
        memory_limit=engine.memory_limit,
        threads=engine.threads or None,
        temp_dir=workspace.path / "tmp",
    ) as connection:
        yield connection


def from_error(place: str, error: PlayheadError, mend: str = REBUILD_ALL) -> Finding:
    """An error that a check met, as its finding."""
    return Finding.error(place, error.message, mend)


def shown(numbers: list[int], *, most: int = 5) -> str:
    """A few numbers of many."""
    listed = ", ".join(map(str, numbers[:most]))
    return f"{listed} and more" if len(numbers) > most else listed
