"""Where the lakes of tests are: a folder, or an object store with a catalog in PostgreSQL."""

import uuid
from abc import ABC, abstractmethod
from pathlib import Path

from pyarrow import fs
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from playhead.cluster.postgres import Postgres
from playhead.cluster.store import ObjectStore
from playhead.lake import Lake, SharedLake


class Home(ABC):
    """A place for one lake; what is there is named by its location."""

    root: str
    """Below it lie the tables."""

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


class SharedHome(Home):
    """Each opens with a folder of copies of its own, as on another machine."""

    def __init__(self, folder: Path, database: Postgres, store: ObjectStore) -> None:
        self.folder, self._database, self._store = folder, database, store
        name = f"t{uuid.uuid4().hex}"
        self.root = f"{store.make_bucket('lakes')}/{name}"
        self.shared = SharedLake(self.root, database.make_database(name), store.endpoint)
        self._fs = store.client()
        self._opened = 0

    def open(self) -> Lake:
        self._opened += 1
        return Lake(self.folder / str(self._opened), self.shared)

    def iceberg(self, name: str) -> Table:
        catalog = SqlCatalog(
            "playhead",
            **{
                "uri": self.shared.catalog.replace("postgresql", "postgresql+psycopg", 1),
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
