"""The msgspec structs that decode a contract's JSON events in C, and what their errors mean."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa

from playhead.contracts.base import Contract, Field

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that decoding bytes from outside raises."""

# msgspec's errors read "Expected `int`, got `str` - at `$[3].rating`".
_PLACE = re.compile(r"(?P<what>.*) - at `\$(?:\[(?P<index>\d+)\])?\.?(?P<name>.*)`", re.DOTALL)


def event_struct(contract: Contract) -> type[msgspec.Struct]:
    """A struct of all fields of a contract, which checks each while it is decoded."""
    members = [_member(f, _json_type(f)) for f in contract.fields]
    return _define(contract.name, members)


def routed_structs(contract: Contract, *, quick: bool) -> dict[str, type[msgspec.Struct]]:
    """One struct for each event_type of a topic, told apart by that field's value.

    They have the fields of the contract without event_type, and then `sent_at`.

    Args:
        contract: a topic's.
        quick: numbers are decoded as floats and times as text, which costs a third; what they
            stand for is then checked column by column.
    """
    of = _quick_type if quick else _json_type
    members = [_member(f, of(f)) for f in contract.fields if f.name != "event_type"]
    members.append(("sent_at", (str if quick else datetime) | None, None))
    return {
        value: _define(f"{contract.name}_{value}", members, event_type=value)
        for value in contract.field("event_type").values
    }


def explain(error: Exception, contract: Contract, start: int = 0) -> str:
    """A decoding error as "[place].field: what is wrong", with the allowed values of an enum.

    Args:
        error: what was raised.
        contract: what the event was decoded as.
        start: place of the array's first event in what was sent.
    """
    values = {f.name: f.values for f in contract.fields}
    return _explained(error, values, start)


def explain_route(error: Exception, event_types: Sequence[str]) -> str:
    """Why an event belongs to no topic, as `explain` says it."""
    reason = _explained(error, {"event_type": event_types}, 0)
    missing = "missing" in reason and "event_type" in reason
    return f"{reason} (one of {', '.join(event_types)})" if missing else reason


def _explained(error: Exception, values: Mapping[str, Sequence[str]], start: int) -> str:
    found = _PLACE.fullmatch(str(error))
    if found is None:
        return str(error)
    what, index, name = found["what"], found["index"], found["name"]
    listed = values.get(name, ())
    allowed = f" (allowed: {', '.join(listed)})" if listed else ""
    place = (f"[{start + int(index)}]" if index else "") + (f".{name}" if name else "")
    return f"{place.lstrip('.')}: {what[0].lower()}{what[1:]}{allowed}".removeprefix(": ")


def _define(
    name: str, members: Sequence[Any], event_type: str | None = None
) -> type[msgspec.Struct]:
    # gc=False: a decoded event holds only leaves, so there is no cycle to collect.
    return msgspec.defstruct(
        name,
        members,
        kw_only=True,
        gc=False,
        forbid_unknown_fields=True,
        tag=event_type,
        tag_field=None if event_type is None else "event_type",
    )


def _member(field: Field, type_: Any) -> tuple[str, Any] | tuple[str, Any, None]:
    return (field.name, type_) if field.required else (field.name, type_ | None, None)


def _json_type(field: Field) -> Any:
    if field.values:
        return Literal[field.values]
    if pa.types.is_string(field.type):
        return Annotated[str, msgspec.Meta(min_length=1)] if field.not_empty else str
    if pa.types.is_integer(field.type):
        top = 2 ** (field.type.bit_width - 1)
        return Annotated[int, msgspec.Meta(ge=-top, le=top - 1)]
    if pa.types.is_decimal(field.type):
        return Decimal
    if pa.types.is_timestamp(field.type):
        return datetime
    if pa.types.is_binary(field.type):
        return bytes
    return date if pa.types.is_date(field.type) else bool


def _quick_type(field: Field) -> Any:
    if pa.types.is_decimal(field.type):
        return float
    return str if pa.types.is_timestamp(field.type) else _json_type(field)
