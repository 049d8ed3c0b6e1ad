"""The lake: tables appended to, overwritten by the partition, and read as of one moment."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from posixpath import dirname
from types import TracebackType

import duckdb
import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from playhead.errors import LakeError
from playhead.lake import maintenance, parquet
from playhead.lake.catalog import Catalog
from playhead.lake.commit import checked_properties, commit_files, own_properties, retry
from playhead.lake.draft import Draft
from playhead.lake.evolve import create_table, evolve
from playhead.lake.filecatalog import FileCatalog
from playhead.lake.inspect import LakeInspector
from playhead.lake.manifests import ManifestReader
from playhead.lake.partition import to_date, to_value
from playhead.lake.schema import (
    Partition,
    arrow_schema,
    checked_name,
    columns,
    partition_of,
    sort_columns,
)
from playhead.lake.snapshot import LakeFile, Snapshot, Written

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedLake:
    """Tables that several machines and engines share.

    Attributes:
        warehouse: where their files are, such as "s3://bucket/lake".
        catalog: who names them: a database, such as "postgresql://user@host/database", or a
            service that speaks Iceberg's REST protocol, such as "https://host/api/catalog".
        endpoint: of a store other than Amazon's or Google's own; may be empty.
        cache_bytes: what this machine may keep of the files.
    """

    warehouse: str
    catalog: str
    endpoint: str = ""
    cache_bytes: int = 20 << 30


Guard = Callable[[Mapping[str, str]], bool]
Replaced = Callable[[Table, Sequence[DataFile]], list[LakeFile]]


class Lake:
    """Iceberg tables under one folder: `catalog.db` (SQLite) and `warehouse/`; or shared ones.

    Safe for several threads and processes at once. Writes are durable when they return and
    all or nothing: a process that dies leaves at most files that `sweep` deletes. Close it,
    or use it as a context manager, to let go of the catalog. A table of more than 200 snapshots
    loses those older than an hour by itself, with the files that only they needed.

    A name is `namespace.table`, such as `raw.playback`. Every method that takes one raises
    `LakeError` if there is no such table (except `create` and `exists`).

    Args:
        root: the folder; of a shared lake, it holds copies of the files that were read.
        shared: where the tables are, if several machines share them.
    """

    def __init__(self, root: Path, shared: SharedLake | None = None) -> None:
        root = root.absolute()
        if any(character in str(root) for character in "*?["):
            raise LakeError(
                f"the lake's folder {root} has a character of file patterns (* ? [) in its path",
                hint="Choose a folder without them: DuckDB would read the path as a pattern.",
            )
        self._catalog = _catalog(root, shared)
        self._files = self._catalog.files
        self._manifests = ManifestReader()

    def __enter__(self) -> "Lake":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the catalog; may be called twice."""
        self._catalog.close()

    def create(
        self,
        name: str,
        schema: pa.Schema,
        *,
        partition: Partition | None = None,
        sort: tuple[str, ...] = (),
    ) -> None:
        """Create a table, or bring an existing one up to this schema.

        An existing table gains the optional columns that it lacks, loses the requirement of
        columns that are optional now, and takes the new sort order for later files. Columns
        that `schema` leaves out stay. With nothing to change, nothing is written.

        Raises:
            LakeError: an unknown type, a changed type or partition, or a new required column.
        """
        if not self.exists(name):
            try:
                create_table(self._catalog, name, schema, partition, sort)
            except TableAlreadyExistsError:
                logger.debug("%s: another process created it first", name)
        retry(
            self._catalog,
            name,
            lambda table: evolve(name, table, schema, partition, sort),
            undo=_nothing,
        )

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""
        return self._catalog.metadata_file(name) is not None

    def tables(self, namespace: str | None = None) -> list[str]:
        """The names of all tables, or of one namespace's, in order."""
        names = self._catalog.names()
        return [n for n in names if namespace is None or n.split(".")[0] == namespace]

    def drop(self, name: str) -> None:
        """Delete a table and its files, under the feet of whoever still reads it."""
        path = self._catalog.metadata_file(name)
        try:
            with self._catalog.explained():
                self._catalog.drop_table(checked_name(name))
        except NoSuchTableError as error:
            raise LakeError(f"the lake has no table {name}") from error
        if path is not None:
            folder = dirname(dirname(path))
            self._catalog.checksums.forget_folder(folder)
            if self._files.owns(folder):
                self._files.remove_folder(folder)

    def schema(self, name: str) -> pa.Schema:
        """A table's columns, with their Iceberg field ids as metadata."""
        return arrow_schema(columns(name, self._catalog.load(name).schema()))

    def append(
        self,
        name: str,
        con: duckdb.DuckDBPyConnection,
        query: str,
        *,
        properties: Mapping[str, str] | None = None,
        guard: Guard | None = None,
    ) -> Written:
        """Add a query's rows in ONE snapshot.

        Columns are matched by name and cast to the table's types; optional ones that the
        query lacks are NULL. A query without rows commits nothing unless there are
        `properties`.

        Args:
            con: the caller's session: `query` may use whatever is registered there.
            properties: set on the table and written into the snapshot's summary, in the same
                commit.
            guard: asked with the table's properties before the query is run, and again on a
                fresh read before every attempt to commit. It must have no effects. False:
                nothing is committed, the new files are deleted.

        Raises:
            LakeError: the query fails, has a column that the table lacks, or rows without a
                partition value or a required one.
            LakeConflictError: other writers won every attempt; nothing was kept.
        """
        given = checked_properties(name, properties)
        return self._write(name, con, query, self._nothing_replaced, given, guard)

    def overwrite(
        self,
        name: str,
        con: duckdb.DuckDBPyConnection,
        query: str,
        *,
        partitions: Sequence[date] | None = None,
        properties: Mapping[str, str] | None = None,
        guard: Guard | None = None,
    ) -> Written:
        """Replace whole partitions by a query's rows in ONE snapshot.

        Rows that others add to these partitions before the commit are replaced too: a query
        that reads the table itself needs a guard.

        Args:
            partitions: days, or firsts of months; one that gets no row becomes empty. None
                replaces the whole table.
            con, properties, guard: as for `append`.

        Raises:
            LakeError: as for `append`; a row outside `partitions`; a date that is none.
            LakeConflictError: other writers won every attempt; nothing was kept.
        """
        given = checked_properties(name, properties)
        return self._write(name, con, query, self._replaced(name, partitions), given, guard)

    def _write(
        self,
        name: str,
        con: duckdb.DuckDBPyConnection,
        query: str,
        replaced: Replaced,
        properties: Mapping[str, str],
        guard: Guard | None,
    ) -> Written:
        """Write the files, then commit them; `replaced` names the files that they replace."""
        table = self._catalog.load(name)
        if guard is not None and not guard(own_properties(table)):
            return Written(skipped=True)
        replaced(table, ())
        draft = Draft(table, _layout(name, table), self._files)
        draft.add(con, query)
        return self._commit(name, draft, replaced, properties, guard)

    def draft(self, name: str) -> Draft:
        """New files for a table, written by one query after another; see `publish`."""
        table = self._catalog.load(name)
        return Draft(table, _layout(name, table), self._files)

    def publish(
        self,
        name: str,
        draft: Draft,
        *,
        partitions: Sequence[date] | None = (),
        upto: Mapping[str, int] | None = None,
        properties: Mapping[str, str] | None = None,
        guard: Guard | None = None,
    ) -> Written:
        """Commit a draft of this table in ONE snapshot; a draft can be published once.

        Args:
            partitions: those that the draft replaces, as for `overwrite`: none by default,
                and with None the whole table.
            upto: the draft replaces instead the files all of whose rows have at most this value
                in a column of `snapshot.BOUNDED`, by its name.
            properties, guard: as for `append`, but the guard is asked at the commit alone.

        Raises:
            LakeError: a row outside `partitions` where some are named; a date that is none.
            LakeConflictError: other writers won every attempt; nothing was kept.
        """
        given = checked_properties(name, properties)
        replaced = self._nothing_replaced if partitions == () else self._replaced(name, partitions)
        if upto is not None:
            replaced = self._replaced_upto(name, upto)
        return self._commit(name, draft, replaced, given, guard)

    @staticmethod
    def _nothing_replaced(_table: Table, _added: Sequence[DataFile]) -> list[LakeFile]:
        return []

    def _replaced(self, name: str, partitions: Sequence[date] | None) -> Replaced:
        """What names the files that a write replaces: of some partitions, or of all."""
        named = None if partitions is None else frozenset(partitions)

        def replaced(table: Table, added: Sequence[DataFile]) -> list[LakeFile]:
            files = self._manifests.files(name, table, _partition(name, table))
            if named is None:
                return list(files)
            _check_named(name, _partition(name, table), named, added)
            return [file for file in files if file.partition in named]

        return replaced

    def _replaced_upto(self, name: str, bounds: Mapping[str, int]) -> Replaced:
        """What names the files that hold nothing beyond some values."""

        def replaced(table: Table, _added: Sequence[DataFile]) -> list[LakeFile]:
            known = columns(name, table.schema())
            ids = {column.id: bounds[column.name] for column in known if column.name in bounds}
            files = self._manifests.files(name, table, _partition(name, table))
            return [file for file in files if not file.may_exceed(ids)]

        return replaced

    def _commit(
        self,
        name: str,
        draft: Draft,
        replaced: Replaced,
        properties: Mapping[str, str],
        guard: Guard | None,
    ) -> Written:
        """Commit a draft's files, or delete them."""
        added, folders = draft.files, draft.release()

        def undo() -> None:
            for folder in folders:
                self._files.remove_folder(folder)

        def attempt(fresh: Table) -> Written:
            if fresh.metadata.table_uuid != draft.uuid:
                raise LakeError(f"{name}: the table was dropped while rows were written to it")
            if guard is not None and not guard(own_properties(fresh)):
                return Written(skipped=True)
            removed = replaced(fresh, added)
            if not (added or removed or properties):
                return Written()
            snapshot = commit_files(fresh, draft.layout.partition, added, removed, properties)
            return _written(draft.layout.partition, added, snapshot)

        written = retry(self._catalog, name, attempt, undo=undo)
        if written.skipped:
            undo()
        else:
            maintenance.trim(self._catalog, self._manifests, name)
        return written

    def properties(self, name: str) -> dict[str, str]:
        """What `set_properties`, `append` and `overwrite` have set, without Iceberg's own."""
        return own_properties(self._catalog.load(name))

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set some properties and leave the others.

        Makes no snapshot, but where the catalog is a service, which compares nothing else.
        """
        given = checked_properties(name, properties)

        def attempt(table: Table) -> None:
            if not self._catalog.compares_properties:
                commit_files(table, None, (), (), given)
                return
            with table.transaction() as transaction:
                transaction.set_properties(given)

        if given:
            retry(self._catalog, name, attempt, undo=_nothing)

    def snapshot(self, name: str) -> Snapshot:
        """The table as it is now: files, columns and properties of one metadata file.

        Raises:
            LakeError: metadata is missing or damaged (the file is named).
        """
        table = self._catalog.load(name)
        current = table.current_snapshot()
        return Snapshot(
            name=name,
            id=None if current is None else current.snapshot_id,
            properties=own_properties(table),
            files=self._manifests.files(name, table, _partition(name, table)),
            columns=columns(name, table.schema()),
            place=self._files,
            changed_at=None if current is None else _time(current.timestamp_ms),
        )

    def scan(
        self,
        name: str,
        *,
        partitions: Collection[date] | None = None,
        columns: Collection[str] | None = None,
    ) -> str:
        """SQL for a FROM clause in DuckDB that reads the table as it is now.

        See `Snapshot.scan`; take a `snapshot` where several reads must agree.
        """
        return self.snapshot(name).scan(partitions=partitions, columns=columns)

    def partitions(self, name: str) -> list[date]:
        """The days, or firsts of months, that have rows, in order."""
        return self.snapshot(name).partitions

    def rows(self, name: str) -> int:
        """The number of rows, from metadata alone."""
        return self.snapshot(name).rows

    @property
    def inspector(self) -> LakeInspector:
        """Looks at every file of the lake, damaged or not."""
        return LakeInspector(self._catalog, self._manifests)

    def discard(self, paths: Sequence[str]) -> None:
        """Delete and forget metadata files that the tables do not need as they are now."""
        self._catalog.checksums.forget(paths)
        self._files.remove_all(paths)

    def expire(self, name: str, *, older_than: timedelta) -> int:
        """Drop snapshots that are older than this, and the files that only they needed.

        The current snapshot always stays. Whoever still reads a dropped one fails, so
        `older_than` must exceed the longest query.

        Returns:
            the number of files deleted, data and metadata.
        """
        return maintenance.expire(self._catalog, self._manifests, name, older_than)

    def sweep(self, *, older_than: timedelta) -> int:
        """Delete files that no table refers to: what killed writers and dropped tables left.

        `older_than` must exceed the time that a writer takes from one of its files to the
        next, and from its last one to its commit.

        Returns:
            the number of files deleted.
        """
        return maintenance.sweep(self._catalog, self._manifests, older_than)


def _catalog(root: Path, shared: SharedLake | None) -> Catalog:
    if shared is None:
        return FileCatalog(root)
    # They take a second to import, and most workspaces need neither.
    from playhead.lake.objects import ObjectFiles

    files = ObjectFiles(
        shared.warehouse, root / "files", shared.cache_bytes, endpoint=shared.endpoint
    )
    if shared.catalog.startswith(("http://", "https://")):
        from playhead.lake.restcatalog import RestCatalog

        return RestCatalog(files, shared.catalog)
    from playhead.lake.sharedcatalog import SharedCatalog

    return SharedCatalog(files, shared.catalog)


def _nothing() -> None:
    """A commit of metadata alone has no files of its own to delete."""


def _time(milliseconds: int) -> datetime:
    """A time of Iceberg's, in milliseconds since 1970, as naive UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)


