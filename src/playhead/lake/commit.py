"""Commits: one snapshot with its properties, tried again on fresh metadata, undone if it fails."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from posixpath import basename
from typing import TypeVar

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate
from pyiceberg.typedef import Record

from playhead import disk
from playhead.errors import LakeConflictError, LakeError
from playhead.lake.catalog import Catalog
from playhead.lake.partition import to_value
from playhead.lake.reaching import unusable
from playhead.lake.schema import Partition
from playhead.lake.snapshot import LakeFile
from playhead.lake.storage import TrackedIO

logger = logging.getLogger(__name__)

ATTEMPTS = 30
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 1.0

# Iceberg gives these a meaning, in a table's properties or in a snapshot's summary.
_RESERVED = (
    *("write.", "commit.", "read.", "history.", "schema.", "gc.", "format-version", "owner"),
    *(
        "operation",
        "added-",
        "removed-",
        "deleted-",
        "total-",
        "changed-",
        "partitions.",
        "partition-",
    ),
)

T = TypeVar("T")


class _Transaction(Transaction):
    """PyIceberg's, which copies all metadata at each of twenty looks; this does so per change."""

    _seen: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        base, updates = self._table.metadata, self._updates
        if self._seen is None or self._seen[0] is not base or self._seen[1] is not updates:
            self._seen = (base, updates, super().table_metadata)
        return self._seen[2]


def own_properties(table: Table) -> dict[str, str]:
    """A table's properties without those that steer Iceberg itself."""
    return {k: v for k, v in table.properties.items() if not k.startswith(_RESERVED)}


def checked_properties(name: str, properties: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of the properties to set.

    Raises:
        LakeError: a key that Iceberg uses itself, or a value that is not a string.
    """
    given = dict(properties or {})
    for key, value in given.items():
        if key.startswith(_RESERVED):
            raise LakeError(
                f"{name}: the property {key!r} belongs to Iceberg",
                hint=f"Choose a key that starts with none of {', '.join(_RESERVED)}.",
            )
        if not isinstance(value, str):
            raise LakeError(f"{name}: the property {key!r} is {value!r}, not a string")
    return given


def retry(
    catalog: Catalog, name: str, attempt: Callable[[Table], T], undo: Callable[[], None]
) -> T:
    """Call `attempt` with the table as it is now, again after every conflict.

    Args:
        undo: called before an error leaves, once it is certain that nothing was committed.

    Raises:
        LakeConflictError: every attempt met another writer's commit.
    """
    for number in range(ATTEMPTS):
        table: Table | None = None
        try:
            table = catalog.load(name)
            return attempt(table)
        except LakeConflictError as error:
            _discard(table)
            logger.debug("%s: attempt %d: %s", name, number + 1, error)
        except BaseException as error:
            # Files of a commit that may yet count stay until the sweep finds that nothing refers
            # to them.
            undecided = catalog.is_undecided(error)
            if table is None or not (undecided or _landed(catalog, name, table)):
                _discard(table)
                undo()
            raise
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number)
        time.sleep(random.uniform(longest / 2, longest))  # noqa: S311
    undo()
    raise LakeConflictError(
        f"{name}: other writers committed first in each of {ATTEMPTS} attempts",
        hint="Nothing was kept. Try again when fewer processes write to this table.",
    )


def _discard(table: Table | None) -> None:
    if table is not None and isinstance(table.io, TrackedIO):
        table.io.discard()


def _landed(catalog: Catalog, name: str, table: Table) -> bool:
    """Whether the commit took place although it ended in an error (such as Ctrl-C)."""
    created = table.io.created if isinstance(table.io, TrackedIO) else []
    # A catalog that is a service writes metadata files itself: of its commits, lists are known.
    written = {path for path in created if _is_sign(basename(path))}
    if not written:
        return False
    try:
        current = catalog.load(name)
    except LakeError:
        logger.warning("%s: cannot tell whether a commit landed; sweep() will clean up", name)
        return True
    log = {entry.metadata_file for entry in current.metadata.metadata_log}
    lists = {snapshot.manifest_list for snapshot in current.metadata.snapshots}
    return not written.isdisjoint({current.metadata_location, *log, *lists})


def _is_sign(name: str) -> bool:
    """Whether a file is referred to only if a commit landed, and once one did."""
    return name.endswith(".metadata.json") or name.startswith("snap-")


def commit_files(
    table: Table,
    partition: Partition | None,
    added: Sequence[DataFile],
    removed: Iterable[LakeFile],
    properties: Mapping[str, str],
) -> int:
    """Commit ONE snapshot: files in, files out, properties in its summary and on the table.

    Returns:
        the new snapshot's id.

    Raises:
        LakeConflictError: the table is not the current one any more.
        LakeError: metadata cannot be written.
    """
    try:
        return _commit_files(table, partition, added, removed, properties)
    except OSError as error:
        raise unusable(
            f"{'.'.join(table.name())}: cannot write metadata: {error}",
            error,
            disk.advice(error) or "Nothing was kept.",
        ) from error


def _commit_files(
    table: Table,
    partition: Partition | None,
    added: Sequence[DataFile],
    removed: Iterable[LakeFile],
    properties: Mapping[str, str],
) -> int:
    gone = [_entry(table, partition, file) for file in removed]
    transaction = _Transaction(table)
    update = transaction.update_snapshot(snapshot_properties=dict(properties))
    producer = update.overwrite() if gone else update.merge_append()
    for entry in gone:
        producer.delete_data_file(entry)
    for entry in added:
        producer.append_data_file(entry)
    producer.commit()
    if properties:
        transaction.set_properties(dict(properties))
    transaction.commit_transaction()
    return producer.snapshot_id


def _entry(table: Table, partition: Partition | None, file: LakeFile) -> DataFile:
    """The manifest entry of a file to drop: PyIceberg finds it by its path."""
    value = None
    if partition is not None and file.partition is not None:
        value = to_value(".".join(table.name()), partition, file.partition)
    entry = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat.PARQUET,
        partition=Record() if value is None else Record(value),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
    )
    entry.spec_id = table.spec().spec_id
    return entry
