"""Files of the lake in other processes: by the same code, with the same checksums.

A snapshot can be sent to whoever computes from it, and a writer to where new rows are. Each call
of a writer makes files of its own in a draft's folder and tells what a manifest has to know of
them. What a killed, repeated or overtaken call leaves is referred to by nothing.
"""

import pickle
import tempfile
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.manifest import DataFile

from playhead.errors import LakeError
from playhead.lake import parquet
from playhead.lake.files import Opener
from playhead.lake.reaching import unusable
from playhead.lake.schema import Column, arrow_schema
from playhead.lake.snapshot import LakeFile, Snapshot

__all__ = ["RowWriter", "SentSnapshot"]


@dataclass(frozen=True)
class SentSnapshot:
    """A snapshot, or some files of one, on its way to another process; can be pickled."""

    name: str
    id: int | None
    files: tuple[LakeFile, ...]
    columns: tuple[Column, ...]
    opener: Opener

    @classmethod
    def of(cls, snapshot: Snapshot) -> "SentSnapshot":
        """The snapshot, without its table's properties."""
        place = snapshot.place.opener()
        return cls(snapshot.name, snapshot.id, snapshot.files, snapshot.columns, place)

    def open(self, folder: Path) -> Snapshot:
        """The snapshot as this process reads it.

        Args:
            folder: for copies of files that are on no disk of this machine.
        """
        return Snapshot(self.name, self.id, {}, self.files, self.columns, self.opener(folder))


@dataclass(frozen=True)
class RowWriter:
    """Writes rows into new files of a table; can be pickled.

    Attributes:
        layout: how the table's files look.
        folder: the location of the new files.
        files: opens the lake's files in the process that writes.
    """

    layout: parquet.Layout
    folder: str
    files: Opener

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return arrow_schema(self.layout.columns)

    def write(self, batches: Iterable[pa.RecordBatch]) -> bytes:
        """Write some rows, durably; what `entries` reads.

        Args:
            batches: as `playhead.lake.parquet.write_batches` takes them.

        Raises:
            LakeError: a row does not fit the table, or a file cannot be written.
        """
        return self._kept(lambda to, tag: parquet.write_batches(self.layout, batches, to, tag))

    def run(self, connection: duckdb.DuckDBPyConnection, query: str) -> bytes:
        """Run a query and write its rows, as `write` does.

        Raises:
            LakeError: as `write`, or the query fails or has a column that the table lacks.
        """
        return self._kept(
            lambda to, tag: parquet.write(self.layout, connection, query, to, tag=tag)
        )

    def _kept(self, made: Callable[[Path, str], list[DataFile]]) -> bytes:
        """Keep files that are made in a folder, with a part of every file's name."""
        with tempfile.TemporaryDirectory(prefix="playhead-rows-") as copies:
            place = self.files(Path(copies))
            new = made(place.scratch(self.folder), f"-{uuid.uuid4().hex[:12]}")
            try:
                return pickle.dumps(place.keep(self.folder, new))
            except OSError as error:
                raise unusable(
                    f"{self.layout.name}: cannot write to {self.folder}: {error}", error
                ) from error

    def entries(self, told: bytes) -> list[DataFile]:
        """The entries of the files that a call of `write` made.

        Raises:
            LakeError: they are not of this writer.
        """
        # These bytes were made by this process's own tasks, and by nobody else.
        found: list[DataFile] = pickle.loads(told)  # noqa: S301
        if strays := [e.file_path for e in found if not e.file_path.startswith(f"{self.folder}/")]:
            raise LakeError(f"{self.layout.name}: the file {strays[0]} is none of {self.folder}")
        return found
