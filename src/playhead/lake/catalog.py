"""The catalog: which metadata file is each table's current one, in SQLite."""

import logging
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    ValidationError,
)
from pyiceberg.io import PY_IO_IMPL
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from playhead.errors import LakeConflictError, LakeError
from playhead.lake.schema import checked_name
from playhead.lake.storage import LocalIO, local_path, make_folder

logger = logging.getLogger(__name__)

CATALOG_NAME = "playhead"
BUSY_TIMEOUT_S = 30


class Catalog(SqlCatalog):
    """PyIceberg's SQLite catalog, with a strict compare-and-swap as its commit.

    A commit lands only on the very metadata that the caller's table was loaded with, so what
    a guard has seen is what the commit follows. PyIceberg's own loads the table again, and so
    would let a change of properties slip in between.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "catalog.db"
        self.warehouse = root / "warehouse"
        make_folder(self.warehouse)
        with self.explained():
            _use_write_ahead_log(self.path)
            super().__init__(
                CATALOG_NAME,
                uri=f"sqlite:///{self.path}?timeout={BUSY_TIMEOUT_S}",
                warehouse=str(self.warehouse),
                **{PY_IO_IMPL: f"{LocalIO.__module__}.{LocalIO.__name__}"},
            )

    def create_tables(self) -> None:
        """The catalog's own two tables; another process may be creating them too."""
        try:
            super().create_tables()
        except OperationalError as error:
            if "already exists" not in str(error):
                raise

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

    def new_location(self, namespace: str, table: str) -> Path:
        """A folder for a new table: a dropped table's successor never shares its folder."""
        return self.warehouse / namespace / f"{table}-{uuid.uuid4().hex[:12]}"

    def metadata_file(self, name: str) -> str | None:
        """The path of a table's current metadata; None if there is no such table."""
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
                return self.load_table(name)
            except NoSuchTableError as error:
                raise LakeError(
                    f"the lake has no table {name}",
                    hint=f"It has {', '.join(self.names()) or 'no tables yet'}.",
                ) from error
            except (OSError, ValueError, ValidationError) as error:
                raise LakeError(
                    f"{name}: the table's metadata {self.metadata_file(name)} "
                    f"cannot be read: {error}",
                    hint="Was it deleted, or the workspace moved? Restore it from a backup.",
                ) from error

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
            self._swap(table, location)
        return CommitTableResponse(
            metadata=staged.metadata,
            metadata_location=location,  # type: ignore[call-arg]
        )

    def _swap(self, table: Table, location: str) -> None:
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

    @contextmanager
    def explained(self) -> Iterator[None]:
        """SQLite's errors as the lake's: a lock may be tried again, damage may not."""
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as error:
            if "locked" in str(error) or "busy" in str(error):
                raise LakeConflictError(
                    f"the catalog {self.path} was locked for {BUSY_TIMEOUT_S} s",
                    hint="Another process holds it; try again.",
                ) from error
            raise LakeError(
                f"the catalog {self.path} cannot be used: {error}",
                hint="Is the disk full, or the file damaged? Restore it from a backup.",
            ) from error


def _name(table: Table) -> str:
    return ".".join(table.name())


def _use_write_ahead_log(path: Path) -> None:
    """Readers and the writer then do not block each other; the setting stays in the file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                # Changing the mode does not wait for another process that is changing it.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
