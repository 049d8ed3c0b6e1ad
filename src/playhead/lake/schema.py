"""One table of column types: Arrow at the seam, Iceberg in the catalog, DuckDB in the SQL."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import (
    UNSORTED_SORT_ORDER,
    NullOrder,
    SortDirection,
    SortField,
    SortOrder,
)
from pyiceberg.transforms import DayTransform, IdentityTransform, MonthTransform, Transform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)

from playhead.errors import LakeError

FIELD_ID_KEY = b"PARQUET:field_id"
PARTITION_FIELD_ID = 1000
_SUPPORTED = "string, int32, int64, decimal128, date32, timestamp[us], bool, double, binary"


@dataclass(frozen=True)
class Partition:
    """Cuts a table by day or month of a timestamp or date column (in UTC)."""

    column: str
    unit: Literal["day", "month"]

    @property
    def name(self) -> str:
        """The partition field's name in Iceberg, such as `event_time_day`."""
        return f"{self.column}_{self.unit}"


@dataclass(frozen=True)
class ColumnType:
    """One type in the three systems."""

    arrow: pa.DataType
    iceberg: IcebergType
    duckdb: str


@dataclass(frozen=True)
class Column:
    """A column of a table as Iceberg knows it: the id is what files are read by."""

    id: int
    name: str
    type: ColumnType
    required: bool

    @property
    def field(self) -> pa.Field:
        """The Arrow field, carrying the Iceberg field id that Parquet files store."""
        return pa.field(
            self.name,
            self.type.arrow,
            nullable=not self.required,
            metadata={FIELD_ID_KEY: str(self.id).encode()},
        )


_SIMPLE = (
    ColumnType(pa.string(), StringType(), "VARCHAR"),
    ColumnType(pa.int32(), IntegerType(), "INTEGER"),
    ColumnType(pa.int64(), LongType(), "BIGINT"),
    ColumnType(pa.date32(), DateType(), "DATE"),
    ColumnType(pa.timestamp("us"), TimestampType(), "TIMESTAMP"),
    ColumnType(pa.bool_(), BooleanType(), "BOOLEAN"),
    ColumnType(pa.float64(), DoubleType(), "DOUBLE"),
    ColumnType(pa.binary(), BinaryType(), "BLOB"),
)
_BY_ARROW = {
    **{t.arrow: t for t in _SIMPLE},
    pa.large_string(): _SIMPLE[0],
    pa.large_binary(): _SIMPLE[-1],
}
_BY_ICEBERG = {str(t.iceberg): t for t in _SIMPLE}


def _decimal(precision: int, scale: int) -> ColumnType:
    return ColumnType(
        pa.decimal128(precision, scale),
        DecimalType(precision, scale),
        f"DECIMAL({precision},{scale})",
    )


def column_type(table: str, column: str, arrow: pa.DataType) -> ColumnType:
    """The type of an Arrow field.

    Raises:
        LakeError: tables of the lake do not hold this type.
    """
    if pa.types.is_decimal128(arrow):
        return _decimal(arrow.precision, arrow.scale)
    if (known := _BY_ARROW.get(arrow)) is None:
        raise LakeError(
            f"{table}: column {column} has the type {arrow}, which the lake does not store",
            hint=f"Use one of {_SUPPORTED}.",
        )
    return known


def columns(table: str, schema: Schema) -> tuple[Column, ...]:
    """The columns of an Iceberg schema, in order.

    Raises:
        LakeError: another program gave the table a type that the lake does not read.
    """
    return tuple(_column(table, field) for field in schema.fields)


def _column(table: str, field: NestedField) -> Column:
    iceberg = field.field_type
    if isinstance(iceberg, DecimalType):
        kind = _decimal(iceberg.precision, iceberg.scale)
    elif (known := _BY_ICEBERG.get(str(iceberg))) is not None:
        kind = known
    else:
        raise LakeError(
            f"{table}: column {field.name} has the Iceberg type {iceberg}, "
            "which the lake does not read",
            hint=f"Use one of {_SUPPORTED}.",
        )
    return Column(field.field_id, field.name, kind, field.required)


