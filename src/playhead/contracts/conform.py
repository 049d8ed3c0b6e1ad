"""Makes an Arrow table fit a contract, or says where it does not."""

import re
from collections.abc import Callable
from decimal import Decimal, DecimalException

import pyarrow as pa
import pyarrow.compute as pc

from playhead.contracts.base import Contract, Field, type_name
from playhead.contracts.columns import rounding
from playhead.errors import ContractError

Cast = Callable[[pa.ChunkedArray], pa.ChunkedArray]
_ZONED = r"(Z|[+-]\d\d:?\d\d)$"
_WIDEST = 76  # digits of Arrow's largest decimal
_SHORT = r"^[+-]?(\d{1,38}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d)?$"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def check(contract: Contract, table: pa.Table) -> pa.Table:
    """The table cast to `contract.schema`: its columns in order, optional ones added as nulls.

    Text is parsed ("3.0" as an integer, "True" as a boolean, ISO dates and times); DECIMALs
    with more digits than the scale are rounded half up, floats by their shortest text; times
    with a zone become UTC, without one are taken as UTC, and are cut to microseconds.

    Raises:
        ContractError: an unknown column, a required one missing, or a value that is null,
            empty, outside its enum or of the wrong type, with column, row (from 0) and reason.
    """
    _refuse_unknown(contract, table)
    columns = [_column(contract, field, table) for field in contract.fields]
    return pa.Table.from_arrays(columns, schema=contract.schema)


def _refuse_unknown(contract: Contract, table: pa.Table) -> None:
    known = contract.schema.names
    unknown = [name for name in table.column_names if name not in known]
    if unknown:
        raise ContractError(
            f"{contract.name}: unknown column {unknown[0]!r}", hint=f"known: {', '.join(known)}"
        )
    repeated = [name for name in table.column_names if table.column_names.count(name) > 1]
    if repeated:
        raise ContractError(f"{contract.name}: column {repeated[0]!r} is there twice")


def _column(contract: Contract, field: Field, table: pa.Table) -> pa.ChunkedArray:
    if field.name not in table.column_names:
        if field.required:
            raise ContractError(
                f"{contract.name}: required column {field.name!r} is missing",
                hint=f"it is: {field.doc}",
            )
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)])
    column = _cast(contract, field, table.column(field.name))
    _refuse_values(contract, field, column)
    return column


def _refuse_values(contract: Contract, field: Field, column: pa.ChunkedArray) -> None:
    if field.required and column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise _error(contract, field, row, "is null, and the field is required")
    if field.values:
        _refuse(contract, field, column, pc.is_in(column, pa.array(field.values)), "is not one of")
    elif field.not_empty:
        _refuse(contract, field, column, pc.not_equal(column, ""), "is empty")


def _refuse(
    contract: Contract, field: Field, column: pa.ChunkedArray, good: pa.ChunkedArray, reason: str
) -> None:
    row = pc.index(pc.and_(pc.invert(good), pc.is_valid(column)), True).as_py()
    if row >= 0:
        allowed = f" {', '.join(field.values)}" if field.values else ""
        raise _error(contract, field, row, f"{column[row].as_py()!r} {reason}{allowed}")


def _error(contract: Contract, field: Field, row: int, reason: str) -> ContractError:
    return ContractError(
        f"{contract.name}: column {field.name!r}, row {row}: {reason}",
        hint=f"`playhead contracts {contract.name}` lists the fields",
    )


