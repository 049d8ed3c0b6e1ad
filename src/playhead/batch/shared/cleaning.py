"""Cleaning by several processes: hashes of ids are exchanged, and rows only where one repeats.

Each process tells the hashes of the event ids in its files. Where they come together, those are
found that a new row shares with another row. The rows that have them are compared by the process
that decides, which tells each of the others what rows of its files do not stay.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from playhead.batch.newrows import CleanEngine, Comparison, Counted, NewRows
from playhead.batch.repeats import PLACE, candidates_sql, columns_sql, only, without
from playhead.batch.shared.processes import Processes, Share, shares, worker
from playhead.batch.shared.reading import days_of
from playhead.engines import DuckDBEngine
from playhead.engines.packing import pack, split, unpack
from playhead.lake import Draft, Snapshot
from playhead.lake.elsewhere import RowWriter, SentSnapshot

__all__ = ["Part", "SharedCleaning", "SharedKeeping", "SharedRows"]

CUT_IDS = 1_000_000
"""Ids whose hashes are compared at once: some 50 MB."""
MAX_CUTS = 1 << 16
"""As many as two bytes tell apart."""

_NEW, _OLD = "cleaning_new", "cleaning_old"


@dataclass(frozen=True)
class Part:
    """Rows of some files, for one process.

    Attributes:
        number: of the part; those of new rows have the lowest.
        chosen: some of the rows, by hash or by place: a table, packed.
    """

    number: int
    files: Share
    chosen: bytes = b""


@dataclass(frozen=True)
class SharedRows:
    """Reads parts of a raw and a clean table; can be pickled.

    Attributes:
        raw, clean: the tables, without files.
        condition: which rows of the raw table are new.
        keyless: a condition: a row lacks a key.
        fields: the contract's.
        new: how many parts are of new rows.
        cuts: into how many the hashes are cut.
    """

    raw: SentSnapshot
    clean: SentSnapshot
    condition: str
    keyless: str
    fields: tuple[str, ...]
    new: int
    cuts: int

    def partials(self, part: Part) -> Iterator[tuple[int, bytes]]:
        """The hashes of the ids of a part's rows, cut by a remainder."""
        with worker() as (connection, folder):
            found = connection.execute(
                f"SELECT {part.number}::INTEGER AS part, hash(event_id) AS hash "
                f"FROM {self.keyed(part, folder)}"
            ).to_arrow_table()
        # Numbers of two bytes are sorted in a tenth of the time.
        cuts = (found.column("hash").to_numpy() % np.uint64(self.cuts)).astype(np.uint16)
        for cut, hashes in split(found, cuts):
            yield cut, pack(hashes)

    def merged(self, groups: Iterable[tuple[int, Iterable[bytes]]]) -> Iterator[tuple[int, bytes]]:
        """Hashes that a new row shares with another row, by the number of the part with the row."""
        query = f"""
            SELECT part, hash FROM ids SEMI JOIN (
                SELECT hash FROM ids GROUP BY hash HAVING count(*) > 1 AND min(part) < {self.new}
            ) USING (hash)
        """
        with worker() as (connection, _):
            for _, bodies in groups:
                ids = pa.concat_tables([unpack(body) for body in bodies])
                found = DuckDBEngine(connection).run(query, {"ids": ids}, "ids that may repeat")
                for part, hashes in split(found, found.column("part").to_numpy()):
                    yield part, pack(hashes.select(["hash"]))

    def candidates(self, part: Part) -> tuple[int, bytes]:
        """The part's number, and its rows that have a chosen hash, as candidates, packed."""
        with worker() as (connection, folder):
            chosen = "hash(event_id) IN (SELECT hash FROM chosen)"
            rows = candidates_sql(f"(FROM {self.keyed(part, folder)} WHERE {chosen})", self.fields)
            query = f"SELECT {part.number}::INTEGER AS part, * FROM {rows}"
            hashes = {"chosen": unpack(part.chosen)}
            found = DuckDBEngine(connection).run(query, hashes, "rows whose event may repeat")
            return part.number, pack(found)

    def read(self, part: Part, folder: Path) -> str:
        """A relation of a part's rows; the folder is for copies of files."""
        if part.number >= self.new:
            return replace(self.clean, files=part.files).open(folder).scan()
        rows = replace(self.raw, files=part.files).open(folder)
        return f"(FROM {rows.scan()} WHERE {self.condition})"

    def keyed(self, part: Part, folder: Path) -> str:
        """A relation of a part's rows that have their keys, as all of the clean table have."""
        rows = self.read(part, folder)
        return rows if part.number >= self.new else f"(FROM {rows} WHERE NOT ({self.keyless}))"


