"""A catalog in the tables of a SQL database, which names each table's metadata file."""

import sqlite3
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import sqlalchemy as sa
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import Identifier
from sqlalchemy.exc import DBAPIError, IntegrityError

from playhead import disk
from playhead.errors import LakeConflictError, LakeError
from playhead.lake.catalog import CATALOG_NAME, Catalog
from playhead.lake.checksums import Checksums
from playhead.lake.files import Files
from playhead.lake.schema import checked_name
from playhead.lake.storage import local_path

__all__ = ["DatabaseCatalog"]


class DatabaseCatalog(Catalog, SqlCatalog):
    """PyIceberg's SQL catalog, whose commit swaps the metadata that the table was loaded with.

    PyIceberg's own loads the table again, and so would let a change of properties slip in
    between.

    Args:
        uri: of the database, as SQLAlchemy names it.
        properties: of PyIceberg's catalog.
    """

    def __init__(self, files: Files, checksums: Checksums, uri: str, **properties: str) -> None:
        self.files, self.checksums = files, checksums
        self._parsed: dict[str, Table] = {}
        told = {"uri": uri, "warehouse": files.root, **files.properties, **properties}
        with self.explained():
            super().__init__(CATALOG_NAME, **told)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """The database's errors as the lake's: a lock may be tried again, damage may not."""
        try:
            yield
        except (DBAPIError, sqlite3.DatabaseError) as error:
            raise self._explain(error) from error

    @abstractmethod
    def _explain(self, error: DBAPIError | sqlite3.DatabaseError) -> LakeError:
        """An error of the database in words."""

    def is_undecided(self, error: BaseException) -> bool:
        # After a crash, SQLite may find a commit whose sync failed, and take it for good.
        return disk.is_undecided(error)

    def ensure_namespace(self, namespace: str) -> None:
        # Another process may make it at the same moment.
        with suppress(IntegrityError):
            super().ensure_namespace(namespace)

    def names(self) -> list[str]:
        rows = sa.select(IcebergTables.table_namespace, IcebergTables.table_name).where(
            IcebergTables.catalog_name == self.name
        )
        with self.explained(), self.engine.connect() as connection:
            return sorted(f"{namespace}.{table}" for namespace, table in connection.execute(rows))

    def metadata_file(self, name: str) -> str | None:
        location = self._location(name)
        return None if location is None else local_path(location)

    def _location(self, name: str) -> str | None:
        """Where a table's current metadata is, as its last writer named it."""
        namespace, table = checked_name(name)
        row = sa.select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == namespace,
            IcebergTables.table_name == table,
        )
        with self.explained(), self.engine.connect() as connection:
            return connection.execute(row).scalar()

    # -- tables ----------------------------------------------------------------------------

    def load_table(self, identifier: str | Identifier) -> Table:
        """The table of its current metadata file, which never changes: it is parsed once."""
        named = self.identifier_to_tuple(identifier)
        name = ".".join(named)
        location, known = self._location(name), self._parsed.get(name)
        if not location:
            raise NoSuchTableError(f"Table does not exist: {name}")
        if known is None or known.metadata_location != location:
            file = load_file_io(self.properties, location).new_input(location)
            metadata = FromInputFile.table_metadata(file)
            io = self._load_file_io(metadata.properties, location)
            self._parsed[name] = known = Table(named, metadata, location, io, self)
        return self._copy(known)

    def _loaded(self, name: str) -> Table:
        return self.load_table(name)

    def _copy(self, table: Table) -> Table:
        """Another object of the same table: a commit changes it, and its files are its own."""
        io = type(table.io)(table.io.properties)
        return Table(table.name(), table.metadata, table.metadata_location, io, self)

    # -- commits ---------------------------------------------------------------------------

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Swap the table's metadata for one with `updates`, if nobody else has.

        Raises:
            LakeConflictError: another writer has, or the catalog was locked for too long.
        """
        try:
            staged = self._update_and_stage_table(table, table.name(), requirements, updates)
        except CommitFailedException as error:
            raise LakeConflictError(f"{_name(table)}: {error}") from error
        location = staged.metadata_location
        if staged.metadata != table.metadata:
            self._write_metadata(staged.metadata, table.io, location)
            self._swap(table, staged.metadata, location)
            self._parsed[_name(table)] = self._copy(staged)
        return CommitTableResponse(
            metadata=staged.metadata,
            metadata_location=location,  # type: ignore[call-arg]
        )

    def _swap(self, table: Table, metadata: TableMetadata, location: str) -> None:
        namespace, name = table.name()
        statement = (
            sa.update(IcebergTables)
            .where(
                IcebergTables.catalog_name == self.name,
                IcebergTables.table_namespace == namespace,
                IcebergTables.table_name == name,
                IcebergTables.metadata_location == table.metadata_location,
            )
            .values(metadata_location=location, previous_metadata_location=table.metadata_location)
        )
        with self.explained(), self.engine.begin() as connection:
            result = cast("sa.CursorResult[tuple[()]]", connection.execute(statement))
            if result.rowcount < 1:
                raise LakeConflictError(f"{_name(table)}: another writer committed first")
            self._note_swap(connection, table, metadata)

    def _note_swap(self, connection: sa.Connection, table: Table, metadata: TableMetadata) -> None:
        """Note in the same transaction what has become of metadata files."""


def _name(table: Table) -> str:
    return ".".join(table.name())
