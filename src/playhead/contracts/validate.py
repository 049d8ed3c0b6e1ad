"""The JSON validator: bytes of JSON events in, Arrow columns out, bad events named one by one.

The struct that does the work is built from the contract, and decodes in C. Every field is
checked while it is decoded: presence, type, allowed values, 32-bit range. DECIMALs are read
from the number's own digits, never through a float.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from playhead.contracts.base import Contract, Field
from playhead.errors import ContractError

# Decoding an event costs two thirds more when a batch's objects outgrow the CPU's cache.
_CHUNK_EVENTS = 1000
_CHUNK_BYTES = 512 * 1024

# Years 1 to 9999, the span of Python's calendar, in microseconds from 1970.
_MIN_US = -62_135_596_800_000_000
_MAX_US = 253_402_300_799_999_999

_Json = bytes | msgspec.Raw
# msgspec's errors read "Expected `int`, got `str` - at `$[3].rating`".
_PLACE = re.compile(r"(?P<what>.*) - at `\$(?:\[(?P<index>\d+)\])?\.?(?P<name>.*)`", re.DOTALL)
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class Rejected:
    """An event that its contract refuses.

    Attributes:
        index: place in the array, or number of the line, counting from 0.
        raw: the event's bytes as they came.
        reason: the field and what is wrong with it.
    """

    index: int
    raw: bytes
    reason: str


class Validator:
    """Decodes JSON events of one contract into Arrow tables of `contract.schema`.

    A time with a zone is converted to UTC; one without is taken as UTC. DECIMALs with more
    digits than the scale are rounded half up; they may be JSON numbers or strings. Unknown
    fields are refused. Holds no state between calls; one may serve several threads.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        struct = _struct(contract)
        self._one = msgspec.json.Decoder(struct)
        self._many = msgspec.json.Decoder(list[struct])  # type: ignore[valid-type]
        self._bounded = [
            f
            for f in contract.fields
            if pa.types.is_decimal(f.type) or pa.types.is_timestamp(f.type)
        ]
        self._raws = msgspec.json.Decoder(list[msgspec.Raw])

    def decode(self, body: bytes) -> pa.Table:
        """All events of a JSON array, in order; an empty array gives an empty table.

        Raises:
            ContractError: the body is no JSON array, or one event is refused.
        """
        if len(body) <= _CHUNK_BYTES:
            return self._table([self._batch(body)])
        return self._decode_items(self._split(body))

    def decode_each(self, body: bytes) -> tuple[pa.Table, list[Rejected]]:
        """The good events of a JSON array, in order, and the refused ones.

        Raises:
            ContractError: the body is no JSON array.
        """
        try:
            return self.decode(body), []
        except ContractError:
            return self._each(list(enumerate(self._split(body))))

    def decode_lines(self, body: bytes) -> pa.Table:
        """All events of JSON Lines, in order; blank lines are skipped.

        Raises:
            ContractError: a line is no JSON object, or is refused.
        """
        return self._decode_items([line for _, line in _lines(body)])

    def decode_lines_each(self, body: bytes) -> tuple[pa.Table, list[Rejected]]:
        """The good events of JSON Lines, in order, and the refused ones by line from 0."""
        try:
            return self.decode_lines(body), []
        except ContractError:
            return self._each(_lines(body))

    def _decode_items(self, items: Sequence[_Json]) -> pa.Table:
        batches = []
        for start in range(0, len(items), _CHUNK_EVENTS):
            chunk = items[start : start + _CHUNK_EVENTS]
            batch = self._batch(b"[" + b",".join(chunk) + b"]", start)
            if batch.num_rows != len(chunk):
                raise ContractError(
                    f"{self.contract.name}, events {start} and up: an event is cut in two, "
                    "or two stand on one line",
                    hint="JSON Lines has one whole object on every line",
                )
            batches.append(batch)
        return self._table(batches)

    def _split(self, body: bytes) -> list[msgspec.Raw]:
        try:
            return self._raws.decode(body)
        except _DECODE_ERRORS as error:
            raise ContractError(
                f"{self.contract.name}: the body is no JSON array of events: {error}",
                hint='send [{"event_id": ...}, ...]',
            ) from None

    def _batch(self, body: bytes, start: int = 0) -> pa.RecordBatch:
        """A JSON array as columns; `start` is the place of its first event in what was sent."""
        try:
            return self._columns(self._many.decode(body))
        except (*_DECODE_ERRORS, ContractError) as error:
            raise ContractError(
                f"{self.contract.name}: {self._reason(error, start)}",
                hint=f"`playhead contracts {self.contract.name}` lists the fields",
            ) from None

    def _each(self, items: Sequence[tuple[int, _Json]]) -> tuple[pa.Table, list[Rejected]]:
        batches: list[pa.RecordBatch] = []
        rejected: list[Rejected] = []
        for start in range(0, len(items), _CHUNK_EVENTS):
            chunk = items[start : start + _CHUNK_EVENTS]
            try:
                good, bad = self._sift(chunk, self._one.decode)
                batches.append(self._columns(good))
            except ContractError:
                good, bad = self._sift(chunk, lambda raw: self._exact(self._one.decode(raw)))
                batches.append(self._columns(good))
            rejected += bad
        return self._table(batches), rejected

    def _sift(
        self, items: Sequence[tuple[int, _Json]], decode: Callable[[_Json], Any]
    ) -> tuple[list[Any], list[Rejected]]:
        good, bad = [], []
        for index, raw in items:
            try:
                good.append(decode(raw))
            except (*_DECODE_ERRORS, ContractError) as error:
                bad.append(Rejected(index, bytes(raw), self._reason(error)))
        return good, bad

    def _exact(self, event: Any) -> Any:
        """The event itself, when its columns can hold its numbers and times."""
        for field in self._bounded:
            value = getattr(event, field.name)
            if isinstance(value, Decimal):
                _rounded(field, value)
            elif isinstance(value, datetime) and value.tzinfo is not None:
                try:
                    value.astimezone(UTC)
                except OverflowError:
                    raise _out_of_range(field, value) from None
        return event

    def _columns(self, events: list[Any]) -> pa.RecordBatch:
        rows = map(msgspec.structs.astuple, events)
        columns = list(zip(*rows, strict=True)) or [()] * len(self.contract.fields)
        arrays = [_array(f, c) for f, c in zip(self.contract.fields, columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.contract.schema)

    def _table(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        return pa.Table.from_batches(batches, schema=self.contract.schema)

    def _reason(self, error: Exception, start: int = 0) -> str:
        """An error as "[place].field: what is wrong", with the allowed values of an enum."""
        found = _PLACE.fullmatch(str(error))
        if found is None:
            return str(error)
        what, index, name = found["what"], found["index"], found["name"]
        values = self.contract.field(name).values if name in self.contract.schema.names else ()
        allowed = f" (allowed: {', '.join(values)})" if values else ""
        place = (f"[{start + int(index)}]" if index else "") + (f".{name}" if name else "")
        return f"{place.lstrip('.')}: {what[0].lower()}{what[1:]}{allowed}".removeprefix(": ")


def _struct(contract: Contract) -> type[msgspec.Struct]:
    members = [
        (f.name, _json_type(f)) if f.required else (f.name, _json_type(f) | None, None)
        for f in contract.fields
    ]
    # gc=False: a decoded event holds only leaves, so there is no cycle to collect.
    return msgspec.defstruct(
        contract.name, members, kw_only=True, gc=False, forbid_unknown_fields=True
    )


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
    return date if pa.types.is_date(field.type) else bool


def _array(field: Field, values: Sequence[Any]) -> pa.Array:
    if pa.types.is_decimal(field.type):
        return _decimals(field, values)
    array = pa.array(values, field.type)
    if pa.types.is_timestamp(field.type):
        _refuse_far_times(field, array)
    return array


def _decimals(field: Field, values: Sequence[Decimal | None]) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except pa.ArrowInvalid:
        return pa.array([None if v is None else _rounded(field, v) for v in values], field.type)


def _rounded(field: Field, value: Decimal) -> Decimal:
    """The value with the field's scale, ties away from zero."""
    context = Context(prec=field.type.precision, rounding=ROUND_HALF_UP)
    try:
        rounded = context.quantize(value, Decimal(1).scaleb(-field.type.scale))
    except DecimalException:
        raise _out_of_range(field, value) from None
    if not rounded.is_finite():
        raise _out_of_range(field, value)
    return rounded


def _refuse_far_times(field: Field, times: pa.Array) -> None:
    """Taking off the zone may lead out of the calendar at both its ends."""
    span = pc.min_max(times)
    for end in (span["min"], span["max"]):
        if end.is_valid and not _MIN_US <= end.value <= _MAX_US:
            raise _out_of_range(field, f"a time {end.value} us from 1970")


def _out_of_range(field: Field, value: object) -> ContractError:
    return ContractError(f"{field.name}: {str(value)[:60]} is out of range")


def _lines(body: bytes) -> list[tuple[int, _Json]]:
    """The lines that are not blank, each with its number from 0."""
    return [(i, line) for i, line in enumerate(body.split(b"\n")) if line.strip()]
