"""Where the lakes of tests are: a folder, or an object store with one of two shared catalogs."""

import uuid
from abc import ABC, abstractmethod
from pathlib import Path

from pyarrow import fs
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.lake import Lake, SharedLake


class Home(ABC):
    """A place for one lake; what is there is named by its location."""

    root: str
    """Below it lie the tables."""

    properties_make_snapshots = False
    """Whether the catalog compares properties by snapshots alone."""

    reads_metadata_files = True
    """Whether a table cannot be read without its metadata file."""

    @abstractmethod
    def open(self) -> Lake:
        """The lake as another process would open it."""

    @abstractmethod
    def iceberg(self, name: str) -> Table:
        """The table as another program opens it: PyIceberg's own catalog and file access."""

    @abstractmethod
    def files(self) -> set[str]:
        """All files of the lake's tables."""

    @abstractmethod
    def write(self, location: str, body: bytes) -> None: ...

    @abstractmethod
    def remove(self, location: str) -> None: ...

    def data_files(self) -> set[str]:
        return {path for path in self.files() if path.endswith(".parquet")}


class FolderHome(Home):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = str(folder / "warehouse")

    def open(self) -> Lake:
        return Lake(self.folder)

    def iceberg(self, name: str) -> Table:
        uri = f"sqlite:///{self.folder}/catalog.db"
        catalog = SqlCatalog("playhead", uri=uri, warehouse=str(self.folder))
        try:
            return catalog.load_table(name)
        finally:
            catalog.close()

    def files(self) -> set[str]:
        return {str(path) for path in Path(self.root).rglob("*") if path.is_file()}

    def write(self, location: str, body: bytes) -> None:
        Path(location).parent.mkdir(parents=True, exist_ok=True)
        Path(location).write_bytes(body)

    def remove(self, location: str) -> None:
        Path(location).unlink()


class StoreHome(Home):
    """Each opens with a folder of copies of its own, as on another machine."""

    def __init__(self, folder: Path, store: ObjectStore, root: str, catalog: str) -> None:
        self.folder, self.root, self._store = folder, root, store
        self.shared = SharedLake(root, catalog, store.endpoint)
        self._fs = store.client()
        self._opened = 0

    @abstractmethod
    def _catalog(self, **properties: str) -> Catalog:
        """PyIceberg's own catalog, with these properties besides its address."""

    def open(self) -> Lake:
        self._opened += 1
        return Lake(self.folder / str(self._opened), self.shared)

    def iceberg(self, name: str) -> Table:
        catalog = self._catalog(
            **{
                "warehouse": self.root,
                "s3.endpoint": self._store.endpoint,
                "s3.access-key-id": self._store.key,
                "s3.secret-access-key": self._store.secret,
                "s3.region": "us-east-1",
            },
        )
        try:
            return catalog.load_table(name)
        finally:
            catalog.close()

    def files(self) -> set[str]:
        path = self.root.removeprefix("s3://")
        found = self._fs.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
        return {f"s3://{info.path}" for info in found if info.type == fs.FileType.File}

    def write(self, location: str, body: bytes) -> None:
        with self._fs.open_output_stream(location.removeprefix("s3://")) as stream:
            stream.write(body)

    def remove(self, location: str) -> None:
        self._fs.delete_file(location.removeprefix("s3://"))


class SharedHome(StoreHome):
    """With a catalog in PostgreSQL."""

    def __init__(self, folder: Path, database: Postgres, store: ObjectStore) -> None:
        name = f"t{uuid.uuid4().hex}"
        root = f"{store.make_bucket('lakes')}/{name}"
        super().__init__(folder, store, root, database.make_database(name))

    def _catalog(self, **properties: str) -> Catalog:
        uri = self.shared.catalog.replace("postgresql", "postgresql+psycopg", 1)
        return SqlCatalog("playhead", uri=uri, **properties)


class RestHome(StoreHome):
    """With a catalog that is a service: the object store's own."""

    properties_make_snapshots = True
    reads_metadata_files = False

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        # Of one bucket, as each takes volumes of its own: what the last home left goes first.
        super().__init__(folder, store, store.make_table_bucket("tables"), store.catalog)
        with self.open() as left:
            for name in left.tables():
                left.drop(name)

    def _catalog(self, **properties: str) -> Catalog:
        known = {**credential(self._store), **properties}
        return RestCatalog("playhead", uri=self.shared.catalog, **known)


def credential(store: ObjectStore) -> dict[str, str]:
    """What a store's own catalog wants to know of who asks, by PyIceberg's names."""
    return {
        "credential": f"{store.key}:{store.secret}",
        "oauth2-server-uri": f"{store.catalog}/v1/oauth/tokens",
    }
