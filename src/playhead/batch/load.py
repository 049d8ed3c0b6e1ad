"""Loads a folder of files into the lake: raw events, current dimensions, quarantine, quality.

Every step commits once and leaves a mark in the same snapshot, so a load that was killed is
finished by loading again, and a finished one changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from playhead.batch.ingest import Ingest, TableLoad
from playhead.batch.quality import Metric
from playhead.batch.readers import Progress
from playhead.batch.sources import find_sources
from playhead.batch.stage import DateRange
from playhead.clock import Clock
from playhead.contracts import FILES
from playhead.lake import Lake

__all__ = ["LoadReport", "Loader", "Progress", "TableLoad"]


@dataclass(frozen=True)
class LoadReport:
    """One load of a folder, table by table; dimensions first."""

    tables: tuple[TableLoad, ...]

    def __getitem__(self, table: str) -> TableLoad:
        return {entry.table: entry for entry in self.tables}[table]

    @property
    def quality(self) -> list[Metric]:
        """The quality report of all tables that were loaded."""
        return [metric for entry in self.tables for metric in entry.quality]

    @property
    def failed(self) -> tuple[TableLoad, ...]:
        return tuple(entry for entry in self.tables if entry.status == "failed")

    def check(self) -> None:
        """Raise the error of the first table that failed, if one did."""
        for entry in self.failed:
            if entry.error is not None:
                raise entry.error


class Loader:
    """Loads files into a lake, through one DuckDB session that nobody else uses meanwhile.

    The session holds the typed rows of one table at a time: beyond its `memory_limit` it spills
    them into its temporary folder.
    """

    def __init__(
        self,
        lake: Lake,
        con: duckdb.DuckDBPyConnection,
        clock: Clock,
    ) -> None:
        self._lake = lake
        self._con = con
        self._clock = clock

    def load(
        self,
        folder: Path,
        *,
        until: date | None = None,
        since: date | None = None,
        ignore_unknown: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> LoadReport:
        """Load whatever of the six tables `folder` holds; see `find_sources` for the names.

        A table that fails leaves the others alone: its error is in the report.

        Args:
            until: only rows of topics dated before this day.
            since: only rows of topics dated on or after this day.
            ignore_unknown: leave unknown columns out instead of failing.
            progress: told of every block read.

        Raises:
            LoadError: no such folder, or two candidates for one table; nothing was loaded.
        """
        sources = find_sources(folder, FILES)
        days = DateRange(since, until)
        ingest = Ingest(self._lake, self._con, self._clock, days, ignore_unknown, progress)
        return LoadReport(
            tuple(ingest.load(contract, sources.get(file)) for file, contract in FILES.items())
        )
