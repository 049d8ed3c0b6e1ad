"""Bodies that are Arrow IPC streams: read without trust, and fitted to the contracts row by row.

Arrow checks the bytes that it reads, but not what they may cost: a few of them can stand for
terabytes, by compression, by a dictionary or by columns that share their bytes. So what a stream
may hold is bounded before anything of it is decoded.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from playhead.contracts.arrival import SENT_AT, Arrival
from playhead.contracts.base import Contract, Field, type_name
from playhead.contracts.bodies import refuse_more
from playhead.contracts.columns import MAX_US, MIN_US, Bad, out_of_range
from playhead.contracts.conform import Cast, conversion, plain
from playhead.errors import BodyTooLargeError, ContractError

_MOST_COLUMNS = 256
_MOST_BYTES = 64 * 1024 * 1024

_ROW = msgspec.json.Encoder(decimal_format="number")
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError, struct.error)

# Places of fields in the tables of Arrow's Message.fbs.
_MESSAGE_HEADER, _DICTIONARY_DATA, _BATCH_COMPRESSION = 2, 1, 3


def read_stream(body: bytes, max_events: int) -> pa.Table:
    """The rows of an Arrow IPC stream, checked to their last byte.

    Raises:
        BodyTooLargeError: there are more than `max_events`, or they take too much memory.
        ContractError: it is no whole stream, is compressed, has no column event_type, or has
            one of a type that no event has.
    """
    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(body) as reader:
            _refuse_columns(reader.schema)
            table = pa.Table.from_batches(_bounded(reader, max_events), reader.schema)
        table.validate(full=True)
    except _ARROW_ERRORS as error:
        raise ContractError(
            f"the body is no whole Arrow IPC stream: {str(error).splitlines()[0][:200]}",
            hint="write it with Arrow's stream writer, and close that before sending",
        ) from None
    _refuse_wide(table)
    return table


def routed_rows(table: pa.Table, topics: Mapping[str, str]) -> dict[str | None, pa.Array]:
    """The rows of each topic, by the column event_type; None: those that belong to none.

    Args:
        table: from `read_stream`.
        topics: by event_type.
    """
    kinds = plain(table.column("event_type"))
    found: dict[str | None, pa.Array] = {}
    for topic in dict.fromkeys(topics.values()):
        values = [value for value, name in topics.items() if name == topic]
        rows = pc.indices_nonzero(pc.is_in(kinds, pa.array(values, kinds.type)))
        if len(rows):
            found[topic] = rows
    rest = pc.indices_nonzero(pc.invert(pc.is_in(kinds, pa.array(list(topics), kinds.type))))
    return found | ({None: rest} if len(rest) else {})


def unrouted(table: pa.Table, rows: pa.Array, event_types: Sequence[str]) -> Bad:
    """The reason for each row whose event_type no topic takes."""
    kinds = plain(table.column("event_type")).take(rows).to_pylist()
    allowed = f" (allowed: {', '.join(event_types)})"
    return {
        row: "event_type: is null" + allowed
        if kind is None
        else f"event_type: invalid value {kind[:60]!r}{allowed}"
        for row, kind in enumerate(kinds)
    }


def fit(contract: Contract, table: pa.Table, arrival: Arrival, bad: Bad) -> pa.RecordBatch:
    """One topic's rows with the contract's columns; `bad` gets the rows that are refused.

    Raises:
        ContractError: a column is of a type that does not become the contract's.
    """
    names = contract.schema.names
    for name in set(table.column_names) - {*names, "sent_at"}:
        column = table.column(name)
        if column.null_count < len(column):
            _mark(bad, column.is_valid(), f"object contains unknown field `{name}`")
    arrays = {f.name: _fitted(contract, f, table, bad) for f in contract.fields}
    sent = _fitted(contract, SENT_AT, table, bad)
    arrays["event_time"] = arrival.corrected(arrays["event_time"], sent, bad)
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), schema=contract.schema)
    arrival.refuse_large(contract, batch, bad)
    return batch


def row_json(table: pa.Table, row: int) -> bytes:
    """One row as a JSON object without its nulls; bytes are base64, times ISO 8601."""
    columns = ((n, plain(table.column(n).slice(row, 1))) for n in table.column_names)
    return _ROW.encode({n: _plain_value(c) for n, c in columns if not c.null_count})


def _plain_value(column: pa.ChunkedArray) -> object:
    """The only value; times as text, which Python's calendar may be too short for."""
    timed = pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    return (column.cast(pa.string()) if timed else column)[0].as_py()


def _refuse_compressed(body: bytes) -> None:
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type == "schema":
            continue
        data = message.metadata.to_pybytes()
        at = _child(data, _uint32(data, 0), _MESSAGE_HEADER)
        if message.type == "dictionary":
            at = _child(data, at, _DICTIONARY_DATA)
        if _slot(data, at, _BATCH_COMPRESSION):
            raise ContractError(
                "the Arrow IPC stream has compressed columns, and their size cannot be known",
                hint="write it without compression, and compress the body (Content-Encoding)",
            )


def _child(data: bytes, table: int, index: int) -> int:
    """Where the table in a field of a FlatBuffers table begins."""
    at = _slot(data, table, index)
    return at + _uint32(data, at)


