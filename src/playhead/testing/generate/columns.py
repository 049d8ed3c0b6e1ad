"""Arrow columns from NumPy arrays, without a Python object per row."""

from datetime import date
from functools import cache
from typing import Final

import numpy as np
import pyarrow as pa

from playhead.testing.generate.draws import Codes, Flags, Values

_EPOCH: Final = date(1970, 1, 1).toordinal()

MINUTES: Final = pa.decimal128(12, 2)
PERCENT: Final = pa.decimal128(5, 2)
SPEND: Final = pa.decimal128(12, 2)
SCORE: Final = pa.decimal128(9, 4)
STARS: Final = pa.decimal128(4, 2)
MONEY: Final = pa.decimal128(18, 2)


def identifiers(prefix: str, indices: Values, count: int, width: int) -> pa.Array:
    """Ids such as `session_000001` for indices from 0, shape (rows,).

    Args:
        prefix: text before the number.
        indices: 0 gives number 1.
        count: how many of its kind there are; more than `width` digits hold widen all.
        width: digits of the number.
    """
    digits = max(width, len(str(count)))
    head = prefix.encode()
    length = len(head) + digits
    text = np.empty((len(indices), length), np.uint8)
    text[:, : len(head)] = np.frombuffer(head, np.uint8)
    rest = np.asarray(indices, np.int64) + 1
    for place in range(length - 1, len(head) - 1, -1):
        tens = rest // 10
        text[:, place] = rest - tens * 10 + ord("0")
        rest = tens
    offsets = np.arange(len(indices) + 1, dtype=np.int64) * length
    long = pa.LargeStringArray.from_buffers(len(indices), pa.py_buffer(offsets), pa.py_buffer(text))
    return long.cast(pa.string())


def categories(values: tuple[str, ...], codes: Codes, missing: Flags | None = None) -> pa.Array:
    """Texts by their positions in `values`, dictionary-encoded; null where `missing`."""
    return pa.DictionaryArray.from_arrays(_array(pa.int16(), codes, missing), _texts(values))


def decimals(units: Values, kind: pa.Decimal128Type, missing: Flags | None = None) -> pa.Array:
    """Exact decimals from whole numbers of the type's smallest unit; null where `missing`."""
    low = np.asarray(units, np.int64)
    words = np.empty((len(low), 2), np.int64)
    words[:, 0] = low
    words[:, 1] = low >> 63
    return _array(kind, words, missing)


def integers(values: Values, missing: Flags | None = None) -> pa.Array:
    """Whole numbers of 32 bits; null where `missing`."""
    return _array(pa.int32(), np.asarray(values).astype(np.int32), missing)


def dates(start: date, days: Values) -> pa.Array:
    """Days since `start` as dates."""
    since_epoch = np.asarray(days, np.int64) + (start.toordinal() - _EPOCH)
    return _array(pa.date32(), since_epoch.astype(np.int32))


def times(start: date, days: Values, micros: Values) -> pa.Array:
    """Naive UTC times: days since `start` and microseconds of the day."""
    day = np.asarray(days, np.int64) + (start.toordinal() - _EPOCH)
    return _array(pa.timestamp("us"), day * 86_400_000_000 + micros)


def flags(values: Flags) -> pa.Array:
    """Booleans."""
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def positions(values: Values) -> pa.Array:
    """Row numbers, as Arrow's `take` wants them."""
    return _array(pa.int64(), np.asarray(values, np.int64))


# From buffers, as pa.array() imports pandas (up to a second) before it looks at a value.
def _array(kind: pa.DataType, values: Values, missing: Flags | None = None) -> pa.Array:
    valid = None if missing is None else _bits(~missing)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(values)])


def _bits(values: Flags) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))


@cache
def _texts(values: tuple[str, ...]) -> pa.Array:
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    )
