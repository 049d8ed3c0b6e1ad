"""Column metrics of a data file, for engines that skip files by them (Iceberg spec, appendix D)."""

import math
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import pyarrow as pa
from pyiceberg.utils.truncate import (
    truncate_upper_bound_binary_string,
    truncate_upper_bound_text_string,
)

from playhead.lake.schema import Column

BOUND_LENGTH = 16

# From the least and the greatest value, as Parquet stores them, to Iceberg's two bounds.
Encoder = Callable[[Any, Any], tuple[bytes | None, bytes | None]]


def metrics(columns: tuple[Column, ...], footer: Any) -> dict[str, dict[int, Any]]:
    """Sizes, counts and bounds by field id.

    Args:
        columns: the table's columns, in the order in which the file has them.
        footer: the file's `pyarrow.parquet.FileMetaData`.
    """
    sizes: dict[int, int] = {}
    nulls: dict[int, int] = {}
    lower: dict[int, bytes] = {}
    upper: dict[int, bytes] = {}
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    for index, column in enumerate(columns):
        chunks = [group.column(index) for group in groups]
        statistics = [chunk.statistics for chunk in chunks]
        sizes[column.id] = sum([chunk.total_compressed_size for chunk in chunks])
        if any(found is None for found in statistics):
            continue
        nulls[column.id] = sum([found.null_count for found in statistics])
        low, high = _bounds(column.type.arrow, statistics)
        if low is not None:
            lower[column.id] = low
        if high is not None:
            upper[column.id] = high
    return {
        "column_sizes": sizes,
        "value_counts": dict.fromkeys(sizes, footer.num_rows),
        "null_value_counts": nulls,
        "lower_bounds": lower,
        "upper_bounds": upper,
    }


def _bounds(kind: pa.DataType, statistics: list[Any]) -> tuple[bytes | None, bytes | None]:
    """The bounds over all row groups; None where they are not known."""
    known = [found for found in statistics if found.has_min_max]
    if not known or any(found.num_values and not found.has_min_max for found in statistics):
        return None, None
    least, most = known[0].min_raw, known[0].max_raw
    if len(known) > 1:
        order = _integer if pa.types.is_decimal(kind) else None
        least = min((found.min_raw for found in known), key=order)
        most = max((found.max_raw for found in known), key=order)
    return _encoder(kind)(least, most)


@cache
def _encoder(kind: pa.DataType) -> Encoder:
    if pa.types.is_string(kind):
        return _text_bounds
    if pa.types.is_binary(kind):
        return _binary_bounds
    if pa.types.is_decimal(kind):
        return lambda least, most: (_decimal(_integer(least)), _decimal(_integer(most)))
    if pa.types.is_floating(kind):
        return _float_bounds
    pack = struct.Struct({1: "<?", 32: "<i", 64: "<q"}[kind.bit_width]).pack
    return lambda least, most: (pack(least), pack(most))


def _integer(value: int | bytes) -> int:
    """A decimal's unscaled value: an integer up to 18 digits, big-endian bytes above."""
    return value if isinstance(value, int) else int.from_bytes(value, "big", signed=True)


def _decimal(unscaled: int) -> bytes:
    """The fewest bytes of two's complement, high byte first."""
    length = (unscaled + (unscaled < 0)).bit_length() // 8 + 1
    return unscaled.to_bytes(length, "big", signed=True)


def _float_bounds(least: float, most: float) -> tuple[bytes | None, bytes | None]:
    if math.isnan(least) or math.isnan(most):
        return None, None
    return struct.pack("<d", least), struct.pack("<d", most)


def _binary_bounds(least: bytes, most: bytes) -> tuple[bytes | None, bytes | None]:
    return least[:BOUND_LENGTH], truncate_upper_bound_binary_string(most, BOUND_LENGTH)


def _text_bounds(least: bytes, most: bytes) -> tuple[bytes | None, bytes | None]:
    # Sixteen bytes are at most sixteen characters: nothing to cut, nothing to decode.
    low = least if len(least) <= BOUND_LENGTH else least.decode()[:BOUND_LENGTH].encode()
    if len(most) <= BOUND_LENGTH:
        return low, most
    high = truncate_upper_bound_text_string(most.decode(), BOUND_LENGTH)
    try:
        return low, None if high is None else high.encode()
    except UnicodeEncodeError:
        # The character after the last kept one is half of a surrogate pair: no bound is valid.
        return low, None