def _cast(contract: Contract, field: Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = plain(column)
    if column.type == field.type or pa.types.is_null(column.type):
        return column.cast(field.type)
    convert = conversion(column.type, field.type)
    if convert is None:
        raise ContractError(
            f"{contract.name}: column {field.name!r} is {column.type}, "
            f"which does not become {type_name(field.type)}",
            hint=f"cast it to {type_name(field.type)} or to text first",
        )
    try:
        return convert(column)
    except pa.ArrowInvalid:
        row, reason = _first_bad(column, convert)
        value = column[row].as_py()
        raise _error(
            contract, field, row, f"{value!r} is no {type_name(field.type)}: {reason}"
        ) from None


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without a dictionary, with text as Arrow's plain string, bytes as binary."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_binary(column.type) or pa.types.is_binary_view(column.type):
        return column.cast(pa.binary())
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column


def _first_bad(column: pa.ChunkedArray, convert: Cast) -> tuple[int, str]:
    """The first row that cannot be converted, found by halving, and why."""
    low, high, reason = 0, len(column), ""
    while low < high:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low + 1))
            low = middle + 1
        except pa.ArrowInvalid as error:
            high, reason = middle, str(error)
    return low, reason


def conversion(source: pa.DataType, target: pa.DataType) -> Cast | None:
    """How a column of one type becomes another without a surprise; None where it may not."""
    text = pa.types.is_string(source)
    number = (
        pa.types.is_integer(source) or pa.types.is_floating(source) or pa.types.is_decimal(source)
    )
    if pa.types.is_decimal(target):
        return (lambda c: _to_decimal(c, target)) if text or number else None
    if pa.types.is_integer(target):
        return (lambda c: _to_integer(c, target)) if text or number else None
    if pa.types.is_timestamp(target):
        return _to_time if text or pa.types.is_timestamp(source) else None
    if pa.types.is_date(target):
        dated = pa.types.is_date(source) or pa.types.is_timestamp(source)
        return _to_date if text or dated else None
    return (lambda c: c.cast(target)) if text else None


def _to_decimal(column: pa.ChunkedArray, target: pa.Decimal128Type) -> pa.ChunkedArray:
    if pa.types.is_integer(column.type):
        return column.cast(pa.decimal128(38, target.scale)).cast(target)
    if pa.types.is_floating(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type) and not _is_short(column):
        return _long_to_decimal(column, target)
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        wide = pa.decimal256(_WIDEST, _WIDEST - (target.precision - target.scale))
        rounded = pc.round(column.cast(wide), target.scale, "half_towards_infinity")
        return rounded.cast(target)


def _is_short(numbers: pa.ChunkedArray) -> bool:
    """Whether Arrow may parse all: with an exponent far below zero it reads beyond its tables."""
    return pc.all(pc.match_substring_regex(numbers, _SHORT)).as_py() is not False


def _long_to_decimal(column: pa.ChunkedArray, target: pa.Decimal128Type) -> pa.ChunkedArray:
    quantize, unit = rounding(target)
    values: list[Decimal | None] = []
    for text in column.to_pylist():
        if text is not None and not _NUMBER.fullmatch(text):
            raise pa.ArrowInvalid("it is no number")
        try:
            values.append(None if text is None else quantize(Decimal(text), unit))
        except DecimalException:
            raise pa.ArrowInvalid("it has too many digits") from None
    return pa.chunked_array([pa.array(values, target)])


def _to_integer(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        if not pa.types.is_string(column.type) or not _is_short(column):
            raise
        return column.cast(pa.decimal128(38, 9)).cast(target)


def _to_time(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        # Nanoseconds are cut; seconds and milliseconds could leave the range of 64 bits.
        return column.cast(pa.timestamp("us"), safe=column.type.unit != "ns")
    zoned = pc.match_substring_regex(column, _ZONED)
    null = pa.scalar(None, column.type)
    utc = pc.if_else(zoned, column, null).cast(pa.timestamp("us", "UTC"))
    naive = pc.if_else(zoned, null, column).cast(pa.timestamp("us"))
    return pc.coalesce(utc.cast(pa.timestamp("us")), naive)


def _to_date(column: pa.ChunkedArray) -> pa.ChunkedArray:
    dates = column.cast(pa.date32())
    if (
        pa.types.is_timestamp(column.type)
        and pc.any(pc.not_equal(dates.cast(column.type), column)).as_py()
    ):
        raise pa.ArrowInvalid("it has a time of day")
    return dates
