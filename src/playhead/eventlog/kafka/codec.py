"""Events as messages: JSON with exactly a topic's fields, there and back."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from playhead.contracts.base import Contract, Field
from playhead.contracts.encode import to_json_lines
from playhead.contracts.validate import Rejected, Validator
from playhead.errors import ContractError

_TYPES = (pa.string(), pa.binary(), pa.bool_(), pa.date32(), pa.timestamp("us"))


def check_types(topic: str, schema: pa.Schema) -> None:
    """Refuse fields that JSON would not give back as they were.

    Raises:
        ContractError: naming the first one.
    """
    for field in schema:
        types = pa.types
        if not (
            field.type in _TYPES
            or types.is_signed_integer(field.type)
            or types.is_decimal128(field.type)
        ):
            raise ContractError(
                f"Topic {topic}, field {field.name}: messages cannot keep {field.type}.",
                hint="Use string, binary, bool, an integer with a sign, decimal128, date32 or"
                " timestamp[us].",
            )


def encode(events: pa.Table) -> list[bytes]:
    """One JSON object for each event, in order; nulls are left out."""
    return to_json_lines(events).split(b"\n")[: events.num_rows]


@dataclass(frozen=True, slots=True)
class Decoded:
    """The events of some messages.

    Attributes:
        events: those that are events of the topic, in order, with all its fields.
        refused: the others; `index` counts all messages from 0.
    """

    events: pa.Table
    refused: Sequence[Rejected]


class Decoder:
    """Reads messages of one topic: fields by their schema, exactly, whoever wrote them."""

    def __init__(self, topic: str, schema: pa.Schema) -> None:
        fields = tuple(Field(f.name, f.type, required=not f.nullable, doc="") for f in schema)
        self._validator = Validator(
            Contract(topic, "topic", "", fields, key=(), file=None, not_null=(), avro={})
        )

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The events of messages, one each; a message without a value is refused."""
        items = [value or b"" for value in values]
        events, refused = self._validator.decode_items_each(items)
        return Decoded(events, refused)
