"""Rows on their way into a table: written query by query, seen by nobody until published."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from playhead import disk
from playhead.lake import parquet
from playhead.lake.elsewhere import RowWriter
from playhead.lake.files import Files, moved
from playhead.lake.reaching import unusable
from playhead.lake.schema import arrow_schema
from playhead.lake.storage import local_path


class Draft:
    """New files of one table, made by `Lake.draft` and committed by `Lake.publish`, once.

    What a process leaves unpublished when it dies, `Lake.sweep` deletes; as a context manager
    a draft deletes what was not published by itself.

    Attributes:
        layout: how the table's files look.
        files: an entry for each file written so far.
    """

    def __init__(self, table: Table, layout: parquet.Layout, place: Files) -> None:
        self.uuid = table.metadata.table_uuid
        self.layout = layout
        self.files: list[DataFile] = []
        self._place = place
        self._data = f"{local_path(table.location())}/data"
        self._folders: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def rows(self) -> int:
        return sum(file.record_count for file in self.files)

    @property
    def schema(self) -> pa.Schema:
        """The table's columns, as batches of more rows need them."""
        return arrow_schema(self.layout.columns)

    def add(
        self,
        con: duckdb.DuckDBPyConnection,
        query: str | None,
        also: Sequence[Iterable[pa.RecordBatch]] = (),
    ) -> None:
        """Run a query and write its rows; sorted within, not across, the queries of a draft.

        Columns are matched as by `Lake.append`. A query that fails leaves nothing behind.

        Args:
            query: None if there are no rows but `also`.
            also: streams of more rows of this `schema`, each in order of the table's partitions;
                for a table that is sorted by nothing but the column that cuts it.

        Raises:
            LakeError: the query fails, has a column that the table lacks, or rows without a
                partition value or a required one; or the disk is full.
        """
        with self._new_folder() as folder:
            entries = parquet.write(self.layout, con, query, self._place.scratch(folder), also)
            self.files += self._place.keep(folder, entries)

    @contextmanager
    def elsewhere(self) -> Iterator[tuple[RowWriter, list[bytes]]]:
        """Add rows that other processes write, which may be on other machines.

        Gives the writer to be sent there, and a list that takes what its calls gave: of each part
        of the rows once. Files of calls that count for nothing are deleted by the sweep.

        Raises:
            LakeError: a call gave no entries of its files. Whatever the block raises: what was
                written is deleted.
        """
        with self._new_folder() as folder:
            writer, told = RowWriter(self.layout, folder, self._place.opener()), list[bytes]()
            yield writer, told
            self.files += [entry for one in told for entry in writer.entries(one)]

    def resembles(self, other: "Draft") -> bool:
        """Whether files of the other draft's table could be files of this one's."""
        ours, theirs = self.layout, other.layout
        return (ours.columns, ours.partition) == (theirs.columns, theirs.partition)

    def copy(self, other: "Draft") -> None:
        """Add the rows of a draft that this one `resembles`: its files, byte for byte.

        They are not said to be in this table's order.

        Raises:
            LakeError: a file cannot be read or written; nothing is left behind.
        """
        if not other.files:
            return
        with self._new_folder() as folder:
            copies = self._place.copy([file.file_path for file in other.files], folder)
            pairs = zip(other.files, copies, strict=True)
            spec = self.layout.spec_id
            self.files += [moved(entry, path, spec, sort_order_id=None) for entry, path in pairs]

    @contextmanager
    def _new_folder(self) -> Iterator[str]:
        """Where new files go; they are deleted if that fails."""
        folder = f"{self._data}/{uuid.uuid4().hex}"
        try:
            yield folder
        except BaseException as error:
            self._place.remove_folder(folder)
            if isinstance(error, OSError):
                raise unusable(
                    f"{self.layout.name}: cannot write to {folder}: {error}",
                    error,
                    disk.advice(error),
                ) from error
            raise
        self._folders.append(folder)

    def release(self) -> list[str]:
        """The folders that hold the files; whoever takes them deletes them if need be."""
        folders, self._folders = self._folders, []
        return folders

    def discard(self) -> None:
        """Delete the files, unless they were released."""
        for folder in self.release():
            self._place.remove_folder(folder)
