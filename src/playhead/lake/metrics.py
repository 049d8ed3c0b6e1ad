"""Column metrics of a data file, for engines that skip files by them (Iceberg spec, appendix D)."""

import math
import struct
from typing import Any

import pyarrow as pa
from pyiceberg.utils.truncate import (
    truncate_upper_bound_binary_string,
    truncate_upper_bound_text_string,
)

from playhead.lake.schema import Column

BOUND_LENGTH = 16


def metrics(columns: tuple[Column, ...], footer: Any) -> dict[str, dict[int, Any]]:
    """Sizes, counts and bounds by field id.

    Args:
        columns: the table's columns, in the order in which the file has them.
        footer: the file's `pyarrow.parquet.FileMetaData`.
    """
    sizes: dict[int, int] = {}
    values: dict[int, int] = {}
    nulls: dict[int, int] = {}
    lower: dict[int, bytes] = {}
    upper: dict[int, bytes] = {}
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    for index, column in enumerate(columns):
        chunks = [group.column(index) for group in groups]
        statistics = [chunk.statistics for chunk in chunks]
        sizes[column.id] = sum(chunk.total_compressed_size for chunk in chunks)
        values[column.id] = footer.num_rows
        if all(s is not None and s.has_null_count for s in statistics):
            nulls[column.id] = sum(s.null_count for s in statistics)
        bounds = _bounds(column, [s for s in statistics if s is not None and s.has_min_max])
        if bounds is None or _unknown(statistics):
            continue
        lower[column.id], highest = bounds
        if highest is not None:
            upper[column.id] = highest
    return {
        "column_sizes": sizes,
        "value_counts": values,
        "null_value_counts": nulls,
        "lower_bounds": lower,
        "upper_bounds": upper,
    }


def _unknown(statistics: list[Any]) -> bool:
    """Some row group has values, and no bounds for them."""
    return any(s is None or not (s.has_min_max or s.num_values == 0) for s in statistics)


def _bounds(column: Column, statistics: list[Any]) -> tuple[bytes, bytes | None] | None:
    """The bounds over all row groups as Iceberg stores them; None: not known."""
    if not statistics:
        return None
    least = min((s.min_raw for s in statistics), key=_order(column))
    most = max((s.max_raw for s in statistics), key=_order(column))
    kind = column.type.arrow
    if pa.types.is_string(kind):
        return _text_bounds(least, most)
    if pa.types.is_binary(kind):
        return bytes(least[:BOUND_LENGTH]), truncate_upper_bound_binary_string(most, BOUND_LENGTH)
    if pa.types.is_decimal(kind):
        return _decimal(_integer(least)), _decimal(_integer(most))
    if pa.types.is_floating(kind):
        if math.isnan(least) or math.isnan(most):
            return None
        return struct.pack("<d", least), struct.pack("<d", most)
    code = {1: "<?", 32: "<i", 64: "<q"}[kind.bit_width]
    return struct.pack(code, least), struct.pack(code, most)


def _order(column: Column) -> Any:
    return _integer if pa.types.is_decimal(column.type.arrow) else _same


def _same(value: Any) -> Any:
    return value


def _integer(value: int | bytes) -> int:
    """A decimal's unscaled value: an integer up to 18 digits, big-endian bytes above."""
    return value if isinstance(value, int) else int.from_bytes(value, "big", signed=True)


def _decimal(unscaled: int) -> bytes:
    """The fewest bytes of two's complement, high byte first."""
    length = (unscaled + (unscaled < 0)).bit_length() // 8 + 1
    return unscaled.to_bytes(length, "big", signed=True)


def _text_bounds(least: bytes, most: bytes) -> tuple[bytes, bytes | None]:
    low = least.decode()[:BOUND_LENGTH].encode()
    high = truncate_upper_bound_text_string(most.decode(), BOUND_LENGTH)
    try:
        return low, None if high is None else high.encode()
    except UnicodeEncodeError:
        # The character after the last kept one is half of a surrogate pair: no bound is valid.
        return low, None
