"""What a contract is: named, typed, documented fields of a topic or a dimension."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from playhead.errors import ContractError

Kind = Literal["topic", "dimension"]

LOG_COLUMNS: pa.Schema = pa.schema(
    [
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("ingest_time", pa.timestamp("us")),
    ]
)
"""The columns that the event log adds to every event of every topic."""

LOG_COLUMN_DOCS: Mapping[str, str] = {
    "partition": "Partition of the topic that the event is in, chosen by its partition key.",
    "offset": "Place of the event in its partition, counting from 0.",
    "ingest_time": "When the log took the event, in UTC with microseconds.",
}


@dataclass(frozen=True)
class Field:
    """One column of a contract.

    Attributes:
        name: the column's name, everywhere.
        type: its Arrow type; times are naive UTC `timestamp[us]`.
        required: an event without it is refused.
        doc: its meaning in plain words, with the unit.
        values: the only values allowed; empty for an open set. Checked.
        minimum, maximum: plausible range, both ends included, for the quality report
            only: a value outside is suspicious, never refused.
        source: column of the data set's file; None when the file does not have it.
        derived_from: contract fields that a file row's value is made from, in order.
        not_empty: an empty string is refused, as for every identity.
    """

    name: str
    type: pa.DataType
    required: bool
    doc: str
    values: tuple[str, ...] = ()
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    source: str | None = None
    derived_from: tuple[str, ...] = ()
    not_empty: bool = False


@dataclass(frozen=True)
class Contract:
    """What one topic's events, or one dimension's rows, look like.

    Attributes:
        name: of the topic or dimension, such as playback or users.
        kind: "topic" (events, append-only) or "dimension" (rows by key).
        doc: what one event or row is.
        fields: the columns, in order; the envelope first on topics.
        key: what identifies an event or row.
        file: base name of the data set's file, without its ending; None when there is none,
            and events come from the event log alone.
        not_null: cleaning drops a file's row when one of these is null.
        avro: the parsed `.avsc`, from which all the rest is made.
        version: counts up with every change of the schema.
        partition_key: the string field whose value chooses an event's partition; events with
            the same value keep their order.
    """

    name: str
    kind: Kind
    doc: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    file: str | None
    not_null: tuple[str, ...]
    avro: dict[str, Any] = field(repr=False, compare=False)
    version: int = 1
    partition_key: str = "user_id"

    @cached_property
    def schema(self) -> pa.Schema:
        """The fields as an Arrow schema, in order; a field is nullable unless required."""
        return pa.schema([pa.field(f.name, f.type, nullable=not f.required) for f in self.fields])

    @cached_property
    def open_texts(self) -> tuple[int, ...]:
        """Places of the fields that hold text or bytes of any length."""
        sized = (pa.string(), pa.binary())
        return tuple(i for i, f in enumerate(self.fields) if f.type in sized and not f.values)

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {f.name: f for f in self.fields}

    def field(self, name: str) -> Field:
        """The field of that name.

        Raises:
            ContractError: the contract has no such field.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise ContractError(
                f"{self.name}: no field {name!r}", hint=f"its fields: {', '.join(self._by_name)}"
            ) from None


def type_name(type_: pa.DataType) -> str:
    """A field's type as people write it: string, boolean, int32, decimal(12,2), date, timestamp."""
    if pa.types.is_decimal(type_):
        return f"decimal({type_.precision},{type_.scale})"
    if pa.types.is_date(type_):
        return "date"
    if pa.types.is_timestamp(type_):
        return "timestamp"
    return {"bool": "boolean"}.get(str(type_), str(type_))