@dataclass(frozen=True)
class SharedKeeping:
    """Writes what stays of the rows of parts; can be pickled.

    Attributes:
        writer: of the clean table.
    """

    rows: SharedRows
    writer: RowWriter

    def write(self, part: Part) -> tuple[bytes, Counted]:
        """Write a part's rows but for the chosen ones; what the writer told, and the new rows."""
        with worker() as (connection, folder):
            connection.register("gone", unpack(part.chosen))
            kept = without(self.rows.keyed(part, folder), "gone")
            told = self.writer.run(connection, kept)
            if part.number >= self.rows.new:
                return told, Counted(0, 0)
            (counted,) = connection.execute(
                f"SELECT count(*), count(*) FILTER ({self.rows.keyless}) "
                f"FROM {self.rows.read(part, folder)}"
            ).fetchall()
            return told, Counted(*counted)


class SharedCleaning(CleanEngine):
    """Divides the work among processes; this one compares what may repeat."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    @contextmanager
    def compare(
        self, connection: duckdb.DuckDBPyConnection, new: NewRows, old: Snapshot
    ) -> Iterator[Comparison]:
        found = _SharedComparison(self._processes, connection, new, old)
        try:
            found.look()
            yield found
        finally:
            for name in (_NEW, _OLD):
                connection.execute(f"DROP TABLE IF EXISTS {name}")


class _SharedComparison(Comparison):
    """What may repeat is in tables of the connection; all else is where the processes are."""

    new = repeated = _NEW

    def __init__(
        self,
        processes: Processes,
        connection: duckdb.DuckDBPyConnection,
        new: NewRows,
        old: Snapshot,
    ) -> None:
        self._processes, self._connection, self._given = processes, connection, new
        self._name = old.name
        read = new.reading.of(new.raw)
        ours, theirs = shares(read, processes.count()), shares(old, processes.count())
        self._parts = [Part(number, files) for number, files in enumerate([*ours, *theirs])]
        self._rows = SharedRows(
            SentSnapshot.of(replace(read, files=())),
            SentSnapshot.of(replace(old, files=())),
            new.reading.condition,
            new.keyless,
            new.fields,
            new=len(ours),
            cuts=min(max(processes.count(), -(-(read.rows + old.rows) // CUT_IDS)), MAX_CUTS),
        )

    def old(self, months: Collection[date] | None = None) -> str:
        return _OLD

    def look(self) -> None:
        """Fill the tables of what may repeat."""
        for name in (_NEW, _OLD):
            empty = candidates_sql(replace(self._given.raw, files=()).scan(), self._given.fields)
            self._connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT 0::INTEGER AS part, * FROM {empty}"
            )
        hashes: dict[int, list[pa.Table]] = defaultdict(list)
        what = f"ids of {self._name}"
        for number, body in self._processes.exchange(self._rows, self._parts, what):
            hashes[number].append(unpack(body))
        chosen = [
            replace(self._parts[number], chosen=pack(pa.concat_tables(tables)))
            for number, tables in sorted(hashes.items())
        ]
        what = f"repeats of {self._name}"
        for number, body in self._processes.map(self._rows.candidates, chosen, what):
            self._connection.register("cleaning_found", unpack(body))
            into = _NEW if number < self._rows.new else _OLD
            self._connection.execute(f"INSERT INTO {into} FROM cleaning_found")
            self._connection.unregister("cleaning_found")

    def months(self) -> set[date]:
        days = days_of(self._processes, self._given.raw, self._given.reading)
        return {day.replace(day=1) for day in days}

    def keep(
        self, draft: Draft, gone: str, anew: Collection[date] = (), displaced: str = ""
    ) -> Counted:
        ours, theirs = self._parts[: self._rows.new], self._parts[self._rows.new :]
        parts = self._without(ours, _NEW, gone)
        if anew:
            touched = (
                replace(part, files=tuple(f for f in part.files if f.partition in anew))
                for part in theirs
            )
            parts += self._without([part for part in touched if part.files], _OLD, displaced)
        counted = Counted(0, 0)
        with draft.elsewhere() as (writer, told):
            work = SharedKeeping(self._rows, writer).write
            what = f"rows of {self._name}"
            for files, found in self._processes.map(work, parts, what):
                told.append(files)
                counted = Counted(counted.rows + found.rows, counted.keyless + found.keyless)
        return counted

    def _without(self, parts: Sequence[Part], candidates: str, places: str) -> list[Part]:
        """Parts, each with those of some places that are in it."""
        found = self._connection.execute(
            f"SELECT part, {columns_sql('c', PLACE)} FROM ({only(candidates, places)}) AS c"
        ).to_arrow_table()
        tables = dict(split(found, found.column("part").to_numpy()))
        return [
            replace(part, chosen=pack(tables.get(part.number, found.slice(0, 0)))) for part in parts
        ]
