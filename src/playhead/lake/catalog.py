"""The catalog: which metadata file is each table's current one, in a SQL database."""

import logging
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import sqlalchemy as sa
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    ValidationError,
)
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from sqlalchemy.exc import DBAPIError, IntegrityError

from playhead.errors import LakeConflictError, LakeError
from playhead.lake.checksums import REBUILD, Checksums
from playhead.lake.files import Files
from playhead.lake.schema import checked_name
from playhead.lake.storage import local_path

__all__ = ["CATALOG_NAME", "Catalog"]

logger = logging.getLogger(__name__)

CATALOG_NAME = "playhead"


class Catalog(SqlCatalog, ABC):
    """PyIceberg's SQL catalog, with a strict compare-and-swap as its commit.

    A commit lands only on the very metadata that the caller's table was loaded with, so what
    a guard has seen is what the commit follows. PyIceberg's own loads the table again, and so
    would let a change of properties slip in between.

    Attributes:
        files: where the tables' files are.
        checksums: of metadata files, as far as they are kept.

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

    def damage(self) -> list[str]:
        """What is wrong with the catalog's rows, in words; empty if nothing is known to be."""
        return []

    # -- names -----------------------------------------------------------------------------

    def ensure_namespace(self, namespace: str) -> None:
        """Create a namespace if it does not exist."""
        try:
            self.create_namespace(namespace)
        except (NamespaceAlreadyExistsError, IntegrityError):
            return

    def names(self) -> list[str]:
        """All tables as `namespace.table`, in order."""
        rows = sa.select(IcebergTables.table_namespace, IcebergTables.table_name).where(
            IcebergTables.catalog_name == self.name
        )
        with self.explained(), self.engine.connect() as connection:
            return sorted(f"{namespace}.{table}" for namespace, table in connection.execute(rows))

    def new_location(self, namespace: str, table: str) -> str:
        """A folder for a new table: a dropped table's successor never shares its folder."""
        return f"{self.files.root}/{namespace}/{table}-{uuid.uuid4().hex[:12]}"

    # -- tables ----------------------------------------------------------------------------

    def metadata_file(self, name: str) -> str | None:
        """Where a table's current metadata is; None if there is no such table."""
        namespace, table = checked_name(name)
        row = sa.select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == namespace,
            IcebergTables.table_name == table,
        )
        with self.explained(), self.engine.connect() as connection:
            location = connection.execute(row).scalar()
        return None if location is None else local_path(location)

    def load(self, name: str) -> Table:
        """The table as it is now.

        Raises:
            LakeError: no such table, or its metadata cannot be read.
        """
        checked_name(name)
        with self.explained():
            try:
                return self._loaded(name)
            except NoSuchTableError as error:
                raise LakeError(
                    f"the lake has no table {name}",
                    hint=f"It has {', '.join(self.names()) or 'no tables yet'}.",
                ) from error
            except LakeError as error:
                raise LakeError(f"{name}: {error.message}", hint=error.hint) from error
            except (OSError, ValueError, ValidationError) as error:
                raise LakeError(
                    f"{name}: the table's metadata {self.metadata_file(name)} "
                    f"cannot be read: {error}",
                    hint=f"Was it deleted, or the workspace moved? {REBUILD}",
                ) from error

    def _loaded(self, name: str) -> Table:
        """The table of its current metadata file, which never changes: it is parsed once."""
        location, known = self.metadata_file(name), self._parsed.get(name)
        if known is None or location is None or known.metadata_location != location:
            table = self.load_table(name)
            self._parsed[name] = known = self._copy(table)
        return self._copy(known)

    def _copy(self, table: Table) -> Table:
        """Another object of the same table: a commit changes it, and its files are its own."""
        io = type(table.io)(table.io.properties)
        return Table(table.name(), table.metadata, table.metadata_location, io, self)

    def note_checksum(self, name: str) -> None:
        """Take up the checksum of a new table's first metadata file, where they are kept."""

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
