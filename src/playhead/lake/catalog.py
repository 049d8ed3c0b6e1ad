"""The catalog: which metadata file is each table's current one, in SQLite."""

import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog, SqlCatalogBaseTable
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    ValidationError,
)
from pyiceberg.io import PY_IO_IMPL
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.schema import CreateTable

from playhead import disk, mirror
from playhead.errors import LakeConflictError, LakeError, WorkspaceError
from playhead.lake.checksums import REBUILD, Checksum, Checksums, file_crc32
from playhead.lake.schema import checked_name
from playhead.lake.storage import CATALOG, LocalIO, local_path, make_folder

logger = logging.getLogger(__name__)

CATALOG_NAME = "playhead"
FORMAT = 2
BACKUP = "Run `playhead rebuild --all`: it makes the catalog anew from the tables' own files."
_SET_CHECKSUM = "INSERT OR REPLACE INTO checksums VALUES (?, ?, ?)"
BUSY_TIMEOUT_S = 30


class Catalog(SqlCatalog):
    """PyIceberg's SQLite catalog, with a strict compare-and-swap as its commit.

    A commit lands only on the very metadata that the caller's table was loaded with, so what
    a guard has seen is what the commit follows. PyIceberg's own loads the table again, and so
    would let a change of properties slip in between.
    """

    def __init__(self, root: Path, *, found: bool = False) -> None:
        """Open the catalog under `root`, making it if there are no tables yet.

        Args:
            found: make it although there are tables, which the caller names to it.
        """
        self.path = root / "catalog.db"
        self.warehouse = root / "warehouse"
        self._parsed: dict[str, Table] = {}
        make_folder(self.warehouse)
        self.checksums = Checksums(self.path)
        if not found:
            self._check_presence()
        with self.explained():
            if disk.reading_uri(self.path) is None:
                _use_write_ahead_log(self.path)
            self._make_tables()
            super().__init__(
                CATALOG_NAME,
                uri=_address(self.path),
                warehouse=str(self.warehouse),
                init_catalog_tables="false",
                **{
                    PY_IO_IMPL: f"{LocalIO.__module__}.{LocalIO.__name__}",
                    CATALOG: str(self.path),
                },
            )
        self._watch = _Watch(self.path)
        if wrong := self.damage():
            raise LakeError(f"the catalog {self.path} is damaged: {'; '.join(wrong)}", hint=BACKUP)

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        self._watch.close()
        super().close()

    def _check_presence(self) -> None:
        """Refuse to take tables without their catalog for a new, empty lake."""
        if self._is_there():
            return
        found = next(self.warehouse.glob("*/*/metadata/*.metadata.json"), None)
        # Another process may have made the catalog, and then the table, in the meantime.
        if found is not None and not self._is_there():
            what = "is empty" if self.path.exists() else "is missing"
            raise LakeError(
                f"the catalog {self.path} {what}, but the lake has tables, such as {found}",
                hint=BACKUP,
            )

    def _is_there(self) -> bool:
        return self.path.exists() and self.path.stat().st_size > 0

    def _make_tables(self) -> None:
        """The catalog's tables, their copies and a place for checksums, all at once or none.

        Other processes may be opening the same new lake: none may see half of the tables.
        """
        with closing(disk.connect(self.path, timeout_s=BUSY_TIMEOUT_S)) as connection:
            if self._format(connection) == FORMAT:
                return
            connection.execute("BEGIN IMMEDIATE")
            if self._format(connection) < FORMAT:
                for table in SqlCatalogBaseTable.metadata.sorted_tables:
                    creation = CreateTable(table, if_not_exists=True)
                    connection.execute(str(creation.compile(dialect=sqlite_dialect())))
                self.checksums.create(connection)
                mirror.create(connection, without=("checksums",))
                mirror.stamp(connection)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.commit()

    def _format(self, connection: sqlite3.Connection) -> int:
        """The version of the file's tables, 0 for a new file.

        Raises:
            WorkspaceError: a newer Playhead wrote it.
        """
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > FORMAT:
            raise WorkspaceError(
                f"{self.path} has format {version}, and this Playhead knows {FORMAT}",
                hint="Use the newer Playhead that wrote it.",
            )
        return int(version)

    def damage(self) -> list[str]:
        """What is wrong with the catalog's rows, in words; empty if they are sound."""
        if short := mirror.missing_bytes(self.path):
            return short
        with (
            self.explained(),
            closing(disk.connect(self.path, timeout_s=BUSY_TIMEOUT_S)) as connection,
        ):
            connection.execute("BEGIN")
            present = {"iceberg_tables", "iceberg_namespace_properties"}
            lost = sorted(present - set(mirror.mirrored(connection)))
            if lost or not mirror.is_stamped(connection):
                return [f"table {name} is missing" for name in lost] or ["its definitions"]
            return mirror.differences(connection)

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

    def owns(self, path: str | Path) -> bool:
        """Whether a file lies in this lake's folder: tables of a copied lake may lie elsewhere."""
        return Path(path).is_relative_to(self.warehouse)

    def metadata_file(self, name: str) -> str | None:
        """The path of a table's current metadata; None if there is no such table."""
        namespace, table = checked_name(name)
        with self.explained():
            locations = self._watch.since_change()
        if name in locations:
            return locations[name]
        row = sa.select(IcebergTables.metadata_location).where(
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == namespace,
            IcebergTables.table_name == table,
        )
        with self.explained(), self.engine.connect() as connection:
            location = connection.execute(row).scalar()
        locations[name] = None if location is None else local_path(location)
        return locations[name]

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
        io = LocalIO(table.io.properties)
        return Table(table.name(), table.metadata, table.metadata_location, io, self)

    def note_checksum(self, name: str) -> None:
        """Take up the checksum of a new table's first metadata file."""
        path = self.metadata_file(name)
        if path is not None:
            size = Path(path).stat().st_size
            self.checksums.set({path: Checksum(size, file_crc32(path))})

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
            if isinstance(table.io, LocalIO):
                rows = [(p, known.bytes, known.crc32) for p, known in table.io.written.items()]
                connection.exec_driver_sql(_SET_CHECKSUM, rows)
                kept = {entry.metadata_file for entry in metadata.metadata_log}
                gone = [
                    (local_path(entry.metadata_file),)
                    for entry in table.metadata.metadata_log
                    if entry.metadata_file not in kept
                ]
                if gone:
                    connection.exec_driver_sql("DELETE FROM checksums WHERE path = ?", gone)

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
            # SQLAlchemy would add the statement and a link, each on a line of its own.
            told = getattr(error, "orig", None) or error
            raise LakeError(
                f"the catalog {self.path} cannot be used: {told}",
                hint=disk.advice(error) or f"If the file is damaged: {BACKUP}",
            ) from error