def _partition(name: str, table: Table) -> Partition | None:
    return partition_of(name, table.spec(), table.schema())


def _layout(name: str, table: Table) -> parquet.Layout:
    order = table.sort_order()
    return parquet.Layout(
        name=name,
        columns=columns(name, table.schema()),
        partition=_partition(name, table),
        spec_id=table.spec().spec_id,
        sort=sort_columns(order, table.schema()),
        sort_order_id=order.order_id if order.fields else None,
    )


def _check_named(
    name: str, partition: Partition | None, named: frozenset[date], added: Sequence[DataFile]
) -> None:
    """Refuse dates that name no partition, and rows of partitions that are not named."""
    if partition is None:
        raise LakeError(
            f"{name}: the table has no partitions to overwrite",
            hint="Leave `partitions` out to replace the whole table.",
        )
    for day in named:
        to_value(name, partition, day)
    strays = {to_date(partition, entry.partition[0]) for entry in added} - named
    if strays:
        days = ", ".join(str(day) for day in sorted(strays)[:5])
        raise LakeError(
            f"{name}: the query has rows of {len(strays)} {partition.unit}s that are not among "
            f"the {len(named)} to overwrite: {days}",
            hint="Name these partitions too, or leave their rows out.",
        )


def _written(partition: Partition | None, added: Sequence[DataFile], snapshot: int) -> Written:
    days = {to_date(partition, entry.partition[0]) for entry in added} if partition else set()
    return Written(
        rows=sum(entry.record_count for entry in added),
        files=len(added),
        bytes=sum(entry.file_size_in_bytes for entry in added),
        snapshot_id=snapshot,
        partitions=tuple(sorted(days)),
    )
