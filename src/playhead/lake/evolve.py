"""Creates tables, and brings existing ones up to a newer schema."""

import logging

import pyarrow as pa
from pyiceberg.exceptions import TableAlreadyExistsError
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.sorting import NullOrder
from pyiceberg.transforms import IdentityTransform

from playhead import disk
from playhead.errors import LakeError
from playhead.lake.catalog import Catalog
from playhead.lake.reaching import unusable
from playhead.lake.schema import (
    Partition,
    checked_name,
    column_type,
    columns,
    iceberg_schema,
    partition_of,
    partition_spec,
    sort_columns,
    sort_order,
)

logger = logging.getLogger(__name__)

# Without these, a table written to every minute would gather metadata and manifests for ever.
_PROPERTIES = {
    TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
    TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: "50",
    TableProperties.MANIFEST_MERGE_ENABLED: "true",
    TableProperties.PARQUET_COMPRESSION: "zstd",
}


def create_table(
    catalog: Catalog,
    name: str,
    schema: pa.Schema,
    partition: Partition | None,
    sort: tuple[str, ...],
) -> None:
    """Create a table that does not exist.

    Raises:
        LakeError: a bad name, type, partition or sort column; or the disk is full or fails. The
            catalog may have the table all the same, so the sweep judges what was written.
        TableAlreadyExistsError: another process was faster.
    """
    namespace, table = checked_name(name)
    fields = iceberg_schema(name, schema)
    spec, order = partition_spec(name, fields, partition), sort_order(name, fields, sort)
    location = catalog.new_location(namespace, table)
    try:
        with catalog.explained():
            catalog.ensure_namespace(namespace)
            catalog.create_table(
                (namespace, table),
                fields,
                location=location,
                partition_spec=spec,
                sort_order=order,
                properties=_PROPERTIES,
            )
        catalog.note_checksum(name)
    except TableAlreadyExistsError:
        catalog.files.remove_folder(location)
        raise
    except OSError as error:
        raise unusable(
            f"{name}: cannot write metadata to {location}: {error}", error, disk.advice(error)
        ) from error


def evolve(
    name: str,
    table: Table,
    schema: pa.Schema,
    partition: Partition | None,
    sort: tuple[str, ...],
) -> None:
    """Bring a table up to `schema` in one commit; does nothing if it is.

    Raises:
        LakeError: the change would make stored rows unreadable or wrong.
        LakeConflictError: the table is not the current one any more.
    """
    current = partition_of(name, table.spec(), table.schema())
    if current != partition:
        raise LakeError(
            f"{name}: the table is cut by {_cut(current)}, not by {_cut(partition)}",
            hint="Drop the table and load it again to cut it in another way.",
        )
    added, relaxed = _differences(name, table, schema)
    known = set(table.schema().column_names) | {field.name for field in added}
    if missing := [column for column in sort if column not in known]:
        raise LakeError(f"{name}: the sort column {', '.join(missing)} is not in the schema")
    sorted_anew = sort_columns(table.sort_order(), table.schema()) != sort
    if not (added or relaxed or sorted_anew):
        return
    with table.transaction() as transaction:
        if added or relaxed:
            _change_columns(name, transaction, added, relaxed)
        if sorted_anew:
            _change_sort(transaction, sort)


def _cut(partition: Partition | None) -> str:
    return f"{partition.unit} of {partition.column}" if partition else "nothing"


def _differences(
    name: str, table: Table, schema: pa.Schema
) -> tuple[list[pa.Field], list[pa.Field]]:
    """Fields to add, and fields that are optional now."""
    known = {column.name: column for column in columns(name, table.schema())}
    added, relaxed = [], []
    for field in schema:
        kind = column_type(name, field.name, field.type)
        column = known.get(field.name)
        if column is None:
            added.append(field)
        elif column.type != kind:
            raise LakeError(
                f"{name}: column {field.name} is {column.type.duckdb}, not {kind.duckdb}",
                hint="Give the column of the new type another name.",
            )
        elif column.required and field.nullable:
            relaxed.append(field)
    new = [f for f in schema if not f.nullable and not (f.name in known and known[f.name].required)]
    if new:
        raise LakeError(
            f"{name}: {', '.join(f.name for f in new)} cannot become required: "
            "rows without a value may be stored already",
            hint="Make the column optional.",
        )
    return added, relaxed


def _change_columns(
    name: str, transaction: Transaction, added: list[pa.Field], relaxed: list[pa.Field]
) -> None:
    with transaction.update_schema() as update:
        for field in added:
            update.add_column(field.name, column_type(name, field.name, field.type).iceberg)
        for field in relaxed:
            update.make_column_optional(field.name)


def _change_sort(transaction: Transaction, sort: tuple[str, ...]) -> None:
    with transaction.update_sort_order() as update:
        for column in sort:
            update.asc(column, IdentityTransform(), NullOrder.NULLS_LAST)
