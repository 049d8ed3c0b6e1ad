"""The catalog: which metadata file is each table's current one, whoever keeps that."""

import logging
import uuid
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, ValidationError
from pyiceberg.table import Table

from playhead.errors import LakeError
from playhead.lake.checksums import REBUILD, Checksums
from playhead.lake.files import Files
from playhead.lake.reaching import unusable
from playhead.lake.schema import checked_name

__all__ = ["CATALOG_NAME", "Catalog"]

logger = logging.getLogger(__name__)

CATALOG_NAME = "playhead"


class Catalog(IcebergCatalog, ABC):
    """One of PyIceberg's catalogs, with a strict compare-and-swap as its commit.

    A commit lands only on what the caller's table was loaded with, so what a guard has seen is
    what the commit follows. It raises `LakeConflictError` where another writer came first.

    Attributes:
        files: where the tables' files are.
        checksums: of metadata files, as far as they are kept.
        compares_properties: whether a commit notices that nothing but properties was changed.
            Where it does not, properties are changed by a snapshot, which every commit notices.
    """

    files: Files
    checksums: Checksums
    compares_properties = True

    @abstractmethod
    def explained(self) -> AbstractContextManager[None]:
        """Within it, errors of whoever keeps the catalog become the lake's."""

    def is_undecided(self, error: BaseException) -> bool:
        """Whether a commit that ended in this error may yet count."""
        return False

    def damage(self) -> list[str]:
        """What is wrong with the catalog itself, in words; empty if nothing is known to be."""
        return []

    # -- names -----------------------------------------------------------------------------

    def ensure_namespace(self, namespace: str) -> None:
        """Create a namespace if it does not exist."""
        try:
            self.create_namespace(namespace)
        except NamespaceAlreadyExistsError:
            return

    @abstractmethod
    def names(self) -> list[str]:
        """All tables as `namespace.table`, in order."""

    def new_location(self, namespace: str, table: str) -> str:
        """A folder for a new table: a dropped table's successor never shares its folder."""
        return f"{self.files.root}/{namespace}/{table}-{uuid.uuid4().hex[:12]}"

    # -- tables ----------------------------------------------------------------------------

    @abstractmethod
    def metadata_file(self, name: str) -> str | None:
        """Where a table's current metadata is; None if there is no such table."""

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
                raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
            except (OSError, ValueError, ValidationError) as error:
                raise unusable(
                    f"{name}: the table's metadata {self.metadata_file(name)} "
                    f"cannot be read: {error}",
                    error,
                    f"Was it deleted, or the workspace moved? {REBUILD}",
                ) from error

    @abstractmethod
    def _loaded(self, name: str) -> Table:
        """The table of its current metadata file; its files are its own.

        Raises:
            NoSuchTableError: there is none.
        """

    def note_checksum(self, name: str) -> None:
        """Take up the checksum of a new table's first metadata file, where they are kept."""