def arrow_schema(fields: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema of the columns, with their Iceberg field ids as metadata."""
    return pa.schema([column.field for column in fields])


def iceberg_schema(table: str, schema: pa.Schema) -> Schema:
    """The Iceberg schema of a new table: ids from 1, in order.

    Raises:
        LakeError: no column, two of one name, or a type that the lake does not store.
    """
    names = schema.names
    if not names or len({name.lower() for name in names}) != len(names):
        raise LakeError(f"{table}: a table needs columns with distinct names, got {names}")
    fields = [
        NestedField(
            i, field.name, column_type(table, field.name, field.type).iceberg, not field.nullable
        )
        for i, field in enumerate(schema, start=1)
    ]
    return Schema(*fields)


def _source_id(table: str, schema: Schema, column: str, use: str) -> int:
    for field in schema.fields:
        if field.name == column:
            return field.field_id
    raise LakeError(f"{table}: the {use} column {column} is not in the schema")


def partition_spec(table: str, schema: Schema, partition: Partition | None) -> PartitionSpec:
    """The Iceberg partition spec of a new table.

    Raises:
        LakeError: the column is absent, or is no timestamp or date.
    """
    if partition is None:
        return UNPARTITIONED_PARTITION_SPEC
    source = _source_id(table, schema, partition.column, "partition")
    kind = schema.find_field(source).field_type
    if not isinstance(kind, TimestampType | DateType):
        raise LakeError(
            f"{table}: cannot partition by {partition.unit} of {partition.column}, a {kind}",
            hint="Partition by a timestamp or date column.",
        )
    transform: Transform[Any, int] = DayTransform() if partition.unit == "day" else MonthTransform()
    return PartitionSpec(PartitionField(source, PARTITION_FIELD_ID, transform, partition.name))


def partition_of(table: str, spec: PartitionSpec, schema: Schema) -> Partition | None:
    """What a table is cut by.

    Raises:
        LakeError: another program cut the table in a way that the lake does not write.
    """
    if not spec.fields:
        return None
    field = spec.fields[0]
    units: dict[type, Literal["day", "month"]] = {DayTransform: "day", MonthTransform: "month"}
    unit = units.get(type(field.transform))
    if unit is None or len(spec.fields) > 1:
        raise LakeError(
            f"{table}: is partitioned by {spec}, which the lake does not write",
            hint="Tables of the lake have one day or month partition, or none.",
        )
    return Partition(schema.find_field(field.source_id).name, unit)


def sort_order(table: str, schema: Schema, sort: tuple[str, ...]) -> SortOrder:
    """The Iceberg sort order: every column ascending, NULLs last.

    Raises:
        LakeError: a column is absent.
    """
    fields = [
        SortField(
            _source_id(table, schema, column, "sort"),
            IdentityTransform(),
            SortDirection.ASC,
            NullOrder.NULLS_LAST,
        )
        for column in sort
    ]
    return SortOrder(*fields, order_id=1) if fields else UNSORTED_SORT_ORDER


def sort_columns(order: SortOrder, schema: Schema) -> tuple[str, ...]:
    """The names of the columns that a table's files are sorted by."""
    return tuple(schema.find_field(field.source_id).name for field in order.fields)


def quote(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def checked_name(name: str) -> tuple[str, str]:
    """The namespace and the table of a name such as `raw.playback`.

    Raises:
        LakeError: the name is not two plain words with a dot between them.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*\.[A-Za-z][A-Za-z0-9_]*", name):
        raise LakeError(
            f"{name!r} is no name of a table",
            hint="Write namespace.table in letters, digits and _, such as raw.playback.",
        )
    namespace, table = name.split(".")
    return namespace, table


def transform_sql(partition: Partition | None) -> str:
    """SQL of a row's partition value: whole units since 1970-01-01, as Iceberg counts them."""
    if partition is None:
        return "0"
    return f"datediff('{partition.unit}', DATE '1970-01-01', {quote(partition.column)})"


def cast_sql(column: Column, source_type: str | None) -> str:
    """SQL that gives a query's column the table's name and type (NULL where it is absent)."""
    target, name = column.type.duckdb, quote(column.name)
    if source_type is None:
        return f"CAST(NULL AS {target}) AS {name}"
    # A zoned time is an instant: UTC is what the lake stores, whatever the session's zone is.
    value = f"({name} AT TIME ZONE 'UTC')" if source_type.endswith("WITH TIME ZONE") else name
    return f"CAST({value} AS {target}) AS {name}"
