"""Reads what a snapshot is made of; manifests never change, so each is read once."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

from playhead.errors import LakeError
from playhead.lake.partition import to_date
from playhead.lake.reaching import unusable
from playhead.lake.schema import Partition
from playhead.lake.snapshot import BOUNDED, LakeFile
from playhead.lake.storage import local_path

CACHED_FILES = 200_000
_CACHED_LISTS = 256


@dataclass(frozen=True)
class Manifest:
    """The entries of one manifest: files that are live by it, and files that it drops."""

    files: tuple[LakeFile, ...]
    dropped: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.files) + len(self.dropped) + 1


class ManifestReader:
    """Reads manifests; keeps those read last, up to `capacity` files (0.9 kB each)."""

    def __init__(self, capacity: int = CACHED_FILES) -> None:
        self._capacity = capacity
        self._cached: OrderedDict[str, Manifest] = OrderedDict()
        self._held = 0
        self._lists: OrderedDict[str, list[ManifestFile]] = OrderedDict()
        self._lock = Lock()

    def files(self, name: str, table: Table, partition: Partition | None) -> tuple[LakeFile, ...]:
        """The live files of the table's current snapshot.

        Raises:
            LakeError: a manifest cannot be read, or another engine left row-level deletes.
        """
        snapshot = table.current_snapshot()
        if snapshot is None:
            return ()
        found: list[LakeFile] = []
        for manifest in self.listed(name, snapshot, table.io):
            if manifest.content != ManifestContent.DATA:
                raise LakeError(
                    f"{name}: snapshot {snapshot.snapshot_id} has row-level deletes, "
                    "which the lake does not read",
                    hint="Rewrite the table's files with the engine that deleted the rows.",
                )
            found += self.read(name, manifest, table, partition).files
        return tuple(found)

    def listed(self, name: str, snapshot: IcebergSnapshot, files: FileIO) -> list[ManifestFile]:
        """The manifests of a snapshot, which never change; those asked for last are kept."""
        path = snapshot.manifest_list
        with self._lock:
            if (known := self._lists.get(path)) is not None:
                self._lists.move_to_end(path)
                return known
        found = self.manifests(name, snapshot, files)
        with self._lock:
            self._lists[path] = found
            while len(self._lists) > _CACHED_LISTS:
                self._lists.popitem(last=False)
        return found

    def manifests(self, name: str, snapshot: IcebergSnapshot, files: FileIO) -> list[ManifestFile]:
        """The manifests of a snapshot.

        Raises:
            LakeError: the manifest list cannot be read.
        """
        try:
            return snapshot.manifests(files)
        except LakeError as error:
            raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
        except Exception as error:
            raise _unreadable(name, "manifest list", snapshot.manifest_list, error) from error

    def read(
        self, name: str, manifest: ManifestFile, table: Table, partition: Partition | None
    ) -> Manifest:
        """One manifest's entries.

        Raises:
            LakeError: the manifest cannot be read.
        """
        path = manifest.manifest_path
        with self._lock:
            if (known := self._cached.get(path)) is not None:
                self._cached.move_to_end(path)
                return known
        try:
            read = _read(manifest, table, partition)
        except LakeError as error:
            raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
        except Exception as error:
            raise _unreadable(name, "manifest", path, error) from error
        self._keep(path, read)
        return read

    def _keep(self, path: str, manifest: Manifest) -> None:
        with self._lock:
            if path not in self._cached:
                self._held += manifest.size
                self._cached[path] = manifest
            while self._held > self._capacity and len(self._cached) > 1:
                self._held -= self._cached.popitem(last=False)[1].size


def _unreadable(name: str, what: str, path: str, error: Exception) -> LakeError:
    return unusable(
        f"{name}: the {what} {local_path(path)} cannot be read: {type(error).__name__}: {error}",
        error,
        "Was it deleted or damaged, or the workspace moved? Restore it from a backup.",
    )


def _read(manifest: ManifestFile, table: Table, partition: Partition | None) -> Manifest:
    live: list[LakeFile] = []
    dropped: list[str] = []
    bounded = [field.field_id for field in table.schema().fields if field.name in BOUNDED]
    for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
        data = entry.data_file
        path = local_path(data.file_path)
        if entry.status == ManifestEntryStatus.DELETED:
            dropped.append(path)
            continue
        day = None if partition is None else to_date(partition, data.partition[0])
        most = _most(data, bounded)
        live.append(LakeFile(path, day, data.record_count, data.file_size_in_bytes, most))
    return Manifest(tuple(live), tuple(dropped))


def _most(data: DataFile, columns: Iterable[int]) -> dict[int, int | None]:
    """The greatest values of whole-number columns (Iceberg spec, appendix D: little endian)."""
    upper, nulls = data.upper_bounds or {}, data.null_value_counts or {}
    found: dict[int, int | None] = {}
    for column in columns:
        if column in upper:
            found[column] = int.from_bytes(upper[column], "little", signed=True)
        elif nulls.get(column) == data.record_count:
            found[column] = None
    return found
