"""Decoded values as Arrow columns: exactly, or quickly where that is provably the same.

A column with values that it cannot hold is no error: they become null, and `Bad` names their
rows with the reason. Whoever calls decides whether that refuses an event or everything.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from playhead.contracts.base import Field

Bad = dict[int, str]
"""Rows that are refused, counting from 0, each with its first reason."""

Build = Callable[[Sequence[Any], Bad], pa.Array]
"""Makes a column of a field's type of Python values, and names the rows that it cannot hold."""

# Years 1 to 9999, the span of Python's calendar, in microseconds from 1970.
MIN_US = -62_135_596_800_000_000
MAX_US = 253_402_300_799_999_999

# Below 2**40 a float times a power of ten is off by less than 2**-12 of the last digit kept, so
# that only numbers this near to the middle between two may round to the wrong one.
_SURE = 2.0**40
_NEAR_TIE = 0.499

# Lengths of 2025-03-05T20:14:33Z without a fraction, with milliseconds and with microseconds.
_TIME_LENGTHS = (20, 24, 27)
_SHAPES = {n: {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", n - 1: "Z"} for n in _TIME_LENGTHS}
_PLACES = {n: list(shape) + [19] * (n > 20) for n, shape in _SHAPES.items()}
_LETTERS = {
    n: np.array([ord(letter) for letter in shape.values()] + [ord(".")] * (n > 20), np.uint8)
    for n, shape in _SHAPES.items()
}
_UTC = pa.timestamp("us", "UTC")
_NAIVE = pa.timestamp("us")


class UnsureError(ValueError):
    """Values that the quick way cannot be sure of: decode them exactly."""


def exact(field: Field) -> Build:
    """How decoded values (str, int, Decimal, datetime, ...) become the field's column.

    DECIMALs are rounded half up; times with a zone become naive UTC.
    """
    if pa.types.is_decimal(field.type):
        return lambda values, bad: _decimals(field, values, bad)
    if pa.types.is_timestamp(field.type):
        return lambda values, bad: _far_times(field, pa.array(values, _NAIVE), bad)
    return _plain(field)


def quick(field: Field) -> Build:
    """The same from floats in place of Decimals and text in place of datetimes.

    It raises UnsureError where the column might not be the same.
    """
    if pa.types.is_decimal(field.type):
        return lambda values, bad: _decimals_of_floats(field, values)
    if pa.types.is_timestamp(field.type):
        return lambda values, bad: times_of_text(values)
    return _plain(field)


def _plain(field: Field) -> Build:
    type_ = field.type
    return lambda values, bad: pa.array(values, type_)


def times_of_text(values: Sequence[str | None]) -> pa.Array:
    """RFC 3339 times as `timestamp[us]`, naive UTC; of any shape, but one shape is fastest.

    Raises:
        UnsureError: one is no such time.
    """
    text = pa.array(values, pa.string())
    try:
        if _is_plain_utc(text):
            return text.cast(_UTC).view(_NAIVE)
        return pa.array(msgspec.convert(values, list[datetime | None]), pa.timestamp("us"))
    except (pa.ArrowInvalid, msgspec.ValidationError, OverflowError) as error:
        raise UnsureError(str(error)) from None


def _is_plain_utc(text: pa.StringArray) -> bool:
    """Whether all have the shape 2025-03-05T20:14:33.482Z, with equally long fractions.

    Arrow takes other shapes too (a date alone, minutes without seconds), and msgspec does not.
    """
    if len(text) == 0 or text.null_count:
        return False
    _, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, np.int32, len(text) + 1)
    length = int(ends[1])
    if length not in _TIME_LENGTHS or not (np.diff(ends) == length).all():
        return False
    letters = np.frombuffer(data, np.uint8, length * len(text)).reshape(len(text), length)
    return bool((letters[:, _PLACES[length]] == _LETTERS[length]).all())


def _decimals_of_floats(field: Field, values: Sequence[float | None]) -> pa.Array:
    floats = pa.array(values, pa.float64())
    if floats.null_count == len(floats):
        return pa.nulls(len(floats), field.type)
    filled = floats.fill_null(0.0) if floats.null_count else floats
    with np.errstate(over="ignore"):
        scaled = filled.to_numpy() * 10.0**field.type.scale
    whole = np.rint(scaled)
    top = min(_SURE, 10.0**field.type.precision)
    if max(whole.max(), -whole.min()) >= top or np.abs(scaled - whole).max() > _NEAR_TIE:
        raise UnsureError(f"{field.name}: a number that may round either way, or is too large")
    return _decimals_of_integers(field, whole.astype(np.int64), floats)


def _decimals_of_integers(
    field: Field, whole: npt.NDArray[np.int64], nulls_of: pa.Array
) -> pa.Array:
    """DECIMALs of their digits; shape (n,), with the nulls of an array of n without an offset."""
    words = np.empty((len(whole), 2), dtype="<i8")
    words[:, 0], words[:, 1] = whole, whole >> 63
    validity = nulls_of.buffers()[0]
    return pa.Array.from_buffers(field.type, len(whole), [validity, pa.py_buffer(words)])


def _decimals(field: Field, values: Sequence[Decimal | None], bad: Bad) -> pa.Array:
    # Arrow reads beyond its table of powers where an exponent is far below zero (1e-9999999
    # ends the process), so it never sees a number before that has the field's own scale.
    quantize, unit = rounding(field.type)
    try:
        rounded = [None if value is None else quantize(value, unit) for value in values]
        return pa.array(rounded, field.type)
    except (DecimalException, pa.ArrowInvalid):
        rounded = [_rounded(field, row, value, bad) for row, value in enumerate(values)]
        return pa.array(rounded, field.type)


def rounding(type_: pa.Decimal128Type) -> tuple[Callable[[Decimal, Decimal], Decimal], Decimal]:
    """What rounds a number half up, away from zero, and the unit to give it.

    It raises DecimalException where the type has too few digits.
    """
    context = Context(prec=type_.precision, rounding=ROUND_HALF_UP)
    return context.quantize, Decimal(1).scaleb(-type_.scale)


def _rounded(field: Field, row: int, value: Decimal | None, bad: Bad) -> Decimal | None:
    if value is None:
        return None
    quantize, unit = rounding(field.type)
    try:
        rounded = quantize(value, unit)
    except DecimalException:
        rounded = None
    if rounded is None or not rounded.is_finite():
        bad.setdefault(row, out_of_range(field, value))
        return None
    return rounded


def _far_times(field: Field, times: pa.Array, bad: Bad) -> pa.Array:
    """Taking off the zone may lead out of the calendar at both its ends."""
    stamps = times.cast(pa.int64()).fill_null(0).to_numpy()
    far = (stamps < MIN_US) | (stamps > MAX_US)
    if not far.any():
        return times
    for row in np.flatnonzero(far):
        bad.setdefault(int(row), out_of_range(field, f"a time {stamps[row]} us from 1970"))
    return pa.array(stamps, pa.int64(), mask=far | times.is_null().to_numpy(False)).cast(times.type)


def without_rows(batch: pa.RecordBatch, bad: Bad) -> pa.RecordBatch:
    """The batch without the rows that are refused."""
    if not bad:
        return batch
    good = np.ones(batch.num_rows, dtype=bool)
    good[list(bad)] = False
    return batch.filter(pa.array(good))


def out_of_range(field: Field, value: object) -> str:
    """The reason of a value that its column cannot hold."""
    return f"{field.name}: {_short(value)} is out of range"


def _short(value: object) -> str:
    return str(value)[:60]
