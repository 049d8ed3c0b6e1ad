"""Rows that a clean table does not cover yet, and where they are compared and written."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import duckdb

from playhead.batch.reading import Reading
from playhead.batch.repeats import candidates_sql, without
from playhead.batch.sqltext import identifier
from playhead.contracts import contract
from playhead.lake import Draft, Snapshot

__all__ = [
    "CleanEngine",
    "Comparison",
    "Counted",
    "DuckDBCleaning",
    "LoadedRows",
    "NewRows",
]


@dataclass(frozen=True)
class LoadedRows:
    """The raw rows of one load, where they are cheaper to read than in the raw table.

    Attributes:
        sql: stands in a FROM clause and may be read several times.
        repeated: the same of those rows, at least, whose event has several of them.
    """

    load_id: int
    sql: str
    repeated: str


@dataclass(frozen=True)
class NewRows:
    """Rows of a topic that its clean table does not cover.

    Attributes:
        raw: the raw table.
        reading: which of its rows they are.
        loaded: the same rows elsewhere, if they are there.
    """

    raw: Snapshot
    reading: Reading
    loaded: LoadedRows | None = None

    @property
    def topic(self) -> str:
        return self.reading.topic

    @property
    def fields(self) -> tuple[str, ...]:
        """The contract's fields."""
        return tuple(contract(self.topic).schema.names)

    @property
    def keyless(self) -> str:
        """A condition: a row lacks a key."""
        return " OR ".join(f"{identifier(n)} IS NULL" for n in contract(self.topic).not_null)

    @property
    def sql(self) -> str:
        """A relation of the rows."""
        return self.loaded.sql if self.loaded is not None else self.reading.sql(self.raw)

    @property
    def keyed(self) -> str:
        """A relation of those that have their keys."""
        return f"(FROM {self.sql} WHERE NOT ({self.keyless}))"

    @property
    def repeated(self) -> str | None:
        """A relation that has all rows of repeated events, if that is known."""
        if self.loaded is None:
            return None
        return f"(FROM {self.loaded.repeated} WHERE NOT ({self.keyless}))"


class Counted(NamedTuple):
    """How many new rows there are, and how many of them lack a key."""

    rows: int
    keyless: int


class Comparison(ABC):
    """New rows beside those of the clean table, for one cleaning.

    Attributes:
        new: a relation of `playhead.batch.repeats.CANDIDATE` of new rows with their keys: those at
            least that share an event with another row.
        repeated: of those that share an event with another new row, at least, if they are known.
    """

    new: str
    repeated: str | None = None

    @abstractmethod
    def old(self, months: Collection[date] | None = None) -> str:
        """A relation of `CANDIDATE` of the clean table: at least the rows whose event is new, too.

        Args:
            months: the rows of these are enough.
        """

    @abstractmethod
    def months(self) -> set[date]:
        """The months of the new rows, and of no other."""

    @abstractmethod
    def keep(
        self, draft: Draft, gone: str, anew: Collection[date] = (), displaced: str = ""
    ) -> Counted:
        """Add the new rows that have their keys to a draft.

        Args:
            gone: a relation of the places of those that do not stay.
            anew: months whose old rows are added, too, but for those in the `displaced` places.

        Raises:
            EngineError: the engine failed.
            LakeError: a file cannot be read or written.
        """


class CleanEngine(ABC):
    """Compares and writes rows, where the engine runs; decides and commits nothing."""

    @abstractmethod
    def compare(
        self, connection: duckdb.DuckDBPyConnection, new: NewRows, old: Snapshot
    ) -> AbstractContextManager[Comparison]:
        """New rows beside those of a clean table; relations are of this connection.

        Raises:
            EngineError: the engine failed.
            LakeError: a file cannot be read.
        """


class DuckDBCleaning(CleanEngine):
    """Compares and writes in this process."""

    @contextmanager
    def compare(
        self, connection: duckdb.DuckDBPyConnection, new: NewRows, old: Snapshot
    ) -> Iterator[Comparison]:
        yield _Relations(connection, new, old)


class _Relations(Comparison):
    """Rows that the connection reads itself; nothing is read before it is needed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, new: NewRows, old: Snapshot) -> None:
        self._connection, self._new, self._old = connection, new, old
        self.new = candidates_sql(new.keyed, new.fields)
        if new.repeated is not None:
            self.repeated = candidates_sql(new.repeated, new.fields)

    def old(self, months: Collection[date] | None = None) -> str:
        return candidates_sql(self._old.scan(partitions=months), self._new.fields)

    def months(self) -> set[date]:
        found = self._connection.execute(
            f"SELECT DISTINCT date_trunc('month', event_time)::DATE FROM {self._new.keyed}"
        ).fetchall()
        return {month for (month,) in found}

    def keep(
        self, draft: Draft, gone: str, anew: Collection[date] = (), displaced: str = ""
    ) -> Counted:
        query = without(self._new.keyed, gone)
        if anew:
            query += f" UNION ALL BY NAME ({without(self._old.scan(partitions=anew), displaced)})"
        draft.add(self._connection, query)
        (counted,) = self._connection.execute(
            f"SELECT count(*), count(*) FILTER ({self._new.keyless}) FROM {self._new.sql}"
        ).fetchall()
        return Counted(*counted)
