"""Looks at every file of a lake: metadata by the catalog's checksums, data by name and pages."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from posixpath import dirname

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from playhead.errors import LakeError
from playhead.lake.catalog import Catalog
from playhead.lake.checksums import Checksum
from playhead.lake.damage import parquet_damage
from playhead.lake.maintenance import orphans
from playhead.lake.manifests import ManifestReader
from playhead.lake.schema import partition_of
from playhead.lake.snapshot import LakeFile
from playhead.lake.storage import local_path

_AT_ONCE = 64
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that is not what was written.

    Attributes:
        what: what is wrong, with the bytes where that is known.
        file: the entry of a data file; None for metadata.
        needed: the table cannot be read without it as it is now.
    """

    path: str
    what: str
    file: LakeFile | None = None
    needed: bool = True


class LakeInspector:
    """Reads a lake's files whether its tables can be read or not; changes nothing.

    Args:
        catalog, manifests: of the lake.
    """

    def __init__(self, catalog: Catalog, manifests: ManifestReader) -> None:
        self._catalog, self._place = catalog, catalog.files
        self._manifests = manifests

    def catalog_problems(self) -> list[str]:
        """What is wrong with the catalog, in words."""
        return self._catalog.damage()

    def metadata(self, name: str) -> list[BadFile]:
        """Damaged metadata files, manifest lists and manifests: those that the table needs first,
        or, if these are sound, those of its older versions and snapshots.
        """
        for _ in range(_ATTEMPTS):
            location = self._catalog.metadata_file(name)
            if location is None:
                return []
            found = self._metadata(name, location)
            # A commit meanwhile deletes metadata that was there a moment ago.
            if not found or location == self._catalog.metadata_file(name):
                break
        return found

    def _metadata(self, name: str, location: str) -> list[BadFile]:
        try:
            table = self._catalog.load(name)
            self.files(name)
            current = self._files_of(name, table, current=True)
        except LakeError as error:
            return [BadFile(location, error.message)]
        if found := self._damaged([location, *current]):
            return found
        # Those that are gone are missed by `lost_metadata`, as long as somebody has to know.
        older = [local_path(entry.metadata_file) for entry in table.metadata.metadata_log]
        older = [path for path in older if self._place.exists(path)]
        try:
            older += self._files_of(name, table, current=False)
        except LakeError as error:
            folder = dirname(location)
            return [BadFile(folder, f"an older snapshot: {error.message}", needed=False)]
        return [BadFile(bad.path, bad.what, needed=False) for bad in self._damaged(older)]

    def _files_of(self, name: str, table: Table, *, current: bool) -> list[str]:
        """Manifest lists and manifests of the current snapshot, or of all older ones."""
        now = table.current_snapshot()
        wanted = [s for s in table.metadata.snapshots if (s == now) == current]
        lists = [local_path(snapshot.manifest_list) for snapshot in wanted]
        manifests = {
            local_path(manifest.manifest_path)
            for snapshot in wanted
            for manifest in self._manifests.manifests(name, snapshot, table.io)
        }
        return [*lists, *sorted(manifests)]

    def _damaged(self, paths: Sequence[str]) -> list[BadFile]:
        known = self._catalog.checksums.all()
        wrong = self._place.damage({path: known[path] for path in paths if path in known})
        rest = [path for path in paths if path not in wrong]
        lost = {path: "is missing" for path in rest if not self._place.exists(path)}
        return [BadFile(path, what) for path, what in sorted({**wrong, **lost}.items())]

    def files(self, name: str) -> tuple[LakeFile, ...]:
        """The data files of a table's current snapshot.

        Raises:
            LakeError: metadata is damaged.
        """
        table = self._catalog.load(name)
        partition = partition_of(name, table.spec(), table.schema())
        return self._manifests.files(name, table, partition)

    def older_files(self, name: str) -> tuple[LakeFile, ...]:
        """The data files that only older snapshots of a table need.

        Raises:
            LakeError: metadata is damaged.
        """
        table = self._catalog.load(name)
        partition = partition_of(name, table.spec(), table.schema())
        current = {file.path for file in self.files(name)}
        found = {
            file.path: file
            for snapshot in table.metadata.snapshots
            for manifest in self._manifests.manifests(name, snapshot, table.io)
            for file in self._manifests.read(name, manifest, table, partition).files
            if file.path not in current
        }
        return tuple(found.values())

    def lost_metadata(self) -> list[str]:
        """Metadata files that the catalog knows, and that are gone."""
        known = self._catalog.checksums.all()
        lost = {path for path in known if not self._place.exists(path)}
        # Writers forget files that they delete; what is still known now is lost.
        return sorted(lost & set(self._catalog.checksums.all())) if lost else []

    def data(
        self,
        files: Sequence[LakeFile],
        *,
        quick: bool = False,
        on_file: Callable[[int], None] | None = None,
    ) -> Iterator[BadFile]:
        """The data files that are damaged, and where.

        Args:
            quick: look at presence and size only.
            on_file: told how many files are done.
        """
        rest, done = iter(files), 0
        while some := {file.path: file for file in islice(rest, _AT_ONCE)}:
            wanted = {path: file.checksum for path, file in some.items()}
            wrong = self._place.damage(wanted, quick=quick)
            for path, file in some.items():
                if path in wrong:
                    yield BadFile(path, self._located(path, wrong[path]), file)
                elif not quick and wanted[path].crc32 is None and (what := self._foreign(file)):
                    yield BadFile(path, what, file)
            done += len(some)
            if on_file:
                on_file(done)

    def orphans(self, *, older_than: timedelta) -> list[str]:
        """Files that no table refers to, which `sweep` would delete.

        Raises:
            LakeError: a table's metadata is damaged, so that nobody knows.
        """
        found = orphans(self._catalog, self._manifests, time.time() - older_than.total_seconds())
        return [path for _, paths in found for path in paths]

    def _located(self, path: str, what: str) -> str:
        if not self._place.exists(path):
            return what
        here, _ = self._place.local({path: Checksum(0)})
        places = parquet_damage(here[path])
        return f"{what}: {'; '.join(places)}" if places else what

    def _foreign(self, file: LakeFile) -> str:
        """What is wrong with a file of another program, as far as its pages and rows tell."""
        here, wrong = self._place.local({file.path: file.checksum})
        if wrong:
            return wrong[file.path]
        path = here[file.path]
        if places := parquet_damage(path):
            return "; ".join(places)
        try:
            rows = pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError) as error:
            return str(error)
        return "" if rows == file.rows else f"has {rows} rows, not {file.rows}"
