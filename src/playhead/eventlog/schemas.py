"""What a topic may look like, how its schema grows, and making events fit it."""

import re
from collections.abc import Sequence

import pyarrow as pa

from playhead.contracts import LOG_COLUMNS
from playhead.errors import ContractError, EventLogError

_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


def check_topic(topic: str, schema: pa.Schema, partitions: int) -> None:
    """Refuse a topic that no implementation could keep.

    Raises:
        ContractError: the name, a field or the number of partitions cannot be used.
    """
    if not _TOPIC_NAME.fullmatch(topic):
        raise ContractError(
            f"Topic name {topic!r} cannot be used.",
            hint="Use 1 to 200 of the characters a-z A-Z 0-9 . _ -",
        )
    if not 1 <= partitions <= 10_000:
        raise ContractError(f"Topic {topic}: {partitions} partitions; give 1 to 10,000.")
    if len(schema) == 0:
        raise ContractError(f"Topic {topic}: the schema has no field.")
    _check_names(f"Topic {topic}", schema.names)
    for field in schema:
        if _has_dictionary(field.type):
            raise ContractError(
                f"Topic {topic}, field {field.name}: a topic cannot keep {field.type}.",
                hint="Declare the type of its values; dictionary-encoded events may be appended.",
            )


def evolve(topic: str, current: pa.Schema, offered: pa.Schema) -> pa.Schema:
    """The topic's schema after `offered` was asked for: `current` plus new optional fields.

    Raises:
        ContractError: old events could not be read, or required fields not be filled.
    """
    for field in current:
        _check_kept(topic, field, offered)
    added = [field for field in offered if field.name not in current.names]
    for field in added:
        if not field.nullable:
            raise ContractError(
                f"Topic {topic}: the new field {field.name} is required, but events that are"
                " already there lack it.",
                hint="Make it optional (nullable).",
            )
    return pa.schema([*current, *without_metadata(pa.schema(added))])


def without_metadata(schema: pa.Schema) -> pa.Schema:
    """The same fields without metadata, which is no part of a topic."""
    return pa.schema([field.remove_metadata() for field in schema])


def selected(topic: str, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    """The fields named by `columns`, in that order; None: all.

    Raises:
        EventLogError: the topic has no such field, or one is named twice.
    """
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown or len(set(columns)) != len(columns):
        what = f"has no field {', '.join(unknown)}" if unknown else "is asked for a field twice"
        raise EventLogError(
            f"Topic {topic} {what}.",
            hint=f"It has {', '.join(schema.names)}; {', '.join(LOG_COLUMNS.names)} are always"
            " there.",
        )
    return pa.schema([schema.field(name) for name in columns])


def conform(topic: str, events: pa.Table | pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """The events with exactly the fields of `schema`, in its order; missing optional ones null.

    Raises:
        ContractError: a field is unknown, missing, null where required, or of another type.
    """
    table = pa.Table.from_batches([events]) if isinstance(events, pa.RecordBatch) else events
    place = f"Events for topic {topic}"
    _check_names(place, table.column_names)
    unknown = [name for name in table.column_names if name not in schema.names]
    if unknown:
        raise ContractError(
            f"{place}: unknown field {', '.join(unknown)}.",
            hint=f"The topic has {', '.join(schema.names)}.",
        )
    given = dict(zip(table.column_names, table.columns, strict=True))
    columns = [_column(place, given.get(field.name), field, table.num_rows) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def check_key(topic: str, key: str, schema: pa.Schema) -> None:
    """Raise EventLogError unless `key` is a string field of the topic."""
    if key not in schema.names:
        raise EventLogError(
            f"Topic {topic} has no field {key} to take the partition from.",
            hint=f"The topic has {', '.join(schema.names)}.",
        )
    if _family(schema.field(key).type) != "text":
        raise EventLogError(
            f"Topic {topic}: the partition cannot be taken from {key}, which is"
            f" {schema.field(key).type}.",
            hint="Use a string field.",
        )


def _check_names(place: str, names: list[str]) -> None:
    reserved = [name for name in names if name in LOG_COLUMNS.names]
    if reserved:
        raise ContractError(
            f"{place}: {', '.join(reserved)} is added by the event log itself.",
            hint="Leave it out.",
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ContractError(f"{place}: field {', '.join(twice)} is there more than once.")


def _check_kept(topic: str, field: pa.Field, offered: pa.Schema) -> None:
    if field.name not in offered.names:
        if field.nullable:
            return
        raise ContractError(
            f"Topic {topic}: the required field {field.name} is missing from the new schema."
        )
    new = offered.field(field.name)
    if (new.type, new.nullable) != (field.type, field.nullable):
        raise ContractError(
            f"Topic {topic}: field {field.name} is {_described(field)} and cannot become"
            f" {_described(new)}.",
            hint="Add an optional field of another name instead.",
        )


def _column(
    place: str, given: pa.ChunkedArray | None, field: pa.Field, rows: int
) -> pa.ChunkedArray | pa.Array:
    if given is None:
        if field.nullable:
            return pa.nulls(rows, field.type)
        raise ContractError(f"{place}: the required field {field.name} is missing.")
    column = _cast(place, given, field)
    if not field.nullable and column.null_count:
        raise ContractError(
            f"{place}: the required field {field.name} is null in {column.null_count:,} of"
            f" {rows:,} events."
        )
    return column


def _cast(place: str, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if column.type == field.type:
        return column
    if _family(column.type) not in ("null", _family(field.type)):
        raise ContractError(
            f"{place}: field {field.name} is {column.type}; the topic has {field.type}."
        )
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"{place}: field {field.name} is {column.type} and does not fit {field.type}: {error}"
        ) from error


def _family(kind: pa.DataType) -> str:
    """Types of one family differ in width, scale or encoding, not in meaning."""
    types = pa.types
    if types.is_dictionary(kind):
        return _family(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "binary"
    for family in ("null", "integer", "floating", "decimal", "date"):
        if getattr(types, f"is_{family}")(kind):
            return family
    if types.is_timestamp(kind) and kind.tz is None:
        return "timestamp"
    return str(kind)


def _has_dictionary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return any(_has_dictionary(kind.field(i).type) for i in range(kind.num_fields))


def _described(field: pa.Field) -> str:
    return f"{field.type}, {'optional' if field.nullable else 'required'}"
