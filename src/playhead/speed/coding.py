"""Columns as small integers: few values as codes, DECIMALs in as many bytes as they need.

Events wait in state as they came, so a row's size is what they cost. Readers see the same values.
"""

import pyarrow as pa

_CODES = {pa.int8(): 1 << 7, pa.int16(): 1 << 15}
_SAMPLE = 4096
_FEW = 256
_DECIMAL64_DIGITS = 18


def code_column(column: pa.ChunkedArray) -> pa.Array:
    """The column as codes and a dictionary if it has few values, else as it is; one chunk."""
    whole = _whole(column)
    if not _may_be_coded(whole.type) or not len(whole):
        return whole
    coded = whole.dictionary_encode()
    values = len(coded.dictionary)
    if values * 2 > len(whole):
        return whole
    for index, limit in _CODES.items():
        if values <= limit:
            return pa.DictionaryArray.from_arrays(coded.indices.cast(index), coded.dictionary)
    return whole


class Coder:
    """Codes batches of one topic, and remembers which columns have too many values for it."""

    def __init__(self) -> None:
        self._many: set[str] = set()

    def code(self, events: pa.Table) -> pa.Table:
        """The same rows, one chunk a column."""
        names = events.column_names
        return pa.table({name: self._coded(name, events.column(name)) for name in names})

    def _coded(self, name: str, column: pa.ChunkedArray) -> pa.Array:
        kind = column.type
        if pa.types.is_decimal128(kind) and kind.precision <= _DECIMAL64_DIGITS:
            return _whole(column.cast(pa.decimal64(kind.precision, kind.scale)))
        if not pa.types.is_string(kind) or name in self._many:
            return _whole(column)
        if len(_whole(column.slice(0, _SAMPLE)).unique()) > _FEW:
            self._many.add(name)
            return _whole(column)
        return code_column(column)


def _may_be_coded(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_decimal(kind))


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    # Arrow leaves a column without chunks, or too large for one, in a chunked array.
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
