"""What a table holds at one moment, and the SQL that reads exactly that."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property

import pyarrow as pa

from playhead.errors import LakeError
from playhead.lake.checksums import REBUILD, Checksum, named_crc32
from playhead.lake.damage import parquet_damage
from playhead.lake.files import Files
from playhead.lake.schema import Column, arrow_schema, literal, quote

BOUNDED = ("epoch", "load_id", "seq")
"""Columns whose greatest values files are told apart by: what came later than something."""


@dataclass(frozen=True)
class LakeFile:
    """One Parquet file of a table.

    Attributes:
        partition: the day, or the first of the month; None in a table without partitions.
        most: the greatest value of some whole-number columns by field id, as far as it is known;
            None: the column holds NULLs alone.
    """

    path: str
    partition: date | None
    rows: int
    bytes: int
    most: Mapping[int, int | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def checksum(self) -> Checksum:
        """What the file's bytes have to be, as far as its size and name tell."""
        return Checksum(self.bytes, named_crc32(self.path))

    def may_exceed(self, bounds: Mapping[int, int]) -> bool:
        """Whether some row may have more than a bound in that bound's column, by field id."""
        most = (self.most.get(column, bound + 1) for column, bound in bounds.items())
        pairs = zip(most, bounds.values(), strict=True)
        return any(greatest is not None and greatest > bound for greatest, bound in pairs)


@dataclass(frozen=True)
class Written:
    """What a write did.

    Attributes:
        snapshot_id: the new snapshot; None if there was nothing to commit.
        skipped: the guard refused, so nothing was committed.
        partitions: the days or months that got rows, in order.
    """

    rows: int = 0
    files: int = 0
    bytes: int = 0
    snapshot_id: int | None = None
    skipped: bool = False
    partitions: tuple[date, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """One table at one moment: properties, files and columns of the same metadata.

    It stays readable, whatever is written later, until `expire` drops it.

    Attributes:
        id: Iceberg's snapshot id; None before the first one.
        place: where its files are.
        changed_at: when it was committed (naive UTC); None before the first one.
    """

    name: str
    id: int | None
    properties: Mapping[str, str]
    files: tuple[LakeFile, ...]
    columns: tuple[Column, ...] = field(repr=False)
    place: Files = field(repr=False, compare=False)
    changed_at: datetime | None = None

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as an Arrow schema."""
        return arrow_schema(self.columns)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def partitions(self) -> list[date]:
        """The days or months that have rows, in order."""
        return sorted({file.partition for file in self.files if file.partition is not None})

    def beyond(self, **bounds: int) -> "Snapshot":
        """The same less the files all of whose rows have these values, or lower ones.

        Args:
            bounds: of columns that are `BOUNDED`, by name.
        """
        ids = {c.id: bounds[c.name] for c in self.columns if c.name in bounds}
        return replace(self, files=tuple(file for file in self.files if file.may_exceed(ids)))

    def within(self, partitions: Collection[date]) -> "Snapshot":
        """The same less the files of other days or months."""
        wanted = frozenset(partitions)
        return replace(self, files=tuple(f for f in self.files if f.partition in wanted))

    def most(self, file: LakeFile, column: str) -> int | None:
        """The greatest value that a file has in a `BOUNDED` column; None if it is not known."""
        (number,) = (c.id for c in self.columns if c.name == column)
        return file.most.get(number)

    def scan(
        self,
        *,
        partitions: Collection[date] | None = None,
        columns: Collection[str] | None = None,
    ) -> str:
        """SQL for a FROM clause in DuckDB that reads this snapshot and nothing else.

        Columns are found by field id, so a file from before a column was added reads NULL.

        Args:
            partitions: only these days or months; None reads all.
            columns: only these, in this order; None gives all.

        Raises:
            LakeError: an unknown column, or a file that is missing, cut short or damaged.
        """
        chosen = self._chosen(columns)
        wanted = None if partitions is None else frozenset(partitions)
        files = [f for f in self.files if wanted is None or f.partition in wanted]
        if not files:
            return _empty(chosen)
        paths = ", ".join(map(literal, self.paths(files)))
        fields = ", ".join(_field(column) for column in chosen)
        return f"read_parquet([{paths}], schema = MAP {{{fields}}})"

    def _chosen(self, names: Collection[str] | None) -> tuple[Column, ...]:
        if names is None:
            return self.columns
        known = {column.name: column for column in self.columns}
        if unknown := [name for name in names if name not in known]:
            raise LakeError(
                f"{self.name}: no column {', '.join(unknown)}",
                hint=f"It has {', '.join(known)}.",
            )
        return tuple(known[name] for name in names)

    def paths(self, files: Collection[LakeFile] | None = None) -> list[str]:
        """Where this machine can read files of the snapshot, in their order.

        Args:
            files: some of its own; None: all.

        Raises:
            LakeError: one is missing, cut short or damaged.
        """
        chosen = self.files if files is None else files
        local, wrong = self.place.local({file.path: file.checksum for file in chosen})
        for path, what in wrong.items():
            where = local.get(path)
            places = parquet_damage(where) if "checksum" in what and where else []
            told = f" at {'; '.join(places[:3])}" if places else ""
            more = f" ({len(wrong) - 1} more files are damaged)" if len(wrong) > 1 else ""
            raise LakeError(
                f"{self.name}: the data file {path} {what}{told}{more}",
                hint=f"Was it deleted, changed, or the workspace moved? {REBUILD}",
            )
        return [local[file.path] for file in chosen]


def _field(column: Column) -> str:
    name, kind = literal(column.name), literal(column.type.duckdb)
    return f"{column.id}: {{name: {name}, type: {kind}, default_value: NULL}}"


def _empty(columns: tuple[Column, ...]) -> str:
    nulls = ", ".join(f"CAST(NULL AS {c.type.duckdb}) AS {quote(c.name)}" for c in columns)
    return f"(SELECT {nulls} WHERE false)"