def _slot(data: bytes, table: int, index: int) -> int:
    """Where a field of a FlatBuffers table is; 0 if the table does not have it."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    place = 4 + 2 * index
    offset = struct.unpack_from("<H", data, vtable + place)[0] if place < size else 0
    return table + offset if offset else 0


def _uint32(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", data, at)[0]
    return value


def _refuse_columns(schema: pa.Schema) -> None:
    names = schema.names
    if len(names) > _MOST_COLUMNS:
        raise ContractError(f"the Arrow IPC stream has {len(names)} columns, which no event has")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ContractError(f"the Arrow IPC stream has column {repeated[0]!r} twice")
    for column in schema:
        if not _is_taken(column.type):
            raise ContractError(
                f"the Arrow IPC stream has column {column.name!r} of type "
                f"{str(column.type)[:60]}, which no event has",
                hint="text, numbers, booleans, bytes, dates and times are taken",
            )
    if "event_type" not in names or not _is_text(schema.field("event_type").type):
        raise ContractError(
            "the Arrow IPC stream has no column event_type of text, which names the topics",
            hint="add it; `playhead contracts` lists what it may hold",
        )


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _is_taken(kind: pa.DataType) -> bool:
    if _is_text(kind):
        return True
    if pa.types.is_decimal(kind):
        # Arrow takes any scale from a stream, and reads beyond its tables when it casts one.
        return bool(kind.bit_width >= 128 and 0 <= kind.scale <= kind.precision)
    tests = (
        *(pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating),
        *(pa.types.is_date, pa.types.is_timestamp, pa.types.is_binary, pa.types.is_large_binary),
    )
    return any(test(kind) for test in tests)


def _bounded(reader: pa.RecordBatchReader, max_events: int) -> Iterator[pa.RecordBatch]:
    count = 0
    for batch in reader:
        count += batch.num_rows
        refuse_more(count, max_events)
        yield batch


def _refuse_wide(table: pa.Table) -> None:
    size = sum(_decoded_bytes(column) for column in table.columns)
    if size > _MOST_BYTES:
        raise BodyTooLargeError(
            f"the columns of the Arrow IPC stream hold {size:,} bytes, and {_MOST_BYTES:,} are "
            "the most",
            hint="send it in parts",
        )


def _decoded_bytes(column: pa.ChunkedArray) -> int:
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    chunks = (pc.binary_length(c.dictionary).take(c.indices) for c in column.chunks)
    return sum(pc.sum(chunk.cast(pa.int64())).as_py() or 0 for chunk in chunks)


def _fitted(contract: Contract, field: Field, table: pa.Table, bad: Bad) -> pa.Array:
    """A field's column, cast; null where the value cannot be cast."""
    if field.name not in table.column_names:
        if field.required:
            _mark(bad, _all(table), f"object missing required field `{field.name}`")
        return pa.nulls(table.num_rows, field.type)
    column = plain(table.column(field.name))
    array = _as_array(_cast(contract, field, column, bad))
    if field.required:
        _mark(bad, array.is_null(), f"{field.name}: is null, and the field is required")
    if field.values:
        known = pc.or_kleene(pc.is_in(array, pa.array(field.values)), array.is_null())
        allowed = f"{field.name}: invalid enum value (allowed: {', '.join(field.values)})"
        _mark(bad, pc.invert(known), allowed)
    elif field.not_empty:
        _mark(bad, pc.equal(array, ""), f"{field.name}: expected `str` of length >= 1")
    return array


def _cast(contract: Contract, field: Field, column: pa.ChunkedArray, bad: Bad) -> pa.ChunkedArray:
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), field.type)])
    if column.type == field.type and not pa.types.is_timestamp(field.type):
        return column
    convert = conversion(column.type, field.type)
    if convert is None and column.type == field.type:
        return column
    if convert is None:
        raise ContractError(
            f"{contract.name}: column {field.name!r} is {column.type}, which does not become "
            f"{type_name(field.type)}",
            hint=f"cast it to {type_name(field.type)} or to text first",
        )
    return _each(field, column, convert, 0, bad)


def _each(
    field: Field, column: pa.ChunkedArray, convert: Cast, start: int, bad: Bad
) -> pa.ChunkedArray:
    """The converted column, null where it cannot be, found by halving."""
    try:
        converted = convert(column)
    except pa.ArrowInvalid as error:
        if len(column) == 1:
            value = str(_plain_value(column))[:60]
            reason = str(error).splitlines()[0][:200]
            bad.setdefault(start, f"{field.name}: {value} is no {type_name(field.type)}: {reason}")
            return pa.chunked_array([pa.nulls(1, field.type)])
        half = len(column) // 2
        halves = (
            _each(field, column.slice(0, half), convert, start, bad),
            _each(field, column.slice(half), convert, start + half, bad),
        )
        return pa.chunked_array([chunk for part in halves for chunk in part.chunks])
    return _in_calendar(field, converted, start, bad)


def _in_calendar(field: Field, column: pa.ChunkedArray, start: int, bad: Bad) -> pa.ChunkedArray:
    if not pa.types.is_timestamp(field.type):
        return column
    stamps = column.cast(pa.int64())
    near = pc.and_(pc.greater_equal(stamps, MIN_US), pc.less_equal(stamps, MAX_US))
    for row in pc.indices_nonzero(pc.invert(near)).to_pylist():
        shown = f"a time {stamps[row].as_py()} us from 1970"
        bad.setdefault(start + row, out_of_range(field, shown))
    return pc.if_else(near, column, pa.scalar(None, column.type))


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _all(table: pa.Table) -> pa.Array:
    return pa.repeat(True, table.num_rows)


def _mark(bad: Bad, rows: pa.Array | pa.ChunkedArray, reason: str) -> None:
    """Add the rows where a boolean column is true, for this reason."""
    for row in pc.indices_nonzero(rows).to_pylist():
        bad.setdefault(row, reason)