class _Watch:
    """What was read of the catalog since it changed last, whoever changed it."""

    def __init__(self, path: Path) -> None:
        self._turn = threading.Lock()
        self._db = disk.connect(path, timeout_s=BUSY_TIMEOUT_S, check_same_thread=False)
        self._version = -1
        self._locations: dict[str, str | None] = {}

    def since_change(self) -> dict[str, str | None]:
        """Metadata files by table that are still the current ones; to be added to."""
        with self._turn:
            # It changes with every commit of another connection, of any process.
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._version, self._locations = version, {}
            return self._locations

    def close(self) -> None:
        """Look no more; may be called twice."""
        with self._turn:
            self._db.close()


def _name(table: Table) -> str:
    return ".".join(table.name())


def _address(path: Path) -> str:
    """The catalog's file as SQLAlchemy names it."""
    read_only = disk.reading_uri(path)
    if read_only is None:
        return f"sqlite:///{path}?timeout={BUSY_TIMEOUT_S}"
    # SQLAlchemy decodes it once, and SQLite what is left.
    encoded = read_only.replace("%", "%25")
    return f"sqlite:///{encoded}&uri=true&timeout={BUSY_TIMEOUT_S}"


def _use_write_ahead_log(path: Path) -> None:
    """Readers and the writer then do not block each other; the setting stays in the file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    with closing(disk.connect(path, timeout_s=BUSY_TIMEOUT_S)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # Changing the mode does not wait for another process that is changing it.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
