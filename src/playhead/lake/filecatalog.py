"""The catalog of one machine: a SQLite file beside the tables, with copies and checksums of all."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from pyiceberg.catalog.sql import SqlCatalogBaseTable
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable

from playhead import disk, mirror
from playhead.errors import LakeConflictError, LakeError, WorkspaceError
from playhead.lake.catalog import CATALOG_NAME
from playhead.lake.checksums import Checksum, Checksums, file_crc32
from playhead.lake.files import LocalFiles
from playhead.lake.schema import checked_name
from playhead.lake.sqlcatalog import DatabaseCatalog
from playhead.lake.storage import LocalIO, local_path

__all__ = ["FileCatalog"]

FORMAT = 2
BACKUP = "Run `playhead rebuild --all`: it makes the catalog anew from the tables' own files."
_SET_CHECKSUM = "INSERT OR REPLACE INTO checksums VALUES (?, ?, ?)"
_LOCATIONS = (
    "SELECT table_namespace, table_name, metadata_location FROM iceberg_tables "
    "WHERE catalog_name = ?"
)
BUSY_TIMEOUT_S = 30


class FileCatalog(DatabaseCatalog):
    """The catalog of a lake in one folder.

    It keeps a copy of each row, and the checksum of each metadata file, so that damage is found.
    """

    def __init__(self, root: Path, *, found: bool = False) -> None:
        """Open the catalog under `root`, making it if there are no tables yet.

        Args:
            found: make it although there are tables, which the caller names to it.
        """
        self.path = root / "catalog.db"
        self.warehouse = root / "warehouse"
        files, checksums = LocalFiles(self.warehouse, self.path), Checksums(self.path)
        self.checksums = checksums
        if not found:
            self._check_presence()
        with self.explained():
            if disk.reading_uri(self.path) is None:
                _use_write_ahead_log(self.path)
            self._make_tables()
        super().__init__(files, checksums, _address(self.path), init_catalog_tables="false")
        self._namespaces: set[str] = set()
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
        # Nobody drops a namespace from this catalog: each is looked for once.
        if namespace not in self._namespaces:
            super().ensure_namespace(namespace)
            self._namespaces.add(namespace)

    def _location(self, name: str) -> str | None:
        with self.explained():
            return self._watch.location(*checked_name(name))

    def note_checksum(self, name: str) -> None:
        """Take up the checksum of a new table's first metadata file."""
        path = self.metadata_file(name)
        if path is not None:
            size = Path(path).stat().st_size
            self.checksums.set({path: Checksum(size, file_crc32(path))})

    def _note_swap(self, connection: sa.Connection, table: Table, metadata: TableMetadata) -> None:
        if not isinstance(table.io, LocalIO):
            return
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

    def _explain(self, error: DBAPIError | sqlite3.DatabaseError) -> LakeError:
        if "locked" in str(error) or "busy" in str(error):
            return LakeConflictError(
                f"the catalog {self.path} was locked for {BUSY_TIMEOUT_S} s",
                hint="Another process holds it; try again.",
            )
        # SQLAlchemy would add the statement and a link, each on a line of its own.
        told = getattr(error, "orig", None) or error
        return LakeError(
            f"the catalog {self.path} cannot be used: {told}",
            hint=disk.advice(error) or f"If the file is damaged: {BACKUP}",
        )


class _Watch:
    """Where the tables' metadata is, read anew after a change, whoever made it."""

    def __init__(self, path: Path) -> None:
        self._turn = threading.Lock()
        self._db = disk.connect(path, timeout_s=BUSY_TIMEOUT_S, check_same_thread=False)
        self._version = -1
        self._locations: dict[tuple[str, str], str | None] = {}

    def location(self, namespace: str, table: str) -> str | None:
        """Where a table's current metadata is; None if there is no such table."""
        with self._turn:
            # It changes with every commit of another connection, of any process.
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                rows = self._db.execute(_LOCATIONS, (CATALOG_NAME,)).fetchall()
                self._locations = {(space, name): place for space, name, place in rows}
                self._version = version
            return self._locations.get((namespace, table))

    def close(self) -> None:
        """Look no more; may be called twice."""
        with self._turn:
            self._db.close()


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
