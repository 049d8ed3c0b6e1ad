"""What keeps a lake from growing for ever: old snapshots, and files that nothing refers to."""

import logging
import time
from collections.abc import Iterable
from datetime import timedelta
from posixpath import basename, dirname

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

from playhead.errors import LakeError
from playhead.lake.catalog import Catalog
from playhead.lake.commit import retry
from playhead.lake.files import Files
from playhead.lake.manifests import ManifestReader
from playhead.lake.schema import partition_of
from playhead.lake.storage import local_path

logger = logging.getLogger(__name__)


SNAPSHOT_LIMIT = 200
TRIM_AGE = timedelta(hours=1)


def trim(catalog: Catalog, reader: ManifestReader, name: str) -> None:
    """Expire what is older than `TRIM_AGE` in a table of more than `SNAPSHOT_LIMIT` snapshots.

    Every commit reads and writes the list of snapshots, so a table that is appended to every
    minute would get slower and slower. Called after a commit, which stands whatever happens
    here.
    """
    try:
        if len(catalog.load(name).metadata.snapshots) > SNAPSHOT_LIMIT:
            expire(catalog, reader, name, TRIM_AGE)
    except LakeError as error:
        logger.warning("%s: old snapshots stay for now: %s", name, error)


def expire(catalog: Catalog, reader: ManifestReader, name: str, older_than: timedelta) -> int:
    """Drop a table's snapshots that are older, except the current one, and their files.

    Returns:
        the number of files deleted.
    """
    cutoff_ms = int((time.time() - older_than.total_seconds()) * 1000)

    def attempt(table: Table) -> set[str]:
        kept_by_name = {ref.snapshot_id for ref in table.metadata.refs.values()}
        old: list[IcebergSnapshot] = []
        kept: list[IcebergSnapshot] = []
        for snapshot in table.metadata.snapshots:
            stays = snapshot.timestamp_ms >= cutoff_ms or snapshot.snapshot_id in kept_by_name
            (kept if stays else old).append(snapshot)
        if not old:
            return set()
        stale = _reach(reader, name, table, old, dropped=True)
        stale -= _reach(reader, name, table, kept, dropped=False)
        ids = [snapshot.snapshot_id for snapshot in old]
        table.maintenance.expire_snapshots().by_ids(ids).commit()
        return stale

    stale = retry(catalog, name, attempt, undo=_nothing)
    catalog.checksums.forget(stale)
    files = catalog.files
    stale = {path for path in stale if files.owns(path)}
    deleted = files.remove_all(stale)
    for folder in {dirname(path) for path in stale}:
        if basename(folder) not in ("data", "metadata"):
            files.remove_if_empty(folder)
    return deleted


def _nothing() -> None:
    """An expiry writes no files of its own."""


def _reach(
    reader: ManifestReader,
    name: str,
    table: Table,
    snapshots: Iterable[IcebergSnapshot],
    *,
    dropped: bool,
) -> set[str]:
    """Every file that the snapshots need; with `dropped`, also those that they dropped."""
    partition = partition_of(name, table.spec(), table.schema())
    found: set[str] = set()
    for snapshot in snapshots:
        found.add(local_path(snapshot.manifest_list))
        try:
            for manifest in reader.listed(name, snapshot, table.io):
                path = local_path(manifest.manifest_path)
                if path in found:
                    continue
                found.add(path)
                entries = reader.read(name, manifest, table, partition)
                found.update(file.path for file in entries.files)
                if dropped:
                    found.update(entries.dropped)
        except LakeError as error:
            if not dropped:
                raise
            # What a damaged snapshot alone needed is left to the sweep.
            logger.warning("%s: an old snapshot cannot be read: %s", name, error.message)
    return found


def sweep(catalog: Catalog, reader: ManifestReader, older_than: timedelta) -> int:
    """Delete what interrupted writers left: files that no table refers to.

    Candidates are listed before the tables are read, so that a file committed meanwhile is
    seen as referred to.

    Returns:
        the number of files deleted.
    """
    found = orphans(catalog, reader, time.time() - older_than.total_seconds())
    place = catalog.files
    kept_folders = {place.root}
    for name in catalog.names():
        location = local_path(catalog.load(name).location())
        kept_folders |= {location, f"{location}/data", f"{location}/metadata"}
    deleted = 0
    for folder, paths in found:
        deleted += place.remove_all(paths)
        if folder not in kept_folders:
            place.remove_if_empty(folder)
    known = catalog.checksums.all()
    catalog.checksums.forget([path for path in known if not place.exists(path)])
    if deleted:
        logger.info("swept %d files that no table refers to", deleted)
    return deleted


def orphans(
    catalog: Catalog, reader: ManifestReader, cutoff_s: float
) -> list[tuple[str, list[str]]]:
    """Folders, deepest first, each with its files that no table refers to and nobody touched
    after `cutoff_s` (seconds since 1970).
    """
    candidates = _old_files(catalog.files, cutoff_s)
    needed: set[str] = set()
    for name in catalog.names():
        needed |= _referred(reader, name, catalog.load(name))
    return [(folder, [p for p in files if p not in needed]) for folder, files in candidates]


def _referred(reader: ManifestReader, name: str, table: Table) -> set[str]:
    metadata = table.metadata
    found = _reach(reader, name, table, metadata.snapshots, dropped=False)
    found.add(local_path(table.metadata_location))
    found.update(local_path(entry.metadata_file) for entry in metadata.metadata_log)
    found.update(local_path(file.statistics_path) for file in metadata.statistics)
    found.update(local_path(file.statistics_path) for file in metadata.partition_statistics)
    return found


def _old_files(place: Files, cutoff_s: float) -> list[tuple[str, list[str]]]:
    """Folders, deepest first, with those of their files that nobody has touched since.

    A writer that is at work keeps adding files to its folder: as long as it does, the first
    ones of them are not old. Folders of metadata are shared, so there each file counts alone.
    """
    found = []
    for folder, files in place.walk():
        shared = basename(folder.path) == "metadata"
        if shared or folder.changed_s < cutoff_s:
            found.append((folder.path, [f.path for f in files if f.changed_s < cutoff_s]))
    return found
